"""CloudHub: accepts edges; owns sessions, queues and acknowledgements."""

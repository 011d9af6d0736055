"""The Kubernetes API server, from threads."""

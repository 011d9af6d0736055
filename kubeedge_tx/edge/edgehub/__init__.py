"""EdgeHub: keeps the connection to the cloud."""

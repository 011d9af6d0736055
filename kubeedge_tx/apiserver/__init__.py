"""The embedded Kubernetes API: the default when no cluster is given."""

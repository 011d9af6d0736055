"""EdgeController: Kubernetes objects down, status up."""

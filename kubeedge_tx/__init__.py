"""Kubernetes for machines behind bad links, on Twisted."""

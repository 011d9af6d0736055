"""What users write in YAML, and what Kubernetes answers."""

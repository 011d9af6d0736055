"""The cloud role."""

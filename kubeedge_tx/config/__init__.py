"""Configuration: upstream's YAML keys and defaults, loaded strictly."""

"""Edged: runs pods."""

"""Logs, metrics and the local status port."""

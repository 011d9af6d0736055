"""Devices of this node and their twins."""

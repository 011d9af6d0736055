"""Kubernetes for machines behind bad links, on Twisted."""

from typing import Final

VERSION: Final = "0.1.0"

"""Logs, metrics and the local status port."""

from typing import Final

LOG_FILE: Final = "KUBEEDGE_TX_LOG_FILE"
"""Of the environment: the file that ``keadm`` has given a background process as its output."""

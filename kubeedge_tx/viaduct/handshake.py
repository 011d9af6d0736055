"""What the two ends say to each other while a WebSocket opens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

WINDOW_HEADER: Final = "KubeEdge-Tx-Window"
"""Handshake header of our own edge: how many acknowledged messages it takes in flight.

Our own cloud answers with the same header; no other peer sends it.
"""

DIGEST_HEADER: Final = "KubeEdge-Tx-Digest"
"""Handshake header of both our ends: "I know what ``digest`` messages are"."""

OURS: Final = WINDOW_HEADER.lower()
DIGEST: Final = DIGEST_HEADER.lower()
"""The two names as they stand among the headers of a handshake that was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """What a client asked for when it opened a WebSocket."""

    peer: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    transport: Any
    """For the peer's certificate: ``transport.getPeerCertificate()`` when it is TLS."""


class HandshakeRefused(Exception):
    """Raised by an ``admit`` callable: answer with this status and text.

    :param status: HTTP status, 400 to 599.
    :param reason: a few words that the client may read.
    :param retry_after: seconds after which the client shall come again; 0 to say nothing.
    """

    def __init__(self, status: int, reason: str, retry_after: int = 0) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after

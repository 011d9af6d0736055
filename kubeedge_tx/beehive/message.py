"""The message: what travels between modules, and between cloud and edge.

Field names and the rules of answering are KubeEdge's; Source:
``staging/src/github.com/kubeedge/beehive/pkg/core/model/message.go``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, Final

import msgspec


class Header(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Who is speaking, about which earlier message."""

    msg_id: str
    timestamp: int
    """Wall clock of the sender, milliseconds."""
    parent_id: str = msgspec.field(default="", name="parent_msg_id")
    resource_version: str = msgspec.field(default="", name="resourceversion")
    sync: bool = False


class Route(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """From whom, to which group, to do what with which resource."""

    source: str = ""
    group: str = ""
    operation: str = ""
    resource: str = ""


class Message(msgspec.Struct, frozen=True):
    """One message; ``content`` stays JSON text until somebody reads it.

    Its ``repr`` leaves the content out: it may be a Secret.
    """

    header: Header
    route: Route = Route()
    content: msgspec.Raw = msgspec.Raw(b"null")

    def __repr__(self) -> str:
        return (
            f"Message({self.header!r}, {self.route!r}, content: {len(bytes(self.content))} bytes)"
        )

    def read(self) -> Any:
        """Decode the content.

        :raises msgspec.DecodeError: it is not JSON (only possible for raw text made here).
        """
        return msgspec.json.decode(self.content)


_encoder: Final = msgspec.json.Encoder()

OK: Final = msgspec.Raw(b'"OK"')
"""The content of an acknowledgement."""


def raw(content: object) -> msgspec.Raw:
    """Encode a value as message content; a ``Raw`` passes unchanged."""
    return content if isinstance(content, msgspec.Raw) else msgspec.Raw(_encoder.encode(content))


class MessageFactory:
    """Build messages with fresh ids and the time of day.

    :param now_ms: wall clock in milliseconds.
    :param new_id: a fresh UUID v4 text.
    """

    def __init__(
        self, now_ms: Callable[[], int], new_id: Callable[[], str] = lambda: str(uuid.uuid4())
    ) -> None:
        self._now_ms = now_ms
        self._new_id = new_id

    def seconds(self) -> float:
        """The time of day, in seconds since 1970."""
        return self._now_ms() / 1000

    def new(
        self,
        *,
        source: str,
        group: str,
        operation: str,
        resource: str,
        content: object = None,
        resource_version: str = "",
        parent_id: str = "",
    ) -> Message:
        """Build a message of our own."""
        return Message(
            Header(
                msg_id=self._new_id(),
                timestamp=self._now_ms(),
                parent_id=parent_id,
                resource_version=resource_version,
            ),
            Route(source, group, operation, resource),
            raw(content),
        )

    def reply(self, to: Message, content: object = OK) -> Message:
        """Build the response to ``to``: its route, operation ``response``, parent its id."""
        route = to.route
        return self.new(
            source=route.source,
            group=route.group,
            operation="response",
            resource=route.resource,
            content=content,
            parent_id=to.header.msg_id,
        )

    def error(self, to: Message, source: str, text: str) -> Message:
        """Build the error answer to ``to``; a peer never takes it for an acknowledgement."""
        return self.new(
            source=source,
            group=to.route.group,
            operation="error",
            resource=to.route.resource,
            content=text,
            parent_id=to.header.msg_id,
        )

"""A bus that writes down what is sent, and what the controllers' tests have in common."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from kubeedge_tx.beehive.interfaces import IMessageBus
from kubeedge_tx.beehive.message import Header, Message, MessageFactory, Route, raw

NOW_MS = 1_795_503_134_301
NOW = "2026-11-24T06:52:14Z"


@implementer(IMessageBus)
class Recorder:
    """Accepts every message for CloudHub."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    def send(self, module: str, message: Message) -> Deferred[None]:
        assert module == "cloudhub"
        self.sent.append(message)
        return succeed(None)

    def send_to_group(self, group: str, message: Message) -> Deferred[None]:
        raise AssertionError("controllers send to cloudhub only")

    def send_sync(self, module: str, message: Message, timeout: float) -> Deferred[Message]:
        raise AssertionError("controllers ask nobody")

    def respond(self, message: Message) -> bool:
        return False

    def has(self, module: str) -> bool:
        return True

    def take(self) -> list[Message]:
        """Everything sent since the last look."""
        sent, self.sent = self.sent, []
        return sent

    def brief(self) -> list[str]:
        """The same, as ``operation resource``."""
        return [f"{m.route.operation} {m.route.resource}" for m in self.take()]


def factory() -> MessageFactory:
    """Messages with ids m1, m2…"""
    count = itertools.count(1)
    return MessageFactory(lambda: NOW_MS, lambda: f"m{next(count)}")


def from_edge(operation: str, resource: str, content: Any = None, source: str = "edged") -> Message:
    """A message as CloudHub hands it on: with ``node/<node>/`` in front."""
    return Message(
        Header(msg_id="q1", timestamp=NOW_MS),
        Route(source, "meta", operation, resource),
        raw(content),
    )


def connected(node: str, window: int = 0) -> Message:
    """CloudHub's word that a session has opened."""
    return Message(
        Header(msg_id="c1", timestamp=NOW_MS),
        Route("cloudhub", "resource", "connected", f"node/{node}"),
        raw({"client_id": node, "event_type": "connected", "window": window}),
    )


def read(message: Message) -> Any:
    """The content."""
    return msgspec.json.decode(message.content)


def pod(
    name: str = "web", node: str = "edge-1", spec: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A pod of namespace default."""
    return {
        "metadata": {"namespace": "default", "name": name, "uid": f"uid-{name}"},
        "spec": ({"nodeName": node} if node else {}) | (spec or {}),
    }


def node(name: str = "edge-1", **about: Any) -> dict[str, Any]:
    """An edge node."""
    labels = {"node-role.kubernetes.io/edge": ""}
    return {"metadata": {"name": name, "labels": labels, **about}, "spec": {}}


def config_map(name: str = "app", **data: str) -> dict[str, Any]:
    """A ConfigMap of namespace default."""
    return {"metadata": {"namespace": "default", "name": name}, "data": data}


def secret(name: str = "key", **data: str) -> dict[str, Any]:
    """A Secret of namespace default."""
    return {"metadata": {"namespace": "default", "name": name}, "data": data}

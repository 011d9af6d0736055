"""What the broker knows of a client, whether it is connected or not."""

from __future__ import annotations

from typing import Final

from kubeedge_tx.mqtt.connection import Connection
from kubeedge_tx.mqtt.outflow import Outflow
from kubeedge_tx.mqtt.packets import NEVER, Will
from kubeedge_tx.mqtt.records import SessionPut, WillRecord, pack_properties
from kubeedge_tx.mqtt.subscriptions import Options

_READS: Final = 1024
"""Topics for which the access list's answer is remembered."""


class Session:
    """Subscriptions, messages under way, will.

    :param flow: its sending half.
    """

    __slots__ = (
        "client_id",
        "connection",
        "expires_at",
        "expiry",
        "flow",
        "incoming",
        "is_alive",
        "looked_at",
        "reads",
        "subscriptions",
        "user",
        "will",
        "will_due",
    )

    def __init__(self, client_id: str, flow: Outflow) -> None:
        self.client_id = client_id
        self.flow = flow
        self.connection: Connection | None = None
        self.user = ""
        self.expiry = 0
        """Seconds it outlives its connection; ``NEVER`` for ever."""
        self.expires_at: float | None = None
        """When it ends; ``None`` while connected, or if never."""
        self.is_alive = True
        self.looked_at: float | None = None
        """When :class:`.wills.Deadlines` looks at it; ``None`` if it does not."""
        self.subscriptions: dict[str, tuple[str, Options]] = {}
        """Share name and options by filter as the client wrote it."""
        self.incoming: set[int] | None = None
        """Packet identifiers of QoS 2 messages that are not released [MQTT-4.3.3-8]."""
        self.will: Will | None = None
        self.will_due: float | None = None
        """When the will is published; ``None`` while connected."""
        self.reads: dict[str, bool] | None = None

    def __repr__(self) -> str:
        return f"<Session {self.client_id}>"

    @property
    def is_durable(self) -> bool:
        """It is kept by the store."""
        return self.flow.journal is not None

    def remember_read(self, topic: str, is_allowed: bool) -> None:
        """Keep an answer of the access list."""
        if self.reads is None or len(self.reads) >= _READS:
            self.reads = {}
        self.reads[topic] = is_allowed

    def to_record(self, epoch: float) -> SessionPut:
        """What a store keeps.

        :param epoch: wall clock minus ``now``.
        """
        will = None
        if self.will is not None:
            will = WillRecord(
                topic=self.will.topic,
                payload=self.will.payload,
                qos=self.will.qos,
                retain=self.will.retain,
                properties=pack_properties(self.will.properties),
                due_at=None if self.will_due is None else self.will_due + epoch,
            )
        return SessionPut(
            self.client_id,
            expiry=self.expiry,
            expires_at=None if self.expires_at is None else self.expires_at + epoch,
            user=self.user,
            will=will,
        )

    def ends_after(self, now: float) -> float | None:
        """When it ends if the connection is lost now; ``None`` for never."""
        return None if self.expiry == NEVER else now + self.expiry


class Local:
    """A subscriber in this process."""

    __slots__ = ("client_id", "subscriptions")

    def __init__(self, name: str) -> None:
        self.client_id = name
        """Its name; not a client's."""
        self.subscriptions: dict[str, tuple[str, Options]] = {}

    def __repr__(self) -> str:
        return f"<Local {self.client_id}>"

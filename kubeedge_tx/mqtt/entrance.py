"""How a connection becomes a client: CONNECT, and what it is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kubeedge_tx.mqtt import connection as states
from kubeedge_tx.mqtt import encoding, reasons
from kubeedge_tx.mqtt.aliases import AliasesIn, AliasesOut
from kubeedge_tx.mqtt.connection import Connection
from kubeedge_tx.mqtt.effects import Authenticate, Connected, Continue, Pause, Turn
from kubeedge_tx.mqtt.lifecycle import Sessions
from kubeedge_tx.mqtt.limits import Counters, Limits
from kubeedge_tx.mqtt.packets import NEVER, V5, Connack, Connect
from kubeedge_tx.mqtt.properties import NO_PROPERTIES, Properties


class Ends(Protocol):
    """Ends connections; the broker does."""

    def end(self, connection: Connection, reason: int, text: str, now: float) -> None:
        """End an open connection; its client is told, its will published."""

    def close(self, connection: Connection, reason: int, text: str) -> None:
        """End a connection of nobody."""

    @property
    def connections(self) -> int:
        """How many connections there are."""


class Entrance:
    """Lets clients in, or not.

    :param ids: makes a client id.
    :param authenticate: have somebody else look at each client first.
    """

    __slots__ = ("_authenticate", "_counters", "_ends", "_ids", "_limits", "_sessions", "_turn")

    def __init__(
        self,
        limits: Limits,
        turn: Turn,
        counters: Counters,
        sessions: Sessions,
        ends: Ends,
        *,
        ids: Callable[[], str],
        authenticate: bool,
    ) -> None:
        self._limits = limits
        self._turn = turn
        self._counters = counters
        self._sessions = sessions
        self._ends = ends
        self._ids = ids
        self._authenticate = authenticate

    def connect(self, connection: Connection, packet: Connect, now: float) -> None:
        """Act on the first packet of a connection."""
        connection.version = packet.version
        connection.connect = packet
        found = packet.properties
        connection.max_packet_bytes = found.maximum_packet_size or 0
        if found.authentication_method is not None:
            text = "no enhanced authentication here"
            self.refuse(connection, reasons.BAD_AUTHENTICATION_METHOD, text, now)
        elif not packet.client_id and not (
            self._limits.allow_empty_client_id
            and (packet.version == V5 or packet.clean_start)  # [MQTT-3.1.3-8]
        ):
            self.refuse(connection, reasons.CLIENT_ID_NOT_VALID, "no client id", now)
        elif self._ends.connections > self._limits.max_connections:
            self.refuse(connection, reasons.SERVER_BUSY, "too many connections", now)
        elif self._authenticate:
            connection.state = states.ASKING
            connection.is_paused = True
            self._turn.add(Pause(connection))
            self._turn.add(
                Authenticate(connection, packet.client_id, packet.username, packet.password)
            )
        else:
            self.let_in(connection, connection.identity or packet.username or "", now)

    def let_in(self, connection: Connection, user: str, now: float) -> None:
        """Give a connection its session, and say so; ``user`` is its name in access rules."""
        packet = connection.connect
        assert packet is not None
        limits, found, is_v5 = self._limits, packet.properties, packet.version == V5
        client_id = packet.client_id
        while not client_id or (not packet.client_id and client_id in self._sessions.by_id):
            client_id = self._ids()  # [MQTT-3.2.2-16]
        old = self._sessions.by_id.get(client_id)
        if old is None and len(self._sessions.by_id) >= limits.max_sessions:
            self.refuse(connection, reasons.QUOTA_EXCEEDED, "too many sessions", now)
            return
        if old is not None and old.connection is not None:
            self._counters.taken_over += 1
            text = "the client came again"
            self._ends.end(old.connection, reasons.SESSION_TAKEN_OVER, text, now)  # [MQTT-3.1.4-3]
        asked = (found.session_expiry or 0) if is_v5 else 0 if packet.clean_start else NEVER
        expiry = min(asked, limits.max_session_expiry)
        keep_alive = packet.keep_alive
        if is_v5 and limits.max_keepalive and not 0 < keep_alive <= limits.max_keepalive:
            keep_alive = limits.max_keepalive
        is_present = self._sessions.begin(
            connection,
            client_id,
            clean=packet.clean_start,
            expiry=expiry,
            will=packet.will,
            user=user,
            now=now,
        )
        session = connection.session
        assert session is not None
        connection.state = states.OPEN
        connection.connect = None
        connection.user = user
        connection.keep_alive = keep_alive
        connection.credit = limits.receive_maximum
        window = limits.max_inflight
        given = NO_PROPERTIES
        if is_v5:
            connection.aliases_in = AliasesIn(limits.topic_alias_maximum)
            aliases = min(found.topic_alias_maximum or 0, limits.topic_alias_maximum_out)
            connection.aliases = AliasesOut(aliases) if aliases else None
            window = min(window, found.receive_maximum or window)
            connection.is_plain = not aliases and not connection.max_packet_bytes
            given = Properties(
                session_expiry=expiry if expiry != asked else None,
                receive_maximum=limits.receive_maximum,
                maximum_packet_size=limits.max_packet_bytes,
                assigned_client_id=None if packet.client_id else client_id,
                topic_alias_maximum=limits.topic_alias_maximum or None,
                server_keep_alive=keep_alive if keep_alive != packet.keep_alive else None,
                response_information=(
                    (limits.response_information or None)
                    if found.request_response_information
                    else None
                ),
            )
        self._counters.connections += 1
        connack = Connack(session_present=is_present, properties=given)
        connection.write(encoding.encode(connack, packet.version))
        self._turn.add(Connected(connection, is_present))
        if session.flow.attach(connection, window, now):
            self._turn.add(Continue(connection))

    def refuse(self, connection: Connection, reason: int, text: str, now: float) -> None:
        """Answer a CONNECT with no, and close [MQTT-3.2.2-7]."""
        self._counters.refused += 1
        version = connection.version
        if version == V5 or reasons.connack_to_v4(reason):
            given = Properties(reason_string=text) if text and version == V5 else NO_PROPERTIES
            data = encoding.encode(Connack(reason=reason, properties=given), version)
            if connection.max_packet_bytes and len(data) > connection.max_packet_bytes:
                data = encoding.encode(Connack(reason=reason), version)
            connection.write(data)
        self._ends.close(connection, reason, text or "refused")

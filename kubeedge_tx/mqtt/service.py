"""A broker that listens: the server, its listeners and who may come in, as one service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from kubeedge_tx.errors import ConfigError
from kubeedge_tx.mqtt.acl import AccessList
from kubeedge_tx.mqtt.broker import Broker
from kubeedge_tx.mqtt.limits import Counters, Limits
from kubeedge_tx.mqtt.links import TcpFactory, WebSocketFactory
from kubeedge_tx.mqtt.passwords import Passwords
from kubeedge_tx.mqtt.reasons import BAD_USER_NAME_OR_PASSWORD, NOT_AUTHORIZED
from kubeedge_tx.mqtt.server import Credentials, MqttServer, Refusal, ServerLimits, Store
from kubeedge_tx.observe.bounds import Bounds
from kubeedge_tx.observe.metrics import Metrics, Values

BACKLOG: Final = 1024
"""Connections that wait in the kernel while we do not accept any."""
LOOK_AT_FILES: Final = 5.0
"""Seconds between two looks at the password and access files."""

InThread = Callable[..., Deferred[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """One port."""

    address: str
    port: int
    """0 takes a free one."""
    is_websocket: bool = False
    tls: IOpenSSLServerConnectionCreator | None = None
    is_identified: bool = False
    """The name in the client's certificate, which ``tls`` must demand, is its user name."""


class Doorkeeper:
    """Decides who may come in, and what they may do, by mosquitto's two files.

    Both are read again when they change; one that is wrong then is logged and not used.

    :param in_thread: runs a function elsewhere: checking passwords is slow on purpose.
    :raises ConfigError: a file cannot be used.
    """

    _log = Logger()

    def __init__(
        self,
        in_thread: InThread,
        *,
        allow_anonymous: bool,
        password_file: Path | None = None,
        acl_file: Path | None = None,
    ) -> None:
        self._in_thread = in_thread
        self._allow_anonymous = allow_anonymous
        self._seen: dict[Path, object] = {}
        self._password_file = password_file
        self._acl_file = acl_file
        self._passwords: Passwords | None = None
        self._acl: AccessList | None = None
        self._read_passwords()
        self._read_rules()

    @property
    def authenticates(self) -> bool:
        """Whether clients are asked who they are at all."""
        return not self._allow_anonymous or self._password_file is not None

    @property
    def restricts(self) -> bool:
        """Whether there are access rules."""
        return self._acl_file is not None

    def allows(self, user: str, client_id: str, topic: str, write: bool) -> bool:
        """Look a topic up in the access rules."""
        return self._acl is None or self._acl.allows(user, client_id, topic, write)

    def admit(self, client: Credentials) -> Deferred[str]:
        """Say who a client is; fails with :class:`Refusal`."""
        if client.identity:
            return succeed(client.identity)
        if client.username is None:
            if self._allow_anonymous:
                return succeed("")
            return fail(Refusal("a client without a user name", NOT_AUTHORIZED))
        if self._passwords is None:
            if self._allow_anonymous:
                return succeed(client.username)
            return fail(Refusal("a client without a certificate", NOT_AUTHORIZED))
        return Deferred.fromCoroutine(
            self._check(self._passwords, client.username, client.password or b"")
        )

    async def _check(self, passwords: Passwords, username: str, password: bytes) -> str:
        if await self._in_thread(passwords.check, username, password):
            return username
        raise Refusal("wrong user name or password", BAD_USER_NAME_OR_PASSWORD)

    def look(self) -> bool:
        """Read files that have changed; tells whether there are other access rules now."""
        before = self._acl
        for read in (self._read_passwords, self._read_rules):
            try:
                read()
            except ConfigError as error:
                self._log.error("not used, the former one stays: {why}", why=str(error))
        return self._acl is not before

    def _read_passwords(self) -> None:
        if self._password_file is not None and self._is_new(self._password_file):
            self._passwords = Passwords.parse(_text(self._password_file), str(self._password_file))

    def _read_rules(self) -> None:
        if self._acl_file is not None and self._is_new(self._acl_file):
            self._acl = AccessList.parse(_text(self._acl_file), str(self._acl_file))

    def _is_new(self, path: Path) -> bool:
        try:
            status = path.stat()
        except OSError as error:
            raise ConfigError(str(path), f"cannot be read: {error.strerror}") from None
        state = status.st_mtime_ns, status.st_size, status.st_ino
        is_new = self._seen.get(path) != state
        self._seen[path] = state
        return is_new


class MqttService:
    """The broker with its ports.

    :param ids: makes client ids.
    :param wall_clock: seconds since 1970.
    :param doorkeeper: ``None`` lets everybody do everything.
    """

    name = "mqtt broker"
    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        listeners: Sequence[Listener],
        *,
        limits: Limits,
        ids: Callable[[], str],
        wall_clock: Callable[[], float],
        store: Store | None = None,
        doorkeeper: Doorkeeper | None = None,
        server_limits: ServerLimits | None = None,
    ) -> None:
        self._reactor = reactor
        self._limits = limits
        self._listeners = listeners
        self._doorkeeper = doorkeeper
        self._ports: list[Any] = []
        broker = Broker(
            limits,
            ids=ids,
            access=doorkeeper if doorkeeper is not None and doorkeeper.restricts else None,
            authenticate=doorkeeper is not None and doorkeeper.authenticates,
            epoch=wall_clock() - reactor.seconds(),
            is_durable=store is not None,
        )
        self.server = MqttServer(
            reactor,
            broker,
            store=store,
            admit=doorkeeper.admit if doorkeeper is not None else None,
            limits=server_limits,
        )
        self.server.on_crowd(self._crowd)
        self._files = LoopingCall(self.look) if doorkeeper is not None else None

    def look(self) -> None:
        """Read password and access files that have changed."""
        if self._doorkeeper is not None and self._doorkeeper.look():
            self.server.broker.access_changed()

    @property
    def ports(self) -> list[int]:
        """The ports listened on, in the order of the listeners."""
        return [port.getHost().port for port in self._ports]

    def startService(self) -> Deferred[None]:
        """Bring back what was kept, then listen.

        :raises StoreError: what was kept cannot be read.
        :raises twisted.internet.error.CannotListenError: a port is taken.
        """
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        await self.server.start()
        for listener in self._listeners:
            factory: Any
            if listener.is_websocket:
                factory = WebSocketFactory(
                    self._reactor, self.server, is_identified=listener.is_identified
                )
            else:
                factory = TcpFactory(self.server, is_identified=listener.is_identified)
            where = {"backlog": BACKLOG, "interface": listener.address}
            if listener.tls is None:
                port = self._reactor.listenTCP(listener.port, factory, **where)
            else:
                port = self._reactor.listenSSL(listener.port, factory, listener.tls, **where)
            self._ports.append(port)
        if self._files is not None:
            self._files.clock = self._reactor
            self._files.start(LOOK_AT_FILES, now=False)

    def stopService(self) -> Deferred[None]:
        """Accept nobody, say goodbye, and wait for the disk."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._files is not None and self._files.running:
            self._files.stop()
        ports, self._ports = self._ports, []
        for port in ports:
            await maybeDeferred(port.stopListening)
        await self.server.stop()

    def _crowd(self, is_crowded: bool) -> None:
        if is_crowded:
            self._log.warn("too many connections that said nothing yet: accepting no more")
        for port in self._ports:
            if is_crowded:
                port.stopReading()
            else:
                port.startReading()

    def add_metrics(self, metrics: Metrics) -> None:
        """Show what the broker counts."""
        broker, server = self.server.broker, self.server
        counters = broker.counters
        metrics.counter(
            "kubeedge_mqtt_connections_total",
            "CONNECTs, by what came of them: accepted or refused.",
            ("outcome",),
            lambda: _by(counters, accepted="connections", refused="refused"),
        )
        metrics.counter(
            "kubeedge_mqtt_ended_connections_total",
            "Connections that the broker ended: protocol broken, taken_over by the same client, "
            "keepalive, slow reader.",
            ("why",),
            lambda: _by(
                counters,
                broken="broken",
                taken_over="taken_over",
                keepalive="keepalive_timeouts",
                slow="slow_clients",
            ),
        )
        metrics.counter(
            "kubeedge_mqtt_messages_total",
            "PUBLISH packets from clients (received), to clients (sent), and to this process "
            "(local).",
            ("direction",),
            lambda: _by(counters, received="received", sent="sent", local="delivered_local"),
        )
        metrics.counter(
            "kubeedge_mqtt_dropped_messages_total",
            "Messages that a subscriber did not get: queue_full, offline (QoS 0), expired, "
            "too_large.",
            ("why",),
            lambda: _by(
                counters,
                queue_full="dropped_queue_full",
                offline="dropped_offline",
                expired="dropped_expired",
                too_large="dropped_too_large",
            ),
        )
        metrics.counter(
            "kubeedge_mqtt_denied_total",
            "What access rules or limits did not allow: publish, read, retain.",
            ("what",),
            lambda: _by(
                counters, publish="denied_publish", read="denied_read", retain="retained_refused"
            ),
        )
        metrics.counter(
            "kubeedge_mqtt_crowded_out_total",
            "Connections ended since too many from their address were not admitted yet.",
            read=lambda: float(server.crowded_out),
        )
        metrics.gauge(
            "kubeedge_mqtt_sessions",
            "MQTT sessions, connected or not.",
            read=lambda: float(len(broker.sessions)),
        )
        metrics.gauge(
            "kubeedge_mqtt_open_connections",
            "Connections to the MQTT broker now.",
            read=lambda: float(server.links),
        )
        metrics.gauge(
            "kubeedge_mqtt_retained_messages",
            "Topics with a retained message.",
            read=lambda: float(len(broker.retained)),
        )
        metrics.counter(
            "kubeedge_mqtt_store_failures_total",
            "Writes of MQTT state that did not reach the disk.",
            read=lambda: float(server.store_failures),
        )

    def add_bounds(self, bounds: Bounds) -> None:
        """Show what the broker holds, and how much it would."""
        broker, limits = self.server.broker, self._limits
        bounds.add("mqtt-connections", limits.max_connections, lambda: self.server.links)
        bounds.add("mqtt-sessions", limits.max_sessions, lambda: len(broker.sessions))
        bounds.add("mqtt-retained", limits.max_retained_messages, lambda: len(broker.retained))


def _by(counters: Counters, **names: str) -> Values:
    """Some of the counters, each under the label that it has in the figures."""
    return {(label,): float(getattr(counters, name)) for label, name in names.items()}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(str(path), f"cannot be read: {reason}") from None

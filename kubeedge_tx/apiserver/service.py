"""The embedded Kubernetes API as a service: files, TLS, and the parts in start order."""

from __future__ import annotations

import base64
import platform
import secrets
import socket
import uuid
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import yaml
from twisted.application.service import Service
from twisted.internet import ssl
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from kubeedge_tx.apiserver import discovery
from kubeedge_tx.apiserver.answers import Renderer
from kubeedge_tx.apiserver.auth import Authenticator, Authorizer
from kubeedge_tx.apiserver.content import Content
from kubeedge_tx.apiserver.definitions import DefinitionKeeper
from kubeedge_tx.apiserver.eventlog import EventExpiry
from kubeedge_tx.apiserver.handlers import Handlers
from kubeedge_tx.apiserver.namespaces import NamespaceKeeper
from kubeedge_tx.apiserver.nodelife import NodeLife
from kubeedge_tx.apiserver.paths import Paths
from kubeedge_tx.apiserver.podindex import PodIndex
from kubeedge_tx.apiserver.registry import Registry
from kubeedge_tx.apiserver.resources import ApiResource, ApiSite
from kubeedge_tx.apiserver.reviews import Reviews
from kubeedge_tx.apiserver.scheduler import Scheduler
from kubeedge_tx.apiserver.services import KUBERNETES_IP
from kubeedge_tx.apiserver.store import ObjectStore
from kubeedge_tx.apiserver.tokens import Tokens, load_key
from kubeedge_tx.apiserver.verbs import Verbs
from kubeedge_tx.config.cloudcore import ApiServer
from kubeedge_tx.errors import ConfigError
from kubeedge_tx.observe.doors import Doors, Guarded
from kubeedge_tx.observe.metrics import Metrics
from kubeedge_tx.security import contexts
from kubeedge_tx.security.authority import Authority, KeyPair, utc
from kubeedge_tx.security.files import pem_to_der, read_file, write_file
from kubeedge_tx.store.database import Database
from kubeedge_tx.store.migrate import load_migrations

_SUFFIX_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
"""Of generated names. Source: apimachinery ``util/rand``."""
_CA_NAME: Final = "kubernetes"
_DNS_NAMES: Final = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


def random_suffix() -> str:
    """Five letters for the end of a generated name."""
    return "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(5))


class ApiServerService(Service):
    """Runs the API server.

    :param data_dir: holds ``apiserver.db``, ``pki/`` and ``admin.kubeconfig``.
    :param interface: the address to listen on.
    :param port: 0 takes a free one; see :attr:`port` once started.
    :param wall_clock: seconds since 1970.
    :param new_uid: makes UUIDs as text.
    :param new_suffix: makes ends of generated names.
    :param names: more names and addresses that the server's certificate is for.
    :param doors: where the listener's figures go; without, they are kept to itself.
    :param settings: its block of the configuration, for its limits.
    """

    name = "apiserver"
    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        data_dir: Path,
        interface: str,
        port: int,
        wall_clock: Callable[[], float],
        new_uid: Callable[[], str] = lambda: str(uuid.uuid4()),
        new_suffix: Callable[[], str] = random_suffix,
        names: Sequence[str] = (),
        doors: Doors | None = None,
        settings: ApiServer | None = None,
    ) -> None:
        self._reactor = reactor
        self._data_dir = data_dir
        self._interface = interface
        self._wall_clock = wall_clock
        self._new_uid = new_uid
        self._new_suffix = new_suffix
        self._names = tuple(names)
        self._settings = settings or ApiServer()
        self._door = (doors or Doors(reactor, Metrics())).door("api", self._settings.limits)
        self._store: ObjectStore | None = None
        self.port = port
        """The port asked for; once started, the one that is bound."""
        self.kubeconfig = data_dir / "admin.kubeconfig"
        """The admin's kubeconfig; written at start."""
        self.registry = Registry()
        self.database = Database(
            reactor,
            data_dir / "apiserver.db",
            load_migrations("kubeedge_tx.apiserver", "data"),
            remedy="move it away and start again; every object in it is lost",
        )
        """Every object is in it; open once started."""
        self._stop_steps: list[Callable[[], Any]] = []
        self._ready = False

    @property
    def backlog(self) -> int:
        """Writes that wait for the disk."""
        return 0 if self._store is None else self._store.backlog

    @property
    def history(self) -> int:
        """Changes of one kind that are remembered for watches: the most of any kind."""
        return 0 if self._store is None else self._store.history

    def startService(self) -> Deferred[None]:
        """Fires when requests are served.

        :raises ConfigError: the port is in use.
        :raises StoreError: the database cannot be used.
        :raises CertificateError: a file in ``pki/`` cannot be used.
        """
        super().startService()
        return Deferred.fromCoroutine(self._start())

    def stopService(self) -> Deferred[None]:
        """Fires when every watch has ended and everything is on disk."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _start(self) -> None:
        try:
            await self._start_parts()
        except BaseException:
            await self._stop()
            raise
        self._ready = True
        self._log.info("the Kubernetes API listens on {address}", address=self._url())

    async def _start_parts(self) -> None:
        self._data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority = self._authority()
        server = self._server_pair(authority)
        await self.database.open()
        self._stop_steps.append(self.database.close)
        store = self._store = ObjectStore(self.database, max_events=self._settings.watch_history)
        await store.load()
        self._stop_steps.append(store.when_idle)
        verbs = Verbs(
            store,
            self.registry,
            Content(),
            wall_clock=self._wall_clock,
            new_uid=self._new_uid,
            new_suffix=self._new_suffix,
        )
        definitions = DefinitionKeeper(verbs, self._reactor)
        definitions.start()
        self._stop_steps.append(lambda: Deferred.fromCoroutine(definitions.stop()))
        index = PodIndex(store)
        namespaces = NamespaceKeeper(verbs, authority.cert_pem.decode(), self._reactor)
        await namespaces.start()
        self._stop_steps.append(lambda: Deferred.fromCoroutine(namespaces.stop()))
        expiry = EventExpiry(verbs, self._reactor, self._settings.event_lifetime)
        for part in (
            Scheduler(verbs, index, self._reactor),
            NodeLife(verbs, self._reactor),
            expiry,
        ):
            part.start()
            self._stop_steps.append(part.stop)
        token = self._admin_token()
        self._listen(self._site(verbs, index, token), server, authority)
        self._write_kubeconfig(authority, token)

    async def _stop(self) -> None:
        self._ready = False
        while self._stop_steps:
            try:
                await maybeDeferred(self._stop_steps.pop())
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001 - what is below must still be closed
                self._log.failure("the API server did not stop cleanly")

    def _site(self, verbs: Verbs, index: PodIndex, admin_token: str) -> ApiSite:
        tokens = Tokens(
            load_key(self._data_dir / "pki" / "sa.key"),
            verbs.store,
            wall_clock=self._wall_clock,
            new_uid=self._new_uid,
        )
        authenticator = Authenticator(admin_token, tokens)
        authorizer = Authorizer(index)
        reviews = Reviews(verbs.store, self.registry, tokens, authenticator, authorizer)
        handlers = Handlers(
            verbs,
            reviews,
            Renderer(self._wall_clock),
            self._reactor,
            write_backlog=self._settings.write_backlog,
        )
        paths = Paths(
            self.registry,
            version=discovery.version(_own_version(), f"python{platform.python_version()}"),
            address=lambda: f"{self._host()}:{self.port}",
            is_ready=lambda: self._ready,
        )
        resource = ApiResource(self.registry, authenticator, authorizer, handlers, paths)
        site = ApiSite(resource, self._reactor, self._door, self._settings.limits)
        self._stop_steps.append(lambda: Deferred.fromCoroutine(site.close_connections()))
        self._stop_steps.append(verbs.store.when_idle)  # what was accepted gets its answer
        self._stop_steps.append(handlers.end_watches)
        return site

    def _listen(self, site: ApiSite, server: KeyPair, authority: Authority) -> None:
        certificate = ssl.PrivateCertificate.loadPEM(server.cert_pem + server.key_pem)
        options = ssl.CertificateOptions(
            privateKey=certificate.privateKey.original,
            certificate=certificate.original,
            **contexts.ciphers(contexts.WEB_CIPHERS),
        )
        guarded = Guarded(
            self._door, TLSMemoryBIOFactory(options, False, site, clock=self._reactor)
        )
        try:
            listening = self._reactor.listenTCP(
                self.port, guarded, interface=self._interface, backlog=512
            )
        except Exception as error:
            why = getattr(getattr(error, "socketError", None), "strerror", None) or str(error)
            raise ConfigError(
                "modules.apiServer.port",
                f"cannot listen on {self._interface or '*'}:{self.port}: {why}; choose another "
                "port, or 0 for a free one",
            ) from error
        self.port = listening.getHost().port
        self._stop_steps.append(listening.stopListening)

    def _authority(self) -> Authority:
        folder = self._data_dir / "pki"
        cert, key = folder / "ca.crt", folder / "ca.key"
        cert_pem, key_pem = read_file(cert), read_file(key)
        now = utc(self._wall_clock())
        if cert_pem is not None and key_pem is not None:
            return Authority.load(
                pem_to_der(cert_pem, "CERTIFICATE", str(cert)),
                pem_to_der(key_pem, "PRIVATE KEY", str(key)),
                now=now,
                what=str(cert),
            )
        if cert_pem is not None or key_pem is not None:
            missing = key if key_pem is None else cert
            raise ConfigError(
                str(missing),
                "missing, while its other half is there; put it back, or move the folder away "
                "to make a new authority (every kubeconfig must then be replaced)",
            )
        authority = Authority.create(common_name=_CA_NAME, now=now)
        write_file(key, authority.key_pem, 0o600)
        write_file(cert, authority.cert_pem, 0o644)
        return authority

    def _server_pair(self, authority: Authority) -> KeyPair:
        names = list(_DNS_NAMES)
        addresses = ["127.0.0.1", "::1", KUBERNETES_IP]
        for own in (self._interface, socket.gethostname(), *self._names):
            try:
                if not ip_address(own).is_unspecified:
                    addresses.append(own)
            except ValueError:
                if own and own.isascii():
                    names.append(own)
        return authority.issue_server(names, addresses, now=utc(self._wall_clock()))

    def _admin_token(self) -> str:
        path = self._data_dir / "pki" / "admin.token"
        found = read_file(path)
        if found is not None and (token := found.decode("ascii", "replace").strip()):
            return token
        token = secrets.token_urlsafe(32)
        write_file(path, token.encode() + b"\n", 0o600)
        return token

    def _write_kubeconfig(self, authority: Authority, token: str) -> None:
        ca = base64.b64encode(authority.cert_pem).decode()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "kubeedge-tx",
                    "cluster": {"server": self._url(), "certificate-authority-data": ca},
                }
            ],
            "users": [{"name": "kubernetes-admin", "user": {"token": token}}],
            "contexts": [
                {
                    "name": "kubernetes-admin@kubeedge-tx",
                    "context": {"cluster": "kubeedge-tx", "user": "kubernetes-admin"},
                }
            ],
            "current-context": "kubernetes-admin@kubeedge-tx",
        }
        text = yaml.safe_dump(config, sort_keys=False)
        write_file(self.kubeconfig, text.encode(), 0o600)

    def _host(self) -> str:
        try:
            address = ip_address(self._interface)
        except ValueError:
            return self._interface or "127.0.0.1"
        if address.is_unspecified:
            return "127.0.0.1"
        return f"[{address}]" if address.version == 6 else str(address)

    def _url(self) -> str:
        return f"https://{self._host()}:{self.port}"


def _own_version() -> str:
    try:
        return version("kubeedge-tx")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"

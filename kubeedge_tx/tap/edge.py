"""``twistd kubeedge-edge``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import replace
from twisted.application.service import IService

from kubeedge_tx.config.edgecore import EdgeCoreConfig
from kubeedge_tx.config.types import split_address
from kubeedge_tx.errors import ConfigError
from kubeedge_tx.tap.role import RoleOptions, RoleService

RUNTIMES = ("auto", "docker", "process")


class Options(RoleOptions[EdgeCoreConfig]):
    """The edge's command line."""

    form = EdgeCoreConfig
    minimal = (
        "modules.edgeHub.httpServer",
        "modules.edgeHub.websocket",
        "modules.edgeHub.token",
        "modules.edged.hostnameOverride",
        "modules.edged.nodeLabels",
        "modules.edged.runtime",
    )
    optParameters = [  # noqa: RUF012 - usage.Options wants a list
        ["server", None, None, "HOST:10002, the cloud's certificate service"],
        ["websocket", None, None, "HOST:PORT of the cloud's WebSocket; port 10000 of --server"],
        ["token", None, None, "the join token"],
        ["node-name", None, None, "this node's name; otherwise the host's"],
        ["runtime", None, None, "auto, docker or process"],
    ]

    def apply(self) -> None:
        modules = self.config.modules
        hub, edged = modules.edge_hub, modules.edged
        if self["server"]:
            host, _ = split_address(self["server"], "--server")
            _, port = split_address(
                hub.websocket.server.split(",")[0], "modules.edgeHub.websocket.server"
            )
            beside = replace(hub.websocket, server=f"{_bracketed(host)}:{port}")
            hub = replace(hub, http_server=f"https://{self['server']}", websocket=beside)
        if self["websocket"]:
            for address in self["websocket"].split(","):
                split_address(address, "--websocket")
            hub = replace(hub, websocket=replace(hub.websocket, server=self["websocket"]))
        if self["token"]:
            hub = replace(hub, token=self["token"])
        if self["node-name"]:
            edged = replace(edged, hostname_override=self["node-name"])
        if self["runtime"]:
            if self["runtime"] not in RUNTIMES:
                raise ConfigError("--runtime", f"expected {', '.join(RUNTIMES)}")
            edged = replace(edged, runtime=self["runtime"])
        self.config = replace(self.config, modules=replace(modules, edge_hub=hub, edged=edged))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def makeService(options: Options) -> IService:
    """Build the edge's service; nothing is opened before it starts."""
    from twisted.internet import reactor

    return service(reactor, options)


def service(reactor: Any, options: Options) -> RoleService:
    """Build the edge's service on any reactor."""

    def build() -> Any:
        from kubeedge_tx.edge.core import EdgeCore

        config_file = Path(options["config"]).absolute() if options["config"] else None
        return EdgeCore(reactor, options.config, options.data_dir, config_file)

    return RoleService(reactor, options, build, "kubeedge-edge")

"""``twistd kubeedge-cloud``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from twisted.application.service import IService

from kubeedge_tx.config.cloudcore import CloudCoreConfig
from kubeedge_tx.errors import ConfigError
from kubeedge_tx.tap.role import RoleOptions, RoleService


class Options(RoleOptions[CloudCoreConfig]):
    """The cloud's command line."""

    form = CloudCoreConfig
    minimal = (
        "kubeAPIConfig.kubeConfig",
        "modules.cloudHub.advertiseAddress",
        "modules.cloudHub.dnsNames",
        "modules.cloudHub.nodeLimit",
        "modules.cloudHub.websocket",
        "modules.cloudHub.https",
    )
    optParameters = [  # noqa: RUF012 - usage.Options wants a list
        ["kubeconfig", None, None, "the cluster to work for; without it, the embedded API"],
    ]

    def apply(self) -> None:
        if not self["kubeconfig"]:
            return
        path = Path(self["kubeconfig"])
        if self["kubeconfig"] != "in-cluster" and not path.is_file():
            raise ConfigError("--kubeconfig", f"{path} is not there")
        api = msgspec.structs.replace(
            self.config.kube_api_config,
            kube_config="in-cluster"
            if self["kubeconfig"] == "in-cluster"
            else str(path.absolute()),
        )
        self.config = msgspec.structs.replace(self.config, kube_api_config=api)


def makeService(options: Options) -> IService:
    """Build the cloud's service; nothing is opened before it starts."""
    from twisted.internet import reactor

    return service(reactor, options)


def service(reactor: Any, options: Options) -> RoleService:
    """Build the cloud's service on any reactor."""

    def build() -> Any:
        from kubeedge_tx.cloud.core import CloudCore

        return CloudCore(reactor, options.config, options.data_dir)

    return RoleService(reactor, options, build, "kubeedge-cloud")

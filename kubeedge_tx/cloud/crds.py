"""KubeEdge's own kinds, brought into the cluster."""

from __future__ import annotations

from importlib import resources
from typing import Any

import yaml
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from kubeedge_tx.api import meta
from kubeedge_tx.api.resources import CRDS
from kubeedge_tx.errors import KubeError
from kubeedge_tx.kube.interfaces import IKubeClient

_log = Logger()


def definitions() -> list[dict[str, Any]]:
    """Read the CustomResourceDefinitions that come with the package."""
    folder = resources.files("kubeedge_tx.api") / "crds"
    return [
        yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        for file in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if file.name.endswith(".yaml")
    ]


async def ensure(client: IKubeClient, clock: IReactorTime) -> None:
    """Create what the cluster does not have, and wait until it is served.

    A definition that is there already, upstream's for instance, stays as it is.

    :raises KubeError: the cluster refuses, or does not serve a new kind within 30 s.
    """
    for definition in definitions():
        name = definition["metadata"]["name"]
        try:
            await client.create(CRDS, "", definition)
            _log.info("created {name}", name=name)
        except KubeError as error:
            if error.reason != "AlreadyExists":
                raise
        await _established(client, clock, name)


async def _established(client: IKubeClient, clock: IReactorTime, name: str) -> None:
    deadline = clock.seconds() + 30.0
    while True:
        found = await client.get(CRDS, "", name)
        conditions = meta.sequence(found, "status", "conditions")  # null until it is looked at
        if any(c.get("type") == "Established" and c.get("status") == "True" for c in conditions):
            return
        if clock.seconds() > deadline:
            raise KubeError(f"the cluster does not establish {name}", code=0)
        await deferLater(clock, 0.2)

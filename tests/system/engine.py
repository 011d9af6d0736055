"""What tests on a real Docker engine share."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from docker.errors import APIError
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from kubeedge_tx.runtime.docker_specs import ATTEMPT, KIND, OWNER, POD_NAME
from tests.runtime.docker_image import engine, ensure_busybox


class DockerPods(TestCase):
    """The containers of one node on an engine that others use too.

    :ivar node: the node's name, which no other test has.
    """

    node: str

    async def use_engine(self) -> None:
        """Have the image, and remove what is left of this node when the test is over."""
        self.docker = engine()
        self.addCleanup(self.docker.close)
        await deferToThread(ensure_busybox, self.docker)
        self.addCleanup(deferToThread, self._remove_all)

    def containers(self) -> Deferred[list[Any]]:
        """What runs for this node, sandboxes left out."""
        return deferToThread(self._list, f"{KIND}=container", all=False)

    def _list(self, *labels: str, all: bool) -> Any:
        wanted = [f"{OWNER}={self.node}", *labels]
        return self.docker.containers(all=all, filters={"label": wanted})

    def _remove_all(self) -> None:
        for each in self._list(all=True):
            with suppress(APIError):
                self.docker.remove_container(each["Id"], force=True, v=True)


def pod_of(container: Any) -> str:
    """The name of the pod that a container belongs to."""
    return str(container["Labels"][POD_NAME])


def attempt_of(container: Any) -> int:
    """Which attempt at it a container is."""
    return int(container["Labels"][ATTEMPT])

from __future__ import annotations

import os
from typing import Any
from uuid import uuid4

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from kubeedge_tx.runtime.docker import DockerRuntime
from tests.requirements import requires
from tests.runtime.contract import RuntimeContract
from tests.runtime.docker_image import BUSYBOX, engine, ensure_busybox

_reactor: Any = reactor


@requires("docker")
class DockerRuntimeTests(RuntimeContract, TestCase):
    """The docker runtime with a real engine keeps the contract."""

    image = BUSYBOX

    async def setUp(self) -> None:  # type: ignore[override]
        self.client = engine()
        self.addCleanup(self.client.close)
        ensure_busybox(self.client)
        self.owner = f"test-{uuid4()}"
        await super().setUp()

    def make_runtime(self) -> DockerRuntime:
        return DockerRuntime(_reactor, base_url=os.environ.get("DOCKER_HOST"), owner=self.owner)

"""The node in the cluster: registered, its status told, its lease renewed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.edge.edged.contact import Contact
from kubeedge_tx.edge.edged.lease import NodeLease
from kubeedge_tx.edge.edged.machine import Machine, Usage
from kubeedge_tx.edge.edged.nodestatus import (
    Engine,
    allocatable,
    differs,
    node_object,
    node_status,
    ready,
)
from kubeedge_tx.edge.edged.objects import Objects
from kubeedge_tx.edge.edged.podspec import Json
from kubeedge_tx.edge.edged.settings import NodeSettings
from kubeedge_tx.errors import ContainerError, KubeEdgeError, KubeError
from kubeedge_tx.runtime.interfaces import IContainerRuntime

RETRY_SECONDS: Final = 5.0
"""Pause after a registration or a lease was not taken."""
ENGINE_SECONDS: Final = 20.0
"""How long the runtime may take to say its version."""


class NodeKeeper:
    """Present one node to its cluster while there is a connection.

    :param version: this program's, without a leading ``v``.
    :param usage: reads what is used now.
    :param recovered: called when the runtime answers again after it did not.
    :param contact: told when the cluster has heard of us.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        objects: Objects,
        runtime: IContainerRuntime,
        settings: NodeSettings,
        version: str,
        machine: Machine,
        usage: Callable[[], Usage],
        recovered: Callable[[], None],
        contact: Contact,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._objects = objects
        self._runtime = runtime
        self._settings = settings
        self._version = version
        self._machine = machine
        self._usage = usage
        self._recovered = recovered
        self._contact = contact
        self._was_down = False
        self._lease = NodeLease(objects, settings.name, settings.lease_seconds, wall_clock)
        self._uid = ""
        self._status: Json = {}
        self._told: Json = {}
        self._told_at = float("-inf")
        self._contradicted = ""
        self._online = TaskSet()
        self.is_connected = False

    def allocatable(self) -> dict[str, str]:
        """Give what pods may have of this machine."""
        return allocatable(self._settings, self._machine, self._usage())

    async def load(self) -> None:
        """Go on from the Node of the store: its uid, and since when its conditions hold."""
        try:
            node = await self._objects.node(self._settings.name)
        except KubeEdgeError as error:
            self._log.warn("the stored node could not be read: {error}", error=str(error))
            return
        if node is not None:
            self._remember(node)

    @property
    def is_told(self) -> bool:
        """Whether the cloud has taken the node's status since the start."""
        return bool(self._told)

    def connected(self) -> None:
        """The cloud is there: register, tell everything, hold the lease."""
        if self.is_connected:
            return
        self.is_connected = True
        self._told_at = float("-inf")
        self._lease.forget()
        self._online.spawn("node in the cloud", self._be_online())

    async def disconnected(self) -> None:
        """The cloud is away."""
        self.is_connected = False
        await self._online.cancel_all()

    async def watch(self) -> None:
        """Look at the node again and again; tell the cloud when something is different."""
        while True:
            try:
                await self._look()
            except OSError as error:
                self._log.warn("this machine could not be looked at: {error}", error=str(error))
            await deferLater(self._clock, self._settings.status_update_seconds)

    async def _be_online(self) -> None:
        await self._register()
        await self._look()
        while True:
            pause = self._lease.interval
            if not self._uid:  # it existed before, and the cloud's push of it was on its way
                await self.load()
            asked = self._contact.elapsed()
            try:
                await self._lease.renew(self._uid)
            except CancelledError:
                raise
            except KubeEdgeError as error:
                self._log.warn("the node's lease was not renewed: {error}", error=str(error))
                pause = min(pause, RETRY_SECONDS)
            else:
                self._contact.made(asked)
            await deferLater(self._clock, pause)

    async def _register(self) -> None:
        if not self._settings.register:
            await self.load()
            return
        while True:
            try:
                node = await self._objects.register_node(
                    node_object(
                        self._settings,
                        self._machine,
                        self._usage(),
                        await self._engine(),
                        self._version,
                        self._wall_clock(),
                    )
                )
            except CancelledError:
                raise
            except KubeEdgeError as error:
                if isinstance(error, KubeError) and error.reason == "AlreadyExists":
                    await self.load()
                    return
                self._log.warn("the node was not registered: {error}", error=str(error))
                await deferLater(self._clock, RETRY_SECONDS)
            else:
                self._log.info("registered node {node}", node=self._settings.name)
                self._remember(node)
                return

    def _remember(self, node: Json) -> None:
        self._uid = str((node.get("metadata") or {}).get("uid") or self._uid)
        if not self._status:
            self._status = node.get("status") or {}

    async def _look(self) -> None:
        engine = await self._engine()
        if self._was_down and not engine.problem:
            self._recovered()
        self._was_down = bool(engine.problem)
        status = node_status(
            self._settings,
            self._machine,
            self._usage(),
            engine,
            self._version,
            self._status,
            self._wall_clock(),
        )
        self._status = status
        if not self.is_connected:
            return  # the whole status is told as soon as the cloud is there again
        now = self._clock.seconds()
        due = now - self._told_at >= self._settings.status_report_seconds
        if not due:
            due = await self._is_given_up()
        if not due and not differs(status, self._told):
            return
        try:
            # The endpoint's port is the tunnel's business once the node is registered.
            told = {name: each for name, each in status.items() if name != "daemonEndpoints"}
            await self._objects.report_node(self._settings.name, {"status": told})
        except CancelledError:
            raise
        except KubeEdgeError as error:
            self._log.warn("the node's status was not taken: {error}", error=str(error))
            return
        self._told, self._told_at = status, now

    async def _is_given_up(self) -> bool:
        """Tell whether the cluster has come to believe that we are silent, once each time.

        It does when leases are late on their way, or when it was itself away: then the
        connection stays, and only the Node that it pushes says so.
        """
        try:
            node = await self._objects.node(self._settings.name)
        except KubeEdgeError:
            return False  # the store is away; what is due is told anyway
        if node is None or ready(node.get("status") or {}) != "Unknown":
            return False
        before = self._contradicted
        self._contradicted = str((node.get("metadata") or {}).get("resourceVersion") or "")
        return self._contradicted != before

    async def _engine(self) -> Engine:
        name = self._runtime.name
        try:
            asking: Deferred[str] = self._runtime.version()
            version = await asking.addTimeout(ENGINE_SECONDS, self._clock)
        except CancelledError:
            raise
        except ContainerError as error:
            return Engine(name=name, problem=str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the node is not ready
            return Engine(name=name, problem=str(error) or type(error).__name__)
        return Engine(name=name, version=version)

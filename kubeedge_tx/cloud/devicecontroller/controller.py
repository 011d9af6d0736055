"""DeviceController: devices to their nodes, what they report to the cluster.

Source: KubeEdge ``cloud/pkg/devicecontroller``. Beyond it: a report is taken from the device's
own node only and judged by the device's model, ``membership/detail`` is answered, and every
report is confirmed or refused in words.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from kubeedge_tx.api import meta
from kubeedge_tx.api.devices import (
    device_id,
    device_problems,
    model_key,
    node_name,
    properties,
)
from kubeedge_tx.api.resources import DEVICES
from kubeedge_tx.api.twins import read_rules
from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.interfaces import IMessageBus, IModule
from kubeedge_tx.beehive.message import OK, Message, MessageFactory
from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.cloud.devicecontroller.downstream import Downstream
from kubeedge_tx.cloud.devicecontroller.reports import (
    DETAIL,
    TWIN,
    Address,
    Unreadable,
    event_id,
    judge_state,
    judge_twins,
    read_address,
)
from kubeedge_tx.cloud.devicecontroller.statuses import Sessions, Statuses
from kubeedge_tx.errors import KubeError, RouteError
from kubeedge_tx.kube.interfaces import IInformer, IKubeClient, IListener
from kubeedge_tx.observe.denials import MALFORMED, NOT_ITS_OWN, Denials
from kubeedge_tx.observe.metrics import Metrics


@implementer(IModule)
class DeviceController:
    """The module.

    :param nodes: informer of nodes with the edge role's label only.
    :param devices: informer of all devices; likewise ``models`` and ``statuses``.
    :param sessions: which of several cloud processes has a node's connection.
    :param now_ms: wall clock in milliseconds.
    :param denials: where it is written down what nodes may not have.
    :param report_window: seconds between two writes about one device, >= 0.
    :param deadband: a reported number that differs by no more than this is not written.
    """

    _log = Logger()
    name = names.DEVICECONTROLLER
    group = names.DEVICECONTROLLER

    def __init__(
        self,
        clock: IReactorTime,
        bus: IMessageBus,
        messages: MessageFactory,
        client: IKubeClient,
        *,
        nodes: IInformer,
        devices: IInformer,
        models: IInformer,
        statuses: IInformer,
        sessions: Sessions,
        now_ms: Callable[[], int],
        denials: Denials,
        metrics: Metrics,
        report_window: float = 1.0,
        deadband: float = 0.0,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._bus = bus
        self._denials = denials
        self._messages = messages
        self._client = client
        self._informers = (nodes, devices, models, statuses)
        self._devices = devices
        self._models = models
        self._tasks = TaskSet()
        self.downstream = Downstream(
            bus,
            messages,
            nodes=nodes,
            models=models,
            devices=devices,
            now_ms=now_ms,
            new_id=new_id,
            metrics=metrics,
        )
        self._statuses = Statuses(
            clock,
            client,
            devices=devices,
            statuses=statuses,
            confirm=self._confirm,
            sessions=sessions,
            now_ms=now_ms,
            window=report_window,
            deadband=deadband,
            metrics=metrics,
        )
        self._reports = metrics.counter(
            "kubeedge_devicecontroller_reports_total",
            "Reports of edges about devices, by what became of them.",
            ("kind", "outcome"),
        )
        self._refused = metrics.counter(
            "kubeedge_devicecontroller_refused_values_total",
            "Values in reports that were not taken, by the reason.",
            ("reason",),
        )

    def reconfigure(self, *, report_window: float, deadband: float) -> None:
        """Write from now on at another pace, and leave out other changes."""
        self._statuses.window = report_window
        self._statuses.deadband = deadband

    async def started(self) -> None:
        """Begin once the informers are synced."""
        self._tasks.spawn("start of DeviceController", self._begin())

    async def stopped(self) -> None:
        """Leave off: edges repeat what is not confirmed, informers tell again."""
        await self._tasks.cancel_all()
        await self._statuses.stop()

    async def _begin(self) -> None:
        _nodes, devices, models, statuses = self._informers
        for informer in self._informers:
            await informer.when_synced()
        self.downstream.start()
        devices.add_listener(_Devices(self))
        models.add_listener(_Models(self))
        statuses.add_listener(_Statuses(self._statuses))
        self._log.info("DeviceController pushes to edge nodes")

    # Down

    def device_changed(self, device: dict[str, Any]) -> None:
        """Look at a Device anew: it or its model has changed."""
        self._statuses.device_changed(device, tuple(device_problems(device, self._model(device))))

    def device_deleted(self, device: dict[str, Any]) -> None:
        """Let a Device's status go."""
        self._statuses.device_deleted(device)

    def model_changed(self, model: Mapping[str, Any]) -> None:
        """Look anew at the devices of a model that has come, changed or gone."""
        for device in self.downstream.devices_of(meta.key(model)):
            self.device_changed(device)

    def _model(self, device: Mapping[str, Any]) -> dict[str, Any] | None:
        key = model_key(device)
        return None if key is None else self._models.get(*key)

    # Up

    async def handle(self, message: Message) -> None:
        """Take a report or a question of an edge."""
        if message.route.source == names.CLOUDHUB:
            return
        try:
            address = read_address(message.route.resource)
        except RouteError as error:
            self._reports.inc("unknown", "refused")
            node = message.route.resource.split("/", 2)[1:2]
            if node:
                self._denials.deny(
                    node[0], "device", message.route.operation, MALFORMED, str(error)
                )
                await self._refuse(node[0], message, str(error))
            return
        if address.kind == DETAIL:
            self._tasks.spawn(f"devices of {address.node}", self._detail(address, message))
            return
        device = self._devices.get(*address.device)
        if device is None or node_name(device) != address.node:
            # The cache may be behind; that it is not the node's is said by the API server.
            self._tasks.spawn(message.route.resource, self._look_up(address, message))
            return
        await self._take(address, message, device)

    async def _detail(self, address: Address, message: Message) -> None:
        """Tell a node its devices, and confirm its question, which it repeats otherwise."""
        for informer in self._informers:  # an incomplete list would take devices away
            await informer.when_synced()
        await self.downstream.in_order(
            lambda: self.downstream.detail(address.node, event_id(message.content))
        )
        self._reports.inc(DETAIL, "confirmed")
        await self._confirm(address.node, message.header.msg_id, "")

    async def _look_up(self, address: Address, message: Message) -> None:
        try:
            device = await self._client.get(DEVICES, *address.device)
        except KubeError as error:
            if error.code != 404:  # not confirmed, so the edge repeats it
                self._log.warn(
                    "cannot tell whose device {device} is: {error}",
                    device="/".join(address.device),
                    error=error,
                )
                self._reports.inc(address.kind, "failed")
                return
            device = None
        if device is not None and node_name(device) == address.node:
            await self._take(address, message, device)
            return
        # In the same words if there is no such device: whether others have it is theirs to know.
        self._reports.inc(address.kind, "refused")
        text = f"403 Forbidden: no device {'/'.join(address.device)} is attached to {address.node}"
        self._denials.deny(address.node, "device", message.route.operation, NOT_ITS_OWN, text)
        await self.downstream.in_order(lambda: self.downstream.disown(address.node, address.device))
        await self._refuse(address.node, message, text)

    async def _take(self, address: Address, message: Message, device: dict[str, Any]) -> None:
        try:
            if address.kind == TWIN:
                model = self._model(device)
                verdict = judge_twins(
                    message.content,
                    properties(device),
                    {} if model is None else read_rules(model),
                    self._statuses.seen(device),
                )
            else:
                verdict = judge_state(message.content)
        except Unreadable as error:
            self._reports.inc(address.kind, "refused")
            self._log.warn(
                "report of {node} about device {device} refused: {error}",
                node=address.node,
                device=device_id(device),
                error=error,
            )
            await self._refuse(address.node, message, f"400 BadRequest: {error}")
            return
        self._reports.inc(address.kind, "partly refused" if verdict.refusals else "taken")
        for _name, refusal in verdict.refusals:
            self._refused.inc(refusal.reason)
        await self._statuses.report(device, address.node, message.header.msg_id, verdict)

    # Answers

    async def _confirm(self, node: str, message_id: str, wrong: str) -> None:
        """Say that a report need not be repeated: it is in the cluster, ``wrong`` aside."""
        await self._answer(node, message_id, names.RESPONSE, wrong or OK)

    async def _refuse(self, node: str, message: Message, why: str) -> None:
        """Say that a report need not be repeated since nobody will ever take it."""
        await self._answer(node, message.header.msg_id, names.ERROR, why)

    async def _answer(self, node: str, message_id: str, operation: str, content: object) -> None:
        # Resource `twin`: a Go edge would take one with `membership` in it for a list of devices.
        await self._bus.send(
            names.CLOUDHUB,
            self._messages.new(
                source=names.DEVICECONTROLLER,
                group=names.GROUP_TWIN,
                operation=operation,
                resource=f"node/{node}/twin",
                content=content,
                parent_id=message_id,
            ),
        )


@implementer(IListener)
class _Devices:
    def __init__(self, controller: DeviceController) -> None:
        self._controller = controller

    def added(self, obj: dict[str, Any]) -> None:
        self._controller.device_changed(obj)

    def modified(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._controller.device_changed(new)

    def deleted(self, obj: dict[str, Any]) -> None:
        self._controller.device_deleted(obj)


@implementer(IListener)
class _Models:
    def __init__(self, controller: DeviceController) -> None:
        self._controller = controller

    def added(self, obj: dict[str, Any]) -> None:
        self._controller.model_changed(obj)

    def modified(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._controller.model_changed(new)

    def deleted(self, obj: dict[str, Any]) -> None:
        self._controller.model_changed(obj)


@implementer(IListener)
class _Statuses:
    def __init__(self, statuses: Statuses) -> None:
        self._statuses = statuses

    def added(self, obj: dict[str, Any]) -> None:
        self._statuses.status_changed(obj)

    def modified(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._statuses.status_changed(new)

    def deleted(self, obj: dict[str, Any]) -> None:
        self._statuses.status_deleted(obj)

"""A device's life through DeviceController and SyncController, on the API server in cloudcore."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from kubeedge_tx.api import meta
from kubeedge_tx.api.resources import (
    CLUSTEROBJECTSYNCS,
    DEVICEMODELS,
    DEVICES,
    DEVICESTATUSES,
    EDGE_ROLE_LABEL,
    EVENTS,
    NODES,
    OBJECTSYNCS,
)
from kubeedge_tx.apiserver.service import ApiServerService
from kubeedge_tx.beehive.bus import MessageBus
from kubeedge_tx.beehive.message import Header, Message, MessageFactory, Route, raw
from kubeedge_tx.beehive.service import ModuleService
from kubeedge_tx.cloud import crds
from kubeedge_tx.cloud.cloudhub.syncpoint import SyncPoint
from kubeedge_tx.cloud.devicecontroller.controller import DeviceController
from kubeedge_tx.cloud.synccontroller.controller import SyncController
from kubeedge_tx.errors import KubeError
from kubeedge_tx.kube.client import KubeClient
from kubeedge_tx.kube.informer import Informer, Informers
from kubeedge_tx.observe.denials import Denials
from kubeedge_tx.observe.metrics import Metrics
from tests.cloud.devicecontroller.rig import Sessions, device, model, twin
from tests.cloud.rig import node, read

reactor: Any = global_reactor


def now_ms() -> int:
    return int(time.time() * 1000)


class EmbeddedTests(TestCase):
    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        api = ApiServerService(
            reactor,
            data_dir=Path(self.mktemp()),
            interface="127.0.0.1",
            port=0,
            wall_clock=time.time,
        )
        await self.begin(api)
        self.client = KubeClient(reactor, kubeconfig=api.kubeconfig, random=random.random)
        await self.begin(self.client)
        await crds.ensure(self.client, reactor)
        await self.client.create(NODES, "", node())
        kinds = (NODES, DEVICES, DEVICEMODELS, DEVICESTATUSES, OBJECTSYNCS, CLUSTEROBJECTSYNCS)
        informers = {
            kind: Informer(
                self.client,
                kind,
                clock=reactor,
                random=random.random,
                label_selector=f"{EDGE_ROLE_LABEL}=" if kind is NODES else "",
            )
            for kind in kinds
        }
        await self.begin(Informers(list(informers.values())))
        self.bus = MessageBus(reactor)
        self.inbox = self.bus.register("cloudhub", "cloudhub")
        self.seen: list[Message] = []
        self.ids = itertools.count()
        messages = MessageFactory(now_ms)
        controller = DeviceController(
            reactor,
            self.bus,
            messages,
            self.client,
            nodes=informers[NODES],
            devices=informers[DEVICES],
            models=informers[DEVICEMODELS],
            statuses=informers[DEVICESTATUSES],
            sessions=Sessions(),
            now_ms=now_ms,
            denials=Denials(reactor, Metrics()),
            metrics=Metrics(),
            report_window=0.01,
        )
        sync = SyncController(
            self.bus,
            messages,
            self.client,
            reactor,
            object_syncs=informers[OBJECTSYNCS],
            cluster_object_syncs=informers[CLUSTEROBJECTSYNCS],
            nodes=informers[NODES],
            objects=[informers[kind] for kind in (NODES, DEVICES, DEVICEMODELS)],
            confirmations=SyncPoint(
                reactor, self.client, informers[OBJECTSYNCS], informers[CLUSTEROBJECTSYNCS]
            ),
            wanted=controller.downstream.wanted,
        )
        for module in (controller, sync):
            await self.begin(ModuleService(module, self.bus, messages))

    async def begin(self, service: Any) -> None:
        await service.startService()
        self.addCleanup(service.stopService)

    async def until(self, found: Callable[[Message], object]) -> Message:
        """Wait for a message to CloudHub; the test's timeout is the limit."""
        while True:
            for message in self.seen:
                if found(message):
                    self.seen.remove(message)
                    return message
            self.seen += await self.inbox.take(64)

    async def push(self, operation: str, resource: str) -> Any:
        where = operation, f"node/edge-1/{resource}"
        return read(await self.until(lambda m: (m.route.operation, m.route.resource) == where))

    async def report(self, resource: str, content: Any) -> Any:
        """Report, and wait for the answer."""
        header = Header(msg_id=f"r{next(self.ids)}", timestamp=now_ms())
        route = Route("twin", "resource", "update", f"node/edge-1/{resource}")
        await self.bus.send("devicecontroller", Message(header, route, raw(content)))
        return read(await self.until(lambda m: m.header.parent_id == header.msg_id))

    async def eventually(
        self, look: Callable[[], Deferred[Any]], right: Callable[[Any], bool]
    ) -> Any:
        """Look until it is right; the test's timeout is the limit."""
        while True:
            try:
                found = await look()
            except KubeError as error:
                found = error
            if right(found):
                return found
            await deferLater(reactor, 0.01)

    def status(self) -> Deferred[dict[str, Any]]:
        return self.client.get(DEVICESTATUSES, "default", "thermo")

    async def test_a_life(self) -> None:
        """Model and device go down, reports come up, nonsense is refused, and all goes."""
        await self.client.create(DEVICES, "default", device(desired={"threshold": "30"}))
        await self.push("update", "membership")
        waiting = await self.eventually(
            self.status,
            lambda s: isinstance(s, dict) and bool(meta.mapping(s, "status", "extensions")),
        )
        self.assertEqual(waiting["status"]["extensions"]["problems"][0]["reason"], "NoModel")
        await self.client.create(DEVICEMODELS, "default", model())
        await self.push("insert", "default/devicemodel/m")
        sent = await self.push("insert", "default/device/thermo")
        self.assertEqual(sent["kind"], "Device")

        twins = {"twin": {"temperature": twin("23", at=5), "threshold": twin("29", expected="30")}}
        self.assertEqual(await self.report("device/default/thermo/twin/edge_updated", twins), "OK")
        about = {"state": "online", "lastOnlineTime": "2026-01-01T00:00:00Z"}
        state = json.dumps({"device": about})
        self.assertEqual(await self.report("device/default/thermo/state/update", state), "OK")
        found = await self.status()
        self.assertEqual(
            found["status"],
            {
                "twins": [
                    {
                        "propertyName": "temperature",
                        "reported": {"value": "23", "metadata": {"timestamp": "5", "type": "int"}},
                        "observedDesired": {"value": ""},
                    },
                    {
                        "propertyName": "threshold",
                        "reported": {"value": "29", "metadata": {"timestamp": "1", "type": "int"}},
                        "observedDesired": {
                            "value": "30",
                            "metadata": {"timestamp": "1", "type": "int"},
                        },
                    },
                ],
                "state": "online",
                "lastOnlineTime": "2026-01-01T00:00:00Z",
                "extensions": {"reported": "temperature=23 threshold=29"},
            },
        )
        wrong = {"twin": {"temperature": twin("1000", at=6)}}
        answer = await self.report("device/default/thermo/twin/edge_updated", wrong)
        self.assertIn("above the maximum 100", answer)
        problems = (await self.status())["status"]["extensions"]["problems"]
        self.assertEqual(problems[0]["reason"], "OutOfRange")
        await self.eventually(
            lambda: self.client.list(EVENTS, "default"),
            lambda events: any(
                each["reason"] == "OutOfRange" and each["involvedObject"]["name"] == "thermo"
                for each in events["items"]
            ),
        )
        await self.client.delete(DEVICES, "default", "thermo")
        await self.push("delete", "default/devicemodel/m")
        await self.push("delete", "default/device/thermo")
        await self.eventually(self.status, lambda s: getattr(s, "code", 0) == 404)

    async def test_moved_while_the_node_was_away(self) -> None:
        """A node that confirmed a device, which has moved since, is told to delete it."""
        made = await self.client.create(DEVICEMODELS, "default", model())
        moved = await self.client.create(DEVICES, "default", device(node="elsewhere"))
        for obj in (made, moved):
            record = {
                "metadata": {"name": f"edge-1.{meta.uid(obj)}", "namespace": "default"},
                "spec": {
                    "objectAPIVersion": "devices.kubeedge.io/v1beta1",
                    "objectKind": obj["kind"],
                    "objectName": meta.name(obj),
                },
            }
            await self.client.create(OBJECTSYNCS, "default", record)
        gone = await self.push("delete", "default/device/thermo")
        self.assertEqual(meta.uid(gone), meta.uid(moved))
        await self.push("delete", "default/devicemodel/m")

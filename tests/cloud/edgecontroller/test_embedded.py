"""A node and a pod's life through EdgeController, on the API server inside cloudcore."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from kubeedge_tx.api import meta
from kubeedge_tx.api.resources import (
    CLUSTEROBJECTSYNCS,
    CONFIGMAPS,
    EDGE_ROLE_LABEL,
    NODES,
    OBJECTSYNCS,
    PODS,
    SECRETS,
)
from kubeedge_tx.apiserver.service import ApiServerService
from kubeedge_tx.beehive.bus import MessageBus
from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.beehive.service import ModuleService
from kubeedge_tx.cloud import crds
from kubeedge_tx.cloud.cloudhub.syncpoint import SyncPoint
from kubeedge_tx.cloud.edgecontroller.claims import Claims
from kubeedge_tx.cloud.edgecontroller.controller import EdgeController
from kubeedge_tx.cloud.synccontroller.controller import SyncController
from kubeedge_tx.kube.client import KubeClient
from kubeedge_tx.kube.informer import Informer, Informers
from kubeedge_tx.observe.denials import Denials
from kubeedge_tx.observe.metrics import Metrics
from tests.cloud.edgecontroller.rig import Edges
from tests.cloud.rig import config_map, from_edge, read

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
        nodes, pods, configmaps, secrets, syncs, cluster_syncs = informers = [
            Informer(
                self.client,
                kind,
                clock=reactor,
                random=random.random,
                label_selector=f"{EDGE_ROLE_LABEL}=" if kind is NODES else "",
            )
            for kind in (NODES, PODS, CONFIGMAPS, SECRETS, OBJECTSYNCS, CLUSTEROBJECTSYNCS)
        ]
        await self.begin(Informers(informers))
        self.bus = MessageBus(reactor)
        self.inbox = self.bus.register("cloudhub", "cloudhub")
        self.seen: list[Message] = []
        messages = MessageFactory(now_ms)
        controller = EdgeController(
            self.bus,
            messages,
            self.client,
            nodes=nodes,
            pods=pods,
            configmaps=configmaps,
            secrets=secrets,
            claims=Claims(reactor, self.client, Edges(), identity="cloud", cloud_ip="192.0.2.2"),
            now_ms=now_ms,
            denials=Denials(reactor, Metrics()),
            impersonate=True,
        )
        sync = SyncController(
            self.bus,
            messages,
            self.client,
            reactor,
            object_syncs=syncs,
            cluster_object_syncs=cluster_syncs,
            nodes=nodes,
            objects=[nodes, pods, configmaps, secrets],
            confirmations=SyncPoint(reactor, self.client, syncs, cluster_syncs),
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

    async def push(self, operation: str, resource: str) -> Message:
        where = f"node/edge-1/{resource}"
        return await self.until(
            lambda m: (
                (m.route.operation, m.route.resource) == (operation, where)
                and not m.header.parent_id
            )
        )

    async def ask(self, operation: str, resource: str, content: Any = None) -> Any:
        message = from_edge(operation, f"node/edge-1/{resource}", content)
        header = msgspec.structs.replace(message.header, msg_id=f"{operation} {resource}")
        question = msgspec.structs.replace(message, header=header)
        await self.bus.send("edgecontroller", question)
        answer = await self.until(lambda m: m.header.parent_id == header.msg_id)
        return read(answer)

    async def test_a_life(self) -> None:
        """Join, run a pod that mounts a ConfigMap, report, end, leave."""
        labels = {EDGE_ROLE_LABEL: "", "kubernetes.io/hostname": "edge-1"}
        body = {"metadata": {"name": "edge-1", "labels": labels}, "spec": {}, "status": {}}
        answer = await self.ask("insert", "null/node/edge-1", body)
        self.assertIsNone(answer["Err"])
        self.assertEqual(answer["Object"]["metadata"]["labels"][EDGE_ROLE_LABEL], "")
        await self.push("update", "null/node/edge-1")
        ready = '{"status": {"conditions": [{"type": "Ready", "status": "True"}]}}'
        answer = await self.ask("patch", "null/nodepatch/edge-1", ready)
        self.assertIsNone(answer["Err"])
        lease = {
            "metadata": {"name": "edge-1", "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": "edge-1", "leaseDurationSeconds": 40},
        }
        answer = await self.ask("insert", "kube-node-lease/lease/edge-1", lease)
        self.assertIsNone(answer["Err"])

        await self.client.create(CONFIGMAPS, "default", config_map(x="1"))
        volume = {"name": "v", "configMap": {"name": "app"}}
        pod = {
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "nodeName": "edge-1",
                "containers": [{"name": "c", "image": "busybox"}],
                "volumes": [volume],
            },
        }
        uid = meta.uid(await self.client.create(PODS, "default", pod))
        config = await self.push("insert", "default/configmap/app")
        self.assertEqual(read(config)["data"], {"x": "1"})
        inserted = await self.push("insert", "default/pod/web")
        self.assertEqual(read(inserted)["metadata"]["uid"], uid)
        found = await self.ask("query", "default/configmap/app")
        self.assertEqual(found["data"], {"x": "1"})

        status = {"metadata": {"uid": uid}, "status": {"phase": "Running"}}
        answer = await self.ask(
            "patch", "default/podpatch/web", msgspec.json.encode(status).decode()
        )
        self.assertEqual(answer["Object"]["status"]["phase"], "Running")
        await self.client.delete(PODS, "default", "web")
        ending = await self.push("update", "default/pod/web")
        self.assertTrue(meta.deleting(read(ending)))
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        self.assertEqual(await self.ask("delete", "default/pod/web", options), "OK")
        await self.push("delete", "default/pod/web")
        answer = await self.ask(
            "patch", "default/podpatch/web", msgspec.json.encode(status).decode()
        )
        self.assertEqual(answer["Err"]["ErrStatus"]["reason"], "NotFound")

        await self.client.delete(NODES, "", "edge-1")
        gone = await self.push("delete", "null/node/edge-1")
        self.assertIsNone(read(gone))

    async def test_what_the_node_missed(self) -> None:
        """A record of an object that is gone leads to its removal, and goes with the node."""
        body = {"metadata": {"name": "edge-1", "labels": {EDGE_ROLE_LABEL: ""}}}
        await self.client.create(NODES, "", body)
        await self.push("update", "null/node/edge-1")
        record = {
            "metadata": {"name": "edge-1.some-uid", "namespace": "default"},
            "spec": {"objectAPIVersion": "v1", "objectKind": "Pod", "objectName": "old"},
        }
        await self.client.create(OBJECTSYNCS, "default", record)
        removal = await self.push("delete", "default/pod/old")
        self.assertEqual(read(removal)["metadata"]["uid"], "some-uid")
        await self.client.delete(NODES, "", "edge-1")
        pause: Deferred[None]
        while (await self.client.list(OBJECTSYNCS))["items"]:
            pause = Deferred()
            reactor.callLater(0.01, pause.callback, None)
            await pause

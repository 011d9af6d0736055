"""What controllers rely on, asked of the fake, of the embedded API and of a real cluster.

The real cluster is the one of ``KUBEEDGE_TX_KUBECONFIG``; objects are made in its namespace
``default`` and removed again.
"""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.internet import reactor as global_reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from kubeedge_tx.api import meta
from kubeedge_tx.api.resources import (
    CONFIGMAPS,
    LEASES,
    NODE_LEASE_NAMESPACE,
    NODES,
    PODS,
    SERVICEACCOUNTS,
    ResourceType,
)
from kubeedge_tx.apiserver.service import ApiServerService
from kubeedge_tx.errors import KubeError
from kubeedge_tx.kube.client import KubeClient
from kubeedge_tx.kube.informer import Informer
from kubeedge_tx.kube.interfaces import STRATEGIC_PATCH, IKubeClient
from tests.fakes.kube import FakeKube

reactor: Any = global_reactor


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that a thread brings about; the test's timeout is the limit."""
    while not condition():
        await deferLater(reactor, 0.005)


class Contract:
    """The promises; subclasses say which API server keeps them."""

    kube: IKubeClient
    timeout = 120

    def name(self, what: str) -> str:
        """A name nobody else uses; its object is removed after the test."""
        return f"tx-{what}-{uuid.uuid4().hex[:8]}"

    async def make(self, kind: ResourceType, namespace: str, body: dict[str, Any]) -> Any:
        made = await self.kube.create(kind, namespace, body)

        async def remove() -> None:
            try:
                options = {"gracePeriodSeconds": 0}
                await self.kube.delete(kind, namespace, meta.name(made), options=options)
            except KubeError as error:
                if error.code != 404:
                    raise

        self.addCleanup(remove)  # type: ignore[attr-defined]
        return made

    async def refused(self, call: Awaitable[Any]) -> tuple[int, str]:
        try:
            await call
        except KubeError as error:
            assert error.status is not None
            assert error.status["kind"] == "Status"
            return error.code, error.reason
        raise AssertionError("it was not refused")

    async def test_objects(self) -> None:
        """Made, read, refused twice, changed, outdated, removed."""
        name = self.name("config")
        body = {"metadata": {"name": name, "namespace": "default"}, "data": {"a": "1"}}
        made = await self.make(CONFIGMAPS, "default", body)
        assert (await self.kube.get(CONFIGMAPS, "default", name))["data"] == {"a": "1"}
        again = self.kube.create(CONFIGMAPS, "default", body)
        assert await self.refused(again) == (409, "AlreadyExists")
        changed = await self.kube.patch(CONFIGMAPS, "default", name, {"data": {"b": "2"}})
        assert changed["data"] == {"a": "1", "b": "2"}
        assert meta.is_newer(meta.resource_version(changed), meta.resource_version(made))
        outdated = self.kube.update(CONFIGMAPS, "default", name, made)
        assert await self.refused(outdated) == (409, "Conflict")
        wrong = {"preconditions": {"uid": str(uuid.uuid4())}}
        other = self.kube.delete(CONFIGMAPS, "default", name, options=wrong)
        assert (await self.refused(other))[0] == 409
        await self.kube.delete(CONFIGMAPS, "default", name)
        gone = self.kube.get(CONFIGMAPS, "default", name)
        assert await self.refused(gone) == (404, "NotFound")

    async def test_a_node_and_its_pod(self) -> None:
        """What an edge does to its Node, Lease and Pod, as EdgeController asks for it."""
        node = self.name("node")
        body: dict[str, Any] = {
            "kind": "Node",
            "apiVersion": "v1",
            "metadata": {"name": node, "creationTimestamp": None},
            "spec": {},
        }
        await self.make(NODES, "", body)
        ready = {
            "status": {
                "$setElementOrder/conditions": [{"type": "Ready"}],
                "conditions": [{"type": "Ready", "status": "True"}],
            }
        }
        patched = await self.kube.patch(
            NODES, "", node, ready, content_type=STRATEGIC_PATCH, subresource="status"
        )
        assert patched["status"]["conditions"][0]["status"] == "True"
        same = await self.kube.patch(
            NODES, "", node, {}, content_type=STRATEGIC_PATCH, subresource="status"
        )
        assert same["status"]["conditions"] == patched["status"]["conditions"]
        lease = {
            "metadata": {"name": node, "namespace": NODE_LEASE_NAMESPACE},
            "spec": {"holderIdentity": node, "leaseDurationSeconds": 40},
        }
        made = await self.make(LEASES, NODE_LEASE_NAMESPACE, lease)
        made["spec"]["renewTime"] = "2026-11-24T06:54:07.528486Z"
        renewed = await self.kube.update(LEASES, NODE_LEASE_NAMESPACE, node, made)
        assert renewed["spec"]["renewTime"] == made["spec"]["renewTime"]
        name = self.name("pod")
        pod = {
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "busybox"}]},
        }
        bound = await self.make(PODS, "default", pod)
        status = {"metadata": {"uid": meta.uid(bound)}, "status": {"phase": "Running"}}
        how = {"content_type": STRATEGIC_PATCH, "subresource": "status"}
        running = await self.kube.patch(PODS, "default", name, status, **how)
        assert running["status"]["phase"] == "Running"
        status["metadata"]["uid"] = str(uuid.uuid4())
        wrong = self.kube.patch(PODS, "default", name, status, **how)
        assert (await self.refused(wrong))[0] in (409, 422)
        await self.kube.delete(PODS, "default", name)
        ending = await self.kube.get(PODS, "default", name)
        assert meta.deleting(ending)
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta.uid(bound)}}
        await self.kube.delete(PODS, "default", name, options=options)
        gone = self.kube.get(PODS, "default", name)
        assert (await self.refused(gone))[0] == 404

    async def test_a_token(self) -> None:
        """Service accounts give tokens."""
        name = self.name("robot")
        body = {"metadata": {"name": name, "namespace": "default"}}
        await self.make(SERVICEACCOUNTS, "default", body)
        token = await self.kube.create(
            SERVICEACCOUNTS,
            "default",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
            name=name,
            subresource="token",
        )
        assert token["status"]["token"]

    async def test_selection(self) -> None:
        """Lists are restricted by labels."""
        mark = self.name("mark")
        for value in ("yes", "no"):
            about = {"name": self.name(value), "namespace": "default", "labels": {mark: value}}
            await self.make(CONFIGMAPS, "default", {"metadata": about})
        listed = await self.kube.list(CONFIGMAPS, "default", label_selector=f"{mark}=yes")
        assert [meta.labels(item)[mark] for item in listed["items"]] == ["yes"]
        assert meta.resource_version(listed)


class FakeTests(Contract, TestCase):
    """The fake of other tests is true to life."""

    def setUp(self) -> None:
        self.kube = FakeKube()


class ServerContract(Contract):
    """Promises that need a server: watches."""

    client: KubeClient

    async def begin(self, kubeconfig: Path) -> None:
        self.kube = self.client = KubeClient(
            reactor, kubeconfig=kubeconfig, random=random.random, watches=4
        )
        await self.client.startService()
        self.addCleanup(self.client.stopService)  # type: ignore[attr-defined]

    async def test_a_watch(self) -> None:
        """An informer finds what is there, hears what changes, and can be stopped."""
        mark = self.name("mark")

        def body(name: str) -> dict[str, Any]:
            about = {"name": name, "namespace": "default", "labels": {mark: "x"}}
            return {"metadata": about, "data": {}}

        first, second = self.name("first"), self.name("second")
        await self.make(CONFIGMAPS, "default", body(first))
        informer = Informer(
            self.client,
            CONFIGMAPS,
            clock=reactor,
            random=random.random,
            label_selector=f"{mark}=x",
        )
        informer.startService()
        try:
            await informer.when_synced()
            assert [meta.name(obj) for obj in informer.items()] == [first]
            await self.make(CONFIGMAPS, "default", body(second))
            await until(lambda: informer.get("default", second))
            await self.kube.patch(CONFIGMAPS, "default", second, {"data": {"a": "1"}})
            await until(lambda: (informer.get("default", second) or {}).get("data"))
            found = informer.get("default", second)
            assert found is not None
            assert (found["kind"], found["apiVersion"]) == ("ConfigMap", "v1")
            await self.kube.patch(
                CONFIGMAPS, "default", second, {"metadata": {"labels": {mark: None}}}
            )
            await until(lambda: informer.get("default", second) is None)
            await self.kube.delete(CONFIGMAPS, "default", first)
            await until(lambda: not list(informer.items()))
        finally:
            await informer.stopService()

    async def test_nodes_are_judged(self) -> None:
        """In a node's name, a node's rights: its own Node, and no stranger's Secret."""
        node = self.name("node")
        await self.make(NODES, "", {"metadata": {"name": node}})
        found = await self.kube.get(NODES, "", node, as_node=node)
        assert meta.name(found) == node
        other = self.kube.patch(NODES, "", self.name("other"), {}, as_node=node)
        assert (await self.refused(other))[0] in (403, 404)
        config = self.kube.get(CONFIGMAPS, "default", self.name("secret"), as_node=node)
        assert (await self.refused(config))[0] == 403


class EmbeddedTests(ServerContract, TestCase):
    """The API server that runs inside cloudcore, over TLS."""

    async def setUp(self) -> None:  # type: ignore[override]
        service = ApiServerService(
            reactor,
            data_dir=Path(self.mktemp()),
            interface="127.0.0.1",
            port=0,
            wall_clock=time.time,
        )
        await service.startService()
        self.addCleanup(service.stopService)
        await self.begin(service.kubeconfig)


class ClusterTests(ServerContract, TestCase):
    """A Kubernetes cluster."""

    async def setUp(self) -> None:  # type: ignore[override]
        path = os.environ.get("KUBEEDGE_TX_KUBECONFIG")
        if not path:
            raise SkipTest("needs a cluster: set KUBEEDGE_TX_KUBECONFIG to its kubeconfig")
        await self.begin(Path(path))

"""The official Python client, used as its documentation shows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException

from tests.apiserver.running import ServerCase, in_thread


def pod(name: str) -> client.V1Pod:
    """A pod, in the client's own classes."""
    return client.V1Pod(
        metadata=client.V1ObjectMeta(name=name, labels={"app": name}),
        spec=client.V1PodSpec(
            node_name="edge-1",
            containers=[
                client.V1Container(
                    name="c",
                    image="busybox",
                    resources=client.V1ResourceRequirements(limits={"memory": "64Mi"}),
                )
            ],
        ),
    )


class ClientTests(ServerCase):
    """What people write against a cluster works against ours."""

    async def api(self, use: Callable[[client.ApiClient], Any]) -> Any:
        """Run a piece of somebody's program in a thread."""

        def run() -> Any:
            with config.new_client_from_config(str(self.service.kubeconfig)) as api:
                return use(api)

        return await in_thread(run)

    async def test_objects(self) -> None:
        """Create, read, list, patch, replace and delete, with typed objects."""

        def use(api: client.ApiClient) -> None:
            core = client.CoreV1Api(api)
            made = core.create_namespaced_pod("default", pod("web"))
            self.assertEqual(made.status.phase, "Pending")
            self.assertEqual(made.spec.termination_grace_period_seconds, 30)
            self.assertEqual(made.spec.containers[0].resources.requests, {"memory": "64Mi"})
            core.create_namespaced_pod("default", pod("db"))
            listed = core.list_namespaced_pod("default", label_selector="app in (web)")
            self.assertEqual([item.metadata.name for item in listed.items], ["web"])
            listed = core.list_pod_for_all_namespaces(limit=1)
            rest = core.list_pod_for_all_namespaces(_continue=listed.metadata._continue)
            self.assertEqual(rest.items[0].metadata.name, "web")
            changed = core.patch_namespaced_pod(
                "web", "default", {"metadata": {"labels": {"tier": "front"}}}
            )
            self.assertEqual(changed.metadata.labels, {"app": "web", "tier": "front"})
            condition = {"type": "Ready", "status": "True"}
            status = {"status": {"phase": "Running", "conditions": [condition]}}
            core.patch_namespaced_pod_status("web", "default", status)
            found = core.read_namespaced_pod("web", "default")
            self.assertEqual(found.status.conditions[0].type, "Ready")
            found.metadata.labels["more"] = "1"
            core.replace_namespaced_pod("web", "default", found)
            with self.assertRaises(ApiException) as caught:
                core.replace_namespaced_pod("web", "default", found)
            self.assertEqual(caught.exception.status, 409)
            gone = core.delete_namespaced_pod("web", "default", grace_period_seconds=0)
            self.assertEqual(gone.metadata.name, "web")
            core.delete_collection_namespaced_pod("default")
            with self.assertRaises(ApiException) as caught:
                core.read_namespaced_pod("web", "default")
            self.assertEqual(caught.exception.status, 404)

        await self.api(use)

    async def test_watch(self) -> None:
        """A watch follows changes across its own timeouts."""

        def use(api: client.ApiClient) -> list[tuple[str, str]]:
            core = client.CoreV1Api(api)
            version = core.list_namespaced_pod("default").metadata.resource_version
            core.create_namespaced_pod("default", pod("web"))
            core.patch_namespaced_pod("web", "default", {"metadata": {"labels": {"a": "b"}}})
            core.delete_namespaced_pod("web", "default", grace_period_seconds=0)
            seen = []
            stream = watch.Watch()
            for event in stream.stream(
                core.list_namespaced_pod, "default", resource_version=version, timeout_seconds=30
            ):
                seen.append((event["type"], event["object"].metadata.name))
                if event["type"] == "DELETED":
                    stream.stop()
            return seen

        self.assertEqual(
            await self.api(use), [("ADDED", "web"), ("MODIFIED", "web"), ("DELETED", "web")]
        )

    async def test_other_kinds(self) -> None:
        """Nodes, leases, secrets, tokens, events, services and certificate requests."""

        def use(api: client.ApiClient) -> None:
            core = client.CoreV1Api(api)
            node = client.V1Node(metadata=client.V1ObjectMeta(name="edge-1"))
            core.create_node(node)
            ready = {"type": "Ready", "status": "True"}
            core.patch_node_status("edge-1", {"status": {"conditions": [ready]}})
            self.assertEqual(core.list_node().items[0].status.conditions[0].status, "True")
            lease = client.V1Lease(
                metadata=client.V1ObjectMeta(name="edge-1"),
                spec=client.V1LeaseSpec(holder_identity="edge-1", lease_duration_seconds=40),
            )
            coordination = client.CoordinationV1Api(api)
            coordination.create_namespaced_lease("kube-node-lease", lease)
            renewed = coordination.patch_namespaced_lease(
                "edge-1",
                "kube-node-lease",
                {"spec": {"renewTime": "2026-11-24T08:00:00.123456Z"}},
            )
            self.assertEqual(renewed.spec.renew_time.microsecond, 123456)
            secret = client.V1Secret(
                metadata=client.V1ObjectMeta(generate_name="s-"), string_data={"k": "v"}
            )
            made = core.create_namespaced_secret("default", secret)
            self.assertEqual((made.type, made.data), ("Opaque", {"k": "dg=="}))
            token = core.create_namespaced_service_account_token(
                "default",
                "default",
                client.AuthenticationV1TokenRequest(
                    spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=700)
                ),
            )
            left = token.status.expiration_timestamp.timestamp() - time.time()
            self.assertTrue(690 < left <= 701, left)
            core.create_namespaced_event(
                "default",
                client.CoreV1Event(
                    metadata=client.V1ObjectMeta(generate_name="e-"),
                    involved_object=client.V1ObjectReference(
                        kind="Pod", name="p", namespace="default"
                    ),
                    reason="Started",
                    type="Normal",
                ),
            )
            found = core.list_namespaced_event(
                "default", field_selector="involvedObject.name=p,reason=Started"
            )
            self.assertEqual(len(found.items), 1)

        await self.api(use)

    async def test_custom_objects(self) -> None:
        """KubeEdge's kinds through the API for custom objects, and their definitions."""
        await self.install_crds()

        def use(api: client.ApiClient) -> None:
            definitions = client.ApiextensionsV1Api(api).list_custom_resource_definition()
            self.assertIn("objectsyncs", [d.spec.names.plural for d in definitions.items])
            place = ("reliablesyncs.kubeedge.io", "v1alpha1", "default", "objectsyncs")
            custom = client.CustomObjectsApi(api)
            sync = {
                "apiVersion": "reliablesyncs.kubeedge.io/v1alpha1",
                "kind": "ObjectSync",
                "metadata": {"name": "edge-1.0"},
                "spec": {"objectAPIVersion": "v1", "objectKind": "Pod", "objectName": "web"},
            }
            custom.create_namespaced_custom_object(*place, sync)
            status = {"status": {"objectResourceVersion": "7"}}
            custom.patch_namespaced_custom_object_status(*place, "edge-1.0", status)
            found = custom.get_namespaced_custom_object(*place, "edge-1.0")
            self.assertEqual(found["status"], status["status"])
            listed = custom.list_namespaced_custom_object(*place)
            self.assertEqual(listed["kind"], "ObjectSyncList")
            custom.delete_namespaced_custom_object(*place, "edge-1.0")

        await self.api(use)

    async def test_version(self) -> None:
        """Clients that ask for the version and the groups get them."""

        def use(api: client.ApiClient) -> None:
            self.assertEqual(client.VersionApi(api).get_code().major, "1")
            groups = client.ApisApi(api).get_api_versions().groups
            self.assertIn("coordination.k8s.io", [group.name for group in groups])

        await self.api(use)

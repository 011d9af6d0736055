from __future__ import annotations

import json
from typing import Any

from kubeedge_tx.api.resources import (
    CONFIGMAPS,
    CSRS,
    EVENTS,
    LEASES,
    NODES,
    PERSISTENTVOLUMES,
    PODS,
    SECRETS,
    SERVICEACCOUNTS,
)
from kubeedge_tx.errors import KubeError
from tests.cloud.edgecontroller.rig import CLOUD_IP, EdgeControllerCase
from tests.cloud.rig import NOW, config_map, connected, from_edge, node, pod, read, secret
from tests.fakes.certificates import signing_request
from tests.fakes.kube import Call, kube_error, unreachable

MANAGED = [{"manager": "cloudcore"}]


class RegistrationTests(EdgeControllerCase):
    def body(self) -> dict[str, Any]:
        labels = {
            "kubernetes.io/os": "linux",
            "beta.kubernetes.io/os": "linux",
            "node-role.kubernetes.io/edge": "",
            "example.com/rack": "7",
        }
        return {"metadata": {"name": "edge-1", "labels": labels, "creationTimestamp": None}}

    def test_a_new_node(self) -> None:
        """It is made without the labels a node may not set; we add them, and our address."""
        answer = self.ask("insert", "null/node/edge-1", self.body())
        made = self.object_of(answer)
        self.assertEqual(made["metadata"]["labels"], self.body()["metadata"]["labels"])
        self.assertEqual(made["metadata"]["annotations"], {"cloudcore": CLOUD_IP})
        (create,) = self.kube.made("create")
        self.assertEqual(create.body["metadata"]["labels"], {"example.com/rack": "7"})
        self.assertEqual(answer.route.resource, "node/edge-1/null/node/edge-1")
        self.assertEqual(answer.header.parent_id, "q1")
        # The informer has seen it, so its edge gets it.
        self.assertTrue(self.pushed)

    def test_a_node_that_exists(self) -> None:
        """An edge that has lost its Node registers again, and gets it, as a new version."""
        before = self.kube.put(NODES, node())
        answer = self.ask("insert", "null/node/edge-1", self.body())
        error = self.error_of(answer)
        self.assertEqual((error["code"], error["reason"]), (409, "AlreadyExists"))
        for message in self.pushed:
            self.assertEqual(message.route.operation, "update")
            self.assertEqual(message.route.resource, "node/edge-1/null/node/edge-1")
            self.assertGreater(
                int(message.header.resource_version), int(before["metadata"]["resourceVersion"])
            )
        self.assertTrue(self.pushed)

    def test_a_registration_that_stopped_half_way(self) -> None:
        """If the labels could not be added, the next registration adds them."""
        self.kube.fail_next("patch", unreachable())
        self.error_of(self.ask("insert", "null/node/edge-1", self.body()))
        self.error_of(self.ask("insert", "null/node/edge-1", self.body()))
        found = self.kube.peek(NODES, "", "edge-1")
        assert found is not None
        self.assertEqual(found["metadata"]["labels"], self.body()["metadata"]["labels"])

    def test_the_old_way(self) -> None:
        """Edges of v1.6 hear OK, whether the Node was made or existed."""
        for _ in range(2):
            answer = self.ask("insert", "default/nodestatus/edge-1", self.body())
            self.assertEqual(read(answer), "OK")
            self.assertEqual(answer.route.resource, "node/edge-1/default/node/edge-1")

    def test_another_name(self) -> None:
        """A node speaks for itself only."""
        error = self.error_of(self.ask("insert", "null/node/edge-1", self.body(), node="evil"))
        self.assertEqual((error["code"], error["reason"]), (403, "Forbidden"))
        self.assertEqual(self.kube.calls, [])


class NodeTests(EdgeControllerCase):
    def setUp(self) -> None:
        super().setUp()
        self.kube.put(NODES, node(annotations={"kept": "yes"}, managedFields=MANAGED))
        self.kube.calls.clear()

    def test_a_status_patch(self) -> None:
        """It arrives as text; the answer has the Node and its version."""
        patch = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        answer = self.ask("patch", "null/nodepatch/edge-1", json.dumps(patch))
        found = self.object_of(answer)
        self.assertEqual(found["status"]["conditions"][0]["status"], "True")
        self.assertEqual(answer.header.resource_version, found["metadata"]["resourceVersion"])
        self.assertEqual(answer.route.resource, "node/edge-1/null/nodepatch/edge-1")
        self.assertNotIn("managedFields", found["metadata"])

    def test_an_update(self) -> None:
        """Labels and annotations are merged, nothing else."""
        body = {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}, "spec": {"x": 1}}
        self.assertEqual(read(self.ask("update", "null/node/edge-1", body)), "OK")
        found = self.kube.peek(NODES, "", "edge-1")
        assert found is not None
        self.assertEqual(found["metadata"]["labels"]["a"], "b")
        self.assertEqual(found["metadata"]["annotations"], {"kept": "yes", "c": "d"})
        self.assertEqual(found["spec"], {})

    def test_the_old_status(self) -> None:
        """It replaces the status, but for what the cloud wrote there."""
        live = {
            "volumesAttached": [{"name": "v"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10351}},
            "phase": "old",
        }
        self.kube.put(NODES, {**node(), "status": live})
        status = {
            "conditions": [
                {"type": "Ready", "status": "True", "lastHeartbeatTime": "2020-01-01T00:00:00Z"},
                {"type": "DiskPressure", "status": "False", "lastHeartbeatTime": NOW},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10350}},
        }
        gpu = [{"name": "gpu-0", "type": "x", "capacity": "1"}]
        content = {"UID": "", "Status": status, "ExtendResources": {"nvidia.com/gpu": gpu}}
        answer = self.ask("update", "default/nodestatus/edge-1", content)
        self.assertEqual(read(answer), "OK")
        self.assertEqual(answer.route.resource, "node/edge-1/default/node/edge-1")
        found = self.kube.peek(NODES, "", "edge-1")
        assert found is not None
        self.assertEqual(answer.header.resource_version, found["metadata"]["resourceVersion"])
        written = found["status"]
        self.assertEqual(written["volumesAttached"], live["volumesAttached"])
        self.assertEqual(written["daemonEndpoints"], live["daemonEndpoints"])
        self.assertNotIn("phase", written)
        self.assertEqual([c["lastHeartbeatTime"] for c in written["conditions"]], [NOW, NOW])
        annotations = found["metadata"]["annotations"]
        self.assertEqual(json.loads(annotations["nvidia.com/gpu"]), gpu)
        self.assertEqual(
            json.loads(annotations["huawei.com/gpu-status"]), [{"ID": "gpu-0", "Healthy": True}]
        )

    def test_a_conflict_is_tried_again(self) -> None:
        """Somebody else wrote in between: read again, write again."""
        self.kube.fail_next("update", kube_error(409, "Conflict", "modified"))
        answer = self.ask("update", "default/nodestatus/edge-1", {"Status": {}})
        self.assertEqual(read(answer), "OK")

    def test_a_query(self) -> None:
        """A node may read itself."""
        answer = self.ask("query", "null/node/edge-1")
        self.assertEqual(read(answer)["metadata"]["name"], "edge-1")
        self.assertEqual(
            self.ask("query", "null/node/edge-1", node="evil").route.operation, "error"
        )

    def test_the_api_server_is_away(self) -> None:
        """The edge hears that the service is unavailable, and will report again."""
        self.kube.fail_next("patch", unreachable())
        error = self.error_of(self.ask("patch", "null/nodepatch/edge-1", "{}"))
        self.assertEqual((error["code"], error["reason"]), (503, "ServiceUnavailable"))

    def test_nonsense(self) -> None:
        """What is no patch is refused as the API server would, and harms nothing."""
        for content in ("not JSON", "[" * 5000, 7, None, [1]):
            error = self.error_of(self.ask("patch", "null/nodepatch/edge-1", content))
            self.assertEqual(error["code"], 400)
        self.assertEqual(self.kube.calls, [])


class PatientNodeTests(EdgeControllerCase):
    heartbeat = 3600.0 * 24 * 365 * 50

    def test_a_heartbeat_that_may_be_old(self) -> None:
        """nodeUpdateFrequency says how old a condition's heartbeat may be to stay as it is."""
        self.kube.put(NODES, node())
        old = "2020-01-01T00:00:00Z"
        condition = {"type": "Ready", "status": "True", "lastHeartbeatTime": old}
        content = {"UID": "", "Status": {"conditions": [condition]}}
        self.assertEqual(read(self.ask("update", "default/nodestatus/edge-1", content)), "OK")
        found = self.kube.peek(NODES, "", "edge-1")
        assert found is not None
        self.assertEqual(found["status"]["conditions"][0]["lastHeartbeatTime"], old)


class LeaseTests(EdgeControllerCase):
    PLACE = "kube-node-lease/lease/edge-1"

    def test_a_life(self) -> None:
        """Asked for, missed, made, renewed, read."""
        error = self.error_of(self.ask("query", self.PLACE))
        self.assertEqual((error["code"], error["reason"]), (404, "NotFound"))
        body = {"metadata": {"name": "edge-1", "namespace": "kube-node-lease"}, "spec": {"a": 1}}
        made = self.object_of(self.ask("insert", self.PLACE, body))
        made["spec"] = {"a": 2}
        answer = self.ask("update", self.PLACE, made)
        self.assertEqual(self.object_of(answer)["spec"], {"a": 2})
        self.assertEqual(answer.header.resource_version, "")
        self.assertEqual(self.object_of(self.ask("query", self.PLACE))["spec"], {"a": 2})
        error = self.error_of(self.ask("update", self.PLACE, made))
        self.assertEqual(error["reason"], "Conflict")

    def test_few_words(self) -> None:
        """An edge of our kind hears of a renewed lease only what the next renewal needs."""
        body = {"metadata": {"name": "edge-1", "namespace": "kube-node-lease"}, "spec": {"a": 1}}
        made = self.object_of(self.ask("insert", self.PLACE, body))
        self.say(connected("edge-1", window=32))
        renewed = self.object_of(self.ask("update", self.PLACE, {**made, "spec": {"a": 2}}))
        self.assertEqual(
            sorted(renewed["metadata"]), ["name", "namespace", "resourceVersion", "uid"]
        )
        self.assertEqual(sorted(renewed), ["metadata"])
        again = {"metadata": renewed["metadata"], "spec": {"a": 3}}
        self.assertIn("metadata", self.object_of(self.ask("update", self.PLACE, again)))
        self.say(connected("edge-1"))
        again["metadata"] = self.object_of(self.ask("query", self.PLACE))["metadata"]
        self.assertEqual(self.object_of(self.ask("update", self.PLACE, again))["spec"], {"a": 3})

    def test_another_nodes(self) -> None:
        """No node keeps another one alive, nor writes leases elsewhere."""
        body = {"metadata": {"name": "edge-1"}}
        self.assertEqual(self.error_of(self.ask("insert", self.PLACE, body, node="e"))["code"], 403)
        error = self.error_of(self.ask("insert", "kube-system/lease/edge-1", body))
        self.assertEqual(error["code"], 403)
        self.assertEqual(self.kube.made("create", LEASES), [])


class PodTests(EdgeControllerCase):
    def setUp(self) -> None:
        super().setUp()
        self.kube.put(NODES, node())
        self.kube.put(PODS, pod())
        self.kube.put(PODS, pod("other", "edge-2"))
        self.kube.calls.clear()

    def patch(self, name: str = "web", uid: str = "uid-web", node: str = "edge-1") -> Any:
        body = {"metadata": {"uid": uid}, "status": {"phase": "Running"}}
        return self.ask("patch", f"default/podpatch/{name}", json.dumps(body), node=node)

    def test_a_status_patch(self) -> None:
        """The answer has the Pod and its version."""
        answer = self.patch()
        found = self.object_of(answer)
        self.assertEqual(found["status"], {"phase": "Running"})
        self.assertEqual(answer.header.resource_version, found["metadata"]["resourceVersion"])
        self.assertEqual([call.verb for call in self.kube.calls], ["patch"])

    def test_a_pod_that_is_gone(self) -> None:
        """Deleted while the node was away: the node is told, so that it stops it."""
        error = self.error_of(self.patch("gone", "uid-gone"))
        self.assertEqual((error["code"], error["reason"]), (404, "NotFound"))
        (push,) = self.pushed
        self.assertEqual(push.route.operation, "delete")
        self.assertEqual(push.route.resource, "node/edge-1/default/pod/gone")
        self.assertEqual(
            read(push), {"metadata": {"name": "gone", "namespace": "default", "uid": "uid-gone"}}
        )

    def test_a_pod_made_anew(self) -> None:
        """Another uid is another pod: the old one is to be stopped, the new one unharmed."""
        error = self.error_of(self.patch(uid="uid-before"))
        self.assertEqual(error["code"], 404)
        self.assertEqual(read(self.pushed[0])["metadata"]["uid"], "uid-before")
        self.assertEqual(self.kube.made("patch"), [])

    def test_a_pod_made_anew_meanwhile(self) -> None:
        """The same between our look and the write, which is what the uid in a patch is for."""

        def meanwhile(call: Call) -> None:
            if call.verb == "patch":
                self.kube.before = None
                self.kube.drop(PODS, "default", "web")
                anew = pod()
                anew["metadata"]["uid"] = "uid-anew"
                self.kube.put(PODS, anew)

        self.kube.before = meanwhile
        self.assertEqual(self.error_of(self.patch())["code"], 409)
        uids = [read(push)["metadata"]["uid"] for push in self.pushed]
        self.assertEqual(uids, ["uid-web", "uid-anew", "uid-web"])
        self.assertEqual(self.pushed[-1].route.operation, "delete")

    def test_a_cache_that_is_behind(self) -> None:
        """What the informer does not know yet is asked for before it is called gone."""
        self.informers[1]._cache.clear()
        self.object_of(self.patch())
        self.assertEqual([call.verb for call in self.kube.calls], ["get", "patch"])

    def test_another_nodes_pod(self) -> None:
        """A node cannot say how another one's pods are, make them, or delete them."""
        self.assertEqual(self.error_of(self.patch("other", "uid-other"))["code"], 403)
        self.assertEqual(self.pushed, [])
        self.assertEqual(self.error_of(self.patch("other", ""))["code"], 403)
        answer = self.ask("delete", "default/pod/other", {"gracePeriodSeconds": 0})
        self.assertEqual(read(answer)["ErrStatus"]["code"], 403)
        answer = self.ask("insert", "default/pod/mirror", pod("mirror", "edge-2"))
        self.assertEqual(self.error_of(answer)["code"], 403)
        status = {"UID": "uid-other", "Status": {"phase": "Failed"}}
        answer = self.ask("update", "default/podstatus/other", status)
        self.assertEqual(read(answer)["ErrStatus"]["code"], 403)
        self.assertEqual({call.verb for call in self.kube.calls}, {"get"})

    def test_a_mirror_pod(self) -> None:
        """Static pods of an edge get their picture in the cluster."""
        body = pod("static")
        body["metadata"] = {"annotations": {"kubernetes.io/config.mirror": "hash"}}
        made = self.object_of(self.ask("insert", "default/pod/static", body))
        self.assertEqual(made["spec"]["nodeName"], "edge-1")

    def test_a_deletion(self) -> None:
        """By options or, from old edges, by the bare uid; the edge hears OK."""
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": "uid-web"}}
        answer = self.ask("delete", "default/pod/web", options)
        self.assertEqual(read(answer), "OK")
        self.assertEqual(answer.route.resource, "node/edge-1/default/pod/web")
        self.assertIsNone(self.kube.peek(PODS, "default", "web"))
        self.kube.put(PODS, pod())
        self.assertEqual(read(self.ask("delete", "default/pod/web", "uid-web")), "OK")
        self.assertIsNone(self.kube.peek(PODS, "default", "web"))

    def test_a_deletion_that_comes_late(self) -> None:
        """Gone already, or replaced by another: that is success, and the new one stays."""
        self.assertEqual(read(self.ask("delete", "default/pod/gone", "uid-gone")), "OK")
        self.assertEqual(read(self.ask("delete", "default/pod/web", "uid-before")), "OK")
        self.assertIsNotNone(self.kube.peek(PODS, "default", "web"))

    def test_a_deletion_that_fails(self) -> None:
        """The edge hears why, and asks again."""
        self.kube.fail_next("delete", KubeError("no", code=500, reason="InternalError"))
        error = read(self.ask("delete", "default/pod/web", "uid-web"))["ErrStatus"]
        self.assertEqual((error["code"], error["reason"]), (500, "InternalError"))

    def test_the_old_status(self) -> None:
        """It is put in order: whole seconds, sorted containers, transitions that are true."""
        before = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        spec = {"initContainers": [{"name": "z"}, {"name": "a"}]}
        self.kube.put(PODS, {**pod(spec=spec), "status": {"conditions": [before]}})
        status = {
            "phase": "Running",
            "startTime": "2026-11-24T06:00:00.123Z",
            "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "x"},
                {"type": "Initialized", "status": "True"},
            ],
            "containerStatuses": [
                {"name": "b", "state": {"running": {"startedAt": "2026-11-24T06:00:00.5Z"}}},
                {"name": "a"},
            ],
            "initContainerStatuses": [{"name": "a"}, {"name": "z"}],
        }
        content = {"UID": "uid-web", "Name": "web", "Status": status}
        answer = self.ask("update", "default/podstatus/web", content)
        self.assertEqual(read(answer), "OK")
        self.assertEqual(answer.route.resource, "node/edge-1/default/podstatus/web")
        found = self.kube.peek(PODS, "default", "web")
        assert found is not None
        written = found["status"]
        self.assertEqual(written["startTime"], "2026-11-24T06:00:00Z")
        self.assertEqual(
            [each["lastTransitionTime"] for each in written["conditions"]],
            [before["lastTransitionTime"], NOW],
        )
        names = [each["name"] for each in written["containerStatuses"]]
        self.assertEqual(names, ["a", "b"])
        self.assertEqual(
            written["containerStatuses"][1]["state"]["running"]["startedAt"], "2026-11-24T06:00:00Z"
        )
        self.assertEqual([e["name"] for e in written["initContainerStatuses"]], ["z", "a"])

    def test_many_old_statuses(self) -> None:
        """A list is written pod by pod; those that are gone are told to the node."""
        reports = [
            {"UID": "uid-gone", "Name": "gone", "Status": {}},
            {"UID": "uid-web", "Name": "web", "Status": {"phase": "Running"}},
        ]
        answer = self.ask("update", "default/podstatus", reports)
        self.assertEqual(read(answer), "OK")
        self.assertEqual([m.route.operation for m in self.pushed], ["delete"])
        found = self.kube.peek(PODS, "default", "web")
        assert found is not None
        self.assertEqual(found["status"]["phase"], "Running")

    def test_an_old_status_that_ends_a_pod(self) -> None:
        """A pod that shall end and has ended is removed."""
        self.kube.delete(PODS, "default", "web")
        content = {"UID": "uid-web", "Status": {"phase": "Succeeded"}}
        self.assertEqual(read(self.ask("update", "default/podstatus/web", content)), "OK")
        self.assertIsNone(self.kube.peek(PODS, "default", "web"))


class QueryTests(EdgeControllerCase):
    def setUp(self) -> None:
        super().setUp()
        self.kube.put(NODES, node())
        spec = {
            "serviceAccountName": "robot",
            "volumes": [{"configMap": {"name": "app"}}, {"configMap": {"name": "none"}}],
        }
        self.kube.put(PODS, pod(spec=spec))
        self.kube.put(CONFIGMAPS, config_map(x="1"))
        self.kube.put(SECRETS, secret(x="MQ=="))
        self.kube.calls.clear()

    def test_what_a_pod_needs(self) -> None:
        """It comes from the cache, whole, with its version."""
        answer = self.ask("query", "default/configmap/app")
        content = read(answer)
        self.assertEqual((content["kind"], content["data"]), ("ConfigMap", {"x": "1"}))
        self.assertEqual(answer.route.operation, "response")
        self.assertEqual(answer.header.resource_version, content["metadata"]["resourceVersion"])
        self.assertEqual(self.kube.calls, [])

    def test_what_is_missing(self) -> None:
        """The answer is an error, which no edge takes for the object."""
        answer = self.ask("query", "default/configmap/none")
        self.assertEqual(answer.route.operation, "error")
        self.assertEqual(answer.route.group, "resource")
        self.assertEqual(read(answer), 'configmaps "none" not found')

    def test_what_no_pod_needs(self) -> None:
        """The API server decides whether the node may have it."""
        self.ask("query", "default/secret/key")
        (call,) = self.kube.calls
        self.assertEqual((call.verb, call.name, call.as_node), ("get", "key", "edge-1"))
        self.kube.fail_next("get", kube_error(403, "Forbidden", "no"))
        self.assertEqual(self.ask("query", "default/secret/key").route.operation, "error")

    def test_volumes(self) -> None:
        """Cluster-scoped objects are found whatever namespace the edge wrote."""
        self.kube.put(PERSISTENTVOLUMES, {"metadata": {"name": "pv"}, "spec": {}})
        answer = self.ask("query", "null/persistentvolume/pv")
        self.assertEqual(read(answer)["metadata"]["name"], "pv")
        for resource in ("default/volumeattachment/va", "default/persistentvolumeclaim/c"):
            self.assertEqual(self.ask("query", resource).route.operation, "error")

    def test_a_token(self) -> None:
        """A node gets tokens of the accounts that its pods use, and of no other."""
        for name in ("robot", "admin"):
            self.kube.put(SERVICEACCOUNTS, {"metadata": {"namespace": "default", "name": name}})
        pods_own = {"spec": {"boundObjectRef": {"kind": "Pod", "name": "web", "uid": "uid-web"}}}
        answer = self.ask("query", "default/serviceaccounttoken/robot", pods_own)
        self.assertEqual(read(answer)["kind"], "TokenRequest")
        self.assertTrue(read(answer)["status"]["token"])
        self.assertEqual(answer.header.resource_version, "")
        for name, asker in (("admin", "edge-1"), ("robot", "edge-2")):
            resource = f"default/serviceaccounttoken/{name}"
            answer = self.ask("query", resource, pods_own, node=asker)
            self.assertEqual(answer.route.operation, "error")
        self.assertEqual(len(self.kube.made("create")), 1)

    def test_a_signing_request(self) -> None:
        """Handed in, then looked at."""
        body = {"metadata": {"name": "csr-1"}, "spec": {"request": signing_request("edge-1")}}
        answer = self.ask("insert", "default/certificatesigningrequest/csr-1", body)
        self.assertEqual(self.object_of(answer)["kind"], "CertificateSigningRequest")
        self.assertIsNotNone(self.kube.peek(CSRS, "", "csr-1"))
        answer = self.ask("query", "default/certificatesigningrequest/csr-1")
        self.assertEqual(read(answer)["spec"], body["spec"])

    def test_unknown_words(self) -> None:
        """What nobody knows is answered, so that nobody waits for it."""
        for operation, resource in (
            ("query", "default/cronjob/x"),
            ("patch", "default/configmap/app"),
            ("query", "default/configmap"),
        ):
            self.assertEqual(self.ask(operation, resource).route.operation, "error")
        self.assertEqual(self.kube.calls, [])

    def test_resources_that_are_none(self) -> None:
        """They are dropped with a line in the log."""
        for resource in ("node/edge-1/x", "default/pod/web", "node/edge-1/a/b/c/d"):
            self.assertEqual(self.say(from_edge("query", resource)), [])


class EventTests(EdgeControllerCase):
    def event(self, **fields: Any) -> dict[str, Any]:
        about = {"kind": "Pod", "namespace": "default", "name": "web"}
        names = {"namespace": "default", "name": "e.1"}
        return {"metadata": names, "involvedObject": about, **fields}

    def tell(self, operation: str, content: Any) -> None:
        sent = self.say(from_edge(operation, "node/edge-1/default/event/e.1", content))
        self.assertEqual(sent, [])

    def count(self) -> Any:
        found = self.kube.peek(EVENTS, "default", "e.1")
        return found and found["count"]

    def test_events_are_written_and_not_answered(self) -> None:
        """Made, changed, patched; never an answer."""
        self.tell("insert", self.event(count=1))
        self.assertEqual(self.count(), 1)
        self.tell("update", self.event(count=2))
        self.assertEqual(self.count(), 2)
        self.tell("patch", {"event": self.event(), "patchData": '{"count": 3}'})
        self.assertEqual(self.count(), 3)

    def test_an_event_that_has_expired(self) -> None:
        """A count goes on from an event that is gone: it is written anew."""
        old = self.event(count=4)
        old["metadata"]["resourceVersion"] = "7"
        self.tell("patch", {"event": old, "patchData": '{"count": 4}'})
        self.assertEqual(self.count(), 4)

    def test_an_event_that_cannot_be_written(self) -> None:
        """Events are lost rather than waited for."""
        self.kube.fail_next("create", unreachable())
        self.tell("insert", self.event())
        self.tell("insert", "nonsense")
        self.tell("patch", {"event": {}, "patchData": 7})


class ImpersonationTests(EdgeControllerCase):
    impersonate = True

    def test_in_the_nodes_name(self) -> None:
        """The API server judges what a node may do; what only we may do we do ourselves."""
        body = {"metadata": {"name": "edge-1", "labels": {"node-role.kubernetes.io/edge": ""}}}
        self.ask("insert", "null/node/edge-1", body)
        self.ask("patch", "null/nodepatch/edge-1", "{}")
        calls = [(call.verb, call.subresource, call.as_node) for call in self.kube.calls]
        self.assertEqual(
            calls, [("create", "", "edge-1"), ("patch", "", ""), ("patch", "status", "edge-1")]
        )

    def test_an_event_is_looked_up_in_ours(self) -> None:
        """The API server lets nodes write events, and read none."""
        event = {"involvedObject": {"kind": "Node", "name": "edge-1"}}
        self.kube.put(EVENTS, {"metadata": {"namespace": "default", "name": "e.1"}, **event})
        body = {"event": event, "patchData": '{"count": 3}'}
        self.say(from_edge("patch", "node/edge-1/default/event/e.1", body))
        calls = [(call.verb, call.as_node) for call in self.kube.calls]
        self.assertEqual(calls, [("get", ""), ("patch", "edge-1")])


class OrderTests(EdgeControllerCase):
    def test_one_object_at_a_time(self) -> None:
        """Reports about one pod are written in order, those about others meanwhile."""
        self.kube.put(NODES, node())
        for name in ("a", "b"):
            self.kube.put(PODS, pod(name))
        self.kube.hold()
        for name in ("a", "a", "b"):
            body = {"metadata": {"uid": f"uid-{name}"}, "status": {"phase": "Running"}}
            message = from_edge("patch", f"node/edge-1/default/podpatch/{name}", body)
            self.assertEqual(self.say(message), [])
        self.assertEqual([call.name for call in self.kube.made("patch")], ["a", "b"])
        self.kube.release()
        self.assertEqual([call.name for call in self.kube.made("patch")], ["a", "b", "a"])
        self.assertEqual(len([m for m in self.bus.take() if m.header.parent_id]), 3)

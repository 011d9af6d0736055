"""A node speaks for itself: what EdgeController lets no node do, however it is asked."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import globalLogPublisher

from kubeedge_tx.api.resources import (
    CSRS,
    EVENTS,
    LEASES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    SECRETS,
    SERVICEACCOUNTS,
)
from kubeedge_tx.beehive.message import Message
from kubeedge_tx.cloud.cloudhub.admission import refusal
from kubeedge_tx.cloud.edgecontroller.pods import MAX_PODS
from tests.cloud.edgecontroller.rig import EdgeControllerCase
from tests.cloud.rig import from_edge, node, pod, read, secret
from tests.fakes.certificates import signing_request

MIRROR = {"kubernetes.io/config.mirror": "hash"}
PLANTED = "PLANTED-content"


class AuthorityCase(EdgeControllerCase):
    """Two nodes with a pod each; edge-1 is taken over."""

    def setUp(self) -> None:
        super().setUp()
        self.events: list[Any] = []
        note: Any = self.events.append
        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)
        for name in ("edge-1", "edge-2"):
            self.kube.put(NODES, node(name))
        self.kube.put(PODS, pod("web", spec={"serviceAccountName": "robot"}))
        self.kube.put(PODS, pod("other", "edge-2", spec={"serviceAccountName": "admin"}))
        self.kube.put(SECRETS, secret("key", x=PLANTED))
        self.kube.calls.clear()

    def denied(self, answer: Message, kind: str, reason: str) -> None:
        """Check that an answer is a refusal, counted, and logged once, without content."""
        content = read(answer)
        if answer.route.operation != "error":
            status = (content.get("Err") or content)["ErrStatus"]
            self.assertEqual((status["code"], status["reason"]), (403, "Forbidden"))
        self.noted(kind, reason)

    def noted(self, kind: str, reason: str) -> None:
        """Check that a denial was counted, and logged without content."""
        labels = f'kind="{kind}",reason="{reason}"'
        counter = f"kubeedge_denied_requests_total{{{labels}}} "
        self.assertIn(counter, self.metrics.text())
        texts = [str(event) for event in self.events]
        self.assertTrue(any(kind in text and reason in text for text in texts), texts)
        self.assertNotIn(PLANTED, "".join(texts))

    def changed(self) -> list[str]:
        """What was written to the cluster."""
        return [call.verb for call in self.kube.calls if call.verb != "get"]


class PodTests(AuthorityCase):
    """Pods of others are out of reach, and of unknown existence."""

    def test_no_oracle(self) -> None:
        """Without its uid, a pod of another node and no pod at all are refused in like words."""
        said = []
        for name in ("other", "none"):
            answer = self.ask("patch", f"default/podpatch/{name}", {"status": {}})
            self.denied(answer, "podpatch", "not-its-own")
            said.append(str(read(answer)).replace(name, "NAME"))
            answer = self.ask("delete", f"default/pod/{name}", {})
            self.denied(answer, "pod", "not-its-own")
            self.assertEqual(self.pushed, [])
        self.assertEqual(*said)
        guess = {"metadata": {"uid": "guessed"}, "status": {}}
        said = [
            str(
                read(self.ask("patch", f"default/podpatch/{name}", guess))["Err"]["ErrStatus"][
                    "code"
                ]
            )
            for name in ("other", "none")
        ]
        self.assertEqual(*said)
        self.assertEqual(self.changed(), [])

    def test_names_in_a_list(self) -> None:
        """The old form carries names in its content: they must be names, too."""
        for name in ("..", "../secrets/key", "a/b", "%2e%2e", "web?x=1", "WEB", "", "w\u0435b"):
            report = {"Name": name, "UID": "", "Status": {"phase": "Failed"}}
            self.denied(self.ask("update", "default/podstatus", [report]), "podstatus", "malformed")
        self.assertEqual(self.kube.calls, [])

    def test_a_mirror_pod_gets_nothing(self) -> None:
        """A node cannot write itself a pod that needs the Secrets of others."""
        env = [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "key", "key": "x"}}}]
        for spec in (
            {"volumes": [{"name": "v", "secret": {"secretName": "key"}}]},
            {"volumes": [{"name": "v", "configMap": {"name": "app"}}]},
            {"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "key"}}]}}]},
            {"volumes": [{"name": "v", "csi": {"nodePublishSecretRef": {"name": "key"}}}]},
            {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]},
            {"volumes": [{"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
            {"imagePullSecrets": [{"name": "key"}]},
            {"initContainers": [{"name": "i", "env": env}]},
            {"containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "key"}}]}]},
            {"serviceAccountName": "admin"},
            {"serviceAccount": "admin"},
            {"resourceClaims": [{"name": "r"}]},
        ):
            body = pod("mine", spec=spec)
            body["metadata"] = {"annotations": MIRROR}
            self.denied(self.ask("insert", "default/pod/mine", body), "pod", "not-for-nodes")
        body = pod("mine")
        body["metadata"] = {
            "annotations": MIRROR,
            "ownerReferences": [{"kind": "DaemonSet", "name": "x"}],
        }
        self.denied(self.ask("insert", "default/pod/mine", body), "pod", "not-for-nodes")
        self.denied(self.ask("insert", "default/pod/mine", pod("mine")), "pod", "not-for-nodes")
        foreign = pod("mine", "edge-2")
        foreign["metadata"] = {"annotations": MIRROR}
        self.denied(self.ask("insert", "default/pod/mine", foreign), "pod", "not-its-own")
        self.assertEqual(self.changed(), [])

    def test_mirror_pods_without_end(self) -> None:
        """A node that makes pods and pods comes to an end of it."""
        for number in range(MAX_PODS):
            self.kube.put(PODS, pod(f"p{number}"))
        body = pod("mine")
        body["metadata"] = {"annotations": MIRROR}
        self.denied(self.ask("insert", "default/pod/mine", body), "pod", "too-many")

    def test_a_mirror_pod_elsewhere(self) -> None:
        """Name and namespace are those that were asked for, whatever the pod says."""
        body = pod("mine")
        body["metadata"] = {"annotations": MIRROR, "name": "web", "namespace": "kube-system"}
        made = self.object_of(self.ask("insert", "default/pod/mine", body))["metadata"]
        self.assertEqual((made["namespace"], made["name"]), ("default", "mine"))

    def test_a_status_is_only_that(self) -> None:
        """Labels would make a pod another Service's; the API takes them with a status."""
        body = {
            "metadata": {"uid": "uid-web", "labels": {"app": "db"}, "finalizers": ["x"]},
            "spec": {"nodeName": "edge-2"},
            "status": {"phase": "Running"},
        }
        self.ask("patch", "default/podpatch/web", json.dumps(body))
        found = self.kube.peek(PODS, "default", "web") or {}
        self.assertEqual(found["status"]["phase"], "Running")
        self.assertNotIn("labels", found["metadata"])
        self.assertNotIn("finalizers", found["metadata"])
        self.assertEqual(found["spec"]["nodeName"], "edge-1")


class NodeTests(AuthorityCase):
    """A node says of itself what nodes may say."""

    WRONG = (
        "node-role.kubernetes.io/control-plane",
        "node-restriction.kubernetes.io/pci",
        "scheduling.k8s.io/anything",
    )

    def test_labels_that_draw_pods(self) -> None:
        """By registration, update or status, it gets no label that is for others to give."""
        wrong = dict.fromkeys(self.WRONG, "")
        right = {"rack": "7", "kubernetes.io/os": "linux", "node.kubernetes.io/x": "y"}
        about = {"labels": wrong | right, "ownerReferences": [{}], "finalizers": ["x"]}
        self.ask("update", "null/node/edge-1", {"metadata": about})
        self.ask("patch", "null/nodepatch/edge-1", {"metadata": about, "spec": {"taints": None}})
        self.ask("insert", "null/node/edge-3", {"metadata": about}, node="edge-3")
        self.assertEqual(
            self.error_of(self.ask("insert", "null/node/edge-1", {"metadata": about}))["code"], 409
        )
        for name in ("edge-1", "edge-3"):
            found = (self.kube.peek(NODES, "", name) or {})["metadata"]
            self.assertEqual(found["labels"]["rack"], "7")
            self.assertEqual(set(found["labels"]) & set(wrong), set())
            self.assertNotIn("finalizers", found)

    def test_whose_session_it_is(self) -> None:
        """The mark of who speaks for a node is the cloud's."""
        mark = {"kubeedge-tx.io/session": "mine"}
        about = {"metadata": {"annotations": mark}}
        self.ask("update", "null/node/edge-1", about)
        self.ask("patch", "null/nodepatch/edge-1", about)
        self.ask("update", "null/nodestatus/edge-1", {"ExtendResources": mark, "Status": {}})
        found = (self.kube.peek(NODES, "", "edge-1") or {})["metadata"]
        self.assertNotEqual((found.get("annotations") or {}).get(*mark), "mine")

    def test_a_lease_of_another_name(self) -> None:
        """What the content calls it makes no difference."""
        body = {"metadata": {"name": "edge-2", "namespace": "kube-system"}, "spec": {}}
        place = "kube-node-lease/lease/edge-1"
        made = self.object_of(self.ask("insert", place, body))["metadata"]
        self.assertEqual((made["namespace"], made["name"]), ("kube-node-lease", "edge-1"))
        self.assertIsNone(self.kube.peek(LEASES, "kube-node-lease", "edge-2"))


class QueryTests(AuthorityCase):
    """What no pod of the node uses is asked for in the node's own name, or not at all."""

    def test_in_the_nodes_name(self) -> None:
        """The API server judges; our own rights are not lent."""
        self.kube.put(PERSISTENTVOLUMECLAIMS, {"metadata": {"namespace": "default", "name": "c"}})
        for resource in (
            "default/secret/key",
            "default/configmap/app",
            "default/persistentvolumeclaim/c",
            "null/persistentvolume/pv",
            "default/volumeattachment/va",
            "default/service/s",
            "default/endpoints/s",
        ):
            self.kube.calls.clear()
            self.ask("query", resource)
            self.assertEqual([call.as_node for call in self.kube.calls], ["edge-1"], resource)

    def test_tokens_of_others(self) -> None:
        """A token is for a pod of the node that uses the account, by name and uid."""
        mirror = pod("mirror")
        mirror["metadata"]["annotations"] = MIRROR
        self.kube.put(PODS, mirror)
        for name in ("robot", "admin", "default"):
            self.kube.put(SERVICEACCOUNTS, {"metadata": {"namespace": "default", "name": name}})
        for account, bound, reason in (
            ("admin", {"kind": "Pod", "name": "other", "uid": "uid-other"}, "not-used"),
            ("admin", {"kind": "Pod", "name": "web", "uid": "uid-web"}, "not-used"),
            ("robot", {"kind": "Pod", "name": "web", "uid": "uid-old"}, "not-used"),
            ("default", {"kind": "Pod", "name": "mirror", "uid": "uid-mirror"}, "not-used"),
            ("robot", {"kind": "Secret", "name": "key", "uid": "x"}, "malformed"),
            ("robot", {"kind": "Pod", "name": ["web"], "uid": "uid-web"}, "malformed"),
            ("robot", None, "malformed"),
        ):
            content = {"spec": {"boundObjectRef": bound, "audiences": [PLANTED]}}
            answer = self.ask("query", f"default/serviceaccounttoken/{account}", content)
            self.denied(answer, "serviceaccounttoken", reason)
        self.assertEqual(self.changed(), [])

    def test_certificates_of_others(self) -> None:
        """A node asks for certificates of its own, and looks at no other's."""
        for request in (signing_request("edge-2"), "no base64", "bm8gY2VydGlmaWNhdGU=", 7, None):
            body = {"spec": {"request": request, "usages": [PLANTED]}}
            answer = self.ask("insert", "default/certificatesigningrequest/csr", body)
            self.denied(answer, "certificatesigningrequest", "not-its-own")
        self.assertEqual(self.changed(), [])
        self.kube.put(
            CSRS, {"metadata": {"name": "theirs"}, "spec": {"request": signing_request("edge-2")}}
        )
        said = [
            read(self.ask("query", f"default/certificatesigningrequest/{name}")).replace(
                name, "NAME"
            )
            for name in ("theirs", "none")
        ]
        self.assertEqual(*said)
        self.noted("certificatesigningrequest", "not-its-own")


class EventTests(AuthorityCase):
    """Events are about the node and its pods, told by itself."""

    def tell(self, operation: str, content: Any, name: str = "e.1") -> None:
        sent = self.say(from_edge(operation, f"node/edge-1/default/event/{name}", content))
        self.assertEqual(sent, [])

    def about(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        return {"involvedObject": {"kind": kind, "name": name, "namespace": namespace}}

    def test_about_others(self) -> None:
        """Another node, another node's pod, what is no node's at all, and who told it."""
        for event in (
            self.about("Node", "edge-2"),
            self.about("Pod", "other"),
            self.about("Pod", "web", "kube-system"),
            self.about("Deployment", "web"),
            {"involvedObject": None},
            {},
        ):
            self.tell("insert", {**event, "message": PLANTED})
            self.tell("patch", {"event": event, "patchData": "{}"})
        self.noted("event", "not-its-own")
        self.assertEqual(self.changed(), [])
        self.tell("insert", {**self.about("Pod", "web"), "source": {"host": "edge-2"}})
        found = self.kube.peek(EVENTS, "default", "e.1") or {}
        self.assertEqual(found["source"]["host"], "edge-1")

    def test_events_of_others(self) -> None:
        """One that is there already is left alone if it is another node's."""
        theirs = {"metadata": {"namespace": "default", "name": "e.2"}, **self.about("Pod", "other")}
        self.kube.put(EVENTS, theirs)
        mine = self.about("Pod", "web")
        self.tell("update", {**mine, "message": "gone"}, "e.2")
        self.tell("patch", {"event": mine, "patchData": '{"message": "gone"}'}, "e.2")
        self.noted("event", "not-its-own")
        self.assertNotIn("message", self.kube.peek(EVENTS, "default", "e.2") or {})

    def test_a_large_one(self) -> None:
        """The cluster keeps Events: they are short."""
        self.tell("insert", {**self.about("Pod", "web"), "message": PLANTED * 1000})
        self.noted("event", "too-large")
        self.assertEqual(self.changed(), [])

    def test_a_patch_counts(self) -> None:
        """It does not say whom the event is about."""
        self.tell("insert", self.about("Pod", "web"))
        patch = {"count": 2, **self.about("Pod", "other"), "source": {"host": "edge-2"}}
        self.tell("patch", {"event": {}, "patchData": json.dumps(patch)})
        found = self.kube.peek(EVENTS, "default", "e.1") or {}
        self.assertEqual((found["count"], found["involvedObject"]["name"]), (2, "web"))
        self.assertEqual(found["source"]["host"], "edge-1")


VERBS = (
    *(("insert", kind) for kind in ("node", "nodestatus", "pod", "pod", "lease", "event")),
    *(("update", kind) for kind in ("node", "nodestatus", "podstatus", "lease", "event")),
    *(("patch", kind) for kind in ("nodepatch", "podpatch", "event")),
    *(("delete", kind) for kind in ("pod", "node", "lease")),
    *(
        ("query", kind)
        for kind in ("node", "secret", "configmap", "persistentvolumeclaim", "lease")
    ),
    *(("query", kind) for kind in ("serviceaccounttoken", "certificatesigningrequest", "service")),
    *(("insert", "certificatesigningrequest"), ("upload", "secret"), ("x", "device")),
)
NAMES = ("edge-1", "edge-2", "web", "other", "other", "key", "e.2", "e.2", "..", "")
UIDS = ("uid-web", "uid-other", "")


@st.composite
def contents(draw: st.DrawFn) -> Any:
    """What a node may put into a message: parts that mean something, in any order."""
    name, uid = draw(st.sampled_from(NAMES)), draw(st.sampled_from(UIDS))
    kind = draw(st.sampled_from(("Pod", "Node", "Secret")))
    where = draw(st.sampled_from(("default", "kube-system", "kube-node-lease")))
    about = {"name": name, "namespace": where, "uid": uid, "labels": {"app": "db"}}
    own = {"kind": "Pod", "name": "web", "namespace": "default"}
    involved = draw(st.sampled_from((own, {"kind": kind, "name": name, "namespace": where})))
    parts = {
        "metadata": about | draw(st.sampled_from(({}, {"annotations": MIRROR}))),
        "spec": {
            "nodeName": draw(st.sampled_from(("edge-1", "edge-2"))),
            "boundObjectRef": {"kind": kind, "name": name, "uid": uid},
            "volumes": [{"secret": {"secretName": "key"}}],
        },
        "status": {"phase": "Failed"},
        "Name": name,
        "UID": uid,
        "Status": {"phase": "Failed"},
        "preconditions": {"uid": uid},
        "involvedObject": involved,
        "patchData": '{"message": "gone"}',
        "event": {"involvedObject": involved},
    }
    missing = draw(st.lists(st.sampled_from(sorted(parts)), max_size=2))
    chosen = {key: part for key, part in parts.items() if key not in missing}
    return draw(st.sampled_from((chosen, chosen, json.dumps(chosen), [chosen], uid, None)))


class AnythingTests(AuthorityCase):
    """Whatever a node says, in whatever form."""

    @given(
        st.sampled_from(VERBS),
        st.sampled_from(("default", "default", "default", "kube-node-lease", "null")),
        st.sampled_from(NAMES),
        contents(),
    )
    @settings(max_examples=300, deadline=None)
    def test_nothing_of_others(
        self, verb: tuple[str, str], namespace: str, name: str, content: Any
    ) -> None:
        """What is another node's stays as it was, and our own rights are lent for no Secret."""
        operation, kind = verb
        lease: dict[str, Any] = {
            "metadata": {"namespace": "kube-node-lease", "name": "edge-2"},
            "spec": {},
        }
        event: dict[str, Any] = {
            "metadata": {"namespace": "default", "name": "e.2"},
            "involvedObject": {"kind": "Pod", "namespace": "default", "name": "other"},
            "message": "theirs",
        }
        for kind_of, obj in (
            (LEASES, lease),
            (EVENTS, event),
            (PODS, pod("web", spec={"serviceAccountName": "robot"})),
            (PODS, pod("other", "edge-2")),
        ):
            self.kube.put(kind_of, obj)
        theirs = (
            (NODES, "", "edge-2"),
            (PODS, "default", "other"),
            (SECRETS, "default", "key"),
            (LEASES, "kube-node-lease", "edge-2"),
            (EVENTS, "default", "e.2"),
        )
        before = [self.kube.peek(*each) for each in theirs]
        self.kube.calls.clear()
        resource = f"{namespace}/{kind}/{name}" if name else f"{namespace}/{kind}"
        message = from_edge(operation, resource, content)
        if refusal("edge-1", message) is None:
            self.say(from_edge(operation, f"node/edge-1/{resource}", content))
        self.assertEqual([self.kube.peek(*each) for each in theirs], before)
        for call in self.kube.calls:
            if call.as_node == "":
                self.assertNotIn(call.kind, (SECRETS, CSRS, PERSISTENTVOLUMECLAIMS), call)
            if call.kind is NODES:
                self.assertEqual(call.name or "edge-1", "edge-1")
        for each in self.kube.all(PODS):
            self.assertNotIn("secretName", str(each["spec"]))
        self.assertNotIn("labels", (self.kube.peek(PODS, "default", "web") or each)["metadata"])

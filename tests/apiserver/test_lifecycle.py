from __future__ import annotations

import base64
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from twisted.internet.defer import gatherResults

from kubeedge_tx.apiserver.store import ObjectStore
from kubeedge_tx.config.cloudcore import ApiServer
from tests.apiserver.running import ServerCase

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def pod(name: str, **spec: Any) -> dict[str, Any]:
    """A pod with one container."""
    containers = [{"name": "c", "image": "busybox"}]
    return {"metadata": {"name": name}, "spec": {"containers": containers, **spec}}


def crd(**version: Any) -> dict[str, Any]:
    """A definition of widgets."""
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {"size": {"type": "integer", "minimum": 1}},
            },
            "status": {"type": "object", "properties": {"phase": {"type": "string"}}},
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {
                "plural": "widgets",
                "singular": "widget",
                "kind": "Widget",
                "listKind": "WidgetList",
                "shortNames": ["wd"],
            },
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                    **version,
                }
            ],
        },
    }


class RequestTests(ServerCase):
    """Requests that are not as they should be get a clear answer, and change nothing."""

    async def refused(self, code: int, method: str, path: str, body: Any = None, **h: str) -> str:
        reply = await self.client.ask(method, path, body, **h)
        self.assertEqual(
            (reply.code, reply.json["kind"], reply.json["code"]), (code, "Status", code)
        )
        return str(reply.json["message"])

    async def test_bodies(self) -> None:
        """Garbage, nesting without end, wrong kinds and sizes are refused by name."""
        before = (await self.client.get(MAPS))["metadata"]["resourceVersion"]
        await self.refused(400, "POST", MAPS, b"{")
        await self.refused(400, "POST", MAPS, b'{"metadata": {"name": "\xff"}}')
        await self.refused(400, "POST", MAPS, b"[" * 100_000)
        await self.refused(400, "POST", MAPS, b'{"data": %s1%s}' % (b"[" * 700, b"]" * 700))
        await self.refused(400, "POST", MAPS, b"[1]")
        await self.refused(400, "POST", MAPS, b'{"metadata": {"name": "a"}, "data": NaN}')
        await self.refused(400, "POST", MAPS, {"metadata": {"name": 7}})
        await self.refused(400, "POST", MAPS, {"metadata": "a"})
        await self.refused(400, "POST", MAPS, {"apiVersion": "v2", "metadata": {"name": "a"}})
        await self.refused(400, "POST", MAPS, b"a: [", content_type="application/yaml")
        bomb = "a0: &a0 [x]\n" + "".join(
            f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 20)}]\n" for n in range(1, 8)
        )
        await self.refused(400, "POST", MAPS, bomb.encode(), content_type="application/yaml")
        await self.refused(400, "POST", MAPS, b"a: .nan", content_type="application/yaml")
        await self.refused(
            400,
            "POST",
            MAPS,
            b"k8s\x00\xff\xff",
            content_type="application/vnd.kubernetes.protobuf",
        )
        await self.refused(415, "POST", MAPS, b"<a/>", content_type="application/xml")
        await self.refused(413, "POST", MAPS, {"data": {"a": "x" * (3 << 20)}})
        await self.refused(406, "GET", MAPS, accept="application/vnd.kubernetes.protobuf")
        after = (await self.client.get(MAPS))["metadata"]["resourceVersion"]
        self.assertEqual(before, after)

    async def test_what_would_reach_into_an_edge(self) -> None:
        """`kubectl logs` and the like say that they do not, and what does instead."""
        self.assertEqual(
            await self.refused(501, "GET", f"{PODS}/p/log"),
            "log does not reach into edge nodes: on its node, keadm ctl logs -n default p",
        )
        for subresource in ("exec", "attach", "portforward", "proxy"):
            await self.refused(501, "POST", f"{PODS}/p/{subresource}")

    async def test_paths(self) -> None:
        """What is not served is 404 or 405, never 500."""
        for path in (
            "/api/v2/pods",
            "/apis/apps/v1/deployments",
            f"{PODS}/p/nosuch",
            "/nosuch",
            "/api/v1/namespaces//pods",
            "/api/v1/pods/p",
            "/apis/nosuch",
            "/%00",
        ):
            await self.refused(404, "GET", path)
        await self.refused(404, "GET", f"{PODS}/p")
        for method, path in (
            ("PUT", MAPS),
            ("PATCH", MAPS),
            ("POST", f"{MAPS}/a"),
            ("POST", "/api/v1/pods"),
            ("DELETE", "/version"),
            ("DELETE", "/api/v1/namespaces"),
            ("GET", "/apis/authentication.k8s.io/v1/tokenreviews"),
        ):
            await self.refused(405, method, path)

    async def test_options(self) -> None:
        """Options that cannot be understood are refused."""
        await self.refused(400, "GET", f"{MAPS}?limit=many")
        await self.refused(400, "GET", f"{MAPS}?continue=nonsense")
        await self.refused(400, "GET", f"{MAPS}?resourceVersion=abc")
        await self.refused(504, "GET", f"{MAPS}?resourceVersion=99999")
        await self.refused(422, "POST", f"{MAPS}?dryRun=Some", {"metadata": {"name": "a"}})
        await self.refused(422, "POST", f"{MAPS}?fieldValidation=Hard", {"metadata": {"name": "a"}})
        await self.refused(422, "DELETE", f"{MAPS}/kube-root-ca.crt?propagationPolicy=Never")
        await self.refused(404, "GET", f"{MAPS}/a")

    async def test_overload(self) -> None:
        """When the disk cannot follow, writers are told to come back; readers are served."""
        self.patch(ObjectStore, "backlog", ApiServer().write_backlog + 1)
        reply = await self.client.ask("POST", MAPS, {"metadata": {"name": "a"}})
        self.assertEqual((reply.code, reply.json["reason"]), (429, "TooManyRequests"))
        self.assertEqual(reply.header("retry-after"), "1")
        self.assertEqual((await self.client.ask("GET", MAPS)).code, 200)

    async def test_no_content_in_errors(self) -> None:
        """A secret that cannot be read is not repeated in the answer."""
        secrets = "/api/v1/namespaces/default/secrets"
        body = b'{"metadata": {"name": "s"}, "stringData": {"password": "hunter2"'
        self.assertNotIn("hunter2", await self.refused(400, "POST", secrets, body))

    async def test_unknown_and_duplicate_fields(self) -> None:
        """Strict refuses them, Warn warns, Ignore is silent; nothing of them is kept."""
        body = b'{"metadata": {"name": "a"}, "data": {"k": "1", "k": "2"}, "dada": {}}'
        path = f"{MAPS}?dryRun=All&fieldValidation="
        why = await self.refused(400, "POST", path + "Strict", body)
        self.assertIn('unknown field "dada"', why)
        self.assertIn('duplicate field "data.k"', why)
        warned = await self.client.ask("POST", path + "Warn", body)
        self.assertIn('299 - "unknown field \\"dada\\""', warned.header("warning"))
        self.assertIn('299 - "duplicate field \\"data.k\\""', warned.header("warning"))
        self.assertNotIn("dada", warned.json)
        ignored = await self.client.ask("POST", path + "Ignore", body)
        self.assertEqual((ignored.code, ignored.header("warning")), (201, ""))


class ObjectTests(ServerCase):
    """Objects live and die as on a real cluster."""

    async def test_concurrent_writers(self) -> None:
        """Of writers that read the same version, one wins and the others are told."""
        made = await self.client.post(MAPS, {"metadata": {"name": "a"}})
        replies = await gatherResults(
            [
                self.deferred(
                    self.client.ask("PUT", f"{MAPS}/a", {**made, "data": {"by": str(number)}})
                )
                for number in range(10)
            ]
        )
        self.assertEqual(sorted(reply.code for reply in replies), [200] + [409] * 9)

    async def test_concurrent_patches(self) -> None:
        """Patches without a version never conflict, and none is lost."""
        await self.client.post(MAPS, {"metadata": {"name": "a"}})
        await gatherResults(
            [
                self.deferred(self.client.patch(f"{MAPS}/a", {"data": {str(number): "x"}}))
                for number in range(20)
            ]
        )
        found = await self.client.get(f"{MAPS}/a")
        self.assertEqual(len(found["data"]), 20)

    async def test_nothing_changed(self) -> None:
        """Writing what is there already makes no new version and no event."""
        made = await self.client.post(MAPS, {"metadata": {"name": "a"}, "data": {"k": "v"}})
        again = await self.client.patch(f"{MAPS}/a", {"data": {"k": "v"}})
        put = await self.client.ask("PUT", f"{MAPS}/a", made)
        self.assertEqual(made, again)
        self.assertEqual(made, put.json)

    async def test_yaml(self) -> None:
        """YAML is read, and written if asked for; dates stay text, keys become text."""
        text = b"metadata: {name: y}\ndata:\n  day: 2026-11-24\n  yes: 'on'\n"
        reply = await self.client.ask("POST", MAPS, text, content_type="application/yaml")
        self.assertEqual(reply.code, 201)
        self.assertEqual(reply.json["data"], {"day": "2026-11-24", "true": "on"})
        reply = await self.client.ask("GET", f"{MAPS}/y", accept="application/yaml")
        self.assertIn(b"day: '2026-11-24'", reply.text)

    async def test_pages_are_of_one_moment(self) -> None:
        """A list in chunks shows the state of its first chunk, whatever happens meanwhile."""
        for number in range(5):
            await self.client.post(MAPS, {"metadata": {"name": f"a{number}"}})
        first = await self.client.get(f"{MAPS}?limit=2")
        await self.client.ask("DELETE", f"{MAPS}/a3")
        await self.client.post(MAPS, {"metadata": {"name": "a9"}})
        await self.client.patch(f"{MAPS}/a4", {"data": {"new": "1"}})
        rest = await self.client.get(f"{MAPS}?continue={first['metadata']['continue']}")
        names = [item["metadata"]["name"] for item in first["items"] + rest["items"]]
        self.assertEqual(names, ["a0", "a1", "a2", "a3", "a4", "kube-root-ca.crt"])
        self.assertNotIn("data", rest["items"][2])
        self.assertEqual(first["metadata"]["resourceVersion"], rest["metadata"]["resourceVersion"])

    async def test_exact_version(self) -> None:
        """A list of an exact version shows that version; after a restart it is gone."""
        made = await self.client.post(MAPS, {"metadata": {"name": "a"}})
        await self.client.ask("DELETE", f"{MAPS}/a")
        version = made["metadata"]["resourceVersion"]
        path = f"{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact"
        names = [i["metadata"]["name"] for i in (await self.client.get(path))["items"]]
        self.assertEqual(names, ["a", "kube-root-ca.crt"])
        await self.restart()
        reply = await self.client.ask("GET", path)
        self.assertEqual((reply.code, reply.json["reason"]), (410, "Expired"))

    async def test_finalizers(self) -> None:
        """An object with a finalizer waits for it, takes no new one, and then goes."""
        await self.client.post(
            MAPS, {"metadata": {"name": "a", "finalizers": ["example.com/one", "example.com/two"]}}
        )
        first = await self.client.ask("DELETE", f"{MAPS}/a")
        again = await self.client.ask("DELETE", f"{MAPS}/a")
        self.assertEqual(first.json, again.json)
        reply = await self.client.ask(
            "PATCH",
            f"{MAPS}/a",
            {"metadata": {"finalizers": ["example.com/one", "example.com/three"]}},
            content_type="application/merge-patch+json",
        )
        self.assertEqual(reply.code, 422)
        await self.client.patch(f"{MAPS}/a", {"metadata": {"finalizers": ["example.com/one"]}})
        self.assertEqual((await self.client.ask("GET", f"{MAPS}/a")).code, 200)
        await self.client.patch(f"{MAPS}/a", {"metadata": {"finalizers": None}})
        self.assertEqual((await self.client.ask("GET", f"{MAPS}/a")).code, 404)

    async def test_pod_deletion(self) -> None:
        """A pod on a node stays until the node says it is gone; one without goes at once."""
        await self.client.post(PODS, pod("free"))
        gone = await self.client.ask("DELETE", f"{PODS}/free")
        self.assertEqual(gone.json["metadata"]["deletionGracePeriodSeconds"], 0)
        self.assertEqual((await self.client.ask("GET", f"{PODS}/free")).code, 404)

        await self.client.post(PODS, pod("bound", nodeName="n", terminationGracePeriodSeconds=50))
        marked = (await self.client.ask("DELETE", f"{PODS}/bound")).json["metadata"]
        self.assertEqual(marked["deletionGracePeriodSeconds"], 50)
        longer = (
            await self.client.ask("DELETE", f"{PODS}/bound", {"gracePeriodSeconds": 70})
        ).json["metadata"]
        self.assertEqual(longer["deletionTimestamp"], marked["deletionTimestamp"])
        shorter = (await self.client.ask("DELETE", f"{PODS}/bound?gracePeriodSeconds=5")).json
        self.assertEqual(shorter["metadata"]["deletionGracePeriodSeconds"], 5)
        self.assertLess(shorter["metadata"]["deletionTimestamp"], marked["deletionTimestamp"])
        status = {"status": {"phase": "Running"}}
        self.assertEqual(
            (await self.client.patch(f"{PODS}/bound/status", status))["status"]["phase"], "Running"
        )
        await self.client.ask("DELETE", f"{PODS}/bound", {"gracePeriodSeconds": 0})
        self.assertEqual((await self.client.ask("GET", f"{PODS}/bound")).code, 404)

    async def test_finished_pod(self) -> None:
        """A pod that has ended needs no grace."""
        await self.client.post(PODS, pod("p", nodeName="n"))
        await self.client.patch(f"{PODS}/p/status", {"status": {"phase": "Succeeded"}})
        await self.client.ask("DELETE", f"{PODS}/p")
        self.assertEqual((await self.client.ask("GET", f"{PODS}/p")).code, 404)

    async def test_preconditions(self) -> None:
        """A delete that names another uid or version deletes nothing."""
        await self.client.post(MAPS, {"metadata": {"name": "a"}})
        for condition in ({"uid": "other"}, {"resourceVersion": "1"}):
            reply = await self.client.ask("DELETE", f"{MAPS}/a", {"preconditions": condition})
            self.assertEqual((reply.code, reply.json["reason"]), (409, "Conflict"))
        self.assertEqual((await self.client.ask("GET", f"{MAPS}/a")).code, 200)

    async def test_dry_run(self) -> None:
        """A dry run answers as if, and stores nothing."""
        await self.client.post(MAPS, {"metadata": {"name": "a"}})
        await self.client.post(PODS, pod("p"))
        version = (await self.client.get(MAPS))["metadata"]["resourceVersion"]
        for method, path, body, kind in (
            ("POST", MAPS, {"metadata": {"name": "b"}}, "application/json"),
            ("PATCH", f"{MAPS}/a", {"data": {"k": "v"}}, "application/merge-patch+json"),
            ("PUT", f"{MAPS}/a", {"metadata": {"name": "a"}}, "application/json"),
            ("DELETE", f"{MAPS}/a", None, "application/json"),
            ("POST", f"{PODS}/p/binding", {"target": {"name": "n"}}, "application/json"),
            ("DELETE", PODS, None, "application/json"),
        ):
            reply = await self.client.ask(method, f"{path}?dryRun=All", body, content_type=kind)
            self.assertIn(reply.code, (200, 201), (method, path, reply.text))
        status = await self.client.get(f"{PODS}/p")
        self.assertNotIn("nodeName", status["spec"])
        now = await self.client.get(MAPS)
        self.assertEqual([i["metadata"]["name"] for i in now["items"]], ["a", "kube-root-ca.crt"])
        self.assertLessEqual(int(version), int(now["metadata"]["resourceVersion"]))

    async def test_eviction(self) -> None:
        """An eviction is a deletion with the pod's grace."""
        await self.client.post(PODS, pod("p", nodeName="n"))
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
        await self.client.post(f"{PODS}/p/eviction", body)
        found = await self.client.get(f"{PODS}/p")
        self.assertEqual(found["metadata"]["deletionGracePeriodSeconds"], 30)

    async def test_restart(self) -> None:
        """After a restart everything is there, tokens are good, and versions go on."""
        made = await self.client.post(MAPS, {"metadata": {"name": "a"}, "data": {"k": "ü"}})
        token = self.client.token
        await self.restart()
        self.assertEqual(self.client.token, token)
        self.assertEqual(await self.client.get(f"{MAPS}/a"), made)
        after = await self.client.post(MAPS, {"metadata": {"name": "b"}})
        self.assertGreater(
            int(after["metadata"]["resourceVersion"]), int(made["metadata"]["resourceVersion"])
        )


class NamespaceTests(ServerCase):
    """Namespaces hold things, and take them along when they go."""

    async def test_from_the_start(self) -> None:
        """The usual namespaces are there, each with its account and root certificate."""
        found = await self.client.get("/api/v1/namespaces")
        names = [item["metadata"]["name"] for item in found["items"]]
        self.assertEqual(names, ["default", "kube-node-lease", "kube-public", "kube-system"])
        await self.client.get("/api/v1/namespaces/kube-system/serviceaccounts/default")
        ca = await self.client.get(f"{MAPS}/kube-root-ca.crt")
        self.assertIn("BEGIN CERTIFICATE", ca["data"]["ca.crt"])
        service = await self.client.get("/api/v1/namespaces/default/services/kubernetes")
        self.assertEqual(service["spec"]["clusterIP"], "10.96.0.1")

    async def test_new(self) -> None:
        """A new namespace gets them too; one that is not there takes nothing."""
        await self.client.post("/api/v1/namespaces", {"metadata": {"name": "n"}})
        path = "/api/v1/namespaces/n/serviceaccounts/default"
        await self.until(path, lambda reply: reply.code == 200)
        reply = await self.client.ask(
            "POST", "/api/v1/namespaces/nope/configmaps", {"metadata": {"name": "a"}}
        )
        self.assertEqual((reply.code, reply.json["message"]), (404, 'namespaces "nope" not found'))

    async def test_end(self) -> None:
        """Deleting a namespace deletes what is inside, and waits for pods on nodes."""
        inside = "/api/v1/namespaces/n"
        await self.client.post("/api/v1/namespaces", {"metadata": {"name": "n"}})
        await self.client.post(f"{inside}/configmaps", {"metadata": {"name": "a"}})
        await self.client.post("/api/v1/nodes", {"metadata": {"name": "edge-1"}})
        await self.client.post(f"{inside}/pods", pod("p", nodeName="edge-1"))
        reply = await self.client.ask("DELETE", inside)
        self.assertEqual(reply.json["status"]["phase"], "Terminating")
        await self.until(f"{inside}/configmaps", lambda r: not r.json["items"])
        found = await self.client.get(f"{inside}/pods/p")
        self.assertIn("deletionTimestamp", found["metadata"])
        self.assertEqual((await self.client.ask("DELETE", inside)).code, 409)
        await self.client.ask("DELETE", f"{inside}/pods/p", {"gracePeriodSeconds": 0})
        await self.until(inside, lambda r: r.code == 404)

    async def test_protected(self) -> None:
        """The namespaces of the system cannot be deleted."""
        reply = await self.client.ask("DELETE", "/api/v1/namespaces/default")
        self.assertEqual(reply.code, 403)


class DefinitionTests(ServerCase):
    """A definition is served at once, validated, and removed with its objects."""

    things = "/apis/example.com/v1/namespaces/default/widgets"

    async def test_life(self) -> None:
        """From discovery to the last object."""
        made = await self.client.post(CRDS, crd())
        conditions = {c["type"]: c["status"] for c in made["status"]["conditions"]}
        self.assertEqual(conditions, {"NamesAccepted": "True", "Established": "True"})
        self.assertEqual(made["status"]["storedVersions"], ["v1"])
        found = await self.client.get("/apis/example.com/v1")
        self.assertEqual(
            [(r["name"], r.get("shortNames")) for r in found["resources"]],
            [("widgets", ["wd"]), ("widgets/status", None)],
        )
        reply = await self.client.ask(
            "POST", self.things, {"metadata": {"name": "w"}, "spec": {"size": 0}}
        )
        self.assertEqual(
            (reply.code, reply.json["details"]["causes"][0]["field"]), (422, "spec.size")
        )
        made = await self.client.post(
            self.things,
            {"metadata": {"name": "w"}, "spec": {"size": 1, "x": 1}, "status": {"phase": "no"}},
        )
        self.assertEqual((made["spec"], made.get("status")), ({"size": 1}, None))
        self.assertEqual(made["metadata"]["generation"], 1)
        made = await self.client.patch(
            f"{self.things}/w/status", {"status": {"phase": "Up"}, "spec": {"size": 9}}
        )
        self.assertEqual((made["spec"]["size"], made["status"]["phase"]), (1, "Up"))
        self.assertEqual(made["metadata"]["generation"], 1)
        made = await self.client.patch(f"{self.things}/w", {"spec": {"size": 2}, "status": None})
        self.assertEqual((made["metadata"]["generation"], made["status"]), (2, {"phase": "Up"}))
        no_version = {"metadata": {"name": "w"}, "spec": {"size": 3}}
        self.assertEqual((await self.client.ask("PUT", f"{self.things}/w", no_version)).code, 422)
        listed = await self.client.get(self.things)
        self.assertEqual((listed["kind"], listed["items"][0]["kind"]), ("WidgetList", "Widget"))
        strategic = await self.client.ask(
            "PATCH",
            f"{self.things}/w",
            {},
            content_type="application/strategic-merge-patch+json",
        )
        self.assertEqual(strategic.code, 415)

        await self.client.ask("DELETE", f"{CRDS}/widgets.example.com")
        await self.until(f"{CRDS}/widgets.example.com", lambda r: r.code == 404)
        self.assertEqual((await self.client.ask("GET", self.things)).code, 404)
        await self.client.post(CRDS, crd())
        self.assertEqual((await self.client.get(self.things))["items"], [])

    async def test_versions(self) -> None:
        """One object is served in every version; restarting keeps definitions."""
        both = crd()
        (first,) = both["spec"]["versions"]
        both["spec"]["versions"].append({**first, "name": "v1beta1", "storage": False})
        await self.client.post(CRDS, both)
        old = self.things.replace("/v1/", "/v1beta1/")
        made = await self.client.post(old, {"metadata": {"name": "w"}, "spec": {"size": 1}})
        self.assertEqual(made["apiVersion"], "example.com/v1beta1")
        await self.restart()
        self.assertEqual(
            (await self.client.get(f"{self.things}/w"))["apiVersion"], "example.com/v1"
        )
        for path, version in ((old, "v1beta1"), (self.things, "v1")):
            listed = await self.client.get(path)
            self.assertEqual(listed["apiVersion"], f"example.com/{version}")
            self.assertEqual(listed["items"][0]["apiVersion"], f"example.com/{version}")
        group = await self.client.get("/apis/example.com")
        self.assertEqual(group["preferredVersion"]["version"], "v1")

    async def test_bad_definition(self) -> None:
        """A definition that makes no sense is refused with its field."""
        bad = crd()
        bad["metadata"]["name"] = "gadgets.example.com"
        reply = await self.client.ask("POST", CRDS, bad)
        self.assertEqual((reply.code, reply.json["reason"]), (422, "Invalid"))


class ServiceTests(ServerCase):
    """Services get addresses, each its own."""

    async def test_addresses(self) -> None:
        path = "/api/v1/namespaces/default/services"
        spec = {"ports": [{"port": 80}]}
        replies = await gatherResults(
            [
                self.deferred(
                    self.client.post(path, {"metadata": {"name": f"s{number}"}, "spec": spec})
                )
                for number in range(5)
            ]
        )
        addresses = {reply["spec"]["clusterIP"] for reply in replies}
        self.assertEqual(len(addresses), 5)
        taken = {"metadata": {"name": "t"}, "spec": {**spec, "clusterIP": "10.96.0.1"}}
        self.assertEqual((await self.client.ask("POST", path, taken)).code, 422)
        headless = {"metadata": {"name": "h"}, "spec": {**spec, "clusterIP": "None"}}
        self.assertEqual((await self.client.post(path, headless))["spec"]["clusterIP"], "None")
        changed = await self.client.patch(f"{path}/s0", {"spec": {"type": "NodePort"}})
        self.assertEqual(changed["spec"]["ports"][0]["nodePort"], 30000)
        self.assertEqual(changed["spec"]["clusterIP"], replies[0]["spec"]["clusterIP"])


class CertificateTests(ServerCase):
    """Certificate requests keep who asked, and approval and issue apart."""

    async def test_request(self) -> None:
        path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
        made = await self.client.post(
            path,
            {
                "metadata": {"name": "r"},
                "spec": {
                    "request": REQUEST,
                    "signerName": "kubernetes.io/kube-apiserver-client",
                    "usages": ["client auth"],
                    "username": "somebody-else",
                },
            },
        )
        self.assertEqual(made["spec"]["username"], "kubernetes-admin")
        approved = {"type": "Approved", "status": "True", "reason": "Test", "message": "ok"}
        made["status"] = {"conditions": [approved], "certificate": "bm8="}
        reply = await self.client.ask("PUT", f"{path}/r/approval", made)
        self.assertEqual(reply.code, 200, reply.text)
        self.assertEqual(reply.json["status"]["conditions"][0]["type"], "Approved")
        self.assertNotIn("certificate", reply.json["status"])
        issued = await self.client.patch(f"{path}/r/status", {"status": {"certificate": "bm8="}})
        self.assertEqual(issued["status"]["certificate"], "bm8=")
        self.assertEqual(issued["status"]["conditions"][0]["type"], "Approved")


def _request() -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "robot")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    request = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return base64.b64encode(request.public_bytes(Encoding.PEM)).decode()


REQUEST = _request()

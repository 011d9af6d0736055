from __future__ import annotations

import stat
from typing import Any

import jwt

from tests.apiserver.running import Client, ServerCase

PODS = "/api/v1/namespaces/default/pods"
ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


class TokenTests(ServerCase):
    """Who has no good token gets nothing."""

    async def code(self, client: Client, path: str = PODS, method: str = "GET") -> int:
        return (await client.ask(method, path)).code

    async def test_unknown(self) -> None:
        """No token and a wrong token are 401; health and version are for everybody."""
        for token in ("", "nonsense", "a.b.c"):
            client = self.make_client(token)
            reply = await client.ask("GET", PODS)
            self.assertEqual((reply.code, reply.json["reason"]), (401, "Unauthorized"))
            self.assertEqual(await self.code(client, "/apis"), 401)
            for path in ("/healthz", "/livez", "/readyz", "/version"):
                self.assertEqual(await self.code(client, path), 200)

    async def test_files(self) -> None:
        """Keys and the kubeconfig are readable by their owner alone."""
        for name in ("admin.kubeconfig", "pki/ca.key", "pki/sa.key", "pki/admin.token"):
            mode = stat.S_IMODE((self.data_dir / name).stat().st_mode)
            self.assertEqual(mode, 0o600, name)
        self.assertEqual(stat.S_IMODE((self.data_dir / "apiserver.db").stat().st_mode), 0o600)

    async def token(self, name: str = "robot", **spec: Any) -> dict[str, Any]:
        reply = await self.client.ask(
            "POST",
            f"{ACCOUNTS}/{name}/token",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec},
        )
        self.assertEqual(reply.code, 201, reply.text)
        status: dict[str, Any] = reply.json["status"]
        return status

    async def test_service_account(self) -> None:
        """An account's token says who it is, may look at itself, and nothing more."""
        await self.client.post(ACCOUNTS, {"metadata": {"name": "robot"}})
        robot = self.make_client((await self.token())["token"])
        me = await robot.post(
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
        )
        user = me["status"]["userInfo"]
        self.assertEqual(user["username"], "system:serviceaccount:default:robot")
        self.assertIn("system:serviceaccounts:default", user["groups"])
        self.assertEqual(await self.code(robot, "/apis"), 200)
        reply = await robot.ask("GET", PODS)
        self.assertEqual(reply.code, 403)
        self.assertEqual(
            reply.json["message"],
            'pods is forbidden: User "system:serviceaccount:default:robot" cannot list resource '
            '"pods" in API group "" in the namespace "default"',
        )
        for verb, allowed in (("list", False),):
            review = await robot.post(
                "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                {
                    "apiVersion": "authorization.k8s.io/v1",
                    "kind": "SelfSubjectAccessReview",
                    "spec": {"resourceAttributes": {"verb": verb, "resource": "pods"}},
                },
            )
            self.assertEqual(review["status"]["allowed"], allowed)
        impersonating = await robot.ask("GET", PODS, impersonate_user="kubernetes-admin")
        self.assertEqual(impersonating.code, 403)

    async def test_end_of_a_token(self) -> None:
        """A token ends with its time, its account, or the pod it is bound to."""
        await self.client.post(ACCOUNTS, {"metadata": {"name": "robot"}})
        spec = {"serviceAccountName": "robot", "containers": [{"name": "c", "image": "i"}]}
        await self.client.post(PODS, {"metadata": {"name": "p"}, "spec": spec})
        bound = await self.token(boundObjectRef={"kind": "Pod", "apiVersion": "v1", "name": "p"})
        short = await self.token(expirationSeconds=600)
        other = await self.token(audiences=["vault"])
        clients = {
            what: self.make_client(status["token"])
            for what, status in (("bound", bound), ("short", short))
        }
        self.assertEqual(await self.code(self.make_client(other["token"])), 401)
        for client in clients.values():
            self.assertEqual(await self.code(client), 403)
        await self.client.ask("DELETE", f"{PODS}/p")
        self.assertEqual(await self.code(clients["bound"]), 401)
        self.offset = 601.0
        self.assertEqual(await self.code(clients["short"]), 401)
        self.offset = 0.0
        self.assertEqual(await self.code(clients["short"]), 403)
        await self.client.ask("DELETE", f"{ACCOUNTS}/robot")
        await self.client.post(ACCOUNTS, {"metadata": {"name": "robot"}})
        self.assertEqual(await self.code(clients["short"]), 401)

    async def test_forged(self) -> None:
        """A token signed with another key, or not at all, is nothing."""
        await self.client.post(ACCOUNTS, {"metadata": {"name": "robot"}})
        good = (await self.token())["token"]
        claims = jwt.decode(good, options={"verify_signature": False})
        for forged in (
            jwt.encode(claims, "secret" * 10, algorithm="HS256"),
            jwt.encode(claims, "", algorithm="none"),
            good[:-4] + "AAAA",
        ):
            self.assertEqual(await self.code(self.make_client(forged)), 401)

    async def test_bad_requests(self) -> None:
        """A token that is too short, or for what is not there, is not made."""
        for name, spec, code in (
            ("default", {"expirationSeconds": 5}, 422),
            ("nobody", {}, 404),
            ("default", {"boundObjectRef": {"kind": "Pod", "name": "nope"}}, 404),
            ("default", {"boundObjectRef": {"kind": "Deployment", "name": "d"}}, 400),
        ):
            body = {"kind": "TokenRequest", "spec": spec}
            reply = await self.client.ask("POST", f"{ACCOUNTS}/{name}/token", body)
            self.assertEqual(reply.code, code, reply.text)

    async def test_review(self) -> None:
        """A TokenReview says whose a token is."""
        path = "/apis/authentication.k8s.io/v1/tokenreviews"
        token = (await self.token("default"))["token"]
        good = await self.client.post(path, {"kind": "TokenReview", "spec": {"token": token}})
        self.assertEqual(
            (good["status"]["authenticated"], good["status"]["user"]["username"]),
            (True, "system:serviceaccount:default:default"),
        )
        bad = await self.client.post(path, {"kind": "TokenReview", "spec": {"token": "x"}})
        self.assertNotIn("authenticated", bad["status"])

    async def test_survives_restart(self) -> None:
        """Tokens are good after a restart."""
        token = (await self.token("default"))["token"]
        await self.restart()
        self.assertEqual(await self.code(self.make_client(token)), 403)


class NodeTests(ServerCase):
    """A node, spoken for by the cloud, may touch what is its own."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        await super().setUp()
        for name in ("edge-1", "edge-2"):
            await self.client.post("/api/v1/nodes", {"metadata": {"name": name}})
        for kind, name in (("configmaps", "cfg"), ("configmaps", "other"), ("secrets", "pw")):
            await self.client.post(
                f"/api/v1/namespaces/default/{kind}", {"metadata": {"name": name}}
            )
        for name, node, uses in (("mine", "edge-1", "cfg"), ("theirs", "edge-2", "other")):
            container = {
                "name": "c",
                "image": "i",
                "envFrom": [{"configMapRef": {"name": uses}}],
                "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "pw", "key": "k"}}}]
                if node == "edge-1"
                else [],
            }
            await self.client.post(
                PODS,
                {
                    "metadata": {"name": name},
                    "spec": {"nodeName": node, "containers": [container]},
                },
            )

    async def ask(self, method: str, path: str, body: Any = None, kind: str = "") -> int:
        reply = await self.client.ask(
            method,
            path,
            body,
            impersonate_user="system:node:edge-1",
            impersonate_group="system:nodes",
            **({"content_type": kind} if kind else {}),
        )
        return reply.code

    async def test_rules(self) -> None:
        """Its node, its lease, its pods, and what these refer to: yes. The rest: 403."""
        merge = "application/merge-patch+json"
        base = "/api/v1/namespaces/default"
        lease = {"metadata": {"name": "edge-1"}, "spec": {"holderIdentity": "edge-1"}}
        running = {"status": {"phase": "Running"}}
        event = {
            "metadata": {"name": "e"},
            "involvedObject": {"kind": "Pod", "name": "mine", "namespace": "default"},
            "reason": "Started",
        }
        token = {"kind": "TokenRequest", "spec": {}}
        mirror = {"kubernetes.io/config.mirror": "x"}

        def pod(name: str, node: str, **annotations: str) -> Any:
            spec = {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}
            return {"metadata": {"name": name, "annotations": annotations}, "spec": spec}

        for code, method, path, body, kind in (
            (200, "GET", "/api/v1/nodes/edge-1", None, ""),
            (200, "PATCH", "/api/v1/nodes/edge-1/status", {"status": {}}, merge),
            (403, "GET", "/api/v1/nodes/edge-2", None, ""),
            (403, "PATCH", "/api/v1/nodes/edge-2/status", {"status": {}}, merge),
            (403, "DELETE", "/api/v1/nodes/edge-1", None, ""),
            (201, "POST", LEASES, lease, ""),
            (200, "GET", f"{LEASES}/edge-1", None, ""),
            (403, "GET", f"{LEASES}/edge-2", None, ""),
            (200, "GET", f"{PODS}/mine", None, ""),
            (200, "PATCH", f"{PODS}/mine/status", running, merge),
            (403, "GET", f"{PODS}/theirs", None, ""),
            (403, "PATCH", f"{PODS}/theirs/status", running, merge),
            (403, "DELETE", f"{PODS}/theirs", None, ""),
            (200, "GET", f"{base}/configmaps/cfg", None, ""),
            (200, "GET", f"{base}/secrets/pw", None, ""),
            (403, "GET", f"{base}/configmaps/other", None, ""),
            (403, "GET", f"{base}/secrets", None, ""),
            (403, "POST", f"{base}/secrets", {"metadata": {"name": "x"}}, ""),
            (201, "POST", f"{base}/events", event, ""),
            (201, "POST", f"{ACCOUNTS}/default/token", token, ""),
            (403, "POST", f"{ACCOUNTS}/other/token", token, ""),
            (403, "POST", "/api/v1/namespaces", {"metadata": {"name": "x"}}, ""),
            (403, "POST", "/api/v1/nodes", {"metadata": {"name": "edge-3"}}, ""),
            (403, "POST", LEASES, {**lease, "metadata": {"name": "edge-2"}}, ""),
            (403, "POST", PODS, pod("own", "edge-1"), ""),
            (403, "POST", PODS, pod("mirror", "edge-2", **mirror), ""),
            (201, "POST", PODS, pod("mirror", "edge-1", **mirror), ""),
            (200, "DELETE", f"{PODS}/mine?gracePeriodSeconds=0", None, ""),
            (403, "GET", f"{base}/secrets/pw", None, ""),
        ):
            self.assertEqual(await self.ask(method, path, body, kind), code, (method, path))

    async def test_needs_the_group(self) -> None:
        """The name alone makes no node."""
        reply = await self.client.ask(
            "GET", "/api/v1/nodes/edge-1", impersonate_user="system:node:edge-1"
        )
        self.assertEqual(reply.code, 403)
        reply = await self.client.ask("GET", PODS, impersonate_group="system:masters")
        self.assertEqual(reply.code, 400)

from __future__ import annotations

from typing import Any

from tests.apiserver.running import ServerCase
from tests.apiserver.test_replay import recorded

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"

NOT_SERVED = {"pods": {"attach", "ephemeralcontainers", "exec", "log", "portforward", "proxy",
                       "resize"}, "nodes": {"proxy"}, "services": {"proxy"}}  # fmt: skip
"""Subresources that are absent: they need a connection to the node, or server-side apply."""


class DiscoveryTests(ServerCase):
    """Clients find out what is served, in every form they ask for."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        await super().setUp()
        await self.install_crds()

    async def recorded(self, path: str, accept: str = "application/json") -> Any:
        for exchange in recorded():
            request = exchange["request"]
            if request["path"] == path and request["accept"] == accept:
                return exchange["response"]["body"]
        raise AssertionError(path)

    async def test_resources(self) -> None:
        """What we serve is described as kube-apiserver describes it."""
        for path in (
            "/api/v1",
            "/apis/coordination.k8s.io/v1",
            "/apis/devices.kubeedge.io/v1beta1",
        ):
            theirs = {r["name"]: r for r in (await self.recorded(path))["resources"]}
            ours = await self.client.get(path)
            self.assertTrue(ours["resources"])
            for resource in ours["resources"]:
                name = resource["name"]
                expected = {k: v for k, v in theirs[name].items() if k != "storageVersionHash"}
                self.assertEqual(resource, expected)
            plurals = {r["name"] for r in ours["resources"] if "/" not in r["name"]}
            missing = {
                name
                for name in theirs
                if name.split("/")[0] in plurals
                and name not in {r["name"] for r in ours["resources"]}
            }
            absent = {f"{plural}/{sub}" for plural, subs in NOT_SERVED.items() for sub in subs}
            self.assertLessEqual(missing, absent)

    async def test_aggregated(self) -> None:
        """Everything in one answer, as kubectl since 1.26 asks for it."""
        accept = AGGREGATED.format("v2") + ",application/json"
        theirs = {
            group["metadata"]["name"]: group
            for group in (await self.recorded("/apis", accept))["items"]
        }
        for version in ("v2", "v2beta1"):
            reply = await self.client.ask("GET", "/apis", accept=AGGREGATED.format(version))
            self.assertEqual(reply.header("content-type"), AGGREGATED.format(version))
            self.assertEqual(reply.json["apiVersion"], f"apidiscovery.k8s.io/{version}")
            for group in reply.json["items"]:
                expected = theirs[group["metadata"]["name"]]
                for served in group["versions"]:
                    (same,) = (v for v in expected["versions"] if v["version"] == served["version"])
                    known = {r["resource"]: r for r in same["resources"]}
                    for resource in served["resources"]:
                        self.assertEqual(resource, known[resource["resource"]])
        core = await self.client.ask("GET", "/api", accept=AGGREGATED.format("v2"))
        names = {r["resource"] for r in core.json["items"][0]["versions"][0]["resources"]}
        self.assertIn("pods", names)

    async def test_openapi(self) -> None:
        """Schemas are served to old and new clients, and not sent twice."""
        reply = await self.client.ask("GET", "/openapi/v2")
        self.assertEqual(reply.json["swagger"], "2.0")
        self.assertIn("io.k8s.api.core.v1.Pod", reply.json["definitions"])
        again = await self.client.ask("GET", "/openapi/v2", if_none_match=reply.header("etag"))
        self.assertEqual((again.code, again.text), (304, b""))
        binary = await self.client.ask(
            "GET",
            "/openapi/v2",
            accept="application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
        )
        self.assertEqual(
            binary.header("content-type"),
            "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
        )
        index = await self.client.get("/openapi/v3")
        self.assertIn("apis/devices.kubeedge.io/v1beta1", index["paths"])
        for entry in index["paths"].values():
            document = await self.client.get(entry["serverRelativeURL"])
            self.assertTrue(document["openapi"].startswith("3."))
        self.assertEqual((await self.client.ask("GET", "/openapi/v3/apis/nosuch/v1")).code, 404)

    async def test_paths(self) -> None:
        """The root lists what there is; each of it answers."""
        for path in (await self.client.get("/"))["paths"]:
            self.assertEqual((await self.client.ask("GET", path)).code, 200, path)

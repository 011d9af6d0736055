"""A real cloud, and machines that mean it no good: refused, logged, and told nothing."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread

from kubeedge_tx.security.authority import Authority, KeyPair
from kubeedge_tx.security.token import make_token
from tests.fakes.certificates import (
    edge_pair,
    edge_request,
    python_get,
    real_now,
    signing_request,
)
from tests.system.intruder import Intruder
from tests.system.roles import (
    Api,
    Role,
    SystemCase,
    Tree,
    collection,
    config_map,
    pod,
    pod_path,
    secret,
    until,
)
from tests.system.test_channel import authority_of

MIB: Final = 1024 * 1024
PLANTED: Final = "PLANTED-secret"
HIDDEN: Final = (PLANTED, base64.b64encode(PLANTED.encode()).decode())
TRACES: Final = ("Traceback", 'File "', "kubeedge_tx/", ".py")
"""What shows a stranger how the program is made."""

TOKENS: Final = f"{collection('ServiceAccount')}/admin"
MIRROR: Final = {"kubernetes.io/config.mirror": "hash"}


class HostileCase(SystemCase):
    """A cloud with a node that is taken over, and one that is not."""

    async def start(self, config: Tree | None = None) -> None:
        """Start it, with two nodes that only the API knows."""
        self.cloud: Role = self.make_cloud(config, "--log-level", "debug")
        self.ports_of = await self.cloud.run()
        self.api: Api = self.client(self.cloud)
        await self.token(self.api)
        self.authority = await authority_of(self.api)
        for name in ("evil", "good"):
            labels = {"node-role.kubernetes.io/edge": ""}
            node = {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name, "labels": labels},
            }
            await self.api.call("POST", "/api/v1/nodes", node)

    async def enter(
        self, node: str, pair: KeyPair | None = None, source: str = "127.0.0.1", more: str = ""
    ) -> Intruder:
        """Connect as a node, with its certificate or another one."""
        pair = pair or edge_pair(self.authority, node)
        intruder = Intruder(self.work, self.websocket_port, pair, source)
        await intruder.open(node, more)
        return intruder

    async def figure(self, name: str, **labels: str) -> float:
        """One of the cloud's figures."""
        url = f"http://127.0.0.1:{self.ports_of['metrics']}/metrics"

        def read() -> str:
            with urlopen(url, timeout=30) as answer:
                return str(answer.read().decode())

        pairs = ",".join(f'{key}="{value}"' for key, value in labels.items())
        start = f"{name}{{{pairs}}} " if pairs else f"{name} "
        text = await deferToThread(read)
        for line in text.splitlines():
            if line.startswith(start):
                return float(line.removeprefix(start))
        return 0.0

    async def refused(self, listener: str, reason: str) -> float:
        """How many connections a listener has refused."""
        name = "kubeedge_listener_refused_connections_total"
        return await self.figure(name, listener=listener, reason=reason)

    async def works(self) -> None:
        """Check that an honest node is served."""
        good = await self.enter("good")
        self.assertEqual(good.status, 101)
        answer = await good.ask("query", "null/node/good", None)
        self.assertEqual(answer["content"]["metadata"]["name"], "good")
        await good.leave()

    def nothing_leaked(self, *heard: bytes | bytearray) -> None:
        """Check what was said to strangers, and what is in the log."""
        for text in heard:
            said = bytes(text).decode(errors="replace")
            for word in (*HIDDEN, *TRACES):
                self.assertNotIn(word, said)
        for word in (*HIDDEN, "Traceback", " critical "):
            self.assertEqual(self.cloud.process.lines(word), [])


class TakenOverTests(HostileCase):
    """Who holds the genuine certificate of one node is that node, and no more."""

    async def test_others_are_out_of_reach(self) -> None:
        """Whatever it asks for of others, it gets a refusal, and the cluster stays as it was."""
        await self.start()
        api = self.api
        for obj in (
            secret("login", password=PLANTED),
            config_map("conf", x=PLANTED),
            {"kind": "ServiceAccount", "metadata": {"name": "admin"}},
        ):
            await api.create(obj)
        volumes: Any = [{"name": "s", "secret": {"secretName": "login"}}]
        target = pod(
            "target", "sleep", nodeName="good", volumes=volumes, serviceAccountName="admin"
        )
        await api.create(target)
        await api.create(pod("own", "sleep", nodeName="evil"))
        before = [await self.state(path) for path in self.watched()]
        uid = (await api.get(pod_path("target")))["metadata"]["uid"]
        bound = {"kind": "Pod", "name": "target", "uid": uid}
        env = [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}}]

        def mirror(**spec: Any) -> Any:
            made = pod("bait", "sleep", nodeName="evil", **spec)
            made["metadata"]["annotations"] = MIRROR
            return made

        evil = await self.enter("evil")
        failed = {"status": {"phase": "Failed"}}
        for operation, resource, content in (
            # the node and its lease
            ("insert", "null/node/good", {"metadata": {"name": "good"}}),
            ("update", "null/node/good", {"metadata": {"labels": {"x": "y"}}}),
            ("query", "null/node/good", None),
            ("patch", "null/nodepatch/good", {"status": {"conditions": []}}),
            ("update", "default/nodestatus/good", {"Status": {}}),
            ("delete", "null/node/good", None),
            ("delete", "null/node/evil", None),
            ("update", "kube-node-lease/lease/good", {"metadata": {"name": "good"}}),
            ("insert", "kube-system/lease/evil", {"metadata": {"name": "evil"}}),
            # pods
            ("patch", "default/podpatch/target", {"metadata": {"uid": uid}, **failed}),
            ("patch", "default/podpatch/target", failed),
            ("update", "default/podstatus/target", {"UID": uid, "Status": failed["status"]}),
            ("update", "default/podstatus", [{"Name": "../secrets/login", "Status": {}}]),
            ("delete", "default/pod/target", uid),
            ("delete", "default/pod/target", {"preconditions": {"uid": uid}}),
            ("update", "default/pod/target", {}),
            ("query", "default/pod/target", None),
            ("insert", "default/pod/bait", pod("bait", "sleep", nodeName="good")),
            ("insert", "default/pod/bait", pod("bait", "sleep", nodeName="evil")),
            ("insert", "default/pod/bait", mirror(volumes=volumes)),
            ("insert", "default/pod/bait", mirror(container={"env": env})),
            ("insert", "default/pod/bait", mirror(imagePullSecrets=[{"name": "login"}])),
            ("insert", "default/pod/bait", mirror(serviceAccountName="admin")),
            # what pods of others use
            ("query", "default/secret/login", None),
            ("query", "default/configmap/conf", None),
            ("query", "kubeedge/secret/casecret", None),
            ("query", "kubeedge/secret/tokensecret", None),
            ("query", "default/secret/none", None),
            ("insert", "default/secret/mine", secret("mine", x="1")),
            ("query", "default/serviceaccounttoken/admin", {"spec": {"boundObjectRef": bound}}),
            ("query", "default/serviceaccounttoken/admin", {"spec": {}}),
            (
                "insert",
                "default/certificatesigningrequest/c",
                {"spec": {"request": signing_request("good"), "signerName": "x/y"}},
            ),
            # names that are paths
            ("query", "default/secret/..", None),
            ("query", "../secret/login", None),
            ("query", "default/secret/%2e%2e%2flogin", None),
            ("query", "default/configmap/../secrets/login", None),
            ("query", "node/good/default/secret", None),
            ("query", "default//login", None),
            ("query", "default/secret/login?x=y", None),
            ("query", "default/secret/l\u043egin", None),
            ("query", "default/secret/login\x00", None),
            ("query", "x/volume/y/../../default/secret/login", None),
            ("query", "default/unheardof/x", None),
            ("frobnicate", "default/pod/target", None),
        ):
            answer = await evil.ask(operation, resource, content)
            self.assertTrue(self.is_refusal(answer), f"{operation} {resource}: {answer}")

        # Whether there is such a Secret or pod is not told.
        said = [
            str((await evil.ask("query", f"default/secret/{name}", None))["content"]).replace(
                name, "NAME"
            )
            for name in ("login", "none")
        ]
        self.assertEqual(*said)

        # In another's name, or as an answer to what it was not asked.
        for spoof in (
            {"source": "edgecontroller", "operation": "update", "resource": "default/pod/target"},
            {"source": "synccontroller", "operation": "delete", "resource": "default/pod/target"},
            {"source": "twin", "resource": "device/default/thermo/twin/edge_updated"},
            {"source": "twin", "resource": "device/../thermo/state/update", "operation": "update"},
            {"source": "twin", "resource": "membership/detail/../../good"},
            {"source": "edged", "operation": "response", "resource": "x", "parent": "guess"},
            {"source": "edged", "operation": "error", "resource": "x" * 5000, "parent": "guess"},
            {"source": "edged", "operation": "digest", "resource": "node/good/digest"},
        ):
            route = {"group": "resource", "operation": "update", **spoof}
            await evil.message(content={"x": PLANTED}, **route)
            self.assertTrue(await evil.alive(), str(spoof))
        # An event is answered by nobody; it is not written either.
        about = {"involvedObject": {"kind": "Pod", "namespace": "default", "name": "target"}}
        await evil.message(
            source="edged",
            group="meta",
            operation="insert",
            resource="default/event/e",
            content={**about, "message": PLANTED},
        )

        # What is its own it may still do.
        own = (await api.get(pod_path("own")))["metadata"]["uid"]
        running = {"metadata": {"uid": own}, "status": {"phase": "Running"}}
        answer = await evil.ask("patch", "default/podpatch/own", json.dumps(running))
        self.assertEqual(answer["content"]["Object"]["status"]["phase"], "Running")

        self.assertEqual([await self.state(path) for path in self.watched()], before)
        self.assertIsNone(await api.get(pod_path("bait")))
        self.assertEqual(await api.items(collection("Event")), [])
        self.nothing_leaked(evil.heard)
        for kind, reason in (
            ("node", "not-its-own"),
            ("nodepatch", "not-its-own"),
            ("lease", "not-its-own"),
            ("podpatch", "not-its-own"),
            ("podstatus", "malformed"),
            ("pod", "not-for-nodes"),
            ("secret", "api-server"),
            ("secret", "malformed"),
            ("secret", "not-for-nodes"),
            ("serviceaccounttoken", "not-used"),
            ("certificatesigningrequest", "not-its-own"),
            ("device", "malformed"),
            ("event", "not-its-own"),
            ("other", "not-for-nodes"),
        ):
            count = await self.figure("kubeedge_denied_requests_total", kind=kind, reason=reason)
            self.assertGreater(count, 0, f"{kind} {reason}")
            lines = self.cloud.process.lines("evil was denied", f"of {kind} ({reason})")
            self.assertEqual(len(lines), 1, f"{kind} {reason}: {lines}")
        await evil.leave()
        await self.works()

    def watched(self) -> tuple[str, ...]:
        """What must not change."""
        return (
            "/api/v1/nodes/good",
            pod_path("target"),
            f"{collection('Secret')}/login",
            f"{collection('ConfigMap')}/conf",
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
            "/apis/certificates.k8s.io/v1/certificatesigningrequests",
            TOKENS,
        )

    async def state(self, path: str) -> Any:
        """An object without what the cloud itself writes, or the names in a list."""
        found = await self.api.get(path)
        if found is not None and "items" in found:
            return [item["metadata"]["name"] for item in found["items"]]
        assert found is not None, path
        if found.get("kind") == "Node" or path.startswith("/api/v1/nodes"):
            return [found["metadata"]["uid"], found["metadata"]["labels"], found.get("spec")]
        return [found["metadata"]["uid"], found["metadata"]["resourceVersion"]]

    @staticmethod
    def is_refusal(answer: Any) -> bool:
        """Whether an answer says no, in one of the protocol's ways."""
        if answer["route"]["operation"] == "error":
            return True
        content = answer["content"]
        if not isinstance(content, dict):
            return False
        status = (content.get("Err") or content).get("ErrStatus")
        return status is not None and status["code"] in (403, 405)


class StrangerTests(HostileCase):
    """Who has no certificate of a node of this cloud."""

    async def test_certificates(self) -> None:
        """None, self-made, foreign, expired, early, of a server: outside, and the log says why."""
        await self.start()
        ours, other = self.authority, Authority.create(now=real_now())
        long_ago = real_now() - timedelta(days=30)
        tomorrow = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
        cases: tuple[tuple[KeyPair | None, str], ...] = (
            (None, "peer did not return a certificate"),
            (edge_pair(other, "evil"), "is of another CA"),
            (KeyPair(cert_der=other.cert_der, key_der=other.key_der), "is self-signed"),
            (edge_pair(ours, "evil", now=long_ago, days=1), "of node evil has expired"),
            (edge_pair(ours, "evil", now=tomorrow), "of node evil is not valid yet"),
            (ours.issue_server(["evil"], [], now=real_now()), "is not for clients"),
        )
        for pair, why in cases:
            for _ in range(3):
                intruder = Intruder(self.work, self.websocket_port, pair)
                self.assertEqual(await intruder.open("evil"), 0, why)
                self.nothing_leaked(intruder.head, intruder.heard)
        for _, why in cases:
            self.assertEqual(len(self.cloud.process.lines("(tls)", why)), 1, self.cloud.output)
        self.assertEqual(await self.refused("websocket", "tls"), 3 * len(cases))
        for pair, node, status in (
            (edge_pair(ours, "evil", name="evil"), "evil", 403),
            (edge_pair(ours, "evil", organization="system:masters"), "evil", 403),
            (edge_pair(ours, "evil"), "good", 403),
            (edge_pair(ours, "evil"), "../good", 400),
            (edge_pair(ours, "evil"), "", 400),
        ):
            intruder = await self.enter(node, pair)
            self.assertEqual(intruder.status, status)
            self.nothing_leaked(intruder.head)
        await self.works()

    async def test_asking_for_certificates(self) -> None:
        """No certificate for another node's name, nor for a token that is worth nothing."""
        await self.start()
        ours, other = self.authority, Authority.create(now=real_now())
        now = int(time.time())
        token = make_token(ours.cert_der, ours.key_der, now + 3600).partition(".")[2]
        head, _, signature = token.rpartition(".")
        asked, _key = edge_request("good")
        cloud, _key = edge_request("x", organization="KubeEdge", name="KubeEdge")
        bearer = "Bearer "
        for csr, pair, headers in (
            (asked, edge_pair(ours, "evil"), {}),
            (asked, edge_pair(ours, "evil"), {"NodeName": "good"}),
            (asked, edge_pair(ours, "evil"), {"NodeName": "evil"}),
            (asked, edge_pair(ours, "evil"), {"Authorization": bearer + token}),
            (asked, edge_pair(other, "good"), {"NodeName": "good"}),
            (asked, KeyPair(cert_der=other.cert_der, key_der=other.key_der), {}),
            (asked, None, {}),
            (asked, None, {"Authorization": token}),
            (asked, None, {"Authorization": bearer + f"{head}.{signature[::-1]}"}),
            (asked, None, {"Authorization": bearer + self.jwt(ours, now - 60)}),
            (asked, None, {"Authorization": bearer + self.jwt(other, now + 3600)}),
            (asked, None, {"Authorization": bearer + token, "NodeName": "evil"}),
            (cloud, None, {"Authorization": bearer + token}),
            (b"\x30\x82" + bytes(5000), None, {"Authorization": bearer + token}),
        ):
            status, body = await python_get(
                self.work, self.https_port, "/edge.crt", pair=pair, body=csr, headers=headers
            )
            self.assertIn(status, (400, 401, 500), headers)
            self.nothing_leaked(body)
            self.assertLess(len(body), 300)
        self.assertEqual(self.cloud.process.lines("certificate", "by token"), [])
        self.assertEqual(self.cloud.process.lines("certificate", "by certificate"), [])
        self.assertTrue(self.cloud.process.lines("no certificate for good"))
        self.assertEqual(self.cloud.process.lines(signature[:20]), [])
        headers = {"Authorization": bearer + token, "NodeName": "good"}
        status, _body = await python_get(
            self.work, self.https_port, "/edge.crt", body=asked, headers=headers
        )
        self.assertEqual(status, 200)
        await self.works()

    @staticmethod
    def jwt(authority: Authority, expires: int) -> str:
        """The signed part of a join token."""
        return make_token(authority.cert_der, authority.key_der, expires).partition(".")[2]


QUICK: Final[Tree] = {
    "commonConfig": {
        "monitorServer": {"limits": {"handshakeTimeout": 2, "requestTimeout": 2, "idleTimeout": 2}}
    },
    "modules": {
        "cloudHub": {
            "websocketLimits": {"handshakeTimeout": 2, "maxUnauthenticatedPerPeer": 20},
            "httpsLimits": {"handshakeTimeout": 2, "requestTimeout": 2, "idleTimeout": 2},
            "messageRate": 200,
        },
        "apiServer": {"limits": {"handshakeTimeout": 2, "requestTimeout": 2, "idleTimeout": 2}},
    },
}
"""Limits that are reached while a test waits."""


class Loris:
    """A connection that takes its time; its calls block."""

    def __init__(self, port: int, *, tls: bool, pair_file: Path | None = None) -> None:
        self.connection: Any = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.since = time.monotonic()
        if tls:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            if pair_file is not None:
                context.load_cert_chain(pair_file)
            self.connection = context.wrap_socket(self.connection)

    def drip(self, data: bytes, pause: float = 0.3) -> float:
        """Send a byte now and then until the other side hangs up; returns after how long."""
        self.connection.settimeout(pause)
        at = 0
        while time.monotonic() - self.since < 30:
            try:
                if at < len(data):
                    self.connection.sendall(data[at : at + 1])
                    at += 1
                if not self.connection.recv(4096):
                    break
            except (TimeoutError, ssl.SSLWantReadError):
                continue
            except OSError:
                break
        self.connection.close()
        return time.monotonic() - self.since


class SlowTests(HostileCase):
    """Who takes his time, on purpose, on every port."""

    async def test_slow(self) -> None:
        """Silent, a byte now and then, in TLS or in a request: cut; the others are served."""
        await self.start(QUICK)
        pair = edge_pair(self.authority, "evil")
        file = self.work / "evil.pem"
        file.write_bytes(pair.cert_pem + pair.key_pem)
        request = b"GET /" + b"x" * 1000
        upgrade = b"GET /p/evil/events HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nX: " + request
        post = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n" + request

        def attack(port: int, tls: bool, data: bytes, pair_file: Path | None = None) -> Any:
            return deferToThread(lambda: Loris(port, tls=tls, pair_file=pair_file).drip(data))

        ports = self.ports_of
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" + bytes(200)
        attacks = [
            attack(ports["websocket"], True, b"", file),
            attack(ports["websocket"], True, upgrade, file),
            *(attack(ports[name], False, data) for name in TLS_PORTS for data in (b"", hello)),
            *(
                attack(ports[name], name != "metrics", data)
                for name in ("https", "api", "metrics")
                for data in (b"", request, post)
            ),
        ]
        await self.works()
        for seconds in await gatherResults(attacks):
            self.assertLess(seconds, 15)
        for name in (*TLS_PORTS, "metrics"):
            self.assertGreater(await self.refused(name, "slow"), 1, name)
            self.assertEqual(len(self.cloud.process.lines(f"to {name} refused (slow)")), 1)
        self.nothing_leaked()
        await self.works()

    async def test_floods(self) -> None:
        """Hundreds that say nothing: the place they take is little, and who is quick gets in."""
        await self.start(QUICK)

        def flood() -> list[Any]:
            return [
                socket.create_connection(("127.0.0.1", self.websocket_port), timeout=30)
                for _ in range(300)
            ]

        opened = await deferToThread(flood)
        try:
            strangers = await self.figure("kubeedge_listener_strangers", listener="websocket")
            self.assertLessEqual(strangers, 20)
            self.assertGreater(await self.refused("websocket", "strangers"), 200)
            there = await self.enter("good", source="127.0.0.2")
            self.assertEqual(there.status, 101)
            await there.leave()
            await until("a quick one from there to get in", self.gets_in, self.cloud)
        finally:
            for each in opened:
                each.close()
        lines = self.cloud.process.lines("to websocket refused (strangers)")
        self.assertEqual(len(lines), 1, lines)

    async def gets_in(self) -> bool:
        """Whether an honest node comes in from the address of the flood."""
        good = await self.enter("good")
        if good.status == 101:
            await good.leave()
        return good.status == 101

    async def test_too_many_messages(self) -> None:
        """A node that says too much is read more slowly, and loses nothing; others go on."""
        await self.start(QUICK)
        evil = await self.enter("evil")
        began = time.monotonic()
        for _ in range(1500):
            route = {"source": "edged", "group": "meta", "operation": "update"}
            await evil.message(resource="default/secret/x", content=None, **route)
        await self.works()
        answer = await evil.ask("query", "null/node/evil", None)
        self.assertEqual(answer["content"]["metadata"]["name"], "evil")
        self.assertGreater(time.monotonic() - began, 2.5, "most of 1500 wait, at 200 a second")
        denied = {"kind": "secret", "reason": "not-for-nodes"}
        self.assertEqual(await self.figure("kubeedge_denied_requests_total", **denied), 1500)
        lines = self.cloud.process.lines("evil was denied")
        self.assertEqual(len(lines), 1, lines)
        await evil.leave()


TLS_PORTS: Final = ("websocket", "https", "api")


class LargeTests(HostileCase):
    """Who sends too much at once, or what grows when it is unpacked."""

    async def test_bombs(self) -> None:
        """Frames, fragments, compression, JSON, headers, bodies: refused, in little memory."""
        await self.start()
        before = self.memory()

        # Compression is not agreed upon, so a compressed frame is an error.
        deflate = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
        evil = await self.enter("evil", more=deflate)
        self.assertEqual(evil.status, 101)
        self.assertNotIn(b"deflate", evil.head.lower())
        await evil.frame(b"\x00" * 1000, first=0xC0)
        self.assertEqual(await evil.closed(), 1002)

        evil = await self.enter("evil")
        await evil.frame(b"x", 1, 0)
        await evil.raw((bytes((0, 0x82)) + bytes(4) + b"xx") * 20_000)
        self.assertEqual(await evil.closed(), 4413)

        evil = await self.enter("evil")
        await evil.frame(b"x" * (33 * MIB))
        self.assertIn(await evil.closed(), (1009, 0))

        evil = await self.enter("evil")
        lists: list[Any] = [[]] * (8 * MIB // 4)
        answer = await evil.ask("update", "default/podstatus/x", lists)
        self.assertEqual(answer["route"]["operation"], "error")
        self.assertIn("403 Forbidden", answer["content"])
        too_large = {"kind": "podstatus", "reason": "too-large"}
        self.assertEqual(await self.figure("kubeedge_denied_requests_total", **too_large), 1)
        self.assertTrue(await evil.alive())
        await evil.leave()

        evil = await self.enter("evil", more=f"X: {'x' * MIB}\r\n")
        self.assertEqual(evil.status, 0)
        self.assertEqual(await self.refused("websocket", "too-large"), 1)

        for name, secure in (("https", True), ("api", True), ("metrics", False)):
            for head in (
                b"GET /" + b"x" * MIB,
                b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000,
                b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + bytes(MIB),
                b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            ):
                said = await deferToThread(shout, self.ports_of[name], secure, head)
                self.assertTrue(
                    not said or said.split()[1] in (b"400", b"401", b"405", b"413"), (name, said)
                )
                self.nothing_leaked(said)
        self.assertLess(self.memory() - before, 150 * MIB)
        await self.works()

    def memory(self) -> int:
        """The most memory that the cloud has ever had, bytes."""
        text = Path(f"/proc/{self.cloud.process.pid}/status").read_text()
        (line,) = (line for line in text.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024


def shout(port: int, secure: bool, data: bytes) -> bytes:
    """Send everything, then read what is answered, if anything."""
    loris = Loris(port, tls=secure)
    said = b""
    try:
        loris.connection.settimeout(1)
        loris.connection.sendall(data)
        while part := loris.connection.recv(4096):
            said += part
    except OSError:
        pass
    loris.connection.close()
    return said

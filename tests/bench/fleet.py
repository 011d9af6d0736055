"""Fake edge nodes, seen from the benchmark: made in the cluster, connected, asked."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from kubeedge_tx.security.authority import Authority, new_key, utc
from kubeedge_tx.security.identity import NODES_GROUP, common_name
from kubeedge_tx.security.requests import make_request
from tests.bench.processes import CHECKOUT, NAMESPACE, Bench, GaveUp, wait_for

PROCESSES = 2
"""Client processes: one would be busier than the cloud."""


class Fleet:
    """``count`` nodes, each with one pod that needs the same ConfigMaps.

    :param program: what the client processes run.
    """

    def __init__(
        self,
        bench: Bench,
        count: int,
        maps: int,
        *,
        size: int,
        program: str = "tests.bench.nodes",
    ) -> None:
        self.bench = bench
        self.names = [f"bench-{number:04}" for number in range(count)]
        self.maps = [f"shared-{number:02}" for number in range(maps)]
        self._size = size
        self._program = program
        self._clients: list[subprocess.Popen[bytes]] = []
        self._parts: list[list[str]] = []

    def create(self, *, pods: bool = True) -> None:
        """Make the nodes, the ConfigMaps and, unless told otherwise, the pods in the cluster."""
        call = self.bench.api.call
        for name in self.maps:
            call("POST", f"/api/v1/namespaces/{NAMESPACE}/configmaps", self.body(name, "first"))
        volumes = [{"name": name, "configMap": {"name": name}} for name in self.maps]

        def make(node: str) -> None:
            labels = {"node-role.kubernetes.io/edge": ""}
            call("POST", "/api/v1/nodes", {"metadata": {"name": node, "labels": labels}})
            if not pods:
                return
            spec = {
                "nodeName": node,
                "containers": [{"name": "main", "image": "busybox"}],
                "volumes": volumes,
                "tolerations": [{"operator": "Exists"}],
            }
            pod = {"metadata": {"name": f"pod-{node}"}, "spec": spec}
            call("POST", f"/api/v1/namespaces/{NAMESPACE}/pods", pod)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(make, self.names))

    def body(self, name: str, text: str) -> dict[str, Any]:
        """A ConfigMap of about the size asked for."""
        filler = (text * (self._size // len(text) + 1))[: self._size]
        return {"metadata": {"name": name}, "data": {"text": text, "filler": filler}}

    def write(self, name: str, text: str) -> int:
        """Change a ConfigMap; returns its new version."""
        path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{name}"
        kind = "application/merge-patch+json"
        answer = self.bench.api.call("PATCH", path, {"data": self.body(name, text)["data"]}, kind)
        return int(answer["metadata"]["resourceVersion"])

    def version(self, name: str) -> int:
        """The newest version of a ConfigMap in the cluster."""
        path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{name}"
        return int(self.bench.api.call("GET", path)["metadata"]["resourceVersion"])

    def connect(self, window: int, servers: tuple[str, ...] = ()) -> None:
        """Connect all nodes.

        :param servers: ``host:port`` of each cloud, for programs that know several.
        """
        secret = self.bench.api.call("GET", "/api/v1/namespaces/kubeedge/secrets/casecret")
        data = {key: base64.b64decode(value) for key, value in secret["data"].items()}
        now = utc(time.time())
        authority = Authority.load(data["cadata"], data["cakeydata"], now=now, what="casecret")
        key = new_key()
        key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        self._parts = [self.names[part::PROCESSES] for part in range(PROCESSES)]
        for names in self._parts:
            nodes = []
            for name in names:
                subject = [
                    (NameOID.ORGANIZATION_NAME, NODES_GROUP),
                    (NameOID.COMMON_NAME, common_name(name)),
                ]
                cert = authority.sign_request(make_request(key, subject), now=now, days=1)
                nodes.append({"name": name, "cert": _pem(cert)})
            client = subprocess.Popen(
                [sys.executable, "-m", self._program],
                cwd=CHECKOUT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=(self.bench.work / "nodes.log").open("ab"),
            )
            self._clients.append(client)
            self._ask(
                client,
                {
                    "do": "connect",
                    "port": self.bench.ports["websocket"],
                    "ca": authority.cert_pem.decode(),
                    "key": key_pem,
                    "nodes": nodes,
                    "window": window,
                    "servers": servers,
                },
            )
        self._answers()

    def acks(self) -> list[int]:
        """How many acknowledgements each client process has sent."""
        return [int(answer["acks"]) for answer in self._round({"do": "tell"})]

    def settle(self) -> None:
        """Wait until nothing more comes."""
        before = [-1]
        quiet = 0
        while quiet < 3:
            time.sleep(0.4)
            now = self.acks()
            quiet = quiet + 1 if now == before else 0
            before = now

    def wait_acks(self, more: list[int]) -> float:
        """Wait until each process has sent so many; returns when the last one was."""
        for client, count in zip(self._clients, more, strict=True):
            self._ask(client, {"do": "acks", "count": count})
        return max(float(answer["at"]) for answer in self._answers())

    def wait_version(self, name: str, version: int) -> float:
        """Wait until every node has a version of a ConfigMap; returns when the last had."""
        resource = f"{NAMESPACE}/configmap/{name}"
        answers = self._round({"do": "version", "resource": resource, "version": version})
        return max(float(answer["at"]) for answer in answers)

    def ask(self, command: Any) -> list[Any]:
        """Ask every client process the same; returns what each answers."""
        return self._round(command)

    def per_process(self) -> list[int]:
        """How many nodes each process has."""
        return [len(part) for part in self._parts]

    def disconnect(self) -> None:
        """Cut all nodes."""
        for client in self._clients:
            assert client.stdin is not None and client.stdout is not None
            client.stdin.close()
            client.wait()
            client.stdout.close()
        self._clients = []

    def disconnected(self) -> None:
        """Wait until the cloud has noticed."""
        wait_for(
            "the nodes to be gone",
            lambda: self.bench.metric(self.bench.cloud, "KubeEdge_CloudHub_connected_nodes") == 0,
        )

    def recorded(self) -> float:
        """Wait until every confirmed version is in the cluster; returns writes so far."""

        def look() -> bool:
            return self.bench.metric(self.bench.cloud, "kubeedge_cloudhub_sync_pending") == 0

        wait_for("the bookkeeping", look, 600, pause=0.3)
        return self.writes()

    def writes(self) -> float:
        """API calls that bookkeeping has cost so far."""
        return self.bench.metric(self.bench.cloud, "kubeedge_cloudhub_sync_writes_total")

    def clean(self) -> None:
        """Take the nodes out of a real cluster."""
        if self.bench.given:
            for name in self.names:
                self.bench.api.call("DELETE", f"/api/v1/nodes/{name}")

    def _round(self, command: Any) -> list[Any]:
        for client in self._clients:
            self._ask(client, command)
        return list(self._answers())

    @staticmethod
    def _ask(client: subprocess.Popen[bytes], command: Any) -> None:
        assert client.stdin is not None
        client.stdin.write(json.dumps(command).encode() + b"\n")
        client.stdin.flush()

    def _answers(self) -> Iterable[Any]:
        answers = []
        for client in self._clients:
            assert client.stdout is not None
            line = client.stdout.readline()
            answer = json.loads(line) if line else {"error": "a client process ended"}
            if answer.get("error") or answer.get("losses"):
                raise GaveUp(f"fake nodes: {answer}")
            answers.append(answer)
        return answers


def _pem(der: bytes) -> str:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n"

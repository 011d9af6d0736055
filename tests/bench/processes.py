"""The roles as processes of their own, and what the kernel says about them."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import yaml

from kubeedge_tx.config.cloudcore import CloudCoreConfig
from kubeedge_tx.config.edgecore import EdgeCoreConfig
from kubeedge_tx.demo import Api

T = TypeVar("T")

NAMESPACE: Final = "kubeedge-bench"
CHECKOUT: Final = Path(__file__).parents[2]
"""Where ``python -m tests.bench`` finds itself, wherever it was started."""
PATIENCE: Final = 180.0
"""Seconds until a step is given up."""

_TICKS: Final = os.sysconf("SC_CLK_TCK")


class GaveUp(Exception):
    """Something did not happen; the text says what."""


def wait_for(
    what: str, look: Callable[[], T | None], patience: float = PATIENCE, pause: float = 0.0
) -> T:
    """Look again and again until there is something.

    :param pause: seconds between two looks; by default few, and more as time goes by.
    """
    deadline = time.monotonic() + patience
    fixed, pause = pause > 0, pause or 0.002
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise GaveUp(f"waited {patience:g} s for {what}")
        time.sleep(pause)
        if not fixed:
            pause = min(pause * 1.5, 0.02)


class Process:
    """A program that says in ``ready.json`` when it is ready."""

    def __init__(self, name: str, command: list[str], data_dir: Path) -> None:
        self.name = name
        self.data_dir = data_dir
        self._command = command
        self._log = data_dir.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0

    def start(self) -> None:
        """Start it; see :meth:`ports`."""
        (self.data_dir / "ready.json").unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self.started_at = time.monotonic()
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd=CHECKOUT,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def ports(self) -> dict[str, int]:
        """Wait until it is ready; returns the ports it listens on."""
        return wait_for(f"{self.name} to be ready\n{self._log}", self._ports)

    def _ports(self) -> dict[str, int] | None:
        assert self._process is not None
        if self._process.poll() is not None:
            lines = self._log.read_text(errors="replace").splitlines()[-12:]
            raise GaveUp(f"{self.name} ended:\n" + "\n".join(lines))
        try:
            return dict(json.loads((self.data_dir / "ready.json").read_text())["ports"])
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def kill(self) -> None:
        """End it without a warning."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it in order."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def cpu(self) -> float:
        """Seconds of processor time used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory_kb(self, what: str = "VmRSS") -> int:
        """Resident memory now, in KB; ``Pss`` counts shared pages by their part."""
        file = "smaps_rollup" if what == "Pss" else "status"
        for line in Path(f"/proc/{self.pid}/{file}").read_text().splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1])
        raise GaveUp(f"no {what} in /proc/{self.pid}/{file}")


class Bench:
    """A cloud, and edges beside it, in a directory that goes away.

    :param api: ``separate`` runs the embedded API in a process of its own, so that the
        cloud's CPU is the cloud's, as beside a real cluster; ``embedded`` as a user starts
        it; KUBEEDGE_TX_KUBECONFIG names a real cluster.
    """

    def __init__(self, *, api: str = "embedded", node_limit: int = 2000, window: int = 32) -> None:
        self._stack = ExitStack()
        try:
            self._start(api, node_limit, window)
        except BaseException:
            self._stack.close()
            raise

    def _start(self, api: str, node_limit: int, window: int) -> None:
        self.work = Path(tempfile.mkdtemp(prefix="kubeedge-tx-bench."))
        self._stack.callback(shutil.rmtree, self.work, ignore_errors=True)
        self.given = os.environ.get("KUBEEDGE_TX_KUBECONFIG", "")
        self.api_kind = "real cluster" if self.given else f"embedded API, {api}"
        self.api_process: Process | None = None
        arguments: list[str] = []
        kubeconfig = Path(self.given)
        if self.given:
            arguments = ["--kubeconfig", self.given]
        elif api == "separate":
            self.api_process = self._separate_api()
            kubeconfig = self.api_process.data_dir / "admin.kubeconfig"
            arguments = ["--kubeconfig", str(kubeconfig)]
        else:
            kubeconfig = self.work / "cloud" / "admin.kubeconfig"
        self.cloud = self._role(
            "kubeedge-cloud", "cloud", _cloud_config(node_limit, window), arguments
        )
        self.cloud.start()
        self.ports = self.cloud.ports()
        self.cloud_seconds = time.monotonic() - self.cloud.started_at
        self._more = lambda name: self._role(
            "kubeedge-cloud", name, _cloud_config(node_limit, window), arguments
        )
        self.api = Api(kubeconfig)
        self.api.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        self._stack.callback(self._clean)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def another_cloud(self, name: str) -> Process:
        """Start one more cloud on the same API, which must not be embedded in the first."""
        cloud = self._more(name)
        cloud.start()
        cloud.ports()
        return cloud

    def edge(
        self, name: str, runtime: str = "process", ports: dict[str, int] | None = None
    ) -> Process:
        """Make an edge that has not started.

        :param ports: where it believes the cloud to be.
        """
        token = wait_for(
            "the join token",
            lambda: self.api.call("GET", "/api/v1/namespaces/kubeedge/secrets/tokensecret"),
        )
        ports = self.ports | (ports or {})
        self._stack.callback(self._forget_node, name)
        return self._role(
            "kubeedge-edge",
            name,
            _edge_config(),
            [
                *("--server", f"127.0.0.1:{ports['https']}"),
                *("--websocket", f"127.0.0.1:{ports['websocket']}"),
                *("--token", base64.b64decode(token["data"]["tokendata"]).decode()),
                *("--node-name", name, "--runtime", runtime),
            ],
        )

    def node_ready(self, name: str) -> bool:
        """Tell whether the cluster believes a node to be Ready."""
        node = self.api.call("GET", f"/api/v1/nodes/{name}")
        return _condition(node, "Ready") == "True"

    def pod_ready(self, name: str) -> bool:
        """Tell whether a pod is Ready."""
        pod = self.api.call("GET", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}")
        return _condition(pod, "Ready") == "True"

    def metric(self, process: Process, name: str, label: str = "") -> float:
        """Read one sample, or the sum of all, or of those with a label, of a process' metrics."""
        port = process.ports()["metrics"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.partition(" ")[0].partition("{")[0] == name and label in line
        )

    def fix_ports(self, cloud: Process | None = None) -> None:
        """Make a cloud take the ports of its first start again when it is restarted."""
        cloud = cloud or self.cloud
        ports, file = cloud.ports(), cloud.data_dir.with_suffix(".yaml")
        tree = yaml.safe_load(file.read_text())
        hub = tree["modules"]["cloudHub"]
        for listener in ("websocket", "https"):
            hub[listener]["port"] = ports[listener]
        tree["modules"]["apiServer"]["port"] = ports.get("api", 0)
        file.write_text(yaml.safe_dump(tree))

    def _role(self, role: str, name: str, config: Any, arguments: list[str]) -> Process:
        file = self.work / f"{name}.yaml"
        file.write_text(yaml.safe_dump(config))
        data_dir = self.work / name
        twistd = str(Path(sys.executable).with_name("twistd"))
        process = Process(
            role,
            [
                *(twistd, "-n", "--pidfile=", role, "--config", str(file)),
                *("--data-dir", str(data_dir), *arguments),
            ],
            data_dir,
        )
        self._stack.callback(process.stop)
        return process

    def _separate_api(self) -> Process:
        data_dir = self.work / "api"
        command = [sys.executable, "-m", "tests.bench.apiserver", str(data_dir)]
        process = Process("the embedded API", command, data_dir)
        process.start()
        self._stack.callback(process.stop)
        process.ports()
        return process

    def _forget_node(self, name: str) -> None:
        if self.given:
            self.api.call("DELETE", f"/api/v1/nodes/{name}")

    def _clean(self) -> None:
        if not self.given:
            return
        path = f"/api/v1/namespaces/{NAMESPACE}"
        self.api.call("DELETE", path)
        wait_for("the end of the namespace", lambda: self.api.call("GET", path) is None, 120)


def _condition(obj: Any, which: str) -> str:
    conditions = ((obj or {}).get("status") or {}).get("conditions") or []
    return next((str(each["status"]) for each in conditions if each["type"] == which), "")


def _cloud_config(node_limit: int, window: int) -> Any:
    tree = msgspec.to_builtins(CloudCoreConfig())
    tree["commonConfig"]["monitorServer"]["bindAddress"] = "127.0.0.1:0"
    modules = tree["modules"]
    modules["apiServer"]["port"] = 0
    hub = modules["cloudHub"]
    for listener in ("websocket", "https"):
        hub[listener].update(address="127.0.0.1", port=0)
    hub.update(advertiseAddress=["127.0.0.1"], nodeLimit=node_limit, ackWindow=window)
    return tree


def _edge_config() -> Any:
    tree = msgspec.to_builtins(EdgeCoreConfig())
    tree["commonConfig"]["monitorServer"]["bindAddress"] = "127.0.0.1:0"
    tree["modules"]["eventBus"]["mqttServerInternal"] = "tcp://127.0.0.1:0"
    if engine := os.environ.get("DOCKER_HOST"):
        tree["modules"]["edged"]["dockerAddress"] = engine
    return tree

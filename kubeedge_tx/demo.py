"""A cloud, an edge, a pod and a device on this machine, watched live.

Everything is real: two ``twistd`` processes, TLS between them, the embedded Kubernetes API,
a join by token, a pod and a device applied through the official Python client, and the
thermometer of ``examples/`` speaking MQTT to the edge.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import click
import yaml
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

PATIENCE: Final = 120.0
"""Seconds until ``--once`` gives up."""

TICK: Final = 0.25
"""Seconds between two looks."""

NODE: Final = "demo-edge"

THERMOMETER: Final = Path(__file__).parents[1] / "examples" / "thermometer"
DEVICES: Final = "/apis/devices.kubeedge.io/v1beta1/namespaces/default"

MANIFESTS: Final = """
apiVersion: v1
kind: ConfigMap
metadata: {name: greeting, namespace: default}
data: {text: hello}
---
apiVersion: v1
kind: Pod
metadata: {name: hello, namespace: default}
spec:
  containers:
  - name: hello
    image: busybox
    imagePullPolicy: IfNotPresent
    command:
    - sh
    - -c
    - while true; do echo "$(date +%T) $(cat /etc/greeting/text), says $POD on $NODE"; sleep 1; done
    env:
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    readinessProbe:
      exec: {command: [cat, /etc/greeting/text]}
      periodSeconds: 1
    volumeMounts:
    - {name: greeting, mountPath: /etc/greeting}
  volumes:
  - name: greeting
    configMap: {name: greeting}
  terminationGracePeriodSeconds: 2
"""


_STAMP: Final = re.compile(r"^\d{4}-\d\d-\d\dT([\d:]+)\.\d+\+\d+")


class Failed(Exception):
    """The demo cannot go on; the text says why."""


class Process:
    """One role in a process of its own."""

    def __init__(self, role: str, data_dir: Path, arguments: list[str]) -> None:
        self.role = role
        self.data_dir = data_dir
        self.log = data_dir.with_suffix(".log")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [
                    *(str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", role),
                    *("--data-dir", str(data_dir), *arguments),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is ours to pass on, in order
            )

    def ports(self) -> dict[str, int] | None:
        """The ports it listens on, or ``None`` while it is not ready.

        :raises Failed: it has ended.
        """
        if self._process.poll() is not None:
            raise Failed(
                f"{self.role} ended with status {self._process.returncode}:\n{self.tail(12)}"
            )
        try:
            ports: dict[str, int] = json.loads((self.data_dir / "ready.json").read_text())["ports"]
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return ports

    def tail(self, lines: int) -> str:
        """The last lines it logged, with the time of day only."""
        kept = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join(_STAMP.sub(r"\1", line) for line in kept)

    def wire(self) -> tuple[str, str, str] | None:
        """What an edge has sent and got so far, for a row of the table."""
        if (ports := self.ports()) is None:
            return None
        with urlopen(f"http://127.0.0.1:{ports['metrics']}/metrics", timeout=2) as answer:
            metrics = dict(
                line.rsplit(" ", 1)
                for line in answer.read().decode().splitlines()
                if line.startswith("kubeedge_edgehub_")
            )

        def count(what: str, direction: str) -> int:
            return int(float(metrics.get(f'kubeedge_edgehub_{what}{{direction="{direction}"}}', 0)))

        up, down = (
            f"{direction} {count('frames', direction)} messages, {count('bytes', direction):,} B"
            for direction in ("up", "down")
        )
        connected = metrics.get("kubeedge_edgehub_connected") == "1"
        return ("online" if connected else "cut", up, down)

    def stop(self) -> None:
        """End it, and wait."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Api:
    """The cloud's Kubernetes API, through the official client's connections."""

    def __init__(self, kubeconfig: Path) -> None:
        from kubernetes.config import new_client_from_config

        client = new_client_from_config(str(kubeconfig))
        self._pool = client.rest_client.pool_manager
        self._url = client.configuration.host
        token = client.configuration.get_api_key_with_prefix("BearerToken")
        self._identity = {"authorization": token} if token else {}  # or a client certificate

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        """Make one call; returns the decoded answer, ``None`` for 404.

        :raises Failed: the API server refused.
        """
        answer = self._pool.request(
            method,
            self._url + path,
            headers={**self._identity, "content-type": kind},
            body=None if body is None else json.dumps(body),
        )
        if answer.status == 404:
            return None
        decoded = json.loads(answer.data)
        if answer.status >= 400:
            raise Failed(f"{method} {path}: {decoded.get('message', answer.status)}")
        return decoded


@dataclass
class View:
    """What the person sees: plain lines, or a picture that moves."""

    console: Console
    live: Live | None
    started: float
    story: deque[str] = field(default_factory=lambda: deque(maxlen=12))

    def say(self, line: str) -> None:
        """Tell that something happened."""
        stamped = f"{time.monotonic() - self.started:6.1f} s  {line}"
        self.story.append(stamped)
        if self.live is None:
            self.console.print(stamped, highlight=False, markup=False, soft_wrap=True)

    def show(self, demo: Demo) -> None:
        """Draw the picture anew."""
        if self.live is not None:
            self.live.update(demo.picture(list(self.story)))


class Demo:
    """The whole story, one step after another."""

    def __init__(self, work: Path, runtime: str, view: View) -> None:
        self.work = work
        self.runtime = runtime
        self.view = view
        self.deadline = time.monotonic() + PATIENCE
        self.cloud: Process | None = None
        self.edge: Process | None = None
        self.api: Api | None = None
        self.node: Any = None
        self.pod: Any = None
        self.device: Any = None

    def run(self, stack: ExitStack) -> None:
        """Go from nothing to a pod that runs, is ready, and sees its configuration change.

        :raises Failed: something ended, or took too long.
        """
        self.view.say("starting the cloud: embedded Kubernetes API, CloudHub, certificate service")
        self.cloud = self._start(stack, "kubeedge-cloud", self._cloud_config())
        ports = self._wait("the cloud to be ready", self.cloud.ports)
        self.view.say(f"cloud ready: API on {ports['api']}, edges on {ports['websocket']}")
        self.api = Api(self.work / "kubeedge-cloud" / "admin.kubeconfig")
        secret = self._wait(
            "the join token", lambda: self._find("/api/v1/namespaces/kubeedge/secrets/tokensecret")
        )
        token = base64.b64decode(secret["data"]["tokendata"]).decode()
        self.view.say("join token made; starting an edge with it")
        self.edge = self._start(
            stack,
            "kubeedge-edge",
            self._edge_config(),
            *("--server", f"127.0.0.1:{ports['https']}"),
            *("--websocket", f"127.0.0.1:{ports['websocket']}"),
            *("--token", token, "--node-name", NODE, "--runtime", self.runtime),
        )
        self._wait("the edge to be ready", self.edge.ports)
        self._wait("the node to be Ready", self._node_ready)
        info = self.node["status"]["nodeInfo"]
        self.view.say(
            f"node {NODE} is Ready: {info['kubeletVersion']} on {info['containerRuntimeVersion']}"
        )
        stack.callback(self.clean_up)
        self.view.say("applying a ConfigMap and a Pod")
        applied = time.monotonic()
        for manifest in yaml.safe_load_all(MANIFESTS):
            plural = f"{manifest['kind'].lower()}s"
            self.api.call("POST", f"/api/v1/namespaces/default/{plural}", manifest)
        self._wait("the pod to be Ready", self._pod_ready)
        self.view.say(f"pod hello is Running and Ready after {time.monotonic() - applied:.2f} s")
        self._wait("the pod's first words", lambda: "hello, says" in self.pod_output(3))
        self.view.say("changing the ConfigMap")
        self.api.call(
            "PATCH",
            "/api/v1/namespaces/default/configmaps/greeting",
            {"data": {"text": "good day"}},
            "application/merge-patch+json",
        )
        self._wait("the pod to see it", lambda: "good day, says" in self.pod_output(3))
        self.view.say("the pod reads the new greeting, without a restart")
        self._use_device(stack)

    def _use_device(self, stack: ExitStack) -> None:
        assert self.api is not None and self.edge is not None
        self.view.say("applying a DeviceModel and a Device, and starting a thermometer")
        model = yaml.safe_load((THERMOMETER / "model.yaml").read_text())
        device = yaml.safe_load((THERMOMETER / "device.yaml").read_text())
        device["spec"]["nodeName"] = NODE
        self.api.call("POST", f"{DEVICES}/devicemodels", model)
        self.api.call("POST", f"{DEVICES}/devices", device)
        port = (self.edge.ports() or {})["mqtt"]
        log = stack.enter_context((self.work / "thermometer.log").open("wb"))
        mapper = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, str(THERMOMETER / "thermometer.py"), "--port", str(port)],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        stack.callback(_end, mapper)
        self._wait("the temperature in the cluster", lambda: self._reported("temperature"))
        self.view.say(f"kubectl get devicestatus: {self._reported('temperature')} degrees")
        self.view.say("setting the threshold to 19 in the cluster")
        set_at = time.monotonic()
        properties = device["spec"]["properties"]
        next(p for p in properties if p["name"] == "threshold")["desired"]["value"] = "19"
        self.api.call(
            "PATCH",
            f"{DEVICES}/devices/thermometer",
            {"spec": {"properties": properties}},
            "application/merge-patch+json",
        )
        self._wait("the thermometer to hear of it", lambda: "is 19 now" in self._mapper_output())
        self.view.say(f"the thermometer heard it within {time.monotonic() - set_at:.2f} s")
        self._wait(
            "the thermometer's answer in the cluster", lambda: self._reported("threshold") == "19"
        )
        self.view.say("and reported it back: desired and reported agree")

    def clean_up(self) -> None:
        """Delete the pod: an edge that stops leaves its containers running, on purpose."""
        if self.pod is None or self.edge is None:
            return
        assert self.api is not None
        path = "/api/v1/namespaces/default/pods/hello"
        self.deadline = time.monotonic() + 15
        try:
            self.api.call("DELETE", path)
            self._wait("the pod to be gone", lambda: self._find(path) is None)
            self.view.say("pod deleted")
        except (Failed, OSError) as error:
            self.view.say(f"the pod could not be deleted: {error}")

    def watch(self) -> None:
        """Show what goes on until Ctrl-C."""
        kubeconfig = self.work / "kubeedge-cloud" / "admin.kubeconfig"
        self.view.say(
            f"look around: kubectl --kubeconfig {kubeconfig} get nodes,pods,devices,devicestatuses"
        )
        self.deadline = float("inf")
        with _interruptible():
            self._wait("Ctrl-C", lambda: self._look() and None)

    def pod_output(self, lines: int) -> str:
        """The last lines that the pod wrote."""
        if self.edge is None or self.pod is None:
            return ""
        if self.runtime == "docker":
            identity = self.pod["status"]["containerStatuses"][0]["containerID"].partition("//")[2]
            return subprocess.run(  # noqa: S603 - fixed program, id from the engine
                ["docker", "logs", "--tail", str(lines), identity],  # noqa: S607
                capture_output=True,
                text=True,
                check=False,
            ).stdout
        written = sorted(self.edge.data_dir.glob(f"**/*{self.pod['metadata']['uid']}*/hello/*.log"))
        if not written:
            return ""
        kept = written[-1].read_text(errors="replace").splitlines()[-lines:]
        return "\n".join(line.split(" ", 3)[-1] for line in kept)  # CRI: time stream tag text

    def _mapper_output(self) -> str:
        return (self.work / "thermometer.log").read_text(errors="replace")

    def _reported(self, prop: str) -> str:
        """What the cluster knows that the device said of one property."""
        self.device = self._find(f"{DEVICES}/devicestatuses/thermometer")
        twins = (self.device or {}).get("status", {}).get("twins", [])
        values = {twin["propertyName"]: twin.get("reported", {}).get("value") for twin in twins}
        return values.get(prop) or ""

    def picture(self, story: list[str]) -> Group:
        """Build the live view."""
        table = Table(box=None, pad_edge=False)
        for column in ("", "name", "state", "since", "more"):
            table.add_column(column)
        if self.node is not None:
            info = self.node["status"].get("nodeInfo", {})
            ready = _condition(self.node, "Ready")
            table.add_row(
                "node",
                NODE,
                _coloured("Ready" if ready.get("status") == "True" else "NotReady"),
                ready.get("lastTransitionTime", ""),
                info.get("containerRuntimeVersion", ""),
            )
        if self.pod is not None:
            status = self.pod.get("status", {})
            table.add_row(
                "pod",
                "hello",
                _coloured(status.get("phase", "Pending")),
                status.get("startTime", ""),
                f"ready {_condition(self.pod, 'Ready').get('status', '-')}",
            )
        if self.device is not None:
            status = self.device.get("status", {})
            table.add_row(
                "device",
                "thermometer",
                _coloured(status.get("state", "")),
                status.get("lastOnlineTime", ""),
                ", ".join(
                    f"{twin['propertyName']} {twin.get('reported', {}).get('value', '-')}"
                    for twin in status.get("twins", [])
                ),
            )
        if self.edge is not None and (wire := self.edge.wire()):
            table.add_row("wire", "WebSocket", *wire)
        logs = [
            Panel(Text(process.tail(6), overflow="ellipsis", no_wrap=True), title=process.role)
            for process in (self.cloud, self.edge)
            if process is not None
        ]
        return Group(
            Panel(
                Text("\n".join(story)),
                title="KubeEdge-TX: kubectl → cloud ⇄ one WebSocket ⇄ edge → pod",
            ),
            Panel(table, title="kubectl get nodes,pods,devicestatuses"),
            Panel(Text(self.pod_output(5)), title="what the pod writes"),
            *logs,
            Text("Ctrl-C ends it", style="dim"),
        )

    def _start(self, stack: ExitStack, role: str, config: str, *arguments: str) -> Process:
        data_dir = self.work / role
        file = self.work / f"{role}.yaml"
        file.write_text(config)
        process = Process(role, data_dir, ["--config", str(file), *arguments])
        stack.callback(process.stop)
        return process

    def _cloud_config(self) -> str:
        from kubeedge_tx.config.cloudcore import CloudCoreConfig

        tree = _defaults(CloudCoreConfig())
        tree["commonConfig"]["monitorServer"]["bindAddress"] = "127.0.0.1:0"
        modules = tree["modules"]
        modules["apiServer"]["port"] = 0
        for listener in ("websocket", "https"):
            modules["cloudHub"][listener].update(address="127.0.0.1", port=0)
        modules["cloudHub"]["advertiseAddress"] = ["127.0.0.1"]
        return yaml.safe_dump(tree)

    def _edge_config(self) -> str:
        from kubeedge_tx.config.edgecore import EdgeCoreConfig

        tree = _defaults(EdgeCoreConfig())
        tree["commonConfig"]["monitorServer"]["bindAddress"] = "127.0.0.1:0"
        tree["modules"]["eventBus"].update(mqttMode=0, mqttServerInternal="tcp://127.0.0.1:0")
        return yaml.safe_dump(tree)

    def _find(self, path: str) -> Any:
        assert self.api is not None
        return self.api.call("GET", path)

    def _node_ready(self) -> bool:
        self.node = self._find(f"/api/v1/nodes/{NODE}")
        return self.node is not None and _condition(self.node, "Ready").get("status") == "True"

    def _pod_ready(self) -> bool:
        self.pod = self._find("/api/v1/namespaces/default/pods/hello")
        return self.pod is not None and _condition(self.pod, "Ready").get("status") == "True"

    def _look(self) -> bool:
        return self._node_ready() and self._pod_ready() and bool(self._reported("temperature"))

    def _wait(self, what: str, until: Any) -> Any:
        while True:
            for process in (self.cloud, self.edge):
                if process is not None:
                    process.ports()
            if result := until():
                return result
            if time.monotonic() > self.deadline:
                raise Failed(f"waited {PATIENCE:g} s for {what}\n{self._evidence()}")
            self.view.show(self)
            time.sleep(TICK)

    def _evidence(self) -> str:
        parts = [f"--- {p.role}\n{p.tail(15)}" for p in (self.cloud, self.edge) if p is not None]
        if self.pod is not None:
            parts.append(f"--- pod\n{yaml.safe_dump(self.pod.get('status', {}))}")
        return "\n".join(parts)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _defaults(config: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(config)


def _condition(obj: Any, which: str) -> dict[str, str]:
    conditions = obj.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == which), {})


def _coloured(state: str) -> Text:
    return Text(state, style="green" if state in ("Ready", "Running", "online") else "yellow")


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        return


@click.command(help=__doc__)
@click.option(
    "--once", is_flag=True, help=f"Exit 0 as soon as it works, 1 after {PATIENCE:g} s without."
)
@click.option(
    "--runtime",
    type=click.Choice(["process", "docker"]),
    default="process",
    show_default=True,
    help="What runs the pod's container.",
)
@click.option("--keep", is_flag=True, help="Leave the data directory behind.")
def main(once: bool, runtime: str, keep: bool) -> None:
    """Run the demo."""
    console = Console()
    work = Path(tempfile.mkdtemp(prefix="kubeedge-tx-demo."))
    os.environ["PYTHONUNBUFFERED"] = "1"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = 0
    with ExitStack() as stack:
        live = None
        if not once and console.is_terminal:
            live = stack.enter_context(Live(console=console, refresh_per_second=4))
        view = View(console, live, time.monotonic())
        demo = Demo(work, runtime, view)
        try:
            demo.run(stack)
            if once:
                view.say("it works; stopping")
            else:
                demo.watch()
        except Failed as error:
            view.say(f"FAILED: {error}")
            code = 1
        except KeyboardInterrupt:
            view.say("interrupted; stopping")
            code = 0 if not once else 1
    if keep or code:
        console.print(f"the data is in {work}")
    else:
        shutil.rmtree(work, ignore_errors=True)
    sys.exit(code)


if __name__ == "__main__":
    main()

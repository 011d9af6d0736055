"""The broker beside mosquitto and amqtt: messages a second, fan-out, memory of idle clients."""

from __future__ import annotations

import json
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, Final

import yaml

from tests.bench.figures import Report
from tests.bench.mqttload import BATCH
from tests.bench.processes import GaveUp, Process, wait_for

BYTES: Final = 256
PROMISES: Final = {0: "25,000", 1: "10,000"}
AMQTT_CLIENTS: Final = 100
"""Subscribers up to which amqtt is tried: beyond, it takes minutes."""


class Broker:
    """A broker's process, and where it listens."""

    def __init__(self, name: str, port: int, pid: int) -> None:
        self.name = name
        self.port = port
        self.pid = pid

    def memory_kb(self) -> int:
        """Memory it has written to, in KB; shared pages would depend on who else runs."""
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Anonymous:"):
                return int(line.split()[1])
        raise GaveUp(f"no memory figure of {self.name}")


class Worker:
    """A process of :mod:`tests.bench.mqttload`."""

    def __init__(self, *words: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.mqttload", *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self) -> Any:
        """Wait for its next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise GaveUp("a client ended before its time")
        return json.loads(line)

    def go(self) -> None:
        """Let it go on."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


def run(report: Report, clients: list[int], idle: int, repeat: int, peers: bool) -> None:
    """Measure all brokers that are here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    starts = {"ours": _ours}
    if peers:
        starts |= {"mosquitto": _mosquitto, "amqtt": _amqtt}
    for name, start in starts.items():
        with report.about(
            "mqtt",
            f"{name}; {BYTES} B, {BATCH} to a write, processes separate, no persistent session",
        ):
            try:
                with ExitStack() as stack:
                    _measure(report, start(stack), clients, repeat)
                if idle:
                    with ExitStack() as stack:  # a heap that grew before would hide them
                        used = _idle(start(stack), idle)
                    promise = "under 25" if name == "ours" else ""
                    report.add(f"{idle} idle clients, each", used, "KB", promise)
            except (GaveUp, OSError) as error:
                report.problem(f"mqtt, {name}: {error}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _measure(report: Report, broker: Broker, clients: list[int], repeat: int) -> None:
    is_slow = broker.name == "amqtt"
    for qos, count in ((0, 200_000), (1, 50_000)):
        samples = [
            _deliveries(broker, count // 10 if is_slow else count, qos, 1) for _ in range(repeat)
        ]
        promise = PROMISES[qos] if broker.name == "ours" else ""
        report.add(f"QoS {qos}, 1 to 1", median(samples), "messages/s", promise, samples)
        singly = [
            _deliveries(broker, count // 10 if is_slow else count, qos, 1, batch=1)
            for _ in range(repeat)
        ]
        what = f"QoS {qos}, 1 to 1, each in a write of its own"
        report.add(what, median(singly), "messages/s", promise, singly)
    for number in clients:
        if is_slow and number > AMQTT_CLIENTS:
            continue
        total = 100_000 if is_slow else 1_000_000
        samples = [_deliveries(broker, total // number, 0, number) for _ in range(repeat)]
        report.add(f"QoS 0, 1 to {number}", median(samples), "deliveries/s", samples=samples)


def _deliveries(broker: Broker, count: int, qos: int, clients: int, batch: int = BATCH) -> float:
    """Deliveries a second, from the first write to the last receipt.

    :raises GaveUp: some were not delivered: a rate of what is left would mean nothing.
    """
    count = max(count // BATCH, 1) * BATCH
    with ExitStack() as stack:
        receiver = Worker("subscribe", broker.port, "bench/topic", count, qos, BYTES, clients)
        stack.callback(receiver.close)
        receiver.hear()
        sender = Worker("publish", broker.port, "bench/topic", count, qos, BYTES, batch)
        stack.callback(sender.close)
        sender.hear()
        sender.go()
        started = sender.hear()["started"]
        found = receiver.hear()
    if found["received"] != count * clients:
        raise GaveUp(
            f"QoS {qos}, 1 to {clients}: {found['received']} of {count * clients} delivered"
        )
    return float(found["received"] / (found["ended"] - started))


def _idle(broker: Broker, clients: int) -> float:
    before = broker.memory_kb()
    worker = Worker("idle", broker.port, clients)
    try:
        worker.hear()
        time.sleep(0.5)
        return (broker.memory_kb() - before) / clients
    finally:
        worker.close()


def _folder(stack: ExitStack) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="kubeedge-bench-mqtt-"))
    stack.callback(shutil.rmtree, folder, True)
    folder.chmod(0o755)
    return folder


def _ours(stack: ExitStack) -> Broker:
    folder = _folder(stack)
    config = folder / "mqtt.yaml"
    monitor = {"monitorServer": {"bindAddress": "127.0.0.1:0"}}
    limits = {"queueMessages": 1_000_000, "queueBytes": 1 << 30}  # as mosquitto's below: none
    config.write_text(yaml.safe_dump({"commonConfig": monitor, "limits": limits}))
    twistd = str(Path(sys.executable).with_name("twistd"))
    process = Process(
        "kubeedge-mqtt",
        [
            *(twistd, "-n", "--pidfile=", "kubeedge-mqtt", "--config", str(config)),
            *("--data-dir", str(folder / "data"), "--port", "0"),
        ],
        folder / "data",
    )
    process.start()
    stack.callback(process.stop)
    return Broker("ours", process.ports()["mqtt"], process.pid)


def _mosquitto(stack: ExitStack) -> Broker:
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        raise GaveUp("mosquitto is not installed")
    folder, port = _folder(stack), _free_port()
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
    return _other(stack, "mosquitto", [program, "-c", str(config)], port)


def _amqtt(stack: ExitStack) -> Broker:
    program = Path(sys.executable).with_name("amqtt")
    if not program.exists():
        raise GaveUp("amqtt is not installed")
    folder, port = _folder(stack), _free_port()
    config = folder / "amqtt.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "listeners": {
                    "default": {
                        "type": "tcp",
                        "bind": f"127.0.0.1:{port}",
                        "max_connections": 5000,
                    }
                },
                "plugins": {
                    "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
                },
            }
        )
    )
    return _other(stack, "amqtt", [str(program), "-c", str(config)], port)


def _other(stack: ExitStack, name: str, command: list[str], port: int) -> Broker:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.terminate)

    def listens() -> bool:
        if process.poll() is not None:
            raise GaveUp(f"{name} ended at once")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_for(f"{name} to listen", listens, patience=30)
    return Broker(name, port, process.pid)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""Twin updates: how long one takes alone, and how many a second pipelined, each durable."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
import yaml

from kubeedge_tx.store.migrate import load_migrations, migrate
from tests.bench.figures import Report
from tests.bench.mqttload import connect, publish_packet
from tests.bench.processes import Process

ALONE: Final = 500
PIPELINED: Final = 10_000
WINDOW: Final = 128
PUBACK: Final = 4
"""Bytes of an answer."""
TOPIC: Final = "$hw/events/device/default/thermo/twin/update"


def run(report: Report, repeat: int) -> None:
    """Measure an edge whose store has one device, without a cloud."""
    conditions = (
        f"QoS 1 to PUBACK over the built-in broker, one device, WAL, synchronous=FULL; "
        f"pipelined: {WINDOW} unacknowledged; processes separate; the cloud away"
    )
    with report.about("twin", conditions), ExitStack() as stack:
        port = _edge(stack)
        found = [_measure(port) for _ in range(repeat)]
        alone = [each["alone"] for each in found]
        rates = [each["rate"] for each in found]
        report.add("one update, median", median(alone), "ms", "under 2", alone)
        report.add("updates", median(rates), "updates/s", "1,600", rates)


def _edge(stack: ExitStack) -> int:
    folder = Path(tempfile.mkdtemp(prefix="kubeedge-bench-twin-"))
    stack.callback(shutil.rmtree, folder, True)
    data = folder / "data"
    data.mkdir()
    _seed(data / "edgecore.db")
    config = folder / "edgecore.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "commonConfig": {"monitorServer": {"bindAddress": "127.0.0.1:0"}},
                "database": {"dataSource": str(data / "edgecore.db")},
                "modules": {
                    "edgeHub": {
                        "httpServer": "https://127.0.0.1:9",
                        "websocket": {"server": "127.0.0.1:9"},
                    },
                    "edged": {"hostnameOverride": "bench-twin", "runtime": "process"},
                    "eventBus": {"mqttMode": 0, "mqttServerInternal": "tcp://127.0.0.1:0"},
                },
            }
        )
    )
    twistd = str(Path(sys.executable).with_name("twistd"))
    process = Process(
        "kubeedge-edge",
        [
            *(twistd, "-n", "--pidfile=", "kubeedge-edge", "--config", str(config)),
            *("--data-dir", str(data)),
        ],
        data,
    )
    process.start()
    stack.callback(process.stop)
    return process.ports()["mqtt"]


def _seed(path: Path) -> None:
    """Make a store as a cloud leaves it: a model and a device."""
    metadata = {"name": "thermo", "namespace": "default", "uid": "u", "resourceVersion": "2"}
    properties = [{"name": "temperature"}]
    objects: dict[str, Any] = {
        "devicemodel/m": {
            "kind": "DeviceModel",
            "metadata": {"name": "m", "namespace": "default", "uid": "m", "resourceVersion": "1"},
            "spec": {"properties": [{"name": "temperature", "type": "INT", "maximum": "1000"}]},
        },
        "device/thermo": {
            "kind": "Device",
            "metadata": metadata,
            "spec": {"deviceModelRef": {"name": "m"}, "properties": properties},
        },
    }
    connection = sqlite3.connect(path, isolation_level=None)
    migrate(connection, path, load_migrations("kubeedge_tx.store", "schema"))
    for key, content in objects.items():
        connection.execute(
            "INSERT INTO meta (key, type, value) VALUES (?, ?, ?)",
            (f"default/{key}", key.partition("/")[0], msgspec.json.encode(content).decode()),
        )
    connection.close()


def _measure(port: int) -> Any:
    """Let a process of its own do the mapper's part."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.twin", str(port)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def _packet(number: int) -> bytes:
    entry = {"actual": {"value": str(number % 1000)}, "metadata": {"type": "int"}}
    body = {"event_id": str(number), "timestamp": 0, "twin": {"temperature": entry}}
    return publish_packet(TOPIC, 1, json.dumps(body).encode(), number % 60_000 + 1)


def main(port: int) -> None:
    """Report one after another, then many at once; print what it took."""
    sock = connect(port, "bench-mapper")
    times = []
    for number in range(ALONE):
        started = time.perf_counter()
        sock.sendall(_packet(number))
        answered = 0
        while answered < PUBACK:
            answered += len(sock.recv(PUBACK - answered))
        times.append((time.perf_counter() - started) * 1000)
    packets = [_packet(number) for number in range(PIPELINED)]
    started = time.perf_counter()
    sent = done = rest = 0
    while done < PIPELINED:
        if sent < PIPELINED and sent - done <= WINDOW // 2:
            most = min(PIPELINED, done + WINDOW)
            sock.sendall(b"".join(packets[sent:most]))
            sent = most
        count, rest = divmod(rest + len(sock.recv(65536)), PUBACK)
        done += count
    took = time.perf_counter() - started
    print(json.dumps({"alone": median(times), "rate": PIPELINED / took}))  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]))

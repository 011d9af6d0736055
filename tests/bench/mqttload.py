"""MQTT clients that cost next to nothing, each a process: what is measured is the broker.

They speak 3.1.1 over blocking sockets with packets of one size, and print JSON. Times are
of the machine's monotonic clock, so that of a publisher's first write can be taken from
that of a subscriber's last message: a broker that takes everything in before it gives
anything out must not look fast.

    python -m tests.bench.mqttload publish PORT TOPIC COUNT QOS BYTES BATCH
    python -m tests.bench.mqttload subscribe PORT TOPIC COUNT QOS BYTES CLIENTS
    python -m tests.bench.mqttload idle PORT CLIENTS
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from typing import Final

WINDOW: Final = 200
"""QoS 1 messages that a publisher has unacknowledged."""
BATCH: Final = 50
"""Messages in one write, unless they are to be written one by one."""
SILENCE: Final = 5.0
"""Seconds without a message after which a subscriber gives up."""


def _string(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(2, "big") + raw


def _packet(head: int, body: bytes) -> bytes:
    size, length = len(body), bytearray()
    while True:
        size, digit = divmod(size, 128)
        length.append(digit | (128 if size else 0))
        if not size:
            return bytes([head]) + bytes(length) + body


def connect(port: int, name: str) -> socket.socket:
    """Open a session that ends with its connection."""
    found = socket.create_connection(("127.0.0.1", port), timeout=30)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found.sendall(_packet(0x10, _string("MQTT") + b"\x04\x02\0\0" + _string(name)))
    answer = _exactly(found, 4)
    if answer[3]:
        raise SystemExit(f"refused with code {answer[3]}")
    return found


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise SystemExit("the broker closed the connection")
        data += more
    return data


def publish_packet(topic: str, qos: int, payload: bytes, packet_id: int) -> bytes:
    """One PUBLISH."""
    number = packet_id.to_bytes(2, "big") if qos else b""
    return _packet(0x30 | qos << 1, _string(topic) + number + payload)


def publish(port: int, topic: str, count: int, qos: int, size: int, batch: int) -> None:
    """Send ``count`` messages as fast as the broker takes them, ``batch`` in each write."""
    sock = connect(port, f"bench-pub-{os.getpid()}")
    payload = b"x" * size
    if not qos:
        block = publish_packet(topic, 0, payload, 0) * batch
        _say("ready")
        sys.stdin.readline()
        started = time.monotonic()
        for _ in range(count // batch):
            sock.sendall(block)
        _say({"started": started})
        sys.stdin.readline()
        return
    packets = [publish_packet(topic, 1, payload, 1 + at) for at in range(60_000)]
    _say("ready")
    sys.stdin.readline()
    started = time.monotonic()
    sent = acknowledged = 0
    rest = 0
    while acknowledged < count:
        room = min(WINDOW - (sent - acknowledged), count - sent)
        while room > 0:
            at = sent % 60_000
            step = min(room, batch, 60_000 - at)
            sock.sendall(b"".join(packets[at : at + step]))
            sent += step
            room -= step
        got, rest = divmod(rest + len(sock.recv(65536)), 4)
        acknowledged += got
    _say({"started": started})
    sys.stdin.readline()


class _Receiver:
    def __init__(self, port: int, topic: str, number: int, qos: int, size: int) -> None:
        self.sock = connect(port, f"bench-sub-{os.getpid()}-{number}")
        self.sock.sendall(_packet(0x82, b"\0\x01" + _string(topic) + bytes([qos])))
        _exactly(self.sock, 5)
        self.count = 0
        self._size = len(publish_packet(topic, qos, b"x" * size, 1))
        self._at = self._size - size - 2
        self._qos = qos
        self._held = b""

    def receive(self) -> None:
        data = self._held + self.sock.recv(262_144)
        count, rest = divmod(len(data), self._size)
        self._held = data[len(data) - rest :] if rest else b""
        self.count += count
        if self._qos and count:
            at, size = self._at, self._size
            self.sock.sendall(
                b"".join(
                    b"\x40\x02" + data[start : start + 2] for start in range(at, count * size, size)
                )
            )


def subscribe(port: int, topic: str, count: int, qos: int, size: int, clients: int) -> None:
    """Receive until each of the clients has all, or nothing comes any more."""
    receivers = [_Receiver(port, topic, each, qos, size) for each in range(clients)]
    poll = select.epoll()
    by_file = {each.sock.fileno(): each for each in receivers}
    for number in by_file:
        poll.register(number, select.EPOLLIN)
    _say("ready")
    last = 0.0
    open_ones = len(receivers)
    while open_ones:
        events = poll.poll(SILENCE if last else 120.0)
        if not events:
            break
        for number, _ in events:
            receiver = by_file[number]
            receiver.receive()
            if receiver.count >= count:
                poll.unregister(number)
                open_ones -= 1
        last = time.monotonic()
    _say({"ended": last, "received": sum(each.count for each in receivers)})
    sys.stdin.readline()


def idle(port: int, clients: int) -> None:
    """Hold connections open."""
    held = [connect(port, f"bench-idle-{os.getpid()}-{each}") for each in range(clients)]
    _say("ready")
    sys.stdin.readline()
    for each in held:
        each.close()


def _say(what: object) -> None:
    print(json.dumps(what), flush=True)  # noqa: T201 - this is its output


if __name__ == "__main__":
    _, job, *words = sys.argv
    port, *others = words
    if job == "publish":
        publish(int(port), others[0], *map(int, others[1:]))
    elif job == "subscribe":
        subscribe(int(port), others[0], *map(int, others[1:]))
    else:
        idle(int(port), int(others[0]))

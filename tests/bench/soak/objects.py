"""The objects that change, who needs them, and what each looks like in its n-th state. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tests.system.roles import config_map, pod, secret

API: Final = "/apis/devices.kubeedge.io/v1beta1/namespaces/default"
CORE: Final = "/api/v1/namespaces/default"
COUNT: Final = "soak"
"""The label of a pod that says in which state it is."""
MODEL: Final = {
    "apiVersion": "devices.kubeedge.io/v1beta1",
    "kind": "DeviceModel",
    "metadata": {"name": "soak", "namespace": "default"},
    "spec": {
        "protocol": "mqtt",
        "properties": [
            {"name": "count", "type": "INT", "accessMode": "ReadOnly"},
            {"name": "wanted", "type": "INT", "accessMode": "ReadWrite"},
        ],
    },
}


@dataclass(frozen=True, slots=True)
class Thing:
    """One object of the soak."""

    kind: str
    """``Pod``, ``ConfigMap``, ``Secret`` or ``Device``."""
    name: str
    nodes: tuple[int, ...]
    """The numbers of the edges that need it."""
    needs: tuple[str, ...] = ()
    """Of a pod: the ConfigMaps and Secrets in its volumes."""
    steady: bool = False
    """Never deleted: a device that reports."""

    @property
    def key(self) -> str:
        """As histories and edges call it."""
        return f"default/{self.kind.lower()}/{self.name}"

    @property
    def collection(self) -> str:
        """The path of its kind."""
        return f"{API if self.kind == 'Device' else CORE}/{self.kind.lower()}s"

    @property
    def path(self) -> str:
        """Its own path."""
        return f"{self.collection}/{self.name}"

    def body(self, state: int, nodes: list[str]) -> Any:
        """The object, to be created.

        :param nodes: names of the edges.
        """
        text = str(state)
        match self.kind:
            case "ConfigMap":
                return config_map(self.name, n=text, filler="x" * (37 * state % 900))
            case "Secret":
                return secret(self.name, n=text)
            case "Device":
                return {
                    "apiVersion": "devices.kubeedge.io/v1beta1",
                    "kind": "Device",
                    "metadata": {"name": self.name, "namespace": "default"},
                    "spec": {
                        "deviceModelRef": {"name": MODEL["metadata"]["name"]},  # type: ignore[index]
                        "nodeName": nodes[self.nodes[0]],
                        "protocol": {"protocolName": "mqtt"},
                        "properties": _properties(text),
                    },
                }
        volumes = [
            {"name": name, "configMap": {"name": name, "optional": True}}
            if name.startswith("map")
            else {"name": name, "secret": {"secretName": name, "optional": True}}
            for name in self.needs
        ]
        made = pod(self.name, "sleep", "1000000", nodeName=nodes[self.nodes[0]], volumes=volumes)
        made["metadata"]["labels"] = {COUNT: text}
        return made

    def change(self, state: int) -> Any:
        """A merge patch that brings it into another state."""
        text = str(state)
        match self.kind:
            case "ConfigMap":
                return {"data": {"n": text, "filler": "x" * (37 * state % 900)}}
            case "Secret":
                return {"stringData": {"n": text}}
            case "Device":
                return {"spec": {"properties": _properties(text)}}
        return {"metadata": {"labels": {COUNT: text}}}


def _properties(text: str) -> list[Any]:
    return [
        {"name": "count", "reportToCloud": True},
        {"name": "wanted", "reportToCloud": True, "desired": {"value": text}},
    ]


def version(kind: str, metadata: Any) -> int:
    """Which version an object is, by its metadata.

    Of a pod it is the number in its label: statuses change its resourceVersion, too, and those
    are not sent to the edge they came from.
    """
    if kind == "Pod":
        return int((metadata.get("labels") or {}).get(COUNT, 0))
    return int(metadata["resourceVersion"])


def layout(edges: int, objects: int) -> list[Thing]:
    """Lay out so many objects over so many edges.

    Each edge has two pods, one of which needs all its ConfigMaps and Secrets; each fifth of
    those is needed by two edges.
    """
    left = max(objects - 2 * edges, 4 * edges)
    devices, secrets = left * 18 // 100, left * 25 // 100
    things: list[Thing] = []
    needs: dict[int, list[str]] = {number: [] for number in range(edges)}
    for kind, prefix, count in (
        ("ConfigMap", "map", left - devices - secrets),
        ("Secret", "secret", secrets),
    ):
        for number in range(count):
            home = number % edges
            nodes = {home} | ({(home + 7) % edges} if number % 5 == 0 else set())
            thing = Thing(kind, f"{prefix}-{number:03}", tuple(sorted(nodes)))
            things.append(thing)
            for node in nodes:
                needs[node].append(thing.name)
    for number in range(devices):
        name = f"device-{number:03}"
        things.append(Thing("Device", name, (number % edges,), steady=number < devices // 2))
    for number in range(edges):
        things.append(Thing("Pod", f"reader-{number:02}", (number,), tuple(needs[number])))
        things.append(Thing("Pod", f"plain-{number:02}", (number,)))
    return things

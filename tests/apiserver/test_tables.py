from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase as TestCase

from kubeedge_tx.api.timestamps import parse_time
from kubeedge_tx.apiserver import jsonpath
from kubeedge_tx.apiserver.durations import human, since
from kubeedge_tx.apiserver.registry import BUILT_IN, KindInfo, custom_kinds
from kubeedge_tx.apiserver.tables import to_table
from tests.apiserver.recordings import KUBECTL, exchanges, objects, plain

NOW = 1_795_507_500.0
CREATED = "2026-11-24T08:03:59Z"


def kind(name: str) -> KindInfo:
    return next(info for info in BUILT_IN if info.kind == name)


def crd(columns: list[dict[str, Any]] | None = None) -> KindInfo:
    version: dict[str, Any] = {"name": "v1", "served": True, "storage": True}
    if columns is not None:
        version["additionalPrinterColumns"] = columns
    names = {"plural": "things", "kind": "Thing"}
    spec = {"group": "x.io", "names": names, "scope": "Namespaced", "versions": [version]}
    return custom_kinds({"spec": spec})[0]


def cells(name: str, obj: dict[str, Any]) -> list[Any]:
    obj = {"metadata": {"name": "o", "creationTimestamp": CREATED}, **obj}
    table = to_table(kind(name), [obj], {}, NOW)
    row: list[Any] = table["rows"][0]["cells"]
    return row


def pod(status: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "a"}, {"name": "b"}], **spec}, "status": status}


def container(name: str, restarts: int = 0, ready: bool = False, **state: Any) -> dict[str, Any]:
    return {"name": name, "restartCount": restarts, "ready": ready, "state": state}


def seconds(age: str) -> range:
    """What an age may stand for, in seconds."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    parts = re.findall(r"(\d+)([smhd])", age)
    total = sum(int(number) * units[unit] for number, unit in parts)
    return range(total, total + units[parts[-1][1]])


def recorded_tables() -> Iterator[tuple[str, dict[str, Any], dict[tuple[Any, ...], Any]]]:
    """Every recorded table with columns, and the whole objects of its recording by version."""
    for name in ("kube-api.jsonl", *KUBECTL):
        lines = exchanges(name)
        known = {
            (obj["kind"], obj["metadata"].get("uid"), obj["metadata"].get("resourceVersion")): obj
            for obj in objects(lines)
        }
        for line in lines:
            body = line["response"]["body"]
            for table in body if isinstance(body, list) else [body]:
                table = table.get("object", table) if isinstance(table, dict) else {}
                if table.get("kind") == "Table" and table.get("columnDefinitions"):
                    yield line["request"]["path"].split("?")[0], table, known


def info_of(path: str) -> KindInfo:
    parts = path.split("/")
    plural = next(part for part in reversed(parts) if part in PLURALS)
    return PLURALS[plural]


PLURALS = {info.plural: info for info in BUILT_IN} | {
    name: crd() for name in ("devices", "devicemodels")
}


class RecordedTests(TestCase):
    def test_columns(self) -> None:
        """Every recorded table has our columns: name, type, format, priority, in this order."""
        count = 0
        for path, table, _ in recorded_tables():
            ours = to_table(info_of(path), [], table["metadata"], NOW)
            keys = ("name", "type", "format", "priority")
            self.assertEqual(
                [{key: column[key] for key in keys} for column in ours["columnDefinitions"]],
                [{key: column[key] for key in keys} for column in table["columnDefinitions"]],
                path,
            )
            self.assertEqual(ours["metadata"], table["metadata"])
            count += 1
        self.assertGreater(count, 55)

    def test_rows(self) -> None:
        """Every recorded row whose object is in the recording comes out cell by cell."""
        count = 0
        for path, table, known in recorded_tables():
            info = info_of(path)
            for row in table["rows"]:
                meta = row["object"]["metadata"]
                obj = known.get((info.kind, meta["uid"], meta["resourceVersion"]))
                if obj is None and info.crd is not None:
                    obj = {"metadata": plain(meta)}
                if obj is None:
                    continue
                now = self._now(row, info)
                ours = to_table(info, [obj], {}, now)["rows"][0]
                self.assertEqual(ours["cells"], row["cells"], path)
                self.assertEqual(ours["object"], plain(row["object"]))
                count += 1
        self.assertGreater(count, 40)

    def _now(self, row: dict[str, Any], info: KindInfo) -> float:
        """A time at which all the row's ages are what they were."""
        created = parse_time(row["object"]["metadata"]["creationTimestamp"])
        assert created is not None
        columns = to_table(info, [], {}, NOW)["columnDefinitions"]
        age = next(i for i, column in enumerate(columns) if column["name"] == "Age")
        possible = seconds(row["cells"][age])
        restarts = re.search(r"\((\w+) ago\)", str(row["cells"][3:4]))
        if restarts:
            # The recorded container restarted a second after its pod was created.
            possible = range(seconds(restarts[1]).start + 1, seconds(restarts[1]).stop + 1)
        return created[0] + float(possible.start)


class PodTests(TestCase):
    def test_status(self) -> None:
        """The status tells what keeps a pod from running, as kubectl's users know it."""
        running = {"startedAt": CREATED}
        for expected, ready, status in (
            ("Pending", "0/2", {"phase": "Pending"}),
            (
                "Running",
                "2/2",
                {
                    "phase": "Running",
                    "containerStatuses": [
                        container("a", ready=True, running=running),
                        container("b", ready=True, running=running),
                    ],
                },
            ),
            (
                "CrashLoopBackOff",
                "1/2",
                {
                    "phase": "Running",
                    "containerStatuses": [
                        container("a", waiting={"reason": "CrashLoopBackOff"}),
                        container("b", ready=True, running=running),
                    ],
                },
            ),
            (
                "ImagePullBackOff",
                "0/2",
                {
                    "phase": "Pending",
                    "containerStatuses": [container("a", waiting={"reason": "ImagePullBackOff"})],
                },
            ),
            (
                "Error",
                "0/2",
                {
                    "phase": "Failed",
                    "containerStatuses": [
                        container("a", terminated={"exitCode": 1, "reason": "Error"})
                    ],
                },
            ),
            (
                "ExitCode:3",
                "0/2",
                {
                    "phase": "Failed",
                    "containerStatuses": [container("a", terminated={"exitCode": 3})],
                },
            ),
            (
                "Signal:9",
                "0/2",
                {
                    "phase": "Failed",
                    "containerStatuses": [
                        container("a", terminated={"exitCode": 137, "signal": 9})
                    ],
                },
            ),
            (
                "NotReady",
                "1/2",
                {
                    "phase": "Running",
                    "containerStatuses": [
                        container("a", terminated={"exitCode": 0, "reason": "Completed"}),
                        container("b", ready=True, running=running),
                    ],
                },
            ),
            ("Evicted", "0/2", {"phase": "Failed", "reason": "Evicted"}),
            (
                "SchedulingGated",
                "0/2",
                {
                    "phase": "Pending",
                    "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}],
                },
            ),
        ):
            row = cells("Pod", pod(status))
            self.assertEqual((row[2], row[1]), (expected, ready))

    def test_init_containers(self) -> None:
        """While init containers run, the status counts them or names their trouble."""
        init = [{"name": "i"}, {"name": "j"}]
        for expected, statuses in (
            ("Init:0/2", [container("i", running={})]),
            (
                "Init:1/2",
                [container("i", terminated={"exitCode": 0}), container("j", running={})],
            ),
            ("Init:Error", [container("i", terminated={"exitCode": 1, "reason": "Error"})]),
            ("Init:ExitCode:2", [container("i", terminated={"exitCode": 2})]),
            ("Init:ErrImagePull", [container("i", waiting={"reason": "ErrImagePull"})]),
        ):
            status = {"phase": "Pending", "initContainerStatuses": statuses}
            self.assertEqual(cells("Pod", pod(status, initContainers=init))[2], expected)

    def test_sidecar(self) -> None:
        """A restartable init container counts among the containers of the pod."""
        init = [{"name": "side", "restartPolicy": "Always"}]
        side = {**container("side", restarts=2, ready=True, running={}), "started": True}
        status = {
            "phase": "Running",
            "initContainerStatuses": [side],
            "containerStatuses": [container("a", ready=True, running={})],
        }
        row = cells("Pod", pod(status, initContainers=init))
        self.assertEqual(row[1:4], ["2/3", "Running", "2"])

    def test_deletion(self) -> None:
        """A pod that is being deleted is Terminating; one on a lost node is Unknown."""
        meta = {"name": "p", "creationTimestamp": CREATED, "deletionTimestamp": CREATED}
        for expected, status in (
            ("Terminating", {"phase": "Running"}),
            ("Unknown", {"phase": "Running", "reason": "NodeLost"}),
            ("Succeeded", {"phase": "Succeeded"}),
        ):
            self.assertEqual(cells("Pod", {"metadata": meta, **pod(status)})[2], expected)

    def test_restarts(self) -> None:
        """Restarts carry the time of the last one."""
        last = {"terminated": {"exitCode": 1, "finishedAt": "2026-11-24T08:03:00Z"}}
        one = {**container("a", restarts=3, ready=True, running={}), "lastState": last}
        row = cells("Pod", pod({"phase": "Running", "containerStatuses": [one]}))
        self.assertEqual(row[3], "3 (2m ago)")

    def test_wide(self) -> None:
        """The wide columns tell address, node, nomination and readiness gates."""
        status = {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "nominatedNodeName": "m",
            "conditions": [{"type": "gate/a", "status": "True"}],
        }
        gates = [{"conditionType": "gate/a"}, {"conditionType": "gate/b"}]
        row = cells("Pod", pod(status, nodeName="n", readinessGates=gates))
        self.assertEqual(row[5:], ["10.0.0.1", "n", "m", "1/2"])

    def test_ended(self) -> None:
        """The row of a pod that has ended says so to watchers."""
        for phase in ("Succeeded", "Failed"):
            table = to_table(kind("Pod"), [{"metadata": {}, "status": {"phase": phase}}], {}, NOW)
            self.assertEqual(table["rows"][0]["conditions"][0]["reason"], phase)


class KindTests(TestCase):
    def test_node(self) -> None:
        """A node's row tells readiness, cordon, roles and addresses."""
        node = {
            "metadata": {
                "name": "n",
                "labels": {
                    "node-role.kubernetes.io/edge": "",
                    "node-role.kubernetes.io/agent": "",
                    "kubernetes.io/role": "x",
                },
            },
            "spec": {"unschedulable": True},
            "status": {
                "conditions": [{"type": "Ready", "status": "Unknown"}],
                "addresses": [{"type": "InternalIP", "address": "192.0.2.2"}],
                "nodeInfo": {"kernelVersion": "6.1", "architecture": "arm64"},
            },
        }
        row = cells("Node", node)
        self.assertEqual(row[1:4], ["NotReady,SchedulingDisabled", "agent,edge,x", "<unknown>"])
        self.assertEqual(row[5:], ["192.0.2.2", "<none>", "<unknown>", "6.1 (arm64)", "<unknown>"])

    def test_service(self) -> None:
        """A service's row tells its addresses and ports for each type."""
        ports = [
            {"port": 80, "protocol": "TCP"},
            {"port": 53, "nodePort": 30053, "protocol": "UDP"},
        ]
        for spec, status, expected in (
            (
                {"type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": ports},
                {},
                ["ClusterIP", "10.0.0.1", "<none>", "80/TCP,53:30053/UDP"],
            ),
            (
                {"type": "ExternalName", "externalName": "example.com"},
                {},
                ["ExternalName", "<none>", "example.com", "<none>"],
            ),
            (
                {"type": "LoadBalancer", "clusterIP": "10.0.0.2"},
                {},
                ["LoadBalancer", "10.0.0.2", "<pending>", "<none>"],
            ),
            (
                {"type": "LoadBalancer", "clusterIP": "10.0.0.2"},
                {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}},
                ["LoadBalancer", "10.0.0.2", "192.0.2.9", "<none>"],
            ),
        ):
            self.assertEqual(cells("Service", {"spec": spec, "status": status})[1:5], expected)
        selected = {"spec": {"selector": {"b": "2", "a": "1"}}}
        self.assertEqual(cells("Service", selected)[6], "a=1,b=2")

    def test_endpoints(self) -> None:
        """Endpoints show three addresses and count the rest."""
        subset = {
            "addresses": [{"ip": f"10.0.0.{n}"} for n in range(1, 4)] + [{"ip": "fd00::1"}],
            "ports": [{"port": 80}],
        }
        row = cells("Endpoints", {"subsets": [subset]})
        self.assertEqual(row[1], "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 1 more...")
        self.assertEqual(cells("Endpoints", {})[1], "<none>")

    def test_event(self) -> None:
        """An event's row tells when, what, about which object, from whom and how often."""
        event = {
            "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{a}"},
            "reason": "Started",
            "message": " hello ",
            "type": "Normal",
            "source": {"component": "edged", "host": "n"},
            "firstTimestamp": "2026-11-24T08:00:00Z",
            "lastTimestamp": "2026-11-24T08:04:00Z",
            "count": 4,
        }
        self.assertEqual(
            cells("Event", event),
            [
                "60s",
                "Normal",
                "Started",
                "pod/p",
                "spec.containers{a}",
                "edged, n",
                "hello",
                "5m",
                4,
                "o",
            ],
        )
        series = {
            "involvedObject": {"kind": "Node"},
            "eventTime": "2026-11-24T08:04:00.000000Z",
            "series": {"count": 7, "lastObservedTime": "2026-11-24T08:04:50.000000Z"},
        }
        row = cells("Event", series)
        self.assertEqual((row[0], row[3], row[7], row[8]), ("10s", "node", "60s", 7))
        self.assertEqual(cells("Event", {})[8], 1)

    def test_csr(self) -> None:
        """A signing request's row tells who asked whom, for how long, and what came of it."""
        spec = {"signerName": "x.io/s", "username": "me", "expirationSeconds": 86400}
        for conditions, certificate, expected in (
            ([], "", "Pending"),
            (["Approved"], "", "Approved"),
            (["Approved"], "AAAA", "Approved,Issued"),
            (["Denied"], "", "Denied"),
            (["Approved", "Failed"], "", "Approved,Failed"),
        ):
            status = {"conditions": [{"type": c} for c in conditions], "certificate": certificate}
            row = cells("CertificateSigningRequest", {"spec": spec, "status": status})
            self.assertEqual(row[2:], ["x.io/s", "me", "24h", expected])

    def test_small_kinds(self) -> None:
        """Config maps, secrets, service accounts, leases, namespaces and definitions."""
        data = {"data": {"a": ""}, "binaryData": {"b": ""}}
        self.assertEqual(cells("ConfigMap", data)[1], 2)
        self.assertEqual(cells("Secret", {"type": "Opaque", "data": {"a": ""}})[1:3], ["Opaque", 1])
        self.assertEqual(cells("ServiceAccount", {})[1], 0)
        self.assertEqual(cells("Lease", {"spec": {"holderIdentity": "n"}})[1], "n")
        self.assertEqual(cells("Namespace", {"status": {"phase": "Active"}})[1], "Active")
        self.assertEqual(cells("CustomResourceDefinition", {})[1], CREATED)


class CustomTests(TestCase):
    def test_columns(self) -> None:
        """A definition's columns are shown by their type, and empty where there is nothing."""
        info = crd(
            [
                {"name": "Text", "type": "string", "jsonPath": ".spec.text"},
                {"name": "Number", "type": "integer", "jsonPath": ".spec.n", "priority": 1},
                {"name": "On", "type": "boolean", "jsonPath": ".spec.on"},
                {"name": "Since", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                {
                    "name": "Ready",
                    "type": "string",
                    "jsonPath": '.status.conditions[?(@.type=="Ready")].status',
                },
                {"name": "Map", "type": "string", "jsonPath": ".spec.map"},
                {"name": "None", "type": "string", "jsonPath": ".spec.none.deeper"},
            ]
        )
        obj = {
            "metadata": {"name": "t", "creationTimestamp": CREATED},
            "spec": {"text": "x", "n": 3, "on": True, "map": {"a": 1}},
            "status": {
                "conditions": [{"type": "A", "status": "no"}, {"type": "Ready", "status": "yes"}]
            },
        }
        table = to_table(info, [obj], {"resourceVersion": "5"}, NOW)
        self.assertEqual(
            table["rows"][0]["cells"], ["t", "x", 3, True, "61s", "yes", '{"a":1}', None]
        )
        self.assertEqual(
            [c["priority"] for c in table["columnDefinitions"]], [0, 0, 1, 0, 0, 0, 0, 0]
        )
        wrong = {"metadata": {"name": "t"}, "spec": {"n": "x", "on": 1, "text": 5}}
        row = to_table(info, [wrong], {}, NOW)["rows"][0]["cells"]
        self.assertEqual(row[1:5], ["5", None, None, None])

    def test_default(self) -> None:
        """Without columns of its own a kind shows name and age."""
        obj = {"metadata": {"name": "t", "creationTimestamp": CREATED}}
        self.assertEqual(to_table(crd(), [obj], {}, NOW)["rows"][0]["cells"], ["t", "61s"])

    def test_what_a_row_carries(self) -> None:
        """A row carries metadata, the whole object, or nothing, as asked."""
        obj = {"metadata": {"name": "t"}, "spec": {"a": 1}}
        for include, expected in (
            ("None", None),
            ("Object", obj),
            (
                "Metadata",
                {
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": {"name": "t"},
                },
            ),
        ):
            table = to_table(crd(), [obj], {}, NOW, include_object=include)
            self.assertEqual(table["rows"][0]["object"], expected)
        self.assertIsNone(to_table(crd(), [], {}, NOW, columns=False)["columnDefinitions"])


class JsonPathTests(TestCase):
    def test_paths(self) -> None:
        """The forms that printer columns use lead where they should."""
        obj = {"a": {"b.c": [1, {"d": 2}, {"d": 3}]}, "e": [{"n": 5}, {"n": 7}]}
        for path, expected in (
            (".a['b.c'][0]", [1]),
            (".a.b\\.c[1].d", [2]),
            (".a['b.c'][-1].d", [3]),
            (".a['b.c'][*].d", [2, 3]),
            (".e[?(@.n>5)].n", [7]),
            (".e[?(@.n!=5)].n", [7]),
            (".e[?(@.n<=5)].n", [5]),
            ("{.e[1].n}", [7]),
            ("$.e[9].n", []),
            (".nope.deeper", []),
            (".e[?(", []),
        ):
            self.assertEqual(jsonpath.find(path, obj), expected, path)

    @given(st.text(".[]*?(@)'=ab0\\", max_size=15))
    def test_garbage(self, path: str) -> None:
        """Any text is a path that leads somewhere or nowhere."""
        self.assertIsInstance(jsonpath.find(path, {"a": [{"b": 0}]}), list)


class DurationTests(TestCase):
    def test_units(self) -> None:
        """Ages use the units that kubectl's users know."""
        minute, hour, day = 60, 3600, 86400
        for span, text in (
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (2 * minute, "2m"),
            (9 * minute + 59, "9m59s"),
            (10 * minute + 5, "10m"),
            (179 * minute, "179m"),
            (3 * hour, "3h"),
            (7 * hour + 59 * minute, "7h59m"),
            (8 * hour + 5 * minute, "8h"),
            (47 * hour, "47h"),
            (2 * day, "2d"),
            (7 * day + 23 * hour, "7d23h"),
            (8 * day + hour, "8d"),
            (729 * day, "729d"),
            (730 * day, "2y"),
            (730 * day + day, "2y1d"),
            (9 * 365 * day, "9y"),
        ):
            self.assertEqual(human(span), text)

    @given(st.integers(0, 10**10))
    def test_near(self, span: int) -> None:
        """An age is never more than the time that went by."""
        units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "y": 86400 * 365}
        parts = re.findall(r"(\d+)([smhdy])", human(span))
        self.assertLessEqual(sum(int(n) * units[u] for n, u in parts), span)

    def test_missing(self) -> None:
        """No time, or no valid one, is unknown."""
        self.assertEqual(since(None, NOW), "<unknown>")
        self.assertEqual(since("yesterday", NOW), "<unknown>")

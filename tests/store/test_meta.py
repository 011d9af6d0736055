from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.errors import StoreError
from kubeedge_tx.store import meta
from kubeedge_tx.store.meta import Identity, MetaStore, State, identify
from tests.fakes.database import DirectDatabase


def pod(
    name: str = "web", uid: str = "u1", version: str = "5", created: str | None = None, **more: Any
) -> bytes:
    metadata = {"name": name, "namespace": "default", "uid": uid, "resourceVersion": version}
    if created is not None:
        metadata["creationTimestamp"] = created
    return json.dumps({"kind": "Pod", "apiVersion": "v1", "metadata": metadata, **more}).encode()


class MetaStoreTests(SynchronousTestCase):
    """Rows in memory are the rows on disk."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "edge.db"
        self.open()

    def open(self) -> None:
        self.database = DirectDatabase(self.path)
        self.store = MetaStore(self.database)
        self.successResultOf(Deferred.fromCoroutine(self.store.load()))

    def sql(self, text: str) -> list[Any]:
        rows: list[Any] = self.successResultOf(
            self.database.read(lambda cursor: cursor.execute(text).fetchall())
        )
        return rows

    def test_gone(self) -> None:
        """Of the names that are gone the newest few thousand are remembered, for good."""
        self.patch(meta, "MAX_GONE", 2)
        for key in ("a", "b", "a", "c"):
            self.successResultOf(self.database.commit(self.store.burying(key, State("5", ""))))
        for _ in range(2):
            self.assertEqual(
                [self.store.is_outdated(key, Identity(uid="1", version="5")) for key in "abc"],
                [True, False, True],
            )
            self.assertFalse(self.store.is_outdated("a", Identity(uid="1", version="6")))
            self.assertFalse(self.store.is_outdated("a", Identity(uid="1")))
            self.open()

    def test_outdated(self) -> None:
        """What is not newer than the last object of its name is outdated, whatever its uid."""
        key, about = "default/pod/web", pod(version="5", created="2026-11-24T08:00:01Z")
        self.successResultOf(self.store.put(key, "pod", about))
        for _ in range(2):
            for version, second, outdated in (
                ("4", 1, True),
                ("5", 1, True),
                ("6", 1, False),
                ("6", 0, False),
                ("4", 2, False),  # a cluster that began to count anew
            ):
                found = Identity(
                    uid="another", version=version, created=f"2026-11-24T08:00:0{second}Z"
                )
                self.assertEqual(self.store.is_outdated(key, found), outdated, (version, second))
            last = State("5", "2026-11-24T08:00:01Z")
            self.successResultOf(
                self.database.commit(self.store.deleting(key), self.store.burying(key, last))
            )

    def test_survives_restart(self) -> None:
        """What was put is there after a kill, and is replaced, not doubled."""
        self.successResultOf(self.store.put("default/pod/web", "pod", pod(version="5")))
        self.successResultOf(self.store.put("default/pod/web", "pod", pod(version="6")))
        self.successResultOf(self.store.put("default/secret/s", "secret", b"{}"))
        self.database.crash()
        self.open()
        self.assertEqual([row.identity.version for row in self.store.list("pod")], ["6"])
        self.assertEqual([row.key for row in self.store.list("secret")], ["default/secret/s"])

    def test_not_visible_before_commit(self) -> None:
        """Nobody reads what a power cut could still take back."""
        self.database.held = True
        putting = self.store.put("default/pod/web", "pod", pod())
        self.assertIsNone(self.store.get("default/pod/web"))
        self.database.run()
        self.successResultOf(putting)
        row = self.store.get("default/pod/web")
        assert row is not None
        self.assertEqual(row.read()["kind"], "Pod")

    def test_failed_write_leaves_memory_alone(self) -> None:
        """A disk error reaches the caller, and the old row stays."""
        self.successResultOf(self.store.put("default/pod/web", "pod", pod(version="5")))
        self.database.failing = StoreError("disk full")
        self.failureResultOf(self.store.put("default/pod/web", "pod", pod(version="6")), StoreError)
        self.failureResultOf(self.store.delete("default/pod/web"), StoreError)
        row = self.store.get("default/pod/web")
        assert row is not None
        self.assertEqual(row.identity.version, "5")

    def test_second_table(self) -> None:
        """KubeEdge's tools find the object in meta_v2 under their key, and it goes with the row."""
        self.successResultOf(self.store.put("default/pod/web", "pod", pod(version="5")))
        device = {
            "kind": "DeviceModel",
            "apiVersion": "devices.kubeedge.io/v1beta1",
            "metadata": {"name": "m", "namespace": "ns"},
        }
        self.successResultOf(
            self.store.put("ns/devicemodel/m", "devicemodel", json.dumps(device).encode())
        )
        self.successResultOf(self.store.put("default/podpatch/web", "podpatch", b'"{}"'))
        columns = "key, group_version_resource, namespace, name, resource_version"
        self.assertEqual(
            self.sql(f"SELECT {columns} FROM meta_v2 ORDER BY key"),
            [
                ("/core/v1/pods/default/web", "/v1, Resource=pods", "default", "web", 5),
                (
                    "/devices.kubeedge.io/v1beta1/devicemodels/ns/m",
                    "devices.kubeedge.io/v1beta1, Resource=devicemodels",
                    "ns",
                    "m",
                    0,
                ),
            ],
        )
        self.successResultOf(self.store.delete("default/pod/web"))
        self.assertEqual(self.sql("SELECT count(*) FROM meta_v2"), [(1,)])

    def test_identity(self) -> None:
        """Objects say who they are; anything else is nobody, and nothing raises."""
        self.assertEqual(identify(pod()), Identity("v1", "Pod", "default", "web", "u1", "5"))
        for other in (b"null", b'"OK"', b"[]", b"{", b'{"metadata": 3}', b"\xff", b"[" * 100_000):
            self.assertEqual(identify(other), Identity(), other[:20])

from __future__ import annotations

import base64
import stat
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.edge.edged import atomicdir
from kubeedge_tx.edge.edged.downward import Place
from kubeedge_tx.edge.edged.objects import ObjectUnavailable
from kubeedge_tx.edge.edged.payload import File, MountError, volume_payload
from kubeedge_tx.edge.edged.volumes import PodVolumes, Prepared
from kubeedge_tx.errors import ContainerError
from tests.edge.edged.harness import at_once, make_pod

PLACE = Place(node="edge-1", host_ip="192.0.2.2", allocatable={"cpu": "2"})


def shown(folder: Path) -> dict[str, bytes]:
    """What a container sees in a folder: files by path, through all links."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for entry in folder.iterdir()
        if not entry.name.startswith("..")
        for path in ([entry] if entry.is_file() else entry.rglob("*"))
        if path.is_file()
    }


class AtomicFolderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())

    def test_swapped_at_once(self) -> None:
        """All files change with one link, and nothing old stays behind."""
        self.assertTrue(atomicdir.write(self.folder, {"a": File(b"1"), "d/b": File(b"2")}, "one"))
        self.assertEqual(shown(self.folder), {"a": b"1", "d/b": b"2"})
        self.assertEqual((self.folder / "..data").readlink(), Path("..one"))
        self.assertEqual((self.folder / "a").readlink(), Path("..data/a"))
        self.assertTrue(atomicdir.write(self.folder, {"a": File(b"3"), "c": File(b"")}, "two"))
        self.assertEqual(shown(self.folder), {"a": b"3", "c": b""})
        self.assertEqual(
            sorted(entry.name for entry in self.folder.iterdir()), ["..data", "..two", "a", "c"]
        )

    def test_nothing_new(self) -> None:
        """The same files again touch nothing."""
        atomicdir.write(self.folder, {"a": File(b"1")}, "one")
        self.assertFalse(atomicdir.write(self.folder, {"a": File(b"1")}, "two"))
        self.assertEqual((self.folder / "..data").readlink(), Path("..one"))

    def test_interrupted(self) -> None:
        """What a killed agent left half written is cleared away."""
        atomicdir.write(self.folder, {"a": File(b"1")}, "one")
        (self.folder / "..two").mkdir()
        (self.folder / "..two" / "a").write_bytes(b"ha")
        (self.folder / "..data_tmp").symlink_to("..two")
        atomicdir.write(self.folder, {"a": File(b"2")}, "two")
        self.assertEqual(shown(self.folder), {"a": b"2"})
        self.assertFalse((self.folder / "..data_tmp").is_symlink())

    def test_modes(self) -> None:
        """Files have the modes that were asked for."""
        atomicdir.write(self.folder, {"a": File(b"", 0o400), "b": File(b"", 0o755)}, "one")
        modes = [stat.S_IMODE((self.folder / name).stat().st_mode) for name in ("a", "b")]
        self.assertEqual(modes, [0o400, 0o755])

    @settings(max_examples=30, deadline=None)
    @given(
        st.lists(
            st.dictionaries(
                st.sampled_from(["a", "b", "d/a", "d/b", "e/f/g"]), st.binary(max_size=3)
            ),
            max_size=5,
        )
    )
    def test_shows_the_newest(self, versions: list[dict[str, bytes]]) -> None:
        """Whatever came before, the folder shows just the newest files."""
        folder = Path(self.mktemp())
        for number, version in enumerate(versions):
            payload = {name: File(data) for name, data in version.items()}
            atomicdir.write(folder, payload, str(number))
            self.assertEqual(shown(folder), version)


class PayloadTests(SynchronousTestCase):
    def payload(self, volume: dict[str, Any], **objects: Any) -> dict[str, tuple[bytes, int]]:
        pod = make_pod()
        pod["metadata"]["labels"] = {"b": 'say "hi"', "a": "1"}
        found = {("configmap", "app"): objects.get("app"), ("secret", "pw"): objects.get("pw")}
        files = volume_payload(pod, volume, found, {}, PLACE)
        assert files is not None
        return {path: (file.data, file.mode) for path, file in files.items()}

    def test_configmap(self) -> None:
        """A ConfigMap's text and binary values are files."""
        app = {"data": {"a": "1"}, "binaryData": {"b": base64.b64encode(b"\xff").decode()}}
        self.assertEqual(
            self.payload({"configMap": {"name": "app"}}, app=app),
            {"a": (b"1", 0o644), "b": (b"\xff", 0o644)},
        )

    def test_secret_items(self) -> None:
        """Chosen keys go to chosen paths with chosen modes."""
        items = [{"key": "p", "path": "x/y", "mode": 0o400}]
        volume = {"secret": {"secretName": "pw", "items": items, "defaultMode": 0o600}}
        pw = {"data": {"p": "c2VzYW0=", "q": "eA=="}}
        self.assertEqual(self.payload(volume, pw=pw), {"x/y": (b"sesam", 0o400)})

    def test_missing_key(self) -> None:
        """A key that is not there is named, unless the volume is optional."""
        source = {"name": "app", "items": [{"key": "no", "path": "no"}]}
        error = self.assertRaises(MountError, self.payload, {"configMap": source}, app={"data": {}})
        self.assertIn("references non-existent key: no", str(error))
        self.assertEqual(
            self.payload({"configMap": {**source, "optional": True}}, app={"data": {}}), {}
        )
        self.assertEqual(self.payload({"configMap": {"name": "app", "optional": True}}), {})

    def test_unsafe_paths(self) -> None:
        """No path leads out of its volume."""
        for path in ("../x", "/etc/passwd", "a/../../x", "..data", ""):
            source = {"name": "app", "items": [{"key": "a", "path": path}]}
            self.assertRaises(
                MountError, self.payload, {"configMap": source}, app={"data": {"a": "1"}}
            )

    def test_downward(self) -> None:
        """Labels are lines, quoted as Go quotes."""
        items = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
        self.assertEqual(
            self.payload({"downwardAPI": {"items": items}}),
            {"labels": (b'a="1"\nb="say \\"hi\\""', 0o644)},
        )

    def test_projected(self) -> None:
        """Several sources share one folder."""
        sources = [
            {"configMap": {"name": "app"}},
            {"secret": {"name": "pw"}},
            {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        ]
        files = self.payload(
            {"projected": {"sources": sources}}, app={"data": {"a": "1"}}, pw={"data": {}}
        )
        self.assertEqual(files, {"a": (b"1", 0o644), "n": (b"web", 0o644)})
        unknown = [{"clusterTrustBundle": {"path": "x"}}]
        error = self.assertRaises(MountError, self.payload, {"projected": {"sources": unknown}})
        self.assertIn("clusterTrustBundle", str(error))


class _NoObjects:
    """A store that is offline and empty."""

    async def read(self, namespace: str, kind: str, name: str) -> None:
        raise ObjectUnavailable("not connected")


class PodVolumesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        objects: Any = _NoObjects()
        self.volumes = PodVolumes(self.root, objects, at_once, lambda: 1000.0)

    def prepare(self, *volumes: dict[str, Any]) -> Deferred[Prepared]:
        return Deferred.fromCoroutine(self.volumes.prepare(make_pod(volumes=list(volumes)), PLACE))

    def refused(self, volume: dict[str, Any]) -> str:
        return str(self.failureResultOf(self.prepare({"name": "v", **volume}), MountError).value)

    def test_empty_dir_keeps(self) -> None:
        """An emptyDir keeps what is in it, whoever writes, until the pod is gone."""
        self.successResultOf(self.prepare({"name": "v", "emptyDir": {}}))
        folder = self.root / "pods/uid-1/volumes/kubernetes.io~empty-dir/v"
        self.assertEqual(stat.S_IMODE(folder.stat().st_mode), 0o777)
        (folder / "file").write_text("x")
        self.successResultOf(self.prepare({"name": "v", "emptyDir": {}}))
        self.assertTrue((folder / "file").exists())
        self.successResultOf(Deferred.fromCoroutine(self.volumes.remove("uid-1")))
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(self.volumes.folders())), [])

    def test_host_paths(self) -> None:
        """A hostPath is made if that is asked for, and checked if that is."""
        path = self.root / "data"
        host = {"hostPath": {"path": str(path), "type": "Directory"}}
        self.assertIn("hostPath type check failed", self.refused(host))
        made = {"name": "v", "hostPath": {"path": str(path), "type": "DirectoryOrCreate"}}
        self.successResultOf(self.prepare(made))
        self.assertTrue(path.is_dir())
        file = {"hostPath": {"path": str(path), "type": "FileOrCreate"}}
        self.assertIn("is not a file", self.refused(file))

    def test_unsupported(self) -> None:
        """A kind of volume that is not there is named."""
        text = self.refused({"nfs": {"server": "s", "path": "/"}})
        self.assertEqual(
            text,
            'MountVolume.SetUp failed for volume "v" : '
            "volumes of type nfs are not supported by this edge",
        )

    def test_offline(self) -> None:
        """An object that cannot be had is named, with why."""
        text = self.refused({"configMap": {"name": "app"}})
        self.assertIn('configmap "app": not connected', text)

    def mounts(self, volume: dict[str, Any], **mount: Any) -> Any:
        pod = make_pod(
            volumes=[{"name": "v", **volume}],
            c_volumeMounts=[{"name": "v", "mountPath": "/m", **mount}],
        )
        return self.volumes.mounts(pod, pod["spec"]["containers"][0], {"N": "one"})[0]

    def test_sub_paths(self) -> None:
        """A subPath is inside its volume, and made if it is missing."""
        self.successResultOf(self.prepare({"name": "v", "emptyDir": {}}))
        folder = (self.root / "pods/uid-1/volumes/kubernetes.io~empty-dir/v").resolve()
        mount = self.mounts({"emptyDir": {}}, subPathExpr="logs/$(N)")
        self.assertEqual(mount.host_path, folder / "logs" / "one")
        self.assertTrue(mount.host_path.is_dir())
        (folder / "out").symlink_to("/etc")
        for path in ("../x", "/etc", "out/passwd"):
            self.assertRaises(ContainerError, self.mounts, {"emptyDir": {}}, subPath=path)

    def test_read_only(self) -> None:
        """Files made from objects cannot be written, other volumes can."""
        self.assertTrue(self.mounts({"configMap": {"name": "app"}}).read_only)
        self.assertFalse(self.mounts({"emptyDir": {}}).read_only)
        self.assertTrue(self.mounts({"emptyDir": {}}, readOnly=True).read_only)
        self.assertFalse(self.mounts({"hostPath": {"path": "/srv"}}).read_only)

    def test_unknown_volume(self) -> None:
        """A mount of a volume that the pod does not have is refused by name."""
        error = self.assertRaises(ContainerError, self.mounts, {"emptyDir": {}}, name="other")
        self.assertIn('"other"', str(error))

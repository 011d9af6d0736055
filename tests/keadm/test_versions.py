"""Versions other than keadm's own, from a folder of wheels."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from tests.keadm.machine import MachineCase


class OfflineTests(MachineCase):
    def setUp(self) -> None:
        super().setUp()
        self.wheels = self.root / "wheels"
        self.wheels.mkdir()

    def wheel(self, version: str) -> None:
        """Make a wheel of ours that needs nothing: it runs this environment's program."""
        name = f"kubeedge_tx-{version}"
        real = Path(sys.executable).with_name("twistd")
        files = {
            "kubeedge_tx/__init__.py": f'VERSION = "{version}"\n',
            f"{name}.data/scripts/twistd": f'#!/bin/sh\nWHEEL={version} exec {real} "$@"\n',
            f"{name}.dist-info/METADATA": (
                f"Metadata-Version: 2.1\nName: kubeedge-tx\nVersion: {version}\n"
            ),
            f"{name}.dist-info/WHEEL": (
                "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            ),
        }
        record = "".join(f"{path},,\n" for path in files) + f"{name}.dist-info/RECORD,,\n"
        with ZipFile(self.wheels / f"{name}-py3-none-any.whl", "w") as archive:
            for path, text in (*files.items(), (f"{name}.dist-info/RECORD", record)):
                entry = ZipInfo(path)
                entry.external_attr = 0o100755 << 16
                archive.writestr(entry, text)

    def test_join(self) -> None:
        """join --tarballpath runs the version in the folder; another one is for upgrade."""
        token = self.start_cloud()
        self.wheel("9.9.9")
        done = self.join(token, "--tarballpath", str(self.wheels), "--image-repository", "a.b/c")
        self.assertEqual(done.status, 0, done.output)
        self.assertIn("--image-repository: not needed", done.output)
        pid = json.loads((self.edge_dir / "ready.json").read_text())["pid"]
        self.assertIn("WHEEL=9.9.9", Path(f"/proc/{pid}/environ").read_text().split("\0"))
        self.assertTrue(self.node_ready())
        again = self.join("", "--tarballpath", str(self.wheels), "--kubeedge-version", "v9.9.9")
        self.assertEqual(again.status, 0, again.output)
        self.assertIn("edgecore runs already", again.output)
        (self.wheels / "kubeedge_tx-9.9.9-py3-none-any.whl").unlink()
        self.wheel("9.9.10")
        other = self.join("", "--tarballpath", str(self.wheels))
        self.assertEqual(other.status, 1, other.output)
        self.assertIn(
            "edgecore v9.9.9 is installed here, not v9.9.10: `keadm upgrade", other.output
        )

    def test_bad_folder(self) -> None:
        """What the folder does not have is said before anything is made."""
        nowhere = self.init("--tarballpath", str(self.root / "nowhere"))
        self.assertIn("nowhere is no folder", nowhere.line("Error"))
        where = ("--tarballpath", str(self.wheels))
        self.assertIn("wheels has no kubeedge-tx", self.init(*where).line("Error"))
        self.wheel("9.9.8")
        asked = self.init(*where, "--kubeedge-version", "1.2")
        self.assertIn("wheels has v9.9.8, and no v1.2", asked.line("Error"))
        self.wheel("9.9.9")
        self.assertIn("say which with --kubeedge-version", self.init(*where).line("Error"))
        self.assertFalse(self.cloud_dir.exists())

    def test_install_that_fails(self) -> None:
        """pip's last word is passed on; nothing half is left, and the next run can go on."""
        wheel = self.wheels / "kubeedge_tx-9.9.9-py3-none-any.whl"
        wheel.write_bytes(b"no wheel")
        done = self.init("--tarballpath", str(self.wheels))
        self.assertEqual(done.status, 1)
        self.assertIn("kubeedge-tx==9.9.9 cannot be installed: ", done.line("Error"))
        self.assertEqual(list((self.cloud_dir / "versions").iterdir()), [])
        self.assertEqual(self.init("--kubeedge-version", "0.1.0").status, 0)

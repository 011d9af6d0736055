"""Going back to a backup that is damaged."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.keadm import backups
from kubeedge_tx.keadm.places import KeadmError, Places


class GoBackTests(SynchronousTestCase):
    def test_no_record(self) -> None:
        """A backup without its record is refused by its name, and the store is not touched."""
        folder = Path(self.mktemp()).absolute()
        backup = folder / "backups" / "1.0"
        backup.mkdir(parents=True)
        (backup / "edge.db").write_bytes(b"old")
        (folder / "edge.db").write_bytes(b"new")
        with self.assertRaisesRegex(KeadmError, "1.0: cannot be restored.*keadm.json"):
            backups.go_back(Places("edge", folder), backup, 1, connected=False)
        self.assertEqual((folder / "edge.db").read_bytes(), b"new")

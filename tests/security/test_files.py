from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.errors import CertificateError
from kubeedge_tx.security.files import (
    der_to_pem,
    pem_blocks,
    pem_to_der,
    read_file,
    write_file,
)


class PEMTests(SynchronousTestCase):
    """PEM text in and out."""

    @given(st.binary(min_size=1, max_size=300))
    def test_round_trip(self, der: bytes) -> None:
        """What is wrapped is found again, with Windows line ends too."""
        pem = der_to_pem("CERTIFICATE", der)
        self.assertEqual(pem_to_der(pem, "CERTIFICATE", "x"), der)
        self.assertEqual(pem_to_der(pem.replace(b"\n", b"\r\n"), "CERTIFICATE", "x"), der)

    def test_blocks(self) -> None:
        """Text around is skipped, other blocks too, and several of a kind are all found."""
        pem = b"Subject: me\n" + der_to_pem("EC PARAMETERS", b"p") + der_to_pem("A KEY", b"k")
        self.assertEqual(pem_to_der(pem, "KEY", "x"), b"k")
        both = der_to_pem("CERTIFICATE", b"1") + der_to_pem("CERTIFICATE", b"2")
        self.assertEqual(pem_blocks(both, "CERTIFICATE", "x"), [b"1", b"2"])

    def test_none_or_damaged(self) -> None:
        """A missing block and a damaged one are different faults, and the file is named."""
        with self.assertRaisesRegex(CertificateError, "/ca.crt: no PEM block CERTIFICATE"):
            pem_to_der(b"hello", "CERTIFICATE", "/ca.crt")
        bad = der_to_pem("CERTIFICATE", b"1234").replace(b"MTIz", b"M*Iz")
        with self.assertRaisesRegex(CertificateError, "/ca.crt: the CERTIFICATE block is damaged"):
            pem_to_der(bad, "CERTIFICATE", "/ca.crt")


class FileTests(SynchronousTestCase):
    """Files are replaced whole."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())

    def test_write_and_read(self) -> None:
        """A file is made with its folder and mode, replaced, and nothing else is left."""
        path = self.folder / "certs" / "server.key"
        for data in (b"one", b"two"):
            write_file(path, data, 0o600)
            self.assertEqual(read_file(path), data)
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertEqual([p.name for p in path.parent.iterdir()], ["server.key"])

    def test_no_file(self) -> None:
        """A file that is not there is no error; one that cannot be read is."""
        self.folder.mkdir()
        self.assertIsNone(read_file(self.folder / "none"))
        with self.assertRaisesRegex(CertificateError, "cannot be read: Is a directory"):
            read_file(self.folder)

    def test_huge_file(self) -> None:
        """A file far too big to be a certificate is not read into memory."""
        self.folder.mkdir()
        path = self.folder / "big"
        with path.open("wb") as file:
            file.truncate(50 * 1024 * 1024)
        with self.assertRaisesRegex(CertificateError, "more than"):
            read_file(path)

    def test_cannot_write(self) -> None:
        """A path under a file is a clear error, and the old file stays."""
        self.folder.mkdir()
        (self.folder / "file").write_bytes(b"x")
        with self.assertRaisesRegex(CertificateError, "cannot be written"):
            write_file(self.folder / "file" / "key", b"data", 0o600)
        target = self.folder / "target"
        target.mkdir()
        with self.assertRaisesRegex(CertificateError, "cannot be written"):
            write_file(target, b"data", 0o600)
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), ["file", "target"])

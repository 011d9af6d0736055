"""PEM text and the files it is kept in; written so that a power cut leaves old or new."""

from __future__ import annotations

import base64
import binascii
import os
import re
from pathlib import Path
from typing import Final

from kubeedge_tx.errors import CertificateError

_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s+(.*?)-----END \1-----", re.DOTALL)

MAX_FILE_BYTES: Final = 1024 * 1024
"""More is no certificate or key, and is not read."""


def der_to_pem(label: str, der: bytes) -> bytes:
    """Wrap DER into one PEM block.

    :param label: ``CERTIFICATE``, ``EC PRIVATE KEY``…
    """
    text = base64.b64encode(der)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    name = label.encode("ascii")
    return b"\n".join(
        [b"-----BEGIN " + name + b"-----", *lines, b"-----END " + name + b"-----", b""]
    )


def pem_blocks(pem: bytes, label: str, what: str) -> list[bytes]:
    """Take every block whose label ends in ``label`` out of a PEM text; at least one.

    :param label: ``CERTIFICATE``, or ``PRIVATE KEY`` which also finds ``EC PRIVATE KEY``.
    :param what: names the text in the error: its file.
    :raises CertificateError: there is no such block, or one is not base64.
    """
    try:
        blocks = [
            base64.b64decode(b"".join(found[2].split()), validate=True)
            for found in _PEM.finditer(pem)
            if found[1].endswith(label.encode("ascii"))
        ]
    except binascii.Error:
        raise CertificateError(f"{what}: the {label} block is damaged") from None
    if not blocks:
        raise CertificateError(f"{what}: no PEM block {label} in it")
    return blocks


def pem_to_der(pem: bytes, label: str, what: str) -> bytes:
    """Take the first of :func:`pem_blocks`."""
    return pem_blocks(pem, label, what)[0]


def read_file(path: Path) -> bytes | None:
    """Read a small file; ``None`` if there is none.

    :raises CertificateError: it is there and cannot be read, or is far too big.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CertificateError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise CertificateError(f"{path}: more than {MAX_FILE_BYTES} bytes; not a PEM file")
    return data


def write_file(path: Path, data: bytes, mode: int) -> None:
    """Replace a file at once and for good; missing folders are made (0750).

    :param mode: permission bits of the file, 0o600 for keys.
    :raises CertificateError: the folder or disk does not let us.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise CertificateError(f"{path}: cannot be written: {error.strerror}") from None

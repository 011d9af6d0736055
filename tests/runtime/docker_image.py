"""An image for tests, made without a registry of Debian's busybox-static."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any, Final

import docker

BUSYBOX: Final = "kubeedge-tx-test/busybox:1"
_PROGRAM: Final = Path("/bin/busybox")


def engine() -> Any:
    """Return a client for the engine that tests use."""
    return docker.APIClient(base_url=os.environ.get("DOCKER_HOST"), version="auto")


def ensure_busybox(client: Any) -> None:
    """Have the image: busybox, its applets, and folders that pods expect."""
    if client.images(BUSYBOX):
        return
    applets = subprocess.run([_PROGRAM, "--list"], capture_output=True, text=True, check=True)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in ("bin", "etc", "tmp", "dev"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            archive.addfile(entry)
        program = _PROGRAM.read_bytes()
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(program), 0o755
        archive.addfile(entry, io.BytesIO(program))
        for name in applets.stdout.split():
            if name != "busybox":  # it lists itself
                entry = tarfile.TarInfo(f"bin/{name}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(entry)
    repository, _, tag = BUSYBOX.rpartition(":")
    client.import_image_from_data(buffer.getvalue(), repository, tag)

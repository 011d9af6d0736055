"""The image of pod sandboxes, made here: no registry is needed and no compiler. Pure.

A sandbox is a process that does nothing and so keeps a pod's network and IPC namespaces.
Its whole program, per processor, is

::

    rt_sigaction(SIGCHLD, {SIG_IGN}, NULL, 8)   # orphans of a shared PID namespace vanish
    for (;;) pause()

As first process of its namespace it ignores SIGTERM; end it with SIGKILL.

Sources: elf(5); System V ABI; the processors' manuals; Linux's tables of system calls.
"""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Callable
from typing import Final

PAUSE_IMAGE: Final = "kubeedge-tx/pause:1"
"""Raise the tag when the program changes."""

_SIGCHLD: Final = 17
_SIG_IGN: Final = 1
_SIGACTION: Final = struct.pack("<Q24x", _SIG_IGN)
"""struct sigaction of a 64 or 32 bit little-endian processor: the handler, else zeros."""
_PAGE: Final = 0x10000
"""The largest page size of them."""
_BASE: Final = 0x400000


def _x86_64(start: int, action: int) -> bytes:
    return b"".join(
        (
            b"\xbf" + struct.pack("<I", _SIGCHLD),  # mov edi, 17
            b"\xbe" + struct.pack("<I", action),  # mov esi, action
            b"\x31\xd2",  # xor edx, edx
            b"\x41\xba" + struct.pack("<I", 8),  # mov r10d, 8
            b"\xb8" + struct.pack("<I", 13),  # mov eax, rt_sigaction
            b"\x0f\x05",  # syscall
            b"\xb8" + struct.pack("<I", 34),  # again: mov eax, pause
            b"\x0f\x05",  # syscall
            b"\xeb\xf7",  # jmp again
        )
    )


def _aarch64(start: int, action: int) -> bytes:
    def movz(register: int, value: int) -> int:
        return 0x52800000 | value << 5 | register

    svc = 0xD4000001
    distance = action - (start + 4)
    adr_x1 = 0x10000000 | (distance & 3) << 29 | (distance >> 2 & 0x7FFFF) << 5 | 1
    # There is no pause: ppoll(NULL, 0, NULL, NULL, 0) waits for a signal as well.
    wait = [*(movz(register, 0) for register in range(5)), movz(8, 73), svc]
    back = 0x14000000 | (-len(wait) & 0x3FFFFFF)
    words = [movz(0, _SIGCHLD), adr_x1, movz(2, 0), movz(3, 8), movz(8, 134), svc, *wait, back]
    return struct.pack(f"<{len(words)}I", *words)


def _armv7l(start: int, action: int) -> bytes:
    def mov(register: int, value: int) -> int:
        return 0xE3A00000 | register << 12 | value

    svc = 0xEF000000
    add_r1_pc = 0xE28F1000 | (action - (start + 4 + 8))  # pc is two instructions ahead
    back = 0xEA000000 | (-4 & 0xFFFFFF)  # to two instructions before, seen from two ahead
    words = [
        mov(0, _SIGCHLD),
        add_r1_pc,
        mov(2, 0),
        mov(3, 8),
        mov(7, 174),
        svc,
        mov(7, 29),
        svc,
        back,
    ]
    return struct.pack(f"<{len(words)}I", *words)


_PROCESSORS: Final[dict[str, tuple[int, int, Callable[[int, int], bytes]]]] = {
    "x86_64": (64, 62, _x86_64),
    "aarch64": (64, 183, _aarch64),
    "armv7l": (32, 40, _armv7l),
}
"""Bits, ELF machine number, and the program, by what ``uname -m`` says."""


def pause_program(machine: str) -> bytes:
    """Return the program as an ELF file.

    :param machine: ``x86_64``, ``aarch64`` or ``armv7l``.
    :raises KeyError: another.
    """
    bits, number, assemble = _PROCESSORS[machine]
    header_size, entry_size = (64, 56) if bits == 64 else (52, 32)
    offset = header_size + entry_size
    start = _BASE + offset
    length = len(assemble(start, start + 64))  # the same whatever the addresses
    action = -(-(start + length) // 8) * 8
    code = assemble(start, action)
    body = code + bytes(action - start - length) + _SIGACTION
    size = offset + len(body)
    identity = b"\x7fELF" + bytes((2 if bits == 64 else 1, 1, 1)) + bytes(9)
    flags = 0x05000400 if machine == "armv7l" else 0  # EABI version 5, hard float
    address = "Q" if bits == 64 else "I"
    header = identity + struct.pack(
        f"<HHI3{address}I6H",
        2,  # an executable
        number,
        1,
        start,
        header_size,
        0,
        flags,
        header_size,
        entry_size,
        1,
        0,
        0,
        0,
    )
    load, readable_executable = 1, 5
    if bits == 64:
        entry = struct.pack("<II6Q", load, readable_executable, 0, _BASE, _BASE, size, size, _PAGE)
    else:
        entry = struct.pack("<8I", load, 0, _BASE, _BASE, size, size, readable_executable, _PAGE)
    return header + entry + body


def pause_archive(machine: str) -> bytes:
    """Return the image's file system as a tar archive, for ``docker import``.

    :raises KeyError: as above.
    """
    program = pause_program(machine)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("pause")
        entry.size, entry.mode = len(program), 0o755
        archive.addfile(entry, io.BytesIO(program))
    return buffer.getvalue()


PAUSE_CHANGES: Final = ('ENTRYPOINT ["/pause"]', "USER 65535:65535")
"""Dockerfile lines that go with it."""

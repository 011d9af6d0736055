"""The blocks of a page: what a reader types, what a reader writes to a file, what comes of it.

A block of commands is a ``code-block:: console``; a line that begins with ``$`` is a command,
one with ``>`` its next line, others are what it prints, for the reader. What a test needs to
know beyond stands in comments below the block:

``.. expect: TEXT``
    The block's output has this text.
``.. expect-status: N``
    Its last command ends so; without, every command ends with 0.
``.. retry``
    Its last command is typed again until the block's output is as expected.

A block that no test runs says so to the reader, in its caption: :data:`NOT_RUN`, and why.
A block in another language with a caption that is a file name is that file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).parent.parent / "docs"

NOT_RUN: Final = "Not run by the tests: "
"""What the caption of a block begins with that cannot be run everywhere; the reason follows."""

_COMMAND: Final = re.compile(
    r"^\s*(\$ |(sudo |python3? -m |python3? |script/|\./)\S"
    r"|(kubectl|keadm|twistd|curl|docker|systemctl|pip|apt|apt-get|cat|echo|nc|kill|export|ss"
    r"|mosquitto_pub|mosquitto_sub|journalctl|openssl|helm|git) )"
)
"""Lines that somebody would type."""


@dataclass
class Block:
    """One block of a page.

    :ivar line: where it begins, from 1.
    :ivar language: of ``code-block``; empty for a plain literal block.
    :ivar lines: what is in it, unindented.
    """

    page: str
    line: int
    language: str
    caption: str = ""
    lines: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    status: int = 0
    retry: bool = False

    @property
    def where(self) -> str:
        """For messages."""
        return f"docs/{self.page}.rst, line {self.line}"

    @property
    def why_not(self) -> str | None:
        """Why no test runs it; ``None`` for one that is run."""
        found = self.caption.partition(NOT_RUN)
        return found[2] if found[1] and not found[0] else None

    @property
    def file(self) -> str:
        """The file that it is, if it is one."""
        is_name = re.fullmatch(r"[\w./-]+\.\w+", self.caption) is not None
        return self.caption if is_name and self.language != "console" else ""

    @property
    def text(self) -> str:
        """What is in it."""
        return "\n".join(self.lines).rstrip("\n") + "\n"

    @property
    def looks_typed(self) -> bool:
        """Whether a line of it looks like a command; a picture has none."""
        is_picture = any("│" in line for line in self.lines)
        return not is_picture and any(_COMMAND.match(line) for line in self.lines)

    def commands(self) -> list[str]:
        """What is typed; a command over several lines is one."""
        found: list[str] = []
        for line in self.lines:
            if line.startswith("$ "):
                found.append(line.removeprefix("$ "))
            elif line.startswith("> ") and found:
                found[-1] += "\n" + line.removeprefix("> ")
        return found


def blocks(name: str) -> list[Block]:
    """Read the blocks of a page, in order.

    :param name: of the page, without folder and ending.
    """
    found: list[Block] = []
    indent: int | None = None
    in_options = False
    for number, line in enumerate((DOCS / f"{name}.rst").read_text("utf-8").splitlines(), 1):
        stripped = line.strip()
        inner = len(line) - len(line.lstrip())
        if indent is not None and stripped and inner <= indent:
            indent = None
        if indent is not None:
            block = found[-1]
            if in_options and stripped.startswith(":"):
                if stripped.startswith(":caption:"):
                    block.caption = stripped.removeprefix(":caption:").strip()
                continue
            if in_options and not stripped:
                in_options = False
                continue
            if stripped or block.lines:
                block.lines.append(line)
            continue
        if stripped.startswith(".. code-block::"):
            found.append(Block(name, number, stripped.removeprefix(".. code-block::").strip()))
            indent, in_options = inner, True
        elif stripped.startswith(".. expect: "):
            found[-1].expected.append(stripped.removeprefix(".. expect: "))
        elif stripped.startswith(".. expect-status: "):
            found[-1].status = int(stripped.removeprefix(".. expect-status: "))
        elif stripped == ".. retry":
            found[-1].retry = True
        elif stripped.endswith("::") and not stripped.startswith(".. "):
            found.append(Block(name, number, ""))
            indent, in_options = inner, False
    for block in found:
        block.lines = _unindented(block.lines)
    return found


def _unindented(lines: list[str]) -> list[str]:
    while lines and not lines[-1].strip():
        lines.pop()
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return [line[margin:] for line in lines]


def pages() -> list[str]:
    """The names of all pages."""
    return sorted(page.stem for page in DOCS.glob("*.rst"))

"""What the pure files need to know of a kind, whoever keeps the register of kinds."""

from __future__ import annotations

from typing import Any, Protocol


class IKind(Protocol):
    """One served version of a kind; ``crd`` is its definition, if it is a custom one."""

    @property
    def group(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def crd(self) -> dict[str, Any] | None: ...

"""Files of the repository that are written by code; ``script/generate`` writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from kubeedge_tx.config import reference
from kubeedge_tx.keadm import units
from kubeedge_tx.keadm.places import Places, RoleName, system_dir
from tests import figures_page

ROOT: Final = Path(__file__).parent.parent
TWISTD: Final = "/opt/kubeedge-tx/bin/twistd"
"""Where the examples have it: ``python3 -m venv /opt/kubeedge-tx``."""


def _unit(role: RoleName, runtime: str = "") -> str:
    return units.render(Places(role, system_dir(role)), TWISTD, runtime=runtime)


FILES: Final[dict[str, Callable[[], str]]] = {
    "docs/configuration.rst": reference.render,
    "docs/metrics.rst": figures_page.render,
    "deploy/systemd/cloudcore.service": lambda: _unit("cloud"),
    "deploy/systemd/edgecore.service": lambda: _unit("edge", "docker"),
    "deploy/systemd/edgecore-processes.service": lambda: _unit("edge", "process"),
}


def main() -> None:
    """Write them all."""
    for name, text in FILES.items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text())


if __name__ == "__main__":
    main()

"""A program that serves the embedded API until it is killed: ``python -m … FOLDER``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from twisted.internet import reactor

from kubeedge_tx.apiserver.service import ApiServerService


def main(folder: str) -> None:
    """Serve on a free port; the kubeconfig appears when requests are answered."""
    service = ApiServerService(
        reactor, data_dir=Path(folder), interface="127.0.0.1", port=0, wall_clock=time.time
    )
    service.startService()
    reactor.run()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main(sys.argv[1])

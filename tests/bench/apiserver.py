"""The embedded API in a process of its own: ``python -m tests.bench.apiserver DATA_DIR [PORT]``."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from kubeedge_tx.apiserver.service import ApiServerService


async def serve(reactor: Any, data_dir: Path, port: int) -> None:
    """Serve until the process is told to stop."""
    data_dir.mkdir(parents=True, exist_ok=True)
    service = ApiServerService(
        reactor, data_dir=data_dir, interface="127.0.0.1", port=port, wall_clock=time.time
    )
    await service.startService()
    ready = {"ports": {"api": service.port}, "pid": os.getpid()}
    (data_dir / "ready.json").write_text(json.dumps(ready))
    stopping: Deferred[None] = Deferred()
    reactor.addSystemEventTrigger("before", "shutdown", stopping.callback, None)
    await stopping
    await service.stopService()


if __name__ == "__main__":
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    react(lambda reactor: Deferred.fromCoroutine(serve(reactor, Path(sys.argv[1]), port)))

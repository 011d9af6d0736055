from __future__ import annotations

from threading import Barrier, Event, Thread
from typing import Any

from kubernetes.client import ApiClient, Configuration
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.kube.access import Access, Way

THREADS = 4


class AccessTests(SynchronousTestCase):
    """How the API server is reached."""

    def test_found_once(self) -> None:
        """Threads that want to connect at the same time ask a credential plugin once."""
        access = Access(ApiClient(Configuration(host="https://127.0.0.1:1")))
        looks: list[float] = []
        all_here, go_on = Barrier(THREADS + 1), Event()
        connections: Any = None

        def look(until: float) -> Way:
            looks.append(until)
            go_on.wait(10)
            return Way(connections, b"", b"", until)

        def find() -> None:
            all_here.wait(10)
            access.find()

        self.patch(access, "_look", look)
        threads = [Thread(target=find) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        all_here.wait(10)
        go_on.set()
        for thread in threads:
            thread.join()
        self.assertEqual(len(looks), 1)

"""The API's objects without threads, sockets or a file: for logic under a Clock."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock

from kubeedge_tx.apiserver.content import Content
from kubeedge_tx.apiserver.registry import KindInfo, Registry
from kubeedge_tx.apiserver.store import ObjectStore
from kubeedge_tx.apiserver.verbs import Verbs
from kubeedge_tx.store.migrate import load_migrations

T = TypeVar("T")

START = 1_800_000_000.0
"""The wall clock when a test begins."""


class DirectDatabase:
    """SQLite in memory, run at once; or later, with ``held`` set, by :meth:`run`."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        for step in load_migrations("kubeedge_tx.apiserver", "data"):
            self.connection.executescript(step.sql)
        self.held = False
        self.failing: Exception | None = None
        self.waiting: list[Callable[[], None]] = []

    def read(self, work: Callable[[sqlite3.Cursor], T]) -> Deferred[T]:
        """Run now."""
        return execute(work, self.connection.cursor())

    def write(self, work: Callable[[sqlite3.Cursor], T]) -> Deferred[T]:
        """Run now, or when the test says so."""
        done: Deferred[T] = Deferred()

        def run() -> None:
            execute(self._run, work).chainDeferred(done)

        if self.held:
            self.waiting.append(run)
        else:
            run()
        return done

    def run(self) -> None:
        """Do what was held."""
        waiting, self.waiting = self.waiting, []
        for work in waiting:
            work()

    def _run(self, work: Callable[[sqlite3.Cursor], T]) -> T:
        if self.failing is not None:
            raise self.failing
        return work(self.connection.cursor())


class World:
    """A store, its verbs and a clock."""

    def __init__(self, *, max_events: int = 1000) -> None:
        self.clock = Clock()
        self.database = DirectDatabase()
        self.store = ObjectStore(self.database, max_events=max_events)
        _now(self.store.load())
        self.registry = Registry()
        numbers = itertools.count(1)
        self.verbs = Verbs(
            self.store,
            self.registry,
            Content(),
            wall_clock=lambda: START + self.clock.seconds(),
            new_uid=lambda: f"00000000-0000-4000-8000-{next(numbers):012d}",
            new_suffix=lambda: f"{next(numbers):05d}",
        )
        for name in ("default", "kube-node-lease"):
            self.create("namespaces", "", {"metadata": {"name": name}})

    def info(self, resource: str) -> KindInfo:
        """A built-in kind by its plural."""
        return next(kind for kind in self.registry if kind.plural == resource)

    def create(self, resource: str, namespace: str, obj: dict[str, Any]) -> dict[str, Any]:
        """Create, and return what is stored."""
        made: list[Any] = []
        self.verbs.create(self.info(resource), namespace, obj).addCallback(made.append)
        return dict(made[0].obj) if made else {}

    def patch(
        self, resource: str, namespace: str, name: str, subresource: str = "", **changes: Any
    ) -> None:
        """Replace top-level parts of an object."""
        self.verbs.patch(
            self.info(resource),
            namespace,
            name,
            lambda old: {**old, **changes},
            subresource=subresource,
        )

    def get(self, resource: str, namespace: str, name: str) -> Any:
        """The object, or ``None``."""
        item = self.store.get(self.info(resource).resource, namespace, name)
        return None if item is None else item.obj

    def node(self, name: str, *, ready: bool = True, **spec: Any) -> dict[str, Any]:
        """Create an edge node."""
        labels = {"node-role.kubernetes.io/edge": "", **spec.pop("labels", {})}
        made = self.create(
            "nodes", "", {"metadata": {"name": name, "labels": labels}, "spec": spec}
        )
        self.report(name, "True" if ready else "False")
        return made

    def report(self, name: str, ready: str, heartbeat: str = "2026-11-24T08:00:00Z") -> None:
        """A node reports its condition."""
        conditions = [{"type": "Ready", "status": ready, "lastHeartbeatTime": heartbeat}]
        self.patch("nodes", "", name, "status", status={"conditions": conditions})

    def pod(self, name: str, **spec: Any) -> dict[str, Any]:
        """Create a pod in ``default``."""
        containers = [{"name": "c", "image": "busybox"}]
        return self.create(
            "pods",
            "default",
            {"metadata": {"name": name}, "spec": {"containers": containers, **spec}},
        )


def _now(coroutine: Any) -> None:
    done = Deferred.fromCoroutine(coroutine)
    assert done.called
    done.addErrback(lambda failure: failure.raiseException())

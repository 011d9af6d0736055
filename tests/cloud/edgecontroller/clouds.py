"""Several clouds on one API, any of which may hang, and an edge that moves between them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from kubeedge_tx.api.resources import CONFIGMAPS, NODES, PODS, SECRETS
from kubeedge_tx.beehive.message import Header, Message, Route, raw
from kubeedge_tx.cloud.edgecontroller.claims import Claims
from kubeedge_tx.cloud.edgecontroller.controller import EdgeController
from kubeedge_tx.observe.denials import Denials
from kubeedge_tx.observe.metrics import Metrics
from tests.cloud.rig import NOW_MS, Recorder, connected, factory, read
from tests.fakes.kube import FakeInformer, FakeKube

NODE = "edge-1"


@dataclass(eq=False)
class Pending:
    """A call on its way to the API server."""

    what: str
    answer: Deferred[dict[str, Any]]
    work: Callable[[], Deferred[dict[str, Any]]]


class SlowKube:
    """A client whose calls take effect when the test says so, in any order."""

    def __init__(self, kube: FakeKube) -> None:
        self.kube = kube
        self.pending: list[Pending] = []

    def __getattr__(self, verb: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Deferred[dict[str, Any]]:
            answer: Deferred[dict[str, Any]] = Deferred()
            self.pending.append(
                Pending(
                    f"{verb} {args[0].plural}",
                    answer,
                    lambda: getattr(self.kube, verb)(*args, **kwargs),
                )
            )
            return answer

        return call

    def let(self, which: int) -> None:
        """Let one of them through."""
        chosen = self.pending.pop(which % len(self.pending))
        if not chosen.answer.called:
            chosen.work().chainDeferred(chosen.answer)


class Cloud:
    """One process: its EdgeController, what it has not read yet, and what it asks edges."""

    def __init__(self, name: str, kube: FakeKube) -> None:
        self.name = name
        self.kube = SlowKube(kube)
        self.informers: list[FakeInformer] = [
            kube.informer(kind) for kind in (NODES, PODS, CONFIGMAPS, SECRETS)
        ]
        self.bus = Recorder()
        self.questions: list[Deferred[bool]] = []
        self.session: Session | None = None
        """The one that this cloud takes for the node's; its edge may have left long ago."""
        nodes, pods, configmaps, secrets = self.informers
        clock = Clock()
        client: Any = self.kube
        self.claims = Claims(clock, client, self, identity=name, cloud_ip=name)
        self.controller = EdgeController(
            self.bus,
            factory(),
            client,
            nodes=nodes,
            pods=pods,
            configmaps=configmaps,
            secrets=secrets,
            claims=self.claims,
            now_ms=lambda: NOW_MS,
            denials=Denials(clock, Metrics()),
        )
        self.run(self.controller.started())
        for informer in self.informers:
            informer.synced = False  # from now on it lags, until ``catch_up``

    @staticmethod
    def run(coroutine: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(coroutine)

    def catch_up(self, which: int) -> None:
        """One of the watches brings what it is behind."""
        informer = self.informers[which % 2]
        informer.sync()
        informer.synced = False

    # What the claims ask of CloudHub

    def prove(self, node: str) -> Deferred[bool]:
        if self.session is None:
            return succeed(False)
        proof: Deferred[bool] = Deferred()
        self.session.questions.append(proof)
        return proof

    def displace(self, node: str) -> None:
        self.close()

    # The connection

    def open(self, session: Session) -> None:
        """An edge has connected; what an older connection still had to say is not read."""
        if self.session is not None:
            self.session.end()
        self.session = session
        self.run(self.controller.handle(connected(NODE)))

    def close(self) -> None:
        """It is over, as far as this cloud knows."""
        if self.session is not None:
            self.session.end()
            self.session = None
            over = Message(
                Header(msg_id="c", timestamp=NOW_MS),
                Route("cloudhub", "resource", "disconnected", f"node/{NODE}"),
                raw(None),
            )
            self.run(self.controller.handle(over))

    def read(self) -> None:
        """Read one more message; after the last, notice that the edge has left."""
        session = self.session
        if session is None:
            return
        if session.unread:
            self.run(self.controller.handle(session.unread.pop(0)))
        elif session.left:
            self.close()
        else:
            session.answer()

    def answers(self) -> None:
        """Let the answers out; only a connection that is in use takes them anywhere."""
        for message in self.bus.take():
            if message.header.parent_id and self.session is not None:
                self.session.answered(message)


@dataclass(eq=False)
class Session:
    """One connection."""

    edge: Edge
    unread: list[Message] = field(default_factory=list)
    questions: list[Deferred[bool]] = field(default_factory=list)
    left: bool = False
    """The edge has gone."""

    def answer(self) -> None:
        """The edge answers whether it is there."""
        if not self.left:
            questions, self.questions = self.questions, []
            for question in questions:
                question.callback(True)

    def end(self) -> None:
        questions, self.questions = self.questions, []
        self.unread.clear()
        for question in questions:
            question.callback(False)

    def answered(self, message: Message) -> None:
        if not self.left:
            self.edge.answered(message)


class Edge:
    """Reports how its pod is, newest first, until it hears that it is written."""

    def __init__(self) -> None:
        self.newest = 0
        self.confirmed = 0
        self.session: Session | None = None
        self.sent: dict[str, int] = {}

    def report(self) -> None:
        """The pod has changed."""
        self.newest += 1
        self._send()

    def move(self, cloud: Cloud) -> None:
        """Leave for another cloud, or come back to the same one."""
        self.leave()
        self.session = Session(self)
        cloud.open(self.session)
        if self.newest > self.confirmed:
            self._send()

    def leave(self) -> None:
        if self.session is not None:
            self.session.left = True
            self.session = None

    def repeat(self) -> None:
        """What is not answered is sent again after a while."""
        if self.newest > self.confirmed:
            self._send()

    def answered(self, message: Message) -> None:
        number = self.sent.get(message.header.parent_id)
        content = read(message)
        if number is not None and isinstance(content, dict) and not content.get("Err"):
            self.confirmed = max(self.confirmed, number)

    def _send(self) -> None:
        if self.session is None:
            return
        message_id = f"r{len(self.sent)}"
        self.sent[message_id] = self.newest
        body = {"metadata": {"uid": "uid-web"}, "status": {"message": str(self.newest)}}
        self.session.unread.append(
            Message(
                Header(msg_id=message_id, timestamp=NOW_MS),
                Route("edged", "meta", "patch", f"node/{NODE}/default/podpatch/web"),
                raw(json.dumps(body)),
            )
        )


def written(kube: FakeKube) -> int:
    """The number of the report that the cluster has."""
    pod = kube.peek(PODS, "default", "web")
    assert pod is not None
    return int((pod.get("status") or {}).get("message") or 0)

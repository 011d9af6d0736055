"""Which cloud process speaks for a node: a lease without renewals, in the Node itself.

A session writes its mark into an annotation of its Node, once, when it opens. Each status is
then written on condition of the version of the object that we know, and a version that is not
of our own making is trusted only after a look at the Node: with our mark in it nobody else had
the node yet when that version was made. So what a process has read from a connection, and
writes late because it hung, or the API server did, fails instead of replacing what came later
through another process.

Marks change hands by compare-and-swap. A mark that we did not know of is replaced only if the
edge answers on our connection: it has one at a time, so it is no longer where that mark is from.
A session that follows another one in the same process is marked anew, too, or a mark that a
process in between has sent, and that is late, would still be let in.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Iterator
from typing import Any, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from kubeedge_tx.api import meta
from kubeedge_tx.api.resources import NODES
from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.cloud.edgecontroller.answers import refusal
from kubeedge_tx.errors import Displaced, KubeError
from kubeedge_tx.kube.interfaces import IKubeClient, IListener

SESSION: Final = "kubeedge-tx.io/session"
"""Annotation of a Node: ``<cloud process>/<number>`` of the session that speaks for it."""
CLOUDCORE: Final = "cloudcore"
"""Annotation of a Node: the address of the cloudcore it is connected to."""

ATTEMPTS: Final = 8
"""Writes of a mark, each on top of what somebody else has written to the Node meanwhile."""
QUARREL_SECONDS: Final = 60.0
"""A node that is taken from us twice within this time is two edges of one name."""
MAX_VERSIONS: Final = 512
"""Objects of one node whose last version is known to be ours; another one costs one look."""


class Sessions(Protocol):
    """What CloudHub knows of connections."""

    def prove(self, node: str) -> Awaitable[bool]:
        """Find out whether the edge answers on this process's connection."""

    def displace(self, node: str) -> None:
        """End the connection: the node is connected elsewhere."""


class Claim:
    """One session's claim to a node.

    :ivar mark: in the Node while nobody else has the node.
    :ivar version: of the Node, the newest that has our mark in it; empty before that.
    """

    __slots__ = ("busy", "mark", "node", "regained_at", "version", "versions", "waiting")

    def __init__(self, node: str, mark: str) -> None:
        self.node = node
        self.mark = mark
        self.version = ""
        self.versions: dict[str, str] = {}
        """By uid, the version that our own last write has made."""
        self.busy = False
        self.waiting: list[Deferred[None]] = []
        self.regained_at = -QUARREL_SECONDS

    def wrote(self, obj: dict[str, Any]) -> None:
        """Remember that the present version of an object is of our own making."""
        versions = self.versions
        versions.pop(meta.uid(obj), None)
        if len(versions) >= MAX_VERSIONS:
            del versions[next(iter(versions))]
        versions[meta.uid(obj)] = meta.resource_version(obj)


@implementer(IListener)
class Claims:
    """The claims of the nodes that are connected here; listens to Nodes.

    :param identity: of this process, no other may have it, and without a slash.
    :param cloud_ip: this cloudcore's address, written to the nodes connected to it.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        client: IKubeClient,
        sessions: Sessions,
        *,
        identity: str,
        cloud_ip: str,
    ) -> None:
        self._clock = clock
        self._client = client
        self._sessions = sessions
        self._identity = identity
        self._cloud_ip = cloud_ip
        self._claims: dict[str, Claim] = {}
        self._numbers: Iterator[int] = itertools.count(1)
        self._tasks = TaskSet()
        self.looks = 0
        """Nodes read to see whose they are."""
        self.writes = 0
        """Marks written."""
        self.losses = 0
        """Times a node turned out to be connected elsewhere."""

    async def stop(self) -> None:
        """End what is under way."""
        await self._tasks.cancel_all()

    # Sessions

    def opened(self, name: str, node: dict[str, Any] | None) -> Claim:
        """Begin a session.

        :param node: as the cache has it, for :meth:`establish` to mark; ``None``: it will
            register.
        """
        claim = self._claims[name] = Claim(name, self._new_mark())
        claim.busy = node is not None
        return claim

    def closed(self, name: str) -> None:
        """End a session; what it has said may still be written, while nobody else has the node."""
        self._claims.pop(name, None)

    def of(self, name: str) -> Claim | None:
        """Find the claim of a node's present session."""
        return self._claims.get(name)

    def annotations(self, claim: Claim | None) -> dict[str, str]:
        """What a Node is annotated with that registers in this session."""
        return {CLOUDCORE: self._cloud_ip} | ({} if claim is None else {SESSION: claim.mark})

    def registered(self, claim: Claim | None, node: dict[str, Any]) -> None:
        """Note a Node that was written with :meth:`annotations`."""
        if claim is not None:
            claim.version = meta.resource_version(node)

    async def establish(self, claim: Claim, node: dict[str, Any]) -> dict[str, Any]:
        """Write the mark of a session that has opened.

        :param node: what was given to :meth:`opened`.
        :returns: the Node as it is now.
        :raises KubeError: it could not be written; the next write of a status tries again.
        """
        try:
            return await self._write(claim, node, meta.annotation(node, SESSION))
        finally:
            claim.busy = False
            self._start(claim)

    # Writing

    async def base(self, claim: Claim, obj: dict[str, Any]) -> str:
        """Find the version on condition of which ``obj`` may be written in this session.

        :param obj: as it was read, before this call.
        :raises Displaced: the node is connected elsewhere.
        """
        ours, seen = claim.versions.get(meta.uid(obj)), meta.resource_version(obj)
        if ours is not None and not meta.is_newer(seen, ours):
            return ours
        await self.verify(claim)
        return seen

    def verify(self, claim: Claim) -> Deferred[None]:
        """Fires once a look at the Node, begun after this call, has shown our mark.

        :raises Displaced: the node is connected elsewhere.
        :raises KubeError: that cannot be seen.
        """
        waiter: Deferred[None] = Deferred()
        claim.waiting.append(waiter)
        self._start(claim)
        return waiter

    def _start(self, claim: Claim) -> None:
        if claim.waiting and not claim.busy:
            claim.busy = True
            self._tasks.spawn(f"look at whose {claim.node} is", self._rounds(claim))

    async def _rounds(self, claim: Claim) -> None:
        try:
            while claim.waiting:
                waiting, claim.waiting = claim.waiting, []
                try:
                    await self._look(claim)
                except CancelledError:
                    raise
                except KubeError as error:
                    for waiter in waiting:
                        waiter.errback(error)
                else:
                    for waiter in waiting:
                        waiter.callback(None)
        finally:
            claim.busy = False

    async def _look(self, claim: Claim) -> None:
        self.looks += 1
        node = await self._client.get(NODES, "", claim.node)
        if meta.annotation(node, SESSION) == claim.mark:
            claim.version = meta.resource_version(node)
            return
        now = self._clock.seconds()
        if now - claim.regained_at < QUARREL_SECONDS:
            raise self._lost(claim, "again, within a minute")
        await self._write(claim, node, None)
        claim.regained_at = now

    async def _write(
        self, claim: Claim, node: dict[str, Any], believed: str | None
    ) -> dict[str, Any]:
        """Put our mark into the Node.

        :param believed: the mark that we may replace without asking the edge.
        """
        for _ in range(ATTEMPTS):
            found = meta.annotation(node, SESSION)
            if found == claim.mark and meta.annotation(node, CLOUDCORE) == self._cloud_ip:
                claim.version = meta.resource_version(node)
                return node
            if found not in (believed, claim.mark):
                if self._claims.get(claim.node) is not claim:
                    raise self._lost(claim, "and its session here is over")
                ours = found.rpartition("/")[0] == self._identity
                if not ours and not await self._sessions.prove(claim.node):
                    raise self._lost(claim, "and does not answer here")
                believed = found
                claim.mark = self._new_mark()
                claim.versions.clear()
            about = {
                "resourceVersion": meta.resource_version(node),
                "annotations": self.annotations(claim),
            }
            try:
                self.writes += 1
                node = await self._client.patch(NODES, "", claim.node, {"metadata": about})
            except KubeError as error:
                if error.reason != "Conflict":
                    raise
                node = await self._client.get(NODES, "", claim.node)
        raise refusal(503, "ServiceUnavailable", f"node {claim.node} changes too fast to be marked")

    def _new_mark(self) -> str:
        return f"{self._identity}/{next(self._numbers)}"

    def _lost(self, claim: Claim, why: str) -> Displaced:
        self.losses += 1
        self._log.warn(
            "{node} is connected to another cloud process, {why}: what it said here is not "
            "written any more",
            node=claim.node,
            why=why,
        )
        if self._claims.get(claim.node) is claim:
            self._sessions.displace(claim.node)
        return Displaced(claim.node)

    # IListener

    def added(self, obj: dict[str, Any]) -> None:
        self._seen(obj)

    def modified(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._seen(new)

    def deleted(self, obj: dict[str, Any]) -> None:
        """Its session ends by itself."""

    def _seen(self, node: dict[str, Any]) -> None:
        claim = self._claims.get(meta.name(node))
        if claim is None or claim.busy or not claim.version:
            return
        version = meta.resource_version(node)
        if not meta.is_newer(version, claim.version):
            return
        if meta.annotation(node, SESSION) == claim.mark:
            claim.version = version
        else:
            self.verify(claim).addErrback(self._said)

    def _said(self, failure: Any) -> None:
        failure.trap(KubeError, CancelledError)

"""Which node has which session: the newest connection wins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from twisted.logger import Logger

if TYPE_CHECKING:
    from kubeedge_tx.cloud.cloudhub.session import NodeSession

REPLACED: Final = 4409
"""WebSocket close code: the node has connected anew."""

QUARREL_SECONDS: Final = 60.0
"""Two replacements of one node's session within this time look like two edges of one name."""


class SessionTable:
    """The sessions that are open, one for each node.

    Sessions are compared by identity: the end of an old one cannot hurt the new.

    :param limit: nodes at once; may be changed, and ends no session.
    """

    _log = Logger()

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._sessions: dict[str, NodeSession] = {}
        self._replaced_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[NodeSession]:
        return iter(tuple(self._sessions.values()))

    def get(self, node: str) -> NodeSession | None:
        """The node's session."""
        return self._sessions.get(node)

    def has_room(self, node: str) -> bool:
        """Whether the node may connect: it is connected already, or the limit allows."""
        return node in self._sessions or len(self._sessions) < self.limit

    def opened(self, session: NodeSession, now: float) -> NodeSession | None:
        """Make a session the node's own.

        :returns: the one it replaces, which the caller ends.
        """
        node = session.node
        old = self._sessions.get(node)
        self._sessions[node] = session
        if old is not None:
            if now - self._replaced_at.get(node, -QUARREL_SECONDS) < QUARREL_SECONDS:
                self._log.warn(
                    "{node} connected from {peer} while it was connected from {other}, for the "
                    "second time within {seconds:.0f} s: if two machines use this name, "
                    "stop one of them and give it another",
                    node=node,
                    peer=session.peer,
                    other=old.peer,
                    seconds=QUARREL_SECONDS,
                )
            else:
                self._log.info(
                    "{node} connected anew from {peer}; its connection from {other} ends",
                    node=node,
                    peer=session.peer,
                    other=old.peer,
                )
            self._replaced_at[node] = now
        return old

    def closed(self, session: NodeSession) -> bool:
        """Remove a session; ``False`` if it was not, or no longer, the node's own."""
        if self._sessions.get(session.node) is not session:
            return False
        del self._sessions[session.node]
        return True

    def forget(self, node: str) -> None:
        """Drop what is remembered of a node that is deleted."""
        self._replaced_at.pop(node, None)

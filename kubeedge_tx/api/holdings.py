"""What an edge has, in short: two ends compare it without sending the objects.

Pure. Ours alone; KubeEdge has nothing like it.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec

UNCOUNTED: Final = frozenset({"node", "nodepatch", "podpatch", "serviceaccounttoken"})
"""Types that are left out. An edge asks for its Node at every start; the others are no objects
of the cluster, and their versions are not confirmed."""


class Holding(NamedTuple):
    """One object that an edge has."""

    resource: str
    """As the edge sees it: ``default/pod/web``."""
    uid: str
    version: str

    @property
    def namespace(self) -> str:
        """``null`` for cluster scope."""
        return self.resource.partition("/")[0]


class Confirmation(NamedTuple):
    """What is known of one object that an edge has confirmed."""

    namespace: str
    """``null`` for cluster scope."""
    uid: str
    kind: str
    """``Pod``."""
    name: str
    version: str | None
    """``None`` if it has confirmed that the object is gone."""


class Digest(msgspec.Struct, frozen=True):
    """What an edge says when it connects, and when it is asked for more."""

    fingerprint: str
    holdings: list[Holding] | None = None
    """Everything; only when it was asked for."""


def fingerprint(objects: Iterable[tuple[str, str, str]]) -> str:
    """Hash a set of objects; the order does not matter.

    :param objects: namespace (``null`` for cluster scope), uid and version of each.
    :returns: 64 hex digits.
    """
    text = "\n".join(sorted(f"{space}/{uid}@{version}" for space, uid, version in objects))
    return sha256(text.encode()).hexdigest()


def digest(holdings: Iterable[Holding], *, full: bool) -> Digest:
    """Build what an edge says."""
    found = list(holdings)
    short = fingerprint((each.namespace, each.uid, each.version) for each in found)
    return Digest(short, found if full else None)

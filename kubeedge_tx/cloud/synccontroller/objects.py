"""The objects that records are about: found, judged, sent again, taken away."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from twisted.logger import Logger

from kubeedge_tx.api import meta
from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.interfaces import IMessageBus
from kubeedge_tx.beehive.message import MessageFactory
from kubeedge_tx.beehive.route import build
from kubeedge_tx.cloud.synccontroller.records import Key
from kubeedge_tx.cloud.synccontroller.relevance import Relevance
from kubeedge_tx.errors import KubeError
from kubeedge_tx.kube.interfaces import IInformer, IKubeClient

_SOURCES: Final = {
    "device": names.DEVICECONTROLLER,
    "devicemodel": names.DEVICECONTROLLER,
    "serviceaccountaccess": names.POLICYCONTROLLER,
}
"""Whose messages lead to the right module on the edge; EdgeController's for all others.

KubeEdge sends all as EdgeController, and its DeviceTwin never hears of a repaired device.
"""

Wanted = Callable[[str, Mapping[str, Any]], bool]


class Sight(NamedTuple):
    """What was seen of an object that a node has, or should have."""

    informer: IInformer
    key: Key
    """Of the record about it, whether there is one or not."""
    name: str
    obj: dict[str, Any] | None
    """``None``: it is gone, or not for this node."""


class Objects:
    """The objects of the kinds that are compared.

    :param informers: one of each kind.
    :param wanted: tells whether a node should have an object that it has a record of.

    ``repairs`` and ``removals`` count what was sent.
    """

    _log = Logger()

    def __init__(
        self,
        bus: IMessageBus,
        messages: MessageFactory,
        client: IKubeClient,
        informers: Iterable[IInformer],
        wanted: Wanted,
    ) -> None:
        self._bus = bus
        self._messages = messages
        self._client = client
        self.informers = list(informers)
        # Records of v1.6 have the plural in lower case.
        self._by_kind = {each.kind.kind.lower(): each for each in self.informers}
        self._by_kind |= {each.kind.plural: each for each in self.informers}
        self._wanted = wanted
        self._relevance = Relevance()
        self.repairs = 0
        self.removals = 0

    def listen(self) -> None:
        """Follow the objects; the informers are synced."""
        for informer in self.informers:
            informer.add_listener(self._relevance)

    def informer(self, kind: str) -> IInformer | None:
        """The informer of a kind, ``Pod`` or ``pod``; ``None`` if it is not compared."""
        return self._by_kind.get(kind.lower())

    def is_wanted(self, node: str, obj: Mapping[str, Any]) -> bool:
        """Tell whether a node should have an object."""
        return self._wanted(node, obj)

    def is_newer(self, obj: Mapping[str, Any], version: str) -> bool:
        """Tell whether an object has something in it that an edge with ``version`` has not."""
        return meta.is_newer(self._relevance.version(obj), version)

    async def look(self, key: Key, kind: str, name: str) -> Sight | None:
        """See what there is for the node of a record.

        :param kind: ``Pod`` or ``pod``; ``name`` the object's.
        :returns: ``None``: the kind is not compared, or nobody can say now.
        """
        informer = self.informer(kind)
        if informer is None or not name:
            return None
        try:
            found = await self._find(informer, key, name)
        except KubeError as error:
            self._log.warn("cannot compare {record}: {error}", record=key.name, error=error)
            return None
        if found is not None and not self._wanted(key.node, found):
            found = None
        return Sight(informer, key, name, found)

    async def _find(self, informer: IInformer, key: Key, name: str) -> dict[str, Any] | None:
        """Find the very object of a record; a wrong delete would be worse than a question.

        :raises KubeError: who knows.
        """
        found = informer.get(key.namespace, name)
        if found is not None and meta.uid(found) == key.uid:
            return found
        try:
            found = await self._client.get(informer.kind, key.namespace, name)
        except KubeError as error:
            if error.code == 404:
                return None
            raise
        if meta.uid(found) != key.uid:
            return None
        kind = informer.kind
        return {
            "kind": kind.kind,
            "apiVersion": kind.api_version,
            **meta.without_managed_fields(found),
        }

    async def remove(self, seen: Sight) -> None:
        """Tell the node to delete what it has of that."""
        key = seen.key
        about = {"name": seen.name, "uid": key.uid}
        if key.namespace:
            about["namespace"] = key.namespace
        self.removals += 1
        await self._send(seen, names.DELETE, {"metadata": about}, "")

    async def repair(self, seen: Sight) -> None:
        """Send the node the object as it is now; there is one."""
        assert seen.obj is not None
        self.repairs += 1
        await self._send(seen, names.UPDATE, seen.obj, meta.resource_version(seen.obj))

    async def _send(
        self, seen: Sight, operation: str, content: dict[str, Any], version: str
    ) -> None:
        kind, key = seen.informer.kind.kind.lower(), seen.key
        await self._bus.send(
            names.CLOUDHUB,
            self._messages.new(
                source=_SOURCES.get(kind, names.EDGECONTROLLER),
                group=names.GROUP_RESOURCE,
                operation=operation,
                resource=build(key.node, key.namespace, kind, seen.name),
                content=content,
                resource_version=version,
            ),
        )

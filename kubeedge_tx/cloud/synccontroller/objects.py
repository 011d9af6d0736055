"""The objects that records are about: found, judged, sent again, taken away."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

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


class Objects:
    """The objects of the kinds that are compared.

    :param informers: one of each kind.
    :param wanted: tells whether a node should have an object that it has a record of.

    ``repairs`` and ``removals`` count what was sent.
    """

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

    async def find(self, informer: IInformer, key: Key, name: str) -> dict[str, Any] | None:
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

    async def remove(self, informer: IInformer, key: Key, name: str) -> None:
        """Tell a node to delete an object."""
        about = {"name": name, "uid": key.uid}
        if key.namespace:
            about["namespace"] = key.namespace
        self.removals += 1
        await self._send(informer, key, name, names.DELETE, {"metadata": about}, "")

    async def repair(self, informer: IInformer, key: Key, obj: dict[str, Any]) -> None:
        """Send a node an object as it is now."""
        self.repairs += 1
        await self._send(
            informer, key, meta.name(obj), names.UPDATE, obj, meta.resource_version(obj)
        )

    async def _send(
        self,
        informer: IInformer,
        key: Key,
        name: str,
        operation: str,
        content: dict[str, Any],
        version: str,
    ) -> None:
        kind = informer.kind.kind.lower()
        await self._bus.send(
            names.CLOUDHUB,
            self._messages.new(
                source=_SOURCES.get(kind, names.EDGECONTROLLER),
                group=names.GROUP_RESOURCE,
                operation=operation,
                resource=build(key.node, key.namespace, kind, name),
                content=content,
                resource_version=version,
            ),
        )

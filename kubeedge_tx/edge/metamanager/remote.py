"""Questions that only the cloud can answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kubeedge_tx.api import meta as k8s
from kubeedge_tx.api.resources import NODES
from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.interfaces import IMessageBus
from kubeedge_tx.beehive.message import OK, Message, MessageFactory, raw
from kubeedge_tx.beehive.route import CLUSTER, Resource, parse
from kubeedge_tx.edge.metamanager.answers import Answer, read_answer
from kubeedge_tx.edge.metamanager.tokens import token_key
from kubeedge_tx.errors import NoSuchModule, NotConnected
from kubeedge_tx.store.database import Change
from kubeedge_tx.store.meta import Identity, MetaStore

TOKEN: Final = "serviceaccounttoken"  # noqa: S105 - a type of object
OBJECTS: Final = frozenset(
    {"configmap", "secret", "persistentvolume", "persistentvolumeclaim", "volumeattachment"}
)
"""Types that are asked for by name, answered as they are, and kept."""


class Outcome(msgspec.Struct, frozen=True):
    """What to tell whoever asked: content, or the text of an error."""

    content: msgspec.Raw = OK
    error: str = ""
    is_away: bool = False
    """There was no answer: it is not that the cloud refused."""


class Remote:
    """Ask the cloud, keep what it answers, acknowledge that.

    ``connected`` follows EdgeHub's connection events.

    :param timeout: seconds to wait for an answer. Source: KubeEdge
        ``metaManager.remoteQueryTimeout``.
    """

    def __init__(
        self, bus: IMessageBus, messages: MessageFactory, store: MetaStore, timeout: float
    ) -> None:
        self._bus = bus
        self._messages = messages
        self._store = store
        self.timeout = timeout
        self.connected = False

    async def ask(self, asked: Message) -> Outcome:
        """Put a question of edged to the cloud.

        :raises NotConnected: there is no connection, or it ended before the answer came.
        :raises SendTimeout: no answer in time.
        :raises StoreError: the answer is not on disk; the cloud got no acknowledgement.
        """
        if not self.connected:
            raise NotConnected(f"{asked.route.resource} is needed from the cloud: not connected")
        route = asked.route
        question = self._messages.new(
            source=route.source,
            group=route.group,
            operation=route.operation,
            resource=route.resource,
            content=asked.content,
        )
        try:
            answer = await self._bus.send_sync(names.EDGEHUB, question, self.timeout)
        except NoSuchModule as error:
            raise NotConnected(str(error)) from None
        if answer.route.source == names.EDGEHUB:  # it was never sent, or the link broke
            raise NotConnected(f"{route.resource} is needed from the cloud: not connected")
        outcome = await self._take(asked, parse(route.resource), answer)
        await self._bus.send(names.EDGEHUB, self._messages.reply(answer))
        return outcome

    async def take_late(self, answer: Message) -> bool:
        """Keep an answer that nobody waits for any more, and acknowledge it.

        The cloud sends such an answer again, and holds others back, until it is
        acknowledged; a repeat after a lost acknowledgement looks the same.

        :returns: whether it was of a kind that is kept.
        """
        resource = parse(answer.route.resource)
        if resource.kind not in OBJECTS or answer.route.operation != names.RESPONSE:
            return False
        read = read_answer(answer)
        if read.ok:
            return False
        if read.object is not None:
            await self._keep(resource, read.object)
        await self._bus.send(names.EDGEHUB, self._messages.reply(answer))
        return True

    def storing_node(self, node: str, found: Mapping[str, Any]) -> Change | None:
        """The change that keeps a Node from an answer; ``None`` if a newer one is kept."""
        filled = {"kind": NODES.kind, "apiVersion": NODES.api_version, **found}
        key = str(Resource(CLUSTER, "node", node))
        if k8s.name(found) != node or self._store.is_outdated(key, _identity(found)):
            return None
        return self._store.putting(key, "node", raw(filled))

    async def _take(self, asked: Message, resource: Resource, answer: Message) -> Outcome:
        read = read_answer(answer)
        if resource.kind in OBJECTS or resource.kind == TOKEN:
            return await self._take_object(asked, resource, read)
        if read.error and not read.wrapped:
            return Outcome(error=read.error)
        if resource.kind == "node" and read.object is not None:
            change = self.storing_node(resource.name, read.object)
            if change is not None:
                await self._store.apply(change)
        return Outcome(answer.content)

    async def _take_object(self, asked: Message, resource: Resource, read: Answer) -> Outcome:
        found = read.object
        if found is None:
            return Outcome(error=read.error or f"the cloud answered OK instead of {resource}")
        if k8s.name(found) not in ("", resource.name):
            return Outcome(error=f"the cloud answered with another object than {resource}")
        if resource.kind == TOKEN:
            request = asked.read()
            key = token_key(
                resource.name, resource.namespace, request if isinstance(request, dict) else {}
            )
            await self._store.put(key, TOKEN, raw(found))
        else:
            await self._keep(resource, found)
        return Outcome(raw(found))

    async def _keep(self, resource: Resource, found: Mapping[str, Any]) -> None:
        key = str(resource)
        if k8s.name(found) == resource.name and not self._store.is_outdated(key, _identity(found)):
            await self._store.put(key, resource.kind, raw(found))


def _identity(found: Mapping[str, Any]) -> Identity:
    return Identity(
        uid=k8s.uid(found),
        version=k8s.resource_version(found),
        created=str(k8s.mapping(found, "metadata").get("creationTimestamp") or ""),
    )

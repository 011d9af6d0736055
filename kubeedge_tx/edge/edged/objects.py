"""What Edged asks MetaManager for, and tells it."""

from __future__ import annotations

import json
from typing import Any, Final

from twisted.logger import Logger

from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.interfaces import IMessageBus
from kubeedge_tx.beehive.message import Message, MessageFactory
from kubeedge_tx.beehive.route import CLUSTER
from kubeedge_tx.edge.edged import podspec
from kubeedge_tx.edge.edged.podspec import Json
from kubeedge_tx.errors import KubeEdgeError, KubeError, NotConnected

LOCAL_TIMEOUT: Final = 60.0
"""Seconds MetaManager has for what it answers from its store."""
REMOTE_TIMEOUT: Final = 65.0
"""Seconds for what it asks the cloud; a little more than it gives the cloud itself."""


class ObjectMissing(KubeEdgeError):
    """The cloud says that there is no such object."""


class ObjectUnavailable(KubeEdgeError):
    """The object is not here, and the cloud could not be asked."""


class Objects:
    """The edge's objects, as MetaManager has them or gets them."""

    _log = Logger()

    def __init__(self, bus: IMessageBus, messages: MessageFactory) -> None:
        self._bus = bus
        self._messages = messages

    def _message(self, operation: str, resource: str, content: object = None) -> Message:
        return self._messages.new(
            source=names.EDGED,
            group=names.GROUP_META,
            operation=operation,
            resource=resource,
            content=content,
        )

    async def _ask(self, operation: str, resource: str, content: object, timeout: float) -> Message:
        message = self._message(operation, resource, content)
        return await self._bus.send_sync(names.METAMANAGER, message, timeout)

    async def stored_pods(self) -> list[Json]:
        """Give every pod of the store; a row that is no pod keeps no other from running.

        :raises KubeEdgeError: the store could not be read.
        """
        answer = await self._ask(names.QUERY, "default/pod", None, LOCAL_TIMEOUT)
        content = _content(answer)
        if not isinstance(content, list):
            raise ObjectUnavailable("the answer to the query for pods is not a list")
        pods = []
        for each in content:
            try:
                pod = json.loads(each) if isinstance(each, str) else each
            except ValueError:
                pod = None
            if isinstance(pod, dict):
                pods.append(pod)
            else:
                self._log.error("a stored pod cannot be read; it is left out")
        return pods

    async def read(self, namespace: str, kind: str, name: str) -> Json | None:
        """Give a ConfigMap (``configmap``) or Secret (``secret``); ``None``: no such object.

        :raises ObjectUnavailable: it is not stored here and the cloud cannot be asked.
        """
        resource = f"{namespace}/{kind}/{name}"
        try:
            content = _content(await self._ask(names.QUERY, resource, None, REMOTE_TIMEOUT))
        except ObjectMissing:
            return None
        if isinstance(content, list):  # the form of upstream's local answers
            content = content[0] if content else None
        if isinstance(content, str):
            content = json.loads(content)
        return content if isinstance(content, dict) else None

    async def token(self, pod: Json, audience: str, seconds: int) -> tuple[str, str]:
        """Get a service-account token bound to a pod.

        :returns: the token and when it expires, RFC 3339.
        :raises KubeEdgeError: there is none.
        """
        account = podspec.spec(pod).get("serviceAccountName") or "default"
        namespace = podspec.namespace(pod)
        request = {
            "metadata": {"creationTimestamp": None},
            "spec": {
                "audiences": [audience] if audience else None,
                "expirationSeconds": seconds,
                "boundObjectRef": {
                    "kind": "Pod",
                    "apiVersion": "v1",
                    "name": podspec.name(pod),
                    "uid": podspec.uid(pod),
                },
            },
            "status": {"token": "", "expirationTimestamp": None},
        }
        resource = f"{namespace}/serviceaccounttoken/{account}"
        content = _content(await self._ask(names.QUERY, resource, request, REMOTE_TIMEOUT))
        status = content.get("status") if isinstance(content, dict) else None
        if not status or not status.get("token"):
            raise ObjectUnavailable(f"no token came for service account {namespace}/{account}")
        return str(status["token"]), str(status.get("expirationTimestamp") or "")

    async def report_pod(self, pod: Json, patch: Json) -> None:
        """Put a pod's status into the outbox; returns once that is durable."""
        resource = f"{podspec.namespace(pod)}/podpatch/{podspec.name(pod)}"
        text = json.dumps(patch, separators=(",", ":"))
        _content(await self._ask(names.PATCH, resource, text, LOCAL_TIMEOUT))

    async def delete_pod(self, pod: Json) -> None:
        """Tell the cloud that a deleted pod has ended; returns once that is durable here."""
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": podspec.uid(pod)}}
        resource = f"{podspec.namespace(pod)}/pod/{podspec.name(pod)}"
        _content(await self._ask(names.DELETE, resource, options, LOCAL_TIMEOUT))

    async def node(self, name: str) -> Json | None:
        """Give the Node object of the store, if it is there."""
        resource = f"{CLUSTER}/node/{name}"
        try:
            content = _content(await self._ask(names.QUERY, resource, None, LOCAL_TIMEOUT))
        except ObjectMissing:
            return None
        if isinstance(content, list):
            content = content[0] if content else None
        if isinstance(content, str):
            content = json.loads(content)
        return content if isinstance(content, dict) else None

    async def register_node(self, node: Json) -> Json:
        """Create the Node in the cluster.

        :raises KubeError: the cluster refused; ``AlreadyExists`` is one of its reasons.
        :raises NotConnected: the cloud is away.
        """
        resource = f"{CLUSTER}/node/{podspec.name(node)}"
        return await self._cloud(names.INSERT, resource, node)

    async def report_node(self, name: str, patch: Json) -> None:
        """Put the node's status into the outbox; returns once that is durable."""
        text = json.dumps(patch, separators=(",", ":"))
        _content(await self._ask(names.PATCH, f"{CLUSTER}/nodepatch/{name}", text, LOCAL_TIMEOUT))

    async def lease(self, operation: str, name: str, lease: Json | None = None) -> Json:
        """Query, insert or update the node's lease.

        :raises KubeError: ``NotFound``, ``AlreadyExists``, ``Conflict``…
        :raises NotConnected: the cloud is away.
        """
        return await self._cloud(operation, f"kube-node-lease/lease/{name}", lease)

    async def send_event(self, operation: str, event: Json) -> None:
        """Send an Event towards the cloud; nobody answers."""
        resource = f"{podspec.namespace(event)}/event/{podspec.name(event)}"
        await self._bus.send(names.METAMANAGER, self._message(operation, resource, event))

    async def _cloud(self, operation: str, resource: str, content: Json | None) -> Json:
        answer = await self._ask(operation, resource, content, REMOTE_TIMEOUT)
        if answer.route.operation == names.ERROR:
            raise NotConnected(f"{operation} {resource}: {_text(answer.read())}")
        body = answer.read()
        if not isinstance(body, dict):
            raise NotConnected(f"{operation} {resource}: the answer has no object")
        if error := body.get("Err"):
            status = error.get("ErrStatus") or {}
            raise KubeError(
                str(status.get("message") or f"{operation} {resource} was refused"),
                code=int(status.get("code") or 0),
                reason=str(status.get("reason") or ""),
                status=status,
            )
        return dict(body.get("Object") or {})


def _content(answer: Message) -> Any:
    content = answer.read()
    if answer.route.operation == names.ERROR:
        text = _text(content)
        if "not found" in text.lower():
            raise ObjectMissing(text)
        raise ObjectUnavailable(text)
    if isinstance(content, dict) and "ErrStatus" in content:
        status = content["ErrStatus"] or {}
        text = str(status.get("message") or "the cloud refused")
        if status.get("reason") == "NotFound":
            raise ObjectMissing(text)
        raise ObjectUnavailable(text)
    return content


def _text(content: object) -> str:
    return content if isinstance(content, str) else "the answer is an error without a text"

"""The two kinds of :class:`IMqttPort`: in our own broker, and towards one elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from kubeedge_tx.errors import NotConnected
from kubeedge_tx.mqtt.client import MqttClient
from kubeedge_tx.mqtt.clienteffects import Received
from kubeedge_tx.mqtt.interfaces import IMqttPort, OnMessage, OnState
from kubeedge_tx.mqtt.packets import V5, Subscription
from kubeedge_tx.mqtt.server import MqttServer
from kubeedge_tx.mqtt.topics import check_filter


@implementer(IMqttPort)
class BrokerPort:
    """In the broker of this process: always connected, nothing is copied.

    A device's QoS 1 message is acknowledged once the callback's Deferred has fired.

    :param name: for the log.
    """

    def __init__(self, server: MqttServer, name: str) -> None:
        self._server = server
        self._on_message: OnMessage | None = None
        self._local = server.attach(name, self._deliver)

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> Deferred[None]:
        """See :class:`IMqttPort`; fires when it is queued for all, on disk where it must be."""
        return self._server.publish(topic, payload, qos=qos, retain=retain, origin=self._local)

    def subscribe(self, filters: Sequence[str], qos: int = 1) -> Deferred[None]:
        """See :class:`IMqttPort`."""
        try:
            for each in filters:
                check_filter(each)
        except Exception:  # noqa: BLE001 - from the Deferred, as the interface has it
            return fail()
        self._server.subscribe(self._local, filters, qos)
        return succeed(None)

    def unsubscribe(self, filters: Sequence[str]) -> Deferred[None]:
        """See :class:`IMqttPort`."""
        self._server.unsubscribe(self._local, filters)
        return succeed(None)

    def on_message(self, callback: OnMessage) -> None:
        """See :class:`IMqttPort`."""
        self._on_message = callback

    def on_state(self, callback: OnState) -> None:
        """See :class:`IMqttPort`."""
        callback(True)

    def _deliver(self, topic: str, payload: bytes, qos: int, retain: bool) -> Deferred[None]:
        assert self._on_message is not None, "subscribed before on_message"
        return self._on_message(topic, payload, qos, retain)


@implementer(IMqttPort)
class ClientPort:
    """Towards a broker elsewhere.

    With MQTT 5 what this port publishes does not come back; 3.1.1 has no word for that, so
    there it does if it matches a subscription.

    :param client: started and stopped by whoever made it.
    """

    def __init__(self, client: MqttClient) -> None:
        self._client = client
        self._on_message: OnMessage | None = None
        client.on_received(self._received)

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> Deferred[None]:
        """See :class:`IMqttPort`."""
        if not self._client.is_connected:
            return fail(NotConnected(f"no connection to {self._client.name}"))
        return self._client.publish(topic, payload, qos=qos, retain=retain)

    def subscribe(self, filters: Sequence[str], qos: int = 1) -> Deferred[None]:
        """See :class:`IMqttPort`."""
        if not filters:
            return succeed(None)
        no_local = self._client.version == V5
        done: Deferred[Any] = self._client.subscribe(
            [Subscription(each, qos=qos, no_local=no_local) for each in filters]
        )
        return done.addCallback(lambda _: None)

    def unsubscribe(self, filters: Sequence[str]) -> Deferred[None]:
        """See :class:`IMqttPort`."""
        return self._client.unsubscribe(filters) if filters else succeed(None)

    def on_message(self, callback: OnMessage) -> None:
        """See :class:`IMqttPort`."""
        self._on_message = callback

    def on_state(self, callback: OnState) -> None:
        """See :class:`IMqttPort`."""
        self._client.on_state(callback)

    def _received(self, received: Received) -> Deferred[None]:
        assert self._on_message is not None, "subscribed before on_message"
        message = received.message
        return self._on_message(message.topic, message.payload, received.qos, received.retain)

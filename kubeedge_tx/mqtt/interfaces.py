"""What EventBus needs of MQTT, whichever broker is behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from zope.interface import Interface

OnMessage = Callable[[str, bytes, int, bool], Deferred[None]]
"""Topic, payload, QoS and retain flag of one message that a client published.

Its Deferred fires when what the message caused is on disk; only then may a message of QoS 1
or 2 be acknowledged. It fails when it is not: then the publisher must not be told yes. The
next message may be handed over before.
"""

OnState = Callable[[bool], None]
"""Whether there is a broker now. Subscriptions of an earlier connection are gone."""


class IMqttPort(Interface):
    """A place in an MQTT broker: inside this process, or a client of one elsewhere."""

    def publish(topic: str, payload: bytes, qos: int, retain: bool) -> Deferred[None]:
        """Publish; fires when the broker has taken responsibility for the message.

        Messages leave in the order of the calls, without waiting for one another.

        :raises NotConnected: from the Deferred: there is no broker, or it went away before
            it answered; the message may or may not have been delivered.
        """

    def subscribe(filters: Sequence[str], qos: int = 1) -> Deferred[None]:
        """Subscribe; fires when the broker has agreed to all filters.

        :raises KubeEdgeError: from the Deferred: no connection, or a filter was refused.
        """

    def unsubscribe(filters: Sequence[str]) -> Deferred[None]:
        """Undo :meth:`subscribe`; filters that were not subscribed are ignored."""

    def on_message(callback: OnMessage) -> None:
        """Say who gets what arrives; there is one such listener, set before the start.

        What this port itself published does not come back through it.
        """

    def on_state(callback: OnState) -> None:
        """Say who hears that the broker came or went; called at once with the state now."""

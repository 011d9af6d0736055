"""What modules and the bus promise each other."""

from __future__ import annotations

from collections.abc import Awaitable

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from kubeedge_tx.beehive.message import Message


class IModule(Interface):
    """One named part of a role, fed one message at a time."""

    name: str = Attribute("Unique on the bus: ``metamanager``.")
    group: str = Attribute("Whom group messages reach: ``meta``.")

    def handle(message: Message) -> Awaitable[None]:
        """Act on one message. The next one waits until this finishes.

        Raise freely: the runner logs the failure, counts it, and answers with an error
        when the message was synchronous. It never stops the module. Do not await
        ``send_sync`` here: the module is deaf while it waits.
        """


class IMessageBus(Interface):
    """Delivery between modules of one process, with back-pressure."""

    def send(module: str, message: Message) -> Deferred[None]:
        """Deliver to one module; fires once its inbox has room for the message.

        :raises NoSuchModule: at once, from the call.
        """

    def send_to_group(group: str, message: Message) -> Deferred[None]:
        """Deliver to every module of a group, in order; fires when all have room."""

    def send_sync(module: str, message: Message, timeout: float) -> Deferred[Message]:
        """Deliver and wait for the response.

        :param timeout: seconds from now, covering delivery and response.
        :raises SendTimeout: nobody answered. Cancelling the Deferred is allowed.
        """

    def respond(message: Message) -> bool:
        """Give a response to whoever waits for its ``parent_id``; ``False`` if nobody."""

    def has(module: str) -> bool:
        """Tell whether this process has a module of that name."""

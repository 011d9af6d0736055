"""Pods that do not go on for ever while their node is out of the cluster's reach."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from kubeedge_tx.api.partition import Policy, PolicyError, read_policy
from kubeedge_tx.edge.edged import podspec
from kubeedge_tx.edge.edged.contact import Contact
from kubeedge_tx.edge.edged.podspec import Json

LOOK_SECONDS: Final = 5.0
MAX_COMPLAINTS: Final = 1024
"""Pods of which it is remembered that the log has them."""


class Ending(Protocol):
    """A pod that runs."""

    pod: Json

    def partitioned(self) -> None:
        """End it: its node has been out of reach for too long."""


class Partition:
    """End pods when their time is over; keep them from being started while it is unknown.

    :param running: the pods that run, or are being started.
    :param start: starts a pod that was held back.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        contact: Contact,
        running: Callable[[], Iterable[Ending]],
        start: Callable[[Json], Ending],
    ) -> None:
        self._clock = clock
        self._contact = contact
        self._running = running
        self._start = start
        self._complained: set[str] = set()
        contact.on_known = self._resume
        self.held: dict[str, Json] = {}
        """Pods not started, by key, since nobody knows whether another one runs by now."""

    def holds(self, key: str, pod: Json) -> bool:
        """Take a pod that must not be started yet; ``False`` if it may.

        That is so after a start of the machine: how long it was off is unknown.
        """
        if self._contact.is_known or self._policy(pod) is None:
            self.held.pop(key, None)
            return False
        if key not in self.held:
            self._log.info(
                "{pod} waits for the cluster: it may have been replaced while this machine was off",
                pod=key,
            )
        self.held[key] = pod
        return True

    def release(self, key: str) -> Json | None:
        """Give a pod back that is held, if it is: its end is certain, or its start."""
        return self.held.pop(key, None)

    def has(self, uid: str) -> bool:
        """Whether the pod of this uid is held."""
        return any(podspec.uid(pod) == uid for pod in self.held.values())

    async def watch(self) -> None:
        """Look again and again."""
        while True:
            silence = self._contact.silence()
            ending = [each for each in self._running() if self._is_over(each.pod, silence)]
            for key, pod in list(self.held.items()):
                if self._is_over(pod, silence):
                    ending.append(self._start(self.held.pop(key)))
            for each in ending:
                each.partitioned()
            if any(self._policy(each.pod) is not None for each in self._running()):
                await self._contact.save()
            await deferLater(self._clock, LOOK_SECONDS)

    def _resume(self) -> None:
        held, self.held = self.held, {}
        for pod in held.values():
            self._start(pod)

    def _is_over(self, pod: Json, silence: float) -> bool:
        policy = self._policy(pod)
        return policy is not None and silence >= policy.seconds

    def _policy(self, pod: Json) -> Policy | None:
        try:
            return read_policy(pod)
        except PolicyError as error:
            uid = podspec.uid(pod)
            if uid not in self._complained:
                if len(self._complained) >= MAX_COMPLAINTS:
                    self._complained.clear()
                self._complained.add(uid)
                self._log.warn("{pod} is kept running: {why}", pod=podspec.key(pod), why=error)
            return None

"""Keep a fresh join token in the cluster for as long as the cloud runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.cloud.cloudhub.keystore import KeyStore
from kubeedge_tx.errors import KubeError
from kubeedge_tx.security.authority import Authority
from kubeedge_tx.security.token import expiry

FIRST_DELAY: Final = 2.0
"""Seconds until a failed write is tried again; doubled each time."""

LONGEST_DELAY: Final = 60.0

LONGEST_SLEEP: Final = 3600.0
"""Seconds between looks at the wall clock, which may be set."""


class JoinTokens(Service):
    """Renew the token at half of its life; a cluster that is away is asked until it answers.

    Upstream ends refreshing at the first failure, and edges cannot join from then on.

    :param refresh_hours: ``tokenRefreshDuration``; a token lives twice as long.
    :param wall_clock: seconds since 1970.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        keystore: KeyStore,
        authority: Authority,
        *,
        refresh_hours: int,
        wall_clock: Callable[[], float],
    ) -> None:
        self.setName("jointokens")
        self.token = ""
        """The newest one; empty until the cluster has taken the first."""
        self._clock = clock
        self._keystore = keystore
        self._authority = authority
        self._period = refresh_hours * 3600
        self._wall_clock = wall_clock
        self._tasks = TaskSet()
        self._pause: Deferred[None] | None = None

    def startService(self) -> None:
        super().startService()
        self._tasks.spawn("join tokens", self._run())

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._tasks.cancel_all())

    def refresh(self, refresh_hours: int) -> None:
        """Look at the token now, and go on with another period."""
        self._period = refresh_hours * 3600
        if self._pause is not None:
            pause, self._pause = self._pause, None
            pause.cancel()

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                self.token = await self._keystore.ensure_token(self._authority, 2 * self._period)
            except CancelledError:
                raise
            except KubeError as error:
                delay = min(FIRST_DELAY * 2.0**failures, LONGEST_DELAY)
                failures = min(failures + 1, 10)
                self._log.warn(
                    "cannot renew the join token, trying again in {delay:g} s: {error}",
                    delay=delay,
                    error=error,
                )
            else:
                failures = 0
                left = (expiry(self.token) or 0.0) - self._wall_clock()
                delay = min(max(left - self._period, FIRST_DELAY), LONGEST_SLEEP)
            await self._sleep(delay)

    async def _sleep(self, seconds: float) -> None:
        """Wait; :meth:`refresh` ends it early."""
        pause = self._pause = deferLater(self._clock, seconds)
        try:
            await pause
        except CancelledError:
            if self._pause is pause:  # it is not refresh that woke us
                raise

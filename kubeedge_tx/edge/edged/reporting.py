"""Tell the cloud what a pod is, when that is news."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from twisted.internet.defer import CancelledError, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kubeedge_tx.beehive.tasks import TaskSet
from kubeedge_tx.edge.edged import podspec
from kubeedge_tx.edge.edged.objects import Objects
from kubeedge_tx.edge.edged.podspec import Json
from kubeedge_tx.edge.edged.status import Observed, agree, pod_status, status_patch
from kubeedge_tx.errors import KubeEdgeError

RETRY_SECONDS: Final = 5.0
"""Pause after something failed that nobody can be told about but the log."""
ECHO_SECONDS: Final = 10.0
"""How long a status may take to the cluster and back before it is told again."""
MESSAGE_BYTES: Final = 4096
"""Longest termination message. Source: kubelet."""


class StatusReporter:
    """Keep one pod's status, and put what changes into the outbox.

    :param pod: as stored; its status is where times and counts go on from.
    :param tasks: where sending runs.
    :param wake_in: has the worker look again, and so :meth:`tell`, after some seconds.
    """

    _log = Logger()

    def __init__(
        self,
        pod: Json,
        objects: Objects,
        clock: IReactorTime,
        tasks: TaskSet,
        wake_in: Callable[[float], None],
    ) -> None:
        self.status: Json = pod.get("status") or {}
        """The status last computed, or stored."""
        self._objects = objects
        self._clock = clock
        self._tasks = tasks
        self._wake_in = wake_in
        self._is_told = False
        self._is_unsent = False
        self._sending = DeferredLock()
        self._former: dict[str, set[str]] = {"podIPs": set(), "hostIPs": set()}
        self._echo: Json | None = None
        self._echo_at = 0.0

    def heard(self, pod: Json) -> None:
        """Take the status that the cluster has now.

        If it is still another one after a while, somebody else wrote it, or ours was lost.
        """
        self._echo = pod.get("status") or {}
        self._echo_at = self._clock.seconds() + ECHO_SECONDS
        if not agree(self.status, self._echo):
            self._wake_in(ECHO_SECONDS)

    def tell(self, pod: Json, seen: Observed, *, silent: bool) -> None:
        """Compute the status; send it if it is news.

        :param silent: do not send: the cluster does not have this pod any more.
        """
        status = pod_status(pod, self.status, seen)
        if self._echo is not None and self._clock.seconds() >= self._echo_at:
            self._is_told = self._is_told and agree(status, self._echo)
            self._echo = None
        if status == self.status and self._is_told:
            return
        for field, addresses in self._former.items():
            addresses |= {each["ip"] for each in self.status.get(field) or ()}
        self.status = status
        self._is_told = True
        self._is_unsent = True
        if not silent:
            self._tasks.spawn(f"status of {podspec.key(pod)}", self._send_or_retry(pod))

    async def send(self, pod: Json) -> None:
        """Put the newest status into the outbox, if it is not there; one at a time.

        :raises KubeEdgeError: it is not there.
        """
        await self._sending.acquire()
        try:
            if not self._is_unsent:
                return
            self._is_unsent = False
            try:
                await self._objects.report_pod(pod, status_patch(pod, self.status, self._former))
            except BaseException:
                self._is_unsent = True
                raise
        finally:
            self._sending.release()

    async def _send_or_retry(self, pod: Json) -> None:
        try:
            await self.send(pod)
        except CancelledError:
            raise
        except KubeEdgeError as error:
            self._log.warn(
                "the status of {pod} was not taken: {error}",
                pod=podspec.key(pod),
                error=str(error),
            )
            self._is_told = False
            self._wake_in(RETRY_SECONDS)


def read_message(file: Path) -> str:
    """Read a termination message; empty if there is none."""
    try:
        with file.open("rb") as opened:
            return opened.read(MESSAGE_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""  # the container was never started, or a former agent removed it

"""The runtime's pods, asked for by many and answered at once."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from kubeedge_tx.runtime.interfaces import IContainerRuntime, PodState

States = Mapping[str, PodState]
"""Pods of the runtime by uid."""


class Relist:
    """Share one look at the runtime between all who ask while another is under way.

    Whoever asks gets a look that began after the question: never a stale answer.
    """

    def __init__(self, runtime: IContainerRuntime) -> None:
        self._runtime = runtime
        self._waiting: list[Deferred[States]] = []
        self._busy = False

    def states(self) -> Deferred[States]:
        """Give all pods of the runtime.

        :raises ContainerError: it does not answer.
        """
        answer: Deferred[States] = Deferred()
        self._waiting.append(answer)
        if not self._busy:
            self._look()
        return answer

    def _look(self) -> None:
        group, self._waiting = self._waiting, []
        self._busy = True
        looking: Deferred[list[PodState]] = self._runtime.pods()
        looking.addCallbacks(self._seen, self._failed, callbackArgs=(group,), errbackArgs=(group,))

    def _seen(self, pods: list[PodState], group: list[Deferred[States]]) -> None:
        states = {pod.uid: pod for pod in pods}
        self._done()
        for answer in group:
            answer.callback(states)

    def _failed(self, failure: Failure, group: list[Deferred[States]]) -> None:
        self._done()
        for answer in group:
            answer.errback(failure)

    def _done(self) -> None:
        self._busy = False
        if self._waiting:
            self._look()

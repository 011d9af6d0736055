"""Remove what nobody needs: images, pods that are not ours any more, their folders."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger

from kubeedge_tx.edge.edged.machine import Usage
from kubeedge_tx.edge.edged.podspec import DEFAULT_GRACE
from kubeedge_tx.edge.edged.relist import States
from kubeedge_tx.edge.edged.volumes import PodVolumes
from kubeedge_tx.errors import ContainerError
from kubeedge_tx.runtime.interfaces import IContainerRuntime, PodState


def bytes_to_free(usage: Usage, high_percent: float, low_percent: float) -> int:
    """Tell how much of the disk to free: what is above ``low`` once ``high`` is reached.

    Source: ``k8s.io/kubernetes/pkg/kubelet/images/image_gc_manager.go``.
    """
    used = usage.disk_kib - usage.disk_free_kib
    if usage.disk_kib <= 0 or used * 100 < usage.disk_kib * high_percent:
        return 0
    return int((used - usage.disk_kib * low_percent / 100) * 1024)


class Collector:
    """Clean up behind pods and images.

    :param usage: reads what is used now.
    """

    _log = Logger()

    def __init__(
        self, runtime: IContainerRuntime, volumes: PodVolumes, usage: Callable[[], Usage]
    ) -> None:
        self._runtime = runtime
        self._volumes = volumes
        self._usage = usage
        self._ending: set[str] = set()

    async def images(self, keep: frozenset[str], high_percent: float, low_percent: float) -> None:
        """Remove unused images if the disk is too full.

        :param keep: images of pods that are to run.
        """
        wanted = bytes_to_free(self._usage(), high_percent, low_percent)
        if not wanted:
            return
        try:
            freed = await self._runtime.remove_unused_images(keep, wanted)
        except ContainerError as error:
            self._log.warn("unused images were not removed: {error}", error=str(error))
            return
        self._log.info(
            "the disk is too full: removed images, {freed} of {wanted} bytes",
            freed=freed,
            wanted=wanted,
        )

    async def orphans(self, states: States, is_known: Callable[[str], bool]) -> None:
        """End the runtime's pods that nobody wants, and remove folders that no pod has.

        :param is_known: tells of a uid whether that pod is seen to. It is asked at the last
            moment: pods come while others are being ended.
        """
        orphans = [
            state for uid, state in states.items() if not is_known(uid) and uid not in self._ending
        ]
        await DeferredList([Deferred.fromCoroutine(self._end(each)) for each in orphans])
        left = {each.uid for each in await self._runtime.pods()}
        for uid in await self._volumes.folders():
            if uid not in left and uid not in self._ending and not is_known(uid):
                self._log.info("removing the folder of pod {uid}, which is gone", uid=uid)
                try:
                    await self._volumes.remove(uid)
                except OSError as error:
                    self._log.warn(
                        "the folder of pod {uid} was not removed: {error}",
                        uid=uid,
                        error=str(error),
                    )

    async def _end(self, state: PodState) -> None:
        self._log.info(
            "ending pod {namespace}/{pod} ({uid}): it is not on this node any more",
            namespace=state.namespace,
            pod=state.pod,
            uid=state.uid,
        )
        self._ending.add(state.uid)
        try:
            running = [each for each in state.containers if each.state == "running"]
            await DeferredList(
                [self._runtime.stop_container(each.id, DEFAULT_GRACE) for each in running],
                consumeErrors=True,
            )
            await self._runtime.remove_pod(state.uid)
        except CancelledError:
            raise
        except ContainerError as error:
            self._log.warn(
                "pod {namespace}/{pod} was not ended: {error}",
                namespace=state.namespace,
                pod=state.pod,
                error=str(error),
            )
        finally:
            self._ending.discard(state.uid)

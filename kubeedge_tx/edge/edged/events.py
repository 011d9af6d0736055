"""Events about pods, as ``kubectl describe`` shows them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from kubeedge_tx.api.timestamps import rfc3339
from kubeedge_tx.beehive import names
from kubeedge_tx.edge.edged import podspec
from kubeedge_tx.edge.edged.objects import Objects
from kubeedge_tx.edge.edged.podspec import Json

_REMEMBERED: Final = 1024
"""Events whose repeats are counted instead of sent anew."""
_SILENCE: Final = 60.0
"""Seconds between two reports of the same event."""


class EventRecorder:
    """Tell the log, and if wanted the cloud, what happens to pods.

    :param report: send them to the cloud (``reportEvent``).
    """

    _log = Logger()

    def __init__(
        self, objects: Objects, node: str, wall_clock: Callable[[], float], *, report: bool
    ) -> None:
        self._objects = objects
        self._node = node
        self._wall_clock = wall_clock
        self._report = report
        self._seen: OrderedDict[tuple[str, str, str], Json] = OrderedDict()
        self._sent: dict[tuple[str, str, str], float] = {}

    def normal(self, pod: Json, reason: str, message: str, container: str = "") -> None:
        """Note what went as it should."""
        self._log.info(
            "{pod} {container} {reason}: {message}",
            pod=podspec.key(pod),
            container=container,
            reason=reason,
            message=message,
        )
        self._record(pod, "Normal", reason, message, container)

    def warning(self, pod: Json, reason: str, message: str, container: str = "") -> None:
        """Note what someone should know."""
        self._log.warn(
            "{pod} {container} {reason}: {message}",
            pod=podspec.key(pod),
            container=container,
            reason=reason,
            message=message,
        )
        self._record(pod, "Warning", reason, message, container)

    def _record(self, pod: Json, kind: str, reason: str, message: str, container: str) -> None:
        if not self._report:
            return
        now = self._wall_clock()
        key = (podspec.uid(pod), reason, message)
        event = self._seen.pop(key, None)
        operation = names.INSERT
        if event is None:
            event = self._new(pod, kind, reason, message, container, now)
        else:
            operation = names.UPDATE
            event = {**event, "count": event["count"] + 1, "lastTimestamp": rfc3339(now)}
        self._seen[key] = event
        while len(self._seen) > _REMEMBERED:
            forgotten, _ = self._seen.popitem(last=False)
            self._sent.pop(forgotten, None)
        if operation == names.UPDATE and now - self._sent[key] < _SILENCE:
            return
        self._sent[key] = now
        sending = Deferred.fromCoroutine(self._objects.send_event(operation, event))
        sending.addErrback(lambda failure: self._log.failure("an event was not sent", failure))

    def _new(
        self, pod: Json, kind: str, reason: str, message: str, container: str, now: float
    ) -> Json:
        involved: Json = {
            "kind": "Pod",
            "namespace": podspec.namespace(pod),
            "name": podspec.name(pod),
            "uid": podspec.uid(pod),
            "apiVersion": "v1",
            "resourceVersion": podspec.metadata(pod).get("resourceVersion", ""),
        }
        if container:
            is_init = any(each["name"] == container for each in podspec.init_containers(pod))
            group = "initContainers" if is_init else "containers"
            involved["fieldPath"] = f"spec.{group}{{{container}}}"
        return {
            "metadata": {
                "name": f"{podspec.name(pod)}.{int(now * 1e9) + len(self._seen):x}",
                "namespace": podspec.namespace(pod),
                "creationTimestamp": None,
            },
            "involvedObject": involved,
            "reason": reason,
            "message": message[:1024],
            "source": {"component": "kubelet", "host": self._node},
            "firstTimestamp": rfc3339(now),
            "lastTimestamp": rfc3339(now),
            "count": 1,
            "type": kind,
            "eventTime": None,
            "reportingComponent": "kubelet",
            "reportingInstance": self._node,
        }

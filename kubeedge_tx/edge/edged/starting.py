"""Start what a pod needs: its sandbox, and one container at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from kubeedge_tx.edge.edged import podspec
from kubeedge_tx.edge.edged.backoff import Backoff
from kubeedge_tx.edge.edged.containers import (
    container_spec,
    pull_policy,
    pull_secrets,
    registry_auths,
    sandbox_spec,
)
from kubeedge_tx.edge.edged.downward import Place
from kubeedge_tx.edge.edged.env import environment, needed_objects
from kubeedge_tx.edge.edged.objects import ObjectUnavailable
from kubeedge_tx.edge.edged.podplan import StartFailure
from kubeedge_tx.edge.edged.podspec import Json
from kubeedge_tx.errors import ContainerError
from kubeedge_tx.runtime.interfaces import ImageAuth

if TYPE_CHECKING:
    from kubeedge_tx.edge.edged.podworker import Tools

_RETRY_SECONDS: Final = 10.0
"""Pause after a container could not be created. Source: kubelet ``backOffPeriod``."""
_RETRY_RUN_SECONDS: Final = 1.0
"""Pause after one was created and did not start: from then on its restart back-off holds."""


class StartError(Exception):
    """A container was not started."""

    def __init__(self, failure: StartFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Starter:
    """Ask the runtime to start things, and tell the events about it.

    :param pulls: back-off per image.
    """

    def __init__(self, tools: Tools, pulls: Backoff) -> None:
        self._tools = tools
        self._pulls = pulls

    async def run_sandbox(self, pod: Json) -> None:
        """Create what the containers of a pod share.

        :raises ContainerError: the runtime could not.
        """
        settings = self._tools.settings
        await self._tools.runtime.run_sandbox(sandbox_spec(pod, settings.name, settings.names))

    async def start(self, pod: Json, container: Json, attempt: int, place: Place) -> str:
        """Have the image, create the container and start it.

        :returns: its id.
        :raises StartError: with why, and when to try again.
        """
        await self._have_image(pod, container)
        try:
            started = await self._create(pod, container, attempt, place)
        except ContainerError as error:
            self._tools.events.warning(pod, "Failed", f"Error: {error}", container["name"])
            now = self._tools.wall_clock()
            ran = error.reason in ("RunContainerError", "StartError")
            raise StartError(
                StartFailure(
                    reason=error.reason,
                    message=str(error),
                    at=now,
                    retry_at=now + (_RETRY_RUN_SECONDS if ran else _RETRY_SECONDS),
                )
            ) from None
        self._tools.events.normal(
            pod, "Started", f"Started container {container['name']}", container["name"]
        )
        return started

    async def _have_image(self, pod: Json, container: Json) -> None:
        events, image, name = self._tools.events, container.get("image", ""), container["name"]
        policy = pull_policy(container)
        began = self._tools.clock.seconds()
        if policy == "Always":
            events.normal(pod, "Pulling", f'Pulling image "{image}"', name)
        try:
            await self._tools.runtime.ensure_image(image, policy, await self._auths(pod))
        except ContainerError as error:
            now = self._tools.wall_clock()
            delay = self._pulls.next(image, now, now)
            events.warning(pod, "Failed", f'Failed to pull image "{image}": {error}', name)
            events.warning(pod, "Failed", f"Error: {error.reason}", name)
            raise StartError(
                StartFailure(
                    reason=error.reason,
                    message=str(error),
                    at=now,
                    retry_at=now + delay,
                    image=image,
                )
            ) from None
        self._pulls.forget(image)
        if policy == "Always":
            took = self._tools.clock.seconds() - began
            text = f'Successfully pulled image "{image}" in {took:.3f}s'
        else:
            text = f'Container image "{image}" is present on machine'
        events.normal(pod, "Pulled", text, name)

    async def _auths(self, pod: Json) -> tuple[ImageAuth, ...]:
        found: list[ImageAuth] = []
        for name in pull_secrets(pod):
            try:
                secret = await self._tools.objects.read(podspec.namespace(pod), "secret", name)
            except ObjectUnavailable:
                secret = None
            if secret is None:
                self._tools.events.warning(
                    pod,
                    "FailedToRetrieveImagePullSecret",
                    f"Unable to retrieve some image pull secrets ({name}); attempting to pull "
                    "the image may not succeed.",
                )
            else:
                found += registry_auths(secret)
        return tuple(found)

    async def _create(self, pod: Json, container: Json, attempt: int, place: Place) -> str:
        objects: dict[tuple[str, str], Json | None] = {}
        for kind, name in sorted(needed_objects(container)):
            try:
                objects[kind, name] = await self._tools.objects.read(
                    podspec.namespace(pod), kind, name
                )
            except ObjectUnavailable as error:
                raise ContainerError(
                    "CreateContainerConfigError", f'{kind} "{name}": {error}'
                ) from None
        env = environment(pod, container, objects, place)
        message_file = self._tools.volumes.message_file(pod, container["name"], attempt)
        spec = container_spec(
            pod,
            container,
            attempt=attempt,
            env=env,
            mounts=self._tools.volumes.mounts(pod, container, env),
            message_file=message_file,
        )
        _make_empty(message_file)
        self._tools.events.normal(
            pod, "Created", f"Created container: {container['name']}", container["name"]
        )
        return str(await self._tools.runtime.start_container(podspec.uid(pod), spec))


def _make_empty(message_file: Path) -> None:
    """Make the file that a container writes its last words to; any user may."""
    try:
        message_file.parent.mkdir(parents=True, exist_ok=True)
        message_file.write_bytes(b"")
        message_file.chmod(0o666)
    except OSError as error:
        raise ContainerError("CreateContainerError", f"{message_file}: {error.strerror}") from None

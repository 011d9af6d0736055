"""What the ``docker`` runtime asks of the engine. All of it blocks: called in threads."""

from __future__ import annotations

import os
import signal
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from docker import auth
from docker.errors import APIError, ImageNotFound, NotFound

from kubeedge_tx.errors import ContainerError
from kubeedge_tx.runtime.docker_engine import CALL_SECONDS, Stream, json_lines, refusal, request
from kubeedge_tx.runtime.docker_pause import PAUSE_CHANGES, PAUSE_IMAGE, pause_archive
from kubeedge_tx.runtime.docker_specs import (
    KIND,
    OWNER,
    POD_UID,
    clean_error,
    credentials,
    image_id,
    is_about_command,
)
from kubeedge_tx.runtime.images import parse_image
from kubeedge_tx.runtime.interfaces import ExecResult, ImageAuth

_MAX_OUTPUT: Final = 1024 * 1024
"""Most bytes of a command's output that are kept."""


def list_owned(client: Any, owner: str, pod_uid: str = "") -> list[dict[str, Any]]:
    """List an owner's containers, or those of one pod, running or not, newest first."""
    labels = [f"{OWNER}={owner}", KIND]
    if pod_uid:
        labels.append(f"{POD_UID}={pod_uid}")
    found: list[dict[str, Any]] = client.containers(all=True, filters={"label": labels})
    return sorted(found, key=lambda each: -int(each["Created"]))


def inspect(client: Any, container_id: str) -> dict[str, Any] | None:
    """Inspect a container; ``None`` if there is none of that id."""
    try:
        found: dict[str, Any] = client.inspect_container(container_id)
    except NotFound:
        return None
    return found


def inspect_many(client: Any, ids: list[str]) -> dict[str, dict[str, Any]]:
    """Inspect containers; those that are gone meanwhile are left out."""
    found = {each: inspect(client, each) for each in ids}
    return {each: inspected for each, inspected in found.items() if inspected is not None}


def kill(client: Any, container_id: str, name: str = "SIGKILL") -> None:
    """Send a signal; nothing happens if it does not run."""
    try:
        client.kill(container_id, name)
    except NotFound:
        return
    except APIError as error:
        if error.status_code != 409:  # "is not running"
            raise


def remove(client: Any, container_id: str, *, force: bool) -> None:
    """Remove a container and its anonymous volumes; nothing happens if it is gone.

    :raises ContainerError: it runs, and ``force`` was not given.
    """
    try:
        client.remove_container(container_id, v=True, force=force)
    except NotFound:
        return
    except APIError as error:
        if "already in progress" in refusal(error):
            return
        raise ContainerError("RemoveContainerError", refusal(error)) from error


def create(client: Any, name: str, config: dict[str, Any], reason: str) -> str:
    """Create a container; returns its id.

    :raises ContainerError: with the reason given.
    """
    try:
        created: dict[str, Any] = client.create_container_from_config(config, name)
    except APIError as error:
        text = refusal(error)
        if is_about_command(text):
            reason = "RunContainerError"
        raise ContainerError(reason, clean_error(text)) from error
    return str(created["Id"])


def start(client: Any, container_id: str, reason: str) -> None:
    """Start a container.

    :raises ContainerError: with the reason given.
    """
    try:
        client.start(container_id)
    except APIError as error:
        raise ContainerError(reason, clean_error(refusal(error))) from error


def local_image(client: Any, image: str) -> str | None:
    """Return an image's id, if it is here."""
    try:
        return image_id(client.inspect_image(parse_image(image).reference)["Id"])
    except ImageNotFound:
        return None


def ensure_pause_image(client: Any) -> None:
    """Have the sandboxes' own image, made here.

    :raises ContainerError: there is no program for this processor.
    """
    if local_image(client, PAUSE_IMAGE) is not None:
        return
    machine = {"arm": "armv7l", "amd64": "x86_64", "arm64": "aarch64"}
    named = client.info()["Architecture"]
    try:
        archive = pause_archive(machine.get(named, named))
    except KeyError:
        raise ContainerError(
            "CreatePodSandboxError",
            f"no sandbox image can be made for a {named} processor: name one in podSandboxImage",
        ) from None
    repository, _, tag = PAUSE_IMAGE.rpartition(":")
    client.import_image_from_data(archive, repository, tag, changes=list(PAUSE_CHANGES))


def pull(client: Any, stream: Stream, image: str, auths: tuple[ImageAuth, ...]) -> str:
    """Pull an image with the first credentials that work; returns its id.

    :raises ContainerError: ``ErrImagePull``, with what the engine said last.
    """
    name = parse_image(image)
    headers: list[Any] = [auth.encode_header(each) for each in credentials(image, auths)]
    if not headers:
        headers = [auth.get_config_header(client, name.registry)]  # the host's own, if any
    text = ""
    for header in headers:
        try:
            _pull_once(client, stream, name.repository, name.digest or name.tag, header)
        except APIError as error:
            text = refusal(error)
        except ContainerError as error:
            text = str(error)
        else:
            found = local_image(client, image)
            if found is not None:
                return found
            text = f"{image} was pulled but is not there"
    raise ContainerError("ErrImagePull", text)


def _pull_once(client: Any, stream: Stream, repository: str, tag: str, header: Any) -> None:
    response = request(
        client,
        "POST",
        "/images/create",
        params={"fromImage": repository, "tag": tag},
        headers={"X-Registry-Auth": header} if header else {},
        timeout=(CALL_SECONDS, None),
    )
    stream.attach(response)
    for line in json_lines(response):
        if "error" in line:
            raise ContainerError("ErrImagePull", str(line["error"]))
    if stream.is_cut:
        raise ContainerError("ErrImagePull", "the agent was stopped meanwhile")


def run_command(
    client: Any, stream: Stream, container_id: str, command: tuple[str, ...], started: list[str]
) -> ExecResult:
    """Run a command in a container to its end.

    :param started: the command's id is put here, for :func:`kill_command`.
    :raises ContainerError: the container does not run.
    """
    try:
        exec_id = client.exec_create(container_id, list(command))["Id"]
        started.append(exec_id)
        response = request(
            client,
            "POST",
            f"/exec/{exec_id}/start",
            json={"Detach": False, "Tty": False},
            timeout=(CALL_SECONDS, None),
        )
        stream.attach(response)
        output = _read_frames(response.raw)
        code = client.exec_inspect(exec_id)["ExitCode"]
    except APIError as error:
        text = clean_error(refusal(error))
        if is_about_command(text):
            return ExecResult(exit_code=127, output=text.encode())
        raise ContainerError("ExecError", text) from error
    return ExecResult(exit_code=code if code is not None else 255, output=output)


def _read_frames(raw: Any) -> bytes:
    """Read both outputs, which come as frames of a stream number, 3 zeros and a length."""
    output = bytearray()
    while len(header := raw.read(8)) == 8:
        (length,) = struct.unpack(">4xI", header)
        while length:
            part = raw.read(min(length, 65536))
            if not part:
                return bytes(output)
            length -= len(part)
            output += part[: _MAX_OUTPUT - len(output)]
    return bytes(output)


def kill_command(client: Any, container_id: str, exec_id: str) -> None:
    """Kill a command that takes too long; it lives on if the engine is on another host."""
    with suppress(APIError):
        pid = int(client.exec_inspect(exec_id).get("Pid") or 0)
        with suppress(OSError):
            # A pid of another host, or of another PID namespace, is somebody else's here.
            if pid > 0 and container_id in Path(f"/proc/{pid}/cgroup").read_text():
                os.kill(pid, signal.SIGKILL)


def read_log(client: Any, container_id: str, tail: int | None) -> bytes:
    """Return a container's output.

    :raises ContainerError: ``NotFound``.
    """
    try:
        text: bytes = client.logs(
            container_id, stdout=True, stderr=True, tail="all" if tail is None else tail
        )
    except NotFound as error:
        raise ContainerError("NotFound", f"no container {container_id}") from error
    except APIError as error:
        raise ContainerError("LogError", refusal(error)) from error
    return text


def remove_unused_images(client: Any, keep: frozenset[str], want_free_bytes: int) -> int:
    """Remove images that no container has, oldest first, until enough is freed."""
    kept = {parse_image(name).reference for name in keep}
    used = {each["ImageID"] for each in client.containers(all=True)}
    candidates = []
    for image in client.images(all=False):
        names = [*(image.get("RepoTags") or []), *(image.get("RepoDigests") or [])]
        if image["Id"] in used or kept.intersection(_references(names)):
            continue
        candidates.append(image)
    freed = 0
    for image in sorted(candidates, key=lambda each: int(each["Created"])):
        if freed >= want_free_bytes:
            break
        tags = [tag for tag in image.get("RepoTags") or [] if tag != "<none>:<none>"]
        try:
            for name in tags or [image["Id"]]:
                client.remove_image(name)
        except APIError:
            continue  # in use after all, or by an image built on it
        freed += int(image["Size"])
    return freed


def _references(names: list[str]) -> set[str]:
    found = set()
    for name in names:
        with suppress(ContainerError):
            found.add(parse_image(name).reference)
    return found

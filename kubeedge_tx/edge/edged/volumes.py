"""The volumes of a pod, as folders below the agent's root."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from twisted.internet.defer import Deferred

from kubeedge_tx.api.timestamps import seconds_since_1970
from kubeedge_tx.edge.edged import atomicdir, podspec
from kubeedge_tx.edge.edged.downward import Place
from kubeedge_tx.edge.edged.env import expand
from kubeedge_tx.edge.edged.objects import Objects, ObjectUnavailable
from kubeedge_tx.edge.edged.payload import (
    MountError,
    Payload,
    TokenWanted,
    volume_payload,
    wanted_tokens,
)
from kubeedge_tx.edge.edged.podspec import Json
from kubeedge_tx.errors import ContainerError, KubeEdgeError
from kubeedge_tx.runtime.interfaces import Mount

T = TypeVar("T")

_FOLDERS: Final = {
    "configMap": "kubernetes.io~configmap",
    "secret": "kubernetes.io~secret",
    "downwardAPI": "kubernetes.io~downward-api",
    "projected": "kubernetes.io~projected",
    "emptyDir": "kubernetes.io~empty-dir",
}
"""Folder names below ``volumes``. Source: kubelet's volume plugins."""
_TOKEN_LIFE: Final = 0.8
"""Part of a token's life after which it is replaced. Source: kubelet token manager."""


class InThread(Protocol):
    """Run blocking work where it does not hold the reactor up."""

    def __call__(self, work: Callable[..., T], *args: Any) -> Deferred[T]:
        """Fire with what ``work(*args)`` returns."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Volumes are ready."""

    refresh_at: float | None
    """Wall clock: when a token in them must be replaced."""
    changed: bool


class PodVolumes:
    """Make, refresh and remove the volumes of pods.

    :param root: the agent's folder; a pod's own is ``<root>/pods/<uid>``.
    """

    def __init__(
        self,
        root: Path,
        objects: Objects,
        in_thread: InThread,
        wall_clock: Callable[[], float],
    ) -> None:
        self._pods = root / "pods"
        self._objects = objects
        self._in_thread = in_thread
        self._wall_clock = wall_clock
        self._serial = 0

    def folder(self, uid: str) -> Path:
        """Give a pod's own folder."""
        return self._pods / uid

    async def prepare(self, pod: Json, place: Place) -> Prepared:
        """Make every volume of a pod, or bring it up to date.

        :raises MountError: the text names the volume and what is missing.
        """
        volumes = podspec.spec(pod).get("volumes") or []
        objects = await self._read(pod, volumes)
        tokens, refresh_at = await self._tokens(pod, volumes)
        payloads: list[tuple[Path, Payload]] = []
        plain: list[tuple[Json, Path | None]] = []
        for volume in volumes:
            folder = self._volume_folder(pod, volume)
            with _naming(volume):
                payload = volume_payload(pod, volume, objects, tokens, place)
            if payload is None:
                plain.append((volume, folder))
            elif folder is not None:
                payloads.append((folder, payload))
        group = (podspec.spec(pod).get("securityContext") or {}).get("fsGroup")
        try:
            changed = await self._in_thread(
                self._write, self.folder(podspec.uid(pod)), payloads, plain, group
            )
        except OSError as error:
            raise MountError(f"{error.filename or 'volume'}: {error.strerror}") from None
        return Prepared(refresh_at, changed)

    async def remove(self, uid: str) -> None:
        """Remove a pod's folder and everything in it.

        :raises OSError: not all of it could be removed.
        """
        await self._in_thread(_remove_tree, self.folder(uid))

    async def folders(self) -> list[str]:
        """Give the uids of the pods that have a folder."""
        return await self._in_thread(_names, self._pods)

    def mounts(self, pod: Json, container: Json, env: dict[str, str]) -> tuple[Mount, ...]:
        """Give what a container sees of the volumes. Blocking, but short.

        :raises ContainerError: ``CreateContainerConfigError``; a subPath leads out of its
            volume, or there is no such volume.
        """
        volumes = {each.get("name"): each for each in podspec.spec(pod).get("volumes") or ()}
        result = []
        for mount in container.get("volumeMounts") or ():
            volume = volumes.get(mount.get("name"))
            source = self._volume_folder(pod, volume) if volume else None
            if source is None:
                raise ContainerError(
                    "CreateContainerConfigError",
                    f'cannot find volume "{mount.get("name")}" to mount into container '
                    f'"{container["name"]}"',
                )
            sub_path = mount.get("subPath") or expand(mount.get("subPathExpr") or "", env)
            if sub_path:
                source = _sub_path(source, sub_path)
            read_only = bool(mount.get("readOnly")) or (
                "emptyDir" not in (volume or {}) and ("hostPath" not in (volume or {}))
            )
            result.append(
                Mount(
                    host_path=source,
                    container_path=str(mount.get("mountPath", "")),
                    read_only=read_only,
                )
            )
        return tuple(result)

    def message_file(self, pod: Json, container: str, attempt: int) -> Path:
        """Give the host's file for a container's termination message."""
        return self.folder(podspec.uid(pod)) / "containers" / container / f"{attempt}.message"

    def _volume_folder(self, pod: Json, volume: Json) -> Path | None:
        name = str(volume.get("name", ""))
        if host_path := volume.get("hostPath"):
            return Path(str(host_path.get("path", "/")))
        if all(value is None for kind, value in volume.items() if kind != "name"):
            volume = {"emptyDir": {}}  # what the API server takes a volume without source for
        for kind, folder in _FOLDERS.items():
            if volume.get(kind) is not None:
                return self.folder(podspec.uid(pod)) / "volumes" / folder / name
        return None

    async def _read(self, pod: Json, volumes: list[Json]) -> dict[tuple[str, str], Json | None]:
        found: dict[tuple[str, str], Json | None] = {}
        for volume in volumes:
            with _naming(volume):
                one = {"spec": {"volumes": [volume]}}
                for kind, name in sorted(podspec.mounted_objects(one) - found.keys()):
                    try:
                        found[kind, name] = await self._objects.read(
                            podspec.namespace(pod), kind, name
                        )
                    except ObjectUnavailable as error:
                        raise MountError(f'{kind} "{name}": {error}') from None
        return found

    async def _tokens(
        self, pod: Json, volumes: list[Json]
    ) -> tuple[dict[TokenWanted, str], float | None]:
        tokens: dict[TokenWanted, str] = {}
        refresh_at: float | None = None
        now = self._wall_clock()
        for volume in volumes:
            for wanted in wanted_tokens(volume):
                if wanted in tokens:
                    continue
                with _naming(volume):
                    try:
                        token, expires = await self._objects.token(
                            pod, wanted.audience, wanted.seconds
                        )
                    except KubeEdgeError as error:
                        raise MountError(f"failed to fetch token: {error}") from None
                tokens[wanted] = token
                left = (seconds_since_1970(expires) or now + wanted.seconds) - now
                at = now + max(60.0, left - (1 - _TOKEN_LIFE) * wanted.seconds)
                refresh_at = at if refresh_at is None else min(at, refresh_at)
        return tokens, refresh_at

    def _write(
        self,
        folder: Path,
        payloads: list[tuple[Path, Payload]],
        plain: list[tuple[Json, Path | None]],
        group: int | None,
    ) -> bool:
        self._pods.mkdir(parents=True, exist_ok=True, mode=0o750)  # Secrets are below it
        folder.mkdir(exist_ok=True)
        for volume, path in plain:
            with _naming(volume):
                _make_plain(volume, path, group)
        changed = False
        for path, payload in payloads:
            changed = atomicdir.write(path, payload, self._stamp(), group) or changed
        return changed

    def _stamp(self) -> str:
        self._serial += 1
        day = datetime.fromtimestamp(self._wall_clock(), UTC)
        return f"{day.strftime('%Y_%m_%d_%H_%M_%S')}.{os.getpid()}-{self._serial}"


class _naming:
    """Put the volume's name in front of what is wrong with it."""

    def __init__(self, volume: Json) -> None:
        self._name = volume.get("name")

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, MountError):
            raise MountError(
                f'MountVolume.SetUp failed for volume "{self._name}" : {error}'
            ) from None


def _make_plain(volume: Json, path: Path | None, group: int | None) -> None:
    if path is None:
        kinds = ", ".join(sorted(set(volume) - {"name"}))
        raise MountError(f"volumes of type {kinds} are not supported by this edge")
    host_path = volume.get("hostPath")
    if host_path is None:
        if not path.exists():
            path.mkdir(parents=True)
            path.chmod(0o777)
            if group is not None and os.geteuid() == 0:
                os.chown(path, -1, group)
                path.chmod(0o2777)
        return
    _check_host_path(path, str(host_path.get("type") or ""))


_CHECKS: Final[dict[str, tuple[str, Callable[[int], bool]]]] = {
    "Directory": ("a directory", stat.S_ISDIR),
    "DirectoryOrCreate": ("a directory", stat.S_ISDIR),
    "File": ("a file", stat.S_ISREG),
    "FileOrCreate": ("a file", stat.S_ISREG),
    "Socket": ("a socket file", stat.S_ISSOCK),
    "CharDevice": ("a character device", stat.S_ISCHR),
    "BlockDevice": ("a block device", stat.S_ISBLK),
}


def _check_host_path(path: Path, kind: str) -> None:
    if not kind:
        return
    if kind not in _CHECKS:
        raise MountError(f"hostPath type {kind} is unknown")
    if not path.exists():
        if kind == "DirectoryOrCreate":
            path.mkdir(parents=True, mode=0o755)
        elif kind == "FileOrCreate":
            path.touch(mode=0o644)
    what, holds = _CHECKS[kind]
    if not path.exists() or not holds(path.stat().st_mode):
        raise MountError(f"hostPath type check failed: {path} is not {what}")


def _sub_path(volume: Path, sub_path: str) -> Path:
    """Resolve a subPath; a missing one becomes a folder, as kubelet has it."""
    root = volume.resolve()
    found = (root / sub_path).resolve()
    if (
        ".." in Path(sub_path).parts
        or Path(sub_path).is_absolute()
        or (found != root and root not in found.parents)
    ):
        raise ContainerError(
            "CreateContainerConfigError", f"subPath {sub_path!r} leads out of its volume"
        )
    if not found.exists():
        try:
            found.mkdir(parents=True, mode=0o750)
        except OSError as error:
            raise ContainerError(
                "CreateContainerConfigError",
                f"failed to create subPath directory {sub_path!r}: {error.strerror}",
            ) from None
    return found


def _remove_tree(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _names(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()] if folder.is_dir() else []

"""Names of container images, as Docker reads them. Pure.

Source: the grammar in github.com/distribution/reference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from kubeedge_tx.errors import ContainerError

DEFAULT_REGISTRY: Final = "docker.io"
"""Where a name without a host is looked for."""

MAX_NAME: Final = 255
"""Longest repository name, in characters."""

_DOMAIN = r"(?:(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"  # noqa: E501
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME: Final = re.compile(
    rf"(?:(?P<domain>{_DOMAIN})/)?(?P<path>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageName:
    """The parts of an image's name."""

    registry: str
    path: str
    tag: str = ""
    """``latest`` when neither tag nor digest was given."""
    digest: str = ""

    @property
    def repository(self) -> str:
        """What a pull names, without tag and digest; Docker's own registry is left out."""
        if self.registry == DEFAULT_REGISTRY:
            return self.path.removeprefix("library/")
        return f"{self.registry}/{self.path}"

    @property
    def reference(self) -> str:
        """The shortest full name: ``nginx:latest``, ``ghcr.io/a/b@sha256:…``."""
        if self.digest:
            return f"{self.repository}@{self.digest}"
        return f"{self.repository}:{self.tag}"


def parse_image(name: str) -> ImageName:
    """Take an image's name apart.

    :raises ContainerError: ``InvalidImageName``; the pod's author has to correct it.
    """
    match = _NAME.fullmatch(name)
    if match is None or len(name) > 2 * MAX_NAME:
        hint = ": repository names are lower case" if name != name.lower() else ""
        raise ContainerError(
            "InvalidImageName", f'couldn\'t parse image name "{name}": invalid reference{hint}'
        )
    domain, path = match["domain"] or "", match["path"]
    if domain and not (set(".:[") & set(domain) or domain == "localhost"):
        if domain != domain.lower():
            raise ContainerError(
                "InvalidImageName",
                f'couldn\'t parse image name "{name}": repository names are lower case',
            )
        domain, path = "", f"{domain}/{path}"
    if not domain or domain == "index.docker.io":
        domain = DEFAULT_REGISTRY
    if domain == DEFAULT_REGISTRY and "/" not in path:
        path = f"library/{path}"
    if len(path) > MAX_NAME:
        raise ContainerError(
            "InvalidImageName", f"couldn't parse image name: longer than {MAX_NAME} characters"
        )
    digest = match["digest"] or ""
    return ImageName(
        registry=domain,
        path=path,
        tag=match["tag"] or ("" if digest else "latest"),
        digest=digest,
    )

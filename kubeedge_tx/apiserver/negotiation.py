"""Which form of an answer a request accepts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from kubeedge_tx.apiserver.status import not_acceptable

JSON: Final = "application/json"
YAML: Final = "application/yaml"
PROTOBUF: Final = "application/vnd.kubernetes.protobuf"
ACCEPTED: Final = (JSON, YAML)

TABLE: Final = "Table"
PARTIAL: Final = "PartialObjectMetadata"
_PARTIAL_LIST: Final = "PartialObjectMetadataList"


@dataclass(frozen=True, slots=True)
class Format:
    """How objects are to be shown."""

    shape: str = ""
    """Empty for the object itself, or ``Table``, or ``PartialObjectMetadata``."""
    version: str = "v1"
    """Version of ``meta.k8s.io`` for the shape."""
    yaml: bool = False

    @property
    def content_type(self) -> str:
        """For the answer's header."""
        return YAML if self.yaml else JSON


@lru_cache(maxsize=256)
def choose(accept: str) -> Format:
    """Take the first form of an Accept header that we have.

    :param accept: the header, empty if there was none.
    :raises ApiError: 406.
    """
    for media, parameters in media_types(accept or JSON):
        shape = parameters.get("as", "")
        version = parameters.get("v", "v1")
        if media not in (JSON, YAML, "*/*", "application/*"):
            continue
        if not shape:
            return Format(yaml=media == YAML)
        if parameters.get("g") != "meta.k8s.io" or version not in ("v1", "v1beta1"):
            continue
        if shape in (TABLE, PARTIAL, _PARTIAL_LIST) and media == JSON:
            return Format(TABLE if shape == TABLE else PARTIAL, version)
    raise not_acceptable(ACCEPTED)


def media_types(accept: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Split an Accept header into media types and their parameters."""
    for part in accept.split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        found = dict(p.split("=", 1) for p in parameters if "=" in p)
        yield media.lower(), found

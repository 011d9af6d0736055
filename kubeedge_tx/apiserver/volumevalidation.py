"""What a pod's volume may and may not be, in the API server's words.

Source: Kubernetes ``pkg/apis/core/validation`` 1.36, for the fields that KubeEdge's edges use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kubeedge_tx.apiserver import names
from kubeedge_tx.apiserver.containervalidation import validate_field_ref
from kubeedge_tx.apiserver.fielderrors import (
    FieldError,
    distinct,
    forbidden,
    invalid,
    invalid_each,
    not_supported,
    required,
)

Errors = Iterator[FieldError]


def validate_volumes(volumes: list[Any], path: str) -> Errors:
    """Check the volumes of a pod."""
    seen: set[str] = set()
    for index, volume in enumerate(volumes):
        where = f"{path}[{index}]"
        name = volume.get("name", "")
        kinds = [kind for kind, value in volume.items() if kind != "name" and value is not None]
        for kind in kinds[1:]:
            yield forbidden(f"{where}.{kind}", "may not specify more than 1 volume type")
        if not kinds:
            yield required(where, "must specify a volume type")
        else:
            yield from _volume_source(kinds[0], volume[kinds[0]], f"{where}.{kinds[0]}")
        yield from distinct(name, f"{where}.name", names.dns_label, seen)


def _volume_source(kind: str, source: Mapping[str, Any], path: str) -> Errors:
    needed = {
        "configMap": "name",
        "secret": "secretName",
        "hostPath": "path",
        "persistentVolumeClaim": "claimName",
        "nfs": "server",
    }
    if kind in needed and not source.get(needed[kind]):
        yield required(f"{path}.{needed[kind]}")
    if kind == "hostPath":
        if ".." in source.get("path", "").split("/"):
            yield invalid(f"{path}.path", source["path"], "must not contain '..'")
        kinds = (
            "BlockDevice",
            "CharDevice",
            "Directory",
            "DirectoryOrCreate",
            "File",
            "FileOrCreate",
            "Socket",
        )
        if source.get("type") and source["type"] not in kinds:
            yield not_supported(f"{path}.type", source["type"], kinds)
    if kind in ("configMap", "secret", "downwardAPI", "projected"):
        yield from _mode(source.get("defaultMode"), f"{path}.defaultMode")
    yield from _items(source, path, key=kind != "downwardAPI")
    for index, projection in enumerate(source.get("sources") or []):
        for inner, content in projection.items():
            where = f"{path}.sources[{index}].{inner}"
            if inner in ("configMap", "secret") and not content.get("name"):
                yield required(f"{where}.name")
            if inner == "serviceAccountToken":
                if not content.get("path"):
                    yield required(f"{where}.path")
                if content.get("expirationSeconds", 3600) < 600:
                    text = "may not specify a duration less than 10 minutes"
                    yield invalid(f"{where}.expirationSeconds", content["expirationSeconds"], text)
            yield from _items(content, where, key=inner != "downwardAPI")


def _items(source: Mapping[str, Any], path: str, *, key: bool) -> Errors:
    for index, item in enumerate(source.get("items") or []):
        where = f"{path}.items[{index}]"
        if key and not item.get("key"):
            yield required(f"{where}.key")
        if not item.get("path"):
            yield required(f"{where}.path")
        else:
            yield from invalid_each(
                names.relative_path(item["path"]), f"{where}.path", item["path"]
            )
        if not key and item.get("fieldRef") is not None:
            yield from validate_field_ref(item["fieldRef"], f"{where}.fieldRef")
        yield from _mode(item.get("mode"), f"{where}.mode")


def _mode(value: int | None, path: str) -> Errors:
    if value is not None and not 0 <= value <= 0o777:
        text = "must be a number between 0 and 0777 (octal), both inclusive"
        yield invalid(path, value, text)

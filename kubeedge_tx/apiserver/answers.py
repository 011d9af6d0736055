"""Objects and lists as the bytes of an answer, in the form that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import yaml

from kubeedge_tx.apiserver import tables
from kubeedge_tx.apiserver.meta import Object
from kubeedge_tx.apiserver.negotiation import JSON, PARTIAL, TABLE, Format
from kubeedge_tx.apiserver.registry import KindInfo
from kubeedge_tx.apiserver.shelf import Item
from kubeedge_tx.apiserver.verbs import served

encode: Final = msgspec.json.Encoder().encode

_PLAIN: Final = Format()


@dataclass(slots=True)
class Answer:
    """A whole response."""

    code: int
    body: bytes
    content_type: str = JSON
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


def answer(code: int, value: Any, form: Format = _PLAIN) -> Answer:
    """Answer with a value that is not an object of the store."""
    return Answer(code, _text(value, form), form.content_type)


class Renderer:
    """Shows objects.

    :param wall_clock: seconds since 1970, for the ages in tables.
    """

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        self._wall_clock = wall_clock

    def one(self, info: KindInfo, item: Item, form: Format, include: str = "Metadata") -> bytes:
        """One object.

        :param include: what a table's rows carry: ``Metadata``, ``Object`` or ``None``.
        """
        if form == _PLAIN and item.body and item.obj["apiVersion"] == info.api_version:
            return item.body
        return self.value(info, served(info, item.obj), form, include)

    def value(self, info: KindInfo, obj: Object, form: Format, include: str = "Metadata") -> bytes:
        """An object that is not in the store."""
        if form.shape == TABLE:
            metadata = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
            return _text(self.table(info, [obj], metadata, form, include), form)
        if form.shape == PARTIAL:
            return _text(_partial(obj, form), form)
        return _text(obj, form)

    def many(
        self,
        info: KindInfo,
        items: Sequence[Item],
        metadata: Object,
        form: Format,
        include: str = "Metadata",
    ) -> bytes:
        """A list of objects."""
        if form == _PLAIN:
            return self._plain_list(info, items, metadata)
        objects = [served(info, item.obj) for item in items]
        if form.shape == TABLE:
            return _text(self.table(info, objects, metadata, form, include), form)
        if form.shape == PARTIAL:
            whole: Object = {
                "kind": "PartialObjectMetadataList",
                "apiVersion": f"meta.k8s.io/{form.version}",
                "metadata": metadata,
                "items": [_partial(obj, form) for obj in objects],
            }
        else:
            whole = {
                "kind": info.list_kind,
                "apiVersion": info.api_version,
                "metadata": metadata,
                "items": objects if info.crd is not None else [_bare(obj) for obj in objects],
            }
        return _text(whole, form)

    def table(
        self,
        info: KindInfo,
        objects: Sequence[Object],
        metadata: Object,
        form: Format,
        include: str,
    ) -> Object:
        """Objects as rows."""
        made: Object = tables.to_table(
            info, list(objects), metadata, self._wall_clock(), include_object=include or "Metadata"
        )
        if form.version != "v1":
            made = {**made, "apiVersion": f"meta.k8s.io/{form.version}"}
        return made

    def _plain_list(self, info: KindInfo, items: Sequence[Item], metadata: Object) -> bytes:
        head = encode(
            {"kind": info.list_kind, "apiVersion": info.api_version, "metadata": metadata}
        )
        custom = info.crd is not None
        # Items of built-in kinds stand in a list without kind and apiVersion.
        prefix = encode({"kind": info.kind, "apiVersion": info.api_version})[:-1] + b","
        cut = len(prefix)
        bodies = []
        for item in items:
            body = item.body
            if not body.startswith(prefix):
                body = encode(served(info, item.obj))
            bodies.append(body if custom else b"{" + body[cut:])
        return b"".join((head[:-1], b',"items":[', b",".join(bodies), b"]}"))


def _bare(obj: Object) -> Object:
    return {k: v for k, v in obj.items() if k not in ("kind", "apiVersion")}


def _partial(obj: Object, form: Format) -> Object:
    return {
        "kind": PARTIAL,
        "apiVersion": f"meta.k8s.io/{form.version}",
        "metadata": obj["metadata"],
    }


def _text(value: Any, form: Format) -> bytes:
    if form.yaml:
        return yaml.safe_dump(value, sort_keys=False, allow_unicode=True).encode()
    return encode(value)

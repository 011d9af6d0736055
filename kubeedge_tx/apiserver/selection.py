"""Which objects a list or watch is about: namespace, labels, fields."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kubeedge_tx.apiserver import fieldselect, status
from kubeedge_tx.apiserver.registry import KindInfo
from kubeedge_tx.apiserver.shelf import Item, Shelf
from kubeedge_tx.kube.selectors import Selector, parse_field_selector, parse_label_selector


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter over the objects of one kind."""

    info: KindInfo
    namespace: str
    labels: Selector | None
    fields: Sequence[tuple[str, str, str]]

    @classmethod
    def parse(cls, info: KindInfo, namespace: str, labels: str, fields: str) -> Selection:
        """Read the query parameters ``labelSelector`` and ``fieldSelector``.

        :raises ApiError: 400 in Kubernetes' words.
        """
        try:
            selector = parse_label_selector(labels) if labels else None
            terms = parse_field_selector(fields) if fields else []
        except ValueError as error:
            raise status.bad_request(str(error)) from None
        supported = fieldselect.supported(info)
        for field, _, _ in terms:
            if field not in supported:
                raise status.bad_request(fieldselect.unknown_text(info, field))
        return cls(info, namespace, selector, terms)

    @property
    def is_everything(self) -> bool:
        """Whether nothing but the namespace is asked about."""
        return self.labels is None and not self.fields

    def matches(self, item: Item) -> bool:
        """Tell whether an object is meant."""
        if self.namespace and item.namespace != self.namespace:
            return False
        if self.labels is not None and not self.labels.matches(
            item.obj["metadata"].get("labels") or {}
        ):
            return False
        if self.fields:
            values = fieldselect.fields(self.info, item.obj)
            for field, op, wanted in self.fields:
                if (values.get(field, "") == wanted) is (op == "!="):
                    return False
        return True

    def pick(self, shelf: Shelf, version: int | None = None) -> list[Item]:
        """The objects meant, sorted by namespace and name.

        :param version: as of which resourceVersion; ``None`` for now.
        :raises Compacted: that version is too old.
        """
        name = self._only_name()
        if name and self.namespace and version is None:
            item = shelf.get(self.namespace, name)
            found: Iterable[Item] = [item] if item else []
        else:
            found = shelf.snapshot(self.namespace, version)
        if self.is_everything:
            return list(found)
        return [item for item in found if self.matches(item)]

    def _only_name(self) -> str:
        for field, op, wanted in self.fields:
            if field == "metadata.name" and op != "!=":
                return wanted
        return ""

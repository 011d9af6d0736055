"""Which device is on which node, and who there uses which model. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubeedge_tx.api import meta
from kubeedge_tx.api.devices import Key, model_key, node_name


class Placements:
    """An index over devices."""

    def __init__(self) -> None:
        self._places: dict[Key, tuple[str, Key | None]] = {}
        self._of_node: dict[str, dict[Key, None]] = {}
        self._users: dict[tuple[str, Key], set[Key]] = {}
        self._nodes_of: dict[Key, dict[str, None]] = {}

    def put(self, device: Mapping[str, Any]) -> None:
        """Learn, or learn anew, where a device is."""
        key = meta.key(device)
        place = node_name(device), model_key(device)
        if self._places.get(key) == place:
            return
        self.drop(key)
        node, model = place
        self._places[key] = place
        self._of_node.setdefault(node, {})[key] = None
        if model is not None:
            self._users.setdefault((node, model), set()).add(key)
            self._nodes_of.setdefault(model, {})[node] = None

    def drop(self, key: Key) -> None:
        """Forget a device."""
        place = self._places.pop(key, None)
        if place is None:
            return
        node, model = place
        _discard(self._of_node, node, key)
        if model is None:
            return
        users = self._users[node, model]
        users.discard(key)
        if not users:
            del self._users[node, model]
            _discard(self._nodes_of, model, node)

    def of_node(self, node: str) -> list[Key]:
        """List the devices of a node, oldest first."""
        return list(self._of_node.get(node, ()))

    def uses(self, node: str, model: Key) -> bool:
        """Tell whether a device of the node is of this model."""
        return (node, model) in self._users

    def nodes_using(self, model: Key) -> list[str]:
        """List the nodes with a device of this model."""
        return list(self._nodes_of.get(model, ()))

    def users(self, node: str, model: Key) -> list[Key]:
        """List the devices of a node that are of this model."""
        return sorted(self._users.get((node, model), ()))


def _discard(index: dict[Any, dict[Any, None]], name: Any, value: Any) -> None:
    values = index[name]
    values.pop(value, None)
    if not values:
        del index[name]

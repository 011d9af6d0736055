"""The last message of each topic, for those who come later."""

from __future__ import annotations

from collections.abc import Iterator

from kubeedge_tx.mqtt.message import Message


class _Node:
    __slots__ = ("children", "message")

    def __init__(self) -> None:
        self.children: dict[str, _Node] | None = None
        self.message: Message | None = None


class RetainedMessages:
    """Messages by topic, found by filter.

    :param max_messages: topics with a message, at most.
    :param max_bytes: of topics and payloads, at most.
    """

    __slots__ = ("_by_topic", "_max_bytes", "_max_messages", "_root", "size_bytes")

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._root = _Node()
        self._by_topic: dict[str, Message] = {}
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._by_topic)

    def __iter__(self) -> Iterator[Message]:
        return iter(self._by_topic.values())

    def get(self, topic: str) -> Message | None:
        """The message of one topic."""
        return self._by_topic.get(topic)

    def has_room(self, message: Message) -> bool:
        """Whether :meth:`put` would stay within the limits."""
        old = self._by_topic.get(message.topic)
        messages = len(self._by_topic) + (old is None)
        size = self.size_bytes + message.size - (old.size if old is not None else 0)
        return messages <= self._max_messages and size <= self._max_bytes

    def put(self, message: Message) -> None:
        """Keep a message in the place of the topic's former one [MQTT-3.3.1-5]."""
        old = self._by_topic.get(message.topic)
        if old is not None:
            self.size_bytes -= old.size
        node = self._root
        for level in message.topic.split("/"):
            if node.children is None:
                node.children = {}
            found = node.children.get(level)
            if found is None:
                found = node.children[level] = _Node()
            node = found
        node.message = message
        self._by_topic[message.topic] = message
        self.size_bytes += message.size

    def drop(self, topic: str) -> bool:
        """Forget a topic's message [MQTT-3.3.1-6]; tells whether there was one."""
        old = self._by_topic.pop(topic, None)
        if old is None:
            return False
        self.size_bytes -= old.size
        path: list[tuple[_Node, str]] = []
        node = self._root
        for level in topic.split("/"):
            assert node.children is not None
            path.append((node, level))
            node = node.children[level]
        node.message = None
        for parent, level in reversed(path):
            assert parent.children is not None
            child = parent.children[level]
            if child.children or child.message is not None:
                break
            del parent.children[level]
        return True

    def expired(self, now: float) -> list[str]:
        """Topics whose messages may not be given out any more."""
        return [
            topic
            for topic, message in self._by_topic.items()
            if message.expires is not None and message.expires <= now
        ]

    def matching(self, topic_filter: str, now: float) -> list[Message]:
        """Messages a new subscription gets; those that have expired are left out."""
        if "+" in topic_filter or "#" in topic_filter:
            found = list(self._search(topic_filter.split("/")))
        else:
            one = self._by_topic.get(topic_filter)
            found = [one] if one is not None else []
        return [each for each in found if each.expires is None or each.expires > now]

    def _search(self, levels: list[str]) -> Iterator[Message]:
        front = [self._root]
        for at, level in enumerate(levels):
            if level == "#":
                for node in front:
                    if at and node.message is not None:
                        yield node.message
                    yield from _below(node, is_top=not at)
                return
            after: list[_Node] = []
            for node in front:
                if node.children is None:
                    continue
                if level == "+":
                    after.extend(
                        child
                        for name, child in node.children.items()
                        if at or not name.startswith("$")
                    )
                elif (child := node.children.get(level)) is not None:
                    after.append(child)
            front = after
        for node in front:
            if node.message is not None:
                yield node.message


def _below(node: _Node, *, is_top: bool) -> Iterator[Message]:
    """All messages below a node; not those of ``$`` topics from the top."""
    stack = [
        child
        for name, child in (node.children or {}).items()
        if not (is_top and name.startswith("$"))
    ]
    while stack:
        each = stack.pop()
        if each.message is not None:
            yield each.message
        if each.children:
            stack.extend(each.children.values())

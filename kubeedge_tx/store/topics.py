"""Topics that rules have EventBus subscribe to: table ``sub_topics``.

Source: KubeEdge ``edge/pkg/eventbus/dao``.
"""

from __future__ import annotations

import sqlite3

from twisted.internet.defer import Deferred

from kubeedge_tx.store.database import Change, Database


class TopicStore:
    """All rows, in memory and on disk; the memory shows what is on disk."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._topics: dict[str, None] = {}

    async def load(self) -> None:
        """Read the table; call once, after the database is open."""
        self._topics = dict.fromkeys(await self._database.read(_load))

    def all(self) -> tuple[str, ...]:
        """The topics, in the order they came."""
        return tuple(self._topics)

    def add(self, topic: str) -> Deferred[None]:
        """Keep a topic; fires when it is on disk."""

        def work(cursor: sqlite3.Cursor) -> None:
            cursor.execute("INSERT OR REPLACE INTO sub_topics (topic) VALUES (?)", (topic,))

        return self._database.commit(Change(work, lambda _: self._topics.update({topic: None})))

    def remove(self, topic: str) -> Deferred[None]:
        """Forget a topic; fires when that is on disk. An unknown one is ignored."""

        def work(cursor: sqlite3.Cursor) -> None:
            cursor.execute("DELETE FROM sub_topics WHERE topic = ?", (topic,))

        return self._database.commit(Change(work, lambda _: self._topics.pop(topic, None)))


def _load(cursor: sqlite3.Cursor) -> list[str]:
    return [row[0] for row in cursor.execute("SELECT topic FROM sub_topics ORDER BY rowid")]

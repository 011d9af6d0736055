from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.kube.reflector import (
    LONGEST_DELAY,
    SILENT_DELAY,
    Change,
    ListPage,
    Reflector,
    Wait,
    Watch,
)


def line(kind: str, version: str, **rest: Any) -> bytes:
    """One event as the API server writes it."""
    return json.dumps(
        {"type": kind, "object": {"metadata": {"resourceVersion": version}, **rest}}
    ).encode()


def page(*names: str, version: str = "7", more: str = "") -> dict[str, Any]:
    """One page of a list."""
    about = {"resourceVersion": version} | ({"continue": more} if more else {})
    return {"metadata": about, "items": [{"metadata": {"name": name}} for name in names]}


class ReflectorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reflector = Reflector(random=lambda: 0.0)

    def watching(self, version: str = "7") -> None:
        self.reflector.next()
        self.reflector.listed(page("a", version=version))
        self.assertIsInstance(self.reflector.next(), Watch)

    def test_pages_are_put_together(self) -> None:
        """Nothing is cached before the last page is in, and then all of it."""
        self.assertEqual(self.reflector.next(), ListPage(500, ""))
        self.assertIsNone(self.reflector.listed(page("a", "b", more="next")))
        self.assertEqual(self.reflector.next(), ListPage(500, "next"))
        everything = self.reflector.listed(page("c", version="9"))
        assert everything is not None
        self.assertEqual([obj["metadata"]["name"] for obj in everything], ["a", "b", "c"])
        self.assertEqual(self.reflector.next(), Watch("9", 300))

    def test_events_and_bookmarks_move_the_version(self) -> None:
        """The next watch begins where this one ended."""
        self.watching()
        change = self.reflector.changed(line("MODIFIED", "8"))
        self.assertEqual(change, Change("MODIFIED", {"metadata": {"resourceVersion": "8"}}))
        self.assertIsNone(self.reflector.changed(line("BOOKMARK", "12")))
        self.assertFalse(self.reflector.disrupted)
        self.reflector.ended(lasted=400)
        self.assertEqual(self.reflector.next(), Watch("12", 300))

    def test_a_version_too_old_means_a_new_list_at_once(self) -> None:
        """410 Gone, in the answer or in an ERROR event, is nobody's fault the first time."""
        self.watching()
        error = json.dumps({"type": "ERROR", "object": {"kind": "Status", "code": 410}}).encode()
        self.assertIsNone(self.reflector.changed(error))
        self.assertTrue(self.reflector.disrupted)
        self.assertEqual(self.reflector.next(), ListPage(500, ""))

    def test_gone_again_and_again_is_not_asked_in_a_tight_loop(self) -> None:
        """A server that always says 410 is asked less and less often."""
        self.watching()
        self.reflector.failed(410)
        self.reflector.next()
        self.reflector.failed(410)
        self.assertIsInstance(self.reflector.next(), Wait)

    def test_a_lost_connection_is_resumed(self) -> None:
        """After a pause the watch goes on from the last version; nothing is listed again."""
        self.watching()
        self.reflector.changed(line("ADDED", "8"))
        self.reflector.failed(0)
        self.assertEqual(self.reflector.next(), Wait(0.5))
        self.assertEqual(self.reflector.next(), Watch("8", 300))

    def waits(self, code: int, times: int) -> list[float]:
        """How long it waits after each of several failures."""
        found = []
        for _ in range(times):
            self.reflector.next()
            self.reflector.failed(code)
            step = self.reflector.next()
            assert isinstance(step, Wait)
            found.append(step.seconds)
        return found

    def test_delays_double_and_stay(self) -> None:
        """A server in trouble is asked after 1, 2, 4… seconds, less the jitter, at most 30."""
        self.assertEqual(self.waits(500, 8), [0.5, 1, 2, 4, 8, LONGEST_DELAY / 2, 15, 15])

    def test_a_server_that_is_away_is_asked_more_often(self) -> None:
        """Every five seconds at most, so that little time is lost when it is back."""
        self.assertEqual(self.waits(0, 6), [0.5, 1, 2, SILENT_DELAY / 2, 2.5, 2.5])

    def test_a_server_that_starts(self) -> None:
        """It refuses everybody for a moment: no long pause then, and no new list."""
        self.watching()
        self.waits(0, 6)
        self.assertEqual(self.waits(403, 2), [0.5, 1])
        self.assertEqual(self.reflector.next(), Watch("7", 300))

    def test_the_server_may_ask_for_more_time(self) -> None:
        """Retry-After is obeyed when it is longer than our own delay."""
        self.reflector.failed(429, retry_after=60)
        self.assertEqual(self.reflector.next(), Wait(60))

    def test_half_a_list_is_thrown_away(self) -> None:
        """Pages of a list that broke are not joined with those of another."""
        self.reflector.listed(page("old", more="token"))
        self.reflector.failed(0)
        self.reflector.next()
        self.assertEqual(self.reflector.next(), ListPage(500, ""))
        self.assertEqual(self.reflector.listed(page("new")), [{"metadata": {"name": "new"}}])

    def test_an_unreadable_line_means_a_new_list(self) -> None:
        """What was lost in it must be found again."""
        self.watching()
        self.assertIsNone(self.reflector.changed(b"<html>"))
        self.assertIsInstance(self.reflector.next(), Wait)
        self.assertIsInstance(self.reflector.next(), ListPage)

    def test_empty_watches_that_end_at_once_are_failures(self) -> None:
        """A proxy that closes every stream is not dialled in a tight loop."""
        self.watching()
        self.reflector.ended(lasted=0.1)
        self.assertIsInstance(self.reflector.next(), Wait)

    def test_short_watches_with_news_are_not(self) -> None:
        """A watch that brought something did its work."""
        self.watching()
        self.reflector.changed(line("ADDED", "8"))
        self.reflector.ended(lasted=0.1)
        self.assertIsInstance(self.reflector.next(), Watch)

    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("page"), st.booleans()),
                st.tuples(st.just("line"), st.binary(max_size=30)),
                st.tuples(st.just("event"), st.sampled_from(["ADDED", "BOOKMARK", "ERROR", "?"])),
                st.tuples(st.just("failed"), st.sampled_from([0, 401, 403, 404, 410, 429, 500])),
                st.tuples(st.just("ended"), st.floats(0, 100)),
            ),
            max_size=30,
        )
    )
    def test_whatever_comes_back_there_is_a_next_step(self, inputs: list[tuple[str, Any]]) -> None:
        """No answer, in any order, makes it raise, wait too long, or forget how to go on."""
        reflector = Reflector(random=lambda: 0.5)
        for what, value in inputs:
            if what == "page":
                reflector.listed(page("a", more="more" if value else ""))
            elif what == "line":
                reflector.changed(value)
            elif what == "event":
                reflector.changed(line(value, "3"))
            elif what == "failed":
                reflector.failed(value)
            else:
                reflector.ended(value)
            step = reflector.next()
            if isinstance(step, Wait):
                self.assertLessEqual(step.seconds, LONGEST_DELAY)
                self.assertNotIsInstance(reflector.next(), Wait)

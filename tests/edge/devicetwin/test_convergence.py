"""Two ends that edit the same desired value, and a link that comes and goes."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.api.twins import Desired, Version
from kubeedge_tx.edge.devicetwin.twin import Change, Twin, body, desire, sync, update

NAME = "threshold"


@dataclass
class Cloud:
    """Has a Device and shows what the edge reports; it decides nothing."""

    desired: str | None = None
    version: int = 1
    observed: tuple[str | None, Version] = (None, Version())


@dataclass
class Edge:
    """What is on its disk."""

    twins: dict[str, Twin] = field(default_factory=dict)
    taken_in: dict[str, str | None] = field(default_factory=dict)
    taken_version: int = 0
    outbox: tuple[int, object] | None = None
    reports: int = 0


verbs = st.lists(
    st.tuples(
        st.sampled_from(
            ["cloud edits", "other edit", "edge edits", "down", "up", "break", "kill", "again"]
        ),
        st.sampled_from(["1", "2", "3"]),
    ),
    max_size=40,
)


class ObjectsTests(SynchronousTestCase):
    """A cloud that sends Device objects: the cloud's newer edit wins, the edge decides."""

    @given(verbs)
    @settings(max_examples=400, deadline=None)
    def test_both_show_the_winner(self, script: list[tuple[str, str]]) -> None:
        """Whatever the schedule, in the end both show what the rule says."""
        cloud, edge = Cloud(), Edge()
        down: list[tuple[int, str | None]] = []
        up: list[tuple[int, tuple[str | None, Version]]] = []
        # The rule, told once more: the cloud's newest edit, unless an app that had seen it
        # edited later.
        winner: str | None = None

        def take(version: int, desired: str | None) -> None:
            nonlocal winner
            if version < edge.taken_version:
                return
            if desired != edge.taken_in.get(NAME):
                winner = desired
            outcome, after = desire(
                edge.twins, edge.taken_in, {NAME: Desired(desired)}, version, version
            )
            edge.taken_in, edge.taken_version = after, version
            note(outcome.changed, bool(outcome.report))

        def note(changed: dict[str, Twin], report: bool) -> None:
            edge.twins.update(changed)
            if report:
                edge.reports += 1
                twin = edge.twins[NAME]
                told = (
                    twin.expected.value if twin.expected else None,
                    twin.expected_version or Version(),
                )
                edge.outbox = (edge.reports, told)
                up.append((edge.reports, told))

        def deliver_up() -> None:
            number, told = up.pop(0)
            self.assertLessEqual(cloud.observed[1], told[1], "never older after newer")
            cloud.observed = told
            if edge.outbox is not None and edge.outbox[0] == number:
                edge.outbox = None

        def reconnect() -> None:
            down[:] = [(cloud.version, cloud.desired)]
            up[:] = [edge.outbox] if edge.outbox is not None else []  # type: ignore[list-item]

        for verb, value in script:
            match verb:
                case "cloud edits":
                    cloud.desired, cloud.version = value, cloud.version + 1
                    down.append((cloud.version, cloud.desired))
                case "other edit":
                    cloud.version += 1
                    down.append((cloud.version, cloud.desired))
                case "edge edits":
                    outcome = update(edge.twins, {NAME: Change(expected=value)}, 1)
                    winner = value
                    note(outcome.changed, True)
                case "down" if down:
                    take(*down.pop(0))
                case "again" if down:
                    take(*down[0])
                case "up" if up:
                    deliver_up()
                case "break" | "kill":
                    if verb == "kill":
                        edge = copy.deepcopy(edge)  # all it has is on disk
                    reconnect()
        reconnect()
        while down:
            take(*down.pop(0))
        while up:
            deliver_up()
        twin = edge.twins.get(NAME)
        expected = twin.expected.value if twin and twin.expected else None
        self.assertEqual(expected, winner)
        self.assertEqual(cloud.observed[0], winner)
        self.assertIsNone(edge.outbox)

    def test_concurrent(self) -> None:
        """Edited on both sides during a cut: the cloud's value, whichever was first."""
        twins: dict[str, Twin] = {}
        outcome, before = desire(twins, {}, {NAME: Desired("1")}, 10, 1)
        twins |= outcome.changed
        twins |= update(twins, {NAME: Change(expected="2")}, 2).changed
        outcome, _ = desire(twins, before, {NAME: Desired("3")}, 11, 3)
        twins |= outcome.changed
        self.assertEqual(twins[NAME].expected_version, Version(11, 1))
        self.assertEqual(body(twins[NAME])["expected"]["value"], "3")


class VersionsTests(SynchronousTestCase):
    """A cloud that sends twins with versions: the edge's unseen edit wins, both adopt it."""

    @given(verbs)
    @settings(max_examples=300, deadline=None)
    def test_both_adopt_the_winner(self, script: list[tuple[str, str]]) -> None:
        """After the last exchange both have the same value and version."""
        twins = {NAME: Twin(expected_version=Version())}
        cloud_value: str | None = None
        cloud_version = Version()

        def say() -> None:
            """The cloud tells its state and takes what comes back."""
            nonlocal cloud_value, cloud_version
            if cloud_value is not None:
                wish = Change(expected=cloud_value, expected_version=cloud_version)
                outcome = sync(twins, {NAME: wish}, 1)
                twins.update(outcome.changed)
                if outcome.report:
                    hear()

        def hear() -> None:
            nonlocal cloud_value, cloud_version
            twin = twins[NAME]
            assert twin.expected_version is not None
            cloud_value = twin.expected.value if twin.expected else None
            cloud_version = max(twin.expected_version, cloud_version)

        for verb, value in script:
            match verb:
                case "cloud edits":
                    cloud_value = value
                    cloud_version = Version(cloud_version.cloud + 1, cloud_version.edge)
                case "edge edits":
                    twins.update(update(twins, {NAME: Change(expected=value)}, 1).changed)
                case "down":
                    say()
                case "up":
                    twin = twins[NAME]
                    seen = twin.expected_version or Version()
                    if seen.edge > cloud_version.edge and seen.cloud >= cloud_version.cloud:
                        hear()
        say()
        expected = twins[NAME].expected
        if cloud_value is not None:
            self.assertEqual(expected.value if expected else None, cloud_value)

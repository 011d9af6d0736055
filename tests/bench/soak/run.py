"""The soak: rounds of faults while objects change, a heal, and a wait until both ends agree."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, BinaryIO, Final

from twisted.internet.defer import Deferred

from tests.bench.soak.faults import Faults
from tests.bench.soak.looks import History, Looks, spelled
from tests.bench.soak.mappers import Mappers
from tests.bench.soak.memory import Memory
from tests.bench.soak.objects import layout
from tests.bench.soak.settings import Settings
from tests.bench.soak.site import LONG, Site
from tests.bench.soak.writer import UNREACHABLE, Writer
from tests.system.roles import Refused, pause, until

REPORTS: Final = 4.0
"""Reports of devices a second."""
SAMPLE: Final = 10.0
"""Seconds between two looks at memory."""
TELL: Final = 10.0
"""Seconds between two words about what is still different."""
CONFIRMED_EVERY: Final = 5.0
"""Looks at edges for each look at what they have confirmed, about."""


@dataclass(slots=True, kw_only=True)
class Result:
    """What a soak found."""

    settings: Settings
    broken: list[str] = field(default_factory=list)
    """Promises that were broken, in words; empty if all is well."""
    converged: list[float] = field(default_factory=list)
    """Seconds from each heal until both ends agreed."""
    faults: Counter[str] = field(default_factory=Counter)
    writes: Counter[str] = field(default_factory=Counter)
    """What the driver asked the API for."""
    reports: int = 0
    events: int = 0
    """Lines of the history."""
    api_writes: int = 0
    """Versions that the API has given out: all writes of everybody."""
    seconds: float = 0.0
    """From the first fault to the last agreement."""
    memory: Memory = field(default_factory=Memory)


class Soak:
    """One run.

    :param say: takes a line for the reader.
    :param work: a folder that is there; keeps logs, stores and ``history.jsonl``.
    """

    def __init__(
        self, reactor: Any, settings: Settings, work: Path, say: Callable[[str], None]
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._work = work
        self._say = say
        self._file: BinaryIO = (work / "history.jsonl").open("wb")
        chance = Random(settings.seed)
        things = layout(settings.edges, settings.objects)
        self._site = Site(reactor, settings, Random(chance.random()), work)
        self._history = History(self._file)
        note = self._history.note
        self._writer = Writer(
            self._site, things, Random(chance.random()), note, self._history.changed
        )
        self._mappers = Mappers(reactor, self._site, things, Random(chance.random()), note)
        self._faults = Faults(reactor, self._site, settings, Random(chance.random()), self._tell)
        self._things = things
        self._looks: Looks
        self._began = time.monotonic()
        self._watching = False
        self._result = Result(settings=settings)

    async def run(self) -> Result:
        """Run; whatever comes of it, nothing is left running.

        :raises AssertionError: it could not even be started.
        """
        try:
            await self._prepare()
            await self._rounds()
        finally:
            self._watching = False
            await self._faults.end()
            self._mappers.close()
            await self._site.stop()
            self._file.close()
        result = self._result
        for program in self._site.programs():
            result.broken += program.deaths
            result.broken += [
                f"{program.name} had trouble: {each}" for each in program.tracebacks()
            ]
        result.faults = self._faults.done
        result.writes = self._writer.done
        result.reports = self._mappers.said
        if not result.reports and any(thing.steady for thing in self._things):
            result.broken.append("no device has reported: the mappers were never connected")
        result.events = self._history.checker.events
        return result

    async def _prepare(self) -> None:
        settings = self._settings
        self._tell(f"starting the API, {settings.clouds} clouds and {settings.edges} edges")
        await self._site.start()
        self._tell(f"all nodes are Ready; making {len(self._things)} objects")
        self._looks = Looks(self._site, self._things, self._history)
        await self._writer.create_all()
        await until("everything to be everywhere", self._is_quiet, patience=LONG)
        self._writer.done.clear()
        self._mappers.start()
        self._tell("all objects are where they belong")

    async def _rounds(self) -> None:
        first = await self._version()
        began = time.monotonic()
        self._watching = True
        beside = [Deferred.fromCoroutine(each) for each in (self._watch(), self._audit())]
        rounds = 0
        while not self._result.broken and (
            rounds < self._settings.least_rounds
            or time.monotonic() - began < self._settings.seconds
        ):
            rounds += 1
            await self._break_things()
            await self._heal()
        self._watching = False
        for each in beside:
            await each
        self._result.seconds = time.monotonic() - began
        self._result.api_writes = await self._version() - first

    async def _break_things(self) -> None:
        settings = self._settings
        running = [
            Deferred.fromCoroutine(self._writer.run(settings.writes)),
            Deferred.fromCoroutine(self._mappers.run(REPORTS)),
            Deferred.fromCoroutine(self._faults.run()),
        ]
        await pause(settings.round_seconds)
        self._faults.stop()
        self._writer.stop()
        self._mappers.stop()
        await self._faults.heal()
        self._healed = time.monotonic()
        for each in running:
            await each

    async def _heal(self) -> None:
        """Wait until both ends agree, and ask the judge."""
        result, safety = self._result, self._settings.safety
        healed = self._healed
        differences = ["nothing was looked at"]
        told = healed
        while differences and time.monotonic() - healed < safety:
            try:
                differences = await self._differences()
                differences = differences or await self._looks.not_shown(self._mappers.taken)
            except (*UNREACHABLE, Refused) as error:
                differences = [f"the API: {error!r}"]
            if differences and time.monotonic() - told > TELL:
                told = time.monotonic()
                self._tell(f"{told - healed:.0f} s after the heal: {spelled(differences)}")
            await pause(0.3)
        seconds = time.monotonic() - healed
        if differences:
            result.broken.append(
                f"no agreement {seconds:.0f} s after a heal: {spelled(differences)}"
            )
            await self._looks.not_shown(self._mappers.taken)
        else:
            result.converged.append(seconds)
            for program in self._site.edges:
                program.may_quit = False
            self._tell(f"both ends agree {seconds:.1f} s after the heal")
        for each in self._history.checker.end():
            if each not in result.broken:
                result.broken.append(each)

    async def _differences(self) -> list[str]:
        """What is not yet as it must be; the costly looks only if the others find nothing."""
        if leaving := await self._writer.settle():
            return [f"{key} is still being deleted" for key in leaving]
        if found := self._looks.not_delivered():
            return found
        for look in (
            self._site.not_ready,
            self._looks.not_running,
            self._looks.not_recorded,
        ):
            if found := await look():
                return found
        return []

    async def _is_quiet(self) -> bool:
        return not await self._differences()

    # Beside the rounds

    async def _watch(self) -> None:
        """Look at edges and memory, again and again."""
        sampled = -SAMPLE
        while self._watching:
            self._looks.edges()
            for program in self._site.edges:
                if program.has_quit:  # as systemd would
                    program.start()
            now = time.monotonic() - self._began
            if now - sampled >= SAMPLE:
                sampled = now
                for program in self._site.programs():
                    self._result.memory.take(program.name, program.pid, now, program.memory_kb())
            broken = self._history.checker.broken
            if broken and not self._result.broken:
                self._result.broken += broken
                self._tell(f"a promise is broken: {broken[0]}")
            await pause(self._settings.look)

    async def _audit(self) -> None:
        """Hold what is confirmed against what is there, again and again."""
        while self._watching:
            try:
                await self._looks.confirmed()
            except (*UNREACHABLE, Refused):
                self._looks.edges()
            await pause(CONFIRMED_EVERY * self._settings.look)

    async def _version(self) -> int:
        found = await self._site.api.get("/api/v1/namespaces/default/configmaps?limit=1")
        return int(found["metadata"]["resourceVersion"])

    def _tell(self, text: str) -> None:
        self._say(f"{time.monotonic() - self._began:7.1f} s  {text}")

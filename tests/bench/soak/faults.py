"""What breaks: drawn by chance, each for a while, and all of it mended at a heal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, DeferredLock
from twisted.internet.interfaces import IDelayedCall

from kubeedge_tx.errors import ConfigError
from kubeedge_tx.faultkit.kit import Kit
from kubeedge_tx.faultkit.proxy import Proxy
from tests.bench.soak.programs import Program
from tests.bench.soak.settings import Settings
from tests.bench.soak.site import Site
from tests.system.roles import pause

SPARED = 3
"""Edges that are never killed, beside one cloud: their memory is followed through a whole run."""


class Faults:
    """Break things at random until told to stop; then mend everything.

    :param say: told of each fault, for the reader.
    """

    def __init__(
        self,
        reactor: Any,
        site: Site,
        settings: Settings,
        chance: Random,
        say: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        self._site = site
        self._settings = settings
        self._chance = chance
        self._say = say
        self._running = False
        self._kit = Kit(reactor)
        self._open: dict[IDelayedCall, Callable[[], Any]] = {}
        self._killing: list[Deferred[None]] = []
        self._tampering = DeferredLock()
        self.done: Counter[str] = Counter()
        self._kinds: list[tuple[int, Callable[[], None]]] = [
            (16, self._bad_link),
            (6, self._bad_api_link),
            (6, self._kill_edges),
            (2, self._kill_cloud),
            (1, self._kill_api),
            (4, self._hold_edges),
            (2, self._hold_cloud),
            (1, self._hold_api),
            (4, self._full_disk),
            (3, self._slow_disk),
            (4, self._wrong_clock),
        ]

    async def run(self) -> None:
        """Break something again and again, until :meth:`stop`."""
        self._running = True
        weights = [weight for weight, _ in self._kinds]
        while self._running:
            (_, fault), *_ = self._chance.choices(self._kinds, weights)
            fault()
            await pause(self._chance.uniform(*self._settings.pause))

    def stop(self) -> None:
        """Break nothing more."""
        self._running = False

    async def heal(self) -> None:
        """Undo everything; what was killed starts, nobody waits until it is ready."""
        await self.end()
        for program in self._site.programs():
            program.go_on()
            program.start()

    async def end(self) -> None:
        """Undo everything but deaths."""
        for call in list(self._open):
            call.cancel()
        undoing, self._open = list(self._open.values()), {}
        for undo in undoing:
            undo()
        for proxy in self._site.proxies():
            proxy.heal()
        await self._tampering.run(self._kit_heals)
        await DeferredList(self._killing)
        self._killing.clear()

    # Links

    def _bad_link(self) -> None:
        """The way between edges and clouds: of one edge, of several, or all to one cloud."""
        chance, links = self._chance, self._site.edge_links
        how = chance.random()
        if how < 0.15:
            cloud = chance.randrange(len(self._site.clouds))
            chosen = [link for (_, its), link in links.items() if its == cloud]
            whose = self._site.clouds[cloud].name
        else:
            count = 1 if how < 0.6 else chance.randrange(2, max(3, len(self._site.edges) // 3))
            edges = chance.sample(range(len(self._site.edges)), min(count, len(self._site.edges)))
            chosen = [link for (its, _), link in links.items() if its in edges]
            whose = ", ".join(self._site.nodes[number] for number in edges)
        self._spoil(chosen, f"link of {whose}")

    def _bad_api_link(self) -> None:
        """The way between the API and one cloud, or all of them."""
        links = self._site.api_links
        number = self._chance.randrange(len(links) + 1)
        if number == len(links):
            self._spoil(links, "link of the API to every cloud")
        else:
            self._spoil([links[number]], f"link of the API to {self._site.clouds[number].name}")

    def _spoil(self, links: Sequence[Proxy], what: str) -> None:
        chance = self._chance
        kind = chance.choice(
            ("latency", "jitter", "rate", "silent", "silent", "reset", "refused", "cut short")
        )
        faults: dict[str, Any] = {}
        directions: tuple[str, ...] = chance.choice(((), (), ("up",), ("down",)))
        match kind:
            case "latency":
                faults = {"latency": chance.uniform(0.02, 1.0)}
            case "jitter":
                faults = {"latency": 0.02, "jitter": chance.uniform(0.1, 1.5)}
            case "rate":
                faults = {"rate": chance.uniform(2_000, 50_000)}
            case "silent":
                faults = {"silent": True}
            case "cut short":
                faults = {"cut_after": chance.randrange(1, 30_000)}
        for link in links:
            if faults:
                link.set(*directions, **faults)
            elif kind == "refused":
                link.refusing = True
            if kind in ("refused", "reset"):
                link.reset()
        self._count(f"link: {kind}", f"{what}: {kind} {faults or ''} {'/'.join(directions)}")
        if kind != "reset":
            self._later(lambda: _heal(links))

    # Programs

    def _kill_edges(self) -> None:
        for program in self._some(self._site.edges[SPARED:]):
            self._kill(program, "edge")

    def _kill_cloud(self) -> None:
        if len(self._site.clouds) > 1:
            self._kill(self._chance.choice(self._site.clouds[1:]), "cloud")

    def _kill_api(self) -> None:
        self._kill(self._site.api_program, "API")

    def _kill(self, program: Program, kind: str) -> None:
        if not program.pid or program.is_held:
            return
        killed = program.kill()
        self._killing.append(killed)
        self._count(f"kill -9: {kind}", f"{program.name}: kill -9")
        self._later(
            lambda: killed.addCallback(lambda _: program.start()), self._settings.longest / 4
        )

    def _hold_edges(self) -> None:
        for program in self._some(self._site.edges):
            self._hold(program, "edge")

    def _hold_cloud(self) -> None:
        self._hold(self._chance.choice(self._site.clouds), "cloud")

    def _hold_api(self) -> None:
        # Not so long, and rarer than the rest: while it hangs nothing changes.
        self._hold(self._site.api_program, "API", self._settings.longest / 2)

    def _hold(self, program: Program, kind: str, longest: float = 0.0) -> None:
        if not program.pid or program.is_held:
            return
        program.hold()
        self._count(f"SIGSTOP: {kind}", f"{program.name}: SIGSTOP")
        self._later(program.go_on, longest)

    # Disks and clocks

    def _full_disk(self) -> None:
        for program in self._some(self._site.edges):
            program.may_quit = True  # one that starts says why it cannot, and is started again
            self._tamper(program, "disk full: edge", lambda pid: self._kit.injections.no_space(pid))

    def _slow_disk(self) -> None:
        seconds = self._chance.uniform(0.05, 2.0)
        slow = partial(self._kit.injections.slow, seconds=seconds)
        if self._chance.random() < 0.3:
            self._tamper(self._site.api_program, "disk slow: API", slow)
            return
        for program in self._some(self._site.edges):
            self._tamper(program, "disk slow: edge", slow)

    def _wrong_clock(self) -> None:
        if not self._site.clocks:  # no libfaketime on this machine
            return
        name = self._chance.choice(list(self._site.clocks))
        file = str(self._site.clocks[name])
        seconds = self._chance.choice((-1, 1)) * 10 ** self._chance.uniform(1, 7.5)
        self._later(self._from_kit(lambda: self._kit.clocks.right(file)))
        self._count("clock wrong", f"{name}: clock wrong by {seconds:.0f} s")
        self._from_kit(lambda: self._kit.clocks.shift(file, seconds))()

    def _tamper(self, program: Program, kind: str, how: Callable[[int], Awaitable[None]]) -> None:
        pid = program.pid
        if not pid or program.is_held:
            return
        self._count(kind, f"{program.name}: {kind}")
        self._from_kit(lambda: how(pid))()
        self._later(self._from_kit(lambda: self._kit.injections.end(pid)))

    def _from_kit(self, deed: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """A call of the fault kit's, made after those before it; nobody waits for it."""

        async def do() -> None:
            try:
                await deed()
            except ConfigError as error:  # no strace, or the process has just been killed
                self.done["not possible"] += 1
                self._say(f"not possible: {error}")

        def call() -> None:
            done = self._tampering.run(lambda: Deferred.fromCoroutine(do()))
            done.addErrback(lambda failure: self._say(f"the fault kit: {failure.value!r}"))

        return call

    def _kit_heals(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._kit.heal())

    def _some(self, programs: Sequence[Program]) -> list[Program]:
        count = self._chance.choice((1, 1, 1, 2, 4))
        return self._chance.sample(programs, min(count, len(programs)))

    def _count(self, kind: str, text: str) -> None:
        self.done[kind] += 1
        self._say(text)

    def _later(self, undo: Callable[[], Any], longest: float = 0.0) -> None:
        """Undo a fault after a time by chance: mostly short, now and then the longest."""
        most = longest or self._settings.longest
        seconds = most * self._chance.random() ** 2

        def over() -> None:
            self._open.pop(call)()

        call = self._reactor.callLater(seconds, over)
        self._open[call] = undo


def _heal(links: Sequence[Proxy]) -> None:
    for link in links:
        link.heal()

"""Changes the cluster's objects, and writes down what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.web.client import ResponseFailed

from kubeedge_tx.faultkit.history import Event
from tests.bench.soak.objects import API as DEVICES
from tests.bench.soak.objects import MODEL, Thing, version
from tests.bench.soak.site import Site
from tests.system.roles import Refused, pause

LANES: Final = 8
"""Changes under way at once, each of another object."""

UNREACHABLE: Final = (ConnectError, ConnectionClosed, ResponseFailed)
"""What a call ends with while the API is away; it may have been done."""


@dataclass(slots=True)
class _Known:
    """What the writer believes of one object."""

    state: Literal["there", "leaving", "absent", "unsure"] = "absent"
    uid: str = ""


class Writer:
    """Creates, changes, deletes and recreates at random.

    :param note: takes an event, whose time it sets.
    :param changed: where the resourceVersion of each pod's last change goes.
    """

    def __init__(
        self,
        site: Site,
        things: Sequence[Thing],
        chance: Random,
        note: Callable[[Event], None],
        changed: dict[str, int],
    ) -> None:
        self._site = site
        self._things = things
        self._chance = chance
        self._note = note
        self._changed = changed
        self._known = {thing.key: _Known() for thing in things}
        self._state = 0
        self._running = False
        self.done: Counter[str] = Counter()

    async def create_all(self) -> None:
        """Make everything; pods last, so that what they need is there."""
        await self._site.api.call("POST", f"{DEVICES}/devicemodels", MODEL)
        for thing in self._things:
            await self._create(thing)

    async def run(self, rate: float) -> None:
        """Work until :meth:`stop`, at so many changes a second if the API keeps up."""
        self._running = True
        lanes = [
            Deferred.fromCoroutine(self._lane(self._things[number::LANES], rate / LANES))
            for number in range(LANES)
        ]
        for lane in lanes:
            await lane

    def stop(self) -> None:
        """End after what is under way."""
        self._running = False

    async def _lane(self, things: Sequence[Thing], rate: float) -> None:
        while self._running:
            thing = self._chance.choice(things)
            try:
                await self._act(thing)
            except CancelledError:
                raise
            except UNREACHABLE:
                self._known[thing.key].state = "unsure"
                self.done["without an answer"] += 1
            except Refused as error:
                if int(error.code or 0) not in (409, *range(500, 600)):
                    raise
                self._known[thing.key].state = "unsure"
                self.done["refused for now"] += 1
            await pause(self._chance.expovariate(rate))

    async def _act(self, thing: Thing) -> None:
        """Do one thing to one object."""
        known = self._known[thing.key]
        if known.state in ("unsure", "leaving"):
            await self._look_at(thing)
        if known.state == "absent":
            await self._create(thing)
        elif known.state == "there":
            choice = 1.0 if thing.steady else self._chance.random()
            rare = 0.04 if thing.needs else 0.15
            if choice < rare:
                # Like kubectl, with patience, and sometimes by force and made again at once.
                force = choice < rare / 3
                await self._delete(thing, force=force)
                if (force or thing.kind != "Pod") and self._chance.random() < 0.5:
                    await self._create(thing)
            else:
                await self._change(thing)

    async def _create(self, thing: Thing) -> None:
        body = thing.body(self._next(), self._site.nodes)
        made = await self._site.api.call("POST", thing.collection, body)
        self._there(thing, made, ours=True)
        self.done["created"] += 1

    async def _change(self, thing: Thing) -> None:
        known = self._known[thing.key]
        changed = await self._site.api.patch(thing.path, thing.change(self._next()))
        if changed is None:
            known.state = "absent"
            return
        self._there(thing, changed, ours=True)
        self.done["changed"] += 1

    async def _delete(self, thing: Thing, *, force: bool) -> None:
        known = self._known[thing.key]
        self._gone(thing, known.uid)  # first: an edge may hear of it before we get our answer
        await self._site.api.delete(thing.path, 0 if force and thing.kind == "Pod" else None)
        known.state = "leaving" if thing.kind == "Pod" and not force else "absent"
        self.done["deleted"] += 1

    async def settle(self) -> list[str]:
        """After the writing has stopped: find out how everything is.

        A pod that holds references is made again if it is gone.

        :returns: keys of what is still being deleted.
        """
        leaving = []
        for thing in self._things:
            known = self._known[thing.key]
            if known.state in ("unsure", "leaving"):
                await self._look_at(thing)
            if known.state == "absent" and thing.needs:
                await self._create(thing)
            elif known.state == "leaving":
                leaving.append(thing.key)
        return leaving

    async def _look_at(self, thing: Thing) -> None:
        """Find out whether it is there."""
        known = self._known[thing.key]
        found = await self._site.api.get(thing.path)
        if found is None:
            if known.uid:
                self._gone(thing, known.uid)
            known.state = "absent"
        elif found["metadata"].get("deletionTimestamp"):
            known.state, known.uid = "leaving", found["metadata"]["uid"]
            self._gone(thing, known.uid)
        else:
            self._there(thing, found)

    def _next(self) -> int:
        self._state += 1
        return self._state

    def _there(self, thing: Thing, found: Any, *, ours: bool = False) -> None:
        known = self._known[thing.key]
        if thing.kind == "Pod" and (ours or found["metadata"]["uid"] != known.uid):
            # Without an answer to our own change nobody knows which version it made.
            latest = int(found["metadata"]["resourceVersion"])
            self._changed[thing.key] = latest if ours else 1
        known.state, known.uid = "there", found["metadata"]["uid"]
        self._note(
            Event(
                where="cluster",
                key=thing.key,
                uid=known.uid,
                version=version(thing.kind, found["metadata"]),
            )
        )

    def _gone(self, thing: Thing, uid: str) -> None:
        self._note(Event(where="cluster", key=thing.key, uid=uid, gone=True))

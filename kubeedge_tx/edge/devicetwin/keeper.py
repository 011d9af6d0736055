"""Devices as the parts of DeviceTwin share them: in memory at once, told once on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.logger import Logger

from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.interfaces import IMessageBus
from kubeedge_tx.beehive.message import MessageFactory
from kubeedge_tx.edge.devicetwin import topics
from kubeedge_tx.edge.devicetwin.devices import (
    Device,
    Devices,
    object_row,
    restored,
    twin_row,
)
from kubeedge_tx.edge.devicetwin.reports import Reports
from kubeedge_tx.edge.devicetwin.twin import BOTH, Outcome, body, delta
from kubeedge_tx.store.database import Change, Database
from kubeedge_tx.store.device import DeviceStore

BAD_REQUEST: Final = 400
NOT_FOUND: Final = 404
INTERNAL_ERROR: Final = 500

PUBLISH: Final = "publish"

_encode: Final = msgspec.json.Encoder().encode


class Keeper:
    """The devices, their store, and how apps and the cloud hear of them.

    :param node: the node's name.
    :param now_ms: wall clock in milliseconds.
    :param new_id: a fresh id for an event of ours.
    """

    _log = Logger()

    def __init__(
        self,
        bus: IMessageBus,
        messages: MessageFactory,
        *,
        database: Database,
        reports: Reports,
        node: str,
        now_ms: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        self._bus = bus
        self._messages = messages
        self._database = database
        self.store = DeviceStore(database)
        self.reports = reports
        self.devices = Devices()
        self.node = node
        self.now_ms = now_ms
        self.new_id = new_id

    async def load(self) -> None:
        """Read the store and what the cloud has not confirmed."""
        await self.reports.load()
        for stored in await self.store.load():
            self.devices.add(restored(stored))

    def complain(self, device: Device, outcome: Outcome) -> None:
        """Log what of the cloud's wishes cannot be, and why."""
        for name, why in outcome.ignored.items():
            self._log.warn(
                "{device}: the cloud's {property} is not taken: {why}",
                device=device.id,
                property=name,
                why=why,
            )

    def write(self, device: Device, outcome: Outcome, *more: Change) -> Deferred[None]:
        """Take in what follows from a message; fires when it is on disk.

        Memory shows it at once, so that the next message builds on it.

        :param more: changes that belong to the same transaction.
        :raises StoreError: from the Deferred: nothing of it is kept, memory is as before.
        """
        return Deferred.fromCoroutine(self._write(device, outcome, more))

    async def _write(self, device: Device, outcome: Outcome, more: tuple[Change, ...]) -> None:
        if not outcome.changed and not outcome.report and not more:
            await self.settled(device)
            return
        fresh = [name for name in outcome.changed if name not in device.twins]
        device.twins.update(outcome.changed)
        device.in_flight += 1
        try:
            changes = list(more)
            if outcome.changed:
                rows = [twin_row(name, twin) for name, twin in outcome.changed.items()]
                changes.append(self.store.putting_twins(device.id, rows))
            if outcome.report:
                changes += self.reports.twins(
                    device.id, self.new_id(), self.now_ms(), device.twins, outcome.report, fresh
                )
            await self._database.commit(*changes)
        except CancelledError:
            raise
        except Exception:
            for name, twin in outcome.changed.items():
                if device.twins.get(name) is twin:
                    _put_back(device, name)
            raise
        finally:
            device.in_flight -= 1
        device.stored.update(outcome.changed)

    async def confirmed(self, message_id: str) -> None:
        """The cloud has a report."""
        device_id, names = self.reports.again(message_id)
        await self.reports.confirmed(message_id)
        device = self.devices.get(device_id)
        if device is not None and names:
            report = {name: BOTH for name in names if name in device.twins}
            await self.write(device, Outcome(report=report))

    async def settled(self, device: Device) -> None:
        """Wait until ``device.stored`` is as of now."""
        if device.in_flight:
            await self._database.commit()

    def taking_in(self, device: Device) -> Change:
        """The change that notes which Device object a device shows."""
        assert device.taken_in is not None
        return self.store.putting_object(device.id, object_row(device.taken_in))

    def remove(self, device: Device) -> Deferred[None]:
        """Forget a device and what the cloud was to hear of it; fires when it is on disk."""
        self.devices.remove(device)
        return self._database.commit(self.store.deleting(device.id), self.reports.forget(device.id))

    # What apps hear

    def publish(self, *papers: tuple[str, object]) -> Deferred[None]:
        """Publish on topics, in order; fires when EventBus has taken them.

        :param papers: topics and what to write there.
        """
        if not self._bus.has(names.EVENTBUS):
            return gatherResults([]).addCallback(_none)
        sending = [
            self._bus.send(
                names.EVENTBUS,
                self._messages.new(
                    source=names.TWIN,
                    group=names.GROUP_BUS,
                    operation=PUBLISH,
                    resource=topic,
                    content=_encode(paper).decode(),
                ),
            )
            for topic, paper in papers
        ]
        return gatherResults(sending, consumeErrors=True).addCallback(_none)

    def base(self, event_id: str | None = None, now: int | None = None) -> dict[str, Any]:
        """The beginning of every payload.

        :param event_id: of the message that is answered; ``None`` for an event of ours.
        """
        return {
            "event_id": self.new_id() if event_id is None else event_id,
            "timestamp": self.now_ms() if now is None else now,
        }

    def error(self, code: int, reason: str, event_id: str = "") -> dict[str, Any]:
        """An error result."""
        return {**self.base(event_id), "code": code, "reason": reason}

    def documents(
        self, device: Device, outcome: Outcome, event_id: str, now: int, *, always: bool = True
    ) -> list[tuple[str, object]]:
        """What changed in twins and what mappers must write, for everybody who listens.

        :param always: a delta also if nothing changed, as upstream has it.
        """
        papers: list[tuple[str, object]] = []
        if outcome.document:
            document = {
                name: {"last": body(last), "current": body(current)}
                for name, (last, current) in outcome.document.items()
            }
            papers += [
                (topics.update_document(name), {**self.base(event_id, now), "twin": document})
                for name in device.names
            ]
        elif not always:
            return papers
        twins, wanted = delta(device.stored)
        if wanted:
            paper = {**self.base(), "twin": twins, "delta": wanted}
            papers += [(topics.update_delta(name), paper) for name in device.names]
        return papers


def without_empty(found: Mapping[str, Any]) -> dict[str, Any]:
    """What Go leaves out of JSON when it is empty."""
    return {name: value for name, value in found.items() if value}


def _put_back(device: Device, name: str) -> None:
    stored = device.stored.get(name)
    if stored is None:
        del device.twins[name]
    else:
        device.twins[name] = stored


def _none(_: object) -> None:
    return None

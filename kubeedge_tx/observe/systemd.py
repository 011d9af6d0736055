"""Tell systemd how we are: ready, alive, stopping. Source: sd_notify(3), sd_watchdog_enabled(3)."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger


class Notifier:
    """Sends nothing if nobody listens.

    :param environment: of the process: ``NOTIFY_SOCKET``, ``WATCHDOG_USEC``, ``WATCHDOG_PID``.
    :param clock: the reactor: an answer to the watchdog says that it turns.
    """

    _log = Logger()

    def __init__(self, environment: Mapping[str, str], clock: IReactorTime) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._interval = _interval(environment)
        self._alive = LoopingCall(self.tell, "WATCHDOG=1")
        self._alive.clock = clock

    def tell(self, text: str) -> None:
        """Send one line: ``READY=1``."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            try:
                sender.sendto(text.encode(), self._address)
            except OSError as error:
                self._log.warn("systemd did not take {text}: {error}", text=text, error=error)

    def watch(self) -> None:
        """Answer the watchdog from now on, if there is one."""
        if self._address and self._interval and not self._alive.running:
            running: Any = self._alive.start(self._interval)
            running.addErrback(lambda failure: self._log.failure("the watchdog", failure))

    def stopping(self) -> None:
        """Say that we stop, and answer no more."""
        if self._alive.running:
            self._alive.stop()
        self.tell("STOPPING=1")


def _interval(environment: Mapping[str, str]) -> float:
    """Seconds between answers, half of what is allowed; 0 without a watchdog."""
    usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not usec.isdigit() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(usec) / 2e6

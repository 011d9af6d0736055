"""What both roles do as a process: options, data directory, logs, readiness, fatal errors."""

from __future__ import annotations

import ctypes
import fcntl
import gc
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, Logger
from twisted.python import usage
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from kubeedge_tx.beehive.fatal import end_process
from kubeedge_tx.beehive.steady import keep_steady_time
from kubeedge_tx.config.loader import changed_keys, dump, load_file
from kubeedge_tx.errors import ConfigError, KubeEdgeError
from kubeedge_tx.observe import LOG_FILE, logs
from kubeedge_tx.observe.logfile import LogFile
from kubeedge_tx.observe.systemd import Notifier

GIVE_BACK_EVERY: Final = 600.0
"""Seconds between two times that libc is asked to give back what is free. Left to itself it keeps
what a busy hour took in pieces here and there, and the process seems to grow for ever."""

C = TypeVar("C", bound=msgspec.Struct)


def default_data_dir() -> Path:
    """Where a role keeps its data if nobody says otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/kubeedge")
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    return Path(state) / "kubeedge-tx"


class RoleOptions(usage.Options, Generic[C]):
    """The command line that both roles share. A subclass names ``form`` and ``minimal``."""

    form: type[C]
    config: C
    minimal: tuple[str, ...] = ()
    """Paths of the keys that ``--minconfig`` prints."""

    optParameters = [  # noqa: RUF012 - usage.Options wants a list
        ["config", None, None, "YAML file with upstream's keys"],
        ["data-dir", None, None, "where databases, keys and ready.json are kept"],
        ["log-level", None, None, "debug, info, warn or error; else commonConfig.logging.level"],
        ["log-format", None, None, "text or json; else commonConfig.logging.format"],
    ]

    def opt_defaultconfig(self) -> None:
        """Print the whole configuration with its defaults, and exit."""
        sys.stdout.write(dump(self.form()))
        raise SystemExit(0)

    def opt_minconfig(self) -> None:
        """Print the keys that most people change, and exit."""
        sys.stdout.write(dump_part(self.form(), self.minimal))
        raise SystemExit(0)

    def postOptions(self) -> None:
        """Read the configuration.

        :raises SystemExit: it cannot be used; the text is one line. (A ``UsageError`` would
            have ``twistd`` print all its options first, and the line be overlooked.)
        """
        try:
            if self["log-level"] not in (None, *logs.LEVELS):
                raise ConfigError("--log-level", f"expected {', '.join(logs.LEVELS)}")
            if self["log-format"] not in (None, *logs.FORMS):
                raise ConfigError("--log-format", f"expected {' or '.join(logs.FORMS)}")
            if self["config"]:
                self["config"] = str(Path(self["config"]).absolute())  # for reload
            self.load()
        except ConfigError as error:
            raise SystemExit(f"kubeedge-tx: {error}") from None

    def load(self) -> None:
        """Read the file and lay the command line over it.

        :raises ConfigError: it cannot be used, and what there was stays.
        """
        before: C = getattr(self, "config", None)  # type: ignore[assignment]
        self.config = load_file(Path(self["config"]), self.form) if self["config"] else self.form()
        try:
            self.apply()
        except ConfigError:
            self.config = before
            raise

    def set_logging(self, levels: logs.Levels, output: logs.Output) -> None:
        """Log from the levels on, and in the form, that are configured."""
        logging = self.config.common_config.logging  # type: ignore[attr-defined]
        levels.set(self["log-level"] or logging.level, logging.levels)
        output.form = self["log-format"] or logging.format

    def apply(self) -> None:
        """Lay the command line over ``self.config``.

        :raises ConfigError: an option cannot be used.
        """

    @property
    def data_dir(self) -> Path:
        """The data directory, absolute: ``twistd`` changes the working directory."""
        return Path(self["data-dir"] or default_data_dir()).absolute()


def dump_part(config: msgspec.Struct, paths: tuple[str, ...]) -> str:
    """Write the named keys of a configuration, and ``apiVersion`` and ``kind``."""
    import yaml

    whole = msgspec.to_builtins(config)
    part: dict[str, Any] = {"apiVersion": whole["apiVersion"], "kind": whole["kind"]}
    for path in paths:
        source, target = whole, part
        *parents, last = path.split(".")
        for parent in parents:
            source, target = source[parent], target.setdefault(parent, {})
        target[last] = source[last]
    text: str = yaml.safe_dump(part, sort_keys=False)
    return text


class Role(Protocol):
    """A role's core, as its process sees it."""

    def startService(self) -> Deferred[None]:
        """Fires when the role does its work."""

    def stopService(self) -> Deferred[None]:
        """Fires when everything is written and closed."""

    def ports(self) -> dict[str, int]:
        """The ports it listens on, by name."""

    def reload(self, config: Any) -> set[str]:
        """Take over what can change while it runs; returns the paths of those keys.

        :raises ConfigError: it cannot be used, and nothing of it is taken over.
        """


class RoleService(Service):
    """One role as a process.

    :param build: makes the core; called once the process is what it will be, since
        ``twistd`` daemonizes after ``makeService``.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, options: RoleOptions[Any], build: Callable[[], Role], name: str
    ) -> None:
        self._reactor = reactor
        self._options = options
        self._build = build
        self._core: Role | None = None
        self._lock: int | None = None
        self._starting: Deferred[None] | None = None
        self._levels = logs.Levels("info")
        self._output = logs.Output(sys.stdout, "text")
        self._systemd = Notifier(os.environ, reactor)
        self._giving_back = LoopingCall(give_back)
        self._giving_back.clock = reactor
        log_file = os.environ.get(LOG_FILE)
        self._log_file = LogFile(reactor, Path(log_file)) if log_file else None
        self.setName(name)

    def setServiceParent(self, parent: Any) -> None:
        """Bring our log observer along, unless ``twistd --logger`` was given."""
        if isinstance(parent, Componentized) and not parent.getComponent(ILogObserver):
            self._options.set_logging(self._levels, self._output)
            parent.setComponent(ILogObserver, logs.observer(self._output, self._levels))
        super().setServiceParent(parent)

    @property
    def _ready_file(self) -> Path:
        return self._options.data_dir / "ready.json"

    def startService(self) -> None:
        super().startService()
        keep_steady_time(self._reactor)
        if self._log_file is not None:
            self._log_file.startService()
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._failed)
        signal.signal(signal.SIGHUP, self._hung_up)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _start(self) -> None:
        self._take_data_dir()
        self._core = self._build()
        await self._core.startService()
        ports = self._core.ports()
        text = json.dumps({"pid": os.getpid(), "ports": ports})
        draft = self._ready_file.with_suffix(".tmp")
        draft.write_text(text + "\n")
        draft.rename(self._ready_file)
        listed = ", ".join(f"{name} {port}" for name, port in ports.items())
        self._log.info("{role} is ready: {listed}", role=self.name, listed=listed)
        self._systemd.tell(f"READY=1\nSTATUS=ready: {listed}")
        self._systemd.watch()
        gc.collect()  # what only the start needed
        give_back()
        self._giving_back.start(GIVE_BACK_EVERY, now=False)

    async def _stop(self) -> None:
        self._systemd.stopping()
        if self._giving_back.running:
            self._giving_back.stop()
        if self._lock is not None:
            self._ready_file.unlink(missing_ok=True)
        if self._starting is not None:
            self._starting.cancel()
        if self._core is not None:
            await self._core.stopService()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if self._log_file is not None:
            self._log_file.stopService()
        # twistd would end itself by the signal that stopped it, which looks like a crash to
        # whoever waits for the status. An orderly stop is a success: 0.
        self._reactor._exitSignal = None

    def _hung_up(self, number: int, frame: object) -> None:
        self._reactor.callFromThread(self.reload)

    def reload(self) -> None:
        """Read the configuration again and take over what can change while we run."""
        before = self._options.config
        try:
            self._options.load()
            taken = self._core.reload(self._options.config) if self._core is not None else set()
        except ConfigError as error:
            self._options.config = before
            self._log.error("the configuration stays as it was: {error}", error=error)
            return
        self._options.set_logging(self._levels, self._output)
        changed = changed_keys(before, self._options.config)
        taken |= {key for key in changed if key.startswith("commonConfig.logging")}
        self._log.info("read the configuration again; new: {keys}", keys=_listed(changed & taken))
        if changed - taken:
            self._log.warn(
                "these keys have changed and need a restart: {keys}", keys=_listed(changed - taken)
            )

    def _take_data_dir(self) -> None:
        data_dir = self._options.data_dir
        try:
            data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                "--data-dir", f"{data_dir} cannot be used: {error.strerror}; name another one"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise ConfigError(
                "--data-dir",
                f"{data_dir} is in use by another process; stop it, or name another directory",
            ) from None
        self._lock = lock
        self._ready_file.unlink(missing_ok=True)

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError) and not self.running:
            return
        end_process(self._reactor, explain(failure), failure)


def _listed(keys: set[str]) -> str:
    return ", ".join(sorted(keys)) or "nothing"


def give_back() -> None:
    """Hand free memory back to the system, where libc can.

    Done in the reactor's thread: 59 ms where 470 MiB were in the smallest pieces.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def explain(failure: Failure) -> str:
    """Say in one line why a role could not start."""
    error = failure.value
    if isinstance(error, CannotListenError):
        reason = getattr(error.socketError, "strerror", None) or error.socketError
        return (
            f"cannot listen on {error.interface or '*'}:{error.port}: {reason}; "
            "stop what holds the port, or configure another one (0 takes a free one)"
        )
    if isinstance(error, KubeEdgeError):
        return str(error)
    return f"{type(error).__name__}: {error}\n{failure.getTraceback()}"

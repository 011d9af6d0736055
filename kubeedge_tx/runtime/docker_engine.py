"""The Docker SDK, from threads: everything that blocks.

Two pools of threads: short calls, and what may take long (pulls, commands in containers,
the stream of events), so that a slow registry never delays a status. Each thread has a
client of its own, since the SDK's is not to be shared.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import docker
import requests
from docker.errors import APIError, DockerException
from docker.utils import kwargs_from_env
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from urllib3.exceptions import HTTPError

from kubeedge_tx.errors import ContainerError
from kubeedge_tx.runtime.docker_specs import OWNER, POD_UID

CALL_SECONDS: Final = 60
"""How long the engine may take to answer a short call, and between two pieces of a long one."""

_FIRST_BACKOFF: Final = 0.5
_MAX_BACKOFF: Final = 30.0
_STOP_SECONDS: Final = 5.0


class Stream:
    """A long answer of the engine, which the reactor may cut short.

    It is read in one thread; :meth:`cut` may be called from another at any time.
    """

    def __init__(self) -> None:
        self._response: Any = None
        self.is_cut = False

    def attach(self, response: Any) -> None:
        """Say, from the reading thread, what is read."""
        self._response = response
        if self.is_cut:  # it was cut before there was anything to cut
            self.cut()

    def cut(self) -> None:
        """End the read that is under way."""
        self.is_cut = True
        if self._response is not None:
            with suppress(OSError, ValueError):
                self._response.raw.shutdown()


class Engine:
    """Calls to one engine, each in a thread.

    :param base_url: ``unix:///var/run/docker.sock``, ``tcp://…``; ``None`` as ``DOCKER_HOST``
        says, or the usual socket.
    :param owner: whose containers to hear of.
    """

    _log = Logger()

    def __init__(self, reactor: Any, base_url: str | None, owner: str) -> None:
        self._reactor = reactor
        self._base_url = base_url
        self._owner = owner
        self._pools = tuple(
            _pool(size, name) for size, name in ((4, "docker-calls"), (16, "docker-streams"))
        )
        self._local = threading.local()
        self._stopping = threading.Event()
        self._streams: set[Stream] = set()  # touched in the reactor only
        self.is_started = False

    def start(self) -> None:
        """Begin to take calls."""
        self.is_started = True
        for pool in self._pools:
            pool.start()

    def listen(self, since: int, on_event: Callable[[str, str], None]) -> None:
        """Begin to hear of events, in the reactor, as (container id, pod uid).

        :param since: by the engine's clock, seconds: nothing from then on is missed. After
            a broken connection both are empty once: anything may have happened.
        """
        stream = Stream()
        self._streams.add(stream)
        self._pools[1].callInThread(self._listen, stream, since, on_event)

    def stop(self) -> Deferred[None]:
        """End every call; fires when the threads have ended, or will not."""
        done: Deferred[None] = Deferred()
        if not self.is_started:
            done.callback(None)
            return done
        self.is_started = False
        self._stopping.set()
        for stream in self._streams:
            stream.cut()

        def finish() -> None:
            if not done.called:
                late.cancel()
                done.callback(None)

        def join() -> None:
            for pool in self._pools:
                pool.stop()
            with suppress(Exception):  # the reactor may have ended meanwhile
                self._reactor.callFromThread(finish)

        late = self._reactor.callLater(_STOP_SECONDS, done.callback, None)
        threading.Thread(target=join, daemon=True).start()
        return done

    def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Deferred[Any]:
        """Call ``function(client, …)`` in a thread.

        :raises ContainerError: ``RuntimeUnavailable``: the engine does not answer.
        :raises APIError: it refuses.
        """
        self._check_started()
        return deferToThreadPool(
            self._reactor, self._pools[0], self._with_client, function, *arguments, **named
        )

    def stream(
        self, stream: Stream, function: Callable[..., Any], *arguments: Any
    ) -> Deferred[Any]:
        """Call ``function(client, stream, …)`` in a thread for what takes long."""
        self._check_started()
        self._streams.add(stream)

        def forget(result: Any) -> Any:
            self._streams.discard(stream)
            return result

        return deferToThreadPool(
            self._reactor, self._pools[1], self._with_client, function, stream, *arguments
        ).addBoth(forget)

    def _check_started(self) -> None:
        if not self.is_started:
            raise ContainerError("RuntimeUnavailable", "the Docker runtime is not started")

    # -- in threads --------------------------------------------------------------------

    def _client(self) -> Any:
        client = getattr(self._local, "client", None)
        if client is None:
            given = {"base_url": self._base_url} if self._base_url else kwargs_from_env()
            client = docker.APIClient(version="auto", timeout=CALL_SECONDS, **given)
            self._local.client = client
        return client

    def _with_client(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        try:
            return function(self._client(), *arguments, **named)
        except (APIError, ContainerError):
            raise
        except (DockerException, requests.RequestException, HTTPError, OSError) as error:
            self._local.client = None
            where = self._base_url or "DOCKER_HOST or the usual socket"
            raise ContainerError(
                "RuntimeUnavailable",
                f"the Docker engine at {where} does not answer: {_innermost(error)}"
                " (does dockerd run, and may this user reach it?)",
            ) from error

    def _listen(self, stream: Stream, since: int, on_event: Callable[[str, str], None]) -> None:
        backoff, gap = _FIRST_BACKOFF, False
        while not self._stopping.is_set():
            try:
                for event in self._with_client(self._open_events, stream, since):
                    if event is None:
                        backoff = _FIRST_BACKOFF
                        if gap:
                            self._reactor.callFromThread(on_event, "", "")
                        continue
                    since = max(since, int(event.get("time", 0)))
                    actor = event.get("Actor") or {}
                    uid = (actor.get("Attributes") or {}).get(POD_UID, "")
                    self._reactor.callFromThread(on_event, actor.get("ID", ""), uid)
            except (APIError, ContainerError, requests.RequestException, HTTPError, OSError):
                self._local.client = None
            if not self._stopping.is_set():
                self._log.warn("lost the Docker engine's events; again in {s} s", s=backoff)
            gap = True
            self._stopping.wait(backoff)
            backoff = min(backoff * 2, _MAX_BACKOFF)

    def _open_events(self, client: Any, stream: Stream, since: int) -> Iterator[Any]:
        filters = {
            "type": ["container"],
            "event": ["start", "die", "destroy"],
            "label": [f"{OWNER}={self._owner}"],
        }
        response = request(
            client,
            "GET",
            "/events",
            params={"since": since, "filters": json.dumps(filters)},
            timeout=(CALL_SECONDS, None),
        )
        stream.attach(response)

        def events() -> Iterator[Any]:
            yield None  # connected
            yield from json_lines(response)

        return events()


def _pool(size: int, name: str) -> ThreadPool:
    pool = ThreadPool(0, size, name)

    def daemon(*arguments: Any, **named: Any) -> threading.Thread:
        return threading.Thread(*arguments, daemon=True, **named)

    # An engine that hangs must not keep the agent from ending.
    pool.threadFactory = daemon  # type: ignore[assignment, misc]
    return pool


def request(client: Any, verb: str, path: str, **named: Any) -> Any:
    """Make a request whose answer is read piece by piece.

    :raises APIError: the engine refuses.
    """
    url = f"{client.base_url}/v{client.api_version}{path}"
    response = client.request(verb, url, stream=True, **named)
    try:
        response.raise_for_status()
    except requests.HTTPError as error:
        raise docker.errors.create_api_error_from_http_exception(error) from error
    return response


def json_lines(response: Any) -> Iterator[Any]:
    """Read an answer of one JSON object a line.

    :raises requests.ConnectionError: it ended within a line.
    """
    for line in response.iter_lines():
        if line:
            try:
                yield json.loads(line)
            except ValueError:
                raise requests.ConnectionError("the engine's answer was cut short") from None


def refusal(error: APIError) -> str:
    """Return what the engine said."""
    return str(error.explanation or error)


def _innermost(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error

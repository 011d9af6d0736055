"""A FakeKube over HTTP, for a real client: lists in pages, watches, bad answers on demand."""

from __future__ import annotations

import json
from functools import partial
from typing import Any
from urllib.parse import unquote

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from kubeedge_tx.api import meta, resources
from kubeedge_tx.api.resources import ResourceType
from kubeedge_tx.errors import KubeError
from tests.fakes.kube import FakeKube, kube_error

KINDS = {
    (kind.group, kind.version, kind.plural): kind
    for kind in vars(resources).values()
    if isinstance(kind, ResourceType)
}

Canned = tuple[int, dict[str, str], bytes]
"""Status (0: cut the connection), headers, body."""


class ApiServer(Resource):
    """Serve a FakeKube.

    ``answers`` are given instead of the next answers, one a request; ``None`` lets one
    through. ``seen`` has every request's method, path with query, and headers.
    """

    isLeaf = True

    def __init__(self, kube: FakeKube) -> None:
        super().__init__()
        self.kube = kube
        self.answers: list[Canned | None] = []
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.streams: list[tuple[Request, ResourceType]] = []
        self.forgotten = 0
        self._log: list[tuple[int, ResourceType, str, dict[str, Any]]] = []
        for kind in KINDS.values():
            kube._watchers.append((kind, partial(self._happened, kind)))

    def cut(self) -> None:
        """Break every watch under way, in the middle of a line."""
        for request, _ in list(self.streams):
            request.write(b'{"type": "ADDED", "obj')
            _abort(request)

    def end(self) -> None:
        """End every watch under way, as a timeout does."""
        for request, _ in list(self.streams):
            request.finish()

    def say(self, event: dict[str, Any]) -> None:
        """Send one event to every watch under way."""
        for request, _ in list(self.streams):
            request.write(json.dumps(event).encode() + b"\n")

    def _happened(self, kind: ResourceType, event: tuple[str, Any, Any]) -> None:
        what, _, obj = event
        self._log.append((int(meta.resource_version(obj)), kind, what, obj))
        for request, watched in list(self.streams):
            if watched == kind:
                _write(request, what, obj)

    def render(self, request: Request) -> Any:
        method, path = request.method.decode(), request.uri.decode()
        headers = {
            name.decode().lower(): values[0].decode()
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        self.seen.append((method, path, headers))
        request.setHeader("content-type", "application/json")
        if self.answers and (canned := self.answers.pop(0)) is not None:
            status, extra, body = canned
            if status == 0:
                _abort(request)
                return NOT_DONE_YET
            request.setResponseCode(status)
            for name, value in extra.items():
                request.setHeader(name, value)
            return body
        try:
            return self._serve(request, method, headers)
        except KubeError as error:
            return _refuse(request, error)

    def _serve(self, request: Request, method: str, headers: dict[str, str]) -> Any:
        kind, namespace, name, subresource = parse_path(request.path.decode())
        query = {name.decode(): values[0].decode() for name, values in request.args.items()}
        assert request.content is not None
        body = request.content.read()
        kube, about = self.kube, {"subresource": subresource}
        if query.get("watch") == "true":
            return self._watch(request, kind, query["resourceVersion"])
        result: Deferred[dict[str, Any]]
        if method == "GET" and name:
            result = kube.get(kind, namespace, name)
        elif method == "GET":
            labels = query.get("labelSelector", "")
            result = kube.list(kind, namespace, label_selector=labels)
            result.addCallback(_page, int(query.get("limit", "0")), query.get("continue", ""))
        elif method == "POST":
            request.setResponseCode(201)
            result = kube.create(kind, namespace, body, name=name, **about)
        elif method == "PUT":
            result = kube.update(kind, namespace, name, body, **about)
        elif method == "PATCH":
            how = headers["content-type"]
            result = kube.patch(kind, namespace, name, body, content_type=how, **about)
        else:
            result = kube.delete(kind, namespace, name, options=body or None)
        answers: list[bytes] = []
        encoded = result.addCallback(_encode)

        def refuse(failure: Failure) -> bytes:
            assert isinstance(failure.value, KubeError)
            return _refuse(request, failure.value)

        encoded.addErrback(refuse).addCallback(answers.append)
        return answers[0]

    def _watch(self, request: Request, kind: ResourceType, since: str) -> Any:
        if int(since) < self.forgotten:
            raise kube_error(410, "Expired", "too old resource version")
        request.write(b"")
        self.streams.append((request, kind))
        for version, logged, what, obj in self._log:
            if logged == kind and version > int(since):
                _write(request, what, obj)
        request.notifyFinish().addBoth(lambda _: self.streams.remove((request, kind)))
        return NOT_DONE_YET


def parse_path(path: str) -> tuple[ResourceType, str, str, str]:
    """Take an API path apart."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    group, version, rest = ("", parts[1], parts[2:])
    if parts[0] != "api":
        group, version, rest = parts[1], parts[2], parts[3:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    kind = KINDS.get((group, version, rest[0]))
    if kind is None:
        raise kube_error(404, "NotFound", "the server could not find the requested resource")
    name, subresource = [*rest[1:], "", ""][:2]
    return kind, namespace, name, subresource


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


def _abort(request: Request) -> None:
    channel: Any = request.channel
    channel.transport.abortConnection()


def _page(whole: dict[str, Any], limit: int, continue_: str) -> dict[str, Any]:
    if continue_ == "expired":
        raise kube_error(410, "Expired", "The provided continue parameter is too old")
    items = whole["items"]
    for item in items:
        del item["kind"], item["apiVersion"]
    start = int(continue_ or 0)
    end = start + limit if limit else len(items)
    if end < len(items):
        whole["metadata"]["continue"] = str(end)
    return {**whole, "items": items[start:end]}


def _refuse(request: Request, error: KubeError) -> bytes:
    request.setResponseCode(error.code)
    return json.dumps(error.status).encode()


def _write(request: Request, what: str, obj: dict[str, Any]) -> None:
    request.write(json.dumps({"type": what, "object": obj}).encode() + b"\n")

"""The verbs of resource requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import yaml
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from kubeedge_tx.apiserver import bodies, patches, pods, status
from kubeedge_tx.apiserver.answers import Answer, Renderer, answer
from kubeedge_tx.apiserver.auth import admit
from kubeedge_tx.apiserver.calls import Call
from kubeedge_tx.apiserver.deletion import Deleted, DeleteOptions, Deletion
from kubeedge_tx.apiserver.lists import check_version, read_list
from kubeedge_tx.apiserver.meta import Object
from kubeedge_tx.apiserver.registry import KindInfo
from kubeedge_tx.apiserver.reviews import Reviews
from kubeedge_tx.apiserver.selection import Selection
from kubeedge_tx.apiserver.shelf import ADDED, Compacted, Item
from kubeedge_tx.apiserver.verbs import Verbs, served
from kubeedge_tx.apiserver.watch import Lines, WatchStream, error_line, too_old

JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC_PATCH: Final = "application/strategic-merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"

WATCH_SECONDS: Final = 1800
"""How long a watch lasts that does not say."""

_READING: Final = ("get", "list", "watch")

Reply = Answer | Deferred[Answer] | None
"""``None`` for a watch, which writes by itself."""


class Handlers:
    """Answers resource requests.

    :param clock: ends watches in time.
    :param write_backlog: writes waiting for the disk beyond which new ones are refused with 429.
    """

    def __init__(
        self,
        verbs: Verbs,
        reviews: Reviews,
        renderer: Renderer,
        clock: IReactorTime,
        *,
        write_backlog: int,
    ) -> None:
        self._write_backlog = write_backlog
        self._verbs = verbs
        self._store = verbs.store
        self._deletion = Deletion(verbs)
        self._reviews = reviews
        self._renderer = renderer
        self._clock = clock
        self._watches: dict[WatchStream, None] = {}
        self._table: dict[str, Callable[[Call], Reply]] = {
            "get": self._get,
            "list": self._list,
            "watch": self._watch,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }

    def handle(self, call: Call) -> Reply:
        """Answer one request.

        :raises ApiError: the answer is that error.
        """
        if call.target.verb not in _READING and self._store.backlog > self._write_backlog:
            raise status.too_many_requests(
                "the server has too many writes waiting for the disk; try again", 1
            )
        return self._table[call.target.verb](call)

    def end_watches(self) -> None:
        """Finish every watch."""
        for stream in tuple(self._watches):
            stream.end()

    def _get(self, call: Call) -> Answer:
        target = call.target
        item = self._store.get(target.info.resource, target.namespace, target.name)
        if item is None:
            raise status.not_found(target.info, target.name)
        return self._show(call, 200, item)

    def _list(self, call: Call) -> Answer:
        info = call.target.info
        if not info.stored:
            raise status.method_not_allowed()
        items, metadata = read_list(self._store, self._selection(call), call)
        body = self._renderer.many(info, items, metadata, call.form, call.include_object)
        return Answer(200, body, call.form.content_type)

    def _watch(self, call: Call) -> None:
        info, form = call.target.info, call.form
        selection = self._selection(call)
        shelf = self._store.shelf(info.resource)
        lines = Lines(info, selection, form, call.include_object, self._renderer)
        version = check_version(call.option("resourceVersion"))
        send_initial = call.option("sendInitialEvents")
        bookmarks = call.flag("allowWatchBookmarks")
        if send_initial and call.option("resourceVersionMatch") != "NotOlderThan":
            raise status.ApiError(
                422,
                "Invalid",
                'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: '
                "resourceVersionMatch is required when sendInitialEvents is set, and must be "
                '"NotOlderThan"',
                {"group": "meta.k8s.io", "kind": "ListOptions"},
            )
        initial: list[bytes] = []
        position = shelf.end
        failure = b""
        whole = call.flag("sendInitialEvents") if send_initial else version is None
        if whole:
            initial = [lines.line(ADDED, item) for item in selection.pick(shelf)]
            if send_initial and bookmarks:
                initial.append(lines.bookmark(self._store.version, initial_end=True))
        elif version is not None:
            try:
                position = shelf.position(version)
            except Compacted as compacted:
                failure = error_line(too_old(version, compacted.oldest))
        request = call.request
        request.setHeader(b"content-type", b"application/json")
        if failure:
            request.write(failure)
            request.finish()
            return
        timeout = call.number("timeoutSeconds")
        stream = WatchStream(
            request,
            self._clock,
            self._store,
            lines,
            info.resource,
            initial=initial,
            position=position,
            timeout=float(timeout or WATCH_SECONDS),
            bookmarks=bookmarks,
            ended=self._watch_ended,
        )
        self._watches[stream] = None
        stream.start()

    def _watch_ended(self, stream: WatchStream) -> None:
        self._watches.pop(stream, None)

    def _create(self, call: Call) -> Reply:
        target = call.target
        info = target.info
        if target.subresource:
            return self._create_subresource(call)
        if not info.stored:
            review = call.decode(info.kind, info.api_version)
            return answer(201, self._reviews.review(info, review, call.user), call.form)
        obj = call.decode(info.kind, info.api_version)
        admit(call.user, target, obj)
        self._check_fields(call, info, obj)
        dry_run = call.dry_run
        done = self._verbs.create(info, target.namespace, obj, user=call.user, dry_run=dry_run)
        return done.addCallback(lambda item: self._show(call, 201, item))

    def _create_subresource(self, call: Call) -> Reply:
        target = call.target
        namespace, name = target.namespace, target.name
        if target.subresource == "token":
            body = call.decode("TokenRequest", "authentication.k8s.io/v1")
            account = self._verbs.find(target.info, namespace, name)
            made = self._reviews.token(account, body, self._verbs.now())
            return answer(201, made, call.form)
        if target.subresource == "binding":
            body = call.decode("Binding", "v1")
            where = body.get("target")
            node = where.get("name") if isinstance(where, dict) else ""
            done = pods.bind(
                self._verbs,
                target.info,
                namespace,
                name,
                node if isinstance(node, str) else "",
                dry_run=call.dry_run,
            )
            success = _success(201)
            return success if done is None else done.addCallback(lambda _: success)
        body = call.decode("Eviction", "policy/v1")
        options = body.get("deleteOptions")
        evicting = self._deletion.delete(
            target.info,
            namespace,
            name,
            DeleteOptions.parse(options if isinstance(options, dict) else {}, dry_run=call.dry_run),
        )
        return evicting.addCallback(lambda _: _success(201))

    def _update(self, call: Call) -> Reply:
        target = call.target
        info = target.info
        obj = call.decode(info.kind, info.api_version)
        self._check_fields(call, info, obj)
        done = self._verbs.update(
            info,
            target.namespace,
            target.name,
            obj,
            subresource=target.subresource,
            dry_run=call.dry_run,
        )
        return done.addCallback(lambda item: self._show(call, 200, item))

    def _patch(self, call: Call) -> Reply:
        target = call.target
        info = target.info
        how = call.field_validation
        patch = self._patcher(info, call)
        found = call.duplicates()

        def apply(old: Object) -> Object:
            try:
                new = patch(old)
            except patches.PatchError as error:
                raise _patch_error(error) from None
            obj = bodies.as_object(new, info.kind, info.api_version)
            self._verbs.content.check_fields(info, obj, found, how, call.warnings)
            return obj

        done = self._verbs.patch(
            info,
            target.namespace,
            target.name,
            apply,
            subresource=target.subresource,
            dry_run=call.dry_run,
        )
        return done.addCallback(lambda item: self._show(call, 200, item))

    def _patcher(self, info: KindInfo, call: Call) -> Callable[[Object], Any]:
        media = bodies.media_type(call.content_type)
        if media == APPLY_PATCH:
            raise status.unsupported_media_type(
                "server-side apply (application/apply-patch+yaml) is not served here; use "
                "`kubectl apply` without --server-side, or one of "
                f"{JSON_PATCH}, {MERGE_PATCH}, {STRATEGIC_PATCH}"
            )
        if media not in (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH):
            raise status.unsupported_media_type("415: Unsupported Media Type")
        if media == STRATEGIC_PATCH and info.crd is not None:
            raise status.unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: "
                f"{JSON_PATCH}, {MERGE_PATCH}"
            )
        patch = _read_patch(call.body)
        if media == JSON_PATCH:
            return lambda old: patches.apply_json_patch(old, patch)
        if media == MERGE_PATCH:
            return lambda old: patches.apply_merge_patch(old, patch)
        return lambda old: patches.apply_strategic_merge(old, patch, info.kind)

    def _delete(self, call: Call) -> Reply:
        target = call.target
        info = target.info
        done = self._deletion.delete(info, target.namespace, target.name, call.delete_options())

        def deleted(result: Deleted) -> Answer:
            if result.gone and not info.returns_deleted:
                uid = result.obj["metadata"]["uid"]
                return answer(200, status.deleted(info, target.name, uid), call.form)
            body = self._renderer.value(info, served(info, result.obj), call.form)
            return Answer(200, body, call.form.content_type)

        return done.addCallback(deleted)

    def _delete_collection(self, call: Call) -> Reply:
        info = call.target.info
        options = call.delete_options()
        items, metadata = read_list(self._store, self._selection(call), call)
        body = self._renderer.many(info, items, metadata, call.form)
        done = Deferred.fromCoroutine(self._deletion.delete_collection(info, items, options))
        return done.addCallback(lambda _: Answer(200, body, call.form.content_type))

    def _selection(self, call: Call) -> Selection:
        return Selection.parse(
            call.target.info,
            call.target.namespace,
            call.option("labelSelector"),
            call.option("fieldSelector"),
        )

    def _check_fields(self, call: Call, info: KindInfo, obj: Object) -> None:
        self._verbs.content.check_fields(
            info, obj, call.duplicates(), call.field_validation, call.warnings
        )

    def _show(self, call: Call, code: int, item: Item) -> Answer:
        body = self._renderer.one(call.target.info, item, call.form, call.include_object)
        return Answer(code, body, call.form.content_type)


def _success(code: int) -> Answer:
    return answer(
        code,
        {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code},
    )


def _read_patch(body: bytes) -> Any:
    try:
        # kubectl may send YAML where the media type says JSON; Kubernetes reads both.
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        try:
            return bodies.read_yaml(body) if body.lstrip()[:1] not in (b"{", b"[") else _bad(body)
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
            return _bad(body)


def _bad(_: bytes) -> Any:
    raise status.bad_request("error decoding patch: it is not well-formed JSON")


def _patch_error(error: patches.PatchError) -> status.ApiError:
    # kube-apiserver has details for every reason but BadRequest.
    details: dict[str, Any] | None = None if error.reason == "BadRequest" else {}
    return status.ApiError(error.code, error.reason, error.message, details)

"""The questions of edges, taken apart, and the shapes their answers have.

Pure. Source: KubeEdge ``cloud/pkg/edgecontroller/controller/upstream.go``; shapes as recorded
from it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from kubeedge_tx.api import meta
from kubeedge_tx.beehive import route
from kubeedge_tx.beehive.message import Message
from kubeedge_tx.errors import KubeError, RouteError

if TYPE_CHECKING:
    from kubeedge_tx.cloud.edgecontroller.claims import Claim


@dataclass(frozen=True, slots=True)
class Request:
    """One message from an edge."""

    message: Message
    node: str
    """Who asks, as its certificate says."""
    namespace: str
    """Empty for cluster scope."""
    type: str
    name: str
    """Empty for the list form."""
    claim: Claim | None = None
    """Of the session that it came from; ``None``: nobody asks whose the node is."""
    as_node: str = ""
    """In whose name the API server is called; empty: in our own, and it judges nothing."""

    @property
    def operation(self) -> str:
        """What is asked for."""
        return self.message.route.operation

    def body(self) -> Any:
        """Read the content; an object, and a string that holds its JSON, mean the same.

        :raises msgspec.DecodeError: it is no JSON.
        """
        content = self.message.read()
        return msgspec.json.decode(content) if isinstance(content, str) else content

    def body_object(self) -> dict[str, Any]:
        """Read the content, which must be an object.

        :raises KubeError: 400, it is not.
        """
        try:
            found = self.body()
        except (msgspec.DecodeError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise refusal(400, "BadRequest", f"the content for {self.type} must be an object")
        return found


def parse(
    message: Message, claim_of: Callable[[str], Claim | None], *, impersonate: bool
) -> Request:
    """Take a message from an edge apart.

    :param claim_of: the claim of a node's present session.
    :param impersonate: whether the API server judges what a node may do.

    :raises RouteError: its resource is not ``node/<node>/<namespace>/<type>[/<name>]``.
    """
    node, rest = route.split_node(message.route.resource)
    if rest.count("/") > 2:
        raise RouteError(f"{rest[:200]!r} is not <namespace>/<type>/<name>")
    found = route.parse(rest)
    namespace = "" if found.namespace == route.CLUSTER else found.namespace
    as_node = node if impersonate else ""
    return Request(message, node, namespace, found.kind, found.name, claim_of(node), as_node)


def refusal(code: int, reason: str, text: str) -> KubeError:
    """Make an error that the API server could have made."""
    status = {"status": "Failure", "message": text, "reason": reason, "code": code}
    return KubeError(text, code=code, reason=reason, status=status)


class Denied(KubeError):
    """Something that a node may not have or do.

    :param why: one of the reasons of :mod:`kubeedge_tx.observe.denials`.
    :param text: what the node is told.
    """

    def __init__(self, why: str, text: str) -> None:
        status = {"status": "Failure", "message": text, "reason": "Forbidden", "code": 403}
        super().__init__(text, code=403, reason="Forbidden", status=status)
        self.why = why


def error_value(error: KubeError) -> dict[str, Any]:
    """Write an error as Go does: ``{"ErrStatus": <metav1.Status>}``."""
    status = dict(error.status or {})
    if not status.get("code"):  # no answer at all, or one that was no Status
        status = {
            "status": "Failure",
            "message": str(error),
            "reason": error.reason or "ServiceUnavailable",
            "code": error.code or 503,
        }
    for field in ("kind", "apiVersion"):
        status.pop(field, None)
    return {"ErrStatus": {"metadata": {}, **status}}


class Shape(enum.Enum):
    """How an answer is written."""

    OBJECT = "object"
    """``{"Object", "Err"}``, one of them ``null``."""
    VERSIONED = "versioned object"
    """The same, and the header says the object's version."""
    QUERY = "query"
    """The object itself, with its version. An error is a message of operation ``error``.

    KubeEdge answers ``{"ErrStatus"}`` with operation ``response``, which its own edge stores as
    if it were the ConfigMap or Secret; from an ``error`` it makes a failed call, stores
    nothing, and asks again later.
    """
    TOKEN = "token"  # noqa: S105 - no password
    """Like QUERY, without a version: it is no stored object."""
    DONE = "done"
    """``"OK"``, or an error value."""
    SILENT = "silent"
    """No answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes into the message."""

    operation: str
    content: Any
    resource_version: str = ""


def success(shape: Shape, result: Mapping[str, Any] | None) -> Answer | None:
    """Shape what a call brought; ``None`` if nothing is to be answered."""
    if shape is Shape.SILENT:
        return None
    obj = {} if result is None else meta.without_managed_fields(dict(result))
    version = meta.resource_version(obj)
    if shape is Shape.DONE:
        return Answer("response", "OK", version)
    if shape is Shape.QUERY:
        return Answer("response", obj, version)
    if shape is Shape.TOKEN:
        return Answer("response", obj)
    content = {"Object": obj, "Err": None}
    return Answer("response", content, version if shape is Shape.VERSIONED else "")


def failure(shape: Shape, error: KubeError) -> Answer | None:
    """Shape an error; ``None`` if nothing is to be answered."""
    if shape is Shape.SILENT:
        return None
    if shape in (Shape.QUERY, Shape.TOKEN):
        text = meta.mapping({"status": error.status}, "status").get("message") or error
        return Answer("error", str(text))
    if shape is Shape.DONE:
        return Answer("response", error_value(error))
    return Answer("response", {"Object": None, "Err": error_value(error)})

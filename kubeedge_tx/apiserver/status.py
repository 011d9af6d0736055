"""Errors of the API as Status objects, in the words kube-apiserver uses.

Source of the texts: apimachinery ``pkg/api/errors`` and ``vectors/kube-api.jsonl``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubeedge_tx.apiserver.fielderrors import FieldError
from kubeedge_tx.apiserver.registry import KindInfo
from kubeedge_tx.errors import KubeEdgeError


class ApiError(KubeEdgeError):
    """A request is answered with this Status.

    :param code: the HTTP status.
    :param reason: one of Kubernetes' reasons; may be empty.
    :param retry_after: seconds, sent as ``Retry-After``.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: dict[str, Any] | None = None,
        *,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = details
        self.retry_after = retry_after

    def status(self) -> dict[str, Any]:
        """The object to send."""
        body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
        }
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = self.details
        body["code"] = self.code
        return body


def _details(info: KindInfo, name: str, *, kind: str = "") -> dict[str, Any]:
    details: dict[str, Any] = {}
    if name:
        details["name"] = name
    if info.group:
        details["group"] = info.group
    details["kind"] = kind or info.plural
    return details


def bad_request(message: str) -> ApiError:
    """400."""
    return ApiError(400, "BadRequest", message)


def unauthorized() -> ApiError:
    """401."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def forbidden(info: KindInfo, name: str, why: str, causes: Any = None) -> ApiError:
    """403 for one object.

    :param causes: entries of ``details.causes``, if there is more to say.
    """
    details = _details(info, name)
    if causes:
        details["causes"] = causes
    quoted = f' "{name}"' if name else ""
    return ApiError(
        403, "Forbidden", f"{_qualified(info, info.plural)}{quoted} is forbidden: {why}", details
    )


def forbidden_path(user: str, verb: str, path: str) -> ApiError:
    """403 for a path that names no resource."""
    return ApiError(
        403,
        "Forbidden",
        f'forbidden: User "{user}" cannot {verb} path "{path}"',
        {},
    )


def not_found(info: KindInfo, name: str) -> ApiError:
    """404 for an object."""
    return ApiError(
        404, "NotFound", f'{_qualified(info, info.plural)} "{name}" not found', _details(info, name)
    )


def no_such_resource() -> ApiError:
    """404 for a path nobody serves."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def out_of_reach(subresource: str, namespace: str, name: str) -> ApiError:
    """501 for what would need a way into an edge: edges are behind firewalls and dial out."""
    verb = {"log": "logs", "exec": "exec"}.get(subresource)
    instead = f": on its node, keadm ctl {verb} -n {namespace} {name}" if verb else ""
    return ApiError(
        501, "NotImplemented", f"{subresource} does not reach into edge nodes{instead}", {}
    )


def method_not_allowed() -> ApiError:
    """405."""
    return ApiError(
        405,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
        {},
    )


def not_acceptable(accepted: Sequence[str]) -> ApiError:
    """406."""
    return ApiError(
        406,
        "NotAcceptable",
        f"only the following media types are accepted: {', '.join(accepted)}",
    )


def already_exists(info: KindInfo, name: str) -> ApiError:
    """409 for a name that is taken."""
    return ApiError(
        409,
        "AlreadyExists",
        f'{_qualified(info, info.plural)} "{name}" already exists',
        _details(info, name),
    )


def conflict(info: KindInfo, name: str, why: str, *, kind: str = "") -> ApiError:
    """409 for a change that does not fit the object's state.

    :param kind: stands in place of the plural: ``pods/binding``.
    """
    what = kind or _qualified(info, info.plural)
    return ApiError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {what} "{name}": {why}',
        _details(info, name, kind=kind),
    )


MODIFIED = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


def expired(message: str) -> ApiError:
    """410."""
    return ApiError(410, "Expired", message)


def too_large(limit: int) -> ApiError:
    """413."""
    return ApiError(
        413,
        "RequestEntityTooLarge",
        f"Request entity too large: limit is {limit}",
        {},
    )


def unsupported_media_type(message: str) -> ApiError:
    """415."""
    return ApiError(415, "UnsupportedMediaType", message, {})


def invalid(info: KindInfo, name: str, errors: Sequence[FieldError]) -> ApiError:
    """422 with its causes."""
    texts = list(dict.fromkeys(str(error) for error in errors))
    text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    details: dict[str, Any] = {}
    if name:
        details["name"] = name
    if info.group:
        details["group"] = info.group
    details["kind"] = info.kind
    details["causes"] = [
        {"reason": e.reason, "message": e.message, "field": e.field} for e in errors
    ]
    return ApiError(
        422, "Invalid", f'{_qualified(info, info.kind)} "{name}" is invalid: {text}', details
    )


def too_many_requests(message: str, retry_after: int) -> ApiError:
    """429."""
    return ApiError(
        429,
        "TooManyRequests",
        message,
        {"retryAfterSeconds": retry_after},
        retry_after=retry_after,
    )


def internal(message: str) -> ApiError:
    """500."""
    return ApiError(
        500,
        "InternalError",
        f"Internal error occurred: {message}",
        {"causes": [{"message": message}]},
    )


def deleted(info: KindInfo, name: str, uid: str) -> dict[str, Any]:
    """The Status that DELETE answers with."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {**_details(info, name), "uid": uid},
    }


def _qualified(info: KindInfo, word: str) -> str:
    return f"{word}.{info.group}" if info.group else word

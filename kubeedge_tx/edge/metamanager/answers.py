"""What an answer from the cloud says: done, here is an object, or no.

Source: KubeEdge ``edge/pkg/metamanager`` and ``edge/pkg/metamanager/client``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from kubeedge_tx.beehive import names
from kubeedge_tx.beehive.message import OK, Message

NOT_FOUND: Final = "NotFound"

_FINAL_REASONS: Final = frozenset(
    {
        "NotFound",
        "Gone",
        "Conflict",
        "AlreadyExists",
        "Invalid",
        "Forbidden",
        "BadRequest",
        "MethodNotAllowed",
        "NotAcceptable",
        "UnsupportedMediaType",
        "RequestEntityTooLarge",
    }
)
_FINAL_CODES: Final = frozenset({400, 403, 404, 405, 406, 409, 410, 413, 415, 422})


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, read. Exactly one of ``ok``, ``object`` and ``error`` says something."""

    ok: bool = False
    """The bare ``"OK"``."""
    object: Mapping[str, Any] | None = None
    error: str = ""
    """The cloud's text; names objects, never what is in them."""
    reason: str = ""
    """Kubernetes' reason, where the cloud gave one."""
    code: int = 0
    wrapped: bool = False
    """It came as ``{"Object": …, "Err": …}``."""

    @property
    def final(self) -> bool:
        """Whether asking the same again would be refused again."""
        return self.reason in _FINAL_REASONS or self.code in _FINAL_CODES


def read_answer(message: Message) -> Answer:
    """Read the content of a message with a parent id; nothing in it raises.

    An error value that a Go cloud sends in place of an object, ``{"ErrStatus": …}`` under
    operation ``response``, reads as the error it is: taken for an object, it would be stored
    as an empty ConfigMap.
    """
    if bytes(message.content) == bytes(OK) and message.route.operation != names.ERROR:
        return Answer(ok=True)
    try:
        content = message.read()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Answer(error="the cloud's answer is not JSON")
    if message.route.operation == names.ERROR:
        return _refused(content)
    if not isinstance(content, dict):
        return Answer(error=f"the cloud answered with a {type(content).__name__}")
    if "ErrStatus" in content:
        return _refused(content)
    if "Object" in content and "Err" in content:
        # An empty object is what Go makes of a nil error behind an interface.
        if content["Err"]:
            refused = _refused(content["Err"])
            return Answer(
                error=refused.error, reason=refused.reason, code=refused.code, wrapped=True
            )
        found = content["Object"]
        if not isinstance(found, dict):
            return Answer(error="the cloud answered without an object", wrapped=True)
        return Answer(object=found, wrapped=True)
    return Answer(object=content)


def _refused(content: Any) -> Answer:
    if isinstance(content, str):
        missing = "not found" in content.lower()
        return Answer(
            error=content or "the cloud refused without a text",
            reason=NOT_FOUND if missing else "",
            code=404 if missing else 0,
        )
    status = content.get("ErrStatus", content) if isinstance(content, dict) else {}
    if not isinstance(status, dict):
        status = {}
    reason, code, text = status.get("reason"), status.get("code"), status.get("message")
    reason = reason if isinstance(reason, str) else ""
    text = text if isinstance(text, str) and text else reason or "the cloud refused without a text"
    if reason == NOT_FOUND and "not found" not in text:
        text = f"not found: {text}"
    return Answer(error=text, reason=reason, code=code if isinstance(code, int) else 0)

"""Service-account tokens: under which key they are kept, and for how long they are good.

Source: KubeEdge ``edge/pkg/metamanager/client/serviceaccount.go``, after the kubelet's
``pkg/kubelet/token``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from kubeedge_tx.api.meta import mapping
from kubeedge_tx.api.timestamps import seconds_since_1970

_MAX_AGE_SECONDS: Final = 24 * 3600
_REFRESH_SHARE: Final = 0.8


def token_key(account: str, namespace: str, request: Mapping[str, Any]) -> str:
    """Render the key of a TokenRequest as Go prints it, so that upstream's rows are found."""
    spec = mapping(request, "spec")
    audiences = spec.get("audiences")
    listed = (
        "[]string{" + ", ".join(_quoted(each) for each in audiences) + "}"
        if isinstance(audiences, list)
        else "[]string(nil)"
    )
    bound = mapping(spec, "boundObjectRef")
    reference = ", ".join(
        f"{label}:{_quoted(bound.get(field, ''))}"
        for label, field in (
            ("Kind", "kind"),
            ("APIVersion", "apiVersion"),
            ("Name", "name"),
            ("UID", "uid"),
        )
    )
    return (
        f"{_quoted(account)}/{_quoted(namespace)}/{listed}/{_seconds(spec)}/"
        f"v1.BoundObjectReference{{{reference}}}"
    )


def bound_to(uid: str) -> str:
    """What the key of every token contains that is bound to the object ``uid``."""
    return f"UID:{_quoted(uid)}}}"


def is_fresh(token: Mapping[str, Any], now_seconds: float) -> bool:
    """Tell whether a token has a fifth of its life left and is not older than a day."""
    expires = _expires(token)
    life = _seconds(mapping(token, "spec"))
    if expires is None or life <= 0:
        return False
    issued = expires - life
    return now_seconds < issued + min(life * _REFRESH_SHARE, _MAX_AGE_SECONDS)


def is_valid(token: Mapping[str, Any], now_seconds: float) -> bool:
    """Tell whether a token has not expired yet: better than none while the cloud is away."""
    expires = _expires(token)
    return expires is not None and now_seconds < expires


def _quoted(text: object) -> str:
    return json.dumps(str(text), ensure_ascii=False)


def _seconds(spec: Mapping[str, Any]) -> int:
    found = spec.get("expirationSeconds")
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def _expires(token: Mapping[str, Any]) -> float | None:
    return seconds_since_1970(mapping(token, "status").get("expirationTimestamp"))

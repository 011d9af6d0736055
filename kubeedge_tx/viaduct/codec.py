"""JSON text to messages and back, as KubeEdge writes it on the WebSocket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from kubeedge_tx.beehive.message import Header, Message, Route
from kubeedge_tx.errors import WireError

MAX_FRAME_BYTES: Final = 32 * 1024 * 1024
"""Largest frame accepted. Source: KubeEdge ``pkg/viaduct/pkg/packer/package.go``."""

BAD_FRAME: Final = 4400
"""WebSocket close code for a frame that is no message."""

TOO_BIG: Final = 4413
"""WebSocket close code for a message above :data:`MAX_FRAME_BYTES`."""

_INT64: Final = 1 << 63

_decoder: Final = msgspec.json.Decoder(Message)
_encoder: Final = msgspec.json.Encoder()
_parts: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_header_text: Final = {
    "msg_id": "msg_id",
    "parent_msg_id": "parent_id",
    "resourceversion": "resource_version",
}
_route_text: Final = ("source", "group", "operation", "resource")


def decode(frame: bytes) -> Message:
    """Read one message; keys we do not know are ignored.

    ``null`` stands for the zero value and ``{}`` is an empty message, as for a Go peer.
    Keys in another letter case are matched once something required is missing under its
    own name.

    :param frame: the payload of one WebSocket message.
    :raises WireError: not JSON, nested too deeply, too big, or a field of the wrong type.
        The text names the field and never quotes the content, which may be a Secret.
    """
    if len(frame) > MAX_FRAME_BYTES:
        raise WireError(
            f"a message of {len(frame)} bytes, more than {MAX_FRAME_BYTES}", close_code=TOO_BIG
        )
    try:
        message = _decoder.decode(frame)
    except msgspec.ValidationError:
        message = _decode_as_go(frame)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(f"not JSON: {_safe(error)}", close_code=BAD_FRAME) from None
    except RecursionError:
        raise WireError("JSON nested too deeply", close_code=BAD_FRAME) from None
    if not -_INT64 <= message.header.timestamp < _INT64:
        raise WireError("header.timestamp does not fit 64 bits", close_code=BAD_FRAME)
    return message


def encode(message: Message) -> bytes:
    """Write one message; empty fields are left out, as Go does."""
    return _encoder.encode(message)


def _safe(error: Exception) -> str:
    """Keep what the decoder says, unless it would quote bytes of the frame."""
    return str(error) if isinstance(error, msgspec.DecodeError) else "not UTF-8"


def _decode_as_go(frame: bytes) -> Message:
    """Read what the strict decoder refused, by the rules of Go's ``encoding/json``."""
    try:
        top = _folded(_parts.decode(frame))
        header = _part(top, "header")
        route = _part(top, "route")
        return Message(
            Header(
                timestamp=_integer(header, "header.timestamp"),
                sync=_boolean(header, "header.sync"),
                **{
                    field: _text(header, "header", key)  # type: ignore[arg-type]
                    for key, field in _header_text.items()
                },
            ),
            Route(**{key: _text(route, "route", key) for key in _route_text}),
            top.get("content", msgspec.Raw(b"null")),
        )
    except msgspec.ValidationError as error:
        raise WireError(str(error), close_code=BAD_FRAME) from None
    except msgspec.DecodeError as error:
        raise WireError(f"not JSON: {_safe(error)}", close_code=BAD_FRAME) from None
    except RecursionError:
        raise WireError("JSON nested too deeply", close_code=BAD_FRAME) from None


def _folded(part: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    """Give every key its lower-case form; one that has it already wins."""
    return {key.lower(): value for key, value in part.items()} | {
        key: value for key, value in part.items() if key == key.lower()
    }


def _part(top: Mapping[str, msgspec.Raw], name: str) -> dict[str, msgspec.Raw]:
    value = top.get(name)
    if value is None:
        return {}
    try:
        return _folded(msgspec.json.decode(value, type=dict[str, msgspec.Raw] | None) or {})
    except msgspec.ValidationError:
        raise WireError(f"{name} is not an object", close_code=BAD_FRAME) from None


def _text(part: Mapping[str, msgspec.Raw], where: str, key: str) -> str:
    value = part.get(key)
    if value is None:
        return ""
    try:
        return msgspec.json.decode(value, type=str | None) or ""
    except msgspec.ValidationError:
        raise WireError(f"{where}.{key} is not a string", close_code=BAD_FRAME) from None


def _integer(part: Mapping[str, msgspec.Raw], path: str) -> int:
    value = part.get(path.rpartition(".")[2])
    if value is None:
        return 0
    # Go refuses 1.0 and 1e3 where an integer belongs; msgspec takes whole floats for integers.
    if any(character in b".eE" for character in bytes(value)):
        raise WireError(f"{path} is not an integer", close_code=BAD_FRAME)
    try:
        return msgspec.json.decode(value, type=int | None) or 0
    except msgspec.ValidationError:
        raise WireError(f"{path} is not an integer", close_code=BAD_FRAME) from None


def _boolean(part: Mapping[str, msgspec.Raw], path: str) -> bool:
    value = part.get(path.rpartition(".")[2])
    if value is None:
        return False
    try:
        return bool(msgspec.json.decode(value, type=bool | None))
    except msgspec.ValidationError:
        raise WireError(f"{path} is neither true nor false", close_code=BAD_FRAME) from None

"""What an object of a kind may contain: built-in kinds by rules, custom ones by schema."""

from __future__ import annotations

from typing import Any

from kubeedge_tx.apiserver import validation
from kubeedge_tx.apiserver.fielderrors import FieldError
from kubeedge_tx.apiserver.meta import Object
from kubeedge_tx.apiserver.registry import KindInfo
from kubeedge_tx.apiserver.schema import Schema
from kubeedge_tx.apiserver.status import ApiError, bad_request, invalid

STRICT = "Strict"
WARN = "Warn"
IGNORE = "Ignore"


class Content:
    """Checks and completes objects before they are stored."""

    def __init__(self) -> None:
        self._schemas: dict[tuple[str, str], tuple[Any, Schema | None]] = {}

    def check_fields(
        self, info: KindInfo, obj: Object, found: list[str], how: str, warnings: list[str]
    ) -> None:
        """Complain about fields nobody knows.

        :param found: complaints from reading the body (duplicate fields).
        :param how: ``Strict``, ``Warn`` or ``Ignore``.
        :raises ApiError: 400 if there are any and ``how`` is Strict.
        """
        if how == IGNORE:
            return
        schema = self._schema(info)
        if schema is not None:
            unknown = schema.unknown_fields(obj)
        elif info.crd is None:
            unknown = validation.unknown_fields(info.kind, obj)
        else:
            unknown = []
        found = [f'unknown field "{path}"' for path in unknown] + found
        if found and how == STRICT:
            raise strict_error(info, found)
        warnings.extend(found)

    def created(self, info: KindInfo, obj: Object) -> Object:
        """Drop what a client may not set and fill in defaults.

        :raises ApiError: 400 if a value has the wrong type.
        """
        if info.crd is not None:
            return self._custom(info, obj)
        return self._built_in(info, obj, None)

    def updated(self, info: KindInfo, obj: Object, old: Object, subresource: str) -> Object:
        """The same for an update; a subresource gets no defaults.

        :raises ApiError: 400 if a value has the wrong type.
        """
        if info.crd is not None:
            return self._custom(info, obj)
        return self._built_in(info, obj, old, whole=not subresource)

    def validate(
        self, info: KindInfo, obj: Object, old: Object | None, subresource: str = ""
    ) -> None:
        """See that an object may be stored.

        :raises ApiError: 422 with all causes.
        """
        errors: list[FieldError]
        if info.crd is not None:
            before = None if old is None else old["metadata"]
            errors = validation.validate_metadata(obj["metadata"], info.namespaced, before)
            schema = self._schema(info)
            if schema is not None:
                errors = errors + schema.validate(obj, old)
        elif subresource == "status" and old is not None:
            errors = validation.validate_status(info.kind, obj, old)
        else:
            errors = validation.validate(info.kind, obj, old)
        if errors:
            raise invalid(info, obj["metadata"].get("name", ""), errors)

    def _built_in(
        self, info: KindInfo, obj: Object, old: Object | None, *, whole: bool = True
    ) -> Object:
        try:
            if not whole:
                return validation.decode(info.kind, obj)
            prepared = validation.prepare(info.kind, obj, old)
            return validation.default(info.kind, prepared)
        except ValueError as error:
            raise bad_request(
                f'{info.kind} in version "{info.version}" cannot be handled as a '
                f"{info.kind}: {error}"
            ) from None

    def _custom(self, info: KindInfo, obj: Object) -> Object:
        schema = self._schema(info)
        return obj if schema is None else schema.default(schema.prune(obj))

    def _schema(self, info: KindInfo) -> Schema | None:
        if info.crd is None:
            return None
        key = (info.resource, info.version)
        crd, schema = self._schemas.get(key, (None, None))
        if crd is not info.crd:
            schema = _compile(info)
            self._schemas[key] = (info.crd, schema)
        return schema


def strict_error(info: KindInfo, found: list[str]) -> ApiError:
    """400 for what ``fieldValidation=Strict`` does not let pass."""
    texts = ", ".join(found)
    if info.crd is not None:
        return bad_request(f"strict decoding error: {texts}")
    return bad_request(
        f'{info.kind} in version "{info.version}" cannot be handled as a {info.kind}: '
        f"strict decoding error: {texts}"
    )


def _compile(info: KindInfo) -> Schema | None:
    assert info.crd is not None
    for version in info.crd["spec"]["versions"]:
        if version["name"] == info.version:
            found = (version.get("schema") or {}).get("openAPIV3Schema")
            return Schema(found) if found else None
    return None

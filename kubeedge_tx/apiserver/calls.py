"""One request, read: who, what, with which options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted.web.http import Request

from kubeedge_tx.apiserver import bodies, content, status
from kubeedge_tx.apiserver.auth import User
from kubeedge_tx.apiserver.deletion import DeleteOptions
from kubeedge_tx.apiserver.meta import Object
from kubeedge_tx.apiserver.negotiation import Format, choose
from kubeedge_tx.apiserver.targets import Target

Query = Mapping[bytes, list[bytes]]


@dataclass(slots=True)
class Call:
    """A resource request that has been let in."""

    request: Request
    target: Target
    user: User
    body: bytes
    content_type: str
    form: Format
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, request: Request, target: Target, user: User) -> Call:
        """Take in the rest of a request.

        :raises ApiError: 406, or 413 for a body over the limit.
        """
        assert request.content is not None
        body = request.content.read(bodies.MAX_BODY_BYTES + 1)
        if len(body) > bodies.MAX_BODY_BYTES:
            raise status.too_large(bodies.MAX_BODY_BYTES)
        return cls(
            request,
            target,
            user,
            body,
            request.getHeader("content-type") or "",
            choose(request.getHeader("accept") or ""),
        )

    def option(self, name: str) -> str:
        """A query parameter, empty if absent."""
        args: Query = self.request.args or {}
        found = args.get(name.encode())
        return found[-1].decode("utf-8", "replace") if found else ""

    def number(self, name: str) -> int | None:
        """A query parameter that is a number.

        :raises ApiError: 400 if it is something else.
        """
        text = self.option(name)
        if not text:
            return None
        if not text.isascii() or not text.isdigit():
            raise status.bad_request(
                f'unable to convert the query parameter {name}: "{text}" is not a number'
            )
        return int(text)

    def flag(self, name: str) -> bool:
        """A query parameter that is true or false."""
        return self.option(name).lower() in ("true", "1")

    @property
    def dry_run(self) -> bool:
        """Whether nothing is to be stored.

        :raises ApiError: 422 for a value that is not ``All``.
        """
        value = self.option("dryRun")
        if value not in ("", "All"):
            raise status.ApiError(
                422,
                "Invalid",
                f'CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: "{value}": '
                'supported values: "All"',
                {"group": "meta.k8s.io", "kind": "CreateOptions"},
            )
        return bool(value)

    @property
    def field_validation(self) -> str:
        """What to do about unknown fields.

        :raises ApiError: 422 for a value that is none.
        """
        value = self.option("fieldValidation") or content.WARN
        if value not in (content.STRICT, content.WARN, content.IGNORE):
            raise status.ApiError(
                422,
                "Invalid",
                'CreateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: '
                f'"{value}": supported values: "Ignore", "Strict", "Warn"',
                {"group": "meta.k8s.io", "kind": "CreateOptions"},
            )
        return value

    @property
    def include_object(self) -> str:
        """What the rows of a table carry."""
        return self.option("includeObject") or "Metadata"

    def decode(self, kind: str, api_version: str) -> Object:
        """The body as an object of a kind.

        :raises ApiError: 400 or 415.
        """
        return bodies.as_object(bodies.read(self.body, self.content_type, kind), kind, api_version)

    def duplicates(self) -> list[str]:
        """Complaints about keys that stand twice in the body."""
        return bodies.duplicates(self.body, self.content_type)

    def delete_options(self) -> DeleteOptions:
        """What the body or the query say about a deletion.

        :raises ApiError: 400, 415 or 422.
        """
        given: Any = {}
        if self.body:
            given = bodies.read(self.body, self.content_type, "DeleteOptions")
            if given is None:
                given = {}
            if not isinstance(given, dict):
                raise status.bad_request("the body must be a DeleteOptions object")
        options = dict(given)
        grace = self.option("gracePeriodSeconds")
        if grace and "gracePeriodSeconds" not in options:
            options["gracePeriodSeconds"] = self.number("gracePeriodSeconds")
        policy = self.option("propagationPolicy")
        if policy and "propagationPolicy" not in options:
            options["propagationPolicy"] = policy
        return DeleteOptions.parse(options, dry_run=self.dry_run)

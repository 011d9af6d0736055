"""Label and field selectors, as the API server reads them from a URL.

Source: Kubernetes ``apimachinery/pkg/labels`` and ``pkg/fields``; texts of errors are theirs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_SPECIAL: Final = ("!=", "==", "=", "!", "(", ")", ",", ">", "<")
_NAME: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?\Z")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
_NAME_TEXT: Final = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end"
    " with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for"
    " validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE_TEXT: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.',"
    " and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or"
    " '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_SUBDOMAIN_TEXT: Final = (
    "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric"
    " characters, '-' or '.', and must start and end with an alphanumeric character (e.g."
    " 'example.com', regex used for validation is"
    " '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on labels.

    ``op`` is ``in``, ``notin``, ``exists``, ``!``, ``gt`` or ``lt``.
    """

    key: str
    op: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels meet the condition; ``notin`` is met by a missing key."""
        value = labels.get(self.key)
        match self.op:
            case "in":
                return value is not None and value in self.values
            case "notin":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
        if value is None or not re.match(r"[+-]?\d{1,18}\Z", value):
            return False
        (bound,) = self.values
        return int(value) > int(bound) if self.op == "gt" else int(value) < int(bound)


@dataclass(frozen=True, slots=True)
class Selector:
    """All of its requirements together; none of them selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        """Whether labels meet all requirements."""
        return all(requirement.matches(labels or {}) for requirement in self.requirements)

    def __bool__(self) -> bool:
        return bool(self.requirements)


def parse_label_selector(text: str) -> Selector:
    """Read ``a=b,c in (d,e),!f``.

    :raises ValueError: with Kubernetes' text.
    """
    return Selector(tuple(_Parser(text).requirements()))


class _Parser:
    """The grammar of label selectors, one token ahead."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._next = 0

    def _peek(self) -> str:
        return self._tokens[self._next] if self._next < len(self._tokens) else ""

    def _take(self) -> str:
        word = self._peek()
        self._next += 1
        return word

    def requirements(self) -> Iterator[Requirement]:
        while True:
            word = self._peek()
            if word == "":
                return
            if word != "!" and _is_special(word):
                raise ValueError(f"found '{word}', expected: !, identifier, or 'end of string'")
            try:
                requirement = self._requirement()
            except ValueError as error:
                raise ValueError(f"unable to parse requirement: {error}") from None
            yield requirement
            word = self._take()
            if word == "":
                return
            if word != ",":
                raise ValueError(f"found '{word}', expected: ',' or 'end of string'")
            word = self._peek()
            if word != "!" and (word == "" or _is_special(word)):
                raise ValueError(f"found '{word}', expected: identifier after ','")

    def _requirement(self) -> Requirement:
        negated = self._peek() == "!"
        if negated:
            self._take()
        key = self._take()
        if key == "" or _is_special(key):
            raise ValueError(f"found '{key}', expected: identifier")
        check_label_key(key)
        if negated:
            return Requirement(key, "!")
        if self._peek() in ("", ","):
            return Requirement(key, "exists")
        operator = self._take()
        match operator:
            case "in" | "notin":
                values = self._values()
            case "=" | "==" | "!=":
                values = frozenset([self._exact()])
            case ">" | "<":
                values = frozenset([self._exact()])
                for value in values:
                    if not re.match(r"[+-]?\d{1,18}\Z", value):
                        raise ValueError(
                            f"values[0][{key}]: Invalid value: \"{value}\": for 'Gt', 'Lt'"
                            " operators, the value must be an integer"
                        )
            case _:
                expected = "in, notin, =, ==, !=, gt, lt"
                raise ValueError(f"found '{operator}', expected: {expected}")
        for value in sorted(values):
            _check_value(key, value)
        names = {"=": "in", "==": "in", "!=": "notin", ">": "gt", "<": "lt"}
        return Requirement(key, names.get(operator, operator), values)

    def _exact(self) -> str:
        word = self._peek()
        if word in ("", ","):
            return ""
        if _is_special(word):
            raise ValueError(f"found '{word}', expected: identifier")
        return self._take()

    def _values(self) -> frozenset[str]:
        word = self._take()
        if word != "(":
            raise ValueError(f"found '{word}' expected: '('")
        if self._peek() == ")":
            self._take()
            return frozenset([""])
        values: set[str] = set()
        while True:
            word = self._take()
            if word == ",":
                values.add("")
                continue
            if word == ")":
                # Reached after a comma only: an empty value stands there.
                return frozenset(values | {""})
            if word == "" or _is_special(word):
                raise ValueError(f"found '{word}', expected: ',', ')' or identifier")
            values.add(word)
            word = self._take()
            if word == ")":
                return frozenset(values)
            if word != ",":
                raise ValueError(f"found '{word}', expected: ',' or ')'")
            if self._peek() == ")":
                self._take()
                return frozenset(values | {""})


def _is_special(word: str) -> bool:
    return word in _SPECIAL


def _tokens(text: str) -> Iterator[str]:
    position = 0
    while position < len(text):
        character = text[position]
        if character in " \t\r\n":
            position += 1
            continue
        special = next((s for s in _SPECIAL if text.startswith(s, position)), None)
        if special is not None:
            yield special
            position += len(special)
            continue
        end = position
        while end < len(text) and text[end] not in " \t\r\n=!(),><":
            end += 1
        yield text[position:end]
        position = end


def qualified_name_errors(name: str) -> list[str]:
    """What is wrong with a label key; empty when nothing is."""
    *prefix, base = name.split("/")
    if len(prefix) > 1:
        return [
            "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must"
            " start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or"
            " '123-abc', regex used for validation is"
            " '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix"
            " and '/' (e.g. 'example.com/MyName')"
        ]
    errors = []
    if prefix:
        if not prefix[0]:
            errors.append("prefix part must be non-empty")
        else:
            if len(prefix[0]) > 253:
                errors.append("prefix part must be no more than 253 bytes")
            if not _SUBDOMAIN.match(prefix[0]):
                errors.append(_SUBDOMAIN_TEXT)
    if not base:
        errors.append("name part must be non-empty")
    elif len(base) > 63:
        errors.append("name part must be no more than 63 bytes")
    if not _NAME.match(base):
        errors.append(_NAME_TEXT)
    return errors


def label_value_errors(value: str) -> list[str]:
    """What is wrong with a label value; empty when nothing is."""
    errors = []
    if len(value) > 63:
        errors.append("must be no more than 63 bytes")
    if value and not _NAME.match(value):
        errors.append(_VALUE_TEXT)
    return errors


def check_label_key(key: str) -> None:
    """Check a label key in a selector.

    :raises ValueError: it is none.
    """
    errors = qualified_name_errors(key)
    if errors:
        raise ValueError(f'key: Invalid value: "{key}": {"; ".join(errors)}')


def _check_value(key: str, value: str) -> None:
    errors = label_value_errors(value)
    if errors:
        raise ValueError(f'values[0][{key}]: Invalid value: "{value}": {"; ".join(errors)}')


# --- fields ---------------------------------------------------------------------------------

FieldRequirement = tuple[str, str, str]
"""Path, operator (``=`` or ``!=``), value."""


def parse_field_selector(text: str) -> list[FieldRequirement]:
    """Read ``metadata.name=a,status.phase!=Running``; a backslash escapes ``\\ , =``.

    :raises ValueError: with Kubernetes' text.
    """
    return [_field_term(term, text) for term in _split(text) if term]


def _split(text: str) -> Iterator[str]:
    start, escaped = 0, False
    for position, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == ",":
            yield text[start:position]
            start = position + 1
    yield text[start:]


def _field_term(term: str, text: str) -> FieldRequirement:
    position, escaped = 0, False
    while position < len(term):
        if escaped:
            escaped = False
        elif term[position] == "\\":
            escaped = True
        else:
            for operator in ("!=", "==", "="):
                if term.startswith(operator, position):
                    value = _unescape(term[position + len(operator) :])
                    return term[:position], "!=" if operator == "!=" else "=", value
        position += 1
    raise ValueError(f"invalid selector: '{text}'; can't understand '{term}'")


def _unescape(value: str) -> str:
    out, position = [], 0
    while position < len(value):
        character = value[position]
        if character == "\\":
            following = value[position + 1 : position + 2]
            if not following or following not in "\\,=":
                raise ValueError(f"invalid field selector: invalid escape sequence: \\{following}")
            out.append(following)
            position += 2
            continue
        if character in ",=":
            raise ValueError(f"invalid field selector: unescaped character in value: {character}")
        out.append(character)
        position += 1
    return "".join(out)


def field_text(value: Any) -> str:
    """How a field's value is written in a selector."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)

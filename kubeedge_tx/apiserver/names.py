"""Rules for names, keys and addresses; every function returns what is wrong, in Kubernetes' words.

Source: Kubernetes ``apimachinery/pkg/util/validation`` 1.36.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from kubeedge_tx.kube.selectors import label_value_errors, qualified_name_errors

_LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN: Final = f"{_LABEL}(\\.{_LABEL})*"
_DNS1035: Final = "[a-z]([-a-z0-9]*[a-z0-9])?"
_CONFIG_KEY: Final = "[-._a-zA-Z0-9]+"
_HEADER: Final = "[-A-Za-z0-9]+"


def _regex_text(text: str, pattern: str, *examples: str) -> str:
    shown = " or ".join(f"'{example}', " for example in examples[:-1])
    listed = f"{shown} or '{examples[-1]}'" if len(examples) > 1 else f"'{examples[0]}'"
    return f"{text} (e.g. {listed}, regex used for validation is '{pattern}')"


def _too_long(limit: int) -> str:
    return f"must be no more than {limit} characters"


def dns_label(value: str) -> list[str]:
    """RFC 1123 label: container, volume and namespace names."""
    errors = [_too_long(63)] if len(value) > 63 else []
    if not re.fullmatch(_LABEL, value):
        errors.append(
            _regex_text(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or"
                " '-', and must start and end with an alphanumeric character",
                _LABEL,
                "my-name",
                "123-abc",
            )
        )
    return errors


def dns_subdomain(value: str) -> list[str]:
    """RFC 1123 subdomain: most object names."""
    errors = [_too_long(253)] if len(value) > 253 else []
    if not re.fullmatch(_SUBDOMAIN, value):
        errors.append(
            _regex_text(
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric"
                " characters, '-' or '.', and must start and end with an alphanumeric character",
                _SUBDOMAIN,
                "example.com",
            )
        )
    return errors


def dns1035_label(value: str) -> list[str]:
    """RFC 1035 label: service names, and parts of custom kinds."""
    errors = [_too_long(63)] if len(value) > 63 else []
    if not re.fullmatch(_DNS1035, value):
        errors.append(
            _regex_text(
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start"
                " with an alphabetic character, and end with an alphanumeric character",
                _DNS1035,
                "my-name",
                "abc-123",
            )
        )
    return errors


def path_segment(value: str, *, prefix: bool = False) -> list[str]:
    """What may stand in a URL: the least any name must meet."""
    errors = []
    if not prefix and value in (".", ".."):
        errors.append(f"may not be '{value}'")
    errors += [f"may not contain '{bad}'" for bad in ("/", "%") if bad in value]
    return errors


def config_key(value: str) -> list[str]:
    """A key of a ConfigMap or Secret; it becomes a file name."""
    errors = [_too_long(253)] if len(value) > 253 else []
    if not re.fullmatch(_CONFIG_KEY, value):
        errors.append(
            _regex_text(
                "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
                _CONFIG_KEY,
                "key.name",
                "KEY_NAME",
                "key-name",
            )
        )
    elif value in (".", ".."):
        errors.append(f"must not be '{value}'")
    elif value.startswith(".."):
        errors.append("must not start with '..'")
    return errors


def relative_path(value: str) -> list[str]:
    """A path inside a volume."""
    errors = ["must be a relative path"] if value.startswith("/") else []
    if ".." in value.split("/"):
        errors.append("must not contain '..'")
    return errors


def env_name(value: str) -> list[str]:
    """A name of an environment variable: printable ASCII without ``=``."""
    if value and all(" " <= character <= "~" and character != "=" for character in value):
        return []
    if not value:
        return ["environment variable name must be non-empty"]
    return [
        "a valid environment variable name must consist only of printable ASCII characters other"
        " than '='"
    ]


def http_header(value: str) -> list[str]:
    """A header name of an HTTP probe."""
    if re.fullmatch(_HEADER, value):
        return []
    text = "a valid HTTP header must consist of alphanumeric characters or '-'"
    return [_regex_text(text, _HEADER, "X-Header-Name")]


def port_number(value: int) -> list[str]:
    """A TCP or UDP port."""
    return [] if 1 <= value <= 65535 else ["must be between 1 and 65535, inclusive"]


def port_name(value: str) -> list[str]:
    """An IANA service name."""
    errors = []
    if len(value) > 15:
        errors.append("must be no more than 15 characters")
    if not re.fullmatch(r"[-a-z0-9]+", value):
        errors.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search(r"[a-z]", value):
        errors.append("must contain at least one letter (a-z)")
    if "--" in value:
        errors.append("must not contain consecutive hyphens")
    if value and (value[0] == "-" or value[-1] == "-"):
        errors.append("must not begin or end with a hyphen")
    return errors


def ip_address(value: str) -> list[str]:
    """An IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    return []


def label_key(value: str) -> list[str]:
    """A label, annotation or taint key: ``[prefix/]name``."""
    return qualified_name_errors(value)


def label_value(value: str) -> list[str]:
    """A label's value."""
    return label_value_errors(value)

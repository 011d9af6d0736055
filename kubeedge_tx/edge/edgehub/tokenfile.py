"""Take the join token out of the configuration file once it has done its work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import yaml

from kubeedge_tx.errors import ConfigError
from kubeedge_tx.security.files import write_file

_WHERE: Final = ("modules", "edgeHub", "token")
_WHITE: Final = " \t\r\n\x85\u2028\u2029"
"""What YAML takes for space and line ends. Source: YAML 1.1, productions 22 to 31."""


def blank_token(path: Path) -> bool:
    """Replace the value of ``modules.edgeHub.token`` by ``""``; all else stays as it is.

    Comments, order, line ends, permission bits and owner are kept. A symbolic link is
    followed.

    :returns: whether there was a token in it.
    :raises ConfigError: the file cannot be read as YAML.
    :raises CertificateError: it cannot be written.
    """
    path = path.resolve()
    try:
        text = path.read_bytes().decode("utf-8")
        status = path.stat()
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(str(path), f"cannot take the token out of it: {error}") from None
    node = _find(tree, _WHERE)
    if not isinstance(node, yaml.ScalarNode) or not node.value:
        return False
    start, end = _span(text, node)
    write_file(path, (text[:start] + '""' + text[end:]).encode("utf-8"), status.st_mode & 0o7777)
    if os.geteuid() == 0:
        os.chown(path, status.st_uid, status.st_gid)
    return True


def _find(node: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        if not isinstance(node, yaml.MappingNode):
            return None
        node = next((value for name, value in node.value if name.value == key), None)
    return node


def _span(text: str, node: yaml.ScalarNode) -> tuple[int, int]:
    start, end = node.start_mark.index, node.end_mark.index
    # A block scalar's span includes the line end after it.
    return start, start + len(text[start:end].rstrip(_WHITE))

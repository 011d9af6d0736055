"""``keadm config``: look at configuration files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import click

from kubeedge_tx.config.cloudcore import CloudCoreConfig
from kubeedge_tx.config.edgecore import EdgeCoreConfig
from kubeedge_tx.config.loader import problems
from kubeedge_tx.config.mqtt import MqttConfig
from kubeedge_tx.errors import ConfigError

_KINDS: Final[dict[str, tuple[str, Any]]] = {
    "CloudCore": ("the cloud", CloudCoreConfig),
    "EdgeCore": ("the edge", EdgeCoreConfig),
    "MqttBroker": ("the MQTT broker", MqttConfig),
}


@click.group("config")
def command() -> None:
    """Look at configuration files."""


@command.command("validate")
@click.argument("file", type=click.Path(path_type=Path))
def validate(file: Path) -> None:
    """Check a cloudcore.yaml, edgecore.yaml or mqtt.yaml.

    Each error names the key by its whole path.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(str(file), f"cannot be read: {reason}") from None
    kind = _kind(text, str(file))
    whose, form = _KINDS[kind]
    config, errors = problems(text, form, str(file))
    if config is not None:
        errors += _check(kind)(config)
    if errors:
        for each in errors[:-1]:
            click.echo(f"Error: {each}", err=True)
        raise errors[-1]
    click.echo(f"{file}: a valid configuration of {whose}")
    for path in getattr(config, "not_in_this_version", list)():
        click.echo(f"  {path} is switched on but not in this version: ignored")


def _kind(text: str, origin: str) -> str:
    tree, errors = problems(text, dict, origin)
    if errors:
        raise errors[0]
    if "kind" not in tree:
        raise ConfigError("kind", f"this key is required: one of {', '.join(_KINDS)}")
    kind = tree["kind"]
    if kind not in _KINDS:
        raise ConfigError("kind", f"expected one of {', '.join(_KINDS)}, got {kind!r}")
    return str(kind)


def _check(kind: str) -> Callable[[Any], Iterable[ConfigError]]:
    """What finds values that only the role itself can judge."""
    if kind == "CloudCore":
        from kubeedge_tx.cloud import settings as cloud

        return cloud.check
    if kind == "EdgeCore":
        # Imported here: the agent's modules are of no use to whoever asks for help.
        from kubeedge_tx.edge import settings as edge

        return edge.check
    return lambda _: ()

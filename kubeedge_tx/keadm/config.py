"""``keadm config``: look at configuration files."""

from __future__ import annotations

from pathlib import Path

import click
import yaml

from kubeedge_tx.config.loader import load_file
from kubeedge_tx.errors import ConfigError
from kubeedge_tx.keadm.settings import FORMS


@click.group("config")
def command() -> None:
    """Look at configuration files."""


@command.command("validate")
@click.argument("file", type=click.Path(path_type=Path))
def validate(file: Path) -> None:
    """Check a cloudcore.yaml or edgecore.yaml; an error names the key by its whole path."""
    kind = _kind(file)
    for role, form in FORMS.items():
        if form().kind == kind:
            config = load_file(file, form)
            click.echo(f"{file}: a valid configuration of the {role}")
            for path in config.not_in_this_version():
                click.echo(f"  {path} is switched on but not in this version: ignored")
            return
    raise ConfigError("kind", f"expected CloudCore or EdgeCore, got {kind!r}")


def _kind(file: Path) -> object:
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(str(file), f"cannot be read: {reason}") from None
    except yaml.YAMLError:
        load_file(file, dict)  # says where it is no YAML
        raise
    if not isinstance(tree, dict) or "kind" not in tree:
        raise ConfigError("kind", "this key is required: CloudCore or EdgeCore")
    return tree["kind"]

"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def data_dir(function: F) -> F:
    """``--data-dir``: where the role keeps its data."""
    return click.option(
        "--data-dir",
        metavar="DIR",
        envvar="KEADM_DATA_DIR",
        help="Where it keeps its data; as root below /var/lib/kubeedge, "
        "else below $XDG_STATE_HOME/kubeedge-tx.",
    )(function)


def sets(function: F) -> F:
    """``--set``: any key of the configuration."""
    return click.option(
        "--set",
        "settings",
        metavar="PATH=VALUE",
        multiple=True,
        help="Set a key of the configuration file, by its path; may be repeated.",
    )(function)


def running(function: F) -> F:
    """How the role is run, and how long it is waited for."""
    for option in (
        click.option(
            "--timeout",
            type=click.FloatRange(min=1),
            default=300.0,
            show_default=True,
            metavar="SECONDS",
            help="How long to wait until it works.",
        ),
        click.option(
            "--foreground",
            is_flag=True,
            help="Stay with it, print its log, and stop it on Ctrl-C: for containers.",
        ),
        click.option(
            "--service/--no-service",
            default=None,
            help="Run it by systemd, or as a background process with a pid file; "
            "systemd if this is root and there is one.",
        ),
    ):
        function = option(function)
    return function


def tarballpath(function: F) -> F:
    """``--tarballpath``: install without a network."""
    return click.option(
        "--tarballpath",
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="Install from the wheels in a folder, and ask no network.",
    )(function)


def installing(function: F) -> F:
    """Which version is to run, for ``init`` and ``join``."""
    for option in (
        click.option(
            "--image-repository",
            metavar="REGISTRY",
            expose_value=False,
            callback=_no_images,
            help="Upstream's; nothing here is installed from images.",
        ),
        tarballpath,
        click.option(
            "--kubeedge-version",
            metavar="VERSION",
            help="The version to run, in an environment of its own; else this keadm's.",
        ),
    ):
        function = option(function)
    return function


def _no_images(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value:
        click.echo(
            "--image-repository: not needed, nothing is installed from images; --tarballpath "
            "installs from a folder",
            err=True,
        )


def kube_config(function: F) -> F:
    """``--kube-config``: the cluster."""
    return click.option(
        "--kube-config",
        metavar="FILE",
        help="The cluster's kubeconfig; without it the cloud's own, as it is configured.",
    )(function)

"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
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


def kube_config(function: F) -> F:
    """``--kube-config``: the cluster."""
    return click.option(
        "--kube-config",
        metavar="FILE",
        help="The cluster's kubeconfig; without it the cloud's own, as it is configured.",
    )(function)

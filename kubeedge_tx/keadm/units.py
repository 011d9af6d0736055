"""The systemd units, from one template.

Sandboxing is as tight as the role allows. A cloud needs nothing but its ports and folders.
An edge with a Docker engine needs the engine's socket and root's right to its own pods'
folders. An edge that runs pods as processes hands its own view of the machine on to them,
so there it is loose, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kubeedge_tx.keadm.places import Places

_TEMPLATE: Final = """\
# Made by keadm for this machine. Changes belong into a drop-in: systemctl edit {program}
[Unit]
Description=KubeEdge-TX {what}
Documentation=https://kubeedge.io/docs/
After=network-online.target{after}
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=5
TimeoutStartSec=300
TimeoutStopSec=60
WatchdogSec=60
{kill}Environment=PYTHONUNBUFFERED=1 MALLOC_ARENA_MAX=2
UMask=0077
LimitNOFILE=65536
{sandbox}
[Install]
WantedBy=multi-user.target
"""

_EVERYWHERE: Final = (
    "NoNewPrivileges=yes",
    "LockPersonality=yes",
    "ProtectClock=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "RestrictRealtime=yes",
    "SystemCallArchitectures=native",
)

_NO_CONTAINERS: Final = (
    "ProtectControlGroups=yes",
    "ProtectHome=read-only",
    "ProtectHostname=yes",
    "RestrictNamespaces=yes",
    "RestrictSUIDSGID=yes",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
    "SystemCallFilter=@system-service",
    "SystemCallErrorNumber=EPERM",
)

_CLOUD: Final = (
    *_EVERYWHERE,
    *_NO_CONTAINERS,
    "PrivateDevices=yes",
    "ProtectProc=invisible",
    "ProtectSystem=strict",
    "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
    "AmbientCapabilities=",
)

_EDGE_WITH_ENGINE: Final = (
    *_EVERYWHERE,
    *_NO_CONTAINERS,
    "# /tmp, /dev and /var stay those of the machine: hostPath volumes are looked at, and made.",
    "ProtectSystem=full",
    "# Volumes belong to the users of the pods; containers themselves are the engine's.",
    "CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_NET_BIND_SERVICE",
)

_EDGE_WITH_PROCESSES: Final = (
    "# Pods are processes of this service, so what is closed here is closed to them.",
    "LockPersonality=yes",
    "ProtectClock=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "RestrictRealtime=yes",
    "SystemCallArchitectures=native",
)


def render(
    places: Places,
    twistd: str,
    arguments: Sequence[str] = (),
    *,
    runtime: str = "auto",
    reads: Sequence[str] = (),
) -> str:
    """Write a role's unit.

    :param twistd: the program, with its path.
    :param arguments: more arguments for the role.
    :param runtime: an edge's ``modules.edged.runtime``.
    :param reads: files that it reads, wherever they are.
    """
    command = [
        *(twistd, "-n", "--pidfile=", places.plugin),
        *("--config", str(places.config_file), "--data-dir", str(places.data_dir)),
        *arguments,
    ]
    sandbox: tuple[str, ...]
    if places.role == "cloud":
        needed = (twistd, str(places.data_dir), *reads)
        in_tmp = any(path.startswith(("/tmp/", "/var/tmp/")) for path in needed)  # noqa: S108
        tmp = "ReadWritePaths=/tmp /var/tmp" if in_tmp else "PrivateTmp=yes"
        sandbox = (*_CLOUD, tmp, _writable(places))
    elif runtime == "docker":
        sandbox = (*_EDGE_WITH_ENGINE, _writable(places))
    else:
        sandbox = _EDGE_WITH_PROCESSES
    engine = " docker.service" if places.role == "edge" else ""
    kill = (
        "# Containers outlive the agent, which adopts them when it comes back.\nKillMode=process\n"
        if places.role == "edge"
        else ""
    )
    return _TEMPLATE.format(
        program=places.program,
        what="cloud" if places.role == "cloud" else "edge agent",
        after=engine,
        command=" ".join(map(_quoted, command)),
        kill=kill,
        sandbox="".join(f"{line}\n" for line in sandbox),
    )


def _writable(places: Places) -> str:
    folders = [places.data_dir]
    if places.is_system:
        folders = [*dict.fromkeys([Path("/etc/kubeedge"), places.data_dir])]
        if places.role == "edge":
            folders.append(Path("/var/lib/kubelet"))
    # A folder that is not there yet must not keep the service from starting.
    return "ReadWritePaths=" + " ".join(_quoted(f"-{folder}") for folder in folders)


def _quoted(word: str) -> str:
    """Quote a word as systemd.syntax(7) wants it; ``%`` and ``$`` stand for themselves."""
    word = word.replace("%", "%%").replace("$", "$$")
    if word and not any(char in word for char in " \t\"'\\;"):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'

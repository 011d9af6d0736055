"""From a container's spec to what the ``process`` runtime's launcher is told. Almost pure."""

from __future__ import annotations

import os
from typing import Any

from kubeedge_tx.errors import ContainerError
from kubeedge_tx.runtime.images import parse_image
from kubeedge_tx.runtime.interfaces import ContainerSpec
from kubeedge_tx.runtime.process_records import (
    ContainerRecord,
    PathRewriter,
    SandboxRecord,
    check_name,
    environment,
)
from kubeedge_tx.runtime.process_spawn import SHIM


def check(spec: ContainerSpec, namespaces: str) -> None:
    """Refuse what cannot be run here.

    :param namespaces: ``root``, ``user`` or ``none``: how mounts are made.
    :raises ContainerError: ``InvalidImageName``, ``CreateContainerConfigError``.
    """
    parse_image(spec.image)
    check_name("container name", spec.name)
    if not spec.command:
        raise ContainerError(
            "CreateContainerConfigError",
            f"container {spec.name} has no command: the process runtime does not know"
            f" what {spec.image} would run, so the pod must say it in command and args",
        )
    texts = (*spec.command, *spec.args, *(part for pair in spec.env for part in pair))
    if any("\0" in text for text in texts):
        raise ContainerError(
            "CreateContainerConfigError",
            f"container {spec.name}: a NUL in command, args or env",
        )
    may_change = namespaces != "user" and os.geteuid() == 0
    wants = (spec.user, os.geteuid()), (spec.group, os.getegid())
    if not may_change and any(want not in (None, have) for want, have in wants):
        raise ContainerError(
            "CreateContainerConfigError",
            f"container {spec.name} asks for user {spec.user} and group {spec.group}:"
            " the agent has to be root for that",
        )


def plan(
    sandbox: SandboxRecord, spec: ContainerSpec, namespaces: str, *, container_id: str, now: float
) -> tuple[ContainerRecord, dict[str, Any]]:
    """Return a container's record, and what the launcher is told but for folder and boot."""
    mounts = [
        {
            "host_path": str(mount.host_path),
            "container_path": os.path.normpath(mount.container_path),
            "read_only": mount.read_only,
        }
        for mount in spec.mounts
    ]
    if spec.termination_message_file is not None:
        mounts.append(
            {
                "host_path": str(spec.termination_message_file),
                "container_path": os.path.normpath(spec.termination_message_path),
                "read_only": False,
            }
        )
    env = environment(spec, sandbox.hostname)
    rewrites: tuple[tuple[str, str], ...] = ()
    if namespaces == "none":
        rewrites = tuple(
            (str(mount["container_path"]), str(mount["host_path"])) for mount in mounts
        )
    rewrite = PathRewriter(rewrites).rewrite
    env = {name: rewrite(value) for name, value in env.items()}
    if rewrites:
        env["KUBEEDGE_MOUNTS"] = ":".join(f"{inside}={host}" for inside, host in rewrites)
    record = ContainerRecord(
        id=container_id,
        pod_uid=sandbox.uid,
        name=spec.name,
        attempt=spec.attempt,
        image=spec.image,
        spec_hash=spec.spec_hash,
        created_at=now,
        namespaces=namespaces,
        env=env,
        working_dir=rewrite(spec.working_dir or "/"),
        user=spec.user,
        group=spec.group,
        supplemental_groups=spec.supplemental_groups,
        allow_privilege_escalation=spec.allow_privilege_escalation,
        rewrites=rewrites,
    )
    return record, command_spec(record, (*spec.command, *spec.args)) | {
        "mounts": mounts,
        "tty": spec.tty,
        "stdin": spec.stdin,
        "now": now,
        "shim": str(SHIM),
    }


def command_spec(record: ContainerRecord, command: tuple[str, ...]) -> dict[str, Any]:
    """Return what the launcher is told of a command in a container."""
    rewrite = PathRewriter(record.rewrites).rewrite
    return {
        "argv": [rewrite(text) for text in command],
        "env": record.env,
        "working_dir": record.working_dir,
        "namespaces": record.namespaces,
        "user": record.user,
        "group": record.group,
        "supplemental_groups": list(record.supplemental_groups),
        "allow_privilege_escalation": record.allow_privilege_escalation,
    }

"""From a pod's spec to what the runtime is asked for."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kubeedge_tx.api import quantity
from kubeedge_tx.edge.edged import podspec
from kubeedge_tx.edge.edged.env import expand
from kubeedge_tx.edge.edged.podspec import Json
from kubeedge_tx.errors import ContainerError
from kubeedge_tx.runtime.interfaces import (
    ContainerSpec,
    ImageAuth,
    Mount,
    PortMapping,
    SandboxSpec,
)

_HOSTNAME_LENGTH: Final = 63
"""Longest host name of a pod. Source: kubelet ``truncatePodHostnameIfNeeded``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterNames:
    """How pods resolve names."""

    dns: tuple[str, ...] = ()
    """Name servers of ``ClusterFirst``; none: the node's own are used."""
    domain: str = "cluster.local"


def sandbox_spec(pod: Json, node: str, names: ClusterNames) -> SandboxSpec:
    """Describe what the pod's containers share."""
    spec = podspec.spec(pod)
    host_network = podspec.is_host_network(pod)
    hostname = str(spec.get("hostname") or podspec.name(pod))[:_HOSTNAME_LENGTH].rstrip("-.")
    servers, searches, options = _dns(pod, names)
    security = spec.get("securityContext") or {}
    return SandboxSpec(
        namespace=podspec.namespace(pod),
        pod=podspec.name(pod),
        uid=podspec.uid(pod),
        hostname=node if host_network else hostname,
        host_network=host_network,
        host_pid=bool(spec.get("hostPID")),
        host_ipc=bool(spec.get("hostIPC")),
        share_processes=bool(spec.get("shareProcessNamespace")),
        ports=() if host_network else tuple(_ports(pod)),
        dns_servers=servers,
        dns_searches=searches,
        dns_options=options,
        host_aliases=tuple(
            (str(alias.get("ip", "")), tuple(alias.get("hostnames") or ()))
            for alias in spec.get("hostAliases") or ()
        ),
        sysctls=tuple(
            (str(each.get("name")), str(each.get("value")))
            for each in security.get("sysctls") or ()
        ),
    )


def _ports(pod: Json) -> Iterable[PortMapping]:
    for container, _ in podspec.all_containers(pod):
        for port in container.get("ports") or ():
            if port.get("hostPort"):
                yield PortMapping(
                    container_port=int(port["containerPort"]),
                    host_port=int(port["hostPort"]),
                    protocol=str(port.get("protocol") or "TCP"),
                    host_ip=str(port.get("hostIP") or ""),
                )


def _dns(
    pod: Json, names: ClusterNames
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    spec = podspec.spec(pod)
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    cluster = policy == "ClusterFirstWithHostNet" or (
        policy == "ClusterFirst" and not podspec.is_host_network(pod)
    )
    if cluster and names.dns:
        servers += names.dns
        domain = names.domain
        searches += [f"{podspec.namespace(pod)}.svc.{domain}", f"svc.{domain}", domain]
        options.append("ndots:5")
    given = spec.get("dnsConfig") or {}
    servers += [each for each in given.get("nameservers") or () if each not in servers]
    searches += [each for each in given.get("searches") or () if each not in searches]
    for option in given.get("options") or ():
        name, value = option.get("name", ""), option.get("value")
        options = [each for each in options if each.partition(":")[0] != name]
        options.append(f"{name}:{value}" if value not in (None, "") else name)
    return tuple(servers), tuple(searches), tuple(options)


def container_spec(
    pod: Json,
    container: Json,
    *,
    attempt: int,
    env: Mapping[str, str],
    mounts: tuple[Mount, ...],
    message_file: Path,
) -> ContainerSpec:
    """Describe one container to start.

    :raises ContainerError: ``CreateContainerConfigError``; a field cannot be used.
    """
    security = container.get("securityContext") or {}
    of_pod = podspec.spec(pod).get("securityContext") or {}
    user = security.get("runAsUser", of_pod.get("runAsUser"))
    if security.get("runAsNonRoot", of_pod.get("runAsNonRoot")) and user == 0:
        raise ContainerError(
            "CreateContainerConfigError", "container's runAsUser breaks non-root policy"
        )
    groups = list(of_pod.get("supplementalGroups") or ())
    if of_pod.get("fsGroup") is not None:
        groups.append(of_pod["fsGroup"])
    capabilities = security.get("capabilities") or {}
    resources = container.get("resources") or {}
    limits = resources.get("limits") or {}
    requests = {**limits, **(resources.get("requests") or {})}
    try:
        return ContainerSpec(
            name=container["name"],
            image=container.get("image", ""),
            attempt=attempt,
            command=tuple(expand(str(each), env) for each in container.get("command") or ()),
            args=tuple(expand(str(each), env) for each in container.get("args") or ()),
            env=tuple(env.items()),
            working_dir=container.get("workingDir") or "",
            mounts=mounts,
            cpu_millis_request=quantity.millis(requests.get("cpu") or 0),
            cpu_millis_limit=quantity.millis(limits.get("cpu") or 0),
            memory_bytes_limit=quantity.whole(limits.get("memory") or 0),
            user=_number(user),
            group=_number(security.get("runAsGroup", of_pod.get("runAsGroup"))),
            supplemental_groups=tuple(int(each) for each in groups),
            privileged=bool(security.get("privileged")),
            read_only_root=bool(security.get("readOnlyRootFilesystem")),
            allow_privilege_escalation=security.get("allowPrivilegeEscalation") is not False,
            add_capabilities=tuple(capabilities.get("add") or ()),
            drop_capabilities=tuple(capabilities.get("drop") or ()),
            tty=bool(container.get("tty")),
            stdin=bool(container.get("stdin")),
            termination_message_file=message_file,
            termination_message_path=container.get("terminationMessagePath")
            or "/dev/termination-log",
            spec_hash=podspec.spec_hash(container),
        )
    except ValueError as error:
        raise ContainerError("CreateContainerConfigError", str(error)) from None


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


def pull_policy(container: Json) -> str:
    """Give ``Always``, ``IfNotPresent`` or ``Never``, as the API server defaults it."""
    if policy := container.get("imagePullPolicy"):
        return str(policy)
    image = str(container.get("image", ""))
    tag = image.rpartition("/")[2].partition(":")[2]
    return "Always" if "@" not in image and tag in ("", "latest") else "IfNotPresent"


def pull_secrets(pod: Json) -> list[str]:
    """Give the names of the Secrets with registry credentials."""
    wanted = podspec.spec(pod).get("imagePullSecrets") or ()
    return [str(each["name"]) for each in wanted if each.get("name")]


def registry_auths(secret: Json) -> list[ImageAuth]:
    """Read registry credentials from a pull secret; entries that cannot be read are left out."""
    data = secret.get("data") or {}
    found: list[ImageAuth] = []
    try:
        if text := data.get(".dockerconfigjson"):
            entries = (json.loads(base64.b64decode(text)) or {}).get("auths") or {}
        else:
            entries = json.loads(base64.b64decode(data.get(".dockercfg") or "e30="))
        for registry, entry in entries.items():
            name, password = entry.get("username", ""), entry.get("password", "")
            if encoded := entry.get("auth"):
                decoded = base64.b64decode(encoded).decode()
                name, _, password = decoded.partition(":")
            found.append(ImageAuth(registry=registry, username=name, password=password))
    except (ValueError, AttributeError, TypeError, binascii.Error):
        pass  # the pull then fails for want of credentials, and its error says so
    return found

"""The environment of a container, and ``$(VAR)`` in what it is started with."""

from __future__ import annotations

from collections.abc import Mapping

from kubeedge_tx.edge.edged import podspec
from kubeedge_tx.edge.edged.downward import Place, field_value, resource_value
from kubeedge_tx.edge.edged.payload import MountError, object_data
from kubeedge_tx.edge.edged.podspec import Json
from kubeedge_tx.errors import ContainerError

Objects = Mapping[tuple[str, str], Json | None]
"""ConfigMaps and Secrets by ``(configmap|secret, name)``; ``None``: there is no such object."""


def needed_objects(container: Json) -> frozenset[tuple[str, str]]:
    """Give the ConfigMaps and Secrets that the environment is made from."""
    found: set[tuple[str, str]] = set()
    for source in container.get("envFrom") or ():
        if ref := source.get("configMapRef"):
            found.add(("configmap", ref.get("name", "")))
        if ref := source.get("secretRef"):
            found.add(("secret", ref.get("name", "")))
    for variable in container.get("env") or ():
        value_from = variable.get("valueFrom") or {}
        if ref := value_from.get("configMapKeyRef"):
            found.add(("configmap", ref.get("name", "")))
        if ref := value_from.get("secretKeyRef"):
            found.add(("secret", ref.get("name", "")))
    return frozenset(found)


def environment(pod: Json, container: Json, objects: Objects, place: Place) -> dict[str, str]:
    """Compute the variables.

    :param objects: has an entry for all of :func:`needed_objects`.
    :raises ContainerError: ``CreateContainerConfigError``; names the object or key missing.
    """
    result: dict[str, str] = {}
    try:
        for source in container.get("envFrom") or ():
            result.update(_imported(pod, source, objects))
        for variable in container.get("env") or ():
            value = _value(pod, container, variable, result, objects, place)
            if value is not None:
                result[variable["name"]] = value
    except MountError as error:  # an object's data cannot be read
        raise _config_error(str(error)) from None
    return result


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` by its value; an unknown name stays, ``$$`` is a dollar sign.

    Source: ``k8s.io/kubernetes/third_party/forked/golang/expansion``.
    """
    out: list[str] = []
    at = 0
    while (dollar := text.find("$", at)) >= 0 and dollar + 1 < len(text):
        out.append(text[at:dollar])
        follower = text[dollar + 1]
        if follower == "$":
            out.append("$")
            at = dollar + 2
        elif follower == "(" and (end := text.find(")", dollar)) >= 0:
            name = text[dollar + 2 : end]
            out.append(variables.get(name, f"$({name})"))
            at = end + 1
        elif follower == "(":
            out.append("$(")
            at = dollar + 2
        else:
            out.append(f"${follower}")
            at = dollar + 2
    out.append(text[at:])
    return "".join(out)


def _imported(pod: Json, source: Json, objects: Objects) -> dict[str, str]:
    kind = "configmap" if source.get("configMapRef") else "secret"
    ref = source.get("configMapRef") or source.get("secretRef") or {}
    name = ref.get("name", "")
    found = objects.get((kind, name))
    if found is None:
        if ref.get("optional"):
            return {}
        raise _config_error(f'{kind} "{name}" not found')
    prefix = source.get("prefix", "")
    pairs = ((prefix + key, value) for key, value in object_data(kind, found, text_only=True))
    return {
        key: _text(kind, podspec.namespace(pod), name, key, value)
        for key, value in pairs
        if key and "=" not in key and key.isascii() and key.isprintable()
    }


def _value(
    pod: Json,
    container: Json,
    variable: Json,
    so_far: Mapping[str, str],
    objects: Objects,
    place: Place,
) -> str | None:
    value_from = variable.get("valueFrom")
    if not value_from:
        return expand(str(variable.get("value") or ""), so_far)
    try:
        if ref := value_from.get("fieldRef"):
            return field_value(pod, ref.get("fieldPath", ""), place)
        if ref := value_from.get("resourceFieldRef"):
            return resource_value(pod, ref, container, place)
    except ValueError as error:
        raise _config_error(f"env {variable['name']}: {error}") from None
    for kind, source in (("configmap", "configMapKeyRef"), ("secret", "secretKeyRef")):
        if ref := value_from.get(source):
            return _from_key(pod, kind, ref, objects)
    raise _config_error(f"env {variable['name']}: valueFrom has no source that is known here")


def _from_key(pod: Json, kind: str, ref: Json, objects: Objects) -> str | None:
    name, wanted = ref.get("name", ""), ref.get("key", "")
    found = objects.get((kind, name))
    if found is None:
        if ref.get("optional"):
            return None
        raise _config_error(f'{kind} "{name}" not found')
    data = dict(object_data(kind, found, text_only=True))
    if wanted not in data:
        if ref.get("optional"):
            return None
        title = "ConfigMap" if kind == "configmap" else "Secret"
        raise _config_error(
            f"couldn't find key {wanted} in {title} {podspec.namespace(pod)}/{name}"
        )
    return _text(kind, podspec.namespace(pod), name, wanted, data[wanted])


def _text(kind: str, namespace: str, name: str, key: str, value: bytes) -> str:
    if b"\0" in value:
        raise _config_error(f"key {key} of {kind} {namespace}/{name} has a NUL byte in it")
    return value.decode("utf-8", "surrogateescape")


def _config_error(message: str) -> ContainerError:
    return ContainerError("CreateContainerConfigError", message)

"""Addresses and ports of Services. Nothing routes them; they are what clients expect to see."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Final

from kubeedge_tx.apiserver import fielderrors, status
from kubeedge_tx.apiserver.meta import Object
from kubeedge_tx.apiserver.registry import KindInfo
from kubeedge_tx.apiserver.store import ObjectStore

NETWORK: Final = IPv4Network("10.96.0.0/12")
KUBERNETES_IP: Final = "10.96.0.1"
"""Of the service ``kubernetes`` in ``default``."""
NODE_PORTS: Final = range(30000, 32768)
_FIRST: Final = int(NETWORK.network_address) + 10


class ServiceAddresses:
    """Gives every Service its own clusterIP and node ports."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def assign(self, info: KindInfo, obj: Object) -> Object:
        """Fill in what a new Service leaves open.

        :raises ApiError: 422 if the address or port asked for is taken or out of range.
        """
        spec = dict(obj.get("spec") or {})
        if spec.get("type") == "ExternalName":
            return obj
        asked = spec.get("clusterIP") or ""
        if asked not in ("", "None"):
            self._check(info, obj, asked)
        elif not asked:
            asked = self._free_address()
        spec["clusterIP"] = asked
        spec["clusterIPs"] = [asked]
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
        return {**obj, "spec": self._with_node_ports(info, obj, spec)}

    def keep(self, info: KindInfo, obj: Object, old: Object) -> Object:
        """Carry over what an update leaves open."""
        spec = dict(obj.get("spec") or {})
        was = old.get("spec") or {}
        if spec.get("type") == "ExternalName":
            return obj
        if not was.get("clusterIP"):
            return self.assign(info, obj)
        for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if not spec.get(key) and key in was:
                spec[key] = was[key]
        had = {
            (p.get("name", ""), p.get("port")): p.get("nodePort") for p in was.get("ports") or []
        }
        if _needs_node_ports(spec):
            spec["ports"] = [
                {**p, "nodePort": p.get("nodePort") or had[(p.get("name", ""), p.get("port"))]}
                if had.get((p.get("name", ""), p.get("port")))
                else p
                for p in spec.get("ports") or []
            ]
        return {**obj, "spec": self._with_node_ports(info, obj, spec)}

    def _with_node_ports(self, info: KindInfo, obj: Object, spec: Object) -> Object:
        if not _needs_node_ports(spec):
            return spec
        own = obj["metadata"]
        used = {
            port.get("nodePort")
            for other in self._specs(own.get("namespace", ""), own.get("name", ""))
            for port in other.get("ports") or []
        }
        free = (port for port in NODE_PORTS if port not in used)
        ports = []
        for index, port in enumerate(spec.get("ports") or []):
            asked = port.get("nodePort")
            if asked and asked in used:
                where = f"spec.ports[{index}].nodePort"
                error = fielderrors.invalid(where, asked, "provided port is already allocated")
                raise status.invalid(info, own.get("name", ""), [error])
            chosen = asked or next(free, None)
            if chosen is None:
                raise status.internal("no node port is free")
            used.add(chosen)
            ports.append({**port, "nodePort": chosen})
        return {**spec, "ports": ports}

    def _check(self, info: KindInfo, obj: Object, asked: str) -> None:
        try:
            inside = ip_address(asked) in NETWORK
        except ValueError:
            inside = False
        why = ""
        if not inside:
            why = (
                "failed to allocate IP "
                f"{asked}: the provided network does not match the current range"
            )
        elif asked in self._used():
            why = f"failed to allocate IP {asked}: provided IP is already allocated"
        if why:
            error = fielderrors.invalid("spec.clusterIPs", [asked], why)
            raise status.invalid(info, obj["metadata"].get("name", ""), [error])

    def _free_address(self) -> str:
        used = self._used()
        number = _FIRST
        while str(IPv4Address(number)) in used:
            number += 1
        return str(IPv4Address(number))

    def _used(self) -> set[str]:
        return {ip for spec in self._specs() if (ip := spec.get("clusterIP"))}

    def _specs(self, namespace: str = "", without: str = "") -> Iterator[Object]:
        for item in self._store.heads("services"):
            if not without or (item.namespace, item.name) != (namespace, without):
                yield item.obj.get("spec") or {}


def _needs_node_ports(spec: Object) -> bool:
    return spec.get("type") in ("NodePort", "LoadBalancer")

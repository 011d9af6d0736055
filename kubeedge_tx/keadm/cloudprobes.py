"""Whether the cloud can be reached and is the right one, as an edge would see it."""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Final
from urllib.parse import quote

from kubeedge_tx.errors import CertificateError, TokenError
from kubeedge_tx.keadm.probes import Result
from kubeedge_tx.security.authority import load_certificate
from kubeedge_tx.security.files import der_to_pem
from kubeedge_tx.security.identity import serves
from kubeedge_tx.security.token import expiry, made_for, split_token

TIMEOUT: Final = 5.0
SKEW_WARN: Final = 60.0
SKEW_FAIL: Final = 300.0
"""Seconds that the clocks may be apart. An edge copes with more, until TLS fails; whoever reads its
events and statuses does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """The cloud to be joined."""

    host: str
    hub_port: int
    cert_port: int
    token: str
    """Empty: this edge has its certificate already."""
    node: str
    ca_file: Path
    """What this edge trusts, if it joined before."""
    cert_file: Path


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    date: str
    server_cert: bytes


def all_of(cloud: Cloud) -> list[Result]:
    """Run all of them; those that need what an earlier one could not have say so."""
    results = [dns(cloud)]
    reachable = results[0].state == "ok"
    results.append(port(cloud, "cloud port", cloud.hub_port) if reachable else _skip("cloud port"))
    answer, result = _authority(cloud) if reachable else (None, _skip("certificate port"))
    results.append(result)
    results.append(token(cloud))
    if answer is None:
        return [*results, *(_skip(name) for name in ("ca", "server name", "clock", "name free"))]
    return [
        *results,
        authority(cloud, answer.body),
        server_name(cloud, answer.server_cert),
        clock(answer.date, time.time()),
        name_free(cloud),
    ]


def dns(cloud: Cloud) -> Result:
    """The cloud's name leads to an address."""
    try:
        found = socket.getaddrinfo(cloud.host, cloud.cert_port, type=socket.SOCK_STREAM)
    except OSError as error:
        return Result(
            "dns",
            "fail",
            f"{cloud.host} cannot be resolved: {error.strerror or error}",
            "look at /etc/resolv.conf, or give an IP address in --cloudcore-ipport",
        )
    addresses = dict.fromkeys(str(target[0]) for *_, target in found)
    return Result("dns", "ok", f"{cloud.host} is {', '.join(addresses)}")


def port(cloud: Cloud, what: str, number: int) -> Result:
    """A port of the cloud takes connections."""
    where = f"{cloud.host}:{number}"
    try:
        socket.create_connection((cloud.host, number), TIMEOUT).close()
    except OSError as error:
        reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        return Result(
            what,
            "fail",
            f"{where} cannot be reached: {reason}",
            "is the cloud running, is the address right, is a firewall between?",
        )
    return Result(what, "ok", where)


def _authority(cloud: Cloud) -> tuple[_Answer | None, Result]:
    reached = port(cloud, "certificate port", cloud.cert_port)
    if reached.state != "ok":
        return None, reached
    where = f"{cloud.host}:{cloud.cert_port}"
    try:
        answer = _get(cloud, "/ca.crt")
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error.__class__.__name__
        return None, Result(
            "certificate port",
            "fail",
            f"what answers at {where} is no KubeEdge cloud ({reason})",
            "give the port of the cloud's certificate service with --certport (10002)",
        )
    if answer.status != 200:
        return None, Result(
            "certificate port",
            "fail",
            f"{where} answers {answer.status} to /ca.crt: no KubeEdge cloud",
            "give the port of the cloud's certificate service with --certport (10002)",
        )
    return answer, Result("certificate port", "ok", where)


def token(cloud: Cloud) -> Result:
    """The token is one, for this node, and not expired."""
    if not cloud.token:
        if cloud.cert_file.exists():
            return Result("token", "ok", "not needed: this edge has its certificate")
        return Result(
            "token", "fail", "there is none", "give --token: what `keadm gettoken` prints"
        )
    try:
        ends, node = expiry(cloud.token), made_for(cloud.token)
    except TokenError as error:
        return Result("token", "fail", str(error), "copy what `keadm gettoken` prints, whole")
    if node not in ("", cloud.node):
        return Result(
            "token",
            "fail",
            f"it is for node {node}, this one is {cloud.node}",
            f"get one with `keadm gettoken --node {cloud.node}`, or give --edgenode-name {node}",
        )
    if ends is None:
        return Result("token", "ok", "never expires")
    left = ends - time.time()
    if left <= 0:
        return Result(
            "token",
            "fail",
            f"expired {_span(-left)} ago",
            "get a new one with `keadm gettoken` at the cloud",
        )
    return Result("token", "ok", f"good for {_span(left)}")


def authority(cloud: Cloud, der: bytes) -> Result:
    """The cloud's CA is the one that the token, or this edge, knows."""
    found = hashlib.sha256(der).hexdigest()
    if cloud.token:
        try:
            wanted, _ = split_token(cloud.token)
        except TokenError:
            return _skip("ca", "the token has no readable hash")
        if found == wanted:
            return Result("ca", "ok", f"SHA-256 {found[:12]}…, as the token says")
        return Result(
            "ca",
            "fail",
            f"the cloud's CA is {found[:12]}…, the token was made for {wanted[:12]}…",
            "is it the right cloud? get a token from it; if its CA changed, every token did",
        )
    try:
        kept = cloud.ca_file.read_bytes()
    except OSError:
        return _skip("ca", "nothing to compare it with")
    if der_to_pem("CERTIFICATE", der) in kept:
        return Result("ca", "ok", f"SHA-256 {found[:12]}…, the one this edge trusts")
    return Result(
        "ca",
        "fail",
        f"the cloud's CA is {found[:12]}…, and not the one in {cloud.ca_file}",
        "join again with a token of this cloud",
    )


def server_name(cloud: Cloud, der: bytes) -> Result:
    """The cloud's certificate is for the name it is called by."""
    try:
        good = serves(load_certificate(der, "the cloud's certificate"), cloud.host)
    except CertificateError as error:
        return Result("server name", "fail", str(error))
    if good:
        return Result("server name", "ok", f"the cloud's certificate is for {cloud.host}")
    return Result(
        "server name",
        "fail",
        f"the cloud's certificate is not for {cloud.host}",
        f"at the cloud: keadm init --advertise-address {cloud.host} (or --domainname)",
    )


def clock(date: str, now: float) -> Result:
    """The clocks agree, or certificates are not valid yet, or no more.

    :param date: header ``Date`` of an answer.
    :param now: seconds since 1970, here.
    """
    try:
        there = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError):
        return _skip("clock", "the cloud does not say what time it is")
    skew = now - there
    if abs(skew) < SKEW_WARN:
        return Result("clock", "ok", "agrees with the cloud's")
    ahead = "ahead of" if skew > 0 else "behind"
    return Result(
        "clock",
        "fail" if abs(skew) >= SKEW_FAIL else "warn",
        f"this machine is {_span(abs(skew))} {ahead} the cloud",
        "set the clock: start chrony or systemd-timesyncd",
    )


def name_free(cloud: Cloud) -> Result:
    """No other machine has the node's name. Source: KubeEdge ``keadm join``."""
    try:
        status = _get(cloud, f"/node/{quote(cloud.node, safe='')}").status
    except (OSError, HTTPException) as error:
        return _skip("name free", f"the cloud did not answer: {error}")
    if status == 404:
        return Result("name free", "ok", f"there is no node {cloud.node} yet")
    if status != 200:
        return _skip("name free", f"the cloud answers {status}; see its log")
    if cloud.cert_file.exists():
        return Result("name free", "ok", f"node {cloud.node} is this machine")
    return Result(
        "name free",
        "fail",
        f"there is a node {cloud.node} already, and this machine has no certificate of it",
        "choose another --edgenode-name; if it is this machine's old one: "
        f"kubectl delete node {cloud.node}",
    )


def node_exists(cloud: Cloud) -> bool:
    """Whether the cloud has the node; ``False`` also when it does not answer."""
    try:
        return _get(cloud, f"/node/{quote(cloud.node, safe='')}").status == 200
    except (OSError, HTTPException):
        return False


def _get(cloud: Cloud, path: str) -> _Answer:
    """Ask without verifying anything: no secret is sent, and the answer proves nothing."""
    context = ssl._create_unverified_context()  # noqa: S323 - see above
    connection = HTTPSConnection(cloud.host, cloud.cert_port, timeout=TIMEOUT, context=context)
    try:
        connection.request("GET", path)
        sock = connection.sock
        der = sock.getpeercert(binary_form=True) or b"" if isinstance(sock, ssl.SSLSocket) else b""
        answer = connection.getresponse()
        return _Answer(answer.status, answer.read(1 << 20), answer.headers.get("Date", ""), der)
    finally:
        connection.close()


def _skip(name: str, why: str = "the cloud cannot be asked") -> Result:
    return Result(name, "skip", why)


def _span(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"

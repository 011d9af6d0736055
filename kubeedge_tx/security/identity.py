"""Whose certificate it is: from a peer's certificate to its node's name.

Source: KubeEdge ``cloud/pkg/cloudhub/servers/httpserver`` and ``…/authorization``;
the names are those of the Kubernetes node authorizer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from kubeedge_tx.errors import CertificateError

NODES_GROUP: Final = "system:nodes"
"""The O of an edge's certificate."""

NODE_PREFIX: Final = "system:node:"
"""What precedes the node's name in the CN."""

LEGACY_NAME: Final = "kubeedge.io"
"""The CN of every edge up to KubeEdge 1.15; the O is ``KubeEdge``, or ``kubeEdge``."""

_LABEL: Final = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_SUBDOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_MAX_NAME: Final = 253


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a certificate says its holder is."""

    node: str
    """The node's name; empty for an old edge, whose certificate does not say."""

    @property
    def legacy(self) -> bool:
        """Whether it is an old edge's, good for any node's name."""
        return not self.node

    def may_be(self, node: str) -> bool:
        """Whether the holder may call itself ``node``."""
        return self.legacy or self.node == node


def is_node_name(name: str) -> bool:
    """Whether it is a DNS-1123 subdomain of at most 253 characters."""
    return len(name) <= _MAX_NAME and _SUBDOMAIN.fullmatch(name) is not None


def common_name(node: str) -> str:
    """The CN for a node's certificate."""
    return f"{NODE_PREFIX}{node}"


def identify(subject: x509.Name) -> Identity:
    """Read the subject of a certificate (that is already verified), or of a request.

    :raises CertificateError: it is no edge's; the text says which field is wrong.
    """
    organization = _first(subject, NameOID.ORGANIZATION_NAME)
    name = _first(subject, NameOID.COMMON_NAME)
    if organization.lower() == "kubeedge" and name == LEGACY_NAME:
        return Identity("")
    if organization != NODES_GROUP:
        raise CertificateError(f"its O is {organization!r} instead of {NODES_GROUP!r}")
    if not name.startswith(NODE_PREFIX):
        raise CertificateError(f"its CN is {name!r} instead of '{NODE_PREFIX}<node name>'")
    node = name.removeprefix(NODE_PREFIX)
    if not is_node_name(node):
        raise CertificateError(
            f"its CN names the node {node!r}, which is no DNS name: use lower-case letters, "
            "digits, '-' and '.'"
        )
    return Identity(node)


def _first(subject: x509.Name, oid: x509.ObjectIdentifier) -> str:
    values = subject.get_attributes_for_oid(oid)
    return str(values[0].value) if values else ""


def is_ip_address(host: str) -> bool:
    """Whether it is an IPv4 or IPv6 address and not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def serves(certificate: x509.Certificate, host: str) -> bool:
    """Whether a server's certificate is for a host, by Go's rules.

    Only its subject alternative names count; an address must be among them as an address; a
    wildcard stands for one whole label in front; a name that is none matches nothing.
    Source: Go ``crypto/x509`` ``VerifyHostname``.

    :param host: DNS name or IP address, as it was called.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    if is_ip_address(host):
        return ip_address(host) in names.get_values_for_type(x509.IPAddress)
    wanted = host.encode("idna").decode().lower().rstrip(".")
    _, dot, parent = wanted.partition(".")
    accepted = {wanted, f"*.{parent}"} if dot else {wanted}
    return any(name.lower() in accepted for name in names.get_values_for_type(x509.DNSName))

"""Who asks, and what they may do.

There is no RBAC: the admin may do everything, a node (by impersonation) what the node
authorizer allows, a service account may look at discovery and at itself.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from kubeedge_tx.apiserver import status
from kubeedge_tx.apiserver.meta import Object
from kubeedge_tx.apiserver.podindex import PodIndex
from kubeedge_tx.apiserver.targets import Target
from kubeedge_tx.apiserver.tokens import AUDIENCE, Tokens

MASTERS: Final = "system:masters"
AUTHENTICATED: Final = "system:authenticated"
NODES: Final = "system:nodes"
NODE_PREFIX: Final = "system:node:"
MIRROR_ANNOTATION: Final = "kubernetes.io/config.mirror"
"""On pods that mirror what a node runs from a file."""

_SELF_REVIEWS: Final = (
    "selfsubjectreviews.authentication.k8s.io",
    "selfsubjectaccessreviews.authorization.k8s.io",
    "selfsubjectrulesreviews.authorization.k8s.io",
)


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated user."""

    name: str
    groups: tuple[str, ...]
    uid: str = ""

    @property
    def is_admin(self) -> bool:
        """Whether everything is allowed."""
        return MASTERS in self.groups

    @property
    def node(self) -> str:
        """The node's name, if the user is one."""
        if self.name.startswith(NODE_PREFIX) and NODES in self.groups:
            return self.name[len(NODE_PREFIX) :]
        return ""


ADMIN: Final = User("kubernetes-admin", (MASTERS, AUTHENTICATED))


class Authenticator:
    """Knows users by their bearer tokens.

    :param admin_token: of the admin's kubeconfig.
    """

    def __init__(self, admin_token: str, tokens: Tokens) -> None:
        self._admin_token = admin_token.encode()
        self._tokens = tokens

    def authenticate(
        self, header: Callable[[str], str], headers: Callable[[str], list[str]]
    ) -> User:
        """Find out who asks.

        :param header: gives a request header, empty if absent.
        :param headers: gives all values of one.
        :raises ApiError: 401, or 403 for an impersonation that is not allowed.
        """
        user = self._by_token(header("authorization"))
        if user is None:
            raise status.unauthorized()
        wanted = header("impersonate-user")
        groups = headers("impersonate-group")
        if not wanted:
            if groups:
                raise status.bad_request(
                    "requested groups without impersonating a user: set Impersonate-User too"
                )
            return user
        if not user.is_admin:
            raise status.ApiError(
                403,
                "Forbidden",
                f'users "{wanted}" is forbidden: User "{user.name}" cannot impersonate resource '
                '"users" in API group "" at the cluster scope',
                {"name": wanted, "kind": "users"},
            )
        return User(wanted, tuple(dict.fromkeys([*groups, AUTHENTICATED])))

    def review(self, token: str) -> tuple[User, tuple[str, ...]] | None:
        """For TokenReview: the user and audiences of a token, ``None`` if it is not good."""
        if hmac.compare_digest(token.encode(), self._admin_token):
            return ADMIN, (AUDIENCE,)
        claims = self._tokens.check(token)
        if claims is None:
            return None
        return _account(claims.namespace, claims.name, claims.uid), claims.audiences

    def _by_token(self, authorization: str) -> User | None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return None
        found = self.review(token.strip())
        if found is None or AUDIENCE not in found[1]:
            return None
        return found[0]


def _account(namespace: str, name: str, uid: str) -> User:
    return User(
        f"system:serviceaccount:{namespace}:{name}",
        ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED),
        uid,
    )


class Authorizer:
    """Allows or refuses.

    :param pods: which pods are bound to which node.
    """

    def __init__(self, pods: PodIndex) -> None:
        self._pods = pods

    def authorize(self, user: User, target: Target) -> None:
        """Let a resource request pass.

        :raises ApiError: 403 in Kubernetes' words.
        """
        why = self.refusal(user, target)
        if why is not None:
            raise refusal_error(user, target, why)

    def refusal(self, user: User, target: Target) -> str | None:
        """Why a request is not allowed, possibly empty; ``None`` if it is allowed."""
        if user.is_admin:
            return None
        resource = target.info.resource
        if resource in _SELF_REVIEWS and target.verb == "create":
            return None
        node = user.node
        if node:
            return self._node_refusal(node, target)
        return ""

    def _node_refusal(self, node: str, target: Target) -> str | None:
        if self._node_may(node, target):
            return None
        return f"no relationship found between node '{node}' and this object"

    def _node_may(self, node: str, target: Target) -> bool:
        resource, verb, name = target.info.resource, target.verb, target.name
        if resource == "nodes":
            if verb == "create":
                return True
            return name == node and verb in ("get", "update", "patch")
        if resource == "leases.coordination.k8s.io":
            if target.namespace != "kube-node-lease":
                return False
            return verb == "create" or name == node
        if resource == "events":
            return verb in ("create", "update", "patch")
        if resource == "pods":
            if verb == "create" and not target.subresource:
                return True
            if not name or target.subresource not in ("", "status", "eviction"):
                return verb in ("list", "watch") and not target.namespace
            return self._pods.node_of(target.namespace, name) == node
        if resource == "serviceaccounts":
            if target.subresource not in ("", "token") or verb not in ("create", "get"):
                return False
            return self._pods.uses_account(node, target.namespace, name)
        if resource in ("configmaps", "secrets") and name and verb in ("get", "list", "watch"):
            return self._pods.refers(node, target.namespace, resource, name)
        if resource in ("certificatesigningrequests.certificates.k8s.io",):
            return verb in ("create", "get", "list", "watch") and not target.subresource
        return resource in ("services", "endpoints") and verb in ("get", "list", "watch")


def admit(user: User, target: Target, obj: Object) -> None:
    """See that what a node creates is its own.

    :raises ApiError: 403. Source: Kubernetes' admission plugin NodeRestriction.
    """
    node = user.node
    if not node or user.is_admin:
        return
    metadata = obj.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name, why = metadata.get("name") or "", ""
    if target.info.resource == "pods":
        spec = obj.get("spec")
        annotations = metadata.get("annotations")
        if not isinstance(annotations, dict) or MIRROR_ANNOTATION not in annotations:
            why = (
                f'pod does not have "{MIRROR_ANNOTATION}" annotation, node "{node}" can only '
                "create mirror pods"
            )
        elif not isinstance(spec, dict) or spec.get("nodeName") != node:
            why = f'node "{node}" can only create pods with spec.nodeName set to itself'
    elif target.info.resource in ("nodes", "leases.coordination.k8s.io") and name != node:
        why = f'node "{node}" is not allowed to modify {target.info.singular} "{name}"'
    if why:
        raise status.forbidden(target.info, str(name), why)


def refusal_error(user: User, target: Target, why: str) -> status.ApiError:
    """403 that says who may not do what."""
    info = target.info
    resource = f"{info.plural}/{target.subresource}" if target.subresource else info.plural
    where = f'in the namespace "{target.namespace}"' if target.namespace else "at the cluster scope"
    text = (
        f'User "{user.name}" cannot {target.verb} resource "{resource}" in API group '
        f'"{info.group}" {where}'
    )
    return status.forbidden(info, target.name, f"{text}: {why}" if why else text)

"""Requests that are answered and not stored: tokens, and who may do what."""

from __future__ import annotations

from typing import Any, Final

from kubeedge_tx.api.timestamps import rfc3339
from kubeedge_tx.apiserver import fielderrors, status
from kubeedge_tx.apiserver.auth import Authenticator, Authorizer, User
from kubeedge_tx.apiserver.meta import Object
from kubeedge_tx.apiserver.registry import KindInfo, Registry
from kubeedge_tx.apiserver.shelf import Item
from kubeedge_tx.apiserver.store import ObjectStore
from kubeedge_tx.apiserver.targets import Target
from kubeedge_tx.apiserver.tokens import AUDIENCE, MAX_SECONDS, MIN_SECONDS, Bound, Tokens

_DEFAULT_SECONDS: Final = 3600
_BINDABLE: Final = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}


class Reviews:
    """Issues tokens and answers reviews."""

    def __init__(
        self,
        store: ObjectStore,
        registry: Registry,
        tokens: Tokens,
        authenticator: Authenticator,
        authorizer: Authorizer,
    ) -> None:
        self._store = store
        self._registry = registry
        self._tokens = tokens
        self._authenticator = authenticator
        self._authorizer = authorizer

    def token(self, account: Item, request: Object, now: float) -> Object:
        """Answer a TokenRequest.

        :raises ApiError: 400, 404 or 422.
        """
        spec = _dict(request.get("spec"))
        lifetime = spec.get("expirationSeconds")
        lifetime = _DEFAULT_SECONDS if lifetime is None else lifetime
        why = ""
        if not isinstance(lifetime, int) or lifetime < MIN_SECONDS:
            why = "may not specify a duration less than 10 minutes"
        elif lifetime > MAX_SECONDS:
            why = "may not specify a duration larger than 2^32 seconds"
        if why:
            raise status.ApiError(
                422,
                "Invalid",
                f'TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: '
                f"Invalid value: {lifetime}: {why}",
                {
                    "group": "authentication.k8s.io",
                    "kind": "TokenRequest",
                    "causes": [
                        {
                            "reason": "FieldValueInvalid",
                            "message": f"Invalid value: {lifetime}: {why}",
                            "field": "spec.expirationSeconds",
                        }
                    ],
                },
            )
        audiences = [a for a in spec.get("audiences") or [] if isinstance(a, str)] or [AUDIENCE]
        reference = spec.get("boundObjectRef")
        bound = self._bound(account, _dict(reference)) if reference else None
        metadata = account.obj["metadata"]
        token, expires = self._tokens.issue(
            account.namespace,
            account.name,
            metadata["uid"],
            audiences=audiences,
            lifetime=lifetime,
            bound=bound,
        )
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {
                "name": account.name,
                "namespace": account.namespace,
                "uid": metadata["uid"],
                "creationTimestamp": rfc3339(now),
            },
            "spec": {
                "audiences": audiences,
                "expirationSeconds": lifetime,
                "boundObjectRef": reference,
            },
            "status": {"token": token, "expirationTimestamp": rfc3339(expires)},
        }

    def review(self, info: KindInfo, body: Object, user: User) -> Object:
        """Answer a review.

        :raises ApiError: 422 if it asks nothing.
        """
        spec = _dict(body.get("spec"))
        answer: Object = {
            "kind": info.kind,
            "apiVersion": info.api_version,
            "metadata": {"creationTimestamp": None},
        }
        if info.kind == "SelfSubjectReview":
            return {**answer, "status": {"userInfo": _user_info(user)}}
        if info.kind == "TokenReview":
            return {**answer, "spec": spec, "status": self._token_review(spec)}
        if info.kind == "SelfSubjectRulesReview":
            return {**answer, "spec": spec, "status": _rules(user)}
        return {**answer, "spec": spec, "status": self._access_review(info, spec, user)}

    def _token_review(self, spec: Object) -> Object:
        token = spec.get("token")
        found = self._authenticator.review(token) if isinstance(token, str) else None
        if found is None:
            return {"user": {}, "error": "the token is unknown, expired or withdrawn"}
        user, audiences = found
        wanted = [a for a in spec.get("audiences") or [] if isinstance(a, str)] or [AUDIENCE]
        both = [a for a in wanted if a in audiences]
        if not both:
            return {"user": {}, "error": "the token is for another audience"}
        return {"authenticated": True, "user": _user_info(user), "audiences": both}

    def _access_review(self, info: KindInfo, spec: Object, user: User) -> Object:
        attributes = spec.get("resourceAttributes")
        if isinstance(attributes, dict):
            return self._resource_access(attributes, user)
        path = spec.get("nonResourceAttributes")
        if isinstance(path, dict):
            return {"allowed": user.is_admin or path.get("verb") == "get"}
        error = fielderrors.invalid(
            "spec.resourceAttributes",
            None,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )
        raise status.invalid(info, "", [error])

    def _resource_access(self, attributes: Object, user: User) -> Object:
        if user.is_admin:
            return {"allowed": True}
        group, plural = attributes.get("group") or "", attributes.get("resource") or ""
        for info in self._registry:
            if info.group == group and info.plural == plural:
                target = Target(
                    verb=attributes.get("verb") or "",
                    info=info,
                    namespace=attributes.get("namespace") or "",
                    name=attributes.get("name") or "",
                    subresource=attributes.get("subresource") or "",
                )
                refusal = self._authorizer.refusal(user, target)
                if refusal is None:
                    return {"allowed": True}
                return {"allowed": False, **({"reason": refusal} if refusal else {})}
        return {"allowed": False}

    def _bound(self, account: Item, reference: dict[str, Any]) -> Bound:
        kind, name = reference.get("kind") or "", reference.get("name") or ""
        resource = _BINDABLE.get(kind)
        if resource is None or not isinstance(name, str):
            raise status.bad_request(f"cannot bind token for serviceaccount to object kind {kind}")
        namespace = "" if resource == "nodes" else account.namespace
        info = self._registry.find("", "v1", resource)
        assert info is not None
        item = self._store.get(resource, namespace, name)
        if item is None:
            raise status.not_found(info, name)
        uid = item.obj["metadata"]["uid"]
        if reference.get("uid") and reference["uid"] != uid:
            raise status.conflict(
                info,
                name,
                f"the UID in the bound object reference ({reference['uid']}) does not match the "
                f"UID in record. The object might have been deleted and then recreated",
            )
        owner = (item.obj.get("spec") or {}).get("serviceAccountName") or "default"
        if resource == "pods" and owner != account.name:
            raise status.bad_request(
                f"cannot bind token for serviceaccount {account.namespace}/{account.name} to pod "
                f"running with different serviceaccount name {owner}"
            )
        return Bound(kind=kind, name=name, uid=uid)


def _rules(user: User) -> Object:
    """What a user may do, as far as rules can say it; a node's pods decide for a node."""
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    reviews = {
        "verbs": ["create"],
        "apiGroups": ["authentication.k8s.io", "authorization.k8s.io"],
        "resources": [
            "selfsubjectreviews",
            "selfsubjectaccessreviews",
            "selfsubjectrulesreviews",
        ],
    }
    paths = ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/readyz", "/version"]
    return {
        "resourceRules": [everything] if user.is_admin else [reviews],
        "nonResourceRules": [
            {"verbs": ["*"], "nonResourceURLs": ["*"]}
            if user.is_admin
            else {"verbs": ["get"], "nonResourceURLs": paths}
        ],
        "incomplete": bool(user.node),
    }


def _user_info(user: User) -> Object:
    info: Object = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        info["uid"] = user.uid
    return info


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}

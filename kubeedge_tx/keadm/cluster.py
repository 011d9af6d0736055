"""The Kubernetes API, as an administrator of the cloud uses it; blocking."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from kubeedge_tx.errors import KubeError
from kubeedge_tx.keadm.places import KeadmError, Places
from kubeedge_tx.keadm.settings import config_of, read_tree


def kubeconfig_of(places: Places, given: str | None) -> Path:
    """Find the kubeconfig: the one given, the cloud's own cluster, its embedded API's.

    :raises KeadmError: there is none.
    """
    if given:
        path = Path(given).expanduser()
        if not path.is_file():
            raise KeadmError(f"--kube-config: {path} is not there")
        return path
    tree = read_tree(places.config_file, "cloud")
    of_cloud = config_of(tree, "cloud").kube_api_config.kube_config
    path = Path(of_cloud) if of_cloud else places.data_dir / "admin.kubeconfig"
    if not path.is_file():
        raise KeadmError(
            f"{path} is not there: run this where the cloud runs (`keadm init` first), "
            "or name a cluster with --kube-config"
        )
    return path


class Cluster:
    """Calls of the API, by the official client's connections.

    :raises KeadmError: the kubeconfig cannot be used.
    """

    def __init__(self, kubeconfig: Path) -> None:
        # Imported here: it takes a fifth of a second.
        from kubernetes.config import ConfigException, new_client_from_config

        try:
            client = new_client_from_config(str(kubeconfig))
        except (ConfigException, OSError, ValueError) as error:
            raise KeadmError(f"{kubeconfig}: no usable kubeconfig: {error}") from None
        self._client = client
        self.url: str = client.configuration.host

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Make one call; returns the decoded answer, ``None`` for 404.

        :raises KubeError: it was refused, or there was no answer.
        """
        import urllib3

        headers: dict[str, str] = {"accept": "application/json"}
        settings = self._client.configuration
        bearer = settings.get_api_key_with_prefix("BearerToken")
        if bearer:
            headers["authorization"] = bearer
        if body is not None:
            patch = "merge-patch+" if method == "PATCH" else ""
            headers["content-type"] = f"application/{patch}json"
        try:
            answer = self._client.rest_client.pool_manager.request(
                method,
                self.url + path,
                headers=headers,
                body=None if body is None else json.dumps(body),
                timeout=10.0,
                retries=False,
            )
        except urllib3.exceptions.HTTPError as error:
            reason = str(error).rpartition(": ")[2]
            raise KubeError(f"{self.url} does not answer: {reason}", code=0) from None
        if answer.status == 404:
            return None
        try:
            decoded = json.loads(answer.data)
        except ValueError:
            decoded = {}
        if answer.status >= 400:
            said = decoded.get("message") or f"status {answer.status}"
            raise KubeError(
                f"{self.url} refuses {method} {path}: {said}",
                code=answer.status,
                reason=str(decoded.get("reason", "")),
            )
        return decoded

    def secret(self, name: str) -> dict[str, bytes] | None:
        """The data of a secret of namespace ``kubeedge``."""
        found = self.call("GET", f"/api/v1/namespaces/kubeedge/secrets/{name}")
        if found is None:
            return None
        return {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}

    def set_in_secret(self, name: str, data: dict[str, bytes | None]) -> None:
        """Set some keys of a secret of namespace ``kubeedge`` (``None`` removes one).

        The secret is made if it is not there; other keys of it stay.
        """
        path = "/api/v1/namespaces/kubeedge/secrets"
        encoded = {
            key: None if value is None else base64.b64encode(value).decode()
            for key, value in data.items()
        }
        if self.call("PATCH", f"{path}/{name}", {"data": encoded}) is not None:
            return
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": "kubeedge"},
            "type": "Opaque",
            "data": {key: value for key, value in encoded.items() if value is not None},
        }
        try:
            self.call("POST", path, body)
        except KubeError as error:
            if error.reason != "AlreadyExists":
                raise
            self.call("PATCH", f"{path}/{name}", {"data": encoded})

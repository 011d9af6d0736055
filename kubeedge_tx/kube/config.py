"""Where the API server is and who we are to it, from a kubeconfig or from inside a pod."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kubeedge_tx.errors import ConfigError


def load(kubeconfig: Path | None) -> Any:
    """Build an ``ApiClient`` of the official package; may run a credential plugin, so in a thread.

    The package is imported here: it is large, and only a process that talks to an API server
    should pay for it.

    :param kubeconfig: ``None`` for the service account of the pod we run in.
    :raises ConfigError: there is no usable configuration; names the file.
    """
    import yaml
    from kubernetes import client
    from kubernetes import config as loading
    from kubernetes.config.config_exception import ConfigException

    configuration = client.Configuration()
    configuration.keep_alive = True  # a watch on a dead link must notice
    where = str(kubeconfig) if kubeconfig else "in-cluster configuration"
    try:
        if kubeconfig is None:
            loading.load_incluster_config(client_configuration=configuration)
        else:
            loading.load_kube_config(
                config_file=str(kubeconfig),
                client_configuration=configuration,
                persist_config=False,
            )
    except ConfigException as error:
        advice = (
            "run inside a pod with a service account, or set kubeAPIConfig.kubeConfig"
            if kubeconfig is None
            else "it must exist and name a cluster, a user and a current-context"
        )
        raise ConfigError(where, f"{error} ({advice})") from None
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(where, f"cannot be read: {error}") from None
    return client.ApiClient(configuration)


def credentials(api: Any) -> tuple[object, ...]:
    """List the files a TLS connection was made with; a plugin may replace them."""
    configuration = api.configuration
    return (configuration.cert_file, configuration.key_file, configuration.ssl_ca_cert)


def authority(api: Any) -> str:
    """Read the API server's CA, PEM; empty if its certificate is one of the system's.

    :raises ConfigError: the file cannot be read.
    """
    path = api.configuration.ssl_ca_cert
    try:
        return Path(path).read_text() if path else ""
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from None

"""Every exception that KubeEdge-TX raises on purpose.

Texts name the field, file, resource or peer. They never contain message content, which
may be a Secret.
"""

from __future__ import annotations

from typing import Any


class KubeEdgeError(Exception):
    """The base of all of them."""


class ConfigError(KubeEdgeError):
    """A configuration cannot be used.

    :param path: the key's path, ``modules.cloudHub.nodeLimit``, or the file's name.
    :param reason: what is wrong with it, and what would be right.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class WireError(KubeEdgeError):
    """A peer sent something that is no message.

    :param close_code: the WebSocket close code that tells the peer, 3000 to 4999.
    """

    def __init__(self, reason: str, close_code: int = 4400) -> None:
        super().__init__(reason)
        self.close_code = close_code


class RouteError(KubeEdgeError):
    """A resource string does not have the form its use asks for."""


class NoSuchModule(KubeEdgeError):
    """A message was addressed to a module that this process does not have."""


class SendTimeout(KubeEdgeError):
    """Nobody answered a synchronous message in time.

    :param seconds: how long the caller waited.
    """

    def __init__(self, module: str, resource: str, seconds: float) -> None:
        super().__init__(f"no answer from {module} for {resource} within {seconds:g} s")
        self.seconds = seconds


class NotConnected(KubeEdgeError):
    """The cloud is needed for this and there is no connection."""


class HandshakeFailed(KubeEdgeError):
    """A WebSocket was refused, or closed before it opened.

    :param retry_after: seconds after which the peer wants to be asked again, if it said so.
    """

    def __init__(self, text: str, retry_after: int | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class StoreError(KubeEdgeError):
    """A write did not reach the disk; whoever caused it must not be acknowledged."""


class StoreTooNew(StoreError):
    """The database was written by a newer version of this program."""


class StoreCorrupt(StoreError):
    """The database does not pass SQLite's own check."""


class KubeError(KubeEdgeError):
    """The Kubernetes API refused a call, or could not be reached.

    :param code: HTTP status; 0 when there was no answer at all.
    :param reason: Kubernetes' reason: ``NotFound``, ``Conflict``, ``AlreadyExists``…
    :param status: the ``metav1.Status`` object of the answer, if it had one.
    :param retry_after: seconds the server asked us to wait, if it did.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int,
        reason: str = "",
        status: dict[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.status = status
        self.retry_after = retry_after


class Displaced(KubeError):
    """A node is connected to another cloud process; what it said here is not to be written.

    There is no answer to send: who asked is not there any more, and says it again elsewhere.
    """

    def __init__(self, node: str) -> None:
        text = f"node {node} is connected to another cloud process"
        status = {"status": "Failure", "message": text, "reason": "Displaced", "code": 409}
        super().__init__(text, code=409, reason="Displaced", status=status)


class TokenError(KubeEdgeError):
    """A join token is malformed, expired, or for another cloud; the text says which."""


class CertificateError(KubeEdgeError):
    """A certificate or key cannot be used; the text says which file and why."""


class ClockError(CertificateError):
    """A certificate is out of its dates by this machine's clock, or that is known to be wrong."""


class ContainerError(KubeEdgeError):
    """The runtime could not do something with a container.

    :param reason: the waiting reason that Kubernetes users know: ``ErrImagePull``,
        ``ErrImageNeverPull``, ``InvalidImageName``, ``CreateContainerConfigError``,
        ``CreateContainerError``, ``RunContainerError``, ``StartError``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

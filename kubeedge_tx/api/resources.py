"""The kinds of Kubernetes objects that KubeEdge-TX deals with, and their URLs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ResourceType:
    """One kind of object, as the API server addresses it."""

    group: str
    """Empty for the core group."""
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """What stands in the object's ``apiVersion``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Build the URL path.

        :param namespace: empty for cluster scope, or for all namespaces.
        """
        parts = ["", "apis", self.group, self.version] if self.group else ["", "api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


NAMESPACES: Final = ResourceType("", "v1", "namespaces", "Namespace", namespaced=False)
NODES: Final = ResourceType("", "v1", "nodes", "Node", namespaced=False)
PODS: Final = ResourceType("", "v1", "pods", "Pod")
CONFIGMAPS: Final = ResourceType("", "v1", "configmaps", "ConfigMap")
SECRETS: Final = ResourceType("", "v1", "secrets", "Secret")
SERVICES: Final = ResourceType("", "v1", "services", "Service")
ENDPOINTS: Final = ResourceType("", "v1", "endpoints", "Endpoints")
EVENTS: Final = ResourceType("", "v1", "events", "Event")
SERVICEACCOUNTS: Final = ResourceType("", "v1", "serviceaccounts", "ServiceAccount")
PERSISTENTVOLUMES: Final = ResourceType(
    "", "v1", "persistentvolumes", "PersistentVolume", namespaced=False
)
PERSISTENTVOLUMECLAIMS: Final = ResourceType(
    "", "v1", "persistentvolumeclaims", "PersistentVolumeClaim"
)
VOLUMEATTACHMENTS: Final = ResourceType(
    "storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", namespaced=False
)
LEASES: Final = ResourceType("coordination.k8s.io", "v1", "leases", "Lease")
CSRS: Final = ResourceType(
    "certificates.k8s.io",
    "v1",
    "certificatesigningrequests",
    "CertificateSigningRequest",
    namespaced=False,
)
CRDS: Final = ResourceType(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
)
DEVICES: Final = ResourceType("devices.kubeedge.io", "v1beta1", "devices", "Device")
DEVICEMODELS: Final = ResourceType("devices.kubeedge.io", "v1beta1", "devicemodels", "DeviceModel")
DEVICESTATUSES: Final = ResourceType(
    "devices.kubeedge.io", "v1beta1", "devicestatuses", "DeviceStatus"
)
OBJECTSYNCS: Final = ResourceType(
    "reliablesyncs.kubeedge.io", "v1alpha1", "objectsyncs", "ObjectSync"
)
CLUSTEROBJECTSYNCS: Final = ResourceType(
    "reliablesyncs.kubeedge.io",
    "v1alpha1",
    "clusterobjectsyncs",
    "ClusterObjectSync",
    namespaced=False,
)
RULES: Final = ResourceType("rules.kubeedge.io", "v1", "rules", "Rule")
RULEENDPOINTS: Final = ResourceType("rules.kubeedge.io", "v1", "ruleendpoints", "RuleEndpoint")

NODE_LEASE_NAMESPACE: Final = "kube-node-lease"
EDGE_ROLE_LABEL: Final = "node-role.kubernetes.io/edge"
"""A node with this label (value empty) is an edge node. Source: KubeEdge ``common/constants``."""

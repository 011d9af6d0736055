"""What lies in ``deploy/`` fits the code."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import yaml
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.api import resources
from kubeedge_tx.config.cloudcore import CloudCoreConfig
from kubeedge_tx.config.loader import load
from tests.generated import ROOT


class KubernetesTests(SynchronousTestCase):
    def setUp(self) -> None:
        text = (ROOT / "deploy" / "kubernetes" / "cloud.yaml").read_text()
        self.objects: list[Any] = list(yaml.safe_load_all(text))

    def find(self, kind: str, namespace: str = "") -> Any:
        return next(
            obj
            for obj in self.objects
            if obj["kind"] == kind and namespace in ("", obj["metadata"].get("namespace"))
        )

    def test_configuration(self) -> None:
        """The configuration in it is a valid one, for a cluster."""
        text = self.find("ConfigMap")["data"]["cloudcore.yaml"]
        config = load(text, CloudCoreConfig, "cloud.yaml")
        self.assertEqual(config.kube_api_config.kube_config, "in-cluster")
        self.assertEqual(config.common_config.monitor_server.bind_address, "0.0.0.0:9091")

    def test_ports(self) -> None:
        """The ports in it are the ones that the cloud listens on."""
        hub = CloudCoreConfig().modules.cloud_hub
        (container,) = self.find("Deployment")["spec"]["template"]["spec"]["containers"]
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        self.assertEqual(
            ports, {"websocket": hub.websocket.port, "https": hub.https.port, "metrics": 9091}
        )
        of_service = {each["name"]: each["port"] for each in self.find("Service")["spec"]["ports"]}
        self.assertEqual(of_service, {name: ports[name] for name in ("websocket", "https")})

    def test_rights(self) -> None:
        """It may do what the cloud's informers and writers do, and nothing to everything."""
        rights: dict[str, set[str]] = defaultdict(set)
        for obj in self.objects:
            for rule in obj.get("rules") or ():
                self.assertNotIn("*", rule["verbs"] + rule["resources"] + rule["apiGroups"])
                for group in rule["apiGroups"]:
                    for resource in rule["resources"]:
                        rights[f"{group}/{resource}"].update(rule["verbs"])
        watched = (
            resources.NODES,
            resources.PODS,
            resources.CONFIGMAPS,
            resources.SECRETS,
            resources.DEVICES,
            resources.DEVICEMODELS,
            resources.DEVICESTATUSES,
            resources.OBJECTSYNCS,
            resources.CLUSTEROBJECTSYNCS,
        )
        for kind in watched:
            self.assertLessEqual({"list", "watch"}, rights[f"{kind.group}/{kind.plural}"])
        self.assertNotIn("delete", rights["/nodes"])
        cluster = {
            resource
            for rule in self.find("ClusterRole")["rules"]
            for resource in rule["resources"]
            if {"create", "update", "patch", "delete"} & set(rule["verbs"])
        }
        self.assertNotIn("secrets", cluster)

"""What lies in ``deploy/`` fits the code."""

from __future__ import annotations

import re
from collections import defaultdict
from fnmatch import fnmatch
from typing import Any

import yaml
from packaging.requirements import Requirement
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
        self.assertEqual(rights["/events"], {"get", "create", "update", "patch"})
        self.assertNotIn("delete", rights["/nodes"])
        cluster = {
            resource
            for rule in self.find("ClusterRole")["rules"]
            for resource in rule["resources"]
            if {"create", "update", "patch", "delete"} & set(rule["verbs"])
        }
        self.assertNotIn("secrets", cluster)


class ImageTests(SynchronousTestCase):
    """What building ``deploy/Dockerfile`` relies on; docs/keadm.rst says how it was tried."""

    def test_copied(self) -> None:
        """Every file that the image is made from is there, and not kept from the builder."""
        text = (ROOT / "deploy" / "Dockerfile").read_text()
        rules = (ROOT / ".dockerignore").read_text().splitlines()
        sources = [
            source
            for words in re.findall(r"^COPY (?!--from)(.+)$", text, re.M)
            for source in words.split()[:-1]
        ]
        self.assertEqual(len(sources), 6)
        for source in sources:
            self.assertTrue((ROOT / source).exists(), source)
            self.assertTrue(any(fnmatch(source, rule[1:]) for rule in rules if rule[:1] == "!"))

    def test_requirements(self) -> None:
        """All that the package asks for is pinned, for it is installed without looking further."""
        pinned = {
            name.lower(): version
            for name, version in re.findall(
                r"^([\w.-]+)==(\S+)$", (ROOT / "requirements.txt").read_text(), re.M
            )
        }
        asked = re.search(r"install_requires=\[(.*?)\]", (ROOT / "setup.py").read_text(), re.S)
        assert asked is not None
        wanted = [Requirement(text) for text in re.findall(r'"([^"]+)"', asked[1])]
        self.assertGreater(len(wanted), 10)
        for each in wanted:
            self.assertIn(each.name.lower(), pinned)
            self.assertTrue(each.specifier.contains(pinned[each.name.lower()]), str(each))

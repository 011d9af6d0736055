"""Configuration: strict, and clear about what is wrong."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.config.cloudcore import CloudCoreConfig
from kubeedge_tx.config.edgecore import EdgeCoreConfig, seconds
from kubeedge_tx.config.loader import changed_keys, dump, load, load_file, problems
from kubeedge_tx.config.types import split_address
from kubeedge_tx.errors import ConfigError


class LoaderTests(SynchronousTestCase):
    """YAML in, typed configuration out, or one line that says what is wrong."""

    def complaint(self, text: str, form: type = CloudCoreConfig) -> str:
        return str(self.assertRaises(ConfigError, load, text, form, "f.yaml"))

    def test_defaults_are_complete(self) -> None:
        """What --defaultconfig prints is what an empty file means."""
        for form in (CloudCoreConfig, EdgeCoreConfig):
            self.assertEqual(load(dump(form()), form, "f.yaml"), load("", form, "f.yaml"))

    def test_upstream_keys(self) -> None:
        """Upstream's odd spellings are the ones that count."""
        cloud = dump(CloudCoreConfig())
        for key in ("kubeAPIConfig", "tlsCAFile", "CreatePodWorks", "ServiceAccountTokenWorkers"):
            self.assertIn(f"{key}:", cloud)
        edge = dump(EdgeCoreConfig())
        for key in ("messageQPS", "tlsCaFile", "mqttQOS", "cgroupsPerQOS", "clusterDNS"):
            self.assertIn(f"{key}:", edge)

    def test_unknown_key_names_its_path(self) -> None:
        """A misspelt key is an error, not a default."""
        self.assertEqual(
            self.complaint("modules: {cloudHub: {nodeLimi: 1}}"),
            "modules.cloudHub.nodeLimi: there is no such key",
        )

    def test_wrong_type_names_its_path(self) -> None:
        """A text where a number belongs says so, with the path."""
        self.assertEqual(
            self.complaint("modules: {cloudHub: {nodeLimit: many}}"),
            "modules.cloudHub.nodeLimit: expected int, got str",
        )

    def test_value_out_of_range(self) -> None:
        """A port is at most 65535."""
        self.assertEqual(
            self.complaint("modules: {cloudHub: {https: {port: 70000}}}"),
            "modules.cloudHub.https.port: expected int <= 65535",
        )

    def test_not_yaml_names_the_line(self) -> None:
        """A syntax error names file and line."""
        self.assertTrue(self.complaint("a: [\nb").startswith("f.yaml, line"))

    def test_key_given_twice(self) -> None:
        """The first of two equal keys would be lost without a word."""
        self.assertIn("'kind' is there twice", self.complaint("kind: CloudCore\nkind: CloudCore"))

    def test_wrong_kind(self) -> None:
        """An edge's file given to the cloud is refused by its apiVersion."""
        self.assertIn("edgecore", self.complaint(dump(EdgeCoreConfig())))

    def test_file_not_there(self) -> None:
        """A missing file is named."""
        path = Path(self.mktemp())
        error = self.assertRaises(ConfigError, load_file, path, CloudCoreConfig)
        self.assertIn(str(path), str(error))
        self.assertIn("No such file", str(error))

    def test_says_what_is_absent(self) -> None:
        """What a file switches on and this version does not have is listed."""
        config = load("modules: {cloudStream: {enable: true}}", CloudCoreConfig, "f")
        self.assertEqual(config.not_in_this_version(), ["modules.cloudStream"])

    def test_all_problems(self) -> None:
        """All that is wrong is found, in lists as well; what is right is kept."""
        text = """
        modules:
          edgeHub: {heartbeat: soon, messageQPS: 7, wrong: 1}
          edged: {tailoredKubeletConfig: {registerWithTaints: [{key: a, effect: Never}]}}
        commonConfig: {logging: {levels: {a.b: loud, c: debug}}}
        """
        config, found = problems(text, EdgeCoreConfig, "f")
        self.assertEqual(
            sorted(error.path for error in found),
            [
                "commonConfig.logging.levels[...]",
                "modules.edgeHub.heartbeat",
                "modules.edgeHub.wrong",
                "modules.edged.tailoredKubeletConfig.registerWithTaints[0].effect",
            ],
        )
        self.assertEqual(config.modules.edge_hub.message_qps, 7)
        for text, path in (("a: [", "f, line 2"), ("- 1", "the file"), ("modules: 3", "modules")):
            _, found = problems(text, EdgeCoreConfig, "f")
            self.assertEqual([error.path for error in found], [path])
        self.assertEqual(problems("", EdgeCoreConfig, "f"), (EdgeCoreConfig(), []))

    def test_changed_keys(self) -> None:
        """Two configurations differ in the keys that are named, by their paths."""
        text = "modules: {cloudHub: {nodeLimit: 7, websocket: {port: 1}}}"
        old, new = CloudCoreConfig(), load(text, CloudCoreConfig, "f")
        self.assertEqual(
            changed_keys(old, new),
            {"modules.cloudHub.nodeLimit", "modules.cloudHub.websocket.port"},
        )
        self.assertEqual(changed_keys(old, old), set())

    def test_durations(self) -> None:
        """Go durations are read as seconds."""
        for text, value in (("10s", 10.0), ("1m30s", 90.0), ("100ms", 0.1), ("1.5h", 5400.0)):
            self.assertAlmostEqual(seconds(text), value)
        self.assertEqual(seconds("0"), 0.0)

    def test_addresses(self) -> None:
        """HOST:PORT with names, IPv4 and IPv6; anything else names the key."""
        self.assertEqual(split_address("a.b:1", "k"), ("a.b", 1))
        self.assertEqual(split_address("[::1]:2", "k"), ("::1", 2))
        for bad in ("a.b", "a:b", "a:70000"):
            self.assertIn(
                "k: expected HOST:PORT",
                str(self.assertRaises(ConfigError, split_address, bad, "k")),
            )

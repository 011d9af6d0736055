from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from kubernetes import client, config
from twisted.trial.unittest import TestCase

from tests.apiserver.running import in_thread

WRITERS = 4
ROUNDS = 3


class CrashTests(TestCase):
    """``kill -9`` in the middle of writes loses nothing that was answered."""

    timeout = 120

    async def test_killed(self) -> None:
        """Every acknowledged change is there, versions never go back, and it starts again."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        acknowledged: dict[str, tuple[int, str]] = {}
        highest = 0
        for _ in range(ROUNDS):
            server, api = await in_thread(self.start, folder)
            core = client.CoreV1Api(api)
            listed = await in_thread(core.list_namespaced_config_map, "default")
            version = int(listed.metadata.resource_version)
            self.assertGreaterEqual(version, highest)
            found = {m.metadata.name: (m.data or {}).get("n", "") for m in listed.items}
            for name, (_, value) in acknowledged.items():
                # What was on its way when the server died may be there, or not.
                self.assertGreaterEqual(int(found[name]), int(value), name)
            written: list[tuple[str, int, str]] = []
            writing = [in_thread(self.write, api, n, written, found) for n in range(WRITERS)]
            while len(written) < 200:
                await in_thread(time.sleep, 0.01)
            server.kill()
            for done in writing:
                await done
            await in_thread(server.wait)
            for name, version, value in written:
                acknowledged[name] = (version, value)
                highest = max(highest, version)
        server, api = await in_thread(self.start, folder)
        try:
            core = client.CoreV1Api(api)
            for name, (version, value) in acknowledged.items():
                read = await in_thread(core.read_namespaced_config_map, name, "default")
                self.assertGreaterEqual(int(read.data["n"]), int(value))
                self.assertGreaterEqual(int(read.metadata.resource_version), version)
        finally:
            server.kill()
            await in_thread(server.wait)

    def start(self, folder: Path) -> tuple[subprocess.Popen[bytes], Any]:
        """Start a server, and wait until it answers."""
        kubeconfig = folder / "admin.kubeconfig"
        kubeconfig.unlink(missing_ok=True)
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.apiserver.serving", str(folder)],
            cwd=Path(__file__).parents[2],
        )
        while not kubeconfig.exists():
            assert server.poll() is None, "the server did not start"
            time.sleep(0.02)
        return server, config.new_client_from_config(str(kubeconfig))

    def write(
        self, api: Any, number: int, written: list[tuple[str, int, str]], found: dict[str, str]
    ) -> None:
        """Count up in one configmap until the server is gone."""
        core = client.CoreV1Api(api)
        name = f"counter-{number}"
        value = int(found.get(name) or 0)
        try:
            while True:
                value += 1
                body = {"metadata": {"name": name}, "data": {"n": str(value)}}
                if name in found:
                    made = core.patch_namespaced_config_map(name, "default", body)
                else:
                    made = core.create_namespaced_config_map("default", body)
                    found[name] = str(value)
                written.append((name, int(made.metadata.resource_version), made.data["n"]))
        except Exception as error:  # noqa: BLE001 - whatever a killed server looks like
            assert not isinstance(error, AssertionError)

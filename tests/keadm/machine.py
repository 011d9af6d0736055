"""Run ``keadm`` in a process of its own, on folders and ports of the test's own."""

from __future__ import annotations

import base64
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final
from urllib.request import Request, urlopen

import yaml
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.keadm.places import find
from kubeedge_tx.keadm.service import pid_of
from kubeedge_tx.security.authority import Authority

CHECKOUT: Final = Path(__file__).parent.parent.parent

KEADM: Final = (sys.executable, "-m", "kubeedge_tx.keadm.main")

PATIENCE: Final = 60.0

FREE_PORTS: Final = (
    "--set",
    "modules.cloudHub.websocket.port=0,modules.cloudHub.https.port=0,modules.apiServer.port=0,"
    "commonConfig.monitorServer.bindAddress=127.0.0.1:0",
)
EDGE_PORTS: Final = (
    "--set",
    "commonConfig.monitorServer.bindAddress=127.0.0.1:0,"
    "modules.eventBus.mqttServerInternal=tcp://127.0.0.1:0",
)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    output: str

    def line(self, start: str) -> str:
        """The first line that begins so."""
        for line in self.output.splitlines():
            if line.startswith(start):
                return " ".join(line.split())
        raise AssertionError(f"no line begins with {start!r}:\n{self.output}")


def files(root: Path) -> list[str]:
    """Everything below a folder, and how it may be used."""
    return sorted(f"{path.relative_to(root)} {path.lstat().st_mode:o}" for path in root.rglob("*"))


def until(what: str, look: Callable[[], Any]) -> Any:
    """Look again and again, until there is something."""
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {PATIENCE:g} s for {what}")
        time.sleep(0.03)
    return found


def run(
    words: Sequence[str],
    *,
    given: str = "",
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> Done:
    """Run a command to its end.

    :param given: its standard input.
    :param env: variables that it has besides ours.
    """
    done = subprocess.run(
        words,
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=150,
        cwd=cwd,
        env={**os.environ, **(env or {})},
    )
    return Done(done.returncode, done.stdout)


class MachineCase(SynchronousTestCase):
    """A test with a cloud and edges of its own, all below one folder, all gone afterwards."""

    def setUp(self) -> None:
        self.root = Path(self.mktemp()).absolute()
        self.root.mkdir(parents=True)
        self.cloud_dir = self.root / "cloud"
        self.edge_dir = self.root / "edge"
        self.addCleanup(self._clean)

    def _clean(self) -> None:
        for folder in self.root.glob("edge*"):
            if (folder / "keadm.json").exists():  # its pods end with it
                self.keadm("reset", "edge", "--data-dir", str(folder), "--force")
        for folder in self.root.glob("cloud*"):
            pid = pid_of(find("cloud", str(folder)))
            if pid is not None:
                os.kill(pid, signal.SIGKILL)

    def keadm(
        self,
        *arguments: str,
        given: str = "",
        env: dict[str, str] | None = None,
        before: tuple[str, ...] = (),
    ) -> Done:
        """Run it to its end.

        :param given: its standard input.
        :param before: a program to run it by.
        """
        return run([*before, *KEADM, *arguments], given=given, env=env)

    def in_mount_namespace(self, script: str, *arguments: str) -> Done:
        """Run it where ``script`` has changed the mounts, for it alone."""
        unshare = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-rm")
        return self.keadm(
            *arguments, before=(*unshare, "sh", "-ec", f'{script}\nexec "$@"', "keadm")
        )

    def spawn(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it; it ends with the test."""
        process = subprocess.Popen(
            [*KEADM, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

        def over() -> None:
            with suppress(ProcessLookupError):
                process.kill()
            process.communicate()

        self.addCleanup(over)
        return process

    def init(self, *arguments: str, folder: Path | None = None, names: bool = True) -> Done:
        """Start a cloud on free ports."""
        more = ("--advertise-address", "127.0.0.1") if names else ()
        where = ("--data-dir", str(folder or self.cloud_dir))
        return self.keadm("init", *where, *more, *FREE_PORTS, *arguments)

    def start_cloud(self, folder: Path | None = None) -> str:
        """Start a cloud; returns its token."""
        done = self.init(folder=folder)
        self.assertEqual(done.status, 0, done.output)
        done = self.keadm("gettoken", "--data-dir", str(folder or self.cloud_dir))
        self.assertEqual(done.status, 0, done.output)
        return done.output.strip()

    def ports(self, folder: Path | None = None) -> dict[str, int]:
        """A role's ports."""
        ready = json.loads(((folder or self.cloud_dir) / "ready.json").read_text())
        return dict(ready["ports"])

    def cloud_options(self, folder: Path | None = None, host: str = "127.0.0.1") -> list[str]:
        """Which cloud to join."""
        ports = self.ports(folder)
        return ["-e", f"{host}:{ports['websocket']}", "--certport", str(ports["https"])]

    def join(self, token: str, *arguments: str, name: str = "edge-1", verb: str = "join") -> Done:
        """Join this test's cloud, as processes, on free ports."""
        return self.keadm(*self.join_command(token, name=name, verb=verb), *arguments)

    def join_command(
        self, token: str, *, name: str = "edge-1", verb: str = "join", folder: Path | None = None
    ) -> list[str]:
        """The words of such a call."""
        return [
            *(verb, "--data-dir", str(folder or self.edge_dir), *self.cloud_options()),
            *("-t", token, "-i", name, "-r", "process", *EDGE_PORTS),
        ]

    def api(self, path: str, body: Any = None, folder: Path | None = None) -> Any:
        """Ask the cloud's API as its administrator."""
        config = yaml.safe_load(((folder or self.cloud_dir) / "admin.kubeconfig").read_text())
        cluster = config["clusters"][0]["cluster"]
        ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
        request = Request(
            cluster["server"] + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "authorization": f"Bearer {config['users'][0]['user']['token']}",
                "content-type": "application/json",
            },
        )
        with urlopen(request, context=ssl.create_default_context(cadata=ca)) as answer:
            return json.load(answer)

    def node_ready(self, name: str = "edge-1") -> bool:
        """Whether the API calls the node Ready."""
        for node in self.api("/api/v1/nodes")["items"]:
            if node["metadata"]["name"] == name:
                for condition in node["status"].get("conditions", []):
                    if condition["type"] == "Ready":
                        return bool(condition["status"] == "True")
        return False


class FakeCloud:
    """A certificate service whose answers a test chooses.

    :ivar date: its header ``Date``; :ivar nodes: names of nodes that it has.
    """

    def __init__(self, folder: Path) -> None:
        authority = Authority.create(now=datetime.now(UTC))
        pair = authority.issue_server(["localhost"], ["127.0.0.1"], now=datetime.now(UTC))
        self.authority = authority
        self.date = formatdate(usegmt=True)
        self.nodes: set[str] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                node = self.path.removeprefix("/node/")
                status = 200 if self.path == "/ca.crt" or node in outer.nodes else 404
                body = authority.cert_der if self.path == "/ca.crt" else b""
                self.send_response_only(status)
                self.send_header("Date", outer.date)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                return

        folder.mkdir(parents=True, exist_ok=True)
        chain = folder / "fake.pem"
        chain.write_bytes(pair.cert_pem + pair.key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def interrupt(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Press Ctrl-C and wait; returns status and output."""
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, output

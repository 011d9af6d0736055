from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

import kubeedge_tx
from kubeedge_tx.runtime.interfaces import SandboxSpec
from kubeedge_tx.runtime.process import ProcessRuntime
from tests.runtime.contract import RuntimeContract

_reactor: Any = reactor


class ProcessRuntimeTests(RuntimeContract, TestCase):
    """The process runtime with real processes keeps the contract."""

    root: Path | None = None

    def make_runtime(self) -> ProcessRuntime:
        if self.root is None:
            self.root = Path(self.mktemp())
        return ProcessRuntime(_reactor, self.root, time.time)

    def started_again(self) -> Deferred[Any]:
        """Stop the agent's part and start it anew, on the same folder."""

        async def run() -> Any:
            await self.runtime.stop()
            self.runtime = await self.started()
            return self.runtime

        return Deferred.fromCoroutine(run())

    def records_of(self, name: str = "main", attempt: int = 0) -> Path:
        """Return a container's folder."""
        assert self.root is not None
        return self.root / "pods" / self.uid / name / str(attempt)

    def change(self, path: Path, **values: Any) -> None:
        """Change a record on disk, as time and reboots would."""
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    async def test_survives_restart(self) -> None:
        """A container goes on while the agent restarts, and is the same one after it."""
        container_id = await self.start(self.sleeps(), spec_hash="abc")
        before = await self.state(container_id)
        pid = running_pid(self.records_of())
        await self.started_again()
        self.assertEqual(await self.state(container_id), before)
        self.assertEqual(running_pid(self.records_of()), pid)
        await self.runtime.stop_container(container_id, 0)
        self.assertIn((await self.state(container_id)).signal, (9, 15))

    async def test_ended_meanwhile(self) -> None:
        """What ends while no agent runs has its exit code when one starts."""
        container_id = await self.start(
            self.shell("read line < fifo; exit 7"), working_dir=self.fifo()
        )
        pid = running_pid(self.records_of(), "shim")
        watch = os.pidfd_open(pid)
        self.addCleanup(os.close, watch)
        await self.runtime.stop()
        Path(self.fifo(), "fifo").write_text("go\n")
        await readable(watch)
        self.runtime = await self.started()
        state = await self.state(container_id)
        self.assertEqual((state.state, state.exit_code), ("exited", 7))

    def fifo(self) -> str:
        """Return a folder with a pipe named ``fifo`` in it."""
        assert self.root is not None
        folder = self.root.absolute() / "fifos"
        if not folder.exists():
            folder.mkdir()
            os.mkfifo(folder / "fifo")
        return str(folder)

    async def test_agent_killed(self) -> None:
        """kill -9 of the agent leaves the container running, for the next one to adopt."""
        await self.runtime.stop()
        script = Path(self.mktemp())
        script.write_text(AGENT)
        arguments = [sys.executable, str(script), str(self.root), self.uid]
        environment = os.environ | {"PYTHONPATH": str(Path(kubeedge_tx.__file__).parents[1])}
        agent = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)
        assert agent.stdout is not None
        container_id = (await deferToThread(agent.stdout.readline)).strip()
        agent.kill()
        agent.wait()
        agent.stdout.close()
        self.runtime = await self.started()
        state = await self.state(container_id)
        self.assertEqual(state.state, "running")
        await self.printed(container_id)

    async def test_agent_killed_any_time(self) -> None:
        """Killed while it starts containers, an agent leaves none half known or unknown."""
        script = Path(self.mktemp())
        script.write_text(AGENT)
        environment = os.environ | {"PYTHONPATH": str(Path(kubeedge_tx.__file__).parents[1])}
        for number in range(5):
            await self.runtime.stop()
            arguments = [sys.executable, str(script), str(self.root), self.uid, str(number)]
            agent = subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment)
            assert agent.stdout is not None
            await deferToThread(agent.stdout.readline)
            await deferLater(_reactor, random.uniform(0, 0.1))  # any moment has to be good
            agent.kill()
            agent.wait()
            agent.stdout.close()
            self.runtime = await self.started()
            pod = await self.pod()
            assert pod is not None
            for each in pod.containers:
                if each.state != "running":
                    self.assertEqual((each.state, each.exit_code), ("exited", 255))
            known = {each.name for each in pod.containers if each.state == "running"}
            self.assertEqual(known, self.alive())

    def alive(self) -> set[str]:
        """Return the containers whose commands run, as the kernel has it."""
        names = set()
        for process in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                variables = process.read_bytes().split(b"\0")
                if f"POD={self.uid}".encode() in variables:
                    names |= {v[5:].decode() for v in variables if v.startswith(b"NAME=")}
        return names

    async def test_reboot(self) -> None:
        """After a reboot a pod is there, its sandbox not ready and its containers ended."""
        container_id = await self.start(self.sleeps())
        await self.runtime.stop_container(container_id, 0)
        folder = self.records_of()
        (folder / "exit.json").unlink()
        self.change(folder / "running.json", boot="earlier")
        self.change(folder.parents[1] / "sandbox.json", boot="earlier")
        await self.started_again()
        pod = await self.pod()
        assert pod is not None
        self.assertEqual((pod.sandbox_ready, pod.ip), (False, ""))
        self.assertEqual((pod.containers[0].state, pod.containers[0].exit_code), ("exited", 255))
        again = await self.runtime.run_sandbox(self.sandbox())
        self.assertTrue(again.sandbox_ready)
        self.assertNotEqual(again.sandbox_id, pod.sandbox_id)

    async def test_pid_reused(self) -> None:
        """Another process that got the recorded pid is not taken for the container's."""
        container_id = await self.start(self.sleeps())
        await self.runtime.stop_container(container_id, 0)
        folder = self.records_of()
        (folder / "exit.json").unlink()
        other = subprocess.Popen(["sleep", "1000"])
        self.addCleanup(other.wait)
        self.addCleanup(other.kill)
        self.change(folder / "running.json", pid=other.pid, shim=other.pid)
        await self.started_again()
        self.assertEqual((await self.state(container_id)).state, "exited")
        self.assertIsNone(other.poll())

    async def test_supervisor_killed(self) -> None:
        """A container whose supervisor is killed ends with it, and is seen to."""
        container_id = await self.start(self.sleeps())
        pid = running_pid(self.records_of())
        watch = os.pidfd_open(pid)
        self.addCleanup(os.close, watch)
        os.kill(running_pid(self.records_of(), "shim"), signal.SIGKILL)
        state = await self.ended(container_id)
        self.assertEqual(state.exit_code, 137)
        self.assertIn("supervisor", state.error)
        await readable(watch)

    async def test_descendants(self) -> None:
        """What a command left behind ends with it, even in a session of its own."""
        script = "setsid sh -c 'echo $$; exec sleep 1000' & sleep 1000"
        container_id = await self.start(self.shell(script))
        pid = int(await self.printed(container_id, b"\n"))
        watch = os.pidfd_open(pid)
        self.addCleanup(os.close, watch)
        await self.runtime.stop_container(container_id, 30)
        self.assertEqual((await self.state(container_id)).signal, 15)
        await readable(watch)

    async def test_no_command(self) -> None:
        """A container without a command is refused with what to do."""
        call = Deferred.fromCoroutine(self.start(()))
        text = await self.refused("CreateContainerConfigError", call)
        self.assertIn("command", text)
        pod = await self.pod()
        assert pod is not None
        self.assertEqual(pod.containers, ())

    async def test_environment(self) -> None:
        """A command finds the pod's environment and nothing of the agent's."""
        self.patch(os, "environ", os.environ | {"AGENT_TOKEN": "secret"})
        container_id = await self.start(
            ("env",), env=(("COLOUR", "blue"), ("HOME", "/home/x"), ("TEXT", "a\nb"))
        )
        await self.ended(container_id)
        log = await self.runtime.logs(container_id)
        self.assertEqual(
            sorted(log.splitlines()),
            [
                b"COLOUR=blue",
                b"HOME=/home/x",
                b"HOSTNAME=web",
                b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                b"TEXT=a",
                b"b",
            ],
        )

    async def test_working_directory(self) -> None:
        """A command starts in its working directory; one that is not there is an error."""
        container_id = await self.start(("pwd",), working_dir="/usr")
        await self.ended(container_id)
        self.assertEqual(await self.runtime.logs(container_id), b"/usr\n")
        call = Deferred.fromCoroutine(self.start(("pwd",), working_dir="/no/such", attempt=1))
        self.assertIn("/no/such", await self.refused("RunContainerError", call))

    async def test_not_executable(self) -> None:
        """A file that may not be executed is told from one that is not there."""
        path = Path(self.mktemp()).absolute()
        path.write_text("x")
        call = Deferred.fromCoroutine(self.start((str(path),)))
        self.assertIn("permission denied", await self.refused("RunContainerError", call))
        pod = await self.pod()
        assert pod is not None
        self.assertEqual(pod.containers[0].exit_code, 126)
        call = Deferred.fromCoroutine(self.start(("/no/such/file",), attempt=1))
        self.assertIn("no such file", await self.refused("RunContainerError", call))

    async def test_exec_timeout(self) -> None:
        """A command that takes too long is killed, with what it started."""
        container_id = await self.start(self.sleeps())
        where = Path(self.fifo(), "fifo")
        script = f"sleep 1000 & echo $! > {where.parent}/pid; sleep 1000"
        call = self.runtime.exec(container_id, self.shell(script), 2)
        await self.refused("ExecTimeout", call)
        watch = pidfd(int((where.parent / "pid").read_text()))
        if watch is not None:
            self.addCleanup(os.close, watch)
            await readable(watch)

    async def test_exec_not_found(self) -> None:
        """A command that exec does not find ends with 127 and says so."""
        container_id = await self.start(self.sleeps())
        result = await self.runtime.exec(container_id, ("no-such-program",), 30)
        self.assertEqual(result.exit_code, 127)
        self.assertIn(b"executable file not found", result.output)

    async def test_exec_background(self) -> None:
        """What a command leaves in the background does not make it late."""
        container_id = await self.start(self.sleeps())
        result = await self.runtime.exec(container_id, self.shell("sleep 9 & echo hi"), 30)
        self.assertEqual((result.exit_code, result.output), (0, b"hi\n"))

    async def test_terminal(self) -> None:
        """A command that asks for a terminal has one."""
        container_id = await self.start(self.shell("tty; test -t 0"), tty=True)
        state = await self.ended(container_id)
        self.assertEqual(state.exit_code, 0)
        self.assertIn(b"/dev/pts/", await self.runtime.logs(container_id))

    async def test_input(self) -> None:
        """A command's input is empty, or open for ever if the pod asks for that."""
        container_id = await self.start(("cat",))
        self.assertEqual((await self.ended(container_id)).exit_code, 0)
        container_id = await self.start(self.shell("echo ready; cat"), attempt=1, stdin=True)
        await self.printed(container_id)
        self.assertEqual((await self.state(container_id)).state, "running")

    async def test_both_outputs(self) -> None:
        """Output and error output are both in the log, in the format kubelet writes."""
        container_id = await self.start(self.shell("echo out; echo err >&2; printf part"))
        await self.ended(container_id)
        log = await self.runtime.logs(container_id)
        self.assertEqual(sorted(log.splitlines()), [b"err", b"out", b"part"])
        assert self.root is not None
        path = self.root / "logs" / f"default_web_{self.uid}" / "main" / "0.log"
        stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"
        for line in path.read_text().splitlines():
            self.assertRegex(line, rf"^{stamp} (stdout [FP] (out|part)|stderr F err)$")

    async def test_files_go(self) -> None:
        """Nothing of a pod is left on disk when it is removed."""
        container_id = await self.start(self.prints("x"))
        await self.ended(container_id)
        await self.runtime.remove_pod(self.uid)
        assert self.root is not None
        self.assertEqual(list((self.root / "pods").iterdir()), [])
        self.assertEqual(list((self.root / "logs").iterdir()), [])

    async def test_names(self) -> None:
        """A name that would lead out of the runtime's folder is refused."""
        call = self.runtime.run_sandbox(
            SandboxSpec(namespace="a", pod="b", uid="../x", hostname="")
        )
        await self.refused("CreateContainerConfigError", call)

    async def test_not_started(self) -> None:
        """Before its start and after its stop it says that it is not started."""
        runtime = self.make_runtime()
        await self.refused("RuntimeUnavailable", runtime.pods())

    async def test_user(self) -> None:
        """A command runs as the user and groups asked for, if the agent is root."""
        spec = {"user": 12345, "group": 23456, "supplemental_groups": (34567,)}
        if os.geteuid() != 0:
            call = Deferred.fromCoroutine(self.start(("id",), **spec))
            self.assertIn("root", await self.refused("CreateContainerConfigError", call))
            return
        container_id = await self.start(self.shell("id -u; id -g; id -G; sleep 1000"), **spec)
        log = await self.printed(container_id, b"34567")
        self.assertEqual(log.split(), [b"12345", b"23456", b"23456", b"34567"])
        result = await self.runtime.exec(container_id, ("id", "-u"), 30)
        self.assertEqual(result.output, b"12345\n")

    async def test_no_new_privileges(self) -> None:
        """Where privileges may not be gained, the kernel sees to it."""
        for allowed, expected in ((True, b"0"), (False, b"1")):
            container_id = await self.start(
                ("grep", "NoNewPrivs", "/proc/self/status"),
                attempt=int(allowed),
                allow_privilege_escalation=allowed,
            )
            await self.ended(container_id)
            self.assertEqual((await self.runtime.logs(container_id)).split()[1], expected)


def running_pid(folder: Path, which: str = "pid") -> int:
    """Read which process a container is."""
    return int(json.loads((folder / "running.json").read_text())[which])


def pidfd(pid: int) -> int | None:
    """Open a process to watch it; ``None`` if it is gone already."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


async def readable(pidfd: int) -> None:
    """Wait until a process has ended."""
    ready, _, _ = await deferToThread(select.select, [pidfd], [], [], 30)
    if not ready:
        raise AssertionError("a process that should have ended still runs")


AGENT = """
import sys, time
from itertools import count
from pathlib import Path
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from kubeedge_tx.runtime.interfaces import ContainerSpec, SandboxSpec
from kubeedge_tx.runtime.process import ProcessRuntime

async def run():
    root, uid, *rounds = sys.argv[1:]
    runtime = ProcessRuntime(reactor, Path(root), time.time)
    await runtime.start()
    await runtime.run_sandbox(SandboxSpec(namespace="a", pod="b", uid=uid, hostname="b"))
    for number in count() if rounds else (0,):
        name = f"c{rounds[0]}-{number}" if rounds else "main"
        print(await runtime.start_container(uid, ContainerSpec(
            name=name, image="x", command=("sh", "-c", "echo ready; exec sleep 1000"),
            env=(("POD", uid), ("NAME", name)))), flush=True)

reactor.callWhenRunning(lambda: Deferred.fromCoroutine(run()))
reactor.run()
"""

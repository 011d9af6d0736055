"""Start one process of the ``process`` runtime. A program of its own, run by path.

``python -I -S process_launcher.py run|exec|enter|probe``, a JSON object on standard input. It
imports nothing of this package and not Twisted: it does the forks, mounts and changes of
user that must not happen in the agent, then turns into something smaller.

``run``: two forks away from the agent, in a session of its own, it starts the command and
becomes ``process_shim.py``, which watches over it. What it knows it writes as
``running.json``, or ``exit.json`` if the command cannot be started. Descriptor 3 is the
container's lock file, locked by the agent; who holds it is alive.

``exec``: joins the namespaces of a running container and becomes the command, in a session of
its own. ``enter``: the same for a person, who keeps terminal, input and outputs; the object is
in the file whose descriptor follows.

``probe``: ends with 0 if mounts of the kind asked for can be made.

Mounts. Every container gets a mount namespace in which each of its volumes is bound at its
container path; everything else is the host's. If a path does not exist on the host, the
folder that should have it is covered by a memory file system that shows the same entries
and one more. Such a folder shows the entries the host had at the start, and new files right
in it last as long as the container.

Sources: mount_namespaces(7), user_namespaces(7), pivot_root(2), prctl(2).
"""

# pathlib costs as much start-up time as all the rest.
# ruff: noqa: PTH102, PTH105, PTH106, PTH112, PTH113, PTH115, PTH116, PTH118, PTH120, PTH123
# ruff: noqa: PTH208, PTH211
from __future__ import annotations

import ctypes
import errno
import json
import os
import pwd
import signal
import stat
import sys
from typing import Any, Final, NoReturn

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUSER: Final = 0x10000000
_MS_RDONLY: Final = 1
_MS_REMOUNT: Final = 32
_MS_BIND: Final = 4096
_MS_REC: Final = 16384
_MS_SLAVE: Final = 1 << 19
_MS_RELATIME: Final = 1 << 21
_KEPT_FLAGS: Final = 2 | 4 | 8 | 1024 | 2048
"""nosuid, nodev, noexec, noatime, nodiratime: the same bits in statvfs and mount."""
_ST_RELATIME: Final = 4096
_MNT_DETACH: Final = 2
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_LOCK_FD: Final = 3
_OLD_ROOT: Final = ".kubeedge-old-root"
_SHIM_SIGNALS: Final = (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD)

_libc: Final = ctypes.CDLL(None, use_errno=True)


class StartError(Exception):
    """The command cannot be started.

    :param reason: as in ContainerError.
    :param code: exit code that the container then has.
    """

    def __init__(self, reason: str, code: int, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.code = code


def _call(function: str, *arguments: Any) -> None:
    if getattr(_libc, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


def _prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    _call("prctl", ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero)


def _mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    _call(
        "mount",
        os.fsencode(source),
        os.fsencode(target),
        os.fsencode(kind),
        ctypes.c_ulong(flags),
        os.fsencode(data),
    )


def _bind(source: str, target: str) -> None:
    _mount(source, target, flags=_MS_BIND | _MS_REC)


def _make_read_only(target: str) -> None:
    # A flag the source's mount has must be repeated, or a user namespace refuses.
    had = os.statvfs(target).f_flag
    flags = had & _KEPT_FLAGS
    if had & _ST_RELATIME:
        flags |= _MS_RELATIME
    _mount("none", target, flags=_MS_REMOUNT | _MS_BIND | _MS_RDONLY | flags)


def _enter_new_namespaces(kind: str) -> None:
    """Have mounts of our own: ``root`` may just ask, ``user`` needs a user namespace.

    The user keeps its number in there, so the command, unlike under ``unshare -r``, does
    not take itself for root and has no capabilities after ``exec``.
    """
    uid, gid = os.geteuid(), os.getegid()
    if kind == "user":
        _call("unshare", ctypes.c_int(_CLONE_NEWUSER | _CLONE_NEWNS))
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    else:
        _call("unshare", ctypes.c_int(_CLONE_NEWNS))
    _mount("none", "/", flags=_MS_REC | _MS_SLAVE)


class _View:
    """The file system as the container sees it, made by binding one mount after another.

    :param stage: an existing folder, on which a new root is put together if need be.
    """

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._ours: list[str] = []
        self._pivoted = False

    def add(self, source_fd: int, path: str, *, read_only: bool) -> None:
        """Show what ``source_fd`` is open on, a file or folder, at ``path``."""
        is_folder = stat.S_ISDIR(os.fstat(source_fd).st_mode)
        target = self._mount_point(path, is_folder=is_folder)
        _bind(f"/proc/self/fd/{source_fd}", target)
        if read_only:
            _make_read_only(target)

    def finish(self) -> None:
        """Let go of the host's root, if another one was made."""
        if self._pivoted:
            _call("umount2", os.fsencode(f"/{_OLD_ROOT}"), ctypes.c_int(_MNT_DETACH))
            os.rmdir(f"/{_OLD_ROOT}")

    def _mount_point(self, path: str, *, is_folder: bool) -> str:
        real = os.path.realpath(path)
        if os.path.lexists(real):
            if os.path.isdir(real) is not is_folder:
                kinds = ("a folder", "a file") if is_folder else ("a file", "a folder")
                raise StartError(
                    "CreateContainerError",
                    128,
                    f"cannot mount {kinds[0]} at {path}: the host has {kinds[1]} there",
                )
            return real
        parent = os.path.dirname(real)
        missing = []
        while not os.path.lexists(parent):
            missing.append(parent)
            parent = os.path.dirname(parent)
        if not os.path.isdir(parent):
            raise StartError(
                "CreateContainerError", 128, f"cannot mount at {path}: {parent} is no folder"
            )
        self._make_extensible(parent, real)
        for folder in reversed(missing):
            os.mkdir(folder, 0o755)
        if is_folder:
            os.mkdir(real, 0o755)
        else:
            os.close(os.open(real, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        return real

    def _make_extensible(self, folder: str, wanted: str) -> None:
        device = os.stat(folder).st_dev
        if any(device == os.stat(ours).st_dev for ours in self._ours):
            return
        if wanted == "/dev/termination-log" and os.access("/dev", os.W_OK):
            return  # an empty file there harms nobody, and /dev keeps showing new devices
        if folder == "/":
            self._replace_root()
        else:
            self._cover(folder)
        self._ours.append(folder)

    def _cover(self, folder: str) -> None:
        below = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._put_tmpfs(folder, like=os.fstat(below))
        self._show_entries(f"/proc/self/fd/{below}", folder)
        os.close(below)

    def _replace_root(self) -> None:
        self._put_tmpfs(self._stage, like=os.stat("/"))
        old = os.path.join(self._stage, _OLD_ROOT)
        os.mkdir(old, 0o700)
        number = {"x86_64": 155, "aarch64": 41, "armv7l": 218, "riscv64": 41, "i686": 217}
        machine = os.uname().machine
        if machine not in number:
            raise StartError(
                "CreateContainerError", 128, f"cannot mount below / on a {machine} processor"
            )
        call = ctypes.c_long(number[machine])
        _call("syscall", call, os.fsencode(self._stage), os.fsencode(old))
        os.chdir("/")
        self._pivoted = True
        # /proc first: the sources below are named through it.
        os.mkdir("/proc", 0o555)
        _bind(f"/{_OLD_ROOT}/proc", "/proc")
        self._show_entries(f"/{_OLD_ROOT}", "/")

    def _put_tmpfs(self, folder: str, *, like: os.stat_result) -> None:
        _mount("kubeedge", folder, "tmpfs", 2, f"mode={stat.S_IMODE(like.st_mode):o}")
        if os.geteuid() == 0:
            os.chown(folder, like.st_uid, like.st_gid)

    @staticmethod
    def _show_entries(source: str, target: str) -> None:
        for name in os.listdir(source):
            from_path = os.path.join(source, name)
            to_path = os.path.join(target, name)
            if os.path.lexists(to_path):
                continue
            try:
                mode = os.lstat(from_path).st_mode
                if stat.S_ISLNK(mode):
                    os.symlink(os.readlink(from_path), to_path)
                    continue
                if stat.S_ISDIR(mode):
                    os.mkdir(to_path)
                else:
                    os.close(os.open(to_path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
                _bind(from_path, to_path)
            except (FileNotFoundError, PermissionError):
                continue  # gone meanwhile, or nothing this user could see anyway


def _make_view(spec: dict[str, Any]) -> None:
    if spec["namespaces"] == "none":
        return
    _enter_new_namespaces(spec["namespaces"])
    view = _View(spec["folder"])
    sources = []
    for mount in spec["mounts"]:
        try:
            fd = os.open(mount["host_path"], os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise StartError(
                "CreateContainerError",
                128,
                f"cannot mount {mount['host_path']}: {os.strerror(error.errno or 0)}",
            ) from None
        sources.append((mount, fd))
    for mount, fd in sorted(sources, key=lambda pair: pair[0]["container_path"].count("/")):
        try:
            view.add(fd, mount["container_path"], read_only=mount["read_only"])
        except OSError as error:
            raise StartError(
                "CreateContainerError", 128, f"cannot mount at {mount['container_path']}: {error}"
            ) from None
        os.close(fd)
    view.finish()


def _become_user(spec: dict[str, Any]) -> None:
    if os.geteuid() == 0:
        uid, gid = spec["user"], spec["group"]
        if uid is not None or gid is not None or spec["supplemental_groups"]:
            if gid is None:
                try:
                    gid = pwd.getpwuid(uid or 0).pw_gid
                except KeyError:
                    gid = 0
            os.setgroups(sorted({gid, *spec["supplemental_groups"]}))
            os.setgid(gid)
            os.setuid(uid or 0)
    if not spec["allow_privilege_escalation"]:
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _find(program: str, path: str) -> str:
    if "/" in program:
        if not os.path.lexists(program):
            raise StartError(
                "RunContainerError",
                127,
                f'exec: "{program}": stat {program}: no such file or directory',
            )
        return program
    for folder in path.split(":"):
        candidate = os.path.join(folder or ".", program)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    raise StartError(
        "RunContainerError", 127, f'exec: "{program}": executable file not found in $PATH'
    )


def _execute(spec: dict[str, Any]) -> NoReturn:
    try:
        os.chdir(spec["working_dir"])
    except OSError as error:
        raise StartError(
            "RunContainerError",
            128,
            f"cannot change to the working directory {spec['working_dir']}: "
            f"{os.strerror(error.errno or 0)}",
        ) from None
    argv = [text.encode() for text in spec["argv"]]
    environment = {name.encode(): value.encode() for name, value in spec["env"].items()}
    environment.setdefault(b"HOME", _home().encode())
    program = _find(spec["argv"][0], spec["env"].get("PATH", os.defpath))
    for number in range(1, signal.NSIG):
        if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(0o022)
    try:
        os.execve(os.fsencode(program), argv, environment)  # noqa: S606 - that is the job
    except OSError as error:
        text = os.strerror(error.errno or 0).lower()
        code = 126 if error.errno in (errno.EACCES, errno.ENOEXEC) else 128
        raise StartError("RunContainerError", code, f'exec: "{spec["argv"][0]}": {text}') from None


def _home() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return "/"


def _start_time(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])


def _write(folder: str, name: str, content: dict[str, Any]) -> None:
    path = os.path.join(folder, name)
    fd = os.open(path + ".new", os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.write(fd, json.dumps(content).encode())
    os.fsync(fd)
    os.close(fd)
    os.replace(path + ".new", path)


def _set_oom_score(value: int) -> None:
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(value))
    except OSError:
        pass  # only root may lower it


def _child(spec: dict[str, Any], fds: dict[int, int], status: int, tty: bool) -> NoReturn:
    """Become the command, or say into ``status`` why not."""
    try:
        os.setsid()
        for number, fd in fds.items():
            os.dup2(fd, number)
        if tty:
            import fcntl
            import termios

            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        _set_oom_score(spec["oom_score"])
        _make_view(spec)
        _become_user(spec)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _execute(spec)
    except StartError as error:
        report = [error.reason, error.code, str(error)]
    except OSError as error:
        report = ["CreateContainerError", 128, str(error)]
    os.write(status, json.dumps(report).encode())
    os._exit(int(str(report[1])))


def _run(spec: dict[str, Any], now: float) -> None:
    """Start the command and become its shim; returns in the first parent only."""
    if os.fork() != 0:
        return
    os.setsid()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, _SHIM_SIGNALS)
    for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_IGN)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    os.set_inheritable(_LOCK_FD, False)
    if spec["tty"]:
        output, terminal = os.openpty()
        error_output, hold, fds = -1, -1, {0: terminal, 1: terminal, 2: terminal}
    else:
        output, write_output = os.pipe()
        error_output, write_error = os.pipe()
        read_input, hold = os.pipe() if spec["stdin"] else (null, -1)
        fds = {0: read_input, 1: write_output, 2: write_error}
    status, write_status = os.pipe()
    with open("/proc/self/oom_score_adj") as file:
        spec["oom_score"] = int(file.read())
    _set_oom_score(-998)
    pid = os.fork()
    if pid == 0:
        _child(spec, fds, write_status, spec["tty"])
    for fd in {write_status, *fds.values()} - {null}:
        os.close(fd)
    said = b""
    while part := os.read(status, 4096):
        said += part
    os.close(status)
    if said:
        os.waitpid(pid, 0)
        reason, code, text = json.loads(said)
        failed = {"exit_code": code, "signal": 0, "error": text, "reason": reason}
        _write(spec["folder"], "exit.json", failed | {"finished_at": now})
        os._exit(0)
    own = os.getpid()
    running = {
        "boot": spec["boot"],
        "shim": own,
        "shim_start": _start_time(own),
        "pid": pid,
        "pid_start": _start_time(pid),
    }
    _write(spec["folder"], "running.json", running | {"started_at": now})
    os.chdir("/")
    for number in (0, 1, 2):
        os.dup2(null, number)
    kept = (output, error_output, hold, _LOCK_FD)
    for fd in kept:
        if fd >= 0:
            os.set_inheritable(fd, True)
    limits = (spec["log_bytes"], spec["log_files"])
    arguments = [spec["folder"], spec["log"], str(pid), *map(str, (*kept, *limits))]
    python = [sys.executable, "-I", "-S", spec["shim"], *arguments]
    os.execve(sys.executable, python, {})  # noqa: S606 - that is the job


def _exec(spec: dict[str, Any]) -> NoReturn:
    """Become a command beside a running container's."""
    try:
        kinds = {"none": (), "root": ("mnt",), "user": ("user", "mnt")}[spec["namespaces"]]
        fds = [os.open(f"/proc/{spec['pid']}/ns/{kind}", os.O_RDONLY) for kind in kinds]
        for fd in fds:
            _call("setns", ctypes.c_int(fd), ctypes.c_int(0))
            os.close(fd)
        _become_user(spec)
        _execute(spec)
    except StartError as error:
        os.write(2, str(error).encode())
        os._exit(error.code if error.code in (126, 127) else 126)
    except OSError as error:
        os.write(2, str(error).encode())
        os._exit(126)


def _probe(spec: dict[str, Any]) -> None:
    """Try each thing a container may need; raises OSError if it is refused."""
    _enter_new_namespaces(spec["namespaces"])
    view = _View(spec["folder"])
    fd = os.open(spec["folder"], os.O_PATH | os.O_CLOEXEC)
    name = "kubeedge-probe-of-mounts"
    view.add(fd, f"/{name}/a", read_only=True)
    view.add(fd, f"/etc/{name}", read_only=False)
    view.finish()


def main() -> None:
    """Do what the first argument says."""
    verb = sys.argv[1]
    if verb == "enter":
        with open(int(sys.argv[2])) as file:
            spec = json.load(file)
        _exec(spec)
    spec = json.load(sys.stdin)
    if verb == "run":
        _run(spec, spec["now"])
    elif verb == "exec":
        os.setsid()
        os.dup2(1, 2)  # one pipe keeps the order of what it writes
        _exec(spec)
    else:
        _probe(spec)


if __name__ == "__main__":
    main()

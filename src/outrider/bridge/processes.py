"""What `subprocess` does, for commands of the host: `run`, `Popen`, `call`, `check_call`, `check_output`, and `install`."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from outrider.bridge import client
from outrider.errors import ConfigError, RouteError

DEFAULT = "/run/outrider-bridge"
_REAL = subprocess.Popen


def folder() -> str:
    """Where the bridge's folder is seen from here: $OUTRIDER_BRIDGE, else /run/outrider-bridge."""
    return os.environ.get("OUTRIDER_BRIDGE") or DEFAULT


def _split(args: Any, keywords: dict[str, Any]) -> tuple[str, list[Any]]:
    """The command's name and its words; ConfigError for what cannot travel."""
    for option in ("shell", "preexec_fn", "executable", "pass_fds"):
        if keywords.get(option):
            raise ConfigError(
                f"{option} means nothing on the host: a bridge carries a command and its words",
                hop="bridge",
                key=option,
                hint="give the command as a list; the host's shell is a command, too, if its policy allows it",
            )
    words = [args] if isinstance(args, (str, bytes, os.PathLike)) else list(args)
    if not words:
        raise ConfigError("there is no command", hop="bridge")
    return os.path.basename(os.fsdecode(words[0])), words[1:]


def _shim(name: str, words: Sequence[Any]) -> list[Any]:
    """The client as a program of this container."""
    place = folder()
    if not os.path.exists(os.path.join(place, "v1", "server")):
        raise _broken(client.BridgeError(f"no server in {place}"))
    # Not the host's, where a shim of that name comes first on PATH.
    shell = "/bin/sh" if os.path.exists("/bin/sh") else shutil.which("sh")
    if shell:
        return [shell, os.path.join(place, "v1", "client.sh"), name, *words]
    return [sys.executable, "-I", "-S", os.path.join(place, "v1", "client.py"), place, name, *words]


def _broken(error: client.BridgeError) -> RouteError:
    return RouteError(
        str(error),
        hop="bridge",
        hint="run `outrider bridge serve` on the host, start the container with `outrider bridge exec`, and look at "
        "`outrider bridge status`",
    )


class Popen(subprocess.Popen[Any]):
    """A command on the host, as `subprocess.Popen` has one here; its words and options are the same.

    The command gets this process's own pipes or files if the host serves its socket: nothing is copied in between, no
    process is started here, and `pid` is None. Otherwise a small client stands for it. Not carried: shell, preexec_fn,
    executable, pass_fds. A refusal is a line on stderr and status 125. RouteError if there is no bridge or no server.
    """

    def __init__(self, args: Any, *rest: Any, **keywords: Any) -> None:
        name, words = _split(args, keywords)
        self._name = name
        self._running: client.Running | None = None
        self._by_socket = os.path.exists(os.path.join(folder(), "socket"))
        given = args if self._by_socket else _shim(name, words)
        self._words = words
        if not self._by_socket and keywords.get("env") is not None:
            keywords["env"] = {**keywords["env"], "PATH": os.environ.get("PATH", os.defpath)}
        super().__init__(given, *rest, **keywords)
        self.args = args

    def _execute_child(
        self, args: Any, *rest: Any
    ) -> None:  # as subprocess calls it, in every version since 3.11
        if not self._by_socket:
            super()._execute_child(args, *rest)  # type: ignore[misc]
            return
        cwd, env = rest[4], rest[5]
        pipes = rest[9:15]
        own = [
            given if given != -1 else here
            for given, here in zip((pipes[0], pipes[3], pipes[5]), (0, 1, 2), strict=True)
        ]
        words = [os.fsencode(word) for word in self._words]
        extra: list[bytes] = []
        try:
            if self._name == "sbatch":
                words, extra = client.with_script(words, os.fsencode(cwd or ""))
            self._running = self._ask(words, extra, cwd, env, own)
        except client.BridgeError as error:
            raise _broken(error) from None
        finally:
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]
        self._child_created = True
        self.pid = None  # type: ignore[assignment]

    def _ask(
        self, words: list[bytes], extra: list[bytes], cwd: Any, env: Any, own: list[int]
    ) -> client.Running:
        place = folder()
        variables = {
            os.fsencode(key): os.fsencode(value)
            for key, value in (os.environ if env is None else env).items()
        }
        extra.append(b"map=" + os.environb.get(b"OUTRIDER_BRIDGE_MAP", b""))
        extra.append(b"keep=" + os.environb.get(b"OUTRIDER_BRIDGE_KEEP", b""))
        where = os.getcwdb() if cwd is None else os.path.abspath(os.fsencode(cwd))
        request = client.encode(client.Told(place), self._name.encode(), words, where, variables, extra)
        return client.Running(place, request, own)

    def _internal_poll(self, *rest: Any, **more: Any) -> int | None:
        if not self._by_socket:
            return super()._internal_poll(*rest, **more)  # type: ignore[misc, no-any-return]
        return self._hear(0)

    def _wait(self, timeout: float | None) -> int:
        if not self._by_socket:
            return super()._wait(timeout)  # type: ignore[misc, no-any-return]
        status = self._hear(timeout)
        if status is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return status

    def _hear(self, timeout: float | None) -> int | None:
        """The status, -n for a signal; None if it is not known within so many seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        running = self._running
        while self.returncode is None and running is not None:
            left = None if until is None else max(0.0, until - time.monotonic())
            if not select.select([running.socket], [], [], left)[0]:
                break
            try:
                status = running.outcome(running.line())
            except client.BridgeError as error:
                self.returncode = 125
                raise _broken(error) from None
            if status is not None:
                self.returncode = -running.signal if running.signal else status
        return self.returncode

    def send_signal(self, sig: int) -> None:
        if not self._by_socket:
            super().send_signal(sig)
        elif self.poll() is None and self._running is not None:
            self._running.forward(sig)


def run(
    args: Any,
    *,
    input: Any = None,  # noqa: A002 # as subprocess has it
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **keywords: Any,
) -> subprocess.CompletedProcess[Any]:
    """As `subprocess.run`, on the host: waits, and gives a CompletedProcess."""
    if input is not None:
        if keywords.get("stdin") is not None:
            raise ValueError("stdin and input cannot both be given")
        keywords["stdin"] = subprocess.PIPE
    if capture_output:
        if keywords.get("stdout") is not None or keywords.get("stderr") is not None:
            raise ValueError("stdout and stderr cannot be given with capture_output")
        keywords["stdout"] = keywords["stderr"] = subprocess.PIPE
    with Popen(args, **keywords) as process:
        try:
            stdout, stderr = process.communicate(input, timeout)
        except subprocess.TimeoutExpired as late:
            process.kill()
            process.wait()
            late.cmd = args
            raise
        except BaseException:
            process.kill()
            raise
        status = process.poll() or 0
    done = subprocess.CompletedProcess(args, status, stdout, stderr)
    if check:
        done.check_returncode()
    return done


def call(args: Any, **keywords: Any) -> int:
    """As `subprocess.call`, on the host: waits, and gives the status."""
    return run(args, **keywords).returncode


def check_call(args: Any, **keywords: Any) -> int:
    """As `subprocess.check_call`: CalledProcessError unless the status is 0."""
    return run(args, check=True, **keywords).returncode


def check_output(args: Any, **keywords: Any) -> Any:
    """As `subprocess.check_output`: what it printed; CalledProcessError unless the status is 0."""
    return run(args, check=True, stdout=subprocess.PIPE, **keywords).stdout


def install(names: Iterable[str]) -> None:
    """From now on, whatever in this process starts one of these commands with `subprocess` starts the host's.

    All else is started here as before. Commands within a shell's line are found by the shims on PATH, not by this.
    """
    chosen = frozenset(names)

    class Redirecting(_REAL):  # type: ignore[type-arg]
        """Starts a client in place of the commands that the bridge has."""

        def __init__(self, args: Any, *rest: Any, **keywords: Any) -> None:
            words = [args] if isinstance(args, (str, bytes, os.PathLike)) else list(args)
            if words and not keywords.get("shell") and os.path.basename(os.fsdecode(words[0])) in chosen:
                given, args = args, _shim(*_split(args, keywords))
                super().__init__(args, *rest, **keywords)
                self.args = given
            else:
                super().__init__(args, *rest, **keywords)

    subprocess.Popen = Redirecting  # type: ignore[misc]


def uninstall() -> None:
    """Takes back what `install` did."""
    subprocess.Popen = _REAL  # type: ignore[misc]

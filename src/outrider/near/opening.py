"""Opening a route: start its one local process, answer prompts, find the greeting behind login noise, or say what failed."""

from __future__ import annotations

import os
import pwd
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outrider.chain import Chain
from outrider.command import Command
from outrider.errors import Cancelled, OutriderError, RouteError, TimedOut, VersionMismatch
from outrider.far import data, loader, wire
from outrider.hops.base import Prompt
from outrider.near import heartbeat, local_process, values
from outrider.near.hub import hub
from outrider.near.stream import Stalled, write_within
from outrider.options import Options
from outrider.traces import tracing

OPEN_TIMEOUT = 60.0
NOISE_LIMIT = 1 << 20
"""Bytes that logins may print before the greeting."""
STDERR_KEPT = 65536


@dataclass
class OpenStream:
    """A started route: its process, the stream to the far end, and what the far end said of itself."""

    process: local_process.RouteProcess
    reader: wire.FrameReader
    write_fd: int
    stderr: StderrTail
    hello: dict[str, Any]
    noise: bytes
    passage: tracing.Passage | None = None


class StderrTail:
    """The end of what the hops print on stderr, collected in the background."""

    def __init__(
        self,
        fd: int,
        prompts: tuple[Prompt, ...],
        answer: Callable[[Prompt], None],
        strain: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self.fd = fd
        self.ended = threading.Event()
        self._kept = b""
        self._prompts = list(prompts)
        self._answer = answer
        self._strain = strain
        self._answering = threading.Lock()
        os.set_blocking(fd, False)
        hub().watch(fd, self._ready)

    def _ready(self) -> None:
        try:
            piece = os.read(self.fd, 65536)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            hub().forget(self.fd)
            self.ended.set()
            return
        if self._strain is not None:
            piece = self._strain(piece)
        self._kept = (self._kept + piece)[-STDERR_KEPT:]
        with self._answering:
            for prompt in [prompt for prompt in self._prompts if prompt.marker in self._kept]:
                self._kept = self._kept.replace(prompt.marker, b"")
                self._answer(prompt)

    def answer_no_more(self) -> None:
        """Whoever speaks from now on is the far end: a prompt that it prints is no hop's."""
        with self._answering:
            self._prompts.clear()

    def text(self, settle: float = 0.0) -> str:
        """What was collected; waits at most `settle` seconds for the stream to end."""
        self.ended.wait(settle)
        return self._kept.decode(errors="replace")


class Opening:
    """One attempt to open a route."""

    def __init__(self, chain: Chain, options: Options) -> None:
        self.whole = chain
        self.chain, self.settings = with_sharing_settled(chain).tail_settings()
        self.options = options
        self.place = chain.label()
        limit = options.open_timeout
        if limit is None and not any(hop.scheduler for hop in chain.hops):
            limit = OPEN_TIMEOUT
        self.deadline = None if limit is None else time.monotonic() + limit
        self.limit = limit
        self.prompts = tuple(prompt for hop in self.chain.hops for prompt in hop.prompts())
        self.passage = tracing.Passage(self.chain) if tracing.note is not None else None
        started = self.chain if self.passage is None else self.passage.chain
        self.command = started.wrap(Command([options.python, "-c", loader.LOADER]))
        self._buffer = b""
        self._answers = 0
        self._prompt_error: BaseException | None = None
        self._cancelled = False

    def open(self) -> OpenStream:
        """Raises RouteError (naming the hop), TimedOut or VersionMismatch; then nothing is left running."""
        started = False
        try:
            with local_process.InterruptLater():
                self.process = self._start()
                assert self.process.stdin and self.process.stdout and self.process.stderr
                strain = self.passage.without_chatter if self.passage else None
                self.stderr = StderrTail(self.process.stderr.fileno(), self.prompts, self._answer, strain)
                started = True
            if self._cancelled:
                self.cancel()
            # A prompt that is answered here may be asked here: then the terminal stays with this process.
            with nullcontext() if self.prompts else self.process.foreground():
                return self._greeting()
        except BaseException as error:
            if self.passage:
                self.passage.over(self.process.pid if started else 0, self.place, error=type(error).__name__)
            if started:
                self.abandon()
            raise

    def cancel(self) -> None:
        """From another thread: give up. `open` raises Cancelled, now or once it is called."""
        self._cancelled = True
        if hasattr(self, "process"):
            self.process.signal_group(signal.SIGTERM)

    def _start(self) -> local_process.RouteProcess:
        try:
            return local_process.LocalProcess(
                [os.fsencode(word) for word in self.command.argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                cwd=self.command.cwd,
                env={**os.environ, **self.command.env},
                process_group=0,
            )
        except OSError as error:
            program = self.command.argv[0]
            hop = next(iter(self.chain.hops), None)
            found = (
                hop.diagnose(f"{program}: command not found", 127)
                if hop and isinstance(error, FileNotFoundError)
                else None
            )
            raise RouteError(
                found.message if found else f"cannot start {program}: {error.strerror or error}",
                hop=repr(hop) if hop else "local",
                hint=found.hint if found else "is it installed, and on PATH, on this machine?",
                argv=self.command.argv,
            ) from error

    def _answer(self, prompt: Prompt) -> None:
        """A hop's program asks for a secret: it is the only thing on stdin until the far end is ready."""
        assert self.process.stdin
        self._answers += 1
        try:
            if self._answers > 3 * len(self.prompts):
                raise OutriderError("it asks for the password again and again")
            if self.passage:
                self.passage.asked(prompt.marker)
            secret = prompt.answer().encode() + b"\n"
            os.write(self.process.stdin.fileno(), secret)
            if self.passage:
                self.passage.asked(prompt.marker, answered=True)
        except BaseException as error:  # told by the opening thread; here, in the hub, nobody would see it
            self._prompt_error = error
            self.process.signal_group(signal.SIGTERM)

    def _greeting(self) -> OpenStream:
        assert self.process.stdin and self.process.stdout
        write_fd = self.process.stdin.fileno()
        local_process.enlarge_pipe(write_fd)
        local_process.enlarge_pipe(self.process.stdout.fileno())
        hello = wire.message_frames(wire.HELLO, 0, [data.dumps(self._greets_with())])
        program = loader.packed_program() + b"".join(b"".join(frame) for frame in hello)
        if not self.prompts:
            self._write(write_fd, program)
        noise = self._read_until(loader.GREETING)
        if self.passage:
            self.passage.told(tracing.START)
        self.stderr.answer_no_more()
        if self.deadline is None:  # a queue may take days; what has left it may not
            self.limit = OPEN_TIMEOUT
            self.deadline = time.monotonic() + OPEN_TIMEOUT
        line = self._read_until(b"\n")
        if line.startswith(b"python "):
            raise VersionMismatch(
                f"its python3 is Python {line[7:].decode(errors='replace')}, and the far end needs 3.8",
                hop=self.place,
                hint="name a newer one with route.options(python='python3.11'), or load it with a login hop's setup lines",
            )
        if self.prompts:
            self._write(write_fd, program)
        reader = wire.FrameReader(self.process.stdout.fileno(), self._buffer)
        self._wait_readable(reader)
        hello = self._hello_answer(reader, noise)
        if self.passage:
            self.passage.told(tracing.GREET)
        if hello["problem"]:
            raise self._unsettled(hello["problem"])
        return OpenStream(self.process, reader, write_fd, self.stderr, hello, noise, self.passage)

    def _unsettled(self, problem: str) -> OutriderError:
        """The far end is there, and cannot go where it was told to: mostly a folder, set by a hop or an option."""
        folder = self.options.cwd if self.options.cwd is not None else self.settings.get("cwd")
        if folder is None or not re.search(r"\[Errno \d+\]", problem) or "outrider-" in problem:
            return RouteError(
                f"the far end cannot settle: {problem}",
                hop=self.place,
                hint="check the disk's free space, and the permissions of the temporary folder there",
            )
        hops = [repr(hop) for hop in self.whole.hops if hop.settings().get("cwd") is not None]
        by_option = self.options.cwd is not None or not hops
        what = "is not there" if "[Errno 2]" in problem else f"cannot be entered: {problem}"
        return RouteError(
            f"the folder {folder!r} {what}",
            hop=f"cwd={folder!r} at {self.place}" if by_option else hops[-1],
            hint="make it there, or name one that exists there",
        )

    def _greets_with(self) -> dict[str, Any]:
        """What the far end is told of how it is to be."""
        environment = {**self.settings.get("env", {}), **self.options.env}
        return {
            "session": os.urandom(12).hex(),
            "protocol": loader.PROTOCOL,
            "python": list(sys.version_info[:2]),
            "env": dict(environment),
            "cwd": self.options.cwd if self.options.cwd is not None else self.settings.get("cwd"),
            "tempdir": bool(self.settings.get("tempdir")),
            "heartbeat": heartbeat.told(self.options),
            "keep": None,
        }

    def _hello_answer(self, reader: wire.FrameReader, noise: bytes) -> dict[str, Any]:
        try:
            got = reader.next()
            if got is None:
                raise self._failure(noise)
            hello = values.loads(wire.split_segments(got[3], 1 << 20)[0], room=1 << 22)
            if got[0] != wire.HELLO or not _is_greeting(hello):
                raise wire.ProtocolError("no greeting")
        except (wire.ProtocolError, data.DataError) as error:
            raise RouteError(f"the far end does not speak the protocol: {error}", hop=self.place) from error
        return dict(hello)

    def _write(self, fd: int, program: bytes) -> None:
        os.set_blocking(fd, False)
        try:
            write_within(fd, [program], self.deadline)
        except BrokenPipeError:  # the process has ended: its stderr tells why
            pass
        except Stalled:
            raise self._timed_out() from None

    def _wait_readable(self, reader: wire.FrameReader) -> None:
        while not reader.buffered():
            self._poll(b"")
            if not reader.fill():
                return

    def _poll(self, noise: bytes) -> None:
        assert self.process.stdout
        left = None if self.deadline is None else self.deadline - time.monotonic()
        poll = select.poll()
        poll.register(self.process.stdout.fileno(), select.POLLIN)
        if (left is not None and left <= 0) or not poll.poll(None if left is None else left * 1000):
            raise self._timed_out()

    def _read_until(self, marker: bytes) -> bytes:
        """What comes before `marker`; the marker is taken away."""
        assert self.process.stdout
        while marker not in self._buffer:
            if len(self._buffer) > NOISE_LIMIT:
                raise RouteError(
                    "the login prints without end before the far end can greet",
                    hop=self.place,
                    hint="quieten its shell start-up files for non-interactive logins",
                    stderr=self._buffer[-500:].decode(errors="replace"),
                )
            self._poll(self._buffer)
            piece = os.read(self.process.stdout.fileno(), 65536)
            if not piece:
                raise self._failure(self._buffer)
            self._buffer += piece
            if self.passage:
                self._buffer = self.passage.without_marks(self._buffer)
        before, _, self._buffer = self._buffer.partition(marker)
        return before

    def _timed_out(self) -> OutriderError:
        said = self.stderr.text()
        found = self.chain.diagnose(said, None)
        where = repr(self.chain.hops[found[0]]) if found else self.place
        more = f" ({found[1].message})" if found else ""
        return TimedOut(
            f"no far end within {self.limit:g} s{more}",
            hop=where,
            hint=found[1].hint
            if found
            else "`outrider check` shows how far it gets; open_timeout=SECONDS gives it more time",
        )

    def _failure(self, noise: bytes) -> OutriderError:
        """The process ended before the far end greeted: which hop, and why."""
        if self._prompt_error is not None:
            return self._prompt_failure(self._prompt_error)
        if self._cancelled:
            return Cancelled("cancelled while it opened", hop=self.place)
        try:
            status: int | None = self.process.wait(2)
        except subprocess.TimeoutExpired:
            status = None
        if status in (
            -signal.SIGINT,
            128 + signal.SIGINT,
        ):  # the hops' programs hold the terminal while they open
            return Cancelled("interrupted while it opened", hop=self.place)
        said = self.stderr.text(settle=0.5)
        found = self.chain.diagnose(noise.decode(errors="replace") + "\n" + said, status)
        if found is None:
            return self._unknown_failure(said, noise, status)
        index, diagnosis = found
        return RouteError(
            diagnosis.message,
            hop=repr(self.chain.hops[index]) if self.chain.hops else "local",
            hint=diagnosis.hint,
            argv=self.command.argv,
            stderr=said,
            returncode=status,
            transient=diagnosis.transient,
        )

    def _prompt_failure(self, error: BaseException) -> OutriderError:
        if isinstance(error, KeyboardInterrupt):
            return Cancelled("the prompt was interrupted", hop=self.place)
        return RouteError(
            f"no answer to the password prompt: {error}",
            hop=self.place,
            hint="check password= of the sudo hop",
        )

    def _unknown_failure(self, said: str, noise: bytes, status: int | None) -> OutriderError:
        left = 10.0 if self.deadline is None else self.deadline - time.monotonic()
        reached = how_far(self.whole, min(10.0, max(2.0, left)))
        hops = self.whole.hops
        hop = repr(hops[min(reached, len(hops) - 1)]) if hops else "local"
        ended = "ended" if status is None else f"ended with status {status}"
        return RouteError(
            f"it {ended} before the far end could start",
            hop=hop,
            argv=self.command.argv,
            stderr=said or noise.decode(errors="replace"),
            returncode=status,
        )

    def abandon(self) -> None:
        """Leave nothing behind of an opening that failed."""
        self.process.end(grace=1.0, first=0.3)  # nobody reads its stdin yet
        self.stderr.ended.wait(0.2)
        hub().forget(self.stderr.fd)
        self.process.close_pipes()


def _is_greeting(hello: Any) -> bool:
    """Whether a far end's words of itself are of the form that is relied upon later."""
    texts = ("host", "user", "executable", "cwd")
    return (
        isinstance(hello, dict)
        and all(isinstance(hello.get(name), str) for name in texts)
        and isinstance(hello.get("pid"), int)
        and isinstance(hello.get("problem"), (str, type(None)))
        and isinstance(hello.get("python"), list)
        and [type(part) for part in hello["python"]] == [int, int, int]
    )


def how_far(chain: Chain, seconds: float) -> int:
    """How many hops of `chain` pass a trivial command, tried one after the other, all within `seconds`."""
    until = time.monotonic() + seconds
    for count in range(1, len(chain.hops) + 1):
        prefix = chain.prefix(count)
        try:
            command = prefix.wrap(Command(["true"]))
            done = subprocess.run(
                [os.fsencode(word) for word in command.argv],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={**os.environ, **command.env},
                cwd=command.cwd,
                timeout=max(0.1, until - time.monotonic()),
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired, OutriderError):
            return count - 1
        if done.returncode != 0:
            return count - 1
    return len(chain.hops)


def with_sharing_settled(chain: Chain) -> Chain:
    """The chain with the private folder of shared ssh connections made where ssh will look for it, or, where that cannot
    be (no account, a long or read-only home), with a connection of its own for each ssh hop.
    """
    if not any(hop.name == "ssh" for hop in chain.hops):
        return chain
    from outrider.hops.ssh import Ssh, socket_fits

    # ssh takes ~ from the account, not from $HOME, which may differ: in tests, under cron, after su.
    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
        if not socket_fits(home):
            raise OSError
        folder = Path(Ssh.CONTROL_FOLDER.replace("~", home, 1))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except (KeyError, OSError):
        return chain.each(lambda hop: hop.replace(share=False) if hop.name == "ssh" else hop)
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise RouteError(
            f"{folder} must belong to you alone",
            hop="ssh",
            hint=f"chmod 700 {folder}, or remove it if it is not yours",
        )
    return chain

"""How the work of a group is shown: as JSON, as lines behind names, or gathered at the end below a live table."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import click

from outrider.cli import common
from outrider.errors import CommandFailed
from outrider.far import wire
from outrider.groups.fanout import Result, Stage
from outrider.ranges import fold
from outrider.results import CompletedCall, CompletedCommand

OnOutput = Callable[[str, str, bytes], None]
OnStage = Callable[[str, Stage], None]


class Shown:
    """Takes results as they come, and what is printed and done meanwhile, from several threads."""

    on_output: OnOutput | None = None
    on_stage: OnStage | None = None

    def __init__(self, names: list[str], what: str) -> None:
        self.names = names
        self.what = what
        self.results: list[Result] = []

    @property
    def ok(self) -> bool:
        """True if every member was done, and went well."""
        return len(self.results) == len(self.names) and all(result.ok for result in self.results)

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()
        if not self.ok:
            self._summary()

    def arrived(self, result: Result) -> None:
        self.results.append(result)

    def finish(self) -> None:
        """Whatever is left to show, all members being done or the rest of them given up."""

    def _summary(self) -> None:
        parts = []
        for state in ("done", "failed", "cancelled", "not started"):
            names = [result.name for result in self.results if result.state == state]
            if names:
                parts.append(f"{len(names)} {state}" + ("" if state == "done" else f" ({fold(names)})"))
        open_ = len(self.names) - len(self.results)
        if open_:
            parts.append(f"{open_} given up")
        common.say("outrider: " + ", ".join(parts))


def brief(result: Result) -> str:
    """What went wrong, in one paragraph: a command's status alone, where its output is shown anyway."""
    if isinstance(result.error, CommandFailed):
        return result.error.message
    if result.error is not None and common.raised_there(result.error):
        return common.told_of_call(result.error)
    if result.state == "not started":
        return f"not started: {getattr(result.error, 'message', result.error)}"
    return common.in_words_of_ours(str(result.error))


class AsJson(Shown):
    """One object a member, as it is done."""

    def __init__(self, names: list[str], what: str) -> None:
        super().__init__(names, what)
        self.on_output = lambda *_: None

    def arrived(self, result: Result) -> None:
        super().arrived(result)
        common.print_json(report(result, self.what))
        sys.stdout.flush()


def report(result: Result, what: str) -> dict[str, Any]:
    """All that is known of a member, as plain data."""
    done, error = result.completed, result.error
    found: dict[str, Any] = {"name": result.name, "state": result.state}
    if isinstance(done, CompletedCommand):
        found |= {"returncode": done.returncode, "signal": done.signal}
    elif result.ok:
        found[{"put": "files", "get": "files"}.get(what, "value")] = common.jsonable(result.value)
    if done is not None:
        found["stdout"] = done.stdout.decode(errors="replace")
        found["stderr"] = done.stderr.decode(errors="replace")
        found["host"] = done.far.host
    if error is not None:
        found["error"] = {"type": type(error).__name__, "message": brief(result)}
    return {**found, "duration": result.duration, "tries": result.tries}


class AsLines(Shown):
    """Each line as it is complete, behind its member's name; what a called function prints goes to stderr."""

    def __init__(self, names: list[str], what: str) -> None:
        super().__init__(names, what)
        self.on_output = self._output
        self._open: dict[tuple[str, str], bytes] = {}
        self._lock = threading.Lock()
        self._gone = False

    def _output(self, name: str, stream: str, piece: bytes) -> None:
        with self._lock:
            *lines, rest = (self._open.get((name, stream), b"") + piece).split(b"\n")
            self._open[name, stream] = rest
            self._write(name, 1 if stream == "stdout" and self.what == "run" else 2, lines)

    def _write(self, name: str, fd: int, lines: list[bytes]) -> None:
        if not lines or self._gone:
            return
        if os.isatty(fd):
            from outrider.near.request import printable

            lines = [printable(line.decode(errors="replace")).encode() for line in lines]
        label = f"[{name}] ".encode(errors="replace")
        try:
            wire.write_all(fd, [b"".join(label + line + b"\n" for line in lines)])
        except OSError:  # told where results are read: in this thread nobody would see it
            self._gone = True

    def arrived(self, result: Result) -> None:
        super().arrived(result)
        with self._lock:
            for (name, stream), rest in list(self._open.items()):
                if name == result.name:
                    del self._open[name, stream]
                    if rest:
                        self._write(name, 1 if stream == "stdout" and self.what == "run" else 2, [rest])
            if result.error is not None:
                self._write(result.name, 2, brief(result).encode(errors="replace").split(b"\n"))
            elif self.what != "run":
                self._write(result.name, 1, [told(result).encode(errors="replace")])
        if self._gone:
            raise common.OutputGone


def told(result: Result) -> str:
    """A member's value, in a line."""
    if isinstance(result.completed, CompletedCall):
        return common.as_json(result.value)
    return f"{result.value} file{'' if result.value == 1 else 's'} travelled"


class Gathered(Shown):
    """At the end: what is alike once, below the names of all that gave it."""

    def __init__(self, names: list[str], what: str) -> None:
        super().__init__(names, what)
        self.on_output = lambda *_: None

    def finish(self) -> None:
        place = {name: number for number, name in enumerate(self.names)}
        alike: dict[tuple[str, ...], list[str]] = {}
        for result in sorted(self.results, key=lambda result: place[result.name]):
            alike.setdefault(_said(result), []).append(result.name)
        for (out, err, wrong), names in alike.items():
            if out or err or wrong:
                title = fold(names) + (f" ({len(names)})" if len(names) > 1 else "")
                click.echo(common.styled(f"--- {title} ---", bold=True))
            for text, to_stderr in ((out, False), (err, True), (wrong, True)):
                if text:
                    click.echo(_safe(text, to_stderr), err=to_stderr, nl=not text.endswith("\n"))
            sys.stdout.flush()


def _said(result: Result) -> tuple[str, str, str]:
    """(stdout, stderr, what went wrong) of a member, as it is shown."""
    done = result.completed
    wrong = "" if result.error is None else brief(result)
    if isinstance(done, CompletedCommand):
        return done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"), wrong
    printed = (done.stdout + done.stderr).decode(errors="replace") if done else ""
    return (told(result) if result.ok else ""), printed, wrong


def _safe(text: str, to_stderr: bool) -> str:
    if not (sys.stderr if to_stderr else sys.stdout).isatty():
        return text
    from outrider.harmless import Harmless

    return Harmless()(text.encode(errors="replace")).decode(errors="replace")

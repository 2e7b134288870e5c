"""What the verbs of `outrider sandbox` share: the words that tell a jail, the files that go in and out, and the report."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from outrider.cli import common
from outrider.far import wire

if TYPE_CHECKING:
    from outrider.sandboxed import Sandbox, SandboxResult

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
AMOUNTS = (
    ("time", "AMOUNT", "Time of the processor: 2s, 500ms."),
    ("wall", "AMOUNT", "Time that passes; without, three times --time and two seconds."),
    ("memory", "SIZE", "Memory of all its processes together: 128M."),
    ("output", "SIZE", "Bytes on its stdout and stderr together."),
    ("disk", "SIZE", "Bytes that it may write into files."),
    ("stack", "SIZE", "Stack of each process."),
)
COUNTS = (
    ("processes", "Processes and threads at once."),
    ("inodes", "Files that it may make."),
    ("open_files", "Descriptors of each process."),
)
_OURS = re.compile(r"/dev/(stdout|stderr)|(?:/dev|/proc/self)/fd/(\d+)")
OTHERS = "The referee's own."
ENGINES = "native, isolate, bwrap, sio2jail, proot or none."


_ENDS: dict[type, str] = {
    KeyboardInterrupt: "it was cancelled",
    common.OutputGone: "nobody reads its output any more",
}


def limits(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a jail, and of where it is."""
    more = (
        *_amounts(""),
        click.option("--network", is_flag=True, help="Let it reach the network."),
        click.option("--engine", metavar="NAME", help=ENGINES),
        click.option(
            "--allow-missing", multiple=True, metavar="NAME", help="A guarantee that you can do without."
        ),
        click.option(
            "--strict", is_flag=True, help="Refuse where memory or time would be limited less exactly."
        ),
        click.option("--fresh", is_flag=True, help="A jail in which nothing ever ran."),
        *_views(""),
        click.option(
            "--on", "route", type=common.ROUTE, metavar="ROUTE", help="Where; this machine without."
        ),
    )
    for option in reversed(more):
        command = option(command)
    return command


def others_limits(whose: str) -> Decorator:
    """The same options for another program, behind its name; what is not given is as for the first."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed((*_amounts(f"{whose}-"), *_views(f"{whose}-"))):
            command = option(command)
        return command

    return decorate


def _amounts(before: str) -> Iterator[Decorator]:
    for name, what, text in AMOUNTS:
        yield click.option(f"--{before}{name}", metavar=what, help=text if not before else OTHERS)
    for name, text in COUNTS:
        word = f"--{before}{name.replace('_', '-')}"
        yield click.option(word, type=click.IntRange(1), metavar="N", help=text if not before else OTHERS)


def _views(before: str) -> Iterator[Decorator]:
    for name, what, many, text in (
        ("rootfs", "DIR", False, "A folder there to be its whole file system."),
        ("image", "NAME", False, "A sandbox image to be its whole file system."),
        ("ro", "HOST:INSIDE", True, "Show it a folder, read-only; may be repeated."),
        ("file", "HERE:INSIDE", True, "Put a file or folder into its folder first; may be repeated."),
    ):
        yield click.option(
            f"--{before}{name}", multiple=many, metavar=what, help=text if not before else OTHERS
        )


def opened(route: str | None, asked: dict[str, Any]) -> Sandbox:
    """The sandbox that the words ask for, without what they say of files."""
    from outrider.sandboxed import Sandbox

    return Sandbox(common.route_of(route) if route else None, **jail(asked, here=route is None))


def jail(asked: dict[str, Any], here: bool) -> dict[str, Any]:
    """The words as options of the hop. Paths of this machine may be relative."""
    given = {name: value for name, value in asked.items() if value not in (None, (), False)}
    files = given.pop("file", ())
    if "ro" in given:
        given["ro"] = dict(mapped(word, "--ro") for word in given["ro"])
    if here and "ro" in given:
        given["ro"] = {os.path.abspath(path): inside for path, inside in given["ro"].items()}  # noqa: PTH100
    if here and "rootfs" in given:
        given["rootfs"] = os.path.abspath(given["rootfs"])  # noqa: PTH100  # links stay as they are named
    if files:
        given["files"] = {inside: Path(path) for path, inside in (mapped(word, "--file") for word in files)}
    return given


def mapped(word: str, option: str) -> tuple[str, str]:
    """HOST:INSIDE; a path alone has the same name inside: of a file, in the job's folder."""
    host, sign, inside = word.rpartition(":")
    if not sign:
        host, inside = word, os.path.abspath(word) if option == "--ro" else Path(word).name  # noqa: PTH100
    if not host or not inside:
        raise click.UsageError(f"{option} takes HOST:INSIDE, not {word!r}")
    return host, inside


def writable(path: Path, option: str) -> None:
    """Tell before anything is run that a file cannot be written."""
    if path.is_dir() or not (path.exists() or os.access(path.parent, os.W_OK)):
        raise click.UsageError(f"{option}: {path} cannot be written")


def status_of(done: SandboxResult) -> int:
    """The program's exit code, 128+N after signal N; never 0 where the verdict is not OK."""
    status = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return status or (0 if done.ok else 1)


def told(done: SandboxResult, name: str = "") -> None:
    """Say on stderr why it was ended, where its exit code cannot tell; and what could not be brought back."""
    if not done.ok and (done.verdict != "RE" or done.returncode in (126, 127)):
        common.say(f"outrider: {name}{done.verdict}: {done.message}")
    if done.returncode == 127 and Path(done.argv[0]).is_file():
        common.say(
            f"hint: it is here, but not inside: --file {done.argv[0]} puts it into the program's folder"
        )
    for inside, why in done.refused.items():
        common.say(f"outrider: {name}{inside} cannot be brought back: {why}")


def bring(outputs: dict[str, bytes], places: dict[str, Path]) -> None:
    """Write what was collected where it was asked for."""
    for inside, contents in outputs.items():
        write(places[inside], contents)


# --- the report ---------------------------------------------------------------------------------------------------


class Meta:
    """The file that tells how it ended, whatever came between; nothing where none is asked for."""

    def __init__(self, path: str | None, failed: Callable[[str], dict[str, Any]]) -> None:
        self.path = None if path is None else Path(path)
        self.failed = failed
        if self.path is not None:
            writable(self.path, "--meta")

    def tell(self, report: dict[str, Any]) -> None:
        if self.path is not None:
            self._write(report)

    @contextmanager
    def in_any_case(self) -> Iterator[None]:
        """What is raised is told as SE; with a file, what is no fault of the words' leaves with 0 all the same."""
        from outrider.errors import ConfigError, OutriderError

        try:
            yield
        except BaseException as error:
            if self.path is None or isinstance(error, (SystemExit, click.ClickException)):
                raise
            words = str(error) if isinstance(error, OutriderError) else _ENDS.get(type(error), repr(error))
            self._write(self.failed(words))
            if isinstance(error, OutriderError) and not isinstance(error, ConfigError):
                common.say(f"outrider: {common.in_words_of_ours(words)}")
                raise SystemExit(0) from error
            raise

    def _write(self, report: dict[str, Any]) -> None:
        assert self.path is not None
        write(self.path, (json.dumps(report) + "\n").encode())


def write(path: Path, contents: bytes) -> None:
    """A regular file as a whole, or not at all: whoever watches for it never reads half of it. Anything else, such as
    /dev/stdout, is written to as it is.
    """
    ours = _OURS.fullmatch(str(path))
    if ours is not None:  # opened anew it would be written from its beginning, if it leads to a file
        name = ours[1] or ours[2]
        wire.write_all({"stdout": 1, "stderr": 2}.get(name) or int(name), [contents])
    elif path.exists() and not path.is_file():
        with path.open("wb") as file:
            file.write(contents)
    else:
        _replace(path.resolve(), contents)


def _replace(path: Path, contents: bytes) -> None:
    fd, new = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(contents)
        Path(new).chmod(0o666 & ~_umask())
        Path(new).replace(path)
    except BaseException:
        Path(new).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

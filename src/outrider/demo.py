"""The demo's work: what stacks this machine offers, and how fast the tallest of them is.

Nothing is assumed and nothing made up: each hop is kept only if a far end really opened behind it.
"""

from __future__ import annotations

import importlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from outrider.errors import OutriderError
from outrider.hops import docker, env, login, podman, slurm, ssh, sudo, tempdir
from outrider.hops.base import Hop
from outrider.route import Route

WARM_CALLS = 200
OPEN_LIMIT = 20.0
IMAGES_TRIED = 4
# Neither asks nor writes into anybody's ssh files; nor is a connection left behind.
SSH_OPTIONS = {"StrictHostKeyChecking": "yes", "UpdateHostKeys": "no"}
ENGINES = ("docker", "podman")
ROOTLESS_LIMITS = ("nofile=1024:1024", "nproc=1024:1024")


@dataclass(frozen=True)
class Found:
    """One kind of hop: taken into the stack, or not and why."""

    name: str
    hop: Hop | None
    told: str


@dataclass(frozen=True)
class Timing:
    """Seconds, all measured."""

    open: float
    first_call: float
    warm_call: float


def survey() -> Iterator[Found]:
    """Each kind of hop as it is tried on top of those already found, in the order of the stack."""
    route = Route()
    for name, candidates in KINDS:
        if name in ENGINES and route.hops and route.hops[-1].name in ENGINES:
            yield Found(name, None, f"{route.hops[-1].name} is taken already")
            continue
        found = _first_that_opens(name, route, candidates)
        if found.hop is not None:
            route = route | found.hop
        yield found
    for hop in (login(), tempdir(), env({"DEMO": "yes"})):
        yield Found(hop.name, hop, "works everywhere")


def _first_that_opens(name: str, route: Route, candidates: Callable[[], Sequence[Hop] | str]) -> Found:
    """The first candidate behind which a far end opens; else why there is none."""
    hops = candidates()
    if isinstance(hops, str):
        return Found(name, None, hops)
    why = "nothing to try"
    for hop in hops:
        try:
            with (route | hop).options(open_timeout=OPEN_LIMIT, show=False).open() as far:
                return Found(name, hop, f"opens, as {far.far.user} on {far.far.host}")
        except OutriderError as error:
            why = error.message.splitlines()[0]
    return Found(name, None, why)


def _answers(*argv: str, seconds: float = 10.0) -> str | None:
    """What a program prints, or None if it is not there or fails."""
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False, text=True
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _ssh() -> Sequence[Hop] | str:
    if not shutil.which("ssh"):
        return "no ssh on PATH"
    return [ssh("localhost", options=SSH_OPTIONS, connect_timeout=3, share=False)]


def _sudo() -> Sequence[Hop] | str:
    if not shutil.which("sudo"):
        return "no sudo on PATH"
    if _answers("sudo", "-n", "true") is None:
        return "sudo asks for a password"
    # To root where an engine waits behind it, which only root may use; else to whoever we are not.
    needs_root = os.geteuid() != 0 or any(_images(engine) for engine in ENGINES)
    return [sudo() if needs_root else sudo("nobody")]


def _slurm() -> Sequence[Hop] | str:
    if not shutil.which("srun"):
        return "no srun on PATH"
    if _answers("sinfo", "--noheader", seconds=5) is None:
        return "Slurm's controller does not answer"
    return [slurm(time="5m", extra=("--immediate=10",))]


def _container(
    program: str, make: Callable[..., Hop], settings: Sequence[dict[str, Any]]
) -> Sequence[Hop] | str:
    if not shutil.which(program):
        return f"no {program} on PATH"
    images = _images(program)
    if images is None:
        return "its engine does not run, or you may not use it"
    if not images:
        return "no image is here, and none is downloaded for a demo"
    return [make(image, pull="never", **more) for image in images[:IMAGES_TRIED] for more in settings]


@cache
def _images(program: str) -> list[str] | None:
    """Local images, those named for Python first: others take a start to find out. None: no engine."""
    words = (program, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}")
    listed = _answers(*words) or _answers("sudo", "-n", *words)
    if listed is None:
        return None
    images = {image for image in listed.split() if "<none>" not in image}
    return sorted(images, key=lambda image: ("py" not in image.lower(), image))


def _docker() -> Sequence[Hop] | str:
    return _container("docker", docker, [{}])


def _podman() -> Sequence[Hop] | str:
    return _container("podman", podman, [{}, {"runtime": "runc", "ulimit": ROOTLESS_LIMITS}])


KINDS: tuple[tuple[str, Callable[[], Sequence[Hop] | str]], ...] = (
    ("ssh", _ssh),
    ("sudo", _sudo),
    ("slurm", _slurm),
    ("docker", _docker),
    ("podman", _podman),
)


@contextmanager
def sample_module() -> Iterator[tuple[ModuleType, Path]]:
    """A copy of `sample.py` in a temporary folder, imported from there, as code of the user's own."""
    source = Path(__file__).with_name("sample.py")
    with tempfile.TemporaryDirectory(prefix="outrider-demo-") as folder:
        path = Path(folder) / "outrider_sample.py"
        shutil.copyfile(source, path)
        sys.path.insert(0, folder)
        try:
            importlib.invalidate_caches()
            yield importlib.import_module(path.stem), path
        finally:
            sys.path.remove(folder)
            sys.modules.pop(path.stem, None)


def measure(route: Route, function: Callable[..., Any], *args: Any) -> Timing:
    """Opens `route` anew; times the opening, the first call, and the median of many warm calls."""
    started = time.perf_counter()
    with route.open() as far:
        opened = time.perf_counter()
        far.call(function, *args)
        first = time.perf_counter()
        return Timing(opened - started, first - opened, _median_of_calls(far.call, function, args))


def _median_of_calls(call: Callable[..., Any], function: Callable[..., Any], args: tuple[Any, ...]) -> float:
    times = []
    for _ in range(WARM_CALLS):
        before = time.perf_counter()
        call(function, *args)
        times.append(time.perf_counter() - before)
    return statistics.median(times)

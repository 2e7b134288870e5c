"""Every test runs as a stranger on this machine, and leaves nothing running in this process."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest


def _become_a_stranger() -> None:
    """No settings, keys or agents of the person who runs the tests: an empty home and a plain environment."""
    home = os.environ.get("HOME", "/root")
    os.environ.setdefault(
        "OUTRIDER_TEST_CACHE", f"{os.environ.get('XDG_CACHE_HOME') or home + '/.cache'}/outrider-tests"
    )
    os.environ["TEST_WORLD_HOME"] = home  # for pip, which needs the person's settings to reach an index
    kept = ("OUTRIDER_TEST_CACHE",)
    dropped = (
        "SSH_",
        "OUTRIDER_",
        "XDG_",
        "SLURM_",
        "SBATCH_",
        "DOCKER_",
        "APPTAINER",
        "SINGULARITY",
        "CONTAINER",
    )
    for name in list(os.environ):
        if name.startswith(dropped) and name not in kept:
            del os.environ[name]
    # As in an activated virtual environment. Shims of a Python version manager look for their settings in the
    # home that is gone.
    parts = [part for part in os.environ["PATH"].split(":") if "/shims" not in part]
    os.environ["PATH"] = ":".join([str(Path(sys.executable).parent), *parts])
    os.environ["HOME"] = tempfile.mkdtemp(prefix="home-for-tests-")
    atexit.register(shutil.rmtree, os.environ["HOME"], ignore_errors=True)


_become_a_stranger()
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup, whatever the tests start would be deaf to it

pytest_plugins = ["tests.world.fixtures"]

from tests.world.machine import children, running_servers, wait_for  # noqa: E402 - HOME first


@pytest.fixture(autouse=True, scope="module")
def _nothing_left_for_the_collector() -> Iterator[None]:
    """A file or process that a test forgot shows in its own module, not after the summary of the whole run."""
    yield
    gc.collect()


# Each is one for the whole process, made by the first session, or executor, and kept on purpose.
LASTING_THREADS = {"outrider-hub", "outrider-executors"}


@pytest.fixture(autouse=True)
def _nothing_left_in_this_process(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that leaves threads or child processes behind fails, unless it is marked `leaks(reason)`."""
    threads, processes = set(threading.enumerate()), children(os.getpid())
    yield
    if (watching := sys.modules.get("outrider.batch.watching")) is not None:
        watching.rest()  # the next test may have another home
    if request.node.get_closest_marker("leaks"):
        return

    def left() -> list[str]:
        new_threads = [thread.name for thread in threading.enumerate() if thread not in threads]
        new_processes = children(os.getpid()) - processes - running_servers()
        return [
            *(f"thread {name}" for name in new_threads if name not in LASTING_THREADS),
            *(f"child process {pid}: {_words(pid)}" for pid in new_processes),
        ]

    if not wait_for(lambda: not left(), 5) and (found := left()):
        pytest.fail("this test left behind: " + "; ".join(found), pytrace=False)


def _words(pid: int) -> str:
    try:
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            or "(a zombie)"
        )
    except OSError:
        return "(gone)"

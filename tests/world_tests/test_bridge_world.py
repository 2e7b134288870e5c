"""The bridge out of real containers: each engine reaches the real Slurm through each carrier."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outrider import bridge
from tests.bridge.serving import eventually

USER = "outrider-a"
JOB = '#!/bin/sh\necho "job for $1 with $SLURM_X in $(pwd)"\n'
# In the container: a step with its stdin, a job with a script that lies there, and what the policy holds back.
SCRIPT = r"""
set -e
test ! -e /usr/bin/sbatch || test "$1" = bwrap
squeue --noheader >/dev/null
printf 'through srun' | srun --ntasks=1 --chdir=/ cat; echo
sbatch --parsable --output=/inside/out.txt -- job.sh somebody
sh -c 'scontrol shutdown' || echo "refused with $?"
srun --ntasks=1 --chdir=/ sh -c 'exit 7' || echo "ended with $?"
"""


@pytest.fixture
def shared(slurm: Any) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="outrider-bridge-", dir="/tmp") as name:
        yield Path(name)


class Site:
    """A host's user with a bridge, and a container of that user."""

    def __init__(self, shared: Path, engine: str, request: pytest.FixtureRequest) -> None:
        self.shared, self.engine = shared, engine
        self.work, self.data, self.dir = shared / "work here", shared / "data", shared / "bridge"
        self.user = USER if engine == "apptainer" else None
        self.flags: list[str] = []
        self.image: str | None = None
        if engine == "bwrap":
            if not shutil.which("bwrap"):
                pytest.skip("no bwrap here")
        else:
            world = request.getfixturevalue(engine)
            self.image = world.image
            (shared / "bin").mkdir()
            (shared / "bin" / engine).symlink_to(shutil.which(world.program) or world.program)
            self.flags = [f"--option={flag}" for flag in getattr(world, "flags", ())]
        for folder in (self.work, self.data):
            folder.mkdir()
        (self.work / "job.sh").write_text(JOB)
        if self.user:
            shared.chmod(0o711)
            subprocess.run(["chown", "-R", self.user, self.shared], check=True)

    def env(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self.shared}/bin:{os.environ['PATH']}", "SLURM_X": "y"}

    def as_user(self, words: list[str]) -> list[str]:
        if self.user is None:
            return words
        return ["setpriv", "--reuid", self.user, "--regid", self.user, "--init-groups", *words]

    def serve(self, carrier: str, *options: str) -> subprocess.Popen[str]:
        """The server; as the user who has a container it is the one script, which needs bash and nothing of ours."""
        if self.user is None:
            words = [sys.executable, "-m", "outrider", "bridge", "serve"]
        else:
            script = self.shared / "bridge.sh"
            script.write_text(bridge.script())
            words = ["bash", str(script)]
        if self.user is not None:
            self.dir.mkdir()
            subprocess.run(["chown", self.user, self.dir], check=True)
        words += ["--dir", str(self.dir), "--carrier", carrier, "--preset", "slurm", *options]
        server = subprocess.Popen(self.as_user(words), stdout=subprocess.PIPE, text=True, env=self.env())
        assert server.stdout is not None and "serving" in server.stdout.readline()
        return server

    def inside(self, words: list[str], timeout: float = 40) -> subprocess.CompletedProcess[str]:
        image = [] if self.image is None else ["--image", self.image]
        bind = (
            ["--bind", f"{self.data}:/inside"]
            if self.engine != "bwrap"
            else ["--bind", f"{self.data}:/run/inside"]
        )
        command = [
            sys.executable,
            "-m",
            "outrider",
            "bridge",
            "exec",
            "--dir",
            str(self.dir),
            "--engine",
            self.engine,
        ]
        command += [*image, *bind, *self.flags, "--", *words]
        return subprocess.run(
            command,
            cwd=self.work,
            env=self.env(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )


@pytest.mark.parametrize("carrier", ["auto", "socket", "fifo", "files"])
@pytest.mark.parametrize("engine", ["docker", "podman", "apptainer", "bwrap"])
def test_slurm_out_of_a_container(
    shared: Path, slurm: Any, engine: str, carrier: str, request: pytest.FixtureRequest
) -> None:
    site = Site(shared, engine, request)
    if site.user and carrier in ("auto", "socket"):
        pytest.skip("the virtual environment is closed to that user; what it may run is the script")
    server = site.serve(carrier)
    try:
        script = SCRIPT.replace("/inside/", "/run/inside/") if engine == "bwrap" else SCRIPT
        done = site.inside(["sh", "-c", script, "x", engine])
        lines = done.stdout.splitlines()
        assert done.returncode == 0 and lines[0] == "through srun", (done.stdout, done.stderr)
        assert lines[1].isdigit() and lines[2:] == ["refused with 125", "ended with 7"], (
            done.stdout,
            done.stderr,
        )
        out = site.data / "out.txt"
        assert eventually(lambda: out.exists() and out.read_text(), 60), done.stderr
        assert out.read_text() == f"job for somebody with y in {site.work}\n"
    finally:
        server.terminate()
        server.wait(20)
        assert server.stdout is not None
        server.stdout.close()


def test_the_end_of_exec_is_the_end_of_its_server(tmp_path: Path) -> None:
    if not shutil.which("bwrap"):
        pytest.skip("no bwrap here")
    folder = tmp_path / "bridge"
    command = [sys.executable, "-m", "outrider", "bridge", "exec", "--dir", str(folder), "--engine", "bwrap"]
    command += ["--allow", "cat,sleep", "--", "sh", "-c", "echo up | cat; exec sleep 600"]
    running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert running.stdout is not None and running.stdout.readline() == b"up\n"
    running.terminate()
    assert running.wait(30) == 143
    running.stdout.close()
    assert not (folder / "v1").exists()


def see_the_library(site: Site) -> None:
    """The library as the container sees it: its sources, and what it needs to import."""
    libraries = {
        Path(str(__import__(name).__file__)).parent.parent for name in ("outrider", "cloudpickle", "click")
    }
    site.flags += [f"--option=--volume={folder}:{folder}:ro" for folder in sorted(libraries)]
    site.flags += [f"--option=--env=PYTHONPATH={':'.join(map(str, sorted(libraries)))}"]


def test_a_container_sends_its_calls_to_a_sibling(
    shared: Path, slurm: Any, docker: Any, request: pytest.FixtureRequest
) -> None:
    """`bridge() | slurm() | docker()` from within a container: the library there, the job and its container outside."""

    site = Site(shared, "docker", request)
    server = site.serve("auto")
    code = (
        "import os, outrider\nfrom outrider.hops import bridge\n"
        f"route = bridge() | outrider.slurm() | outrider.docker({docker.image!r})\n"
        "with route.open() as far:\n    print(far.call(os.path.exists, '/.dockerenv'), far.call(pow, 2, 10))\n"
    )
    see_the_library(site)
    try:
        done = site.inside(["python3", "-c", code])
        assert done.stdout == "True 1024\n", done.stderr
    finally:
        server.terminate()
        server.wait(20)
        assert server.stdout is not None
        server.stdout.close()


JOBS = """
import os, time, outrider
from outrider.hops import bridge
here = os.uname().nodename
route = (bridge() | outrider.slurm()).options(python="python3")
job = route.submit(os.uname)
later = route.submit(time.sleep, 600)
beside = (bridge() | outrider.slurm() | outrider.docker({image!r})).options(python="python3")
inside = beside.submit(os.path.exists, "/.dockerenv")
print(job.result(60).nodename != here, inside.result(60))
found = route.job(later.key)
found.cancel()
try:
    later.result(60)
except outrider.Cancelled:
    print("cancelled")
for each in (job, later, inside):
    each.clean()
"""


@pytest.mark.parametrize("carrier", ["fifo", "files", "auto"])
def test_durable_calls_from_within_a_container(
    shared: Path, slurm: Any, docker: Any, request: pytest.FixtureRequest, carrier: str
) -> None:
    """Submitted on the host, which must allow `python3` for that; collected and cancelled from where they came."""
    site = Site(shared, "docker", request)
    server = site.serve(carrier, "--allow", "python3")
    see_the_library(site)
    try:
        done = site.inside(["python3", "-c", JOBS.format(image=docker.image)], 150)
        assert done.stdout == "True True\ncancelled\n", done.stderr
    finally:
        server.terminate()
        server.wait(20)
        assert server.stdout is not None
        server.stdout.close()

"""Control groups of the sandbox: found, made, counted from zero, ended and removed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from outrider.far.jail import cgroups
from tests.world.machine import wait_for

BURN = "import time\nwhile time.process_time() < 0.2: pass"


@pytest.fixture
def found() -> Iterator[cgroups.Cgroups]:
    groups = cgroups.Cgroups()
    if not groups.version:
        pytest.skip(f"no control groups for this user: {groups.reason}")
    yield groups
    groups.close()
    assert not any(Path(folder).exists() for folder in groups.folders)


def inside(group: cgroups.Group, *argv: str) -> subprocess.Popen[bytes]:
    def join() -> None:
        for fd in group.joins:
            os.write(fd, b"0")

    return subprocess.Popen(argv, preexec_fn=join, stdout=subprocess.PIPE)


def test_what_runs_in_a_group_is_counted_from_zero_each_time(found: cgroups.Cgroups) -> None:
    group = found.make()
    assert group is not None
    for _ in range(2):
        group.prepare(256 << 20, 8)
        with inside(group, sys.executable, "-I", "-S", "-c", BURN) as process:
            process.communicate()
        figures = group.figures()
        assert 0.2 <= figures["cpu_s"] < 0.5
        assert figures["memory_bytes"] < 64 << 20
        assert not group.memory_killed()
        assert group.empty()
        group.renew()
        assert group.seconds() < 0.1
    found.drop(group)
    assert not any(Path(folder).exists() for folder in group.folders)


def test_too_much_memory_is_told(found: cgroups.Cgroups) -> None:
    group = found.make()
    assert group is not None
    group.prepare(32 << 20, 8)
    with inside(group, sys.executable, "-I", "-S", "-c", "x = bytearray(100 << 20)") as process:
        process.communicate()
    assert process.returncode == -9
    assert group.memory_killed()
    assert group.figures()["memory_bytes"] <= 33 << 20
    group.renew()
    assert not group.memory_killed()
    found.drop(group)


def test_all_of_a_group_is_killed(found: cgroups.Cgroups) -> None:
    group = found.make()
    assert group is not None
    group.prepare(None, None)
    with inside(group, "/bin/sh", "-c", "sleep 60 & sleep 60 & echo there; wait") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        assert not group.empty()
        assert not group.remove()
        assert group.kill()
        process.wait()
    assert group.empty()
    found.drop(group)


def test_groups_of_a_warden_that_is_no_more_are_swept(found: cgroups.Cgroups) -> None:
    gone = subprocess.Popen(["/bin/true"])
    gone.wait()
    parents = {str(Path(folder).parent) for folder in found.folders}
    for parent in parents:
        old = Path(parent) / f"outrider-{Path('/proc/self/ns/pid').stat().st_ino}-{gone.pid}-1"
        (old / "slot-1").mkdir(parents=True)
        (Path(parent) / "outrider-mine").mkdir()
    another = "from outrider.far.jail import cgroups\ncgroups.Cgroups().close()"
    subprocess.run([sys.executable, "-c", another], check=True)
    for parent in parents:
        names = [path.name for path in Path(parent).glob("outrider-*")]
        (Path(parent) / "outrider-mine").rmdir()
        assert not [name for name in names if f"-{gone.pid}-1" in name]
        assert "outrider-mine" in names
    assert all(Path(folder).exists() for folder in found.folders)


def unified() -> Path:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line:
            return Path(line.split()[4])
    pytest.skip("no cgroup v2 is mounted")


def test_version_2_counts_time_and_kills_at_once() -> None:
    """As far as a hierarchy without controllers goes: that is where this machine's version 1 has them."""
    name = f"outrider-test-{os.getpid()}"
    try:
        group = cgroups.Version2(str(unified()), name)
    except OSError as error:
        pytest.skip(f"no group can be made there: {error}")
    try:
        group.before = group._counters()
        with inside(group, sys.executable, "-I", "-S", "-c", BURN) as process:
            process.communicate()
        figures = group.figures()
        assert 0.2 <= figures["cpu_s"] < 0.5
        assert group.seconds() == figures["cpu_s"]
        assert figures["user_s"] + figures["system_s"] == pytest.approx(figures["cpu_s"], abs=0.05)
        with inside(group, "/bin/sh", "-c", "sleep 60 & sleep 60 & echo there; wait") as process:
            assert process.stdout is not None
            process.stdout.readline()
            started = time.monotonic()
            assert group.kill()
            process.wait()
        assert time.monotonic() - started < 30
        assert group.empty()
    finally:
        assert wait_for(group.remove, 5)

"""Sessions through a place where one command at a time can be run, and what a bad gateway does to them."""

from __future__ import annotations

import ast
import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from outrider import Route, RouteError, gateway, hops
from outrider.errors import ConfigError, Lost
from tests.world.fixtures import find_python
from tests.world.machine import wait_for


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home folder of both sides; in the end no stream, and nothing that one ran, may be left."""
    monkeypatch.setenv("HOME", str(tmp_path))
    yield tmp_path
    assert wait_for(lambda: not streams(tmp_path), 20), streams(tmp_path)


def script(folder: Path, text: str) -> str:
    """A gateway of a few lines of sh, whose last word is the command line."""
    path = folder / "site-run"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


def quiet(*hops_: Any) -> Route:
    return Route(*hops_).options(show=False)


def streams(home: Path) -> list[Path]:
    folder = home / ".outrider" / "gateway"
    return [path for path in folder.iterdir() if path.is_dir()] if folder.exists() else []


def test_a_session_there_is_as_any_other(home: Path) -> None:
    with quiet(gateway(["sh", "-c"])).open() as far:
        assert far.call(divmod, 7, 2) == (3, 1)
        assert list(far.map(abs, range(-20, 0))) == list(range(20, 0, -1))
        done = far.run(["sh", "-c", "cat; echo told >&2; exit 3"], stdin=b"a\0b\n", check=False)
        assert (done.returncode, done.stdout, done.stderr) == (3, b"a\0b\n", b"told\n")


def test_large_values_both_ways(home: Path) -> None:
    data = os.urandom(1_500_000)
    with quiet(gateway(["sh", "-c"])).open() as far:
        assert far.call(bytes.swapcase, data) == data.swapcase()


def test_with_an_upload_program_nothing_that_is_sent_stands_on_a_command_line(home: Path) -> None:
    program = script(home, f'echo "$1" >> {home}/lines; exec sh -c "$1"\n')
    far = quiet(gateway([program], upload=["sh", "-c", 'cat > "$0"'])).open()
    with far:
        data = os.urandom(1_500_000)
        assert far.call(bytes.swapcase, data) == data.swapcase()
        assert far.run(["cat"], stdin=b"secret").stdout == b"secret"
    assert max(map(len, (home / "lines").read_text().splitlines())) < 12_000


@pytest.mark.parametrize("version", ["3.8", "3.13"])
def test_an_older_or_newer_python_there(home: Path, version: str) -> None:
    folder = home / "bin"
    folder.mkdir()
    (folder / "python3").symlink_to(find_python(version))
    program = script(home, f'PATH={folder}:$PATH exec sh -c "$1"\n')
    with quiet(gateway([program])).open() as far:
        assert far.call(platform.python_version).startswith(version)


def test_what_is_sent_there_needs_nothing_but_the_standard_library() -> None:
    source = (resources.files("outrider.connect") / "there.py").read_text()
    names = [
        name.partition(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    ]
    assert set(names) <= sys.stdlib_module_names


def test_exit_statuses_and_what_cannot_be_started(home: Path) -> None:
    def status(*words: str) -> tuple[int, bytes]:
        command = hops.gateway(["sh", "-c"]).here().wrap(hops_command(*words))
        done = subprocess.run(command.argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        return done.returncode, done.stderr

    assert status("sh", "-c", "exit 41") == (41, b"")
    assert status("sh", "-c", "kill -TERM $$") == (143, b"")
    assert status("no-such-program") == (127, b"sh: no-such-program: command not found\n")
    assert status(str(home))[0] == 126


def hops_command(*words: str) -> Any:
    from outrider.command import Command

    return Command(words)


FLAKY = """
n=$(cat {folder}/count 2>/dev/null || echo 0)
echo $((n + 1)) > {folder}/count
[ "$n" -lt 1 ] && exec sh -c "$1"   # the first visit tells where the folder is
case $((n % 4)) in
0) echo 'the gateway is busy' >&2; exit 1 ;;                  # it was not run
1) sh -c "$1" >/dev/null 2>&1; exit 1 ;;                      # its answer is lost
2) sh -c "$1" >/dev/null 2>&1; exec sh -c "$1" ;;             # it is run twice
3) echo "Welcome! $(date)"; sh -c "$1"; echo 'Good bye' ;;    # others print too
esac
"""


@pytest.mark.slow
def test_visits_that_fail_or_come_twice_lose_and_repeat_nothing(home: Path) -> None:
    program = script(home, FLAKY.format(folder=home))
    with quiet(gateway([program])).open() as far:
        for number in range(5):
            assert far.call(pow, number, 2) == number * number
        # cat: whatever is lost, doubled or out of order on the way shows
        data = os.urandom(200_000)
        assert far.run(["cat"], stdin=data).stdout == data


def test_who_does_not_come_any_more_is_noticed_there(home: Path) -> None:
    far = quiet(gateway(["sh", "-c"], patience=2)).open()
    far.call(os.getpid)
    pid = far.submit(time.sleep, 60) and far.call(os.getpid)
    far.connection.process.signal_group(signal.SIGKILL)
    assert wait_for(lambda: not alive(pid), 20)
    far.close()


@pytest.mark.slow
def test_a_command_that_does_not_read_holds_up_who_writes(home: Path) -> None:
    far = quiet(gateway(["sh", "-c"], patience=4)).open()
    with far, contextlib.suppress(Lost):
        done = far.run(["sh", "-c", "sleep 6; wc -c"], stdin=bytes(3_000_000))
        assert done.stdout.split() == [b"3000000"]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


@pytest.mark.slow
def test_a_pause_is_not_taken_for_death(home: Path) -> None:
    far = quiet(gateway(["sh", "-c"], patience=3)).open()
    with far:
        assert far.call(abs, -1) == 1
        time.sleep(5)  # nothing to fetch: visits are made all the same
        assert far.call(abs, -2) == 2


def test_the_far_side_is_killed(home: Path) -> None:
    far = quiet(gateway(["sh", "-c"])).open()
    pid = far.call(os.getpid)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Lost):
        far.call(abs, -1)
    far.close()


def test_the_first_visit_comes_again_when_all_is_over(home: Path) -> None:
    program = script(home, f'[ -e {home}/first ] || echo "$1" > {home}/first; exec sh -c "$1"\n')
    mark = home / "mark"
    route = quiet(gateway([program]))
    route.run(["sh", "-c", f"echo x >> {mark}"])
    assert wait_for(lambda: not streams(home), 20)
    late = subprocess.run(["sh", "-c", (home / "first").read_text()], capture_output=True, timeout=60)
    assert b"outrider-gateway eyJnb25lIjogdHJ1ZX0=" in late.stdout  # {"gone": true}
    assert not streams(home)
    assert mark.read_text() == "x\n"


def test_what_killed_keepers_left_is_removed_some_day(home: Path) -> None:
    old = home / ".outrider" / "gateway" / ("0" * 32)
    old.mkdir(parents=True)
    over = old.with_name("1" * 32 + ".over")
    over.touch()
    for path in (old, over):
        os.utime(path, (1, 1))
    quiet(gateway(["sh", "-c"])).call(abs, -1)
    assert not over.exists()
    assert not old.exists()


@pytest.mark.slow
def test_the_keeper_is_killed(home: Path) -> None:
    far = quiet(gateway(["sh", "-c"])).open()
    pid = far.call(os.getppid)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Lost):
        far.call(abs, -1)
    far.close()
    for path in streams(home):
        shutil.rmtree(path)


def test_its_folder_is_removed(home: Path) -> None:
    far = quiet(gateway(["sh", "-c"])).open()
    pid = far.call(os.getpid)
    for path in streams(home):
        shutil.rmtree(path)
    with pytest.raises(Lost):
        far.call(abs, -1)
    far.close()
    assert wait_for(lambda: not alive(pid), 20)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("echo denied >&2; exit 1", "denied", "python3"),
        ("exec sh -c 'exec no-python3'", "no-python3", "python3"),
        ("exit 0", "nothing", "python3"),
        ("head -c 90000000 /dev/zero | tr '\\0' x", "did not run", "python3"),
        ("echo 'outrider-gateway e30= outrider-end'", "nonsense|should", ""),
        ("echo 'outrider-gateway W10= eA== outrider-end'", "should", "python3"),
    ],
)
def test_a_gateway_that_answers_with_anything_else(home: Path, text: str, message: str, hint: str) -> None:
    program = script(home, text + "\n")
    with pytest.raises(RouteError, match=message) as caught:
        quiet(gateway([program])).open()
    assert hint in (caught.value.hint or "")
    assert "gateway" in str(caught.value)


def test_a_program_that_is_not_there(home: Path) -> None:
    with pytest.raises(RouteError, match="cannot be started") as caught:
        quiet(gateway([str(home / "nowhere")])).open()
    assert "argv=" in (caught.value.hint or "")


def test_closing_ends_all_there(home: Path) -> None:
    far = quiet(gateway(["sh", "-c"])).open()
    pid = far.call(os.getpid)
    far.close()
    assert wait_for(lambda: not alive(pid), 20)


def test_a_durable_call_through_it(home: Path) -> None:
    from outrider.batch import BatchJob

    job = quiet(gateway(["sh", "-c"])).submit(pow, 7, 2)
    assert job.result(60) == 49
    assert BatchJob.open(job.key).result(60) == 49
    job.clean()


@pytest.mark.parametrize("patience", [0, -1, float("inf"), float("nan")])
def test_patience_is_a_time(patience: float) -> None:
    with pytest.raises(ConfigError, match="patience"):
        gateway(["sh", "-c"], patience=patience)


def test_a_gateway_needs_a_program() -> None:
    with pytest.raises(ConfigError, match="no program"):
        gateway([])

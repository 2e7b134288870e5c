"""`outrider sandbox`: streams, exit codes, the report in every ending, pairs, and what a machine can hold."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import shutil
import signal
import subprocess
import termios
import time
from pathlib import Path

import pytest

from outrider import Sandbox
from outrider.errors import Refused
from tests.command_line import OUTRIDER, environment
from tests.command_line import outrider as command_line

LIMITS = (
    *("--time", "1s", "--wall", "5s", "--memory", "128M"),
    *("--processes", "32", "--output", "16M", "--disk", "64M"),
)
KEYS = {"verdict", "exit_code", "signal", "message", "engine", "missing", "usage"}
FIGURES = {"cpu_s", "wall_s", "memory_bytes", "processes", "output_bytes"}


@pytest.fixture(scope="module", autouse=True)
def able():
    with Sandbox() as box:
        try:
            box.run(["true"])
        except Refused as error:
            pytest.skip(f"no sandbox here: {error}")


def sandbox(verb, *words, **more):
    return command_line("sandbox", verb, *words, **more)


@pytest.mark.parametrize(
    ("words", "verdict", "code", "number"),
    [
        (["true"], "OK", 0, None),
        (["sh", "-c", "exit 7"], "RE", 7, None),
        (["sh", "-c", "kill -SEGV $$"], "RE", None, 11),
        (["no-such-program"], "RE", 127, None),
        (["sh", "-c", "while :; do :; done"], "TLE", None, 9),
        (["unshare", "-r", "true"], "RV", None, 9),
        (["yes"], "OLE", None, 9),
    ],
)
def test_the_verdict_is_told_in_a_file(tmp_path, words, verdict, code, number):
    meta = tmp_path / "meta.json"
    limits = [*LIMITS, "--time", "300ms", "--output", "64K"]
    done = sandbox("run", *limits, "--meta", meta, "--", *words)
    assert done.returncode == 0
    told = json.loads(meta.read_text())
    assert told.keys() >= KEYS
    assert told["usage"].keys() >= FIGURES
    assert (told["verdict"], told["exit_code"]) == (verdict, code)
    if verdict == "RE":
        assert told["signal"] == number
    (tmp_path / "other").touch()
    assert meta.stat().st_mode == (tmp_path / "other").stat().st_mode
    (tmp_path / "other").unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["meta.json"]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--engine", "none"], 0, "cannot hold"),
        (["--rootfs", "/no/such/folder"], 0, "no/such/folder"),
        (["--on", "local | login(setup=['exit 9'])"], 0, "login"),
        (["--memory", "much"], 2, "not a size"),
        (["--image", "no-such-image"], 2, "no sandbox image"),
        (["--file", "/no/such/file:x"], 2, "cannot read"),
    ],
)
def test_a_refusal_is_told_there_too(tmp_path, words, status, said):
    meta = tmp_path / "meta"
    meta.write_text("of the last run")
    done = sandbox("run", *LIMITS, *words, "--meta", meta, "--", "true")
    assert done.returncode == status
    told = json.loads(meta.read_text())
    assert told.keys() >= KEYS
    assert told["usage"].keys() >= FIGURES
    assert (told["verdict"], told["exit_code"]) == ("SE", None)
    assert said in told["message"]
    assert said in done.stderr.decode()


def test_a_refusal_says_what_to_type():
    done = sandbox("run", "--engine", "none", "--", "true")
    assert done.returncode == 125
    assert b"--allow-missing NAME, for each of 'network'" in done.stderr


def test_a_report_that_cannot_be_written_is_told_before_anything_is_run(tmp_path):
    for place in (tmp_path, tmp_path / "no" / "meta"):
        done = sandbox("run", "--meta", place, "--", "echo", "ran")
        assert (done.returncode, done.stdout) == (2, b"")


def test_the_report_into_a_stream(tmp_path):
    done = sandbox("run", "--meta", "/dev/stdout", "--", "echo", "first")
    first, _, report = done.stdout.partition(b"\n")
    assert (first, json.loads(report)["verdict"]) == (b"first", "OK")
    with (tmp_path / "all").open(
        "wb"
    ) as file:  # as above, where stdout is a file, which is not to be replaced
        subprocess.run(
            [*OUTRIDER, "sandbox", "run", "--meta", "/dev/stdout", "--", "echo", "first"],
            stdout=file,
            env=environment(),
            check=True,
        )
    assert (tmp_path / "all").read_bytes().startswith(b"first\n{")


def test_the_report_through_a_link(tmp_path):
    (tmp_path / "link").symlink_to("real")
    assert sandbox("run", "--meta", tmp_path / "link", "--", "true").returncode == 0
    assert json.loads((tmp_path / "real").read_text())["verdict"] == "OK"
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -9 $$"], 137),
        (["no-such-program"], 127),
        (["/etc/passwd"], 126),
        (["sh", "-c", "while :; do :; done"], 137),
        (["sh", "-c", "sleep 9 & yes"], 137),
    ],
)
def test_exit_codes(words, status):
    assert sandbox("run", *LIMITS, "--time", "300ms", "--output", "64K", "--", *words).returncode == status


def test_bytes_pass_through():
    raw = os.urandom(3_000_000) + b"\0\xff\r\n\x1b[31m"
    done = sandbox("run", *LIMITS, "--", "cat", stdin=raw)
    assert (done.returncode, done.stdout) == (0, raw)


def test_its_stderr_is_ours():
    done = sandbox("run", "--", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_input_that_nobody_takes():
    done = sandbox("run", "--", "true", stdin=b"x" * 5_000_000)
    assert (done.returncode, done.stderr) == (0, b"")


def test_without_standard_streams():
    line = " ".join([*OUTRIDER, "sandbox", "run", "--", "cat"])
    for closed in ("<&-", ">&-", "2>&-"):
        done = subprocess.run(
            ["sh", "-c", f"{line} {closed}"], env=environment(), capture_output=True, input=b"", check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_what_is_typed():
    near, far = pty.openpty()
    process = subprocess.Popen(
        [*OUTRIDER, "sandbox", "run", "--", "sh", "-c", "read word; echo got $word"],
        stdin=far,
        stdout=subprocess.PIPE,
        env=environment(),
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(far)
    os.write(near, b"typed\n")
    assert process.communicate(timeout=30)[0] == b"got typed\n"
    assert process.returncode == 0
    os.close(near)


def test_ctrl_c(tmp_path):
    meta = tmp_path / "meta"
    process = subprocess.Popen(
        [*OUTRIDER, "sandbox", "run", "--wall", "60s", "--meta", meta, "--", "sh", "-c", "echo on; sleep 50"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"on\n"
    process.send_signal(signal.SIGINT)
    assert b"cancelled" in process.communicate(timeout=20)[1]
    assert process.returncode == 130
    assert json.loads(meta.read_text())["message"] == "it was cancelled"


def test_nobody_reads_its_output(tmp_path):
    meta = tmp_path / "meta"
    line = " ".join([*OUTRIDER, "sandbox", "run", "--wall", "20s", "--meta", str(meta), "--", "yes"])
    done = subprocess.run(
        ["sh", "-c", f"{line} | head -n 1"], env=environment(), capture_output=True, check=False, timeout=30
    )
    assert done.stdout == b"y\n"
    until = time.monotonic() + 10
    while not meta.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert json.loads(meta.read_text())["verdict"] == "SE"


def test_files_in_and_out(tmp_path):
    (tmp_path / "main.py").write_text("open('out', 'w').write(open('/shown/data').read())")
    (tmp_path / "data").write_text("seen")
    tmp_path.chmod(0o755)
    words = ["--file", "main.py", "--ro", ".:/shown", "--collect", "out:back", "--collect", "gone"]
    done = sandbox("run", *words, "--", "python3", "main.py", cwd=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "back").read_text() == "seen"
    assert not (tmp_path / "gone").exists()
    assert b"gone cannot be brought back" in done.stderr


def test_a_program_that_is_here_and_not_inside(tmp_path):
    (tmp_path / "main").write_text("#!/bin/sh\necho ran")
    done = sandbox("run", "--", "./main", cwd=tmp_path)
    assert done.returncode == 127
    assert b"--file ./main" in done.stderr
    assert sandbox("run", "--file", "./main", "--", "./main", cwd=tmp_path).returncode == 126
    (tmp_path / "main").chmod(0o755)
    assert sandbox("run", "--file", "./main", "--", "./main", cwd=tmp_path).stdout == b"ran\n"


@pytest.mark.parametrize("word", [":", "a:", ":a"])
@pytest.mark.parametrize("option", ["--ro", "--file", "--collect"])
def test_bad_pairs_of_paths(option, word):
    done = sandbox("run", option, word, "--", "true")
    assert done.returncode == 2
    assert option.encode() in done.stderr


def test_another_root_and_an_image(tmp_path):
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("no busybox here, which needs nothing else in its root")
    (root / "bin" / "sh").write_bytes(Path(busybox).read_bytes())
    (root / "bin" / "sh").chmod(0o755)
    (root / "mark").write_text("here\n")
    for path in (tmp_path, root, root / "bin"):
        path.chmod(0o755)
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "OUTRIDER_IMAGES": str(tmp_path / "unpacked")}
    script = ("--", "/bin/sh", "-c", "read -r line < /mark; echo $line")
    done = sandbox("run", "--rootfs", "root", *script, cwd=tmp_path, env=env)
    assert (done.stdout, done.returncode) == (b"here\n", 0)
    assert sandbox("images", "add", "small", "root", cwd=tmp_path, env=env).returncode == 0
    done = sandbox("run", "--image", "small", *script, cwd=tmp_path, env=env)
    assert (done.stdout, done.returncode) == (b"here\n", 0)
    assert sandbox("images", env=env).stdout.startswith(b"small  ")
    assert json.loads(sandbox("images", "list", "--json", env=env).stdout)["name"] == "small"
    assert b"whole" in sandbox("images", "check", "small", env=env).stdout
    assert sandbox("images", "remove", "small", env=env).returncode == 0
    assert sandbox("images", env=env).stdout == b""
    assert sandbox("images", "remove", "small", env=env).returncode == 2


def test_check():
    done = sandbox("check", *LIMITS, "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 0
    assert told["engine"] == "native"
    found = {each["name"]: each for each in told["engines"]}
    assert list(found) == ["native", "isolate", "bwrap", "sio2jail", "proot", "none"]
    assert found["native"]["works"]
    assert found["native"]["missing"] == told["missing"]
    assert "network" in found["none"]["missing"]
    shown = sandbox("check", *LIMITS).stdout.decode()
    assert shown.startswith("engine: native\nmissing: ")
    assert "  none      works; missing: " in shown


def test_check_of_what_cannot_be():
    done = sandbox("check", "--engine", "none")
    assert done.returncode == 1
    assert done.stdout.startswith(b"none: ")


REFEREE = """
import sys
for line in sys.stdin:
    print(int(line) + 1, flush=True)
    if line == "3\\n":
        sys.exit(int(sys.argv[1]))
"""
TALKS = "n = 1\nfor _ in range(3):\n  print(n, flush=True)\n  n = int(input())"


@pytest.fixture
def programs(tmp_path):
    (tmp_path / "referee.py").write_text(REFEREE)
    (tmp_path / "talks.py").write_text(TALKS)
    return tmp_path


def test_a_pair(programs):
    files = ["--file", "talks.py", "--referee-file", "referee.py", "--referee-wall", "8s"]
    words = [
        *LIMITS,
        *files,
        "--meta",
        "meta",
        "--",
        "python3",
        "talks.py",
        "--",
        "python3",
        "referee.py",
        "0",
    ]
    done = sandbox("interact", *words, cwd=programs)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    told = json.loads((programs / "meta").read_text())
    assert (told["contestant"]["verdict"], told["referee"]["verdict"]) == ("OK", "OK")
    assert told["failed_first"] is None
    assert told["first"] in ("contestant", "referee")


@pytest.mark.parametrize(
    ("contestant", "referee", "status"),
    [
        (["python3", "talks.py"], ["python3", "referee.py", "5"], 5),
        (["sh", "-c", "kill -9 $$"], ["cat"], 1),
        (["cat"], ["sh", "-c", "kill -9 $$"], 137),
        (["cat"], ["no-such-program"], 127),
    ],
)
def test_exit_codes_of_a_pair(programs, contestant, referee, status):
    words = [*LIMITS, "--file", "talks.py", "--referee-file", "referee.py"]
    assert sandbox("interact", *words, "--", *contestant, "--", *referee, cwd=programs).returncode == status


def test_what_is_no_pair(tmp_path):
    meta = tmp_path / "meta"
    for argv in (["true"], ["true", "--"], ["--", "true"]):
        assert sandbox("interact", *LIMITS, "--", *argv).returncode == 2
    done = sandbox("interact", "--meta", meta, "--", "true", "--", "true")
    assert done.returncode == 2
    assert b"--referee-wall" in done.stderr
    assert json.loads(meta.read_text())["contestant"]["verdict"] == "SE"
    done = sandbox("interact", *LIMITS, "--engine", "none", "--meta", meta, "--", "true", "--", "true")
    assert done.returncode == 0
    assert "cannot hold" in json.loads(meta.read_text())["referee"]["message"]


def test_the_verb_run_at_a_sandbox():
    route = "local | sandbox(time=300ms)"
    done = command_line("run", route, "--", "sh", "-c", "while :; do :; done")
    assert done.returncode == 137
    assert b"TLE: it used more than 0.3 s" in done.stderr
    done = command_line("run", "--json", route, "--", "sh", "-c", "echo out; exit 3")
    told = json.loads(done.stdout)
    assert (told["verdict"], told["returncode"], told["stdout"], done.returncode) == ("RE", 3, "out\n", 3)
    assert told["usage"].keys() >= FIGURES

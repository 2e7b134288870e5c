"""Sandboxes at the ends of real routes: commands, functions, pairs, files and images, and nothing left behind."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from outrider import OutriderError, Refused, Route, SandboxEnded, TimedOut, hops, interact, sandbox
from outrider.sandboxed import images
from tests.samples import far_work, jailed_work
from tests.world_tests.test_delegate_chains import steps

LIMITS = {"time": "3s", "wall": "30s", "memory": "256M", "processes": 32, "output": "1M", "disk": "16M"}
WAYS = ["subprocess", "sudo", "ssh:alpha", "slurm", "ssh:alpha sudo slurm"]


@pytest.fixture(params=WAYS)
def route(request):
    way = Route()
    for step in steps(request.param, request):
        for hop in step.hop():
            way = way | hop
    try:
        (way | sandbox()).run(["true"])
    except Refused as error:
        pytest.skip(f"no sandbox there: {error}")
    census = request.getfixturevalue("census")
    yield way | sandbox(**LIMITS)
    census.assert_nothing_left()


def test_commands_functions_and_pairs(route):
    with route.open() as box:
        done = box.run("cat; cat note; echo made > out", stdin="in\n", files={"note": "n\n"}, collect=["out"])
        assert (done.verdict, done.stdout, done.outputs) == ("OK", b"in\nn\n", {"out": b"made\n"})
        assert box.call(far_work.add, 1, 2) == 3
        assert list(box.call(jailed_work.counts, 5)) == [0, 1, 2, 3, 4]
        assert list(box.map(far_work.add, range(3), range(3))) == [0, 2, 4]
        with pytest.raises(SandboxEnded, match="TLE"):
            box.limited(time="300ms").call(far_work.spin)
        assert box.limited(output="64K").run(["yes"]).verdict == "OLE"
        played = interact(box.program("echo 6; read n; test $n = 7"), box.program("read n; echo $((n + 1))"))
        assert played.ok


def test_what_is_cut_short(route):
    """By time, by cancelling and by closing, in the midst of commands, calls and pairs."""
    box = route.open()
    with pytest.raises(TimedOut):
        box.run("sleep 60 & setsid sleep 60", timeout=1)
    future = box.submit(far_work.slowly, 1, 60)
    time.sleep(0.5)
    assert future.cancel()
    with pytest.raises(TimedOut):
        interact(box.program("sleep 60"), box.program("setsid sleep 60"), timeout=1)
    left = [box.submit(far_work.slowly, 1, 60) for _ in range(2)]
    threading.Timer(1, box.close).start()
    for each in left:
        with pytest.raises((CancelledError, OutriderError)):
            each.result(30)
    box.close()


def test_an_image(route, tmp_path, monkeypatch):
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("no busybox here, which needs nothing else in its root")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "sh").write_bytes(Path(busybox).read_bytes())
    (root / "bin" / "sh").chmod(0o755)
    (root / "mark").write_text("of the image\n")
    images.add("small", root)
    before, there = Route(*route.hops[:-1]), f"/tmp/outrider-images-{secrets.token_hex(8)}"
    jail = (before | sandbox(**LIMITS, image="small")).options(env={"OUTRIDER_IMAGES": there})
    try:
        for _ in range(2):  # the second finds it there
            with jail.open() as box:
                done = box.run(["/bin/sh", "-c", "read -r line < /mark; echo $line; echo x > /mark"])
                assert (done.text, done.verdict) == ("of the image", "RE")
    finally:
        before.run(["rm", "-rf", there], check=True)


def test_in_a_container(docker, census):
    with pytest.raises(Refused, match="systempaths=unconfined"):
        (hops.docker(docker.image) | sandbox()).run(["true"])
    loose = [word for name in ("seccomp", "systempaths") for word in ("--security-opt", f"{name}=unconfined")]
    route = hops.docker(docker.image, extra=loose) | sandbox(**LIMITS)
    with route.open() as box:
        assert box.run("id -u; echo $$").text == "1000\n2"
        assert box.call(far_work.add, 1, 2) == 3
    census.assert_nothing_left()

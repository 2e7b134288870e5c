"""`outrider timeline`: jobs that were submitted before, by the store and by those who know more."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from outrider import Route, ssh
from outrider.batch.states import Standing, State
from outrider.batch.store import Store
from tests.command_line import outrider


@pytest.fixture
def route(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Route:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return Route.parse("local")


def spans(line: str) -> tuple[str, str, list[str]]:
    told = json.loads(line)
    return told["name"], told["state"], [span["phase"] for span in told["spans"]]


def test_what_was_submitted_is_shown(route: Route) -> None:
    array = route.batch(name="train", tags=["a"]).map(abs, range(3))
    job = route.batch(name="sleep").submit(time.sleep, 60)
    try:
        assert array.wait(60)
        while job.state is not State.RUNNING:
            time.sleep(0.05)
        done = outrider("timeline")
        assert (done.returncode, done.stderr) == (0, b"")
        shown = done.stdout.decode()
        assert shown.startswith("4 jobs, ")
        assert "1 running, 3 completed" in shown
        assert shown.count("train[") == 3
        told = list(
            map(spans, outrider("timeline", "--json", "train", "sleep", "sleep").stdout.decode().splitlines())
        )
        assert sorted(told) == [
            ("sleep", "running", ["queued", "running"]),
            *((f"train[{index}]", "completed", ["queued", "running"]) for index in range(3)),
        ]
        assert b"3 jobs, " in outrider("timeline", "--tag", "a").stdout
        two = outrider("timeline", "--json", "train[2]", "train[0]").stdout.decode()
        assert [spans(line)[0] for line in two.splitlines()] == ["train[0]", "train[2]"]
        for words in ("train[3]", "sleep[0]"):
            done = outrider("timeline", words)
            assert (done.returncode, b"has no item" in done.stderr) == (2, True)
    finally:
        job.cancel()
        job.wait(60)
        job.clean()
        array.clean()


def test_files(route: Route, tmp_path: Path) -> None:
    array = route.batch(name="<b>").map(abs, range(3))
    assert array.wait(60)
    done = outrider("timeline", "--svg", "jobs.svg", "--chrome", "-", "<b>")
    assert json.loads(done.stdout)["traceEvents"]
    root = ElementTree.parse(tmp_path / "jobs.svg").getroot()
    assert "<b>[1]" in {element.text for element in root.iter()}
    done = outrider("timeline", "--svg", "no/folder.svg")
    assert done.returncode == 1
    assert b"no/folder.svg" in done.stderr
    shown = outrider("timeline", "--limit", "1", env={"PYTHONIOENCODING": "ascii"}).stdout
    assert b"<b> x 3: 3 completed" in shown
    assert b"3 of 3 jobs have no line of their own" in shown


def test_what_is_over_is_known_without_asking(route: Route) -> None:
    job = route.batch(name="one").submit(abs, -1)
    assert job.result(60) == 1
    spool = Path(os.environ["HOME"]) / ".outrider"
    spool.rename(spool.with_name("gone"))
    line = outrider("timeline", "--json").stdout.decode()
    assert spans(line) == ("one", "completed", ["queued", "running"])


def test_a_host_that_cannot_be_asked_leaves_what_is_known(route: Route) -> None:
    store = Store()
    text = Route(ssh("127.0.0.1", port=1)).to_string()
    store.begin("outrider-0000000000000001", text, {}, name="far", items=2)
    now = time.time()
    store.ended("outrider-0000000000000001", [(1, Standing(State.FAILED, "OOM"), now, now)])
    store.begin("outrider-0000000000000002", text, {})
    store.begin("outrider-0000000000000003", "local", {}, name="gone")
    store.begin("outrider-0000000000000004", None, {}, name="secret")
    done = outrider("timeline", "--json")
    assert done.returncode == 0
    assert {(name, state) for name, state, _ in map(spans, done.stdout.decode().splitlines())} == {
        ("far[0]", ""),
        ("far[1]", "failed"),
        ("outrider-0000000000000002", ""),
        ("gone", "lost"),
        ("secret", ""),
    }
    told = done.stderr.decode()
    assert told.count("cannot be asked") == 2, "a host that cannot be reached is not tried again"
    assert "shown as they were known last" in told


def test_without_jobs(route: Route) -> None:
    done = outrider("timeline")
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"no jobs: --since 7d looks further back" in done.stderr
    assert outrider("timeline", "nothing").returncode == 2
    done = outrider("timeline", "--since", "yesterday")
    assert done.returncode == 2
    assert b"not a time: 'yesterday'" in done.stderr

"""The store of jobs: many processes, sudden deaths, broken and foreign files; and the way back from it to a job."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from outrider import ConfigError, Route
from outrider.batch import BatchJob, JobArray, State
from outrider.batch.states import Standing
from outrider.batch.store import Store, StoreError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state" / "jobs.db")


@pytest.fixture
def route(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Route:
    monkeypatch.setenv("HOME", str(tmp_path))
    return Route.parse("local")


def begin(store: Store, key: str, **words: object) -> None:
    store.begin(key, "local", {}, **words)  # type: ignore[arg-type]


def test_a_job_is_found_by_key_its_beginning_and_name(store: Store) -> None:
    begin(store, "outrider-ab01", name="train", tags=["x"], items=2)
    begin(store, "outrider-ab02", name="train")
    begin(store, "outrider-cd03")
    assert store.get("outrider-ab01").tags == ("x",)
    assert store.get("cd").key == "outrider-cd03"
    assert store.get("train").key == "outrider-ab02"
    assert [row.key for row in store.rows(tag="x")] == ["outrider-ab01"]
    assert len(store.rows(name="tr*")) == 2
    with pytest.raises(ConfigError, match="more than one"):
        store.get("ab")
    for nothing in ("zz", "", "%"):
        with pytest.raises(ConfigError, match="no job"):
            store.get(nothing)


def test_its_life(store: Store) -> None:
    begin(store, "outrider-1", items=2)
    store.submitted("outrider-1", "17")
    store.ended("outrider-1", [(0, Standing(State.FAILED, "TIMEOUT"), 1.0, 2.0)])
    row = store.get("outrider-1")
    assert store.get("17").key == row.key
    assert (row.id, row.ended, row.over) == ("17", {0: Standing(State.FAILED, "TIMEOUT")}, False)
    store.ended("outrider-1", [(1, Standing(State.COMPLETED), None, None)])
    assert store.get("outrider-1").over
    store.again("outrider-1", [0])
    assert not store.get("outrider-1").over
    store.forget("outrider-1")
    store.ended("outrider-1", [(0, Standing(State.LOST), None, None)])
    assert store.rows() == []


def test_only_its_owner_may_read_it(store: Store) -> None:
    begin(store, "outrider-1")
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700


WRITER = """
import sys
from pathlib import Path
from outrider.batch.store import Store
store = Store(Path(sys.argv[1]))
for number in range(int(sys.argv[3])):
    key = f"outrider-{sys.argv[2]}-{number}"
    store.begin(key, "local", {})
    store.submitted(key, "1")
    print(key, flush=True)
"""


def test_many_processes_at_once_lose_nothing(store: Store) -> None:
    words = [sys.executable, "-c", WRITER, str(store.path)]
    writers = [subprocess.Popen([*words, str(n), "20"], stdout=subprocess.DEVNULL) for n in range(6)]
    assert [writer.wait(60) for writer in writers] == [0] * 6
    assert len(store.rows()) == 120


def test_a_writer_that_is_killed_leaves_what_it_had_written(store: Store) -> None:
    words = [sys.executable, "-c", WRITER, str(store.path), "x", "100000"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [writer.stdout.readline() for _ in range(30)]
        writer.send_signal(signal.SIGKILL)
        told += writer.stdout.readlines()
    kept = {row.key for row in store.rows()}
    assert {line.strip() for line in told if line.endswith("\n")} <= kept


def test_a_file_that_is_no_database_is_moved_aside(store: Store) -> None:
    store.path.parent.mkdir()
    store.path.write_bytes(b"not a database at all" * 100)
    with pytest.warns(UserWarning, match="broken"):
        begin(store, "outrider-1")
    assert len(store.rows()) == 1
    assert len(list(store.path.parent.glob("jobs.broken-*"))) == 1


def test_half_of_a_database_is_moved_aside_and_the_job_noted(store: Store) -> None:
    for number in range(200):
        begin(store, f"outrider-{number}")
    whole = store.path.read_bytes()
    store.path.write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match="broken"):
        begin(store, "outrider-new")
    assert [row.key for row in store.rows()] == ["outrider-new"]


BROKEN = """
import sys, warnings
from pathlib import Path
from outrider.batch.store import Store
warnings.simplefilter("ignore")
sys.stdin.readline()
Store(Path(sys.argv[1])).begin(sys.argv[2], "local", {})
"""


def test_of_many_who_find_it_broken_each_notes_its_job(store: Store) -> None:
    store.path.parent.mkdir()
    store.path.write_bytes(b"not a database at all" * 100)
    keys = [f"outrider-{number}" for number in range(6)]
    writers = [
        subprocess.Popen([sys.executable, "-c", BROKEN, str(store.path), key], stdin=subprocess.PIPE)
        for key in keys
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"go\n")
        writer.stdin.close()
    assert [writer.wait(60) for writer in writers] == [0] * 6
    assert sorted(row.key for row in store.rows()) == keys


def test_a_file_of_a_later_version_is_left_alone(store: Store) -> None:
    begin(store, "outrider-1")
    with sqlite3.connect(store.path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreError, match="later Outrider"):
        store.rows()
    assert store.path.exists()


def test_a_full_disk_is_told_and_harms_no_job(route: Route, tmp_path: Path) -> None:
    code = (
        "import resource, warnings\n"
        "from outrider import Route\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    from outrider.batch import noting\n"
        "    from outrider.batch.lot import Record\n"
        "    noting.begins(Route.parse('local'), Route.parse('local').settings, 'outrider-1', Record())\n"
        "    noting.begins(Route.parse('local'), Route.parse('local').settings, 'outrider-2', Record())\n"
        "print(len(seen), seen[0].message)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("1 the store of jobs cannot be used"), done.stderr


def test_from_a_name_back_to_the_job_and_its_array(route: Route) -> None:
    job = route.batch(name="one", tags=["t"]).submit(pow, 2, 3)
    jobs = route.batch(name="many").map(abs, [-1, -2])
    assert Store().get("one").label == "pow"
    again = BatchJob.open("one")
    assert isinstance(again, BatchJob)
    assert again.result(30) == 8
    array = BatchJob.open(jobs.key)
    assert isinstance(array, JobArray)
    assert list(array.values(30)) == [1, 2]
    until = time.monotonic() + 10
    while not Store().get("many").over and time.monotonic() < until:
        array.progress()
    assert Store().get("many").over
    job.clean()
    with pytest.raises(ConfigError, match="no job"):
        BatchJob.open("one")


def test_what_is_refused_is_not_kept(route: Route) -> None:
    home = Path(os.environ["HOME"]) / ".outrider"
    home.write_text("in the way")
    with pytest.raises(Exception, match="cannot be stored"):
        route.submit(abs, 1)
    assert Store().rows() == []

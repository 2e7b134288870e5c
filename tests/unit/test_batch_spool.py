"""What a job's own code has put into its folder: whoever waits is told, nobody hangs, and other jobs go on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from outrider import FarError, OutriderError, Route
from outrider.batch import watching
from outrider.batch.schedulers.process import Process
from outrider.batch.schedulers.slurm import SlurmBatch

Put = Callable[[Path], Any]
PUTS: dict[str, Put] = {
    "a FIFO": os.mkfifo,
    "a folder": Path.mkdir,
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a file that is mostly a hole": lambda path: subprocess.run(["truncate", "-s", "1T", path], check=True),
    "garbage": lambda path: path.write_bytes(b"\0\x1b[2J\xff" * 50),
    "nothing": Path.touch,
}
NAMES = ("end.0", "answer.0.0", "errors.0", "begun.0.0", "record", "elements.0")
RECORDS = {
    "a billion items": b'{"kind": "call", "items": 1000000000}',
    "chunks of nothing": b'{"kind": "call", "items": 5, "chunk": 0}',
    "nested too deep": b"[" * 200_000,
    "other kinds": b'{"kind": 7, "items": "x", "tags": 7, "made": "x"}',
}


@pytest.fixture
def route(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HOME", str(tmp_path))
    route = Route.parse("local").options(trust="data", max_answer=1 << 22)
    yield route
    watching.rest()


def folder(key: str) -> Path:
    return Path.home() / ".outrider" / "spool" / key


def over(route: Route) -> str:
    """The key of a job that is over, of which nothing is known here any more."""
    job = route.submit(abs, -5)
    assert job.result(60) == 5
    key = job.key
    del job
    watching.rest()
    return key


def told(job: Any) -> Any:
    """What comes of it for whoever waits."""
    try:
        value = job.result(30)
        list(job.follow())
        return value
    except OutriderError as error:
        return error


@pytest.mark.parametrize("name", NAMES)
def test_what_stands_in_the_place_of_a_jobs_file_hurts_that_job_alone(route: Route, name: str) -> None:
    fine, keys = over(route), {what: over(route) for what in PUTS}
    for what, key in keys.items():
        (folder(key) / name).unlink()
        PUTS[what](folder(key) / name)
    jobs = {what: route.job(key) for what, key in keys.items()}
    assert route.job(fine).result(30) == 5
    for what, job in jobs.items():
        found = told(job)
        assert found == 5 or (isinstance(found, OutriderError) and found.hint), what
        assert "\x1b" not in str(found), what


@pytest.mark.parametrize("record", RECORDS.values(), ids=list(RECORDS))
def test_a_record_that_was_changed_is_told_each_time(route: Route, record: bytes) -> None:
    key = over(route)
    (folder(key) / "record").write_bytes(record)
    job = route.job(key)
    for ask in (lambda: job.result(30), lambda: job.state, lambda: list(job.follow())):
        with pytest.raises(FarError, match="makes no sense") as caught:
            ask()
        assert "spool" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["1 2 3", "-1", "9" * 30, "²"])
def test_elements_that_it_cannot_have_are_told(route: Route, text: str) -> None:
    key = over(route)
    (folder(key) / "elements.0").write_text(text)
    assert isinstance(told(route.job(key)), FarError)


def test_the_files_of_a_thousand_attempts_are_read_in_one_go(route: Route) -> None:
    key = over(route)
    for number in range(1, 5000):
        for name in ("begun.%d.0", "answer.%d.0", "end.%d"):
            (folder(key) / (name % number)).touch()
    (folder(key) / "end.²").touch()
    assert route.job(key).result(30) == 5


def test_what_is_noted_of_a_job_is_its_owners_alone(route: Route) -> None:
    key = over(route)
    assert (folder(key) / "elements.0").stat().st_mode & 0o777 == 0o600
    (compiled,) = (Path.home() / ".outrider").glob("compiled-*")
    assert compiled.stat().st_mode & 0o777 == 0o600


def test_an_id_that_cannot_be_is_none() -> None:
    """squeue says of it what it says of all forgotten ones, and tells nothing of the others."""
    slurm = SlurmBatch()
    assert slurm.parse_submitted("17;cluster\n") == ("17",)
    for text in ("0", "9" * 30, "٣", "-1", "1,0"):
        assert slurm.parse_submitted(text) == ()


def test_the_answers_of_many_may_be_more_than_one_may_have(route: Route) -> None:
    small = route.options(max_answer=1 << 16)
    jobs = small.map(bytes, [40_000] * 5, array=True)
    assert jobs.wait(120)
    key = jobs.key
    del jobs
    watching.rest()
    assert [len(value) for value in small.jobs(key).values(60)] == [40_000] * 5


def test_who_follows_is_told_when_nothing_can_be_learned(route: Route, tmp_path: Path) -> None:
    key = over(route)
    shutil.copy(folder(key) / "record", tmp_path / "record")
    (folder(key) / "record").write_bytes(b"?")
    job = route.job(key)
    with pytest.raises(FarError):
        list(job.follow())
    shutil.copy(tmp_path / "record", folder(key) / "record")
    assert job.result(30) == 5


def test_who_had_ended_before_its_start_was_read_is_not_alive() -> None:
    """Its id has no start, and neither has a process that is not there."""
    process = Process()
    gone = subprocess.Popen(["true"])
    gone.wait()
    (ident,) = process.parse_submitted(f"{gone.pid}.\n")
    said = subprocess.run(process.query([ident]), capture_output=True, text=True, check=True)
    assert process.parse_query(said.stdout) == {}

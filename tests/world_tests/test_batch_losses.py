"""What a submitted call may lose on its way, and what Slurm will not have: spools, controllers, near ends, processes."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from outrider import FarError, Lost, Route, RouteError, hops
from outrider.batch import BatchJob, State, watching
from outrider.batch.store import Store
from tests.samples import far_work
from tests.world_tests.test_batch_recovery import Wrap, known_to_slurm, wrap  # noqa: F401


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def route(slurm: Any, home: Path) -> Route:
    return Route(hops.slurm()).options(show=False)


def until(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.1)


def spool_of(home: Path) -> list[Path]:
    return [path for path in (home / ".outrider" / "spool").iterdir() if path.name.startswith("outrider-")]


# --- what Slurm will not have ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hop", "says"),
    [
        (hops.slurm(partition="nosuch"), "invalid partition"),
        (hops.slurm(extra=["--constraint=nosuch"]), "Invalid feature"),
        (hops.slurm(extra=["--time=nonsense"]), "time"),
        (hops.slurm(memory="900G"), "[Mm]emory|not available"),
    ],
    ids=lambda value: str(value),
)
def test_what_sbatch_refuses_is_told_in_its_words_and_leaves_nothing(
    slurm: Any, home: Path, hop: Any, says: str
) -> None:
    for submit in (lambda r: r.submit(abs, -1), lambda r: r.map(abs, [-1, -2], array=True)):
        with pytest.raises(RouteError, match=says) as caught:
            submit(Route(hop).options(show=False))
        assert "slurm" in str(caught.value)
        assert "hint:" in str(caught.value)
    assert spool_of(home) == []
    assert [row for row in Store().rows() if not row.over] == []


def test_an_account_that_slurm_does_not_know(route: Route, home: Path, wrap: Wrap) -> None:  # noqa: F811
    """In its own words, which only a Slurm with accounting says."""
    words = "Batch job submission failed: Invalid account or account/partition combination specified"
    wrap("sbatch", f"echo 'sbatch: error: {words}' >&2; exit 1")
    with pytest.raises(RouteError, match="Invalid account"):
        route.submit(abs, -1)
    assert spool_of(home) == []


def test_what_is_refused_a_second_time_keeps_what_came_of_the_first(
    route: Route,
    home: Path,
    wrap: Wrap,  # noqa: F811
) -> None:
    full = home / "full"
    wrap("sbatch", f'[ -e {full} ] && {{ echo "sbatch: error: no more jobs" >&2; exit 1; }}; exec REAL "$@"')
    jobs = route.map(far_work.fails_first, [str(home / "0"), str(home / "1")], array=True)
    assert jobs.wait(60)
    full.touch()
    with pytest.raises(RouteError, match="no more jobs"):
        jobs.resubmit()
    assert jobs.wait(30)
    assert {type(error) for error in jobs.failures().values()} == {ValueError}
    full.unlink()
    assert jobs.resubmit() == 2
    assert list(jobs.values(60)) == ["again", "again"]
    jobs.clean()


def test_what_slurm_takes_and_will_never_start_says_why_it_waits(slurm: Any, home: Path) -> None:
    job = Route(hops.slurm(partition="short", time="1h")).submit(abs, -1)  # it may take ten minutes there
    until(lambda: "Partition" in job.standing().reason)
    assert job.state is State.PENDING
    job.cancel()
    assert job.wait(60)
    job.clean()


# --- what is lost on the way ----------------------------------------------------------------------------------------


def test_the_spool_is_deleted_while_the_job_waits_for_its_turn(route: Route, home: Path) -> None:
    job = route.batch(hold=True).submit(abs, -1)
    ident = job.id
    shutil.rmtree(home / ".outrider" / "spool" / job.key)
    with pytest.raises(Lost, match="folder") as caught:
        job.result(60)
    assert "hint:" in str(caught.value)
    subprocess.run(["scancel", ident], check=True)


def test_the_spool_is_deleted_while_the_job_runs(route: Route, home: Path) -> None:
    jobs = route.map(time.sleep, [5, 5], array=True)
    until(lambda: jobs[0].state is State.RUNNING)
    shutil.rmtree(home / ".outrider" / "spool" / jobs.key)
    for job in jobs:
        with pytest.raises(Lost, match="folder"):
            job.result(60)


def test_slurm_stops_in_the_midst_of_a_submission(
    route: Route,
    slurm: Any,
    home: Path,
    wrap: Wrap,  # noqa: F811
) -> None:
    mark = home / "asked"
    wrap("sbatch", f'touch {mark}; sleep 2; exec REAL "$@"')
    told: list[BaseException] = []

    def submit() -> None:
        try:
            route.submit(pow, 2, 3)
        except RouteError as error:
            told.append(error)

    thread = threading.Thread(target=submit)
    thread.start()
    until(mark.exists)
    with slurm.down():
        thread.join(60)
    assert "hint:" in str(told[0])
    assert spool_of(home) == []
    assert route.submit(pow, 2, 3).result(60) == 8


def test_slurm_stops_in_the_midst_of_a_question(route: Route, slurm: Any, home: Path, wrap: Wrap) -> None:  # noqa: F811
    mark = home / "asked"
    wrap("squeue", f'touch {mark}; sleep 2; exec REAL "$@"')
    job = route.submit(time.sleep, 15)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(job.result(90)))
    thread.start()
    until(mark.exists)
    with slurm.down():
        time.sleep(4)
    thread.join(90)
    assert found == [None]
    job.clean()


def test_near_ends_that_are_killed_at_any_moment_leave_whole_jobs_or_none(route: Route, home: Path) -> None:
    code = (
        "import sys; from outrider import Route\n"
        "Route.parse('slurm').batch(name=sys.argv[1]).submit(pow, 2, int(sys.argv[1]))\n"
    )
    seen = random.Random(5)
    for number in range(8):
        near = subprocess.Popen([sys.executable, "-c", code, str(number)])
        time.sleep(0.15 + seen.random() * 0.5)
        near.kill()
        near.wait()
    time.sleep(1)
    for row in Store().rows():
        job = route.job(row.key)
        error = job.exception(90)
        assert known_to_slurm(row.key) == (0 if error else 1)
        if error:
            assert isinstance(error, Lost)
            assert re.search("never submitted|folder", str(error))
        else:
            assert job.result() == 2 ** int(row.name)


def test_a_call_whose_process_is_killed_fails_within_seconds(route: Route) -> None:
    """As the kernel does when memory runs out."""
    job = route.submit(far_work.kill_itself)
    began = time.monotonic()
    with pytest.raises(FarError):
        job.result(60)
    assert job.state is State.FAILED
    assert time.monotonic() - began < 30
    job.clean()


def test_a_job_that_is_put_back_into_the_queue_runs_again(route: Route, home: Path) -> None:
    job = Route(hops.slurm(extra=["--requeue"])).submit(far_work.note_and_sleep, str(home / "runs"), 4)
    until((home / "runs").exists)
    subprocess.run(["scontrol", "requeue", job.id], check=True)
    time.sleep(5)  # what runs is being killed, under the same id
    subprocess.run(["scontrol", "update", f"JobId={job.id}", "StartTime=now"], check=True)
    assert job.result(90) == 2
    assert job.state is State.COMPLETED
    job.clean()


def test_an_item_is_tried_again_after_what_was_not_its_fault(route: Route, home: Path) -> None:
    jobs = route.map(far_work.lost_once, [str(home / "0"), str(home / "1"), "never"], array=True, retry=1)
    found = sorted((item.index, item.value or item.error) for item in jobs.arriving())
    assert found == [(0, "again"), (1, "again"), (2, "at once")]
    jobs.clean()


def test_a_large_answer_is_in_memory_about_once(route: Route) -> None:
    job = route.submit(bytes, 500_000_000)
    code = (
        "from pathlib import Path\nfrom outrider import Route\n"
        f"assert len(Route.parse('slurm').job({job.key!r}).result(120)) == 500_000_000\n"
        "print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=180)
    assert int(done.stdout) < 800_000  # KiB, of this process alone: ru_maxrss starts with its parent's
    job.clean()


def test_no_thread_is_left_once_nobody_waits(route: Route) -> None:
    jobs = [route.submit(abs, -1) for _ in range(3)]
    assert [job.result(60) for job in jobs] == [1, 1, 1]
    for job in jobs:
        job.clean()
    watching.rest()
    ours = {one.name for one in threading.enumerate() if one.name.startswith("outrider")}
    assert ours <= {"outrider-hub", "outrider-executors"}  # each is one for the whole process
    assert isinstance(route.submit(abs, -2), BatchJob)  # and it goes on

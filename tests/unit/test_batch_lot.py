"""What a job comes to when its folder, its scheduler and the accounting each tell a part of it."""

from __future__ import annotations

from outrider.batch.lot import Lot, Record
from outrider.batch.schedulers.base import Scheduler
from outrider.batch.schedulers.flux import FluxBatch
from outrider.batch.schedulers.pbs import PbsBatch
from outrider.batch.states import Standing, State

TIME_LIMIT = Standing(State.FAILED, "time limit")


def command(scheduler: Scheduler, end: str | None) -> Lot:
    """A command that was submitted as job 1.srv, and of which the folder tells this end."""
    lot = Lot("outrider-0", scheduler, 1 << 20, record=Record(kind="command"))
    lot.submitted(("1.srv",), [])
    if end is not None:
        lot.take(["end", 0, end, 0.0, None, b""])
    return lot


def test_the_accounting_tells_why_a_job_was_ended_that_its_scheduler_has_forgotten() -> None:
    lot = command(PbsBatch(), "143")
    (forgotten,) = lot.said({}, True, {"1.srv"})
    forgotten.verdict = TIME_LIMIT
    assert lot.said({}, True, {"1.srv"}) == []
    assert forgotten.standing == (State.FAILED, "time limit, exit status 143")


def test_and_of_one_that_left_no_end() -> None:
    lot = command(PbsBatch(), None)
    (forgotten,) = lot.said({}, True, {"1.srv"})
    forgotten.verdict = TIME_LIMIT
    assert lot.said({}, True, {"1.srv"}) == []
    assert forgotten.verdict == TIME_LIMIT


def test_where_it_knows_nothing_the_exit_status_counts() -> None:
    lot = command(PbsBatch(), "143")
    (forgotten,) = lot.said({}, True, {"1.srv"})
    lot.said({}, True, {"1.srv"})
    assert forgotten.standing == (State.FAILED, "exit status 143")


def test_without_one_nothing_is_waited_for() -> None:
    lot = command(FluxBatch(), "143")
    (element,) = lot.said({}, True, {"1.srv"})
    assert element.standing == (State.FAILED, "exit status 143")


def test_who_did_not_answer_has_forgotten_nothing() -> None:
    lot = command(PbsBatch(), None)
    assert lot.said({}, False, {"1.srv"}) == []
    assert lot.elements[0].standing.state is State.PENDING

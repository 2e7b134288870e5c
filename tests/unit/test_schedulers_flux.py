"""Flux in words: what jobs are submitted with, and what its answers mean."""

from __future__ import annotations

import json
from typing import Any

import pytest

from outrider import ConfigError, hops
from outrider.batch.schedulers.base import Dependency, Submission
from outrider.batch.schedulers.flux import FluxBatch
from outrider.batch.states import Standing, State

FLUX = FluxBatch()
KEY = "outrider-0123456789abcdef"


def what(hop: hops.flux | None = None, **more: Any) -> Submission:
    return Submission(hop=hop or hops.flux(), script="/d/script", key=KEY, log="/d/log", **more)


def told(**job: Any) -> str:
    return json.dumps({"jobid": "ƒAb1", **job})


def standing(**job: Any) -> Standing:
    return FLUX.parse_query(told(**job))["fAb1"]


class TestSubmit:
    def test_a_job(self) -> None:
        argv = FLUX.submit(what(hops.flux(cpus=2, time="5m", queue="q")))
        assert argv[:2] == ["flux", "submit"]
        assert argv[-3:] == ["--", "sh", "/d/script"]
        assert {"--cores-per-task=2", "--time-limit=300s", "--queue=q", f"--job-name={KEY}"} <= set(argv)
        assert (
            "--env=-FLUX_JOB_CC" in argv
        )  # else a job that an element submits takes itself for that element

    def test_its_script_runs_once_on_several_tasks(self) -> None:
        argv = FLUX.submit(what(hops.flux(tasks=3)))
        assert "--ntasks=3" in argv
        assert "-oexit-timeout=none" in argv
        assert argv[argv.index("--") + 1 : -2][:2] == ["sh", "-c"]

    def test_an_array(self) -> None:
        argv = FLUX.submit(what(indices=(0, 1, 2, 7)))
        assert "--cc=0-2,7" in argv
        assert f"--job-name={KEY}:{{cc}}" in argv

    def test_of_which_not_more_run_at_once(self) -> None:
        argv = FLUX.submit(what(indices=(0, 1, 2), limit=2))
        assert argv[:2] == ["sh", "-c"]
        assert argv[4:6] == ["2", "0 1 2"]
        assert FLUX.submit(what(indices=(0, 1), limit=2))[0] == "flux"

    def test_the_rest(self) -> None:
        after = (Dependency(("fAb1", "fAb2"), "/e"),)
        argv = FLUX.submit(what(after=after, hold=True, warn=90))
        assert {"--dependency=afterok:fAb1", "--dependency=afterok:fAb2"} <= set(argv)
        assert {"--urgency=hold", "--signal=SIGUSR1@90s"} <= set(argv)

    def test_no_warning_is_due_at_the_start(self) -> None:
        assert "--signal=SIGUSR1@3s" in FLUX.submit(what(hops.flux(time=6), warn=60))
        assert not any("--signal" in word for word in FLUX.submit(what(hops.flux(time=1), warn=60)))

    def test_the_users_words_are_no_templates(self) -> None:
        argv = FLUX.submit(what(name="a {cc}\n{{id}}", indices=(1,)))
        assert f"--job-name=a__cc____id__.{KEY}:{{cc}}" in argv

    @pytest.mark.parametrize("more", [{"uri": "ssh://h/x"}, {"program": "/opt/flux"}])
    def test_what_other_commands_would_not_know_of(self, more: dict[str, str]) -> None:
        with pytest.raises(ConfigError, match="env"):
            FLUX.submit(what(hops.flux(**more)))


class TestIds:
    @pytest.mark.parametrize(
        ("text", "ids"),
        [
            ("ƒ2Vfk4zPZ\n", ("f2Vfk4zPZ",)),
            ("f2Vfk4zPZ\n", ("f2Vfk4zPZ",)),
            ("1234567\n", ("1234567",)),
            ("ƒA1\nƒB2\n", ("fA1", "fB2")),
            ("flux-submit: ERROR: no\n", ()),
            ("", ()),
        ],
    )
    def test_submitted(self, text: str, ids: tuple[str, ...]) -> None:
        assert FLUX.parse_submitted(text) == ids

    def test_elements_come_in_the_order_of_their_numbers(self) -> None:
        assert FLUX.elements(("fA", "fB", "fC"), (7, 0, 3)) == {0: "fA", 3: "fB", 7: "fC"}
        assert FLUX.elements(("fA",), (5,)) == {5: "fA"}

    def test_found_by_key(self) -> None:
        text = (
            f"ƒA1 other\nƒC3 name.{KEY}:10\nƒB2 name.{KEY}:9\n"
            f"ƒD4 name.{KEY}.1\nƒE5 {KEY}x\nƒF6 my {KEY} is no name\n"
        )
        assert FLUX.parse_found(text, KEY) == ("fB2", "fC3")
        assert FLUX.parse_found(text, f"{KEY}.1") == ("fD4",)
        assert FLUX.parse_found("", KEY) == ()


class TestQuery:
    @pytest.mark.parametrize(
        ("job", "expected"),
        [
            ({"status": "DEPEND", "dependencies": ["after-success=ƒA"]}, (State.PENDING, "after-success=ƒA")),
            ({"status": "SCHED", "urgency": 16}, (State.PENDING, "")),
            ({"status": "SCHED", "urgency": 0}, (State.HELD, "held")),
            ({"status": "DEPEND", "urgency": 0, "dependencies": ["x"]}, (State.HELD, "held")),
            ({"status": "PRIORITY"}, (State.PENDING, "")),
            (
                {"status": "SCHED", "annotations": {"sched": {"reason_pending": "no cores"}}},
                (State.PENDING, "no cores"),
            ),
            ({"status": "RUN"}, (State.RUNNING, "")),
            ({"status": "CLEANUP"}, (State.RUNNING, "")),
            ({"status": "COMPLETED", "returncode": 0}, (State.COMPLETED, "COMPLETED")),
            ({"status": "FAILED", "returncode": 3}, (State.FAILED, "FAILED (exit status 3)")),
            (
                {"status": "TIMEOUT", "exception": {"occurred": True, "type": "timeout", "note": "expired"}},
                (State.FAILED, "TIMEOUT (timeout: expired)"),
            ),
            (
                {"status": "FAILED", "exception": {"type": "dependency", "note": "never"}},
                (State.FAILED, "FAILED (dependency: never)"),
            ),
            ({"status": "CANCELED", "exception": {"type": "cancel"}}, (State.CANCELLED, "CANCELED")),
            ({"status": "CANCELED", "exception": {"note": "mine"}}, (State.CANCELLED, "CANCELED (mine)")),
            (
                {"status": "FAILED", "exception": "odd", "annotations": 3},
                (State.FAILED, "FAILED (exit status ?)"),
            ),
            ({"status": "HIBERNATING"}, (State.PENDING, "HIBERNATING")),
        ],
    )
    def test_states(self, job: dict[str, Any], expected: tuple[State, str]) -> None:
        assert standing(**job) == expected

    def test_several(self) -> None:
        jobs = [
            {"jobid": "ƒA", "status": "RUN"},
            {"jobid": "fB", "status": "COMPLETED"},
            3,
            {"status": "RUN"},
        ]
        found = FLUX.parse_query(json.dumps({"jobs": jobs}))
        assert {ident: one.state for ident, one in found.items()} == {
            "fA": State.RUNNING,
            "fB": State.COMPLETED,
        }

    def test_text_of_an_older_one(self) -> None:
        text = (
            "ƒA|RUN||16|||\n"
            "ƒB|INACTIVE|TIMEOUT|16|142|timeout|resource | allocation expired\n"
            "ƒC|SCHED||0|||\n"
            "ƒD|INACTIVE|COMPLETED|16|0||\nnot a line\n"
        )
        found = FLUX.parse_query(text)
        assert found["fA"] == (State.RUNNING, "")
        assert found["fB"] == (State.FAILED, "TIMEOUT (timeout: resource | allocation expired)")
        assert found["fC"].state is State.HELD
        assert found["fD"].state is State.COMPLETED
        assert len(found) == 4

    @pytest.mark.parametrize(
        "text", ["", "garbage", "[]", "3", '{"jobs": 3}', '{"jobs": [{"jobid": "ƒA"', "null"]
    )
    def test_garbage(self, text: str) -> None:
        assert FLUX.parse_query(text) == {}

    def test_who_is_missing(self) -> None:
        unknown = "JobID fZ unknown\n"
        assert FLUX.knows_all(0, told(status="RUN"), "")
        assert FLUX.knows_all(0, told(status="RUN"), unknown)
        assert FLUX.knows_all(1, "", unknown)
        assert not FLUX.knows_all(1, "", "flux-jobs: ERROR: flux_open: No such file or directory\n")
        assert not FLUX.knows_all(1, "", "")
        assert not FLUX.knows_all(0, told(status="RUN"), unknown + "rpc: Function not implemented\n")
        assert not FLUX.knows_all(127, "", "sh: 1: flux: not found\n")
        assert not FLUX.knows_all(
            0, told(status="RUN")[:20], ""
        )  # cut off: who is missing may have been behind


def test_the_other_commands() -> None:
    assert FLUX.cancel(["fA", "fB"]) == ["flux", "cancel", "fA", "fB"]
    assert FLUX.query(["fA"])[-1] == "fA"
    assert FLUX.hold(["fA"])[-2:] == ["hold", "fA"]  # type: ignore[index]
    assert FLUX.release(["fA"])[-2:] == ["default", "fA"]  # type: ignore[index]
    assert FLUX.history(["fA"]) is None

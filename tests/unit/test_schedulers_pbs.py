"""PBS in words: what jobs are submitted with, and what its answers mean."""

from __future__ import annotations

from typing import Any

import pytest

from outrider import ConfigError, hops
from outrider.batch.schedulers.base import Dependency, Submission
from outrider.batch.schedulers.pbs import PbsBatch
from outrider.batch.states import Standing, State

PBS = PbsBatch()
KEY = "outrider-0123456789abcdef"


def what(hop: hops.pbs | None = None, **more: Any) -> Submission:
    return Submission(hop=hop or hops.pbs(), script="/d/script", key=KEY, log="/d/log", **more)


def after(argv: list[str], flag: str) -> str:
    return argv[argv.index(flag) + 1]


def block(ident: str, **attributes: Any) -> str:
    """As `qstat -f` writes a job."""
    return (
        f"Job Id: {ident}\n" + "".join(f"    {name} = {value}\n" for name, value in attributes.items()) + "\n"
    )


def standing(ident: str = "1.srv", **attributes: Any) -> Standing:
    return PBS.parse_query(block(ident, Job_Name="x", **attributes))[ident]


class TestSubmit:
    def test_a_job(self) -> None:
        argv = PBS.submit(
            what(hops.pbs(cpus=2, memory="1G", time="25h", queue="q", account="a", project="p"))
        )
        assert argv[:4] == ["env", f"OUTRIDER_KEY={KEY}", "PBS_ARRAY_INDEX=0", "qsub"]
        assert argv[-1] == "/d/script"
        assert after(argv, "-v") == f"OUTRIDER_KEY={KEY},PBS_ARRAY_INDEX=0"
        assert "select=1:ncpus=2:mem=1048576kb" in argv
        assert "walltime=25:00:00" in argv
        assert (after(argv, "-q"), after(argv, "-A"), after(argv, "-P")) == ("q", "a", "p")
        assert (after(argv, "-C"), after(argv, "-S"), after(argv, "-r")) == ("", "/bin/sh", "n")

    def test_what_is_not_asked_for_is_the_queues_own_matter(self) -> None:
        assert "-l" not in PBS.submit(what())

    def test_several_nodes(self) -> None:
        argv = PBS.submit(what(hops.pbs(nodes=2, tasks=5, cpus=2, gpus=1)))
        assert "select=2:ncpus=6:mpiprocs=3:ngpus=1" in argv
        assert "place=scatter" in argv

    def test_torque(self) -> None:
        argv = PBS.submit(what(hops.pbs(torque=True, nodes=2, cpus=4, memory="1G", gpus=1), name="long" * 9))
        assert "nodes=2:ppn=4:gpus=1" in argv
        assert "mem=2097152kb" in argv
        assert len(after(argv, "-N")) == 15
        array = PBS.submit(what(hops.pbs(torque=True), indices=(0, 1, 2)))
        assert array[:2] == ["sh", "-c"]
        assert array[4:8] == ["3", "0 1 2", KEY, ""]

    def test_an_array(self) -> None:
        argv = PBS.submit(what(indices=(0, 1, 2, 3), limit=2))
        assert after(argv, "-J") == "0-3%2"
        assert after(argv, "-v") == f"OUTRIDER_KEY={KEY}"
        assert after(argv, "-r") == "y"  # PBS refuses arrays that may not be run again
        assert after(PBS.submit(what(indices=(4, 5))), "-J") == "4-5"

    @pytest.mark.parametrize("indices", [(3,), (0, 2), (0, 1, 3)])
    def test_what_an_array_cannot_be_are_jobs_of_their_own(self, indices: tuple[int, ...]) -> None:
        argv = PBS.submit(what(indices=indices, limit=2, after=(Dependency(("1.srv", "2[].srv"), "/e"),)))
        assert argv[:2] == ["sh", "-c"]
        assert argv[4:8] == ["2", " ".join(map(str, indices)), KEY, "afterok:1.srv:2[].srv"]

    def test_the_rest(self) -> None:
        argv = PBS.submit(what(after=(Dependency(("1.srv",), "/e"), Dependency(("2.srv",), "/f")), hold=True))
        assert after(argv, "-W") == "depend=afterok:1.srv:2.srv"
        assert "-h" in argv

    @pytest.mark.parametrize(
        ("name", "expected"), [("a b\n;$(x)", "a_b____x_"), ("1st", "j1st"), ("ü", "j_"), ("-x", "j-x")]
    )
    def test_names_are_made_harmless(self, name: str, expected: str) -> None:
        assert after(PBS.submit(what(name=name)), "-N") == expected

    def test_who_can_go_on_may_be_run_again(self) -> None:
        assert after(PBS.submit(what(warn=60)), "-r") == "y"
        assert after(PBS.submit(what(warn=60, indices=(3,))), "-r") == "y"
        assert after(PBS.submit(what(indices=(3,))), "-r") == "n"


class TestIds:
    @pytest.mark.parametrize(
        ("text", "ids"),
        [
            ("12.srv\n", ("12.srv",)),
            ("12[].srv.example.org\n", ("12[].srv.example.org",)),
            ("hello from the site\n12\n", ("12",)),
            ("1.srv\n2.srv\n", ("1.srv", "2.srv")),
            ("qsub: Unknown queue\n", ()),
            ("", ()),
        ],
    )
    def test_submitted(self, text: str, ids: tuple[str, ...]) -> None:
        assert PBS.parse_submitted(text) == ids

    def test_elements(self) -> None:
        assert PBS.elements(("12[].srv",), (0, 7)) == {0: "12[0].srv", 7: "12[7].srv"}
        assert PBS.elements(("5.srv", "6.srv"), (9, 2)) == {2: "5.srv", 9: "6.srv"}
        assert PBS.elements(("5.srv",), (9,)) == {9: "5.srv"}

    def test_found_by_key(self) -> None:
        mine = f"OUTRIDER_KEY={KEY},PBS_O_HOME=/h"
        text = block("1.srv", job_state="R", Variable_List="A=1") + block(
            "2.srv", job_state="Q", Variable_List=mine
        )
        assert PBS.parse_found(text, KEY) == ("2.srv",)
        wrapped = text.replace("cdef,PBS", "cd\n\tef,PBS")
        assert PBS.parse_found(wrapped, KEY) == ("2.srv",)
        assert PBS.parse_found(text, KEY + "0") == ()
        lanes = "".join(
            block(f"{number}.srv", job_state="Q", Variable_List=f"OUTRIDER_KEY={KEY},PBS_ARRAY_INDEX={index}")
            for number, index in ((8, 10), (9, 9))
        )
        assert PBS.parse_found(lanes, KEY) == ("9.srv", "8.srv")
        array = "".join(
            block(f"3[{inner}].srv", job_state="B", Variable_List=mine) for inner in ("", "0", "1")
        )
        assert PBS.parse_found(array, KEY) == ("3[].srv",)


class TestQuery:
    @pytest.mark.parametrize(
        ("job", "expected"),
        [
            ({"job_state": "Q"}, (State.PENDING, "")),
            ({"job_state": "Q", "comment": "Not Running: no cpus"}, (State.PENDING, "Not Running: no cpus")),
            ({"job_state": "W"}, (State.PENDING, "")),
            ({"job_state": "H", "Hold_Types": "u"}, (State.HELD, "")),
            ({"job_state": "H", "Hold_Types": "so"}, (State.HELD, "")),
            (
                {"job_state": "H", "Hold_Types": "s", "depend": "afterok:1.srv@srv"},
                (State.PENDING, "afterok:1.srv@srv"),
            ),
            ({"job_state": "R", "comment": "Job run at noon"}, (State.RUNNING, "")),
            ({"job_state": "E"}, (State.RUNNING, "")),
            ({"job_state": "S", "comment": "suspended"}, (State.RUNNING, "suspended")),
            ({"job_state": "F", "Exit_status": 0, "substate": 92}, (State.COMPLETED, "")),
            ({"job_state": "C", "exit_status": 0}, (State.COMPLETED, "")),  # Torque
            ({"job_state": "C", "exit_status": -11}, (State.FAILED, "time limit")),
            ({"job_state": "C", "exit_status": 271}, (State.FAILED, "exit status 271 (SIGTERM)")),
            (
                {"job_state": "F", "Exit_status": 3, "substate": 93, "comment": "and failed"},
                (State.FAILED, "exit status 3; and failed"),
            ),
            (
                {"job_state": "F", "Exit_status": 265, "substate": 93},
                (State.FAILED, "exit status 265 (SIGKILL)"),
            ),
            (
                {"job_state": "F", "Exit_status": 139, "substate": 93},
                (State.FAILED, "exit status 139 (SIGSEGV)"),
            ),
            ({"job_state": "F", "Exit_status": -29, "substate": 93}, (State.FAILED, "time limit")),
            ({"job_state": "F", "Exit_status": -27}, (State.FAILED, "out of memory")),
            ({"job_state": "F", "Exit_status": -1}, (State.FAILED, "exit status -1")),
            (
                {"job_state": "F", "Exit_status": 271, "substate": 91, "comment": "terminated by me"},
                (State.CANCELLED, "terminated by me"),
            ),
            (
                {"job_state": "F", "substate": 92, "Hold_Types": "s", "depend": "afterok:1.srv@srv"},
                (State.FAILED, "a job that it waited for failed"),
            ),
            ({"job_state": "?"}, (State.PENDING, "")),
        ],
    )
    def test_states(self, job: dict[str, Any], expected: tuple[State, str]) -> None:
        assert standing(**job) == expected

    @pytest.mark.parametrize(
        ("job", "expected"),
        [
            ({"job_state": "Q", "comment": "Job Array Began at noon"}, (State.PENDING, "")),
            (
                {"job_state": "X", "comment": "Subjob finished", "Exit_status": 1},
                (State.COMPLETED, "Subjob finished"),
            ),
            (
                {"job_state": "X", "comment": "Subjob failed", "Exit_status": 0},
                (State.FAILED, "Subjob failed"),
            ),
            ({"job_state": "F", "Exit_status": 4, "substate": 93}, (State.FAILED, "exit status 4")),
        ],
    )
    def test_elements(self, job: dict[str, Any], expected: tuple[State, str]) -> None:
        assert standing("3[7].srv", **job) == expected

    def test_variables_do_not_pass_for_attributes(self) -> None:
        text = block("1.srv", job_state="R", Variable_List="A=1\n    job_state = F\n    substate = 91")
        assert PBS.parse_query(text) == {"1.srv": (State.RUNNING, "")}

    def test_long_lines_are_cut(self) -> None:
        text = "Job Id: 1.srv\n    job_state = Q\n    comment = Can Never Run: Insuff\n\ticient amount\n\n"
        assert PBS.parse_query(text)["1.srv"].reason == "Can Never Run: Insufficient amount"

    @pytest.mark.parametrize(
        "text", ["", "garbage", "Job Id: 1.srv", "Job Id: 1.srv\n    Job_Na", "<Data><Job/></Data>"]
    )
    def test_garbage(self, text: str) -> None:
        assert PBS.parse_query(text) == {}

    def test_who_is_missing(self) -> None:
        gone = "qstat: Unknown Job Id 9.srv\n"
        over = "qstat: 9.srv Job has finished, use -x or -H to obtain historical job information\n"
        assert PBS.knows_all(0, "", "")
        assert PBS.knows_all(153, "", gone)
        assert PBS.knows_all(153, "", "qstat: Unknown Job Id Error 9.srv\n")  # Torque
        assert PBS.knows_all(35, "", gone + over)
        assert not PBS.knows_all(153, "", gone + "qstat: cannot connect to server srv (errno=15010)\n")
        assert not PBS.knows_all(
            162, "", "Connection refused\nqstat: cannot connect to server srv (errno=15010)\n"
        )
        assert not PBS.knows_all(127, "", "sh: 1: qstat: not found\n")
        assert not PBS.knows_all(2, "", "usage: qstat ...\n")


def test_the_other_commands() -> None:
    assert PBS.query(["1.srv", "2[].srv"]) == ["qstat", "-t", "-f", "1.srv", "2[].srv"]
    assert PBS.cancel(["1.srv"]) == ["qdel", "1.srv"]
    assert PBS.hold(["1.srv"]) == ["qhold", "-h", "u", "1.srv"]
    assert PBS.release(["1.srv"]) == ["qrls", "-h", "u", "1.srv"]
    assert PBS.history(["1.srv"])[-1] == "1.srv"  # type: ignore[index]
    assert PBS.requeue == ""


def test_nothing_runs_through_the_hop_itself() -> None:
    with pytest.raises(ConfigError, match="submit"):
        hops.pbs().run(["true"])


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("qsub: Unknown queue", "no such queue"),
        ("Connection refused\nqsub: cannot connect to server srv (errno=15010)", "does not answer"),
        ("qsub: Job violates queue and/or server resource limits", "more is asked for"),
        ("qsub: Unknown resource: Resource_List.ngpu", "does not know a resource"),
        ("sh: 1: qsub: not found", "not installed"),
    ],
)
def test_refusals(said: str, expected: str) -> None:
    found = hops.pbs().diagnose(said, 1)
    assert found is not None
    assert expected in found.message

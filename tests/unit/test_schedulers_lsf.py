"""LSF in words: what jobs are submitted with, and what its answers mean. The samples are made after IBM's pages."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from outrider import ConfigError, Route, hops
from outrider.batch.schedulers.base import Dependency, Submission
from outrider.batch.schedulers.lsf import LsfBatch
from outrider.batch.states import Standing, State
from outrider.testing import check_hop, run_here

LSF = LsfBatch()
KEY = "outrider-0123456789abcdef"


def what(hop: hops.lsf | None = None, **more: Any) -> Submission:
    return Submission(hop=hop or hops.lsf(), script="/d/script", key=KEY, log="/d/log", **more)


def after(argv: list[str], flag: str) -> str:
    return argv[argv.index(flag) + 1]


def told(*records: dict[str, Any]) -> str:
    return json.dumps({"COMMAND": "bjobs", "JOBS": len(records), "RECORDS": records})


def standing(**record: str) -> Standing:
    return LSF.parse_query(told({"JOBID": "7", "JOBINDEX": "0", **record}))["7"]


class TestSubmit:
    def test_a_job(self) -> None:
        hop = hops.lsf(cpus=2, memory="1G", time="61s", queue="q", project="p", app="a")
        argv = LSF.submit(what(hop))
        assert argv[:4] == ["env", "OUTRIDER_SCRIPT=/d/script", "OUTRIDER_INDEX=0", "bsub"]
        assert argv[-1] == 'sh "$OUTRIDER_SCRIPT"'
        assert (after(argv, "-J"), after(argv, "-Jd"), after(argv, "-o")) == (KEY, KEY, "/d/log")
        assert (after(argv, "-n"), after(argv, "-R")) == ("2", "span[hosts=1]")
        assert (after(argv, "-M"), after(argv, "-W")) == ("1024MB", "2")
        assert (after(argv, "-q"), after(argv, "-P"), after(argv, "-app")) == ("q", "p", "a")
        assert "-rn" in argv

    def test_several_nodes(self) -> None:
        argv = LSF.submit(what(hops.lsf(nodes=2, tasks=5, cpus=2)))
        assert (after(argv, "-n"), after(argv, "-R")) == ("12", "span[ptile=6]")

    def test_an_array_counts_from_1(self) -> None:
        argv = LSF.submit(what(indices=(0, 1, 2, 7), limit=2, name="a b[3]"))
        assert after(argv, "-J") == "a_b_3_[1-3,8]%2"

    def test_its_script_learns_its_number(self, tmp_path: Path) -> None:
        script = tmp_path / "it's a script"
        script.write_text('echo "n=$OUTRIDER_INDEX"')
        for submission, number in ((what(indices=(6, 7)), "7"), (what(), "0")):
            argv = LSF.submit(submission)
            words = dict(word.split("=", 1) for word in argv[1 : argv.index("bsub")])
            done = subprocess.run(
                ["sh", "-c", argv[-1]],
                env={"PATH": "/usr/bin:/bin", **words, "OUTRIDER_SCRIPT": str(script), "LSB_JOBINDEX": "8"},
                capture_output=True,
                text=True,
                check=True,
            )
            assert done.stdout == f"n={number}\n"

    def test_the_rest(self) -> None:
        needed = (Dependency(("1",), "/e"), Dependency(("2[3]",), "/f"))
        argv = LSF.submit(what(after=needed, hold=True, warn=90))
        assert after(argv, "-w") == "done(1) && done(2[3])"
        assert {"-ti", "-H", "-r"} <= set(argv)
        assert (after(argv, "-wa"), after(argv, "-wt"), after(argv, "-Q")) == ("USR1", "2", "99")
        assert LSF.requeue == "exit 99"

    def test_no_warning_is_due_at_the_start(self) -> None:
        assert after(LSF.submit(what(hops.lsf(time="2m"), warn=600)), "-wt") == "1"
        assert "-wt" not in LSF.submit(what(hops.lsf(time="1m"), warn=600))

    def test_another_program_would_not_be_known_to_the_rest(self) -> None:
        with pytest.raises(ConfigError, match="PATH"):
            LSF.submit(what(hops.lsf(program="/opt/bsub")))


class TestIds:
    @pytest.mark.parametrize(
        ("text", "ids"),
        [
            ("Job <12> is submitted to default queue <normal>.\n", ("12",)),
            ("Memory reservation is 1 GB\nJob <12> is submitted to queue <q>.\n", ("12",)),
            ("12\n", ("12",)),  # as it was noted
            ("Job <x> is submitted", ()),
            ("No such queue. Job not submitted.\n", ()),
            ("", ()),
        ],
    )
    def test_submitted(self, text: str, ids: tuple[str, ...]) -> None:
        assert LSF.parse_submitted(text) == ids

    def test_elements(self) -> None:
        assert LSF.elements(("12",), (0, 7)) == {0: "12[1]", 7: "12[8]"}
        assert LSF.elements((), (0,)) == {}

    def test_found_by_key(self) -> None:
        assert LSF.parse_found("12\n", KEY) == ("12",)
        assert LSF.parse_found("12    \n12    \n", KEY) == ("12",)
        assert LSF.parse_found("", KEY) == ()


class TestQuery:
    @pytest.mark.parametrize(
        ("record", "expected"),
        [
            ({"STAT": "PEND", "PEND_REASON": "Job slots are taken"}, (State.PENDING, "Job slots are taken")),
            ({"STAT": "PSUSP"}, (State.HELD, "PSUSP")),
            ({"STAT": "RUN"}, (State.RUNNING, "")),
            ({"STAT": "SSUSP"}, (State.RUNNING, "SSUSP")),
            ({"STAT": "UNKWN"}, (State.RUNNING, "UNKWN")),
            ({"STAT": "ZOMBI"}, (State.LOST, "ZOMBI")),
            ({"STAT": "DONE", "EXIT_CODE": ""}, (State.COMPLETED, "DONE")),
            ({"STAT": "EXIT", "EXIT_CODE": "3"}, (State.FAILED, "exit status 3")),
            ({"STAT": "EXIT", "EXIT_CODE": "139"}, (State.FAILED, "exit status 139 (SIGSEGV)")),
            (
                {"STAT": "EXIT", "EXIT_CODE": "140", "EXIT_REASON": "TERM_RUNLIMIT: run time limit"},
                (State.FAILED, "TERM_RUNLIMIT: run time limit (exit status 140 (SIGUSR2))"),
            ),
            (
                {"STAT": "EXIT", "EXIT_CODE": "137", "EXIT_REASON": "TERM_MEMLIMIT: memory"},
                (State.FAILED, "TERM_MEMLIMIT: memory (exit status 137 (SIGKILL))"),
            ),
            (
                {"STAT": "EXIT", "EXIT_CODE": "130", "EXIT_REASON": "TERM_OWNER: killed by owner"},
                (State.CANCELLED, "TERM_OWNER: killed by owner"),
            ),
            (
                {"STAT": "EXIT", "EXIT_REASON": "TERM_FORCE_ADMIN: x"},
                (State.CANCELLED, "TERM_FORCE_ADMIN: x"),
            ),
            ({"STAT": "EXIT", "EXIT_REASON": "TERM_PREEMPT: x"}, (State.FAILED, "TERM_PREEMPT: x (EXIT)")),
            (
                {"STAT": "PEND", "PEND_REASON": "Dependency condition invalid or never satisfied"},
                (State.FAILED, "Dependency condition invalid or never satisfied"),
            ),
            ({"STAT": "NEW_ONE"}, (State.PENDING, "NEW_ONE")),
        ],
    )
    def test_states(self, record: dict[str, str], expected: tuple[State, str]) -> None:
        assert standing(**record) == expected

    def test_elements_and_who_is_unknown(self) -> None:
        text = told(
            {"JOBID": "8", "JOBINDEX": "3", "STAT": "RUN"},
            {"JOBID": "8", "JOBINDEX": "4", "STAT": "DONE"},
            {"JOBID": "9[5]", "JOBINDEX": "5", "STAT": "RUN"},
            {"ERROR": "Job <10> is not found"},
        )
        assert set(LSF.parse_query(text)) == {"8[3]", "8[4]", "9[5]"}

    def test_text_of_an_older_one(self) -> None:
        found = LSF.parse_query("7|0|RUN|-\n8|3|EXIT|130\n9|0|DONE|-\nJob <1> is not found\n")
        assert found["7"] == (State.RUNNING, "")
        assert found["8[3]"] == (State.FAILED, "exit status 130 (SIGINT)")
        assert found["9"].state is State.COMPLETED
        assert len(found) == 3

    @pytest.mark.parametrize(
        "text", ["", "garbage", "{", '{"RECORDS": 3}', '{"RECORDS": [3]}', '{"RECORDS": [{"JOBID": "7"', "{}"]
    )
    def test_garbage(self, text: str) -> None:
        assert LSF.parse_query(text) == {}

    def test_who_is_missing(self) -> None:
        gone = "Job <9> is not found\n"
        assert LSF.knows_all(0, told(), "")
        assert LSF.knows_all(255, "", gone)
        assert LSF.knows_all(255, "7|0|RUN|-\n", gone + "Job <8[3]> is not found.\n")
        assert not LSF.knows_all(255, "", "")
        assert not LSF.knows_all(255, "", "LSF is down. Please wait ...\n")
        assert not LSF.knows_all(0, told({"JOBID": "7", "STAT": "RUN"})[:30], "")
        assert not LSF.knows_all(127, "", "sh: 1: bjobs: not found\n")


HISTORY = """\
Job <7>, Job Name <x>, User <me>, Project <default>, Command <echo Done success
                     fully>
Thu Mar  5 17:32:05: Submitted from host <h>, to Queue <q>, CWD <$HOME/Exited>;
Thu Mar  5 17:32:06: Dispatched to <n>;
Thu Mar  5 17:33:18: Exited with exit code 140. The CPU time used is 0.1 second
                     s;
Thu Mar  5 17:33:18: Completed <exit>; TERM_RUN
                     LIMIT: job killed after reaching LSF run time limit;
------------------------------------------------------------------------------
Job <8[3]>, Job Name <x[1-3]>, User <me>, Project <default>, Command <x>
Thu Mar  5 17:32:05 2026: Submitted from host <h>, to Queue <q>;
Thu Mar  5 17:33:18 2026: Done successfully. The CPU time used is 0.1 seconds;
Thu Mar  5 17:33:19 2026: Post job process done successfully;
------------------------------------------------------------------------------
Job <9>, User <me>, Project <default>, Command <x>
Thu Mar  5 17:32:05: Submitted from host <h>, to Queue <q>;
Thu Mar  5 17:32:06: Dispatched to <n>;
------------------------------------------------------------------------------
Job <10>, User <me>, Project <default>, Command <x>
Thu Mar  5 17:32:05: Submitted from host <h>, to Queue <q>;
Thu Mar  5 17:33:16: Signal <KILL> requested by user or administrator <me>;
Thu Mar  5 17:33:18: Exited by signal 9. The CPU time used is 0.1 seconds;
"""


class TestHistory:
    def test_ends(self) -> None:
        found = LSF.parse_history(HISTORY)
        assert found["7"] == (State.FAILED, "TERM_RUNLIMIT (exit status 140 (SIGUSR2))")
        assert found["8[3]"].state is State.COMPLETED
        assert found["10"] == (State.FAILED, "exit status 137 (SIGKILL)")
        assert set(found) == {"7", "8[3]", "10"}  # the command of 9 has not ended, whatever it is called

    @pytest.mark.parametrize("text", ["", "No matching job found", "Job <7>", HISTORY[:200]])
    def test_garbage(self, text: str) -> None:
        assert LSF.parse_history(text) == {}


def test_the_other_commands() -> None:
    assert LSF.cancel(["7", "8[3]"]) == ["bkill", "7", "8[3]"]
    assert LSF.release(["7"]) == ["bresume", "7"]
    assert LSF.query(["7"])[-1] == LSF.hold(["7"])[-1] == LSF.history(["7"])[-1] == "7"  # type: ignore[index]
    assert LSF.find(KEY)[-1] == KEY  # type: ignore[index]


@pytest.fixture
def bsub(tmp_path: Path) -> str:
    """What bsub -I does with its words, as its page says: they are put together with blanks, for a shell to read."""
    program = tmp_path / "bsub"
    program.write_text(
        "#!/bin/sh\n"
        "echo 'Job <1> is submitted to default queue <interactive>.'\n"
        "echo '<<Waiting for dispatch ...>>' >&2; echo '<<Starting on n1>>' >&2\n"
        'while :; do case $1 in -I) shift ;; -*) shift 2 ;; *) break ;; esac; done\nexec sh -c "$*"\n'
    )
    program.chmod(0o755)
    return str(program)


class TestHop:
    def test_words_arrive_whole_through_its_shell(self, bsub: str) -> None:
        check_hop(hops.lsf(program=bsub, queue="q", cpus=2), run=run_here)

    def test_a_call(self, bsub: str) -> None:
        assert Route(hops.lsf(program=bsub)).call(max, 3, 7) == 7

    @pytest.mark.parametrize(
        ("said", "expected"),
        [
            ("q: No such queue. Job not submitted.", "no such queue"),
            ("LSF is down. Please wait ...", "does not answer"),
            ("Bad resource requirement syntax. Job not submitted.", "does not know a resource"),
            ("Something else. Job not submitted.", "did not accept"),
            ("Job <1> is submitted to queue <q>.\n<<Waiting for dispatch ...>>", "still waits"),
            ("sh: 1: bsub: not found", "not installed"),
        ],
    )
    def test_refusals(self, said: str, expected: str) -> None:
        found = hops.lsf().diagnose(said, 255)
        assert found is not None
        assert expected in found.message

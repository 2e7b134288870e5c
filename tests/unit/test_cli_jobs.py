"""The verbs for submitted jobs, through the real program, without a scheduler."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import OUTRIDER, environment, outrider


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the program and gives its stdout; it must leave with `code`."""
    monkeypatch.setenv("HOME", str(tmp_path))

    def run(*words: object, code: int = 0, stdin: bytes = b"") -> str:
        done = outrider(*words, stdin=stdin)
        assert done.returncode == code, done.stderr.decode()
        return done.stdout.decode()

    return run


def test_a_function_from_submit_to_clean(told: Any) -> None:
    key = told("submit", "--name", "root", "--tag", "t", "local", "math:sqrt", 2).strip()
    assert told("result", "root") == "1.4142135623730951\n"
    row = json.loads(told("ps", "--json", "--tag", "t"))
    assert (row["key"], row["states"], row["over"], row["label"]) == (key, {"completed": 1}, True, "sqrt")
    assert "completed" in told("ps").splitlines()[1]
    told("clean", key)
    assert told("ps", "--all") == "no jobs\n"


def test_a_command_has_its_streams_and_exit_code(told: Any) -> None:
    key = told("submit", "local", "--", "sh", "-c", "cat; exit 4", stdin=b"given\n").strip()
    assert told("result", key, code=4) == "given\n"
    assert told("logs", key[:14]) == "given\n"
    assert told("wait", key, code=1) == f"{key}: failed\n"


def test_an_array_of_items(told: Any) -> None:
    told("submit", "--items", "--chunk", 2, "--name", "many", "local", "math:factorial", 3, 4, 5)
    assert told("result", "many").split() == ["6", "24", "120"]
    assert told("result", "many[1]") == "24\n"
    assert json.loads(told("result", "--json", "many[2]"))["value"] == 120
    assert told("wait", "many") == "many: 3 completed\n"


def test_what_a_function_raises_is_told(told: Any) -> None:
    told("submit", "--name", "bad", "local", "math:sqrt", "--", -1)
    done = outrider("result", "bad")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"math domain error" in done.stderr
    assert b"raised at the far end" in done.stderr


def test_a_job_is_cancelled_and_run_again(told: Any) -> None:
    key = told("submit", "local", "time:sleep", 60).strip()
    told("cancel", key)
    assert told("wait", key, code=1) == f"{key}: cancelled\n"
    told("rerun", key)
    assert told("wait", "--timeout", 0.2, key, code=124)
    told("cancel", key)
    told("wait", key, code=1)
    told("clean", "--ended")


def test_after_and_wait(told: Any) -> None:
    told("submit", "--name", "first", "local", "math:sqrt", "--", -1)
    told("submit", "--name", "second", "--after", "first", "local", "math:sqrt", 4)
    assert told("wait", "second", code=1) == "second: cancelled\n"
    assert told("submit", "--wait", "local", "math:sqrt", 4) == "2.0\n"


def test_a_spec_in_the_words_of_psij(told: Any) -> None:
    spec = {"executable": "echo", "arguments": ["a b"], "name": "spec"}
    assert told("submit", "--wait", "--spec", "-", "local", stdin=json.dumps(spec).encode()) == "a b\n"
    done = outrider("submit", "--spec", "-", "local", stdin=b'{"executabel": 1}')
    assert b"executable" in done.stderr


def test_logs_follow_until_the_end(told: Any) -> None:
    key = told("submit", "local", "--", "sh", "-c", "echo a; sleep 1; echo b").strip()
    assert told("logs", "-f", key) == "a\nb\n"


def test_ctrl_c_ends_the_waiting_and_not_the_job(told: Any) -> None:
    key = told("submit", "local", "--", "sh", "-c", "sleep 3; echo done").strip()
    waiting = subprocess.Popen([*OUTRIDER, "result", key], env=environment(), stderr=subprocess.PIPE)
    time.sleep(1)
    waiting.send_signal(signal.SIGINT)
    waiting.communicate(timeout=30)
    assert waiting.returncode == 130
    assert told("result", key) == "done\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("submit", "local"), b"what is to be submitted"),
        (("submit", "local", "math:nothing"), b"no function"),
        (("result", "nothing"), b"no job 'nothing'"),
        (("clean",), b"which jobs"),
        (("clean", "--older", "soon"), b"not a time"),
    ],
)
def test_wrong_words_are_told(told: Any, words: tuple[str, ...], said: bytes) -> None:
    done = outrider(*words)
    assert done.returncode != 0
    assert said in done.stderr


def test_a_job_that_cannot_be_held_says_why(told: Any) -> None:
    key = told("submit", "local", "time:sleep", 5).strip()
    done = outrider("hold", key)
    assert b"cannot be held" in done.stderr
    told("cancel", key)


def test_items_are_tried_again_only_where_their_end_was_not_their_own_fault(
    told: Any, tmp_path: Path
) -> None:
    lost, failed = "tests.samples.far_work:lost_once", "tests.samples.far_work:fails_first"
    given = ("submit", "--items", "--wait", "--retry", 1, "--text", "local")
    assert told(*given, lost, tmp_path / "0", "never").split("\n") == ['"again"', '"at once"', ""]
    told(*given, failed, tmp_path / "1", code=1)
    told("submit", "--items", "--name", "late", "--text", "local", lost, tmp_path / "2")
    assert told("result", "--retry", 1, "late") == '"again"\n'


def test_where_retrying_means_nothing_it_is_refused(told: Any) -> None:
    assert b"--items --wait" in outrider("submit", "--retry", 1, "local", "math:sqrt", 2).stderr
    told("submit", "--name", "one", "local", "math:sqrt", 2)
    assert b"is for an array" in outrider("result", "--retry", 1, "one").stderr


def test_the_table_of_jobs_has_their_route_in_few_words(told: Any) -> None:
    told("submit", "--wait", "env(N=1) | tempdir", "--", "true")
    assert "  env | tempdir  " in told("ps")
    assert json.loads(told("ps", "--json"))["route"] == "env(N=1) | tempdir"


def test_a_container_with_no_bridge_to_have_is_not_started(tmp_path: Path) -> None:
    done = outrider("bridge", "exec", "--dir", tmp_path / "none", "--engine", "bwrap", "--", "true")
    assert done.returncode == 2
    assert b"add --preset or --allow" in done.stderr


def test_an_array_has_a_line_for_what_raised_and_a_wait_says_how_to_end_it(told: Any) -> None:
    told("submit", "--items", "--name", "two", "local", "math:sqrt", "--", 4, -1)
    assert told("result", "two", code=1) == "2.0\nnull\n"
    told("submit", "--name", "long", "local", "time:sleep", 300)
    assert b"`outrider cancel`" in outrider("result", "--timeout", 0.1, "long").stderr
    told("cancel", "long")


def test_help_shows_an_example_and_what_a_job_is() -> None:
    assert b"seq 100 | outrider submit --items" in outrider("submit", "--help").stdout
    assert b"the beginning of one, or a name (the newest" in b" ".join(
        outrider("cancel", "--help").stdout.split()
    )
    assert b"--deny 'sbatch:--uid*'" in outrider("bridge", "exec", "--help").stdout
    assert b"--only scontrol:show" in outrider("bridge", "serve", "--help").stdout

"""The bench's arithmetic: ratios, goals, and what is written of them. What it measures needs the real run."""

import json
import os
import subprocess
import xml.etree.ElementTree as ET

import pytest
from bench import picture, report
from bench.cases import durable
from bench.report import Case, Goal, Results

CALL = Case(
    "warm", "A call", "µs", goals=(Goal("best peer", 0.5), Goal("floor", 1.6, ("ssh",)), Goal("limit", 40))
)
RATE = Case("send", "Sending", "MB/s", higher=True, goals=(Goal("floor", 0.85), Goal("scp", 1.0)))


def results(case, target="ssh", **values):
    found = Results(cases={case.name: case})
    for who, value in values.items():
        found.add(case.name, target, who, value)
    return found


def verdicts(found):
    return [(item.reference, pytest.approx(item.ratio), item.reached) for item in found.verdicts()]


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    # The second round was slow for both: that is the machine, not a contender.
    found = results(CALL, outrider=[10.0, 100.0, 10.0], floor=[10.0, 50.0, 5.0])
    assert found.ratio("warm", "ssh", "floor") == 2.0


def test_a_ratio_of_unequal_rounds_is_that_of_the_medians():
    found = results(CALL, outrider=[10.0, 20.0, 30.0], execnet=[40.0])
    assert found.ratio("warm", "ssh", "execnet") == 0.5


def test_goals_are_judged_against_the_floor_the_best_peer_and_limits():
    found = results(CALL, outrider=[30.0], floor=[20.0], execnet=[75.0], rpyc=[50.0])
    assert verdicts(found) == [("rpyc", 0.6, False), ("floor", 1.5, True), ("", 30.0, True)]


def test_more_is_better_for_rates():
    found = results(RATE, outrider=[80.0], floor=[100.0], scp=[70.0], execnet=[90.0])
    assert found.best_peer(RATE, "ssh") == "execnet"
    assert verdicts(found) == [("floor", 0.8, False), ("scp", 80 / 70, True)]


def test_a_goal_holds_only_for_its_targets_and_where_there_is_something_to_compare():
    found = results(CALL, "local", outrider=[30.0], floor=[20.0])
    assert verdicts(found) == [("", 30.0, True)]


def test_a_case_that_we_failed_is_missed_and_has_a_note():
    found = results(CALL, floor=[20.0])
    found.miss("warm", "ssh", "outrider", "Lost: the link")
    assert [item.reached for item in found.verdicts()] == [False, False, False]
    assert next(report.verdict_rows(found))[2:] == ("failed", "", "", "≤ 0.50 × best peer", "MISSED")
    text = report.markdown(found)
    assert "| ssh | – [1] | 20.0 |" in text
    assert "[1] outrider: Lost: the link" in text


def test_what_has_no_goal_is_shown_against_the_floor():
    found = results(Case("starts", "Starting", "ms"), outrider=[30.0], floor=[20.0])
    assert list(report.other_rows(found)) == [("Starting", "ssh", "30.0 ms", "20.0 ms", "1.50", "", "")]
    assert list(report.other_rows(results(CALL, outrider=[30.0], floor=[20.0]))) == []


def test_results_come_back_from_json():
    found = results(CALL, outrider=[30.0, 31.0], floor=[20.0])
    found.meta["kernel"] = "Linux"
    found.miss("warm", "ssh", "fabric", "runs commands")
    again = report.results_of(json.loads(json.dumps(found.plain())))
    assert again == found
    assert report.markdown(again) == report.markdown(found)


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (0.044, "0.04"), (5.494, "5.49"), (43.27, "43.3"), (2681.3, "2,681")]
)
def test_numbers_show_three_digits_that_matter(value, shown):
    assert report.number(value) == shown


def test_the_picture_has_a_bar_for_each_median_and_is_well_formed():
    found = results(CALL, outrider=[30.0], floor=[20.0], execnet=[60.0])
    drawn = ET.fromstring(picture.picture(found))
    bars = [
        (item.get("class"), float(item.get("width")))
        for item in drawn.iter("{http://www.w3.org/2000/svg}rect")
    ][1:]
    assert [kind for kind, _ in bars] == ["ours", "floor", "peer"]
    assert bars[0][1] == pytest.approx(bars[2][1] / 2, abs=0.1)


def test_questions_to_the_scheduler_are_counted_and_answered(tmp_path, monkeypatch):
    real, counting = tmp_path / "real", tmp_path / "counting"
    real.mkdir()
    counting.mkdir()
    program = real / "squeue"
    program.write_text('#!/bin/sh\necho "$2"\nexit 3\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{real}:{os.environ['PATH']}")
    before = os.environ["PATH"]
    with durable.counted(counting) as log:
        done = subprocess.run(["squeue", "-h", "two words"], capture_output=True, text=True)
        began, ended = map(float, log.read_text().split())
    assert (done.stdout, done.returncode) == ("two words\n", 3)
    assert began <= ended
    assert os.environ["PATH"] == before

"""Timelines of jobs: times of two clocks brought into an order, and text, picture and trace made of them."""

from __future__ import annotations

import json
import math
import pickle
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider import ConfigError, Route, zipped
from outrider.batch.views.lives import Life, busy, life, orderly, rows_of, steps, together, took
from outrider.batch.views.timelines import Timeline, timeline
from outrider.batch.watching import Watcher

NOW = 1_800_000_000.0
SVG = "{http://www.w3.org/2000/svg}"
TIMES = st.none() | st.floats(NOW - 9000, NOW + 9000) | st.just(math.nan) | st.just(math.inf)
SPANS = st.lists(
    st.tuples(
        st.sampled_from(["queued", "running", "fetching", "made up\x1b"]),
        TIMES.map(lambda t: t or NOW),
        TIMES,
    ),
    max_size=4,
).map(tuple)
LIVES = st.lists(
    st.builds(
        Life, st.text(), SPANS, st.sampled_from(["running", "failed", "odd"]), st.sampled_from(["", "a", "b"])
    )
)


def run(
    number: int, queue: float = 5, ran: float = 10, state: str = "completed", group: str = "train"
) -> Life:
    begin = NOW - 1000 + number
    times = {"submitted": begin, "started": begin + queue, "ended": begin + queue + ran}
    return life(f"{group}[{number}]" if group else f"job {number}", state, times, group=group)


# --- what is known of a job → its life -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "times", "expected"),
    [
        ("completed", (1, 2, 3), [("queued", 1, 2), ("running", 2, 3)]),
        ("running", (1, 2, None), [("queued", 1, 2), ("running", 2, None)]),
        ("pending", (1, None, None), [("queued", 1, None)]),
        ("held", (1, None, None), [("held", 1, None)]),
        ("cancelled", (1, None, 3), [("queued", 1, 3)]),
        ("completed", (1, None, 3), [("unknown", 1, 3)]),
        ("running", (1, None, None), [("unknown", 1, None)]),
        ("completed", (None, 2, 3), [("running", 2, 3)]),
        ("lost", (1, 2, None), [("queued", 1, 2), ("running", 2, 2)]),
        ("lost", (1, None, None), [("queued", 1, 1)]),
        ("lost", (None, None, None), []),
        ("lost", (None, None, 3), []),
    ],
)
def test_what_is_not_known_is_not_drawn(
    state: str, times: tuple[float | None, ...], expected: list[Any]
) -> None:
    known = dict(zip(["submitted", "started", "ended"], times, strict=True))
    assert list(life("x", state, known).spans) == expected


def test_staging_and_fetching_stand_around() -> None:
    times = {"submitted": 2.0, "started": 3.0, "ended": 4.0}
    found = life("x", "completed", times, staging=(1, 2), fetching=(4, None))
    assert [phase for phase, _, _ in found.spans] == ["staging", "queued", "running", "fetching"]


# --- two clocks ------------------------------------------------------------------------------------------------------


def test_a_clock_that_is_behind_keeps_its_lengths() -> None:
    one = life("x", "completed", {"submitted": NOW - 100, "started": NOW - 3700, "ended": NOW - 3650})
    found = orderly([one], NOW)
    assert found.lives[0].spans == (
        ("queued", NOW - 100, NOW - 100),
        ("running", NOW - 100, NOW - 50),
    )
    assert (found.moved, found.furthest) == (1, 3600)
    assert "the clocks differ: times of 1 job were moved, by up to 1h 00m" in Timeline([one], NOW).text(200)


def test_a_clock_that_is_ahead_does_not_end_in_the_future() -> None:
    one = life("x", "completed", {"submitted": NOW - 100, "started": NOW + 3550, "ended": NOW + 3600})
    found = orderly([one], NOW)
    assert found.lives[0].spans == (("queued", NOW - 100, NOW - 50), ("running", NOW - 50, NOW))
    assert (found.moved, found.furthest) == (1, 3600)


def test_whole_seconds_of_a_scheduler_are_no_wrong_clock() -> None:
    found = orderly(
        [life("x", "completed", {"submitted": NOW - 9.3, "started": NOW - 10, "ended": NOW - 5})], NOW
    )
    assert found.moved == 0
    assert found.lives[0].spans[1] == ("running", NOW - 9.3, pytest.approx(NOW - 4.3))


@given(LIVES)
def test_whatever_the_clocks_say_time_goes_forward(lives: list[Life]) -> None:
    found = orderly(lives, NOW)
    assert len(found.lives) == len(lives)
    for one in found.lives:
        at = -math.inf
        for phase, start, end in one.spans:
            assert end is not None
            assert math.isfinite(start)
            assert at <= start <= end <= NOW
            assert phase.isprintable()
            at = end
        assert one.name.replace("\t", "").isprintable()


@given(LIVES, st.integers(1, 200), st.integers(1, 9), st.booleans())
def test_whatever_it_is_given_it_can_be_shown(lives: list[Life], width: int, limit: int, plain: bool) -> None:
    made = Timeline(lives, NOW)
    shown = made.text(width, plain, limit)
    assert all(line.replace("\t", "").isprintable() for line in shown.splitlines())
    if plain:
        assert shown.isascii()
        assert max(map(len, shown.splitlines())) <= max(width, 60)
    ElementTree.fromstring(made.svg(limit))
    json.dumps(made.chrome(), allow_nan=False)


# --- many ------------------------------------------------------------------------------------------------------------


def test_how_many_were_in_a_phase_at_once() -> None:
    lives = orderly([run(0), run(2), run(30)], NOW).lives
    counts = busy(lives, "running", NOW - 1000, 50, 50)
    assert counts[4:18] == [0, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 0]
    assert counts[35:46] == [1] * 10 + [0]
    assert max(counts) == 2


def test_one_after_the_other_is_one_at_once() -> None:
    lives = [Life(str(number), (("running", number, number + 1),)) for number in range(50)]
    assert {counts["running"] for _, _, counts in steps(lives)} == {1}


def test_a_group_together_is_in_the_phase_of_those_furthest_on() -> None:
    whole = together(orderly([run(0, 5, 10), run(1, 30, 10)], NOW).lives)
    assert whole.name == "train × 2"
    assert whole.state == "2 completed"
    begin = NOW - 1000
    assert whole.spans == (
        ("queued", begin, begin + 5),
        ("running", begin + 5, begin + 15),
        ("queued", begin + 15, begin + 31),
        ("running", begin + 31, begin + 41),
    )


def test_of_many_jobs_the_failed_and_the_unfinished_are_shown_first() -> None:
    lives = [run(number, state="failed" if number == 777 else "completed") for number in range(1000)]
    lives.append(life("late", "running", {"submitted": NOW - 50, "started": NOW - 40}))
    rows = rows_of(orderly(lives, NOW).lives, 10)
    names = [row.life.name for row in rows]
    assert len(rows) == 10
    assert {"train[777]", "late", "train × 1000"} <= {*names}
    assert [row.many for row in rows if row.life.name == "train × 1000"] == [1000]


@given(LIVES, st.integers(1, 12))
def test_there_are_never_more_rows_than_fit(lives: list[Life], limit: int) -> None:
    found = orderly(lives, NOW).lives
    rows = rows_of(found, limit)
    assert len(rows) == min(limit, len(rows))
    assert len(rows) == len(found) if len(found) <= limit else len(rows) > 0


def test_what_is_not_shown_is_told() -> None:
    lives = [
        run(number, state="failed" if number % 10 == 0 else "completed", group="") for number in range(1000)
    ]
    made = Timeline(lives, NOW)
    told = "980 of 1,000 jobs have no line of their own: 890 completed, 90 failed"
    assert told in made.text(120, limit=20)
    assert told in made.svg(20)
    assert "have no line" not in made.text(120, limit=1000)


def test_ten_thousand_jobs() -> None:
    made = Timeline([run(number, number % 50, 1 + number % 7) for number in range(10_000)], NOW + 10_000)
    shown = made.text(100)
    assert len(shown.splitlines()) < 60
    assert "train × 10000: 10,000 completed" in shown
    assert re.search("9,96[01] of 10,000 jobs have no line of their own", shown)
    assert len(made.svg()) < 1_000_000
    slices = [event for event in made.chrome()["traceEvents"] if event["ph"] == "X"]
    assert len(slices) == 20_000


# --- forms -----------------------------------------------------------------------------------------------------------


def test_as_text() -> None:
    lives = [
        run(0, 50, 50, group=""),
        life("late", "running", {"submitted": NOW - 950, "started": NOW - 925}),
        life("gone", "lost", {}),
    ]
    head, counts, _, queued, running, _, names, *rows = Timeline(lives, NOW - 900).text(72).splitlines()
    assert head.startswith("3 jobs, 1m 40s from 2027-01-15")
    assert counts == "1 running, 1 completed, 1 lost"
    assert re.fullmatch("queued, at most 1 +█{27}", queued)
    assert re.fullmatch("running, at most 2 +▄{9}█{9}", running)
    assert names.split() == ["state", "queued", "ran", "0", "1m", "40s"]
    assert rows[0] == "job 0  completed  50.00 s  50.00 s  ░░░░░░░░░░░░░░░░░░██████████████████"
    assert rows[1].split()[:6] == ["late", "running", "25.00", "s", "25.00", "s"]
    assert rows[1].endswith("█████████")
    assert rows[2].split() == ["gone", "lost", "–", "–"]
    assert rows[4:] == ["░ queued  █ running", "no times are known of 1 job"]
    plain = Timeline(lives, NOW - 900).text(72, ascii_only=True)
    assert "job 0  completed  50.00 s  50.00 s  ..................##################" in plain
    assert Timeline([]).text() == "no jobs\n"


def test_that_it_ran_is_always_seen() -> None:
    one = life("x", "completed", {"submitted": NOW - 9000, "started": NOW - 1000, "ended": NOW - 999.9})
    row = Timeline([one, run(1, 990, 0)], NOW).text(80).splitlines()[4]
    assert row.endswith("░█")


def test_wide_letters_keep_their_columns() -> None:
    lives = [run(0, group=""), replace(run(0), name="日本語")]
    first, second = Timeline(lives, NOW).text().splitlines()[4:6]
    assert first == second.replace("日本語", "job 0 ")


def test_as_a_picture() -> None:
    lives = [
        run(0),
        run(1, state="failed"),
        life('<b>"late"&', "running", {"submitted": NOW - 990, "started": NOW - 980}),
    ]
    root = ElementTree.fromstring(Timeline(lives, NOW - 970).svg())
    assert root.attrib["role"] == "img"
    title, described = (root.find(SVG + kind) for kind in ("title", "desc"))
    assert title is not None
    assert described is not None
    assert root.attrib["aria-labelledby"].split() == [title.attrib["id"], described.attrib["id"]]
    assert str(title.text).startswith("3 jobs, 30.00 s from ")
    assert str(described.text).startswith("1 running, 1 completed, 1 failed")
    texts = [element.text for element in root.iter(SVG + "text")]
    assert '<b>"late"&' in texts
    bars = [element for element in root.iter(SVG + "rect") if element.find(SVG + "title") is not None]
    assert [bar.attrib["class"] for bar in bars] == [
        "queued",
        "running",
        "queued",
        "fault",
        "queued",
        "running",
    ]
    assert not re.search("<script|href|url\\(|@import", Timeline(lives, NOW).svg())


def test_as_a_trace() -> None:
    found = Timeline([run(0), run(1), run(2, group="")], NOW).chrome()
    events = found["traceEvents"]
    assert [event["args"]["name"] for event in events if event["name"] == "process_name"] == ["train", "jobs"]
    (first, *_) = (event for event in events if event["ph"] == "X")
    assert (first["name"], first["ts"], first["dur"]) == ("queued", 0, 5_000_000)
    threads = {
        (event["pid"], event["tid"]): event["args"]["name"]
        for event in events
        if event["name"] == "thread_name"
    }
    assert {threads[event["pid"], event["tid"]] for event in events if event["ph"] == "X"} == {
        "train[0]",
        "train[1]",
        "job 2",
    }
    counters = [event for event in events if event["ph"] == "C"]
    assert max(event["args"]["running"] for event in counters) == 3
    assert set(counters[-1]["args"].values()) == {0}
    assert [event["ts"] for event in counters] == sorted(event["ts"] for event in counters)
    assert found["otherData"]["began_at"] == NOW - 1000


def test_it_is_written_as_the_suffix_says(tmp_path: Path) -> None:
    made = Timeline([run(0)], NOW)
    for suffix, begin in ((".json", '{"traceEvents"'), (".svg", "<svg "), (".txt", "1 job, 15.00 s")):
        made.save(tmp_path / f"jobs{suffix}")
        assert (tmp_path / f"jobs{suffix}").read_text().startswith(begin)
    with pytest.raises(ConfigError, match=r"cannot be written as 'jobs\.png'"):
        made.save(tmp_path / "jobs.png")


def test_in_a_notebook_it_is_an_image() -> None:
    shown = Timeline([run(0)], NOW)._repr_html_()
    assert shown.startswith('<img alt="timeline: 1 completed" src="data:image/svg+xml;base64,')


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "–"), (0, "0 s"), (0.25, "250.0 ms"), (12, "12.00 s"), (99.999, "1m 40s"), (3599.6, "1h 00m"),
        (47 * 3600, "47h 00m"), (50 * 3600, "2d 02h"),
    ],
)  # fmt: skip
def test_durations_as_a_person_reads_them(seconds: float | None, shown: str) -> None:
    assert took(seconds) == shown


# --- of jobs ---------------------------------------------------------------------------------------------------------


def test_of_jobs_arrays_and_sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    route = Route.parse("local")
    one = route.batch(name="one").submit(pow, 2, 3)
    parts = route.map(abs, range(5), array=True, chunk=2)
    sweep = route.batch(name="swept").sweep(pow, zipped(base=[2], exp=[3]))
    assert one.result(60) == 8
    assert parts.wait(60)
    assert sweep.jobs.wait(60)
    asked: list[object] = []
    refresh = Watcher.refresh
    monkeypatch.setattr(Watcher, "refresh", lambda self, lot: (asked.append(lot), refresh(self, lot)))
    later = pickle.loads(pickle.dumps([one, parts, sweep, run(1)]))
    found = timeline(later)
    names = {life.name for life in found.lives}
    assert names == {"one", *(f"{parts.key}[{index}]" for index in range(5)), "swept[0]", "train[1]"}
    assert {life.group for life in found.lives} == {"", parts.key, "swept", "train"}
    assert len(asked) <= 1, "a submit host is asked once, for all of its jobs"
    known = {life.name: life for life in found.lives}
    assert [phase for phase, _, _ in known["one"].spans] == ["queued", "running"]
    assert known["one"].state == "completed"


def test_jobs_that_are_not_over_are_asked_for_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    route = Route.parse("local")
    jobs = [route.map(time.sleep, [60] * 3, array=True), route.submit(time.sleep, 60)]
    asked: list[object] = []
    refresh = Watcher.refresh
    monkeypatch.setattr(Watcher, "refresh", lambda self, lot: (asked.append(lot), refresh(self, lot)))
    try:
        found = timeline(jobs)
        assert {life.spans[-1][0] for life in found.lives} <= {"running", "queued"}
        assert len(found.lives) == 4
        assert len(asked) == 1
    finally:
        for job in jobs:
            job.cancel()


@pytest.mark.parametrize("wrong", [7, "outrider-1", [None], {"a": 1}])
def test_what_is_no_job_is_told(wrong: Any) -> None:
    with pytest.raises(TypeError, match="is no job; give jobs"):
        timeline(wrong)

"""Jobs in notebooks: HTML that holds what it is told, whatever that is."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.batch.views.html import array_html, job_html

NOW = 1_800_000_000.0
ANY = st.text() | st.sampled_from(
    ["</div><script>alert(1)</script>", '" onmouseover="x', "\x1b[31m", "&amp;", "'"]
)


def parsed(shown: str) -> ElementTree.Element:
    return ElementTree.fromstring(shown)


def words(shown: str) -> str:
    return " ".join(text.strip() for text in parsed(shown).itertext() if text.strip())


def rows(shown: str) -> dict[str, str]:
    return {str(row[0].text): "".join(row[1].itertext()) for row in parsed(shown).iter("tr")}


def test_a_job() -> None:
    times = {"submitted": NOW - 100, "started": NOW - 70, "ended": NOW - 5}
    shown = job_html(
        key="outrider-1", name="train", index=3, ident="77_3", state="failed", reason="OUT_OF_MEMORY <2G>",
        place="ssh:alpha | slurm", times=times, now=NOW,
    )  # fmt: skip
    assert words(shown).startswith(
        "train[3] failed reason OUT_OF_MEMORY <2G> place ssh:alpha | slurm id 77_3 key outrider-1"
    )
    found = rows(shown)
    assert (found["waited"], found["ran"]) == ("30.00 s", "65.00 s")
    assert found["submitted"].startswith("2027-01-15")
    assert parsed(shown).attrib["aria-label"] == "job train[3]"


def test_what_is_not_known_is_left_out() -> None:
    shown = job_html(key="outrider-1", state="pending", now=NOW)
    assert words(shown) == "outrider-1 pending"
    assert (
        rows(job_html(key="k", state="running", times={"submitted": NOW - 9, "started": NOW - 4}, now=NOW))[
            "ran"
        ]
        == "4.00 s"
    )
    ahead = {"submitted": NOW - 100, "started": NOW + 3500, "ended": NOW + 3550}
    assert rows(job_html(key="k", state="completed", times=ahead, now=NOW))["ran"] == "50.00 s"


def test_an_array() -> None:
    counts = {"running": 5, "completed": 90, "failed": 5, "pending": 100}
    shown = array_html(
        key="outrider-1", counts=counts, failures=[(number, f"exit {number}") for number in range(7)], now=NOW
    )
    assert words(shown).startswith(
        "outrider-1 95 of 200 over jobs 100 pending 5 running 90 completed 5 failed"
    )
    (bar,) = (part for part in parsed(shown).iter("div") if part.attrib.get("role") == "img")
    assert bar.attrib["aria-label"] == "100 pending, 5 running, 90 completed, 5 failed"
    widths = [float(re.findall(r"width: ([\d.]+)%", piece.attrib["style"])[0]) for piece in bar]
    assert widths == [45, 2.5, 2.5, 50]
    found = rows(shown)
    assert found["[4]"] == "exit 4"
    assert "[5]" not in found
    assert found["more"] == "2 others failed"


def test_an_array_of_nothing() -> None:
    assert words(array_html(key="outrider-1", counts={}, now=NOW)) == "outrider-1 0 of 0 over jobs none"


@given(ANY, ANY, ANY, ANY, ANY)
def test_nothing_gets_out_of_its_place(name: str, key: str, state: str, reason: str, place: str) -> None:
    plain = job_html(key="k", name="n", state="s", reason="r", place="p", ident="i")
    shown = job_html(
        key=key or "k",
        name=name or "n",
        state=state,
        reason=reason or "r",
        place=place or "p",
        ident=key or "i",
    )
    assert [part.tag for part in parsed(shown).iter()] == [part.tag for part in parsed(plain).iter()]
    array = array_html(key=key, name=name, counts={state: 3}, place=place, failures=[(1, reason)])
    tags = {part.tag for part in parsed(array).iter()}
    assert tags <= {"div", "strong", "span", "table", "tbody", "tr", "th", "td"}
    for part in (*parsed(shown).iter(), *parsed(array).iter()):
        assert {*part.attrib} <= {"style", "role", "aria-label", "aria-hidden", "scope", "title"}
    assert "\x1b" not in shown + array


@pytest.mark.parametrize("shown", [job_html(key="k", state="lost"), array_html(key="k", counts={"lost": 1})])
def test_it_takes_the_notebooks_colours_and_leaves_its_style_alone(shown: str) -> None:
    assert "<style" not in shown
    assert not re.search(r"(?<![\w-])color:", shown), "text keeps the colour that the notebook gives it"


def test_a_long_reason_is_cut() -> None:
    assert len(words(job_html(key="k", state="failed", reason="x" * 100_000))) < 600

"""What far ends tell of sandboxed jobs: read back as it was written, and refused where it is not of that form."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.errors import FarError
from outrider.far import data
from outrider.near import values
from outrider.results import FarEnd
from outrider.sandboxed.result import VERDICTS, SandboxResult, Usage, parsed, status

FAR = FarEnd("h", "u", 1, (3, 11, 0), "p")
WORDS = st.text(
    st.characters(categories=["L", "N", "P", "Zs"], exclude_characters="\xa0"), max_size=20
).filter(str.isprintable)
SECONDS = st.none() | st.floats(0, 1e9)
NUMBERS = st.none() | st.integers(0, 1 << 50)
FIGURES = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("cpu_s", "user_s", "system_s", "wall_s"), SECONDS),
        **dict.fromkeys(
            ("memory_bytes", "processes", "output_bytes", "disk_bytes", "written_bytes", "switches"), NUMBERS
        ),
    },
)
REPORTS = st.fixed_dictionaries(
    {"verdict": st.sampled_from(VERDICTS), "usage": FIGURES},
    optional={
        "message": WORDS,
        "engine": WORDS,
        "missing": st.lists(WORDS, max_size=9),
        "sources": st.dictionaries(WORDS, WORDS, max_size=9),
        "outputs": st.dictionaries(st.sampled_from(["a", "b/c"]), st.binary(), max_size=2),
        "refused": st.dictionaries(st.sampled_from(["a", "b/c"]), WORDS, max_size=2),
    },
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4),
    max_leaves=6,
)


def read(report, asked=None):
    return parsed(values.loads(data.dumps(report)), asked)


@given(REPORTS)
@settings(max_examples=200, deadline=None)
def test_a_report_is_read_as_it_was_written(report):
    found = read(report, ["a", "b/c"])
    assert found["verdict"] == report["verdict"]
    assert found["usage"] == Usage(**report["usage"])
    for name, empty in (("message", ""), ("engine", ""), ("sources", {}), ("outputs", {}), ("refused", {})):
        assert found[name] == report.get(name, empty)
    assert list(found["missing"]) == report.get("missing", [])
    assert json.loads(
        json.dumps(SandboxResult(("x",), 0, b"", b"", 0.0, FAR, **found).report(), allow_nan=False)
    )


@given(
    REPORTS,
    st.sampled_from(["verdict", "usage", "message", "engine", "missing", "sources", "outputs", "refused"]),
    ANYTHING,
)
@settings(max_examples=400, deadline=None)
def test_a_report_with_anything_in_one_place(report, name, part):
    """It is read, and then all is of its kind; or it is refused, and by nothing but a FarError."""
    try:
        found = read({**report, name: part}, ["a", "b/c"])
    except FarError:
        return
    result = SandboxResult(("x",), 0, b"", b"", 0.0, FAR, **found)
    assert result.verdict in VERDICTS
    assert set(result.outputs) | set(result.refused) <= {"a", "b/c"}
    assert all(type(contents) is bytes for contents in result.outputs.values())
    told = json.loads(json.dumps(result.report(), allow_nan=False))
    assert all(figure is None or figure >= 0 for figure in told["usage"].values())
    for text in (result.message, result.engine, *result.missing, *result.sources.values()):
        assert "\x1b" not in text


@given(ANYTHING)
@settings(max_examples=200, deadline=None)
def test_anything_instead_of_a_report(whole):
    with pytest.raises(FarError):
        read(whole)


def test_what_was_not_asked_for_is_not_brought():
    report = {"verdict": "OK", "usage": {}, "outputs": {"../../etc/passwd": b"x"}}
    with pytest.raises(FarError):
        read(report, ["a"])
    with pytest.raises(FarError):
        read({**report, "outputs": {}, "refused": {"b": "why"}}, ["a"])


def test_long_words_are_cut_and_controls_shown():
    found = read({"verdict": "RE", "usage": {}, "message": "\x1b[2J" + "x" * 1_000_000})
    assert len(found["message"]) < 5000
    assert "\x1b" not in found["message"]


@pytest.mark.parametrize("code", [-128, -(1 << 70), 256, 1 << 70])
def test_exit_codes_that_are_none(code):
    with pytest.raises(FarError):
        status({"returncode": code})


@pytest.mark.parametrize("code", [-127, -9, 0, 255])
def test_exit_codes(code):
    assert status({"returncode": code}) == code

"""Ranges of names: what they stand for, and folding them back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.errors import ConfigError
from outrider.ranges import expand, fold


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("web", ["web"]),
        ("web[1-3]", ["web1", "web2", "web3"]),
        ("web[08-10]", ["web08", "web09", "web10"]),
        ("web[1,3,5-6].lan", ["web1.lan", "web3.lan", "web5.lan", "web6.lan"]),
        ("ssh:[1-2].lan", ["ssh:1.lan", "ssh:2.lan"]),
        ("ssh:u@[1-2].lan", ["ssh:u@1.lan", "ssh:u@2.lan"]),
        (
            "ssh:a[1-2] | docker:b[3-4]",
            [f"ssh:a{a} | docker:b{b}" for a in (1, 2) for b in (3, 4)],
        ),
        # Lists and addresses are no ranges, nor is what stands in brackets or quotes.
        ("login(setup=[1,2])", ["login(setup=[1,2])"]),
        ("ssh:[::1]:22", ["ssh:[::1]:22"]),
        ("login(setup='ls a[1-2]')", ["login(setup='ls a[1-2]')"]),
        ("'a[1-2]'", ["'a[1-2]'"]),
    ],
)
def test_what_a_text_stands_for(text, names):
    assert expand(text) == names


@pytest.mark.parametrize("text", ["web[3-1]", "web[1-1000000]", "a[1-400]b[1-400]"])
def test_a_range_that_cannot_be_meant_is_refused(text):
    with pytest.raises(ConfigError, match="hint: a range of hosts"):
        expand(text)


def test_names_are_folded_for_the_eye():
    assert fold(["web01", "web02", "web03", "db", "web07"]) == "web[01-03,07],db"
    assert fold(["n8", "n9", "n10"]) == "n[8-10]"
    assert fold(["n1"]) == "n1"
    assert fold([]) == ""


@given(
    st.sets(
        st.tuples(st.sampled_from(["a", "web-", "x.y"]), st.integers(0, 300), st.sampled_from([0, 2, 3])),
        min_size=1,
    )
)
def test_folding_and_expanding_lead_back(parts):
    names = {f"{before}{str(number).zfill(width)}" for before, number, width in parts}
    pieces, depth, text = [], 0, ""
    for character in fold(sorted(names)):
        depth += (character == "[") - (character == "]")
        if character == "," and not depth:
            pieces, text = [*pieces, text], ""
        else:
            text += character
    assert {name for piece in [*pieces, text] for name in expand(piece)} == names

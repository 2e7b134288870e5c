"""Each fuzz target, briefly, with its seeds and with what hypothesis makes up; `make fuzz` has more patience."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import targets


@pytest.mark.parametrize("name", targets.TARGETS)
def test_seeds(name):
    for seed in targets.seeds(name):
        targets.TARGETS[name](seed)


@pytest.mark.parametrize("name", targets.TARGETS)
@given(raw=st.binary(max_size=600))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_inputs(name, raw):
    targets.TARGETS[name](raw)


def test_well_formed_streams_reach_the_answers():
    """The targets do reach what they are for: among the made-up streams are some that answer."""
    from outrider.far import wire

    said = targets.words(bytes([0, 1, 0, 3, 65, 65, 65, 6]))
    assert wire.FrameReader(-1, said).next()[:2] == (wire.RESULT, 1)

"""The far end itself, where much happens at once or something runs out: no call suffers for another."""

from __future__ import annotations

import time

import pytest

from outrider import Route
from outrider.hops import local
from tests.samples import far_work
from tests.world.fixtures import find_python

HERE = Route(local()).options(show=False, timeout=20)


@pytest.mark.parametrize("version", ["3.8", "3.9"])
def test_an_old_python_starts_everything_beside_a_busy_call(version, tmp_path):
    """Their own modules look for some of other systems, and whoever reads the stream cannot ask for them."""
    route = HERE.options(python=find_python(version))
    with route.open() as far:
        busy = far.submit(time.sleep, 1000)
        time.sleep(0.1)
        assert far.run(["echo", "hi"]).stdout == b"hi\n"
        busy.cancel()
    with route.open() as far:
        busy = far.submit(time.sleep, 1000)
        time.sleep(0.1)
        assert far.options(isolate=True).call(far_work.add, 1, 2) == 3
        (tmp_path / "here").write_text("text")
        far.put(tmp_path / "here", tmp_path / "there")
        assert (tmp_path / "there").read_text() == "text"
        busy.cancel()

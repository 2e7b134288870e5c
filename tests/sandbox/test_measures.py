"""What a job used, against what it is known to have used."""

from __future__ import annotations

import pytest

from tests.sandbox.arena import Arena, explain, need
from tests.sandbox.table import MIB

pytestmark = pytest.mark.leaks("arenas are kept for the next test; each one's end is checked by its fixture")


def test_memory_of_one_job_is_not_the_next_ones(arena: Arena) -> None:
    need(arena, ("memory of the tree",))
    hog = arena.run(["memory", "40"], {"memory": 80 * MIB})
    small = arena.run(["mark"], {"memory": 80 * MIB})
    assert hog.usage.memory_bytes >= 39 * MIB, explain(hog)
    assert hog.usage.memory_bytes <= 44 * MIB, explain(hog)
    assert small.usage.memory_bytes <= 6 * MIB, explain(small)


def test_processes_of_one_job_are_not_the_next_ones(arena: Arena) -> None:
    need(arena, ("processes",))
    for _ in range(4):  # in each jail of the pool
        many = arena.run(["fork-count", "64"])
        if many.sources.get("processes") == "sampling":
            pytest.skip("without a control group they are only looked at now and then")
        assert many.usage.processes is None or many.usage.processes >= 8, explain(many)
    small = arena.run(["mark"])
    assert small.usage.processes in (None, 0, 1), explain(small)


def test_time_of_one_job_is_not_the_next_ones(arena: Arena) -> None:
    need(arena, ("cpu time of the tree",))
    hog, small = arena.run(["hog", "0.3"]), arena.run(["mark"])
    assert 0.29 <= hog.usage.cpu_s <= 0.36, explain(hog)
    assert small.usage.cpu_s <= 0.05, explain(small)


def test_output_is_counted(arena: Arena) -> None:
    result = arena.run(["print-bytes", "100000"])
    assert result.usage.output_bytes == 100000
    assert len(result.stdout) == 100000


def test_exactly_the_limit_of_output_is_kept(arena: Arena) -> None:
    result = arena.run(["print-bytes", "2000000"], {"output": 70_000})
    assert result.verdict == "OLE", explain(result)
    assert result.stdout == b"x" * 70_000


def test_a_peak_is_not_hidden_by_what_is_read_after_it(arena: Arena) -> None:
    need(arena, ("memory of the tree",))
    result = arena.run(["memory-hidden-by-reading"], {"memory": 128 * MIB})
    assert result.usage.memory_bytes >= 40 * MIB, explain(result)
    assert result.usage.memory_bytes <= 90 * MIB, explain(result)

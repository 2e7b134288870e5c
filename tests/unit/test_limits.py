"""Limits by option: for a whole far end, or for each isolated call."""

from __future__ import annotations

import os
import resource
import sys

import pytest

from outrider import ConfigError, FarError, Lost, Route, RouteError
from outrider.hops import local
from tests.samples import far_work

HERE = Route(local()).options(show=False)


def test_they_hold_for_the_far_end_and_what_it_starts():
    with HERE.options(nice=3, memory="512M", open_files=100).open() as far:
        assert far.call(os.nice, 0) == 3 + os.nice(0)
        assert far.call(resource.getrlimit, resource.RLIMIT_DATA) == (1 << 29, 1 << 29)
        assert far.call(resource.getrlimit, resource.RLIMIT_NOFILE)[0] == 100
        assert far.run("ulimit -n; nice").stdout.split() == [b"100", b"%d" % (3 + os.nice(0))]


@pytest.mark.parametrize("isolate", [False, True])
def test_too_much_memory_is_a_memory_error_and_the_next_call_works(isolate):
    with HERE.options(memory="300M", isolate=isolate).open() as far:
        with pytest.raises(MemoryError):
            far.call(far_work.allocate, 1 << 30)
        assert far.call(far_work.allocate, 1 << 20) == 1 << 20


def test_processor_time_used_up_ends_an_isolated_call_by_name():
    with HERE.options(isolate=True, cpu_time=1).open() as far:
        with pytest.raises(FarError, match="SIGXCPU") as caught:
            far.call(far_work.spin)
        assert "cpu_time" in caught.value.hint
        assert far.call(abs, -1) == 1


def test_processor_time_used_up_ends_a_far_end():
    with HERE.options(cpu_time=1).open() as far, pytest.raises(Lost, match="SIGXCPU"):
        far.call(far_work.spin)


def test_with_isolate_they_are_each_calls_own_and_can_change():
    with HERE.options(isolate=True, open_files=100).open() as far:
        assert far.call(resource.getrlimit, resource.RLIMIT_NOFILE)[0] == 100
        assert far.options(open_files=50).call(resource.getrlimit, resource.RLIMIT_NOFILE)[0] == 50
        plain = far.options(isolate=False)
        assert plain.call(resource.getrlimit, resource.RLIMIT_NOFILE) == resource.getrlimit(
            resource.RLIMIT_NOFILE
        )


def test_one_that_cannot_be_set_is_told_and_nothing_stays():
    with pytest.raises(RouteError, match="open_files=99999999999"):
        HERE.options(open_files=99999999999).open()
    with (
        HERE.options(isolate=True, open_files=99999999999).open() as far,
        pytest.raises(OSError, match="open_files"),
    ):
        far.call(abs, 1)


def test_they_are_settled_when_a_far_end_without_isolation_is_opened():
    with HERE.open() as far, pytest.raises(ConfigError, match="settled"):
        far.options(memory="1G")


@pytest.mark.parametrize(
    "wrong",
    [
        {"memory": "much"},
        {"memory": 0},
        {"nice": 2.5},
        {"processes": -1},
        {"open_files": "8"},
        {"cpu_time": True},
    ],
)
def test_nonsense_is_refused(wrong):
    with pytest.raises(ConfigError, match="not a size" if "memory" in wrong else next(iter(wrong))):
        HERE.options(**wrong)


def test_an_untrusted_far_end_is_limited_too():
    with HERE.options(trust="data", open_files=90).open() as far:
        assert far.call(sys.getrecursionlimit) > 0
        assert far.run("ulimit -n").stdout == b"90\n"

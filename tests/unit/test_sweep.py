"""Sweeps: the points of a grid, and what came of them as rows."""

from __future__ import annotations

import csv
import io
import itertools
import math
import operator
import pickle
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import outrider
from outrider import ConfigError, Route, grid, zipped
from outrider.batch import timeline
from outrider.batch.sweep import Points, points_of
from outrider.batch.swept import PointResult, Sweep, table

AXES = st.dictionaries(
    st.text("abcdefg", min_size=1, max_size=2),
    st.lists(st.integers(), min_size=1, max_size=4),
    min_size=1,
    max_size=4,
)


@given(AXES)
def test_a_grid_is_the_product_with_the_last_name_fastest(axes: dict[str, list[int]]) -> None:
    points = grid(axes)
    expected = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    assert list(points) == expected
    assert list(points) == expected, "it can be read again"
    assert [points[index] for index in range(len(points))] == expected
    assert [points[index] for index in range(-len(points), 0)] == expected
    assert list(pickle.loads(pickle.dumps(points))) == expected


@given(AXES, st.integers(-9, 9), st.integers(-9, 9), st.sampled_from([1, 2, -1, -3]))
def test_a_slice_is_as_of_a_list(axes: dict[str, list[int]], start: int, stop: int, step: int) -> None:
    points = grid(axes)
    assert isinstance(points[start:stop:step], Points)
    assert list(points[start:stop:step]) == list(points)[start:stop:step]


@given(AXES, AXES, AXES)
def test_sums_hold_the_points_of_their_parts(
    one: dict[str, list[int]], two: dict[str, list[int]], three: dict[str, list[int]]
) -> None:
    first, second, third = map(grid, (one, two, three))
    expected = [*first, *second, *third]
    for whole in ((first + second) + third, first + (second + third)):
        assert list(whole) == expected
        assert len(whole) == len(expected)
        assert [whole[index] for index in range(len(whole))] == expected


def test_a_billion_points_cost_nothing() -> None:
    points = grid(a=range(10**6), b=range(10**6))
    assert len(points) == 10**12
    assert points[-1] == {"a": 999_999, "b": 999_999}
    assert len(points.sample(3)) == 3
    assert (points + points)[10**12] == {"a": 0, "b": 0}


def test_a_point_belongs_to_who_asked() -> None:
    points = grid(a=[1], b=[2])
    points[0]["a"] = 7
    assert points[0] == {"a": 1, "b": 2}


def test_a_generator_is_read_once_and_points_again_and_again() -> None:
    points = grid(a=(x * x for x in range(3)), b=iter("xy"))
    assert len(points) == 6
    assert list(points) == list(points)


def test_zipped_goes_side_by_side() -> None:
    assert list(zipped(a=[1, 2], b=["x", "y"])) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    with pytest.raises(ConfigError, match="a has 1, b has 2"):
        zipped(a=[1], b=[1, 2])


def test_a_product_of_sweeps() -> None:
    assert list(zipped(a=[1, 2], b=[3, 4]) * grid(seed=range(2))) == [
        {"a": 1, "b": 3, "seed": 0},
        {"a": 1, "b": 3, "seed": 1},
        {"a": 2, "b": 4, "seed": 0},
        {"a": 2, "b": 4, "seed": 1},
    ]
    with pytest.raises(ConfigError, match="both sides of the product have a 'a'"):
        grid(a=[1]) * grid(a=[2])


def test_filters() -> None:
    asked: list[dict[str, int]] = []

    def keep(point: dict[str, int]) -> bool:
        asked.append(point)
        return point["a"] <= point["b"]

    points = grid(a=range(3), b=range(3), where=keep)
    assert not asked, "it is asked when the first point is needed"
    assert [(point["a"], point["b"]) for point in points] == [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    assert len(points) == 6
    assert points[-1] == {"a": 2, "b": 2}
    assert len(asked) == 9, "once for each point"
    assert list(pickle.loads(pickle.dumps(points))) == list(points), "a function that cannot travel need not"
    assert not grid(a=[1], where=lambda point: False)
    assert list(points.where(lambda point: point["a"] == 2)) == [{"a": 2, "b": 2}]


def test_a_filter_that_fails_names_its_point() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        list(grid(a=[1, 0], where=lambda point: 1 / point["a"]))
    assert caught.value.__notes__ == ["raised by where= at the point {'a': 0}"]


def test_a_filter_cannot_change_a_point() -> None:
    assert list(grid(a=[1, 2], where=lambda point: point.pop("a") > 1)) == [{"a": 2}]


def test_samples_are_the_same_each_time() -> None:
    points = grid(a=range(100), b=range(100))
    chosen = points.sample(20, seed=4)
    assert list(chosen) == list(points.sample(20, seed=4))
    assert list(chosen) != list(points.sample(20, seed=5))
    assert len({(point["a"], point["b"]) for point in chosen}) == 20
    assert list(chosen) == sorted(chosen, key=lambda point: (point["a"], point["b"]))
    assert len(points.sample(0)) == 0
    with pytest.raises(ConfigError, match="10001 points cannot be chosen out of 10000"):
        points.sample(10_001)


def test_equal_points_are_equal_sweeps() -> None:
    assert grid(a=[1, 2]) == zipped(a=[1]) + grid(a=[2])
    assert grid(a=[1, 2]) != grid(a=[2, 1])
    assert grid(a=[1]) != [{"a": 1}]


def test_arrays_are_values_too() -> None:
    numpy = pytest.importorskip("numpy")
    points = grid(lr=numpy.linspace(0, 1, 3), start=numpy.eye(2))
    assert len(points) == 6
    assert points[5]["lr"] == 1.0
    assert list(points[5]["start"]) == [0, 1]
    assert points != grid(lr=[0.0], start=[numpy.eye(2)])


@pytest.mark.parametrize(
    ("make", "message", "hint"),
    [
        (lambda: grid(lr="fast"), "lr takes a list of values, not 'fast'", "lr=['fast']"),
        (lambda: grid(lr=b"fast"), "lr takes a list", "lr=[b'fast']"),
        (lambda: grid(lr=0.1), "lr takes a list of values, not 0.1", "lr=[0.1]"),
        (lambda: grid(lr=None), "lr takes a list", "lr=[None]"),
        (lambda: grid(lr={1, 2}), "lr takes a list", "lr=sorted(...)"),
        (lambda: grid(lr={"a": 1}), "lr takes a list", "lr=list(...)"),
        (lambda: grid(f=math.sqrt), "f takes a list", "f=[<built-in function sqrt>]"),
        (lambda: grid(lr=[]), "lr has no values", "leave the name out"),
        (lambda: grid(lr=iter([])), "lr has no values", "read before"),
        (lambda: grid(lr=itertools.count()), "lr does not end after 1000000 values", "islice"),
        (lambda: grid(), "nothing to vary", "grid(lr=[0.1, 0.01], seed=range(5))"),
        (lambda: zipped(), "nothing to vary", "zipped(lr="),
        (lambda: grid([1, 2]), "takes names with their values, not [1, 2]", "grid(lr="),  # type: ignore[arg-type]
        (lambda: grid({1: [2]}), "1 cannot be the name of an argument", "texts"),  # type: ignore[dict-item]
        (lambda: grid({"a": [1]}, a=[2]), "'a' is given twice", "once"),
        (lambda: grid(where=[1]), "there is nothing to vary", "write"),  # type: ignore[arg-type]
        (lambda: grid(a=[1], where=[1]), "where= takes a function", "{'where': [...]}"),  # type: ignore[arg-type]
        (lambda: grid(**{x: range(10**9) for x in "abc"}), "more than can be counted", "fewer"),
        (lambda: points_of({"a": 1}), "a sweep takes points", "grid("),  # type: ignore[dict-item]
        (lambda: points_of([1, 2]), "a point is a dict", "grid(x=[...])"),  # type: ignore[list-item]
    ],
)
def test_bad_input_is_told_with_what_to_write(make: Callable[[], Any], message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert message in caught.value.message
    assert hint in str(caught.value.hint)


def test_a_name_that_where_has_taken_goes_in_a_mapping() -> None:
    assert list(grid({"where": ["here"], "a-b": [1]}, c=[2])) == [{"where": "here", "a-b": 1, "c": 2}]


def test_what_is_no_sweep_cannot_be_added() -> None:
    with pytest.raises(TypeError):
        operator.add(grid(a=[1]), [{"a": 2}])
    with pytest.raises(IndexError, match="there is no point 2: the sweep has 2"):
        grid(a=[1, 2])[2]


def test_it_is_shown_in_short() -> None:
    assert repr(grid(a=range(9))) == "<9 points: {'a': 0}, {'a': 1}, {'a': 2}, …>"
    assert repr(grid(a=[1])[1:]) == "<no points>"


# --- results ------------------------------------------------------------------------------------------------------


def work(a: int, b: float = 1) -> dict[str, float]:
    return {"ratio": a / b, "a": -a}


def swept(points: Points, fn: Callable[..., Any]) -> Sweep:
    with ThreadPoolExecutor(2) as pool:
        return Sweep(points, [pool.submit(fn, **point) for point in points])


def test_a_table_has_all_columns_in_all_rows_and_overwrites_none() -> None:
    rows = swept(grid(a=[1], b=[2, 0]) + grid(a=[3]), work).table()
    assert rows == [
        {"a": 1, "b": 2, "ratio": 0.5, "value.a": -1, "error": None},
        {"a": 1, "b": 0, "ratio": None, "value.a": None, "error": "ZeroDivisionError: division by zero"},
        {"a": 3, "b": None, "ratio": 3.0, "value.a": -3, "error": None},
    ]
    assert [list(row) for row in rows] == [["a", "b", "ratio", "value.a", "error"]] * 3
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    assert out.getvalue().splitlines()[:2] == ["a,b,ratio,value.a,error", "1,2,0.5,-1,"]


def test_names_that_are_taken_make_room() -> None:
    results = [
        PointResult(0, {"error": 1, "value": 2}, {"error": 3, "value.error": 4}),
        PointResult(1, {"error": 5, "value": 6}, 7),
    ]
    first, second = table(results)
    assert set(first) == set(second)
    assert first["error"] == 1
    assert sorted(str(value) for value in first.values() if value is not None) == ["1", "2", "3", "4"]
    assert second["value.value"] == 7
    assert table([]) == []


def test_jobs_are_found_by_their_point() -> None:
    sweep = swept(grid(a=[1, 2], b=[4, 8]), work)
    assert sweep.job(a=2, b=8).result()["ratio"] == 0.25
    with pytest.raises(ConfigError, match="2 points have a=2"):
        sweep.job(a=2)
    with pytest.raises(ConfigError, match="no points have a=3"):
        sweep.job(a=3)
    with pytest.raises(ConfigError, match="2 points and 1 jobs"):
        Sweep(grid(a=[1, 2]), [Future[int]()])


def test_what_arrives_first_comes_first_where_the_jobs_can_tell() -> None:
    class Told(list[Any]):
        def arriving(self) -> Any:
            return iter([PointResult(1, {}, "late"), PointResult(0, {}, error=ValueError("no"))])

    sweep = Sweep(grid(a=[1, 2]), Told([None, None]))
    assert sweep.table() == [
        {"a": 1, "value": None, "error": "ValueError: no"},
        {"a": 2, "value": "late", "error": None},
    ]
    found = list(sweep.arriving())
    assert [(result.index, result.point, result.ok) for result in found] == [
        (1, {"a": 2}, True),
        (0, {"a": 1}, False),
    ]


def test_a_sweep_of_real_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    route = Route.parse("local")
    sweep = route.batch(name="spans").sweep(span, grid(stop=[3, 4], step=[1, 0]), chunk=2)
    good, bad, other, _ = sweep.results()
    assert (good.value, good.ok, other.value) == ([0, 1, 2], True, [0, 1, 2, 3])
    assert isinstance(bad.error, ValueError)
    assert {result.index for result in sweep.arriving()} == {0, 1, 2, 3}
    later = Sweep(sweep.points, route.jobs(sweep.jobs.key))
    assert [row["value"] for row in later.table(timeout=60)] == [[0, 1, 2], None, [0, 1, 2, 3], None]
    assert pickle.loads(pickle.dumps(sweep)).job(stop=4, step=1).result(60) == [0, 1, 2, 3]
    found = timeline(sweep)
    assert [(life.group, life.name) for life in found.lives] == [
        ("spans", f"spans[{index}]") for index in range(4)
    ]
    assert all(life.seconds("running") is not None for life in found.lives)
    with pytest.raises(ConfigError, match="a sweep takes points"):
        route.batch().sweep(span, 7)  # type: ignore[arg-type]


def span(stop: int, step: int) -> list[int]:
    return list(range(0, stop, step))


def test_they_are_at_the_top_of_the_package() -> None:
    assert {"grid", "zipped"} <= {*outrider.__all__}
    assert outrider.grid is grid

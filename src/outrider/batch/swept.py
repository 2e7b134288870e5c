"""What came of a sweep: each result with its point, and all of them as a table."""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outrider.batch.sweep import Point, Points, points_of, same
from outrider.errors import ConfigError

VALUE, ERROR = "value", "error"


@dataclass(frozen=True)
class PointResult:
    """What came of one point: `index` is its place in the sweep."""

    index: int
    point: Point
    value: Any = None
    error: BaseException | None = None

    @property
    def ok(self) -> bool:
        """True if the call returned."""
        return self.error is None


class Sweep:
    """Jobs, one for each point of a sweep, in the same order. Picklable where its jobs are.

    jobs: a `JobArray`, or any sequence of jobs or futures: what has `result(timeout)` and `exception(timeout)`.
    """

    def __init__(self, points: Points | Iterable[Mapping[str, Any]], jobs: Sequence[Any]) -> None:
        self.points = points_of(points)
        self.jobs = jobs
        if len(self.points) != len(jobs):
            raise ConfigError(
                f"there are {len(self.points)} points and {len(jobs)} jobs",
                hint="give one job for each point",
            )

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        return f"<Sweep of {len(self)} points>"

    def job(self, **names: Any) -> Any:
        """The job of the one point that has these values; ConfigError if there is none, or more than one."""
        found = list(self._matching(names))
        if len(found) != 1:
            told = ", ".join(f"{name}={value!r}" for name, value in names.items())
            raise ConfigError(
                f"{len(found) or 'no'} points have {told}",
                hint=f"the first one is {self.points[found[0]]!r}" if found else _first_point(self.points),
            )
        return self.jobs[found[0]]

    def results(self, timeout: float | None = None) -> Iterator[PointResult]:
        """What came of each point, in the order of the points; a failure is a result, too, and ends nothing.

        timeout: seconds for all of them. Raises TimedOut after that; the jobs go on. Without it, an array that was given
        `retry` tries again what failed.
        """
        if timeout is None and hasattr(self.jobs, "arriving"):
            yield from _in_turn(self.arriving())
            return
        until = None if timeout is None else time.monotonic() + timeout
        for index, job in enumerate(self.jobs):
            yield self._result(index, job, until)

    def arriving(self) -> Iterator[PointResult]:
        """The same as they come, where the jobs are an array that tells; else in order."""
        if not hasattr(self.jobs, "arriving"):
            yield from self.results()
            return
        for item in self.jobs.arriving():
            yield PointResult(item.index, self.points[item.index], item.value, item.error)

    def table(self, timeout: float | None = None) -> list[dict[str, Any]]:
        """Rows for pandas or CSV, in the order of the points; see `table`. timeout: as for `results`."""
        return table(self.results(timeout))

    def _matching(self, names: Mapping[str, Any]) -> Iterator[int]:
        for index, point in enumerate(self.points):
            if all(name in point and same(point[name], value) for name, value in names.items()):
                yield index

    def _result(self, index: int, job: Any, until: float | None) -> PointResult:
        left = None if until is None else max(0.0, until - time.monotonic())
        error = job.exception(left)
        return PointResult(index, self.points[index], None if error else job.result(0), error)


def table(results: Iterable[PointResult]) -> list[dict[str, Any]]:
    """Rows: the point's names, then what the call returned, then `error`: None, or the type and text of what it raised.

    A dict that was returned gives a column for each of its keys, anything else the column `value`. A column whose name is
    taken already gets `value.` before it. All rows have all columns, with None where there is nothing.
    """
    kept = list(results)
    columns = dict.fromkeys(name for result in kept for name in result.point)
    error = _free(ERROR, columns)
    taken = {*columns, error}
    renamed: dict[str, str] = {}
    rows = []
    for result in kept:
        spread = _spread(result)
        for name in spread:
            if name not in renamed:
                renamed[name] = _free(name, taken)
                taken.add(renamed[name])
        rows.append(
            {**result.point, **{renamed[name]: value for name, value in spread.items()}, error: _told(result)}
        )
    every = [*columns, *renamed.values(), error]
    return [{name: row.get(name) for name in every} for row in rows]


def _spread(result: PointResult) -> dict[str, Any]:
    if not result.ok:
        return {}
    value = result.value
    return (
        value if isinstance(value, dict) and all(isinstance(name, str) for name in value) else {VALUE: value}
    )


def _told(result: PointResult) -> str | None:
    return None if result.error is None else f"{type(result.error).__name__}: {result.error}"


def _free(name: str, taken: Container[str]) -> str:
    while name in taken:
        name = f"{VALUE}.{name}"
    return name


def _in_turn(arriving: Iterable[PointResult]) -> Iterator[PointResult]:
    early: dict[int, PointResult] = {}
    turn = 0
    for result in arriving:
        early[result.index] = result
        while turn in early:
            yield early.pop(turn)
            turn += 1


def _first_point(points: Points) -> str:
    return f"its first point is {points[0]!r}" if points else "the sweep has no points"

"""The points of a sweep: which keyword arguments a function is to be called with, one call for each point. No I/O."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

from outrider.errors import ConfigError

Point = dict[str, Any]
Where = Callable[[Point], Any]
MOST = 1_000_000
"""So many values are taken from a generator for one name, at the most: one that never ends is told, not waited for."""


def grid(
    given: Mapping[str, Iterable[Any]] | None = None, /, where: Where | None = None, **values: Any
) -> Points:
    """All combinations of the values of each name, in order: the last name varies fastest.

    >>> list(grid(lr=[0.1, 0.01], seed=range(2)))[1]
    {'lr': 0.1, 'seed': 1}

    given: names and their values as a mapping, for names that are no identifiers, or that `where` has taken.
    where: gets each point, and says whether to keep it.
    Points are made when they are asked for: a grid of a billion costs nothing. A generator is read once, at once.
    Raises ConfigError for what is no collection of values: a text, a number, a set, nothing at all.
    """
    axes = _axes("grid", given, values)
    return _Grid(axes).where(where) if where is not None else _Grid(axes)


def zipped(
    given: Mapping[str, Iterable[Any]] | None = None, /, where: Where | None = None, **values: Any
) -> Points:
    """The first values of all names, then the second ones, and so on. ConfigError if one name has more than another."""
    axes = _axes("zipped", given, values)
    counts = {name: len(found) for name, found in axes.items()}
    if len({*counts.values()}) > 1:
        told = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise ConfigError(
            f"zipped() takes as many values for each name: {told}", hint="for all combinations use grid()"
        )
    return _Zipped(axes).where(where) if where is not None else _Zipped(axes)


class Points(Sequence[Point]):
    """Points of a sweep: a sequence that can be read again and again. Each point is a dict of its own.

    `a + b` has the points of both, `a * b` each of `a` with each of `b`; a slice is `Points` too.
    """

    __slots__ = ()

    @abstractmethod
    def _at(self, index: int) -> Point:
        """The point at an index from 0."""

    @overload
    def __getitem__(self, index: int) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> Points: ...
    def __getitem__(self, index: int | slice) -> Point | Points:
        if isinstance(index, slice):
            return _Chosen(self, range(*index.indices(len(self))))
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"there is no point {index}: the sweep has {count}")
        return self._at(index % count)

    def __iter__(self) -> Iterator[Point]:
        return map(self._at, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Points):
            return NotImplemented
        return self is other or (len(self) == len(other) and all(map(alike, self, other)))

    __hash__ = None  # type: ignore[assignment]  # equal if the points are, and these are dicts

    def __add__(self, other: object) -> Points:
        return _Joined((self, other)) if isinstance(other, Points) else NotImplemented

    def __mul__(self, other: object) -> Points:
        return _Product(self, other) if isinstance(other, Points) else NotImplemented

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, itertools.islice(self, 3)))
        return (
            f"<{len(self)} points: {shown}{', …' if len(self) > 3 else ''}>" if len(self) else "<no points>"
        )

    def where(self, keep: Where) -> Points:
        """The points that `keep` says true for. It is asked once for each, when the first one is needed."""
        if not callable(keep):
            raise ConfigError(
                f"where= takes a function that gets a point, not {keep!r}",
                hint="for a parameter of this name give a mapping: grid({'where': [...]})",
            )
        return _Kept(self, keep)

    def sample(self, count: int, seed: int = 0) -> Points:
        """`count` points chosen at random, in their order here; the same ones each time for the same `seed`.

        Raises ConfigError if there are not so many.
        """
        import random  # slow to import, and few need it

        if not 0 <= count <= len(self):
            raise ConfigError(
                f"{count} points cannot be chosen out of {len(self)}", hint=f"ask for 0 to {len(self)}"
            )
        return _Chosen(self, sorted(random.Random(seed).sample(range(len(self)), count)))


class _Grid(Points):
    __slots__ = ("_axes", "_count")

    def __init__(self, axes: dict[str, Sequence[Any]]) -> None:
        self._axes = axes
        self._count = 1
        for values in axes.values():
            self._count *= len(values)
        _check_count(self._count)

    def __len__(self) -> int:
        return self._count

    def _at(self, index: int) -> Point:
        values = []
        for axis in reversed(self._axes.values()):
            index, at = divmod(index, len(axis))
            values.append(axis[at])
        return dict(zip(self._axes, reversed(values), strict=True))


class _Zipped(Points):
    __slots__ = ("_axes",)

    def __init__(self, axes: Mapping[str, Sequence[Any]]) -> None:
        self._axes = axes

    def __len__(self) -> int:
        return len(next(iter(self._axes.values())))

    def _at(self, index: int) -> Point:
        return {name: values[index] for name, values in self._axes.items()}


class _Joined(Points):
    __slots__ = ("_ends", "_parts")

    def __init__(self, parts: Sequence[Points]) -> None:
        # Flat, so that a sum of a thousand sweeps is no tower of a thousand calls.
        self._parts: list[Points] = []
        for part in parts:
            self._parts += part._parts if isinstance(part, _Joined) else [part]
        self._ends = list(itertools.accumulate(map(len, self._parts)))
        _check_count(self._ends[-1])

    def __len__(self) -> int:
        return self._ends[-1]

    def _at(self, index: int) -> Point:
        number = bisect_right(self._ends, index)
        return self._parts[number]._at(index - (self._ends[number - 1] if number else 0))


class _Product(Points):
    __slots__ = ("_left", "_right")

    def __init__(self, left: Points, right: Points) -> None:
        self._left, self._right = left, right
        _check_count(len(left) * len(right))
        both = {*left[0]} & {*right[0]} if left and right else set()
        if both:
            raise ConfigError(
                f"both sides of the product have a {min(both)!r}", hint="give each name on one side only"
            )

    def __len__(self) -> int:
        return len(self._left) * len(self._right)

    def _at(self, index: int) -> Point:
        left, right = divmod(index, len(self._right))
        return {**self._left._at(left), **self._right._at(right)}


class _Chosen(Points):
    __slots__ = ("_of", "_which")

    def __init__(self, of: Points, which: Sequence[int]) -> None:
        self._of, self._which = of, which

    def __len__(self) -> int:
        return len(self._which)

    def _at(self, index: int) -> Point:
        return self._of._at(self._which[index])


class _Kept(Points):
    __slots__ = ("_found", "_keep", "_of")

    def __init__(self, of: Points, keep: Where) -> None:
        self._of, self._keep = of, keep
        self._found: Sequence[int] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _Chosen, (self._of, self._which())  # what was chosen travels, not the function that chose

    def _which(self) -> Sequence[int]:
        if self._found is None:
            self._found = array("Q", (index for index, point in enumerate(self._of) if self._wanted(point)))
        return self._found

    def _wanted(self, point: Point) -> bool:
        try:
            return bool(self._keep(dict(point)))
        except Exception as error:
            error.add_note(f"raised by where= at the point {point!r}")
            raise

    def __len__(self) -> int:
        return len(self._which())

    def _at(self, index: int) -> Point:
        return self._of._at(self._which()[index])


def alike(left: Point, right: Point) -> bool:
    """Whether two points are the same: values that cannot tell (arrays) count only if they are the same object."""
    return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, where they can say so at all."""
    if one is other:
        return True
    try:
        return bool(one == other)
    except Exception:  # an array has no one answer
        return False


# --- what was given -----------------------------------------------------------------------------------------------


def _axes(
    function: str, given: Mapping[str, Iterable[Any]] | None, named: Mapping[str, Any]
) -> dict[str, Sequence[Any]]:
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(
            f"{function}() takes names with their values, not {_shown(given)}",
            hint=f"write {function}(lr=[0.1, 0.01], seed=range(5))",
        )
    twice = {*(given or ())} & {*named}
    if twice:
        raise ConfigError(f"{min(twice)!r} is given twice", hint="once in the mapping or once as a keyword")
    values = {**(given or {}), **named}
    if not values:
        raise ConfigError(
            f"{function}() has no names: there is nothing to vary",
            hint=f"write {function}(lr=[0.1, 0.01], seed=range(5))",
        )
    return {name: _values(function, name, found) for name, found in values.items()}


def _values(function: str, name: Any, values: Any) -> Sequence[Any]:
    if not isinstance(name, str):
        raise ConfigError(f"{name!r} cannot be the name of an argument", hint="names are texts")
    if isinstance(values, range | tuple):
        found: Sequence[Any] = values
    else:
        _check_collection(name, values)
        found = tuple(itertools.islice(values, MOST + 1))
        if len(found) > MOST and not hasattr(values, "__len__"):
            raise ConfigError(
                f"{name} does not end after {MOST} values", hint="take so many with itertools.islice()"
            )
        if len(found) > MOST:
            found = tuple(values)
    if not found:
        raise ConfigError(
            f"{name} has no values, so {function}() has no points",
            hint="a generator that was read before is empty now: give a list"
            if iter(values) is values
            else "leave the name out if it is not to vary",
        )
    return found


def _check_collection(name: str, values: Any) -> None:
    """ConfigError for what is one value, or has no order of its own."""
    hint = ""
    if isinstance(values, str | bytes | bytearray):
        hint = f"a text counts as one value: {name}=[{_shown(values)}]"
    elif isinstance(values, Mapping):
        hint = f"for its keys write {name}=list(...), for the mapping as a value {name}=[{{...}}]"
    elif isinstance(values, set | frozenset):
        hint = f"it has another order in each process: write {name}=sorted(...)"
    elif callable(values) and not hasattr(values, "__iter__"):
        hint = f"for the function as a value write {name}=[{_shown(values)}]"
    else:
        try:
            iter(values)
        except TypeError:
            hint = f"for one value write {name}=[{_shown(values)}]"
    if hint:
        raise ConfigError(f"{name} takes a list of values, not {_shown(values)}", hint=hint)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _check_count(count: int) -> None:
    if count > (1 << 62):
        raise ConfigError(
            f"there are {count:.3g} points: more than can be counted",
            hint="vary fewer names, or fewer values",
        )


def points_of(points: Points | Iterable[Mapping[str, Any]]) -> Points:
    """What a caller gives as a sweep: `Points`, or any mappings, which are read once."""
    if isinstance(points, Points):
        return points
    if isinstance(points, Mapping | str | bytes) or not hasattr(points, "__iter__"):
        raise ConfigError(
            f"a sweep takes points, not {_shown(points)}", hint="write grid(lr=[0.1, 0.01], seed=range(5))"
        )
    found: list[Any] = list(points)
    for point in found:
        if not isinstance(point, Mapping) or not all(isinstance(name, str) for name in point):
            raise ConfigError(
                f"a point is a dict of the arguments by name, not {_shown(point)}",
                hint="write grid(x=[...]) for one argument",
            )
    return _Listed(found)


class _Listed(Points):
    __slots__ = ("_points",)

    def __init__(self, points: Sequence[Mapping[str, Any]]) -> None:
        self._points = points

    def __len__(self) -> int:
        return len(self._points)

    def _at(self, index: int) -> Point:
        return dict(self._points[index])

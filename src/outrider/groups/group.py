"""Group: many routes at once. Results as they come or collected, errors kept apart, limits on all of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Any, Generic, Protocol, Self, TypeVar, overload

from outrider.chain import Chain
from outrider.command import Argument
from outrider.config import Config
from outrider.errors import CommandFailed, ConfigError, OutriderError
from outrider.groups.fanout import Fanout, Limits, Member, Outcome, Result, Work
from outrider.groups.items import ItemResult, Items
from outrider.hops.base import Hop
from outrider.near.calls import check_function
from outrider.options import Options
from outrider.ranges import expand
from outrider.results import CompletedCommand
from outrider.route import Route
from outrider.session import Session

Given = TypeVar("Given", covariant=True)
_LIMITS = frozenset(Limits.__dataclass_fields__)
_OPTIONS = frozenset(Options.__dataclass_fields__)


class Results(Sequence[Result]):
    """What came of every member, in the group's order. `results["name"]` is one of them, `results[0]` the first."""

    def __init__(self, results: Iterable[Result]) -> None:
        self._results = tuple(results)
        self._by_name = {result.name: result for result in self._results}

    @overload
    def __getitem__(self, which: int | str) -> Result: ...
    @overload
    def __getitem__(self, which: slice) -> Results: ...
    def __getitem__(self, which: int | str | slice) -> Result | Results:
        if isinstance(which, slice):
            return Results(self._results[which])
        return self._by_name[which] if isinstance(which, str) else self._results[which]

    def __len__(self) -> int:
        return len(self._results)

    def __repr__(self) -> str:
        counts = {state: sum(result.state == state for result in self) for state in _STATES}
        return f"<Results: {', '.join(f'{count} {state}' for state, count in counts.items() if count) or 'none'}>"

    @property
    def ok(self) -> bool:
        """True if every member was done, and went well."""
        return all(result.ok for result in self)

    @property
    def failed(self) -> Results:
        """Those that did not go well: failed, cancelled or not started."""
        return Results(result for result in self if not result.ok)

    @property
    def values(self) -> dict[str, Any]:
        """The values of those that went well, by member."""
        return {result.name: result.value for result in self if result.ok}

    def raise_first(self) -> Self:
        """Raise the first member's error, if there is one, with a note that names the member; else give these results."""
        for result in self:
            if result.error is not None:
                raise _noted(result)
        return self

    def raise_all(self) -> Self:
        """Raise an ExceptionGroup of all errors, if there are any; else give these results."""
        errors = [_noted(result) for result in self if result.error is not None]
        if errors:
            raise BaseExceptionGroup(f"{len(errors)} of {len(self)} members failed", errors)
        return self


_STATES = ("done", "failed", "cancelled", "not started")


def _noted(result: Result) -> BaseException:
    assert result.error is not None
    note = f"at member {result.name!r}"
    if note not in getattr(result.error, "__notes__", ()):
        result.error.add_note(note)
    return result.error


class _Runner(Protocol):
    """What stands behind the verbs: does a piece of work at all members."""

    def _fanout(self, work: Work, *, keep: bool = False) -> Fanout: ...


class Verbs(Generic[Given]):
    """The verbs of a group. Each does at every member what the same verb of a route does."""

    def _do(self, work: Work) -> Given:
        raise NotImplementedError

    def run(
        self,
        argv: Sequence[Argument] | str,
        *,
        stdin: bytes | str | IO[bytes] | None = None,
        env: dict[str, str] | None = None,
        cwd: Argument | None = None,
        merge: bool = False,
    ) -> Given:
        """Run a command at every member; see `Session.run`. Another status than 0 makes the member's result a failure.

        A result's `value` and `completed` are the CompletedCommand. `stdin` is read once, and given to each.
        """
        given = stdin if stdin is None or isinstance(stdin, (bytes, str)) else stdin.read()

        def work(far: Session, member: Member) -> Outcome:
            on_output = far.settings.on_output if self._watched() else None
            done = far.run(argv, stdin=given, env=env, cwd=cwd, merge=merge, on_output=on_output)
            return Outcome(done, done, _status_error(done, member))

        return self._do(work)

    def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Given:
        """Call `fn(*args, **kwargs)` at every member. `value` is what it returns, `completed` tells the rest."""
        check_function(fn)

        def work(far: Session, _: Member) -> Outcome:
            done = far.call_detailed(fn, *args, **kwargs)
            return Outcome(done.value, done)

        return self._do(work)

    def put(self, local: Argument, remote: Argument) -> Given:
        """Copy a file or folder from here to every member. `value` is the number of files that had to travel."""
        return self._do(lambda far, _: far.put(local, remote))

    def get(self, remote: Argument, local: Argument) -> Given:
        """Copy a file or folder from every member into a folder of its own, `local/NAME/`.

        What in a member's name cannot stand in a path becomes `_`; `value` is the number of files that had to travel.
        """
        base = Path(_text(local))

        def work(far: Session, member: Member) -> int:
            folder = base / self._folder(member.name)
            folder.mkdir(parents=True, exist_ok=True)
            return far.get(remote, folder / Path(_text(remote)).name)

        return self._do(work)

    def _watched(self) -> bool:
        raise NotImplementedError

    def _folder(self, name: str) -> str:
        raise NotImplementedError


class Members(Verbs[Results]):
    """Members with the verbs on all of them, and the limits that these keep to."""

    def __init__(self, members: Sequence[Member], limits: Limits) -> None:
        self._members = tuple(members)
        self._limits = limits
        self._folders = _folder_names([member.name for member in members])

    @property
    def names(self) -> list[str]:
        """The members' names, in order."""
        return [member.name for member in self._members]

    @property
    def limits(self) -> Limits:
        """The limits as they are; `options()` gives the same members with others."""
        return self._limits

    @property
    def arriving(self) -> Arriving:
        """The same verbs, but each gives an iterator of results as they come. Leaving its loop cancels the rest."""
        return Arriving(self)

    def map(self, fn: Callable[..., Any], /, *iterables: Iterable[Any]) -> Iterator[Any]:
        """Values of `fn` over the items, in order; each item goes to the next member that is free.

        At most `at_once` members are used. What `fn` raises is raised here, at its turn. A member that cannot be opened
        leaves its share to the others; if none can, its error is raised. An item under way at a member whose
        connection is lost is called elsewhere if `retry=` allows it, else it fails.
        """
        check_function(fn)
        with closing(Items(self._members, fn, iterables, self._limits)) as items:
            yield from items.in_order()

    def _do(self, work: Work) -> Results:
        arrived: dict[str, Result] = {}
        with closing(self._fanout(work).results()) as results:
            for result in results:
                arrived[result.name] = result
        return Results(arrived[member.name] for member in self._members)

    def _fanout(self, work: Work, *, keep: bool = False) -> Fanout:
        return Fanout(self._members, work, self._limits, keep=keep)

    def _watched(self) -> bool:
        return self._limits.on_output is not None

    def _folder(self, name: str) -> str:
        return self._folders[name]

    def __len__(self) -> int:
        return len(self._members)


class Arriving(Verbs[Iterator[Result]]):
    """A group's verbs, with results one by one in the order in which they arrive."""

    def __init__(self, members: Members) -> None:
        self._of = members

    def _do(self, work: Work) -> Iterator[Result]:
        return self._of._fanout(work).results()

    def map(self, fn: Callable[..., Any], /, *iterables: Iterable[Any]) -> Iterator[ItemResult]:
        """An ItemResult for each item as it arrives: its place among the items, its member, and its value or error."""
        check_function(fn)
        with closing(Items(self._of._members, fn, iterables, self._of._limits)) as items:
            yield from items.arriving()

    def _watched(self) -> bool:
        return self._of._watched()

    def _folder(self, name: str) -> str:
        return self._of._folder(name)


Routes = Iterable[str | Hop | Chain] | Mapping[str, str | Hop | Chain]


class Group(Members):
    """Many routes, to do the same on all of them at once. Immutable.

    `routes`: texts (`"ssh:web[01-20]"` stands for twenty; names of configured routes and groups too), hops and routes;
    or a mapping from each member's name to its route. Keywords are `Limits`.

    >>> from outrider import Group, ssh
    >>> web = Group(["ssh:web[01-20]", ssh("db")], at_once=10)
    >>> results = web.run(["uptime"])
    """

    def __init__(self, routes: Routes, *, limits: Limits | None = None, **changes: Any) -> None:
        if isinstance(routes, (str, Hop, Chain)):
            raise ConfigError("a group is made of a list of routes, not of one", hint="put it into [ ]")
        super().__init__(list(_members(routes)), (limits or Limits()).changed(changes))
        if not self._members:
            raise ConfigError("the group has no member", hint="name at least one route")

    @classmethod
    def of(cls, *texts: str) -> Self:
        """A group of texts: `Group.of("ssh:web[01-20]", "db")`."""
        return cls(texts)

    @property
    def routes(self) -> dict[str, Route]:
        """Each member's route by its name."""
        return {member.name: member.route for member in self._members}

    def options(self, **changes: Any) -> Self:
        """The same members with other limits (`Limits`), or with other options of every route (`Options`).

        `timeout` and `on_output` are the group's: seconds for one member, opening included, and a function that
        gets the member's name too.
        """
        limits = {name: value for name, value in changes.items() if name not in _OPTIONS - _LIMITS}
        others = {name: value for name, value in changes.items() if name in _OPTIONS - _LIMITS}
        routes = {name: route.options(**others) for name, route in self.routes.items()}
        return type(self)(routes, limits=self._limits.changed(limits))

    def without(self, *names: str) -> Self:
        """The group without the members that `names` tell; ranges may be used. ConfigError for one that is none."""
        from outrider.hops.nearness import nearest

        leaving = [name for text in names for name in expand(text)]
        for name in leaving:
            if name not in self.routes:
                raise ConfigError(f"no member {name!r} in the group", hint=nearest(name, self.names))
        routes = {name: route for name, route in self.routes.items() if name not in leaving}
        return type(self)(routes, limits=self._limits)

    def open(self) -> OpenGroup:
        """Open every member once, and keep the sessions for many verbs. Who cannot be opened fails in each of these."""
        return OpenGroup(self._members, self._limits)

    def __repr__(self) -> str:
        from outrider.ranges import fold

        return f"<Group of {len(self)}: {fold(self.names)}>"


class OpenGroup(Members):
    """A group whose sessions are open. Made by `group.open()`; closed by `close()` or the end of a `with` block."""

    def __init__(self, members: Sequence[Member], limits: Limits) -> None:
        opened: dict[str, Result] = {}
        try:
            for result in Fanout(members, lambda far, _: far, limits, keep=True).results():
                opened[result.name] = result
        except BaseException:
            _close([result.value for result in opened.values() if result.ok], limits.at_once)
            raise
        self.opening = Results(opened[member.name] for member in members)
        kept = [
            Member(result.name, result.route, result.value if result.ok else None, result.error)
            for result in self.opening
        ]
        super().__init__(kept, limits)

    @property
    def sessions(self) -> dict[str, Session]:
        """The sessions that are open, by member."""
        return {member.name: member.session for member in self._members if member.session is not None}

    @property
    def failed(self) -> Results:
        """The members that could not be opened."""
        return self.opening.failed

    def options(self, **changes: Any) -> OpenGroup:
        """The same sessions with other limits."""
        other: OpenGroup = object.__new__(OpenGroup)
        other.opening = self.opening
        Members.__init__(other, self._members, self._limits.changed(changes))
        return other

    def close(self) -> None:
        """Close all sessions, many at a time; safe to call again."""
        _close(list(self.sessions.values()), self._limits.at_once)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _close(sessions: list[Session], at_once: int) -> None:
    from concurrent.futures import ThreadPoolExecutor

    if sessions:
        with ThreadPoolExecutor(min(at_once, len(sessions)), "outrider-group-close") as pool:
            list(pool.map(lambda session: session.close(), sessions))


# --- members and their names -----------------------------------------------------------------------------------------


def _members(routes: Routes) -> Iterator[Member]:
    settings = Config.load()
    if isinstance(routes, Mapping):
        for name, route in routes.items():
            yield Member(name, _route(route, settings))
        return
    used: dict[str, int] = {}
    for name, route in _named(routes, settings):
        used[name] = used.get(name, 0) + 1
        yield Member(name if used[name] == 1 else f"{name}#{used[name]}", route)


def _named(routes: Iterable[str | Hop | Chain], settings: Config) -> Iterator[tuple[str, Route]]:
    for given in routes:
        if isinstance(given, str):
            for text in settings.member_texts(given):
                yield text, _route(text, settings)
        else:
            route = _route(given, settings)
            yield route.label(), route


def _route(given: object, settings: Config) -> Route:
    if isinstance(given, Route):
        return given
    if isinstance(given, str):
        return Route.named(given, settings)
    if isinstance(given, Chain):
        return Route(*given.hops)
    if isinstance(given, Hop):
        return given.as_route()
    raise TypeError(f"not a route: {given!r}; a group takes texts, hops and routes")


def _folder_names(names: list[str]) -> dict[str, str]:
    """A folder's name for each member: no separators, nothing hidden, no two alike."""
    found: dict[str, str] = {}
    for name in names:
        safe = re.sub(r"[^\w.@:+=#-]+", "_", name).lstrip(".-") or "_"
        while safe in found.values():
            safe += "_"
        found[name] = safe
    return found


def _text(path: Argument) -> str:
    import os

    return os.fsdecode(path)


def _status_error(done: CompletedCommand, member: Member) -> OutriderError | None:
    if not done.returncode:
        return None
    how = f"was ended by {done.signal}" if done.signal else f"ended with status {done.returncode}"
    return CommandFailed(
        f"{done.argv[0]} {how}",
        completed=done,
        hop=member.route.label(),
        hint="its result's `completed` has the status and all output",
    )

"""Batch: a route together with how jobs are submitted by it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from outrider.batch.array import JobArray
from outrider.batch.job import BatchJob
from outrider.batch.spec import JobSpec
from outrider.batch.spool import Call
from outrider.batch.submitting import How, check, submit_calls, submit_command
from outrider.command import Argument
from outrider.errors import ConfigError

if TYPE_CHECKING:
    from outrider.batch.executors.executor import RouteExecutor
    from outrider.batch.sweep import Points
    from outrider.batch.swept import Sweep
    from outrider.route import Route


class Batch:
    """What `Route.batch(...)` gives: `submit`, `submit_command` and `map` with a name, tags, dependencies. Immutable."""

    def __init__(self, route: Route, how: How) -> None:
        self.route = route
        self.how = how

    def __repr__(self) -> str:
        return f"<Batch {self.how.name or 'without a name'} on {self.route.label()}>"

    def changed(self, **changes: Any) -> Batch:
        """The same with some words changed; see `Route.batch`."""
        return Batch(self.route, replace(self.how, **changes))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> BatchJob:
        """Submit `fn(*args, **kwargs)`; see `Route.submit`."""
        check(fn)
        return submit_calls(self.route, self.route.settings, self.how, [[(fn, args, kwargs)]])

    def executor(self) -> RouteExecutor:
        """An Executor of `concurrent.futures` whose calls are jobs like these; see `Route.executor`."""
        from outrider.batch.executors.executor import RouteExecutor
        from outrider.batch.executors.single import JobCrew

        return RouteExecutor(JobCrew(self))

    def submit_command(
        self,
        argv: Sequence[Argument] | str,
        *,
        stdin: bytes = b"",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> BatchJob:
        """Submit a command; see `Route.submit_command`."""
        words = ["sh", "-c", argv] if isinstance(argv, str) else [str(word) for word in argv]
        if not words:
            raise ConfigError("no command was given", hint="submit_command(['program', 'argument'])")
        return submit_command(self.route, self.route.settings, self.how, words, stdin, cwd, env or {})

    def submit_spec(self, spec: JobSpec | Mapping[str, Any]) -> BatchJob:
        """Submit a command with its resources in the words of PSI/J; see `JobSpec`. A mapping: as JSON has them."""
        asked = spec if isinstance(spec, JobSpec) else JobSpec.parse(spec)
        route = type(self.route)(*asked.on(self.route), options=self.route.settings)
        batch = Batch(route, replace(self.how, name=self.how.name or asked.name))
        words = [asked.executable, *asked.arguments]
        return batch.submit_command(words, cwd=asked.directory, env=asked.environment)

    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        chunk: int = 1,
        limit: int | None = None,
        retry: int = 0,
    ) -> JobArray:
        """Submit one call for each item, as one array; see `Route.map`."""
        calls: list[Call] = [(fn, args, {}) for args in zip(*iterables, strict=False)]
        return self.map_calls(calls, chunk=chunk, limit=limit, retry=retry)

    def sweep(
        self,
        fn: Callable[..., Any],
        points: Points | Iterable[Mapping[str, Any]],
        *,
        chunk: int = 1,
        limit: int | None = None,
        retry: int = 0,
    ) -> Sweep:
        """Submit `fn(**point)` for each point, as one array: `sweep(train, grid(lr=[0.1, 0.01], seed=range(5)))`.

        chunk, limit, retry: as for `Route.map`.
        """
        from outrider.batch.sweep import points_of
        from outrider.batch.swept import Sweep

        found = points_of(points)
        calls: list[Call] = [(fn, (), point) for point in found]
        return Sweep(found, self.map_calls(calls, chunk=chunk, limit=limit, retry=retry))

    def map_calls(
        self,
        calls: Sequence[Call],
        *,
        chunk: int = 1,
        limit: int | None = None,
        retry: int = 0,
    ) -> JobArray:
        """The same for calls that are given whole: (function, arguments, named arguments)."""
        for name, value in (("chunk", chunk), ("limit", 1 if limit is None else limit), ("retry", retry + 1)):
            if type(value) is not int or value < 1:
                raise ConfigError(
                    f"{name} is a whole number, and not too small: {value!r}",
                    key=name,
                    hint=f"give a larger {name}, or leave it out",
                )
        if not calls:
            raise ConfigError(
                "there are no items: nothing to submit", hint="give at least one item, or do not submit"
            )
        check(calls[0][0])
        elements = [calls[at : at + chunk] for at in range(0, len(calls), chunk)]
        route = self.route
        job = submit_calls(route, route.settings, self.how, elements, len(calls), chunk, limit)
        return JobArray(route, route.settings, job.key, retry)

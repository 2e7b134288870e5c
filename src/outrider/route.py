"""Route: hops in order, with options, and what you call things on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from outrider.chain import Chain
from outrider.command import Argument
from outrider.errors import ConfigError
from outrider.hops.base import Hop
from outrider.near.calls import check_function
from outrider.options import Options
from outrider.results import CompletedCall, CompletedCommand
from outrider.session import Session

if TYPE_CHECKING:
    from outrider.batch.array import JobArray
    from outrider.batch.batch import Batch
    from outrider.batch.executors.executor import RouteExecutor
    from outrider.batch.job import BatchJob
    from outrider.config import Config
    from outrider.near.connection import Connection

T = TypeVar("T")


def attach(ticket: str, *, take: bool = False, **options: Any) -> Session:
    """Come to a far end that was left, by the route in its ticket; see `Route.attach`. `options`: others than then."""
    from outrider.near import kept

    read = kept.read_ticket(ticket)
    if read["route"] is None:
        raise ConfigError(
            "this ticket cannot name its route, which has a password by a function",
            key="ticket",
            hint="attach by the route itself: route.attach(ticket)",
        )
    return Route.parse(read["route"]).options(**{**read["options"], **options}).attach(ticket, take=take)


def _route(hops: tuple[Hop, ...], options: Options) -> Route:
    return Route(*hops, options=options)


class Route(Chain):
    """Where to run things: hops composed with `|`, and `Options`. Immutable.

    >>> from outrider import ssh, sudo
    >>> route = ssh("login.example.edu") | sudo("grader")
    """

    __slots__ = ("_options",)
    _options: Options

    def __init__(self, *hops: Hop, options: Options | None = None) -> None:
        super().__init__(*hops)
        object.__setattr__(self, "_options", options or Options())

    def _with_hops(self, hops: tuple[Hop, ...]) -> Self:
        return type(self)(*hops, options=self._options)

    def __reduce__(self) -> tuple[Any, ...]:
        return _route, (self.hops, self._options)

    @classmethod
    def named(cls, text: str, settings: Config | None = None) -> Self:
        """A route from its text or from its name in the configuration, with the configuration's defaults.

        `settings`: a configuration that was loaded already. Raises ConfigError, which points at what is wrong.
        """
        if not text.strip():
            raise ConfigError("the route is empty", hint="for this machine itself write 'local'")
        from outrider.config import Config

        settings = settings or Config.load()
        chain = settings.route(text)
        return cls(*chain.hops, options=Options(**settings.option_defaults()))

    @property
    def settings(self) -> Options:
        """The options as they are; `options()` gives the same hops with others."""
        return self._options

    def options(self, **changes: Any) -> Self:
        """The same hops with other options; see `Options` for their names, units and meaning."""
        return type(self)(*self.hops, options=self._options.changed(changes))

    def open(self, **changes: Any) -> Session:
        """Open the far end, for many calls; `open(detach="2h")` is `options(detach="2h").open()`.

        Raises RouteError, naming the hop that cannot be passed.
        """
        return self.session(self._options.changed(changes) if changes else self._options)

    def way(self) -> Self:
        """The part that is opened: all but a sandbox at the end, which is made anew for each command."""
        return self.prefix(len(self) - 1) if self.hops and self.hops[-1].last else self

    def session(self, options: Options, connection: Connection | None = None) -> Session:
        """What `open` gives, with other options; over a connection to the end of `way()`, if one is open already."""
        if self.way() is self:
            return Session(self, options, connection)
        from outrider.sandboxed import Sandbox

        return Sandbox(self, options=options, connection=connection)

    def attach(self, ticket: str, *, take: bool = False) -> Session:
        """Come to a far end that was left with `Session.detach`, or that has lost its near end, by this route.

        take: come also if another near end is attached to it; that one loses it. Raises Lost if the far end is gone.
        """
        from outrider.near import kept

        read = kept.read_ticket(ticket)
        options = self._options.changed({"detach": self._options.detach or read["options"].get("detach")})
        session = Session(self, options, kept.KeptConnection(self, options, ticket=read, take=take))
        session.take_up()
        return session

    def run(self, argv: Sequence[Argument] | str, **options: Any) -> CompletedCommand:
        """Run one command there; see `Session.run`."""
        with self.open() as far:
            return far.run(argv, **options)

    def call(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Call `fn(*args, **kwargs)` there; see `Session.call`."""
        check_function(fn)
        far = self.open()
        try:
            value = far.call(fn, *args, **kwargs)
        except BaseException:
            far.close()
            raise
        return far.closing_after(value)

    def call_detailed(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> CompletedCall:
        """Call, with what it printed, how long it took, and where it ran."""
        check_function(fn)
        far = self.open()
        try:
            done = far.call_detailed(fn, *args, **kwargs)
        except BaseException:
            far.close()
            raise
        far.closing_after(done.value)
        return done

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> BatchJob:
        """Submit `fn(*args, **kwargs)` as a job that outlives this process, and return while it waits or runs.

        What stands before the last scheduler hop leads to where it is submitted, what stands after it runs inside the
        job. Without a scheduler the job is a process of its own there. Raises RouteError if the scheduler refuses it.
        """
        return self.batch().submit(fn, *args, **kwargs)

    def submit_command(
        self,
        argv: Sequence[Argument] | str,
        *,
        stdin: bytes = b"",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> BatchJob:
        """Submit a command, a list of words or a line for `sh`; its result is a `CompletedCommand`."""
        return self.batch().submit_command(argv, stdin=stdin, cwd=cwd, env=env)

    def batch(
        self,
        *,
        name: str = "",
        tags: Iterable[str] = (),
        after: Iterable[BatchJob] | BatchJob = (),
        hold: bool = False,
        warn: int = 60,
    ) -> Batch:
        """How to submit jobs: `route.batch(name="train", after=[job]).submit(fn)`.

        after: jobs of the same scheduler that have to succeed first. hold: they wait for `release()`. warn: seconds
        before the time limit at which a function that has a `checkpoint` is asked for it.
        """
        from outrider.batch.array import JobArray
        from outrider.batch.batch import Batch
        from outrider.batch.job import BatchJob
        from outrider.batch.submitting import How

        first = (
            (after,)
            if isinstance(after, BatchJob)
            else after[:1]
            if isinstance(after, JobArray)
            else tuple(after)
        )
        whole = (
            tuple(BatchJob(self, self._options, job.key) for job in first)
            if isinstance(after, JobArray)
            else first
        )
        return Batch(self, How(name, tuple(tags), tuple(whole), hold, warn))

    def executor(
        self,
        pool: int | None = None,
        *,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> RouteExecutor:
        """An Executor of `concurrent.futures`: each call is a job of its own, as by `submit`; its future has `.job`.

        pool: have one job for all instead, with up to so many warm worker processes inside it. It is asked for by the
        first call and ends with `shutdown`. `initializer(*initargs)` is called in each worker before its first call.
        """
        from outrider.batch.executors.executor import executor

        return executor(self, pool, initializer, tuple(initargs))

    def job(self, key: str) -> BatchJob:
        """A job that was submitted by this route, from its `key`: by another process, on another day."""
        from outrider.batch.job import BatchJob

        return BatchJob(self, self._options, key)

    def jobs(self, key: str) -> JobArray:
        """The array that was submitted by this route, from its `key`."""
        from outrider.batch.array import JobArray

        return JobArray(self, self._options, key)

    def invoke(self, subject: Any, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method there and bring the object's changed state back; see `Session.invoke`."""
        with self.open() as far:
            return far.invoke(subject, method, *args, **kwargs)

    @overload
    def map(self, fn: Callable[..., T], /, *iterables: Iterable[Any], at_once: int = 8) -> Iterator[T]: ...
    @overload
    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        array: Literal[True],
        chunk: int = 1,
        limit: int | None = None,
        retry: int = 0,
    ) -> JobArray: ...
    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        at_once: int = 8,
        array: bool = False,
        **words: Any,
    ) -> Iterator[Any] | JobArray:
        """Values of `fn` over the items, in order, over one session; see `Session.map`.

        array: submit them instead, as one array of jobs that outlive this process. chunk: so many items in each job, one
        after the other. limit: not more than so many jobs at once. retry: how often an item is submitted again whose job
        was ended by what is not its own fault, such as a node that failed.
        """
        check_function(fn)
        if array:
            return self.batch().map(fn, *iterables, **words)
        if words:
            raise TypeError(f"{', '.join(words)}: only with array=True")
        return self._map(fn, iterables, at_once)

    def _map(self, fn: Callable[..., T], iterables: tuple[Iterable[Any], ...], at_once: int) -> Iterator[T]:
        with self.open() as far:
            yield from far.map(fn, *iterables, at_once=at_once)

    def put(self, local: Argument, remote: Argument, **options: Any) -> int:
        """Copy a file or folder there; see `Session.put`."""
        with self.open() as far:
            return far.put(local, remote, **options)

    def get(self, remote: Argument, local: Argument, **options: Any) -> int:
        """Copy a file or folder from there; see `Session.get`."""
        with self.open() as far:
            return far.get(remote, local, **options)

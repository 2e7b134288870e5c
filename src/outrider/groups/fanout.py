"""One piece of work done at many members at once: a bounded set of threads, limits, batches, retries, and a clean end.

Whoever reads the results drives it: the reader starts threads, watches the time and counts failures. The threads open,
work, close, and hand over what came of it.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Literal

from outrider.errors import Cancelled, ConfigError, Lost, OutriderError, RouteError, TimedOut
from outrider.far import wire
from outrider.near.connection import Connection
from outrider.near.opening import Opening
from outrider.near.request import LabelledOutput, Request
from outrider.options import changed
from outrider.results import CompletedCall, CompletedCommand
from outrider.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outrider.route import Route

State = Literal["done", "failed", "cancelled", "not started"]
Stage = Literal["opening", "running", "waiting", "done", "failed", "cancelled", "not started"]
CANCEL_WAIT = 6.0
"""Seconds that cancelled members get to end by themselves, and once more after their streams were closed."""
RETRY_PAUSE = 1.0
"""Seconds before the first retry; doubled before each further one."""
DESCRIPTORS = 3
"""Descriptors that one open session takes here: stdin, stdout and stderr of its process."""
SPARE = 64


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How a group goes about its work.

    at_once: members at work at the same time, each in a thread of its own.
    timeout: seconds that one member may take, opening and retries included; None: as its route says.
    total_timeout: seconds for all of them together; who is not done by then is cancelled, or not started.
    retry: how often a member is tried again after an error that may pass (`error.transient`): a host that does not
        answer, a lost connection. What was under way when a connection was lost may have run: it then runs twice.
    batch: members of a batch, a number or a text such as "20%"; the next batch starts when the one before has ended.
    pause: seconds between two batches.
    stop_after: failures after which no more members are started; None: never stop.
    on_stop: what happens then to those at work: "finish" or "cancel".
    on_output: called with a member's name, "stdout" or "stderr", and a piece of what it prints, from several threads.
    on_stage: called with a member's name and what it does now: "opening", "running", "waiting" (for the next try), and
        in the end its result's state.
    """

    at_once: int = 32
    timeout: float | None = None
    total_timeout: float | None = None
    retry: int = 0
    batch: int | str | None = None
    pause: float = 0.0
    stop_after: int | None = None
    on_stop: Literal["finish", "cancel"] = "finish"
    on_output: Callable[[str, str, bytes], None] | None = None
    on_stage: Callable[[str, Stage], None] | None = None

    def __post_init__(self) -> None:
        for name, least in (("at_once", 1), ("retry", 0), ("stop_after", 1)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
                raise ConfigError(f"{name} is a whole number of at least {least}, not {value!r}", key=name)
        for name in ("timeout", "total_timeout"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is a number of seconds above 0 or None, not {value!r}", key=name)
        if not self.pause >= 0:
            raise ConfigError(f"pause is a number of seconds, not {self.pause!r}", key="pause")
        if self.on_stop not in ("finish", "cancel"):
            raise ConfigError(f"on_stop is 'finish' or 'cancel', not {self.on_stop!r}", key="on_stop")
        self.batch_size(1)

    def changed(self, changes: Mapping[str, Any]) -> Limits:
        """These limits with some changed; a name that is none is a ConfigError."""
        return changed(self, changes)

    def batch_size(self, members: int) -> int:
        """Members of one batch out of so many."""
        batch = self.batch
        if batch is None:
            return max(members, 1)
        with suppress(ValueError, TypeError):
            if isinstance(batch, str) and batch.endswith("%") and 0 < float(batch[:-1]) <= 100:
                return max(1, int(members * float(batch[:-1]) / 100))
            if not isinstance(batch, bool) and int(batch) >= 1 and int(batch) == float(batch):
                return int(batch)
        raise ConfigError(
            f"batch is a number of members or a share of them, not {batch!r}",
            key="batch",
            hint="for instance batch=5 or batch='20%'",
        )


@dataclass
class Member:
    """One of a group: its name, its route, and its session where the group keeps one, or why there is none."""

    name: str
    route: Route
    session: Session | None = None
    error: BaseException | None = None


@dataclass(frozen=True)
class Result:
    """What came of one member.

    `value`: what the same verb of a route gives. `completed`: the CompletedCommand or CompletedCall, where there is one.
    `error`: what went wrong; for a command that ended with another status than 0 a CommandFailed. `duration`: seconds,
    opening and retries included. `tries`: how often it was begun; 0 if it was not started.
    """

    name: str
    route: Route
    state: State
    value: Any = None
    error: BaseException | None = None
    duration: float = 0.0
    tries: int = 0
    completed: CompletedCommand | CompletedCall | None = None

    @property
    def ok(self) -> bool:
        """True if it was done, and went well."""
        return self.state == "done"


@dataclass(frozen=True)
class Outcome:
    """What a piece of work gives where its value alone does not tell all."""

    value: Any = None
    completed: CompletedCommand | CompletedCall | None = None
    error: OutriderError | None = None


Work = Callable[[Session, Member], Any]


class Fanout:
    """The work of one verb at all members. `results` may be iterated once; leaving it early cancels what is under way."""

    def __init__(self, members: Sequence[Member], work: Work, limits: Limits, *, keep: bool = False) -> None:
        self.members = members
        self.work = work
        self.limits = limits
        self.keep = keep
        self.stopping: OutriderError | None = None
        self.arrived: SimpleQueue[Any] = SimpleQueue()
        self._under_way: dict[str, Attempt] = {}
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._failures = 0
        self._cancelling = False
        self._interrupted = False
        self._grace: Iterator[float] = iter(())
        self._until: float | None = None

    def results(self) -> Generator[Any, None, None]:
        """A Result for every member as it arrives, and in between whatever the work itself put into `arrived`."""
        limits = self.limits
        make_room(DESCRIPTORS * (len(self.members) if self.keep else min(limits.at_once, len(self.members))))
        if limits.total_timeout is not None:
            self._until = time.monotonic() + limits.total_timeout
        size = limits.batch_size(len(self.members))
        try:
            for start in range(0, len(self.members), size):
                if start and not self.stopping:
                    self._rest()
                yield from self._batch(deque(self.members[start : start + size]))
        except BaseException:  # Ctrl-C, or the reader has enough
            self.cancel(Cancelled("cancelled with the whole group"))
            self._drain()
            raise
        finally:
            self._join()

    def _rest(self) -> None:
        """The pause between two batches, as far as the time for all lasts."""
        left = None if self._until is None else max(0.0, self._until - time.monotonic())
        time.sleep(self.limits.pause if left is None else min(left, self.limits.pause))

    def _batch(self, todo: deque[Member]) -> Iterator[Any]:
        waiting = {member.name: member for member in todo}
        if not self.stopping:
            for _ in range(min(self.limits.at_once, len(todo))):
                thread = threading.Thread(
                    target=self._worker, args=(todo,), name="outrider-group", daemon=True
                )
                self._threads.append(thread)
                thread.start()
        while waiting:
            if self.stopping:
                for member in _taken(todo):
                    del waiting[member.name]
                    yield self._told(Result(member.name, member.route, "not started", error=self.stopping))
                if not waiting:
                    break
            arrived = self._next()
            if arrived is None:
                for result in self._given_up(waiting):
                    del waiting[result.name]
                    yield result
            elif not isinstance(arrived, Result):
                yield arrived
            elif waiting.pop(arrived.name, None):
                if self._interrupted and not self._cancelling:
                    raise KeyboardInterrupt  # it was meant for all
                yield arrived
        self._join()

    def _next(self) -> Any:
        """What arrives next; None if the grace that cancelled members have is over."""
        while True:
            wait = None if self._until is None else max(0.0, self._until - time.monotonic())
            try:
                return self.arrived.get(timeout=wait)
            except Empty:
                pass
            if not self._cancelling:
                seconds = self.limits.total_timeout
                self.cancel(TimedOut(f"the group was not done within {seconds:g} s", hint=_TOTAL_HINT))
                continue
            if not self._cut():
                return None

    def cancel(self, why: OutriderError) -> None:
        """No more are started, and those at work are asked to end, with all that they started there."""
        with self._lock:
            self.stopping = self.stopping or why
            self._cancelling = True
            attempts = list(self._under_way.values())
        now = time.monotonic()
        self._until = now + CANCEL_WAIT
        self._grace = iter((now + 2 * CANCEL_WAIT,))
        for attempt in attempts:
            attempt.cancel(why)

    def _given_up(self, waiting: dict[str, Member]) -> Iterator[Result]:
        """Those that did not even end when their stream was closed: their threads are left to themselves."""
        for name, member in list(waiting.items()):
            error = Lost("it did not end when it was cancelled", hop=member.route.label())
            error.__cause__ = self.stopping
            yield self._told(Result(name, member.route, "failed", error=error, tries=1))
        self._threads.clear()

    def _drain(self) -> None:
        """After a cancel that nobody waits for: let the members end, as long as they are given."""
        try:
            while any(thread.is_alive() for thread in self._threads):
                with suppress(Empty):
                    self.arrived.get(timeout=0.05)
                if self._until is not None and time.monotonic() > self._until and not self._cut():
                    self._threads.clear()
        except KeyboardInterrupt:  # pressed again: they end by themselves when this process has gone
            self._threads.clear()

    def _cut(self) -> bool:
        """Close the streams of those that do not answer to the cancel; False if that was done before."""
        self._until = next(self._grace, None)
        if self._until is None:
            return False
        with self._lock:
            attempts = list(self._under_way.values())
        for attempt in attempts:
            attempt.cut()
        return True

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _told(self, result: Result) -> Result:
        if self.limits.on_stage is not None:
            self.limits.on_stage(result.name, result.state)
        return result

    # --- in the threads --------------------------------------------------------------------------------------------

    def _worker(self, todo: deque[Member]) -> None:
        while True:
            with self._lock:
                if self.stopping or not todo:
                    return
                member = todo.popleft()
                attempt = Attempt(member, self.work, self.limits, keep=self.keep)
                self._under_way[member.name] = attempt
            result = attempt.run()
            self._interrupted = self._interrupted or attempt.interrupted
            with self._lock:
                del self._under_way[member.name]
                why = self._enough(result)
            if why is not None and self.limits.on_stop == "cancel":
                self.cancel(why)
            with suppress(Exception):  # whoever watches shall not cost a result
                self._told(result)
            self.arrived.put(result)

    def _enough(self, result: Result) -> OutriderError | None:
        """Why no more may be started after this result; judged before its thread takes the next member."""
        self._failures += result.state == "failed"
        limit = self.limits.stop_after
        if limit is None or self._failures < limit or self.stopping is not None:
            return None
        self.stopping = Cancelled(
            f"stopped after {self._failures} failure{'s' * (self._failures > 1)}",
            hint="stop_after= says how many there may be",
        )
        return self.stopping


_TOTAL_HINT = "give more time with total_timeout=SECONDS, or more at_once="


def _taken(todo: deque[Member]) -> Iterator[Member]:
    with suppress(IndexError):
        while True:
            yield todo.popleft()


class Attempt:
    """One member at work: opened, used, closed, tried again. May be cancelled from another thread."""

    def __init__(self, member: Member, work: Work, limits: Limits, *, keep: bool) -> None:
        self.member = member
        self.work = work
        self.limits = limits
        self.keep = keep
        self._deadline = None if limits.timeout is None else time.monotonic() + limits.timeout
        self.interrupted = False
        self._why: OutriderError | None = None
        self._cancelled = threading.Event()
        self._opening: Opening | None = None
        self._connection: Connection | None = None
        self._tracked: Tracked | None = None

    def run(self) -> Result:
        """Its result; whatever is raised becomes part of it."""
        started = time.monotonic()
        member = self.member
        for tries in itertools.count(1):
            outcome = self._once()
            error = self._blamed(outcome.error)
            # Its program held the terminal while it opened, so it got the Ctrl-C.
            self.interrupted = isinstance(error, Cancelled) and not self._why and self._tracked is None
            if error is None or self._why or tries > self.limits.retry or not self._worth_retrying(error):
                break
            self._stage("waiting")
            self._cancelled.wait(self._until_deadline(RETRY_PAUSE * 2 ** min(tries - 1, 6)))
        state: State = "done"
        if error is not None:
            state = "cancelled" if isinstance(error, Cancelled) else "failed"
        seconds = time.monotonic() - started
        return Result(
            member.name, member.route, state, outcome.value, error, seconds, tries, outcome.completed
        )

    def _once(self) -> Outcome:
        try:
            if self.member.error is not None:
                raise self.member.error
            far = self._far()
            try:
                self._stage("running")
                return self._worked(far)
            finally:
                if self.member.session is None and not self.keep:
                    far.close()
        except BaseException as error:  # told by the result; in this thread nobody would see it
            return Outcome(error=error)  # type: ignore[arg-type]

    def _worked(self, far: Session) -> Outcome:
        shown = None
        name, on_output = self.member.name, self.limits.on_output
        changes: dict[str, Any] = {}
        if on_output is not None:
            changes["on_output"] = partial(on_output, name)
        elif far.settings.show and far.settings.on_output is None:
            changes["on_output"] = shown = LabelledOutput(name)
        left = self._left()
        if left is not None:
            changes["timeout"] = left if far.timeout is None else min(left, far.timeout)
        try:
            # A session that is kept must not get what belongs to this work alone.
            value = self.work(far if self.keep else far.options(**changes), self.member)
        finally:
            if shown is not None:
                shown.finish()
        return value if isinstance(value, Outcome) else Outcome(value)

    def _far(self) -> Session:
        kept = self.member.session
        if kept is not None:
            self._tracked = Tracked(kept.connection)
            if self._why:
                raise self._why
            return kept.over(self._tracked)  # type: ignore[arg-type]
        self._stage("opening")
        route, options = self.member.route, self.member.route.settings
        left = self._left()
        if left is not None:
            limit = options.open_timeout
            options = options.changed({"open_timeout": left if limit is None else min(left, limit)})
        self._opening = Opening(route.way(), options)
        if self._why:
            raise self._why
        self._connection = Connection(route.way(), options, self._opening)
        if self._why:
            self._connection.close()
            raise self._why
        self._tracked = Tracked(self._connection)
        connection = self._connection if self.keep else self._tracked
        return route.session(options, connection)  # type: ignore[arg-type]

    def _left(self) -> float | None:
        if self._deadline is None:
            return None
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self._too_late(None)
        return left

    def _too_late(self, hint: str | None) -> TimedOut:
        return TimedOut(
            f"not done within {self.limits.timeout:g} s", hop=self.member.route.label(), hint=hint
        )

    def _until_deadline(self, seconds: float) -> float:
        return (
            seconds if self._deadline is None else max(0.0, min(seconds, self._deadline - time.monotonic()))
        )

    def _blamed(self, error: BaseException | None) -> BaseException | None:
        """The error to tell: who was cancelled tells why, whatever broke on account of it."""
        if error is not None and self._why is not None:
            return self._why
        if isinstance(error, TimedOut) and self._deadline is not None and time.monotonic() >= self._deadline:
            return self._too_late(error.hint)
        return error

    @staticmethod
    def _worth_retrying(error: BaseException) -> bool:
        return isinstance(error, OutriderError) and error.transient

    def _stage(self, stage: Stage) -> None:
        if self.limits.on_stage is not None:
            self.limits.on_stage(self.member.name, stage)

    def cancel(self, why: OutriderError) -> None:
        """End what it does, with all that it started there; `run` then returns soon."""
        self._why = self._why or why
        self._cancelled.set()
        if self._tracked is not None:
            self._tracked.cancel()
        elif self._opening is not None:
            self._opening.cancel()

    def cut(self) -> None:
        """Close its stream: it has not answered to the cancel."""
        connection = self._connection or (self._tracked and self._tracked.connection)
        if connection:
            threading.Thread(target=connection.close, name="outrider-group-close", daemon=True).start()


class Tracked:
    """A connection as one piece of work sees it: the requests that it makes are known, and can be cancelled together."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._made: dict[int, Request] = {}
        self._cancelled = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    def new_request(self, *args: Any, **kwargs: Any) -> Request:
        for ident in [ident for ident, request in self._made.items() if request.done]:
            del self._made[ident]
        if self._cancelled:
            raise Cancelled("cancelled before it was sent")
        request = self.connection.new_request(*args, **kwargs)
        self._made[request.ident] = request
        return request

    def cancel(self) -> None:
        self._cancelled = True
        for ident, request in list(self._made.items()):
            if not request.done:
                with suppress(OutriderError):
                    self.connection.post(wire.CANCEL, ident, b"")


def make_room(descriptors: int) -> None:
    """See to it that so many more descriptors can be opened, as far as the system allows; else a RouteError says so."""
    import resource

    try:
        used = sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:
        used = SPARE
    needed = used + descriptors + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise RouteError(
            f"so many sessions at once need {needed} open files, and this process may have {hard}",
            hint=f"keep fewer open, or allow more: `ulimit -Hn {needed}` as root, or LimitNOFILE= of the service",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))

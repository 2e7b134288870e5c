"""Sandbox: a far end where each command, and each call, runs in a jail of its own."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Never, TypeVar

from outrider.chain import Chain
from outrider.command import Argument, Command
from outrider.errors import CommandFailed, ConfigError, OutriderError, Refused, RouteError
from outrider.far import wire
from outrider.hops.sandbox import Sandbox as Hop
from outrider.near import calls
from outrider.near.connection import Connection
from outrider.near.generators import FarGenerator
from outrider.near.request import Request
from outrider.options import OnOutput, Options
from outrider.results import CompletedCall
from outrider.sandboxed import given, pairs
from outrider.sandboxed.calling import Jail, JailedGenerator, SandboxFuture
from outrider.sandboxed.given import Files
from outrider.sandboxed.pairs import Program
from outrider.sandboxed.result import SandboxCall, SandboxResult, parsed, status
from outrider.session import Input, Session
from outrider.traces import tracing

T = TypeVar("T")
IN_A_CONTAINER = (
    "in a Docker container it needs --security-opt seccomp=unconfined --security-opt systempaths=unconfined"
)
THREADS = "outrider-sandbox"
GOING_ON = ". To go on without, name it in allow_missing="
"""Where the far end's words of a refusal turn to what can be done."""


class Sandbox(Session):
    """What a route that ends with `sandbox(...)` opens: a session in which every command and every call has its own jail.

    >>> with Sandbox(time="2s", memory="256M") as box:
    ...     box.run(["python3", "-c", "print(1)"]).verdict
    'OK'

    `route`: where; this machine without one. The limits are those of the hop `sandbox`; `files` may give contents as bytes,
    too. Nothing from inside is trusted: values come back as plain data, and what ends a call instead of its value is told by
    SandboxEnded. `connection`: one that is open already, to where the jails are to be.
    """

    def __init__(
        self,
        route: Chain | Hop | str | None = None,
        *,
        options: Options | None = None,
        connection: Connection | None = None,
        files: Files | None = None,
        **limits: Any,
    ) -> None:
        chain, self.hop = _split(route, limits)
        self.whole = chain | self.hop
        self._given: Files = {**_named_in(self.hop), **(files or {})}
        self._spec = self.hop.spec()
        self._shared = False
        self._pool: ThreadPoolExecutor | None = None
        self._futures: set[SandboxFuture[Any]] = set()
        self._lock = threading.Lock()
        settings = options or getattr(route, "settings", None) or Options()
        _no_files(settings)
        super().__init__(chain, settings, connection)
        self.place = self.whole.label()
        self._most = settings.changed({"trust": "data"}).answer_limit
        if self.hop.image is not None:
            self._spec["root"] = self._root_of(self.hop.image)

    def _root_of(self, image: str) -> str:
        """Have an image at the far end; on failure nothing stays open."""
        try:
            from outrider.sandboxed import images

            return images.send(Session(self.chain, self._options, self.connection), image)
        except BaseException:
            self.close()
            raise

    def limited(self, *, files: Files | None = None, **limits: Any) -> Sandbox:
        """The same far end with other limits: `box.limited(time="1s").run(...)`. To be closed is only the first one."""
        found = self._twin(self._options)
        hop = self.hop.replace(**limits)
        assert isinstance(hop, Hop)
        root = self._spec["root"]
        found.hop, found.whole, found._spec = hop, self.chain | hop, hop.spec()
        if hop.image is not None:
            found._spec["root"] = root if hop.image == self.hop.image else found._root_of(hop.image)
        found._given = {**self._given, **_named_in(hop), **(files or {})}
        return found

    def options(self, **changes: Any) -> Sandbox:
        """The same far end and limits with other options; see `Session.options`."""
        settings = super().options(**changes).settings
        _no_files(settings)
        return self._twin(settings)

    def over(self, connection: Connection) -> Sandbox:
        return self._twin(self._options, connection)

    def _twin(self, options: Options, connection: Connection | None = None) -> Sandbox:
        found = Sandbox.__new__(type(self))
        found.__dict__.update(vars(self))
        found._options, found._most = options, options.changed({"trust": "data"}).answer_limit
        found.connection = connection or self.connection
        found._shared = connection is None
        found._pool, found._futures, found._lock = None, set(), threading.Lock()
        if found.connection.lasting is not None:
            found.connection.lasting.sessions.add(found)
        return found

    # --- commands -----------------------------------------------------------------------------------------------

    def run(
        self,
        argv: Sequence[Argument] | str,
        *,
        stdin: Input | str = None,
        env: dict[str, str] | None = None,
        cwd: Argument | None = None,
        check: bool = False,
        timeout: float | None = None,
        on_output: OnOutput | None = None,
        tty: bool | tuple[int, int] = False,
        merge: bool = False,
        files: Files | None = None,
        collect: Iterable[str] = (),
    ) -> SandboxResult:
        """Run a command in a jail of its own, and say how it ended; see `Session.run` for what is not told here.

        check: raise CommandFailed unless the verdict is OK. files: {path inside: bytes, text, or the Path of a file or
        folder here} to put into its folder first. collect: paths inside to bring back. Raises Refused where no engine can
        hold what is asked for.
        """
        if tty:
            raise ConfigError(
                "a sandboxed command has no terminal",
                key="tty",
                hint="leave out tty; a shell can be had on the route before it",
            )
        command = self.command(argv, env, cwd)
        limit = self.timeout if timeout is None else timeout
        job = self.job(files, collect)
        more = {"merge": merge, "sandbox": job}
        request = self.start(command, stdin=stdin, timeout=limit, on_output=on_output, more=more)
        self.connection.wait(request, limit)
        return self.judged(command, request, job["outputs"], check)

    def start(self, command: Command, **more: Any) -> Request:
        request = super().start(command, **more)
        request.room = min(request.room, self._most)  # what it keeps here
        return request

    def program(
        self,
        argv: Sequence[Argument] | str,
        *,
        env: dict[str, str] | None = None,
        cwd: Argument | None = None,
        files: Files | None = None,
        collect: Sequence[str] = (),
    ) -> Program:
        """A command to be run in a jail of this sandbox by `outrider.interact`; the arguments are those of `run`."""
        return pairs.program(self, self.command(argv, env, cwd), files, collect)

    def command(
        self, argv: Sequence[Argument] | str, env: Mapping[str, str] | None, cwd: Argument | None
    ) -> Command:
        """A command with the options' variables, which are for what runs there."""
        words = ["sh", "-c", argv] if isinstance(argv, str) else argv
        return Command(words, {**self._options.env, **(env or {})}, cwd)

    def job(self, files: Files | None = None, collect: Iterable[str] = ()) -> dict[str, Any]:
        """What the far end is told of one job."""
        if isinstance(collect, str):
            raise ConfigError(
                "collect is a list of paths, not one text", key="collect", hint="collect=['out.txt']"
            )
        put = [list(each) for each in given.inputs({**self._given, **(files or {})})]
        return {
            **self._spec,
            "inputs": put,
            "outputs": list(dict.fromkeys([*self._spec["outputs"], *collect])),
        }

    def judged(
        self, command: Command, request: Request, asked: Sequence[str] = (), check: bool = False
    ) -> SandboxResult:
        """What a request for a job came to."""
        arrived = 0 if request.timed is None else tracing.clock()
        kind, _, segments = request.value
        if request.fault is not None:
            raise request.fault
        if kind == wire.RAISED:
            if arrived:
                tracing.answered(self.connection.traced_as, request, arrived, -1.0, "not started")
            raise self.refusal(calls.answer(segments, {"message": str, "start": int}))
        answer = calls.answer(segments, {"returncode": int, "duration": float}, self.answer_limit)
        result = SandboxResult(
            command.argv,
            status(answer),
            request.printed("stdout"),
            request.printed("stderr"),
            answer["duration"],
            self.far,
            **parsed(answer.get("sandbox"), asked),
        )
        if arrived:
            about = {"returncode": result.returncode, "bytes": len(result.stdout) + len(result.stderr)}
            tracing.answered(self.connection.traced_as, request, arrived, result.duration, "", about)
        if check and not result.ok:
            raise CommandFailed(
                f"{command.argv[0]}: {result.verdict}: {result.message}",
                completed=result,
                hop=self.place,
                hint="pass check=False to look at the verdict yourself",
            )
        return result

    def refusal(self, about: Mapping[str, Any]) -> OutriderError:
        """Why a job was not even begun."""
        if about.get("kind") == "SandboxRefused" or about["start"] == 125:
            message, _, going_on = about["message"].partition(GOING_ON)
            hint = "`outrider sandbox check` says what each engine can hold there"
            if "cannot work here" in message or "cannot be built" in message:
                hint += f"; {IN_A_CONTAINER}"
            if going_on:
                hint += f"; to go on without: allow_missing={going_on}"
            return Refused(message, hop=self.place, hint=hint)
        error = RouteError(f"cannot start: {about['message']}", hop=self.place, hint="check the arguments")
        error.returncode = about["start"]
        return error

    # --- calls --------------------------------------------------------------------------------------------------

    def jail(self) -> Jail:
        """A jail for calls, not yet opened."""
        settings = self._options.changed({"trust": "data", "cwd": None, "reconnect": 0})
        job = self.job()
        limits = dict(job["limits"])
        output = limits["output"]
        if output is not None:  # its answers travel there, too
            limits["output"] += settings.answer_limit
        return Jail(self, settings, {**job, "limits": limits}, output)

    @contextlib.contextmanager
    def inside(self) -> Iterator[Session]:
        """A session with one far end in one jail, for many calls that may know of each other.

        Raises SandboxEnded where the jail ended it.
        """
        jail = self.jail()
        with jail.blamed(), jail.session() as session:
            yield session

    def call(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Call a function in a jail of its own; its value comes back as plain data, see `register_data`.

        Raises FarError for what it raised, and SandboxEnded if the jail ended it.
        """
        calls.check_function(fn)
        return self._called(self.jail(), fn, args, kwargs)

    def _called(self, jail: Jail, fn: Callable[..., T], args: Sequence[Any], kwargs: Mapping[str, Any]) -> T:
        value = jail.run(lambda session: session.call(fn, *args, **kwargs))
        return JailedGenerator(value, jail) if isinstance(value, FarGenerator) else value  # type: ignore[return-value]

    def call_detailed(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> CompletedCall:
        """As `call`, with what it printed, how long it took, and as a SandboxCall what its jail used."""
        calls.check_function(fn)
        jail = self.jail()
        done: list[CompletedCall] = []

        def work(session: Session) -> Any:
            done.append(session.call_detailed(fn, *args, **kwargs))
            return done[0].value

        value = jail.run(work)
        fields = None
        if isinstance(value, FarGenerator):  # it goes on, and so does its jail
            value = JailedGenerator(value, jail)
        else:
            fields = jail.report(2.0)
        return SandboxCall(**{**vars(done[0]), "value": value}, **(fields or {}))

    def invoke_detailed(self, subject: Any, method: str, *args: Any, **more: Any) -> CompletedCall:
        """See `Session.invoke_detailed`; in a jail of its own."""
        with self.inside() as session:
            return session.invoke_detailed(subject, method, *args, **more)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call in the background, as many at once as there are processors here. Cancelling the future ends the jail."""
        calls.check_function(fn)
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(os.cpu_count() or 2, thread_name_prefix=THREADS)
            return self._submitted(self._pool, fn, args, kwargs)

    def _submitted(
        self, pool: ThreadPoolExecutor, fn: Callable[..., T], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> SandboxFuture[T]:
        future: SandboxFuture[T] = SandboxFuture()
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        pool.submit(future.work, self.jail, lambda jail: self._called(jail, fn, args, kwargs))
        return future

    def map(self, fn: Callable[..., T], /, *iterables: Iterable[Any], at_once: int = 8) -> Iterator[T]:
        """Values in order, each of a jail of its own, `at_once` of them side by side."""
        calls.check_function(fn)
        pool = ThreadPoolExecutor(at_once, thread_name_prefix=THREADS)
        futures: deque[SandboxFuture[T]] = deque()
        try:
            for args in zip(*iterables, strict=False):
                futures.append(self._submitted(pool, fn, args, {}))
                if len(futures) >= at_once:
                    yield futures.popleft().result()
            while futures:
                yield futures.popleft().result()
        finally:
            for future in futures:
                future.cancel()
            pool.shutdown(cancel_futures=True)

    def closing_after(self, value: T) -> T:
        if isinstance(value, JailedGenerator):
            value.then(self.close)
        else:
            self.close()
        return value

    # --- what a sandbox has not ---------------------------------------------------------------------------------

    def put(self, *_: Any, **__: Any) -> Never:
        raise self._nothing_stays("files=", "ro= shows them what is there")

    def get(self, *_: Any, **__: Any) -> Never:
        raise self._nothing_stays("collect=", "`run(...).outputs` has their contents")

    def _nothing_stays(self, option: str, more: str) -> Refused:
        return Refused(
            "no file stays in a sandbox: each job has its own",
            hop=self.place,
            hint=f"{option} names the files that go with a job; {more}; the route before the sandbox copies files there",
        )

    def debug(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Never:
        raise Refused(
            "there is no debugger in a sandbox",
            hop=self.place,
            hint="debug it on the route before the sandbox",
        )

    def close(self) -> None:
        """End all jobs, and the far end; safe to call again."""
        with self._lock:
            pool, self._pool = self._pool, None
        for future in list(self._futures):
            future.cancel()
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
        if not self._shared:
            super().close()
        if pool is not None and not threading.current_thread().name.startswith(THREADS):
            pool.shutdown()


def _split(route: Chain | Hop | str | None, limits: Mapping[str, Any]) -> tuple[Any, Hop]:
    """The way to the sandbox, and the sandbox itself."""
    chain: Chain = route if isinstance(route, Chain) else Chain() if route is None else Chain() | route
    hop = chain.hops[-1] if chain.hops and isinstance(chain.hops[-1], Hop) else None
    before = chain.prefix(len(chain.hops) - 1) if hop is not None else chain
    found = hop.replace(**limits) if hop is not None else Hop(**limits)
    assert isinstance(found, Hop)
    return before, found


def _no_files(settings: Options) -> None:
    for option, instead in (("push", "files="), ("pull", "collect=")):
        if getattr(settings, option):
            raise ConfigError(
                f"{option}= copies files to stay, and none stays in a sandbox",
                hop="sandbox",
                key=option,
                hint=f"{instead} names the files that go with a job",
            )


def _named_in(hop: Hop) -> dict[str, Path]:
    return {inside: Path(here).expanduser() for inside, here in dict(hop.files).items()}

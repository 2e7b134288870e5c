"""Sandbox: a far end where each command, and each call, runs in a jail of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from outrider import calls
from outrider.carried import CarriedOpening, CarriedProcess
from outrider.chain import Chain
from outrider.command import Argument, Command
from outrider.connection import Connection
from outrider.errors import (
    CommandFailed,
    ConfigError,
    Lost,
    OutriderError,
    Refused,
    RouteError,
    SandboxEnded,
    TimedOut,
)
from outrider.far import wire
from outrider.hops.sandbox import Sandbox as Hop
from outrider.options import OnOutput, Options
from outrider.request import Request
from outrider.results import CompletedCall
from outrider.sandboxed.result import SandboxResult, parsed
from outrider.session import Input, Session

T = TypeVar("T")
Files = Mapping[str, "bytes | str | os.PathLike[str]"]


class Sandbox(Session):
    """What a route that ends with `sandbox(...)` opens: a session in which every command and every call has its own jail.

    >>> with Sandbox(time="2s", memory="256M") as box:
    ...     box.run(["python3", "-c", "print(1)"]).verdict
    'OK'

    `route`: where; this machine without one. The limits are those of the hop `sandbox`. Nothing from inside is trusted:
    values come back as plain data, and what ends a call instead of its value is told by SandboxEnded.
    """

    def __init__(
        self,
        route: Chain | Hop | str | None = None,
        *,
        options: Options | None = None,
        outer: Session | None = None,
        **limits: Any,
    ) -> None:
        chain, hop = _split(route, limits)
        self.whole = chain | hop
        self.hop = hop
        self._spec = hop.spec()
        self._files_in = {inside: Path(here) for inside, here in dict(hop.files).items()}
        settings = options or getattr(chain, "settings", None) or Options()
        super().__init__(chain, settings, outer.connection if outer is not None else None)
        self._outer = outer is not None
        self._pool: ThreadPoolExecutor | None = None
        self.place = self.whole.label()
        if hop.image is not None and outer is None:
            try:
                from outrider.sandboxed.images import send

                self._spec["root"] = send(self, hop.image)
            except BaseException:
                self.close()
                raise

    def limited(self, **limits: Any) -> Sandbox:
        """The same far end with other limits: `box.limited(time="1s").run(...)`."""
        hop = self.hop.replace(**limits)
        assert isinstance(hop, Hop)
        found = Sandbox(self.chain | hop, options=self._options, outer=self)
        if hop.image is not None:
            found._spec["root"] = self._spec["root"]
        return found

    def options(self, **changes: Any) -> Sandbox:
        """The same far end and limits with other options."""
        settings = super().options(**changes).settings
        found = Sandbox(self.chain | self.hop, options=settings, outer=self)
        found._spec["root"] = self._spec["root"]
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

        check: raise CommandFailed unless the verdict is OK. files: {path inside: bytes, text, or the Path of a file here} to
        put into its folder first. collect: paths inside to bring back.
        """
        if tty:
            raise ConfigError("a sandboxed command has no terminal", key="tty", hint="leave out tty")
        command = Command(["sh", "-c", argv] if isinstance(argv, str) else argv, env, cwd)
        limit = self.timeout if timeout is None else timeout
        more = {"merge": merge, "sandbox": self._job(files, collect)}
        request = self.start(command, stdin=stdin, timeout=limit, on_output=on_output, more=more)
        self.connection.wait(request, limit)
        return self._judged(command, request, check)

    def _job(self, files: Files | None, collect: Iterable[str]) -> dict[str, Any]:
        """What the far end is told of one job."""
        if isinstance(collect, str):
            raise ConfigError("collect is a list of paths, not one text", key="collect")
        given = {**self._files_in, **(files or {})}
        inputs = [[inside, *_contents(inside, content)] for inside, content in given.items()]
        return {**self._spec, "inputs": inputs, "outputs": [*self._spec["outputs"], *collect]}

    def _judged(self, command: Command, request: Request, check: bool) -> SandboxResult:
        kind, _, segments = request.value
        if request.fault is not None:
            raise request.fault
        if kind == wire.RAISED:
            raise self._refused(calls.answer(segments, {"message": str, "start": int}))
        answer = calls.answer(segments, {"returncode": int, "duration": float})
        result = SandboxResult(
            command.argv,
            answer["returncode"],
            request.printed("stdout"),
            request.printed("stderr"),
            answer["duration"],
            self.far,
            **parsed(answer.get("sandbox")),
        )
        if check and not result.ok:
            raise CommandFailed(
                f"{command.argv[0]}: {result.verdict}: {result.message}",
                completed=result,
                hop=self.place,
                hint="pass check=False to look at the verdict yourself",
            )
        return result

    def _refused(self, about: Mapping[str, Any]) -> OutriderError:
        if about.get("kind") == "SandboxRefused" or about["start"] == 125:
            return Refused(
                about["message"],
                hop=self.place,
                hint="`outrider sandbox check` says what each engine can hold there",
            )
        error = RouteError(f"cannot start: {about['message']}", hop=self.place, hint="check the arguments")
        error.returncode = about["start"]
        return error

    # --- calls --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def inside(self) -> Iterator[Session]:
        """A session with one far end in one jail, for many calls that may know of each other.

        Raises SandboxEnded where the jail ended it.
        """
        settings = self._options.changed(
            {"trust": "data", "push": (), "pull": (), "cwd": None, "reconnect": 0}
        )
        spec = self._job(None, ())
        limits = dict(spec["limits"])
        if limits["output"] is not None:  # its answers travel there, too
            limits["output"] += settings.answer_limit
        attempt = _Jailed(self, self.whole, settings, {"sandbox": {**spec, "limits": limits}})
        try:
            session = Session(self.whole, settings, Connection(self.whole, settings, attempt))
            try:
                yield session
            finally:
                session.close()
        except (Lost, TimedOut, RouteError) as error:
            ended = self._ended(attempt)
            if ended is None:
                raise
            raise ended from error

    def _ended(self, attempt: _Jailed) -> OutriderError | None:
        """What ended a call's jail, if that is known and was not its own end."""
        process = attempt.carried
        if process is None or not process.ended_within(2.0):
            return None
        if process.refused is not None:
            return self._refused(process.refused)
        report = process.answer.get("sandbox")
        if report is None:
            return None
        fields = parsed(report)
        if fields["verdict"] == "OK" or fields["message"] == "it was cancelled":
            return None
        return SandboxEnded(
            f"{fields['verdict']}: {fields['message']}",
            verdict=fields["verdict"],
            usage=fields["usage"],
            engine=fields["engine"],
            hop=self.place,
        )

    def call(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Call a function in a jail of its own; its value comes back as plain data, see `register_data`.

        Raises what it raised, as FarError where the type is none of Python's own, and SandboxEnded if the jail ended it.
        """
        with self.inside() as session:
            return session.call(fn, *args, **kwargs)

    def call_detailed(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> CompletedCall:
        """As `call`, with what it printed and how long it took."""
        with self.inside() as session:
            return session.call_detailed(fn, *args, **kwargs)

    def invoke_detailed(self, subject: Any, method: str, *args: Any, **more: Any) -> CompletedCall:
        """See `Session.invoke_detailed`; in a jail of its own."""
        with self.inside() as session:
            return session.invoke_detailed(subject, method, *args, **more)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call in the background, in a jail of its own."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(os.cpu_count() or 2, thread_name_prefix="outrider-sandbox")
        return self._pool.submit(self.call, fn, *args, **kwargs)

    def map(self, fn: Callable[..., T], /, *iterables: Iterable[Any], at_once: int = 8) -> Iterator[T]:
        """Values in order, each of a jail of its own, `at_once` of them side by side."""
        with ThreadPoolExecutor(at_once, thread_name_prefix="outrider-sandbox") as pool:
            yield from pool.map(lambda args: self.call(fn, *args), zip(*iterables, strict=False))

    def debug(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        raise Refused(
            "there is no debugger in a sandbox",
            hop=self.place,
            hint="debug it on the route before the sandbox",
        )

    def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
        if not self._outer:
            super().close()
        if pool is not None:
            pool.shutdown()


class _Jailed(CarriedOpening):
    """Opens the far end of a call in its jail."""

    carried: CarriedProcess | None = None

    def _start(self) -> CarriedProcess:
        process = super()._start()
        assert isinstance(process, CarriedProcess)
        self.carried = process
        return process


def _split(route: Chain | Hop | str | None, limits: Mapping[str, Any]) -> tuple[Any, Hop]:
    """The way to the sandbox, and the sandbox itself."""
    chain: Chain = route if isinstance(route, Chain) else Chain() if route is None else Chain() | route
    hop = chain.hops[-1] if chain.hops and isinstance(chain.hops[-1], Hop) else None
    before = chain.prefix(len(chain.hops) - 1) if hop is not None else chain
    if any(isinstance(other, Hop) for other in before.hops):
        raise ConfigError(
            "a sandbox is the last hop of a route", hop="sandbox", hint="leave out what stands after it"
        )
    found = hop.replace(**limits) if hop is not None else Hop(**limits)
    assert isinstance(found, Hop)
    return before, found


def _contents(inside: str, content: object) -> tuple[bytes, int]:
    """Contents and mode of a file that goes into a jail."""
    if isinstance(content, os.PathLike):
        path = Path(content)
        try:
            return path.read_bytes(), 0o755 if os.access(path, os.X_OK) else 0o644
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}", hop="sandbox", key="files") from error
    if isinstance(content, str):
        content = content.encode()
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise ConfigError(
            f"{inside} is to be bytes, text or a Path, not {type(content).__name__}",
            hop="sandbox",
            key="files",
        )
    return bytes(content), 0o755 if bytes(content[:2]) == b"#!" or bytes(content[:4]) == b"\x7fELF" else 0o644

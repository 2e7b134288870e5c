"""What the verbs share: routes as arguments, errors as exit codes, Ctrl-C, and how things are printed."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any, NoReturn

import click

from outrider.cli import traced

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from outrider.route import Route
    from outrider.session import Session

    TextParameter = click.ParamType[str]
else:  # no generic class before click 8.4
    TextParameter = click.ParamType

INTERRUPTED = 130
OURS = 125
OUTPUT_GONE = 128 + signal.SIGPIPE


class OutputGone(BaseException):
    """Nobody reads our output any more. Not an Exception, so that it ends the wait for what still prints."""


class RouteType(TextParameter):
    """A route's text or name; completes the names that are configured."""

    name = "route"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from outrider.config import Config
        from outrider.errors import OutriderError
        from outrider.hops import registry

        try:
            names = Config.load().route_names()
        except OutriderError:  # a broken configuration is told when something is run, not while typing
            names = []
        known = dict.fromkeys(names, "configured route")
        known.update((name, "hop") for name in registry.names() if incomplete)
        fitting = sorted(name for name in known if name.startswith(incomplete))
        return [CompletionItem(name, help=known[name]) for name in fitting]


class MembersType(RouteType):
    """A route, a range of them, or a configured group; completes groups too."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from outrider.config import Config
        from outrider.errors import OutriderError

        try:
            groups = Config.load().group_names()
        except OutriderError:
            groups = []
        found = [CompletionItem(name, help="group") for name in groups if name.startswith(incomplete)]
        return found + super().shell_complete(ctx, param, incomplete)


ROUTE = RouteType()
MEMBERS = MembersType()


# What may begin with - and yet be no option of ours, by the parameter that takes it.
_BEHIND = {
    "argv": "If it belongs to the command, put -- before the command.",
    "args": "If it is an argument of the function, put -- before its arguments.",
    "items": "If it is an item, put -- before the items.",
}


class Verb(click.Command):
    """A verb whose errors become exit codes and plain words, and whose Ctrl-C cancels."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["behind --"] = tuple(args[args.index("--") + 1 :]) if "--" in args else None
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            hint = next(
                (hint for name, hint in _BEHIND.items() if any(p.name == name for p in self.params)), ""
            )
            if not hint:
                raise
            raise click.UsageError(f"{error.format_message()} {hint}", ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        with errors_told(), Interrupts(), traced.as_asked(ctx):
            return super().invoke(ctx)


def verb(*args: Any, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Decorates a function as the verb of its module."""
    return click.command(*args, cls=Verb, **settings)


# --- Ctrl-C and errors --------------------------------------------------------------------------------------


class Interrupts:
    """The first Ctrl-C cancels what runs and says so; the second leaves at once.

    Leaving at once closes the stream, on which the far end ends all that still runs there.
    """

    place = ""

    def __enter__(self) -> None:
        self.pressed = 0
        # Ignored already: we run behind a shell's & or under nohup, and stay that way.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._pressed)

    def __exit__(self, *_: object) -> None:
        if signal.getsignal(signal.SIGINT) == self._pressed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _pressed(self, *_: object) -> None:
        self.pressed += 1
        if self.pressed > 1:
            os._exit(INTERRUPTED)
        where = f" at {Interrupts.place}" if Interrupts.place else ""
        os.write(2, f"\noutrider: cancelling{where} … press again to leave at once\n".encode())
        raise KeyboardInterrupt


@contextmanager
def errors_told() -> Iterator[None]:
    """Every error as its text on stderr and its exit code; a traceback only if OUTRIDER_DEBUG=1."""
    from outrider.errors import OutriderError

    try:
        yield
        sys.stdout.flush()
    except (click.ClickException, click.exceptions.Exit, SystemExit):
        raise
    except (OutputGone, BrokenPipeError):
        _drop_stdout()
        raise SystemExit(OUTPUT_GONE) from None
    except KeyboardInterrupt as error:
        fail(error, "\n".join(getattr(error, "__notes__", [])), INTERRUPTED)
    except OutriderError as error:
        fail(error, in_words_of_ours(str(error)), error.exit_code)
    except BaseException as error:
        told = f"{type(error).__name__}: {error}"
        fail(error, f"{told}\nhint: this is a fault of Outrider's own; OUTRIDER_DEBUG=1 shows where", OURS)


# Hints are worded for Python; here somebody types words.
_WORDED = (
    (r"\btotal_timeout=SECONDS", "--total-timeout SECONDS"),
    (r"\bopen_timeout=SECONDS", "open_timeout = SECONDS under [defaults] in the configuration"),
    (r"\btimeout=SECONDS", "--timeout SECONDS"),
    (r"\bat_once=", "--at-once"),
    (
        r"set time= or wall= for both: .*",
        "--time or --wall sets one for both, --referee-wall for the referee",
    ),
    (r"\ballow_missing=\[(.*)\]", r"--allow-missing NAME, for each of \1"),
    (r"\bstop_after=", "--stop-after"),
    (r"end it with cancel\(\)", "end it with `outrider cancel`"),
    (r"route\.options\(python=('[^']*')\)", r"python = \1 under [defaults] in the configuration"),
)


def in_words_of_ours(message: str) -> str:
    """An error's text with the hint's Python replaced by what the command line has for it."""
    before, sign, hint = message.rpartition("\nhint: ")
    for pattern, words in _WORDED if sign else ():
        hint = re.sub(pattern, words, hint)
    return before + sign + hint


def fail(error: BaseException, message: str, code: int) -> NoReturn:
    """Tell an error and leave with `code`."""
    if os.environ.get("OUTRIDER_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    if message:
        say(f"outrider: {message}")
    raise SystemExit(code) from None


def call_failed(error: Exception) -> NoReturn:
    """Tell what the called function raised, as its far traceback, and leave with 1, as Python does."""
    fail(error, told_of_call(error), 1)


def told_of_call(error: BaseException) -> str:
    """What the called function raised, with its far traceback."""
    from outrider.errors import FarError

    notes = getattr(error, "__notes__", [])
    own = str(error) if isinstance(error, FarError) else f"{type(error).__name__}: {error}"
    return "\n".join(["the function raised " + own, *notes])


def raised_there(error: BaseException) -> bool:
    """True for what the called function itself raised, as opposed to what went wrong on the way."""
    from outrider.errors import FarError

    notes = getattr(error, "__notes__", [])
    return isinstance(error, FarError) or any(note.startswith("raised at the far end") for note in notes)


def _drop_stdout() -> None:
    """Whatever is still buffered goes nowhere, so that Python does not complain at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


# --- printing -----------------------------------------------------------------------------------------------


def colours(stream: Any) -> bool:
    """Colours only on a terminal, and never with NO_COLOR."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def styled(text: str, stream: Any = None, **style: Any) -> str:
    return click.style(text, **style) if colours(stream or sys.stdout) else text


def say(message: str) -> None:
    """A message for the person, on stderr."""
    click.echo(message, err=True, color=None if colours(sys.stderr) else False)


def print_json(value: Any, file: Any = None) -> None:
    """One line of JSON; what JSON cannot hold is shown as Python writes it."""
    click.echo(as_json(value), file=file)


def as_json(value: Any) -> str:
    shown = jsonable(value)
    if shown is not value and isinstance(shown, str):
        return shown
    # JSON itself escapes what is below the blank; these steer some terminals too.
    return re.sub(
        "[\x7f-\x9f\u2028-\u202e]", lambda c: f"\\u{ord(c[0]):04x}", json.dumps(value, ensure_ascii=False)
    )


def jsonable(value: Any) -> Any:
    """`value`, or as Python writes it where JSON cannot hold it."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return repr(value)
    return value


# --- arguments ----------------------------------------------------------------------------------------------


def value_of(text: str, as_text: bool, hint: str = "") -> Any:
    """An argument as JSON, or as it is where `--text` allows that."""
    try:
        return json.loads(text)
    except ValueError:
        if as_text:
            return text
        raise click.UsageError(
            f"{text!r} is not JSON: write '{json.dumps(text)}' for a text, or add --text{hint}"
        ) from None


def pairs(items: tuple[str, ...], option: str) -> dict[str, str]:
    """NAME=VALUE words as a mapping."""
    found = {}
    for item in items:
        name, sign, value = item.partition("=")
        if not sign or not name:
            raise click.UsageError(f"{option} takes NAME=VALUE, not {item!r}")
        found[name] = value
    return found


def function(text: str) -> Callable[..., Any]:
    """`module:function` as the function; a wrong name is a usage error."""
    from outrider.errors import Unserializable
    from outrider.near import calls

    try:
        return calls.function_of(text)
    except Unserializable as error:
        raise click.UsageError(str(error)) from None


def call_of(
    text: str, args: tuple[str, ...], kw: tuple[str, ...], as_text: bool
) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
    """A function with its arguments and keywords, from the words that tell them."""
    keywords = {name: value_of(item, as_text) for name, item in pairs(kw, "--kw").items()}
    named = "; a keyword argument is --kw NAME=VALUE"
    values = [value_of(item, as_text, named if "=" in item else "") for item in args]
    return function(text), values, keywords


def lines_in() -> Iterator[str]:
    """The lines on stdin that are not empty."""
    return (line for line in map(str.strip, sys.stdin) if line)


# --- routes and sessions ------------------------------------------------------------------------------------


def route_of(text: str, **options: Any) -> Route:
    """The route that the user named, with those of the options that were given."""
    from outrider.route import Route

    route = Route.named(text)
    Interrupts.place = route.label()
    return route.options(**{name: value for name, value in options.items() if value is not None})


@contextmanager
def open_for_calls(route: Route) -> Iterator[Session]:
    """A session whose functions' output goes to stderr, labelled, so that stdout holds results alone."""
    with redirect_stdout(sys.stderr), route.open() as far:
        yield far

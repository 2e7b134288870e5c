"""The conformance suite for hops: `check_hop(hop)` in a test of yours says what a route will rely on.

    from outrider.testing import check_hop, run_here

    def test_it():
        check_hop(shout("loud"))                  # all that needs no other machine
        check_hop(shout("loud"), run=run_here)    # and, where its program is at hand, real commands through it

A failed check raises AssertionError, which says what the hop must do and what it did.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from outrider import text as _text
from outrider.command import Command
from outrider.errors import ConfigError
from outrider.hops import registry
from outrider.hops.base import Hop, Prompt
from outrider.hops.local import Local
from outrider.hops.options import given, options_of

Run = Callable[[Command, bytes], tuple[int, bytes]]
"""Runs a command here with some stdin: its exit code and stdout."""

NASTY_WORDS = (
    "",
    " ",
    "two words",
    "it's",
    'a "quote"',
    "$HOME",
    "`id`",
    "$(id)",
    "*",
    "?[a-z]",
    "back\\slash",
    "line\nline",
    "end\n",
    "tab\there",
    "-n",
    "--",
    "--help",
    "; exit 3",
    "a|b&c>d<e",
    "!history",
    "~",
    "{a,b}",
    "a=b",
    "%s%%",
    "#no comment",
    "ünïcödé 漢字",
    "\udcff\udc80 not UTF-8",
    "\x01\x7f",
)
"""Arguments that a careless hop would change on the way."""

_VARIABLE = "OUTRIDER_CHECK"
_MARK = "outrider-check:"
# What the probe prints, each with a NUL behind it: a mark, the folder, the variable, every argument, and its stdin.
_PROBE = f"""printf '%s\\0' "{_MARK}" "$PWD" "${{{_VARIABLE}-unset}}" "$#" "$@"; cat; exit 7"""
_NOISE = (
    "",
    "Welcome to example.edu!\nLast login: Mon Jan  1 00:00:00 2024 from 192.0.2.1\n",
    'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\nValueError: 3\n',
    "warning: this is only a warning\n",
)


def check_hop(hop: Hop, *, run: Run | None = None, folder: str = "/tmp", installed: bool = True) -> None:
    """Check all that routes rely on in `hop`, a hop with the options that you like to see tested.

    `run`: also send commands through it, with `run_here` as real processes of this machine; `folder` must exist
    where it leads. `installed=False`: the hop is not (yet) to be found by name through its entry point.
    """
    _check_class(type(hop), installed)
    _check_options(hop)
    _check_value(hop)
    _check_wrap(hop)
    _check_no_io(hop)
    _check_variants(hop)
    _check_diagnose(hop)
    _check_forms(hop, installed)
    if run is not None:
        check_run(hop, run, folder)


def run_here(command: Command, stdin: bytes) -> tuple[int, bytes]:
    """Runs `command` as a process of this machine; for `check_hop(..., run=run_here)`."""
    done = subprocess.run(
        [os.fsencode(word) for word in command.argv],
        input=stdin,
        stdout=subprocess.PIPE,
        cwd=command.cwd,
        env={**os.environ, **command.env},
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


def _require(condition: object, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _check_class(kind: type[Hop], installed: bool) -> None:
    name = kind.__qualname__
    _require(
        "__dataclass_params__" in kind.__dict__,
        f"{name} must be a dataclass",
    )
    _require(kind.__dict__["__dataclass_params__"].frozen, f"{name} must be frozen: @dataclass(frozen=True)")
    for word in (kind.name, *kind.aliases):
        _require(
            re.fullmatch(r"[a-z][a-z0-9_-]*", word),
            f"{name} has no valid name: {word!r} (lower case, digits, _ and -)",
        )
    if installed:
        _require(
            registry.known(kind.name) and registry.find(kind.name) is kind,
            f"{kind.name!r} does not lead to {name}: name it in the entry-point group {registry.GROUP} and install",
        )


def _check_options(hop: Hop) -> None:
    kind, options = type(hop), options_of(type(hop))
    for name in (*kind.positional, *filter(None, (kind.gathers,))):
        _require(name in options, f"{kind.name}: {name!r} in positional or gathers is no option")
    own_words = kind.__doc__ or ""
    _require(not own_words.startswith(f"{kind.__name__}("), f"{kind.name}: write a docstring for users")
    for option in options.values():
        _require(
            re.search(rf"\b{option.name}\b", own_words),
            f"{kind.name}: the docstring must tell of the option {option.name!r}",
        )
        _require(
            "any" not in option.kinds,
            f"{kind.name}: routes cannot write down what the option {option.name!r} takes",
        )
        _require(option.name != "hop", f"{kind.name}: 'hop' means the hop's name in a configuration")


def _check_value(hop: Hop) -> None:
    for option in options_of(type(hop)):
        try:
            setattr(hop, option, None)
        except dataclasses.FrozenInstanceError:
            continue
        raise AssertionError(f"{hop.name}: the option {option} can be changed")
    twin = hop.replace()
    _require(
        twin == hop and hash(twin) == hash(hop),
        f"{hop.name}: two with the same options must be equal, with one hash",
    )
    _require(
        hop != Local() or type(hop) is Local,
        f"{hop.name}: equal to another kind of hop",
    )


def _check_forms(hop: Hop, installed: bool) -> None:
    if any(callable(value) for value in given(hop).values()):
        return  # a function as an option can be neither written down nor sent
    _require(
        pickle.loads(pickle.dumps(hop)) == hop,  # noqa: S301 - its own pickle
        f"{hop.name}: pickled and unpickled it is another",
    )
    made = eval(repr(hop), {hop.name: type(hop)})  # noqa: S307 - the repr of a hop that the test made
    _require(made == hop, f"{hop.name}: repr must be the Python that makes it, not {hop!r}")
    if installed:
        text = _text.render([hop])
        _require(
            _text.parse(text) == (hop,), f"{hop.name}: its text {text!r} makes another: {_text.parse(text)}"
        )
        tables = _text.to_config([hop])
        _require(_text.from_config(tables) == (hop,), f"{hop.name}: its table {tables} makes another")


def _commands() -> list[Command]:
    probe = ("sh", "-c", _PROBE, "sh")
    more = [
        ("a b",),
        ("a", "b"),
        ("a", "", "b"),
        ("a b", ""),
        ("a\nb",),
        ("'a' b",),
        ("$a",),
        ("-a",),
        NASTY_WORDS,
    ]
    return [
        Command(("true",)),
        *(Command((*probe, *words)) for words in more),
        Command(("true",), {_VARIABLE: "one"}),
        Command(("true",), {_VARIABLE: "two words\nand 'more' $HOME"}),
        Command(("true",), cwd="/outrider/check"),
        Command(("true",), {_VARIABLE: "one"}, "/tmp/with space"),
        Command(("true",), cwd="relative/-folder"),
    ]


def _wrapped(hop: Hop, command: Command) -> Command | None:
    """What the hop makes of it; None if it openly refuses (a relay carries nothing but the far end)."""
    try:
        return hop.wrap(command)
    except ConfigError:
        return None


def _check_wrap(hop: Hop) -> None:
    seen: dict[Command, Command] = {}
    for command in _commands():
        before = (command.argv, dict(command.env), command.cwd)
        first, second = _wrapped(hop, command), _wrapped(hop, command)
        _require(
            first == second, f"{hop.name}: wrap must be pure; the same command gave {first} and then {second}"
        )
        _require(
            before == (command.argv, dict(command.env), command.cwd),
            f"{hop.name}: wrap changed the command given",
        )
        if first is None:
            continue
        _require(isinstance(first, Command), f"{hop.name}: wrap must return a Command, not {first!r}")
        _require(
            first not in seen, f"{hop.name}: wrap makes no difference between {command} and {seen.get(first)}"
        )
        seen[first] = command


_watch = threading.local()
_EVENTS = re.compile(
    r"open|os\.(system|exec|fork|spawn|posix_spawn|listdir|scandir|mkdir|remove)|subprocess\.|socket\.|shutil\."
)


def _hook(event: str, _: Any) -> None:
    if getattr(_watch, "seen", None) is not None and _EVENTS.match(event):
        _watch.seen.append(event)


def _check_no_io(hop: Hop) -> None:
    if not getattr(check_hop, "_hooked", False):  # a hook stays for good, so there is one only
        sys.addaudithook(_hook)
        check_hop._hooked = True  # type: ignore[attr-defined]
    with _bare_environment():
        _watch.seen = []
        try:
            for command in _commands():
                _require(_wrapped(hop, command) == _wrapped(hop, command), f"{hop.name}: wrap must be pure")
            alone = [_wrapped(hop, command) for command in _commands()]
        finally:
            events, _watch.seen = _watch.seen, None
    _require(not events, f"{hop.name}: a hop does no I/O, but wrap did: {', '.join(sorted(set(events)))}")
    _require(
        alone == [_wrapped(hop, command) for command in _commands()],
        f"{hop.name}: wrap must not look at the environment",
    )


@contextlib.contextmanager
def _bare_environment() -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    try:
        yield
    finally:
        os.environ.update(before)


def _check_variants(hop: Hop) -> None:
    for change in ("here", "with_terminal", "traced"):
        once = getattr(hop, change)()
        _require(type(once) is type(hop), f"{hop.name}: {change}() must give the same kind of hop")
        _require(getattr(once, change)() == once, f"{hop.name}: {change}() twice must be as once")
    _require(
        all(isinstance(prompt, Prompt) for prompt in hop.prompts()), f"{hop.name}: prompts() gives Prompts"
    )
    _require(
        all(phase and re.compile(pattern).pattern for pattern, phase in hop.tells),
        f"{hop.name}: tells holds patterns, each with the name of a phase",
    )
    settings = hop.settings()
    _require(
        set(settings) <= {"env", "cwd", "tempdir"},
        f"{hop.name}: settings() knows env, cwd and tempdir, not {settings}",
    )
    _require(hop.changes_only or not settings, f"{hop.name}: only a hop that changes_only has settings()")


def _check_diagnose(hop: Hop) -> None:
    for noise in _NOISE:
        for returncode in (None, 0, 1):
            found = hop.diagnose(noise, returncode)
            _require(
                found is None,
                f"{hop.name}: diagnose must blame itself only for what it caused, not for {noise!r}",
            )
    missing = hop.diagnose(f"sh: 1: {getattr(hop, 'program', 'no-such-program')}: not found\n", 127)
    if hasattr(hop, "program"):
        _require(missing is not None, f"{hop.name}: diagnose must tell when its own program is not there")
    if missing is not None:
        _require(
            missing.message and missing.hint,
            f"{hop.name}: a diagnosis has message and hint",
        )


def check_run(hop: Hop, run: Run, folder: str = "/tmp") -> None:
    """Send commands through the hop: words, variable, folder, stdin and exit code must arrive as they were."""
    stdin = bytes(range(256)) * 300
    value = "two words, a comma;\n'quotes' \"and\" $HOME \\ ünï"
    status, folder_seen, value_seen, words, rest = probe(
        hop, run, NASTY_WORDS, {_VARIABLE: value}, folder, stdin
    )
    _require(
        words == NASTY_WORDS,
        f"{hop.name}: arguments arrived changed:\n  {words}\n  instead of\n  {NASTY_WORDS}",
    )
    _require(value_seen == value, f"{hop.name}: a variable arrived as {value_seen!r} instead of {value!r}")
    _require(folder_seen == folder, f"{hop.name}: it ran in {folder_seen!r} instead of {folder!r}")
    _require(rest == stdin, f"{hop.name}: {len(stdin)} bytes on stdin arrived changed, as {len(rest)}")
    _require(status == 7, f"{hop.name}: the command ended with 7, but {status} came back")
    traced = hop.traced()
    if traced != hop:
        again = probe(traced, run, NASTY_WORDS, {_VARIABLE: value}, folder, stdin)
        _require(
            again == (status, folder_seen, value_seen, words, rest),
            f"{hop.name}: traced() must lead to the same place, with the same words, variables and stdin",
        )
    plain = probe(hop, run, ("plain",), {}, None, b"")
    _require(
        plain[2] in ("unset", dict(given(hop).get("variables", {})).get(_VARIABLE)),
        f"{hop.name}: a variable came from nowhere",
    )


def probe(
    hop: Hop, run: Run, words: tuple[str, ...], env: dict[str, str], folder: str | None, stdin: bytes
) -> tuple[int, str, str, tuple[str, ...], bytes]:
    """Run a small program through the hop: its exit code, folder, variable, arguments and stdin as it saw them."""
    status, output = run(hop.wrap(Command(("sh", "-c", _PROBE, "sh", *words), env, folder)), stdin)
    _, found, said = output.rpartition(os.fsencode(_MARK) + b"\0")
    _require(found, f"{hop.name}: nothing ran; exit code {status}, stdout {output[-400:]!r}")
    seen_folder, seen_value, count, said = said.split(b"\0", 3)
    parts = said.split(b"\0", int(count))
    _require(len(parts) == int(count) + 1, f"{hop.name}: stdout was cut short")
    *arguments, rest = parts
    return status, os.fsdecode(seen_folder), os.fsdecode(seen_value), tuple(map(os.fsdecode, arguments)), rest

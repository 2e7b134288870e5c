"""What a hop is: a frozen set of options and a pure function from the command to run there to the one to run here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from outrider.command import Argument, Command
from outrider.hops import options as _options

if TYPE_CHECKING:
    from outrider.results import CompletedCommand
    from outrider.route import Route
    from outrider.session import Session

T = TypeVar("T")


@dataclass(frozen=True)
class Diagnosis:
    """Why a hop could not be passed, and what the user can do. `transient`: trying again may help."""

    message: str
    hint: str
    transient: bool = False


@dataclass(frozen=True)
class Prompt:
    """A question that the hop's program asks on stderr, ending in `marker`, and where its answer comes from."""

    marker: bytes
    answer: Callable[[], str]


@dataclass(frozen=True, kw_only=True)
class Hop:
    """One step of a route. Subclasses are frozen dataclasses in files of their own: options, `wrap`, `diagnose`.

    A hop knows no I/O: it starts nothing, reads no file and looks at no environment.
    """

    name: ClassVar[str]
    """The word that names the hop in a route's text and in the entry-point group `outrider.hops`."""
    aliases: ClassVar[tuple[str, ...]] = ()
    positional: ClassVar[tuple[str, ...]] = ()
    """The options that the constructor takes by position, and the short text form after the colon, in order."""
    leaves: ClassVar[bool] = False
    """True if what is wrapped runs on another machine, as another user or in another file system."""
    scheduler: ClassVar[bool] = False
    """True if the hop hands the command to a scheduler, so that it may wait in a queue."""
    changes_only: ClassVar[bool] = False
    """True if the hop changes only environment or folder: at a route's tail the session does it on the wire."""
    last: ClassVar[bool] = False
    """True if no hop may follow: each command behind it is a matter of its own, so that no far end can be opened there."""
    exact: ClassVar[bool] = False
    """True if the command behind it may be a matter of exact words, as in sudoers: a trace changes nothing in it."""
    tells: ClassVar[tuple[tuple[str, str], ...]] = ()
    """For traces: lines of its program on stderr, as patterns, each with the phase that ends with it."""
    chatter: ClassVar[tuple[str, ...]] = ()
    """How lines on stderr begin that its program prints only when it is traced: they are kept out of messages."""
    outlived: ClassVar[bool] = False
    """True if what was started there goes on when the hop's own program has ended, and can be reached again by it."""
    gathers: ClassVar[str] = ""
    """The mapping option that takes, in a route's text, every keyword that is no option: `env(A=1, B=2)`."""

    def __init_subclass__(cls, **keywords: object) -> None:
        super().__init_subclass__(**keywords)
        # Standing in the class itself, it is kept by @dataclass, which would else write a repr of its own.
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = Hop.__repr__  # type: ignore[method-assign]

    def __new__(cls, *_: object, **given: object) -> Self:
        """Refuses an option that there is not, with the nearest one; before Python's own, poorer message."""
        known = _options.options_of(cls) if given and not cls.gathers else given
        for name in given:
            if name not in known:
                raise _options.no_such(cls, name)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        """Checks every option against its annotation and freezes lists and mappings into tuples."""
        _options.freeze(self)

    def __repr__(self) -> str:
        return _options.python(self)

    def wrap(self, command: Command) -> Command:
        """The command to run here so that `command` runs there."""
        raise NotImplementedError

    def shown(self, command: Command) -> Command:
        """As `wrap`, for the eye: a long script of ours stands as a few words that say what it does."""
        return self.wrap(command)

    def here(self) -> Hop:
        """This hop as it is when its program starts on the near end's own machine (ssh shares connections there)."""
        return self

    def traced(self) -> Hop:
        """This hop as it is when its program must tell how far it gets; it must lead to the same place all the same."""
        return self

    def with_terminal(self) -> Hop:
        """This hop as it is when a terminal must reach through it (ssh -t, docker -t); the same where none can."""
        return self

    def diagnose(self, stderr: str, returncode: int | None) -> Diagnosis | None:
        """What went wrong at *this* hop, judged by what its program printed and its exit code; None if not its doing."""
        return None

    def prompts(self) -> tuple[Prompt, ...]:
        """Questions on stderr that the session answers on stdin before anything else is written."""
        return ()

    def short(self) -> tuple[str, tuple[str, ...]]:
        """The text after the colon in a route's text (`ssh:alice@login:2222`), and the options that it tells."""
        return _options.short(self)

    def settings(self) -> dict[str, object]:
        """For a hop that `changes_only`: what the session sets on the wire instead (`env`, `cwd`, `tempdir`).

        Nothing if, with these options, it must be wrapped like any other hop.
        """
        return {}

    def as_route(self) -> Route:
        """The route of this one hop. The house's one import upward, made late: a route is what hops are for."""
        from outrider.route import Route

        return Route(self)

    def __or__(self, other: Hop | Route | str) -> Route:
        return self.as_route() | other

    def __ror__(self, other: str) -> Route:
        return other | self.as_route()

    def open(self, **changes: Any) -> Session:
        """As `Route.open`, of this one hop; so are the other verbs."""
        return self.as_route().open(**changes)

    def run(self, argv: Sequence[Argument] | str, **options: Any) -> CompletedCommand:
        """See `Route.run`."""
        return self.as_route().run(argv, **options)

    def call(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """See `Route.call`."""
        return self.as_route().call(fn, *args, **kwargs)

    def invoke(self, subject: Any, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """See `Route.invoke`."""
        return self.as_route().invoke(subject, method, *args, **kwargs)

    def map(self, fn: Callable[..., T], /, *iterables: Iterable[Any], at_once: int = 8) -> Iterator[T]:
        """See `Route.map`."""
        return self.as_route().map(fn, *iterables, at_once=at_once)

    def replace(self, **options: object) -> Hop:
        """The same hop with some options changed."""
        return dataclasses.replace(self, **options)

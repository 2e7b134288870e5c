"""One engine, as one user, with fresh or pooled jails: where attacks are run, one after another."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from outrider import Route, errors, hops
from outrider.command import Command
from outrider.far import data
from outrider.far.jail import guarantees
from tests.sandbox.scene import Scene, descriptors
from tests.sandbox.table import LIMITS, Attack
from tests.world.machine import descendants, family_tree, find_program, unavailable, wait_for

# Not proot and none: they keep no processes in, and some of the attacks would end all that runs on the machine.
ENGINES = ("native", "bwrap", "isolate", "sio2jail")
PLAYERS = ("root", "user")
USER = "outrider-a"
# What an engine lacks is in its reports: the rows that need it are then skipped, or judged less strictly.
GUARANTEES = [value for name, value in vars(guarantees).items() if name.isupper() and isinstance(value, str)]
INSIDE = "/attacks"


@dataclass
class Result:
    """One job's end, as the near end hears of it."""

    verdict: str
    exit_code: int | None
    signal: int | None
    message: str
    engine: str
    missing: list[str]
    usage: Any
    outputs: dict[str, bytes]
    refused: dict[str, str]
    stdout: bytes
    stderr: bytes
    sources: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    engine: str
    player: str
    fresh: bool

    @property
    def whole(self) -> bool:
        """Whether every row of the table runs here: it does where a job finds most, and once under each other engine."""
        return not self.fresh if self.engine == "native" else self.player == "root"

    def __str__(self) -> str:
        return f"{self.engine}-{self.player}-{'fresh' if self.fresh else 'pooled'}"


KINDS = [
    *(Kind("native", player, fresh) for player in PLAYERS for fresh in (False, True)),
    *(Kind(engine, player, True) for engine in ENGINES[1:] for player in PLAYERS),
]


class Arena:
    """An open far end, and the order that a sandboxed job is."""

    def __init__(self, kind: Kind, scene: Scene) -> None:
        self.kind, self.scene = kind, scene
        if kind.engine != "native" and find_program(kind.engine) is None:
            unavailable(f"no program {kind.engine}")
        route = Route(hops.local()) if kind.player == "root" else Route(hops.sudo(user=USER))
        self.session = route.open()
        self.missing: list[str] = []
        try:
            first = self.run(["mark", "hello"])
        except errors.OutriderError as error:
            self.session.close()
            unavailable(f"engine {kind.engine} as {kind.player}: {error}")
        if first.verdict != "OK":
            self.session.close()
            unavailable(f"engine {kind.engine} as {kind.player}: {first.verdict} {first.message}")
        assert first.stdout == b"hello\n"
        self.missing = first.missing
        self.untouched = self.surroundings()

    def close(self) -> None:
        far = self.session.far.pid
        self.session.close()
        assert wait_for(lambda: not Path(f"/proc/{far}").exists(), 5), "the far end lives on"
        assert wait_for(lambda: not list(self.scene.attackers()), 5), "an attack lives on"

    # --- jobs ---------------------------------------------------------------------------------------------------

    def spec(self, limits: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        all_limits = {"stack": None, **LIMITS, **(limits or {})}
        return {
            "engine": self.kind.engine,
            "limits": all_limits,
            "network": False,
            "fresh": self.kind.fresh,
            "allow_missing": list(GUARANTEES),
            "root": None,
            "binds": [[str(self.scene.folder), INSIDE, False], *more.pop("binds", [])],
            "inputs": [],
            "outputs": [],
            "folder": "/box",
            **more,
        }

    def run(
        self, words: list[str], limits: dict[str, Any] | None = None, stdin: bytes | None = None, **more: Any
    ) -> Result:
        """Run the attack program with these words."""
        return self.run_argv([f"{INSIDE}/attack", *words], limits, stdin, **more)

    def run_python(self, source: str, *arguments: str, **more: Any) -> Result:
        return self.run_argv(["/usr/bin/python3", "-I", "-S", "-c", source, *arguments], **more)

    def start(
        self, argv: list[str], limits: dict[str, Any] | None = None, stdin: bytes | None = None, **more: Any
    ) -> Any:
        spec = self.spec(limits, **more)
        return self.session.start(Command(argv), stdin=stdin, more={"sandbox": spec}, timeout=30)

    def run_argv(
        self, argv: list[str], limits: dict[str, Any] | None = None, stdin: bytes | None = None, **more: Any
    ) -> Result:
        return self.finish(self.start(argv, limits, stdin, **more))

    def finish(self, request: Any) -> Result:
        self.session.connection.wait(request, 30)
        _, _, segments = request.value
        answer = data.loads(segments[0])
        if "sandbox" not in answer:
            raise errors.OutriderError(str(answer))
        report = dict(answer["sandbox"])
        known = {key: report.get(key) for key in Result.__dataclass_fields__}
        known["usage"] = SimpleNamespace(**report["usage"])
        return Result(**{**known, "stdout": request.printed("stdout"), "stderr": request.printed("stderr")})

    # --- what must not change -----------------------------------------------------------------------------------

    def surroundings(self) -> bytes:
        """What a job finds: the same for each, whatever the one before did."""
        found = self.run(["surroundings"])
        assert found.verdict == "OK", found
        return found.stdout

    def processes(self) -> list[int]:
        return descendants(self.session.far.pid)

    def strays(self) -> list[str]:
        """What no jail of the pool accounts for: each has an init, and below it one process that waits for a job."""
        tree = family_tree()
        wardens = [pid for pid in tree.get(self.session.far.pid, []) if tree.get(pid)]
        found = [f"{len(wardens)} wardens"] if len(wardens) > 1 else []
        for warden in wardens:
            inits = tree[warden]
            found += [f"{len(inits)} jails are kept"] if len(inits) > 20 else []
            found += [f"init {pid} has {tree[pid]}" for pid in inits if len(tree.get(pid, [])) > 1]
            found += [f"below init {pid}: {descendants(pid)}" for pid in inits if len(descendants(pid)) > 1]
            held = descriptors(warden)
            found += [f"the warden holds {held} descriptors"] if held > 30 + 24 * len(inits) else []
        return found


def attack(arena: Arena, one: Attack) -> Result:
    """Run one row of the table."""
    if one.python:
        return arena.run_python(*one.words, limits=one.limits, stdin=one.stdin)
    return arena.run(list(one.words), one.limits, one.stdin)


def explain(result: Result) -> str:
    return f"{result}"[:1500]


def need(arena: Arena, guarantees: tuple[str, ...]) -> None:
    lacking = [name for name in guarantees if name in arena.missing]
    if lacking:
        pytest.skip(f"{arena.kind} does not promise: {', '.join(lacking)}")

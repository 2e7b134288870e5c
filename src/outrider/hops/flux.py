"""`flux`: a job of the Flux scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from outrider.command import Command
from outrider.errors import ConfigError
from outrider.hops.base import Diagnosis
from outrider.hops.octal import spelled, utf8_only
from outrider.hops.scheduler import Scheduler, flags
from outrider.hops.sizes import seconds
from outrider.hops.wording import line_with, own_program_missing

_MESSAGES = (
    (
        r"ERROR: .*(?:Unable to resolve|unable to connect|Connection refused)|flux_open.*|broker.*not",
        "no Flux instance answers here",
        "start one with `flux start`, or name it with uri=",
        True,
    ),
    (
        r"unsatisfiable|infeasible|Invalid .*resource|no resources provided",
        "no node has what is asked for",
        "`flux resource list` lists what there is: ask for less",
        False,
    ),
    (
        r"requested duration exceeds|exceeds .*limit",
        "more is asked for than allowed",
        "ask for less time= or fewer nodes=",
        False,
    ),
    (
        r"[Ii]nvalid queue|queue .*(?:disabled|not found|invalid|does not exist)",
        "there is no such queue, or it takes no jobs",
        "`flux queue status` lists them: queue=",
        False,
    ),
    (r"exception.*type=timeout|job.*timed out", "the time is up", "give more time=", False),
    (
        r"exception.*type=cancel|job.*cancell?ed",
        "the job was cancelled",
        "whoever cancelled it can tell why",
        False,
    ),
    (
        r"flux-(?:run|proxy): ERROR: |flux-job: .*exception",
        "Flux did not run it",
        "the message says why; `flux jobs -a` tells more",
        False,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Flux(Scheduler):
    """Runs what follows as a Flux job with `flux run`; with `uri` in that instance, through `flux proxy`.

    `nodes`, `tasks`, `cpus` (per task), `gpus` (per task): how much. `time`: how long at the most, `90` (seconds),
    `5m`, `1h30m` or `01:30:00`. `memory` is for Flux's scheduler to ignore or refuse, so giving it is an error.
    `tasks`: how many to reserve; the command runs as the first one. `queue`, `bank`, `job_name`: as flux takes them.
    `extra`: more words for `flux run`. `terminal`: give it a terminal. `program`: which flux to run.
    """

    OWN: ClassVar[tuple[str, ...]] = ("FLUX",)

    uri: str | None = None
    queue: str | None = None
    bank: str | None = None
    program: str = "flux"

    name: ClassVar[str] = "flux"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory is not None:
            raise ConfigError(
                "flux run takes no amount of memory",
                hop=self.name,
                key="memory",
                hint="ask for cpus= instead",
            )

    def with_terminal(self) -> Flux:
        return replace(self, terminal=True)

    def wrap(self, command: Command) -> Command:
        env, argv = self._launched(command)
        proxy = () if self.uri is None else ("proxy", self.uri, self.program)
        words = (*self.once(), *_plain(argv))
        return Command((self.program, *proxy, "run", *self._flags(), *self.extra, "--", *words), env)

    def _flags(self) -> Iterator[str]:
        yield "--unbuffered"
        if self.slots > 1:
            yield "--input=0"
        if self.terminal:
            yield "-opty.interactive"
        yield from self.resources()
        yield from flags(("job-name", self.job_name))

    @property
    def slots(self) -> int:
        """How many tasks to ask for: Flux gives no node without one."""
        return max(self.tasks, self.nodes or 1)

    def once(self) -> tuple[str, ...]:
        """What stands before the command so that it runs as the first task only: there is one far end."""
        if self.slots == 1:
            return ()
        return ("sh", "-c", '[ "${FLUX_TASK_RANK:-0}" = 0 ] || exit 0; exec "$@"', "sh")

    def resources(self) -> Iterator[str]:
        """What is asked for, in the words that `flux run` and `flux submit` share."""
        yield f"--ntasks={self.slots}"
        if self.slots > 1:  # else the job is ended soon after the first of its tasks
            yield "-oexit-timeout=none"
        yield from flags(
            ("nodes", self.nodes),
            ("cores-per-task", self.cpus),
            ("gpus-per-task", self.gpus),
            ("time-limit", None if self.time is None else f"{seconds(self.time, hop=self.name)}s"),
            ("queue", self.queue),
            ("bank", self.bank),
        )

    def diagnose(self, stderr: str, returncode: int | None) -> Diagnosis | None:
        for pattern, message, hint, transient in _MESSAGES:
            line = line_with(stderr, rf"\bflux\b.*(?:{pattern})|^(?:{pattern})") if "flux" in stderr else None
            if line:
                return Diagnosis(f"{message}: {line}", hint, transient)
        line = line_with(stderr, r"\[Errno \d+\] dependency: ")  # flux submit does not say who it is
        if line:
            hint = "leave out of after= what has failed; Flux forgets old jobs, too"
            return Diagnosis(f"it cannot wait for such a job: {line}", hint)
        return own_program_missing(
            stderr, self.program, "this is no Flux host: put ssh to one before, or load its module"
        )


def _plain(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Words that do the same as `argv`: Flux fills in what stands in double braces, and hands words on as JSON."""
    if any("{{" in word for word in argv):
        return ("sh", "-c", spelled(Command(argv).as_shell()))
    return utf8_only(Command(argv)).as_argv()

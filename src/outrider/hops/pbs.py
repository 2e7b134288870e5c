"""`pbs`: a batch job of OpenPBS, PBS Professional or Torque."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from outrider.command import Command
from outrider.errors import ConfigError
from outrider.hops.base import Diagnosis
from outrider.hops.scheduler import Scheduler
from outrider.hops.sizes import seconds, size
from outrider.hops.wording import line_with, own_program_missing

_MESSAGES = (
    (
        r"cannot connect to server|Connection refused|No default server|Communication failure",
        "the PBS server does not answer",
        "`qstat -B` there tells whether it runs",
        True,
    ),
    (r"[Uu]nknown queue", "there is no such queue", "`qstat -Q` there lists them: queue=", False),
    (
        (
            r"Queue is not enabled|Unauthorized Request|Access (?:is )?denied|access from host not allowed"
            r"|User not allowed|No Permission"
        ),
        "the queue does not take your jobs",
        "`qstat -Q -f` there tells who may use it: queue=",
        False,
    ),
    (r"[Ii]nvalid account|account", "PBS does not accept the account", "name another: account=", False),
    (
        r"exceeds (?:queue|server|limit)|Job violates|exceed.*limit|would exceed",
        "more is asked for than allowed",
        "ask for less time=, memory=, cpus= or nodes=, or another queue=",
        False,
    ),
    (
        r"Unknown resource|Illegal attribute or resource value|Resource .*not",
        "PBS does not know a resource that is asked for",
        "the message names it; gpus= is the resource ngpus there",
        False,
    ),
    (
        r"Unknown Job Id|Invalid Job Dependency|did not satisfy dependency|dependency",
        "a job that it should wait for is not known there, or has failed",
        "leave out of after= what has ended",
        False,
    ),
    (r".", "PBS did not accept the job", "the message says why", False),
)


@dataclass(frozen=True, kw_only=True)
class Pbs(Scheduler):
    """A batch job of PBS. For `submit` and `map(array=True)` only: PBS has no job that streams without a terminal.

    `nodes`, `tasks`, `cpus` (per task), `gpus` (per node), `memory` (per node, `2G`): how much. `time`: how long at the
    most, `90` (seconds), `5m`, `1h30m` or `01:30:00`. `queue`, `account`, `project`, `job_name`: as qsub takes them.
    `torque`: ask in the words of Torque. `extra`: more words for qsub. `terminal`: there is none to give.
    """

    queue: str | None = None
    account: str | None = None
    project: str | None = None
    torque: bool = False

    name: ClassVar[str] = "pbs"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gpus is not None and not str(self.gpus).isdecimal():
            raise ConfigError(
                f"PBS takes a number of GPUs, not {self.gpus!r}",
                hop=self.name,
                key="gpus",
                hint="write gpus=1, and what else they have to be with extra=['-l', ...]",
            )

    def wrap(self, command: Command) -> Command:
        raise ConfigError(
            "PBS runs batch jobs only: an interactive one needs a terminal, which cannot carry a far end",
            hop=repr(self),
            hint="use submit, submit_command or map(..., array=True), or leave the hop out",
        )

    def resources(self) -> Iterator[str]:
        """What is asked for, in the words of qsub. Nothing that was not given: the queue has its own ideas."""
        yield from self._amounts()
        if self.time is not None:
            total = seconds(self.time, hop=self.name)
            yield from ("-l", f"walltime={total // 3600:02}:{total // 60 % 60:02}:{total % 60:02}")
        for flag, value in (("-q", self.queue), ("-A", self.account), ("-P", self.project)):
            if value is not None:
                yield from (flag, value)

    def _amounts(self) -> Iterator[str]:
        if (self.nodes, self.cpus, self.memory, self.gpus) == (None, None, None, None) and self.tasks == 1:
            return
        nodes = self.nodes or 1
        tasks = -(-self.tasks // nodes)  # on each node
        cpus = tasks * (self.cpus or 1)
        kilobytes = None if self.memory is None else -(-size(self.memory, hop=self.name) // 1024)
        if self.torque:
            gpus = "" if self.gpus is None else f":gpus={self.gpus}"
            yield from ("-l", f"nodes={nodes}:ppn={cpus}{gpus}")
            if kilobytes is not None:
                yield from ("-l", f"mem={kilobytes * nodes}kb")
            return
        words = [f"select={nodes}", f"ncpus={cpus}"]
        words += [] if tasks == 1 else [f"mpiprocs={tasks}"]
        words += [] if kilobytes is None else [f"mem={kilobytes}kb"]
        words += [] if self.gpus is None else [f"ngpus={self.gpus}"]
        yield from ("-l", ":".join(words))
        if nodes > 1:
            yield from ("-l", "place=scatter")

    def diagnose(self, stderr: str, returncode: int | None) -> Diagnosis | None:
        for pattern, message, hint, transient in _MESSAGES:
            line = line_with(stderr, rf"^q(?:sub|stat): .*(?:{pattern})")
            if line:
                return Diagnosis(f"{message}: {line}", hint, transient)
        return own_program_missing(
            stderr, "qsub", "this is no PBS host: put ssh to a login node before, or load its module"
        )

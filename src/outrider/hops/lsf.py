"""`lsf`: a job of IBM Spectrum LSF, with bsub -I."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from outrider.command import Command
from outrider.hops.base import Diagnosis
from outrider.hops.octal import spelled
from outrider.hops.scheduler import Scheduler
from outrider.hops.sizes import seconds, size
from outrider.hops.wording import line_with, own_program_missing

_MESSAGES = (
    (
        r"LSF is down|Cannot connect to LSF|batch daemon not responding|mbatchd.*(?:down|not)|Failed in an LSF library",
        "LSF does not answer",
        "`lsid` and `badmin showstatus` there tell whether it runs",
        True,
    ),
    (
        r"No such queue|Queue .*(?:closed|does not exist|not accept)|User cannot use the queue",
        "there is no such queue, or it does not take your jobs",
        "`bqueues -u $USER` there lists those that do: queue=",
        False,
    ),
    (
        r"[Pp]roject .*|User group .*",
        "LSF does not accept the project",
        "`bugroup` and your site's pages tell yours: project=",
        False,
    ),
    (
        r"(?:RUNLIMIT|MEMLIMIT|[Rr]esource limit|Cannot exceed|exceeds? (?:queue|the)).*",
        "more is asked for than allowed",
        "`bqueues -l` there tells the limits: ask for less time=, memory= or cpus=",
        False,
    ),
    (
        r"Bad resource requirement|Invalid resource requirement|Unknown resource|GPU",
        "LSF does not know a resource that is asked for",
        "the message names it",
        False,
    ),
    (
        r"dependency|[Jj]ob .*not found",
        "a job that it should wait for is not known there",
        "see after=",
        False,
    ),
    (
        r"TERM_RUNLIMIT|run time limit",
        "the time is up",
        "give more time=",
        False,
    ),
    (
        r"TERM_MEMLIMIT|memory usage limit",
        "it used more memory than it asked for",
        "give more memory=",
        False,
    ),
    (r"Job not submitted", "LSF did not accept the job", "the message says why", False),
)


@dataclass(frozen=True, kw_only=True)
class Lsf(Scheduler):
    """Runs what follows as an LSF job with `bsub -I`, which hands input and output through.

    `nodes`, `tasks`, `cpus` (slots per task), `gpus` (per node), `memory` (per node, `2G`): how much. `time`: how long
    at the most, `90` (seconds, but LSF counts minutes), `5m`, `1h30m` or `01:30:00`. `queue`, `project`, `app`,
    `job_name`: as bsub takes them. `tasks`: how many to reserve; the command runs once. `extra`: more words for bsub.
    `terminal`: give it a terminal. `program`: which bsub to run.
    """

    OWN: ClassVar[tuple[str, ...]] = ("LSF", "LSB", "LS_")

    queue: str | None = None
    project: str | None = None
    app: str | None = None
    program: str = "bsub"

    name: ClassVar[str] = "lsf"
    tells: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"<<Waiting for dispatch", "submit"),
        (r"<<Starting on ", "queue"),
    )

    def with_terminal(self) -> Lsf:
        return replace(self, terminal=True)

    def wrap(self, command: Command) -> Command:
        env, argv = self._launched(command)
        name = () if self.job_name is None else ("-J", self.job_name)
        how = "-Is" if self.terminal else "-I"
        # bsub puts its words together with blanks, and a shell reads them again: so it gets one word, quoted for that.
        line = Command(argv).as_shell()
        line = line if line.isascii() and line.isprintable() else spelled(line)
        return Command((self.program, how, *name, *self.resources(), *self.extra, line), env)

    def resources(self) -> Iterator[str]:
        """What is asked for, in the words of bsub. LSF counts slots; memory and GPUs are meant for each host."""
        slots = self.tasks * (self.cpus or 1)
        if self.nodes is not None or slots > 1:
            nodes = self.nodes or 1
            each = -(-self.tasks // nodes) * (self.cpus or 1)
            yield from ("-n", str(max(slots, each * nodes)))
            yield from ("-R", "span[hosts=1]" if nodes == 1 else f"span[ptile={each}]")
        if self.memory is not None:
            megabytes = -(-size(self.memory, hop=self.name) // (1 << 20))
            yield from ("-M", f"{megabytes}MB", "-R", f"rusage[mem={megabytes}MB]")
        if self.time is not None:
            yield from ("-W", str(-(-seconds(self.time, hop=self.name) // 60)))
        if self.gpus is not None:
            yield from ("-gpu", f"num={self.gpus}")
        for flag, value in (("-q", self.queue), ("-P", self.project), ("-app", self.app)):
            if value is not None:
                yield from (flag, value)

    def diagnose(self, stderr: str, returncode: int | None) -> Diagnosis | None:
        for pattern, message, hint, transient in _MESSAGES:
            line = line_with(stderr, r"^(?:.*Job not submitted.*|bsub: .*|.*\bLSF\b.*|TERM_\w+.*)$")
            line = line if line is not None and line_with(line, pattern) else None
            if line:
                return Diagnosis(f"{message}: {line}", hint, transient)
        if "<<Waiting for dispatch" in stderr and "<<Starting on" not in stderr:
            return Diagnosis(
                "the job still waits in the queue",
                "`bjobs -p` there tells why; route.options(open_timeout=...) sets how long to wait",
                True,
            )
        return own_program_missing(
            stderr, self.program, "this is no LSF host: put ssh to a login node before, or load its module"
        )

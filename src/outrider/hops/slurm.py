"""`slurm`: a job, or inside an allocation a step, with srun."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from outrider.command import Command
from outrider.hops.base import Diagnosis
from outrider.hops.scheduler import Scheduler, flags
from outrider.hops.sizes import clock, seconds, size
from outrider.hops.wording import line_with, own_program_missing

# Only lines that srun or the node's daemon speak: what runs inside may say the like of itself.
_SPEAKER = r"(?:^srun: |^slurm(?:step)?d[\w.-]*: ).*"
_MESSAGES = (
    (
        (
            r"Unable to contact slurm controller|Unable to establish .*connection"
            r"|Connection (?:refused|timed out)|Zero Bytes were transmitted|controller .*not responding"
        ),
        "Slurm's controller does not answer",
        "`scontrol ping` there tells whether it runs",
        True,
    ),
    (
        r"[Ii]nvalid partition|Invalid partition name",
        "there is no such partition, or you may not use it",
        "`sinfo` there lists them: partition=",
        False,
    ),
    (
        r"[Ii]nvalid account|Invalid account or account/partition",
        "Slurm does not accept the account",
        "`sacctmgr show associations user=$USER` lists yours: account=",
        False,
    ),
    (r"[Ii]nvalid qos", "Slurm does not accept the qos", "`sacctmgr show qos` lists them: qos=", False),
    (
        (
            r"[Ii]nvalid feature specification|Invalid node name|Reservation .*invalid"
            r"|requested reservation is invalid"
        ),
        "there is nothing of that name",
        "check constraint=, nodelist= and reservation=",
        False,
    ),
    (
        (
            r"Requested (?:node|partition) configuration (?:is )?not available"
            r"|Memory specification can not be satisfied|CPU count .* can not be satisfied"
            r"|More processors requested than permitted|Unable to create step.*(?:not available|exceed)"
            r"|Invalid generic resource|node count specification invalid"
        ),
        "no node has what is asked for",
        "`sinfo -o '%n %c %m %G'` there lists what nodes have: ask for less cpus=, memory=, gpus= or nodes=",
        False,
    ),
    (
        r"DUE TO TIME LIMIT|time limit (?:reached|exceeded)|Job step aborted.*time",
        "the time is up",
        "give more time=",
        False,
    ),
    (
        r"Requested time limit is invalid|time limit .*(?:exceeds|invalid)",
        "the time asked for is too long",
        "ask for less time=, or another partition=",
        False,
    ),
    (
        r"[Oo]ut [Oo]f [Mm]emory|oom[-_]kill|exceeded (?:job )?memory limit",
        "it used more memory than it asked for",
        "give more memory=",
        False,
    ),
    (
        (
            r"Unable to allocate resources: (?:Requested nodes are busy|.*[Ii]mmediate)"
            r"|Immediate .*(?:impossible|failed)"
        ),
        "nothing is free right now",
        "give it longer to wait with immediate=, or leave that out",
        True,
    ),
    (
        r"QOS\w+|Assoc\w+Limit|Job violates accounting/QOS policy",
        "your share there is used up, or the request breaks a limit",
        "ask for less, or wait until your other jobs end",
        True,
    ),
    (
        r"[Nn]ode failure|NODE FAILURE|DUE TO NODE|Node .* not responding|Communication connection failure",
        "a node failed",
        "try again; exclude the node with extra=['--exclude=NODE'] if it stays",
        True,
    ),
    (
        (
            r"CANCELLED|forcing job termination|[Jj]ob (?:\d+ )?.*has been (?:revoked|cancelled)"
            r"|Job allocation \d+ has been revoked"
        ),
        "the job was cancelled",
        "whoever cancelled it, or a limit of the site, can tell why: `scontrol show job`",
        False,
    ),
    (r"unrecognized option '?--overlap", "this Slurm is older than 20.11", "use overlap=False", False),
    (
        r"unrecognized option|[Ii]nvalid .*specification|Invalid numeric value",
        "srun does not accept an option",
        "the message names it",
        False,
    ),
    (
        (
            r"Unable to allocate resources|Unable to create step|Task launch .* failed"
            r"|Application launch failed|slurm_job_submit|[Aa]uthentication|Protocol authentication"
            r"|Invalid credential|munge"
        ),
        "Slurm did not start it",
        "the message says why; `sinfo` and `squeue` there say more",
        False,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Slurm(Scheduler):
    """Runs what follows as a Slurm job with srun; inside an allocation (another slurm hop, salloc) as a step of it.

    `partition`, `account`, `qos`, `constraint`, `reservation`, `nodelist`, `job_name`: as srun takes them. `nodes`,
    `cpus` (per task), `gpus`, `memory` (per node, `2G`): how much. `time`: how long at the most, `90` (seconds), `5m`,
    `1h30m` or `01:30:00`. `tasks`: how many to reserve; the command runs as the first one and may start steps on the
    others. `immediate`: give up after so many seconds in the queue. `overlap`: share the resources of an enclosing
    step, without which a step inside a step waits for ever; only Slurm older than 20.11 needs `False`.
    `extra`: more words for srun. `terminal`: give it a terminal. `program`: which srun to run.
    """

    OWN: ClassVar[tuple[str, ...]] = ("SLURM", "SRUN")

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    reservation: str | None = None
    nodelist: str | None = None
    immediate: int | None = None
    overlap: bool = True
    program: str = "srun"

    name: ClassVar[str] = "slurm"
    tells: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"srun: job \d+ queued and waiting for resources", "submit"),
        (r"srun: job \d+ has been allocated resources", "queue"),
    )

    def with_terminal(self) -> Slurm:
        return replace(self, terminal=True)

    def wrap(self, command: Command) -> Command:
        env, argv = self._launched(command)
        return Command((self.program, *self._flags(), *self.extra, "--", *argv), env)

    def _flags(self) -> Iterator[str]:
        # Unbuffered: else srun hands output on line by line, and what is not text waits for a newline.
        yield from ("--export=ALL", "--pty" if self.terminal else "--unbuffered")
        if self.overlap:
            yield "--overlap"
        yield f"--ntasks={self.tasks}"
        if (
            self.tasks > 1
        ):  # one far end: the other tasks read and say nothing, and their early end ends nothing
            yield from ("--input=0", "--output=0", "--error=0", "--wait=0")
        yield from self.resources()
        yield from flags(("job-name", self.job_name), ("immediate", self.immediate))

    def resources(self) -> Iterator[str]:
        """What is asked for, in the words that srun and sbatch share."""
        yield from flags(
            ("nodes", self.nodes),
            ("cpus-per-task", self.cpus),
            ("mem", None if self.memory is None else f"{-(-size(self.memory, hop=self.name) // 1024)}K"),
            ("time", None if self.time is None else clock(seconds(self.time, hop=self.name))),
            ("gpus", self.gpus),
            ("partition", self.partition),
            ("account", self.account),
            ("qos", self.qos),
            ("constraint", self.constraint),
            ("reservation", self.reservation),
            ("nodelist", self.nodelist),
        )

    def diagnose(self, stderr: str, returncode: int | None) -> Diagnosis | None:
        for pattern, message, hint, transient in _MESSAGES:
            line = line_with(stderr, rf"{_SPEAKER}(?:{pattern})")
            if line:
                return Diagnosis(f"{message}: {line}", hint, transient)
        if "queued and waiting for resources" in stderr and "has been allocated resources" not in stderr:
            return Diagnosis(
                "the job still waits in the queue",
                "`squeue` there tells why; route.options(open_timeout=...) sets how long to wait",
                True,
            )
        return own_program_missing(
            stderr, self.program, "this is no Slurm host: put ssh to a login node before, or load its module"
        )

"""A Slurm cluster of one node, this machine: munge, slurmctld and slurmd, on free ports."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.world.machine import Machine, free_port, program, run, wait_for

SLOTS = 64
LINK = Path("/etc/slurm/slurm.conf")


@dataclass(frozen=True)
class SlurmWorld:
    conf: Path
    node: str
    partitions: tuple[str, str]
    _machine: Machine = field(repr=False)

    def start(self) -> None:
        self._machine.serve(
            "slurmctld",
            [program("slurmctld", "slurmctld"), "-D", "-f", self.conf],
            ready=lambda: "UP" in run(["scontrol", "ping"], env=self.env).stdout,
        )

    def stop(self) -> None:
        self._machine.stop("slurmctld")

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """The scheduler is down while it lasts."""
        self.stop()
        try:
            yield
        finally:
            self.start()
            self.wait_until_idle()

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": str(self.conf)}

    def wait_until_idle(self) -> None:
        def ready() -> bool:
            state = run(["sinfo", "-h", "-n", self.node, "-o", "%T"], env=self.env).stdout.split()
            return bool(state) and state[0] in ("idle", "mixed", "allocated")

        if not wait_for(ready, 30):
            log = (self._machine.folder / "slurmctld.log").read_text(errors="replace")
            raise RuntimeError(f"the Slurm node did not come up: {log[-2000:]}")

    def jobs(self) -> set[str]:
        """Jobs that wait or run."""
        return set(run(["squeue", "-h", "-o", "%i"], env=self.env).stdout.split())


def start(machine: Machine) -> Iterator[SlurmWorld]:
    slurmd = program("slurmd", "slurmd")
    program("srun", "slurm-client")
    folder = machine.make_folder("slurm")
    node = socket.gethostname().partition(".")[0]
    socket_path = start_munge(machine, folder)
    conf = folder / "slurm.conf"
    conf.write_text(configuration(folder, node, socket_path))
    named = name_configuration(conf)
    world = SlurmWorld(conf, node, ("debug", "short"), machine)
    world.start()
    machine.serve("slurmd", [slurmd, "-D", "-f", conf], ready=lambda: (folder / "slurmd.pid").exists())
    world.wait_until_idle()
    yield world
    run(["scancel", *sorted(world.jobs())], env=world.env)
    wait_for(lambda: not world.jobs(), 5)
    for name in ("slurmd", "slurmctld", "munged"):
        machine.stop(name)
    if named:
        LINK.unlink(missing_ok=True)
    else:
        os.environ.pop("SLURM_CONF", None)


def start_munge(machine: Machine, folder: Path) -> Path:
    munged = program("munged", "munge")
    private = machine.make_folder("munge", mode=0o700)
    key = private / "key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    path = folder / "munge.socket"
    # --force: it mistrusts a socket below /tmp, and this key guards nothing.
    machine.serve(
        "munged",
        [munged, "--foreground", "--force", f"--socket={path}", f"--key-file={key}",
         f"--pid-file={private}/pid", f"--seed-file={private}/seed", f"--log-file={private}/log"],
        ready=lambda: run(["munge", "-n", "-S", path]).returncode == 0,
    )  # fmt: skip
    return path


def configuration(folder: Path, node: str, munge: Path) -> str:
    for name in ("state", "spool"):
        (folder / name).mkdir()
    return f"""\
ClusterName=outrider
SlurmctldHost={node}(127.0.0.1)
SlurmctldPort={free_port()}
SlurmdPort={free_port()}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={munge}
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SchedulerParameters=sched_interval=1
SlurmdParameters=config_overrides
DefMemPerCPU=64
KillWait=3
MinJobAge=60
MessageTimeout=5
InactiveLimit=0
Waittime=0
NodeName={node} NodeAddr=127.0.0.1 CPUs={SLOTS} RealMemory=65536 State=UNKNOWN
PartitionName=debug Nodes={node} Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes={node} Default=NO MaxTime=10 State=UP
"""


def name_configuration(conf: Path) -> bool:
    """Make it the machine's Slurm, found after ssh and sudo, too; or just ours where the machine has one."""
    LINK.parent.mkdir(exist_ok=True)
    if LINK.is_symlink() and not LINK.exists():
        LINK.unlink()
    try:
        LINK.symlink_to(conf)
    except FileExistsError:
        os.environ["SLURM_CONF"] = str(conf)
        return False
    return True

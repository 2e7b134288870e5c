"""Sudo rules for the test users: one who may do all, one who must give a password, one who may nothing."""

from __future__ import annotations

import contextlib
import itertools
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.world.machine import MARK, Lease, Machine, must_run, program, run, unavailable
from tests.world.ssh import has_user

RULES = f"""\
Defaults env_keep += "{MARK} CONTAINERS_STORAGE_CONF SLURM_CONF"
Defaults:outrider-p timestamp_timeout=0, !lecture
root ALL=(ALL:ALL) ALL
outrider-a ALL=(ALL:ALL) NOPASSWD: ALL
outrider-p ALL=(ALL:ALL) ALL
"""


@dataclass(frozen=True)
class SudoWorld:
    password: str
    rules: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    @contextlib.contextmanager
    def extra(self, text: str) -> Iterator[None]:
        """Further sudoers lines while it lasts."""
        path = self.rules.with_name(f"{self.rules.name}-{next(self._numbers)}")
        write_rules(path, text if text.endswith("\n") else text + "\n")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def start(machine: Machine) -> Iterator[SudoWorld]:
    program("sudo", "sudo")
    if not has_user("outrider-p"):
        unavailable("no user outrider-p: run 'make world'")
    path = Path("/etc/sudoers.d") / machine.mark
    lease = Lease("sudo")
    password = lease.take(set_password)["password"]
    write_rules(path, RULES)
    yield SudoWorld(password, path)
    path.unlink(missing_ok=True)
    lease.release(take_password_away)


def write_rules(path: Path, text: str) -> None:
    # Whole or not at all: one bad line locks everybody out of sudo. A name with a dot is not read by sudo.
    temp = path.with_name(path.name + ".new")
    temp.write_text(text)
    temp.chmod(0o440)
    checked = run(["visudo", "-c", "-f", temp])
    if checked.returncode != 0:
        temp.unlink()
        raise ValueError(f"not valid sudoers lines: {checked.stdout}{checked.stderr}")
    temp.rename(path)


def set_password(_known: dict[str, Any]) -> dict[str, Any]:
    # Fresh each time and taken away at the end: the account must be no way into the machine.
    password = secrets.token_urlsafe(12)
    must_run(["chpasswd"], input=f"outrider-p:{password}\n")
    return {"password": password}


def take_password_away(_known: dict[str, Any]) -> None:
    must_run(["usermod", "-p", "*", "outrider-p"])

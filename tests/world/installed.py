"""Outrider as the hosts have it installed: for what runs `outrider` over there, such as a relay."""

from __future__ import annotations

import os

from tests.world.machine import HERE, Machine, must_run, run, unavailable

CHECKOUT = HERE.parent.parent


def install(machine: Machine) -> str:
    """A virtual environment that every user can read, with a copy of this checkout."""
    folder = machine.folder / "installed"
    made = run(["/usr/bin/python3", "-m", "venv", folder])
    if made.returncode != 0:
        unavailable(f"no virtual environment from Debian's Python: {made.stdout}{made.stderr}")
    must_run(
        [folder / "bin" / "python", "-m", "pip", "install", "--quiet", CHECKOUT], timeout=300,
        env={**os.environ, "HOME": os.environ["TEST_WORLD_HOME"]},
    )  # fmt: skip
    return str(folder / "bin" / "outrider")

"""The scene of the attacks, and an arena for each engine, user and kind of jail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sandbox.arena import KINDS, Arena, Kind
from tests.sandbox.scene import Scene, stock
from tests.world.machine import Machine, wait_for
from tests.world.sudo import SudoWorld


@pytest.fixture(scope="session")
def scene(machine: Machine) -> Iterator[Scene]:
    made = Scene(machine)
    yield made
    made.close()


@pytest.fixture(scope="session", params=KINDS, ids=str)
def arena(request: pytest.FixtureRequest, scene: Scene, sudo_rules: SudoWorld) -> Iterator[Arena]:
    """Opened once for all attacks: what one leaves, the next would find. Once closed, nothing may be left at all."""
    kind: Kind = request.param
    before = stock(first=True)
    made = Arena(kind, scene)
    yield made
    made.close()

    def left() -> list[str]:
        now = stock()
        return [f"{what}: {item}" for what, items in now.items() for item in items - before[what]]

    assert wait_for(lambda: not left(), 5), left()

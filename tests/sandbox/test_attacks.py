"""Every attack of the table, under every engine here, as root and as a normal user, in fresh and in pooled jails.

After each, the next job in the same pool must find what the first one found, and the host must be as it was.
"""

from __future__ import annotations

import pytest

from tests.sandbox.arena import Arena, attack, explain, need
from tests.sandbox.table import EVERYWHERE, TABLE, Attack
from tests.world.machine import wait_for

# The arenas last for a session, and the far ends in them: the check for children would see those of the first test.
pytestmark = pytest.mark.leaks("arenas are kept for the next test; each one's end is checked by its fixture")


@pytest.mark.parametrize("one", TABLE, ids=lambda one: one.name)
def test_attack(arena: Arena, one: Attack) -> None:
    need(arena, one.needs)
    for engine, why in one.excused:
        if arena.kind.engine == engine:
            pytest.skip(f"{engine}: {why}")
    if one.thin and (arena.kind.player == "user" or arena.kind.fresh is (arena.kind.engine == "native")):
        pytest.skip("one of many alike: run once under each engine")
    if one.name not in EVERYWHERE and not arena.kind.whole:
        pytest.skip("it does not depend on this: run in pooled jails, and once under each other engine")
    result = attack(arena, one)
    said = result.stdout + result.stderr
    # Where memory is only looked at now and then, a job may have had it before it was ended for it.
    too_late = result.verdict == "MLE" and "memory of the tree" in arena.missing
    assert too_late or b"BREACH" not in said, explain(result)
    assert arena.scene.secret.encode() not in said, explain(result)
    allowed = one.verdicts.split("|")
    if "MLE" in allowed and "memory of the tree" in arena.missing:  # then it is limits that turn it away
        allowed += ["OK", "RE"]
    assert result.verdict in allowed, explain(result)
    if one.exit_code is not None:
        assert result.exit_code == one.exit_code, explain(result)
    if one.signal is not None and result.verdict == "RE":
        assert result.signal == one.signal, explain(result)
    if one.says is not None:
        assert one.says in result.stdout, explain(result)
    if one.message is not None:
        assert one.message in result.message.lower(), explain(result)
    if one.check is not None:
        one.check(result, arena.scene)
    assert_nothing_happened(arena)


def assert_nothing_happened(arena: Arena) -> None:
    """No trace on the host, and none for the next job."""
    assert wait_for(lambda: not arena.scene.unhurt(), 2), arena.scene.unhurt()
    for _ in range(2):  # more than one jail may be in the pool
        found = set(arena.surroundings().splitlines()) ^ set(arena.untouched.splitlines())
        assert not found, "the next job finds something else: " + repr(sorted(found))
    assert wait_for(lambda: not arena.strays(), 2), arena.strays()


def test_secrets_stay_where_they_are(arena: Arena) -> None:
    scene = arena.scene
    for result in (
        arena.run(["read-file", *scene.places]),
        arena.run(["environment"]),
        arena.run(["own-memory"], {"output": 64 << 20}),
        arena.run_python("import os, sys; os.system('cat /home/*/.outrider-attack-* /tmp/*/*/secret*')"),
    ):
        assert scene.secret.encode() not in result.stdout + result.stderr
    assert_nothing_happened(arena)


def test_host_is_out_of_reach(arena: Arena) -> None:
    scene = arena.scene
    for words in (
        ["reach", str(scene.port)],
        ["abstract-socket", scene.abstract],
        ["path-sockets", scene.socket_path],
        ["signal-numbers", str(scene.victim.pid)],
    ):
        if words[0] in ("reach", "abstract-socket") and "network" in arena.missing:
            continue
        result = arena.run(words)
        assert b"BREACH" not in result.stdout, explain(result)
    assert_nothing_happened(arena)


def test_program_of_a_foreign_kind(arena: Arena) -> None:
    need(arena, ("system calls",))
    if arena.scene.foreign is None:
        pytest.skip("this compiler makes no 32-bit programs")
    result = arena.run_argv(["/attacks/foreign"])
    assert b"BREACH" not in result.stdout, explain(result)
    assert result.verdict in ("RE", "RV"), explain(result)
    assert_nothing_happened(arena)

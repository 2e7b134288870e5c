"""Durable calls and sessions through gateways without streams: ssh that runs one command, and the Superfacility API."""

from __future__ import annotations

import os
import pwd
from typing import Any

import pytest

from outrider import Route, RouteError, gateway, hops
from outrider.batch import BatchJob


def at_nersc(world: Any, **options: Any) -> Any:
    given = {"key": str(world.key), "api_url": world.api_url, "token_url": world.token_url, **options}
    return hops.superfacility(**given)


def test_a_session_by_the_superfacility_api(superfacility: Any, census: Any) -> None:
    with Route(at_nersc(superfacility)).options(show=False).open() as far:
        assert far.call(os.getuid) == pwd.getpwnam("outrider-a").pw_uid
        data = os.urandom(1_000_000)  # in uploaded pieces
        assert far.call(bytes.swapcase, data) == data.swapcase()
        done = far.run(["sh", "-c", "cat; echo told >&2; exit 3"], stdin=b"in", check=False)
        assert (done.returncode, done.stdout, done.stderr) == (3, b"in", b"told\n")
    census.assert_nothing_left(30)


def test_a_durable_call_by_the_superfacility_api(superfacility: Any, slurm: Any, census: Any) -> None:
    route = Route(at_nersc(superfacility), hops.slurm(memory="50M")).options(show=False)
    job = route.submit(pow, 7, 2)
    assert job.id.isdigit()
    assert BatchJob.open(job.key).result(120) == 49
    job.clean()
    jobs = route.map(abs, range(-3, 0), array=True)
    assert list(jobs.values(120)) == [3, 2, 1]
    jobs.clean()


def test_a_key_that_was_revoked(superfacility: Any) -> None:
    revoked = superfacility.folder / "revoked"
    revoked.touch()
    try:
        with pytest.raises(RouteError, match="not authorized") as caught:
            Route(at_nersc(superfacility)).open()
    finally:
        revoked.unlink()
    assert "new one" in (caught.value.hint or "")


def test_no_key(superfacility: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(RouteError, match="no key"):
        Route(at_nersc(superfacility, key=None)).open()
    with pytest.raises(RouteError, match="no key"):
        Route(at_nersc(superfacility, key="absent")).open()


def test_an_api_that_is_not_there(superfacility: Any) -> None:
    with pytest.raises(RouteError, match="machine"):
        Route(at_nersc(superfacility, machine="nowhere")).open()


def test_slurm_behind_a_gateway_that_is_a_program(
    sshd: Any, sudo_rules: Any, slurm: Any, docker: Any, census: Any
) -> None:
    way = gateway(["ssh", "-F", str(sshd.config), "alpha"])
    job = Route(way, hops.sudo(), hops.slurm(), hops.docker(docker.image)).submit(
        os.path.exists, "/.dockerenv"
    )
    assert job.result(120) is True
    job.clean()
    with (
        Route(way, hops.slurm()).options(show=False).open() as far
    ):  # a job step, its stream in single visits
        assert far.run(["printenv", "SLURM_JOB_ID"]).stdout.strip().isdigit()
    census.assert_nothing_left(30)

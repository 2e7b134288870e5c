"""The example of Snakemake in a container: a whole workflow through the host's Slurm, each job in a container again."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.doc_pages import ROOT
from tests.world.machine import cache
from tests.world_tests.test_bridge_world import Site, shared

__all__ = ["shared"]
PACKAGES = ("snakemake==9.*", "snakemake-executor-plugin-cluster-generic")


@pytest.fixture(scope="module")
def snakemake() -> Path:
    """A folder with Snakemake and what it needs, for PYTHONPATH. Kept among the tests' images."""
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the image's Python is 3.11, and Snakemake's packages are partly compiled")
    folder = cache() / "snakemake-9"
    with (cache() / "snakemake.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(part), *PACKAGES]
            done = subprocess.run(pip, capture_output=True, text=True, timeout=600)
            if done.returncode:
                pytest.skip(f"Snakemake cannot be had: {done.stderr[-300:]}")
            part.rename(folder)
    return folder


@pytest.mark.timeout(700)
def test_a_workflow_in_a_container_drives_the_hosts_slurm(
    snakemake: Path, shared: Path, slurm: Any, docker: Any, request: pytest.FixtureRequest
) -> None:
    site = Site(shared, "docker", request)
    for file in (ROOT / "examples" / "bridge-snakemake").iterdir():
        shutil.copy(file, site.work)
    # The page's in-container is Apptainer's; this is its like for Docker.
    again = f'exec docker run --rm -i --volume="$PWD:$PWD" --volume={snakemake}:{snakemake}:ro --workdir="$PWD" \\\n'
    again += f'  --env=PYTHONPATH={snakemake} --env=SLURM_JOB_ID="$SLURM_JOB_ID" {docker.image} "$@"\n'
    (site.work / "in-container").write_text("#!/bin/sh\n" + again)
    site.flags += [f"--option=--volume={snakemake}:{snakemake}:ro", f"--option=--env=PYTHONPATH={snakemake}"]
    server = site.serve("fifo")
    try:
        done = site.inside(["sh", "./workflow"], timeout=300)
        logs = "".join(path.read_text() for path in site.work.glob("slurm-*.out"))
        assert done.returncode == 0, done.stderr[-3000:] + logs[-3000:]
        lines = [line.split() for line in (site.work / "report.txt").read_text().splitlines()]
        assert [line[0] for line in lines] == ["a", "b", "c"]
        jobs = {line[-1] for line in lines}
        assert len(jobs) == 3 and all(job.isdigit() for job in jobs)
    finally:
        server.terminate()
        server.wait(20)
        assert server.stdout is not None
        server.stdout.close()

"""A hop from another package, really installed, is found by name and works like a built-in one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import outrider

PLUGIN = Path(__file__).parent.parent / "hop_plugin"
PROGRAM = """
import subprocess
from outrider.chain import Chain
from outrider.command import Command
from outrider.errors import ConfigError
from outrider.hops import registry
from outrider.testing import check_hop, run_here

chain = Chain.parse("local | shout:'good morning'(times=2)")
hop = chain.hops[1]
check_hop(hop, run=run_here)
assert repr(hop) == "shout('good morning', times=2)", repr(hop)
done = subprocess.run(chain.wrap(Command(["echo", "far"])).argv, capture_output=True, text=True)
assert (done.stdout, done.stderr) == ("far\\n", "good morning\\n" * 2), done
assert "shout" in registry.names()
wrong = {"broken": "outrider-shout cannot be loaded", "other": "no Hop class of that name", "shuot": "'shout'"}
for name, words in wrong.items():
    try:
        Chain.parse(name + ":x")
    except ConfigError as error:
        assert words in str(error), error
    else:
        raise AssertionError(name)
print("fine")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    options = [
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--disable-pip-version-check",
        "--no-input",
    ]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(PLUGIN)]
    done = subprocess.run(command, capture_output=True, text=True)
    if "hatchling" in done.stderr and done.returncode:
        pytest.skip("hatchling is not installed, which builds the example package (pip install hatchling)")
    assert done.returncode == 0, done.stderr
    return target


def test_a_hop_of_another_package(installed: Path) -> None:
    paths = ":".join([str(installed), str(Path(outrider.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"PYTHONPATH": paths, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "fine\n", done.stderr

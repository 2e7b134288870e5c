"""Every chain that delegate-function's users stack, for real: a call, a state change and an exception at its end.

A chain is written as words, nearest first. Each word is a hop here and a delegate there, so that routes and the old
names run the same table.
"""

import os
import pwd
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from outrider import Route
from outrider.compat import delegate_function as old
from outrider.hops import docker, local, relay, slurm, ssh, sudo, tempdir
from tests.samples import work
from tests.user_config import configured

CHAINS = [
    "trivial",
    "trivial trivial",
    "subprocess",
    "subprocess trivial",
    "trivial subprocess trivial",
    "tempdir",
    "sudo",
    "ssh:alpha",
    "docker",
    "slurm",
    "ssh:beta docker",
    "sudo docker",
    "ssh:alpha sudo docker",
    "ssh:alpha sudo",
    "ssh:alpha ssh:beta",
    "ssh:alpha slurm",
    "slurm docker",
    "ssh:alpha sudo slurm docker",
    "ssh:alpha slurm sudo docker",
    "slurm slurm",
    "slurm ssh:alpha",
    "slurm ssh:alpha sudo docker",
]
USER = {"alpha": "outrider-a", "beta": "outrider-b", "sudo": "outrider-b"}
FIXTURE = {"ssh": "sshd", "sudo": "sudo_rules", "docker": "docker", "slurm": "slurm"}


@dataclass
class Step:
    """One word of a chain, and what of the test world it needs."""

    word: str
    near: bool
    request: pytest.FixtureRequest

    @property
    def ssh_config(self):
        """Root's own; every other user on the way has the hosts in ~/.ssh/config."""
        return str(self.request.getfixturevalue("sshd").config) if self.near else None

    @property
    def image(self):
        return self.request.getfixturevalue("docker").image

    def hop(self):
        name, _, host = self.word.partition(":")
        return {
            "trivial": tuple,
            "subprocess": lambda: (local(),),
            "tempdir": lambda: (tempdir(),),
            "sudo": lambda: (sudo(USER["sudo"]),),
            "ssh": lambda: (ssh(host, config=self.ssh_config),),
            "slurm": lambda: (slurm(),),
            "docker": lambda: (docker(self.image),),
        }[name]()

    def delegate(self):
        name, _, host = self.word.partition(":")
        options = ["-F", self.ssh_config] if name == "ssh" and self.near else []
        return {
            "trivial": old.TrivialDelegate,
            "subprocess": old.SubprocessDelegate,
            "tempdir": old.TemporaryDirectoryDelegate,
            "sudo": lambda: old.SudoDelegate(user=USER["sudo"]),
            "ssh": lambda: old.SSHDelegate(USER[host], host, ssh_options=options),
            "slurm": lambda: old.SlurmDelegate(temporary_file_root="/tmp"),
            "docker": lambda: old.DockerDelegate(self.image, temporary_file_root="/tmp"),
        }[name]()


def steps(chain, request):
    words = chain.split()
    for word in words:
        if fixture := FIXTURE.get(word.partition(":")[0]):
            request.getfixturevalue(fixture)
    # Root's ssh_config is of use as long as root it is: up to the first other host or user.
    return [
        Step(word, not any(before.startswith(("ssh", "sudo")) for before in words[:number]), request)
        for number, word in enumerate(words)
    ]


def assert_arrived(place, chain):
    """The place is the one that the last word leads to."""
    name, _, host = chain.split()[-1].partition(":")
    assert (place["pid"] == os.getpid()) is (set(chain.split()) == {"trivial"})
    if name in ("sudo", "ssh"):
        assert place["uid"] == pwd.getpwnam(USER[host or name]).pw_uid
    if name == "slurm":
        assert place["job"]
    if name == "tempdir":
        assert not Path(place["folder"]).exists()
    assert (place["host"] != os.uname().nodename) is (name == "docker")


@pytest.mark.parametrize("chain", CHAINS)
def test_route(chain, request):
    route = Route()
    for step in steps(chain, request):
        for hop in step.hop():
            route = route | hop
    census = request.getfixturevalue("census")
    counter = work.Counter()
    with route.open() as far:
        place = far.call(work.where)
        assert far.invoke(counter, "add", 5) == 5
        assert vars(counter) == {"value": 5, "added": [5]}
        with pytest.raises(LookupError, match="no such luck") as caught:
            far.call(work.fail, "no such luck")
        assert "work.py" in "".join(caught.value.__notes__)
    if route.hops:  # a route with no hop is a process of its own all the same
        assert_arrived(place, chain)
    census.assert_nothing_left()


@pytest.mark.parametrize("chain", CHAINS)
def test_old_names(chain, request):
    delegates = [step.delegate() for step in steps(chain, request)]
    for outer, inner in pairwise(delegates):
        outer.set_subdelegate(inner)
    census = request.getfixturevalue("census")
    counter = work.Counter()
    assert_arrived(delegates[0].invoke(work.Place(), "where"), chain)
    assert delegates[0].invoke(counter, "add", 5) == 5
    assert vars(counter) == {"value": 5, "added": [5]}
    raised = LookupError if set(chain.split()) == {"trivial"} else old.DelegateFunctionException
    with pytest.raises(raised, match="no such luck"):
        delegates[0].invoke(counter, "fail", "no such luck")
    census.assert_nothing_left()


# --- late binding: the host decides how it goes on ----------------------------------------------------------------


def call_invoke_fail(route):
    counter = work.Counter()
    with route.open() as far:
        place = far.call(work.where)
        assert far.invoke(counter, "add", 5) == counter.value == 5
        with pytest.raises(LookupError):
            far.call(work.fail, "no such luck")
    return place


def test_the_hosts_configuration_decides(sshd, sudo_rules, docker, system_outrider, census):
    route = ssh("alpha", config=str(sshd.config)) | relay("grading", program=system_outrider)
    with configured("outrider-a", '[routes]\ngrading = "sudo:outrider-b"\n'):
        assert call_invoke_fail(route)["uid"] == pwd.getpwnam("outrider-b").pw_uid
    with configured("outrider-a", f'[routes]\ngrading = "sudo:outrider-b | docker:{docker.image}"\n'):
        assert call_invoke_fail(route)["host"] != os.uname().nodename
    census.assert_nothing_left()


def test_an_environment_variable_decides(sudo_rules, docker, system_outrider, monkeypatch, census):
    route = Route(relay("grading", program=system_outrider))
    monkeypatch.setenv("OUTRIDER_ROUTE_GRADING", "sudo:outrider-b")
    assert call_invoke_fail(route)["uid"] == pwd.getpwnam("outrider-b").pw_uid
    monkeypatch.setenv("OUTRIDER_ROUTE_GRADING", f"docker:{docker.image}")
    assert call_invoke_fail(route)["host"] != os.uname().nodename
    census.assert_nothing_left()


def test_the_old_late_binding_reads_a_file_that_a_variable_names(docker, tmp_path, monkeypatch, census):
    file = tmp_path / "late.yml"
    file.write_text("version: 0.1\nsequence:\n  - {type: DockerDelegate, docker_image: $IMAGE}\n")
    monkeypatch.setenv("DELEGATE_FUNCTION_CONFIG", str(file))
    monkeypatch.setenv("IMAGE", docker.image)
    delegate = old.SubprocessDelegate(old.LateBoundYAMLDelegate())
    assert delegate.invoke(work.Place(), "where")["host"] != os.uname().nodename
    counter = work.Counter()
    assert delegate.invoke(counter, "add", 5) == counter.value == 5
    with pytest.raises(old.DelegateFunctionException, match="no such luck"):
        delegate.invoke(counter, "fail", "no such luck")
    census.assert_nothing_left()

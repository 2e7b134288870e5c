"""delegate-function's names: what they map to, and what of them runs without a server."""

import os
import sys
from pathlib import Path

import pytest

from outrider.chain import Chain
from outrider.compat.delegate_function import (
    BaseDelegate,
    DelegateChain,
    DelegateFunctionException,
    DelegateGenerator,
    DockerDelegate,
    LateBoundYAMLDelegate,
    ShellCommandClass,
    SlurmDelegate,
    SSHDelegate,
    SubprocessDelegate,
    SuDockerDelegate,
    SudoDelegate,
    TemporaryDirectoryDelegate,
    TrivialDelegate,
    YAMLDelegate,
    shell_hook,
)
from tests.samples.work import Counter, Place, Spy

OLD = {"temporary_file_root": "/scratch", "delegate_executable_path": "/opt/bin/delegate-function-run"}
TRIVIAL = "version: 0.1\nsequence:\n  - type: TrivialDelegate\n"
SUBPROCESS = "version: 0.1\nsequence:\n  - type: SubprocessDelegate\n"
LATE = "version: 0.1\nsequence:\n  - type: LateBoundYAMLDelegate\n"


@pytest.mark.parametrize(
    ("delegate", "text"),
    [
        (TrivialDelegate(), ""),
        (SubprocessDelegate(**OLD), "local"),
        (TemporaryDirectoryDelegate(), "tempdir"),
        (SudoDelegate(user="grader", **OLD), "sudo:grader"),
        (SudoDelegate(sudo_args=["-E"]), "sudo(extra=[-E])"),
        (SSHDelegate("me", "login", **OLD), "ssh:me@login"),
        (SSHDelegate("me", "login", ssh_options=["-p", "22"]), "ssh:me@login(extra=[-p, 22])"),
        (SlurmDelegate(**OLD), "slurm"),
        (DockerDelegate("box:1", **OLD), "docker:box:1(workdir=/tmp)"),
        (SuDockerDelegate("box:1", docker_user="grader", **OLD), "sudo:grader | docker:box:1(workdir=/tmp)"),
        (SSHDelegate("me", "login", SudoDelegate(user="grader")), "ssh:me@login | sudo:grader"),
        (DelegateChain(TrivialDelegate, SubprocessDelegate, SlurmDelegate)(), "local | slurm"),
    ],
)
def test_each_delegate_stands_for_hops(delegate, text):
    assert delegate.route().hops == Chain.parse(text).hops


def test_an_entrypoint_among_docker_arguments_gets_the_command():
    route = DockerDelegate("box:1", docker_cmd_line_args=["--entrypoint", "/start.sh"]).route()
    argv = route.explain()[0].argv
    assert argv[argv.index("box:1") :] == ("box:1", "true")
    assert argv.count("--entrypoint") == 1
    assert not any(word.startswith("--entrypoint=") for word in argv)


@pytest.mark.parametrize(
    ("make", "same_process"),
    [
        (TrivialDelegate, True),
        (DelegateChain(TrivialDelegate, TrivialDelegate), True),
        (SubprocessDelegate, False),
        (DelegateChain(SubprocessDelegate, TrivialDelegate), False),
        (DelegateChain(TrivialDelegate, SubprocessDelegate, TrivialDelegate), False),
        (TemporaryDirectoryDelegate, False),
        (lambda: DelegateGenerator(yaml=TRIVIAL), True),
        (lambda: DelegateGenerator(yaml=SUBPROCESS), False),
    ],
)
def test_a_call_a_state_change_and_an_exception(make, same_process):
    delegate, counter = make(), Counter()
    assert (delegate.invoke(Place(), "where")["pid"] == os.getpid()) is same_process
    assert delegate.invoke(counter, "add", amount=4) == 4
    assert vars(counter) == {"value": 4, "added": [4]}
    with pytest.raises(LookupError if same_process else DelegateFunctionException, match="no such luck"):
        delegate.invoke(counter, "fail", "no such luck")


def test_a_far_exception_comes_with_its_traceback():
    with pytest.raises(
        DelegateFunctionException, match=r"(?s)LookupError: why\n.*work\.py.*in fail"
    ) as caught:
        SubprocessDelegate().invoke(Counter(), "fail", "why")
    assert isinstance(caught.value.__cause__, LookupError)


def test_a_delegate_that_cannot_be_passed_says_why():
    with pytest.raises(DelegateFunctionException, match="hint:"):
        SSHDelegate(None, "localhost", ssh_options=["-oProxyCommand=false"]).invoke(Counter(), "add", 1)


def test_a_temporary_directory_is_gone_afterwards():
    folder = TemporaryDirectoryDelegate().invoke(Place(), "where")["folder"]
    assert folder != str(Path.cwd())
    assert not Path(folder).exists()


def test_yaml_expands_variables_when_it_is_invoked(monkeypatch):
    text = "version: 0.1\nsequence:\n  - {type: DockerDelegate, docker_image: '$IMAGE', docker_cmd_line_args: ['${MORE}']}"
    delegate = DelegateGenerator(yaml=text)
    monkeypatch.setenv("IMAGE", "box:2")
    monkeypatch.setenv("MORE", "--init")
    assert str(delegate.route()) == "docker:box:2(workdir=/tmp, extra=[--init])"


@pytest.mark.parametrize(
    "text",
    [
        "version: 0.1\nsequence: [{type: foo}]",
        "version: 0.1\nsequence: [{type: os}]",
        "version: 7\nsequence: []",
        "sequence: {",
        "[]",
    ],
)
def test_yaml_that_is_wrong_is_refused(text):
    with pytest.raises(DelegateFunctionException):
        DelegateGenerator(yaml=text)


def test_yaml_runs_no_code():
    with pytest.raises(DelegateFunctionException, match="not valid YAML"):
        DelegateGenerator(yaml="version: !!python/object/apply:os.getcwd []\nsequence: []")


def test_a_generator_wants_one_source():
    for arguments in ({}, {"yaml": TRIVIAL, "filename": "x.yml"}):
        with pytest.raises(DelegateFunctionException):
            DelegateGenerator(**arguments)


def test_missing_pyyaml_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(DelegateFunctionException, match=r"outrider\[compat\]"):
        DelegateGenerator(yaml=TRIVIAL)


def test_a_yaml_file_and_what_follows_it(tmp_path):
    file = tmp_path / "chain.yml"
    file.write_text(SUBPROCESS)
    assert DelegateGenerator(filename=file).invoke(Counter(), "add", 1) == 1
    assert str(YAMLDelegate(str(file), SudoDelegate()).route()) == "local | sudo"
    with pytest.raises(DelegateFunctionException):
        YAMLDelegate(str(file), debug_pre_hook="SHELL")


@pytest.mark.parametrize("outer", [None, SubprocessDelegate])
def test_late_binding_reads_the_environment_of_the_place(outer, tmp_path, monkeypatch):
    file = tmp_path / "late.yml"
    file.write_text(SUBPROCESS)
    delegate = DelegateGenerator(yaml=LATE)
    if outer:
        delegate = outer(LateBoundYAMLDelegate())
    monkeypatch.setenv("DELEGATE_FUNCTION_CONFIG", str(file))
    assert delegate.invoke(Counter(), "add", 2) == 2
    monkeypatch.delenv("DELEGATE_FUNCTION_CONFIG")
    with pytest.raises(DelegateFunctionException, match="DELEGATE_FUNCTION_CONFIG"):
        delegate.invoke(Counter(), "add", 2)


@pytest.mark.parametrize("allowed", [False, True])
def test_debug_hooks_run_where_their_delegate_starts_if_allowed(allowed, monkeypatch, capsys):
    if allowed:
        monkeypatch.setenv("DELEGATE_FUNCTION_DEBUG_ENABLED", "yes")
    near, far = Spy(), Spy()
    chain = SubprocessDelegate(TrivialDelegate(debug_pre_hook=(far, "run", [], {})), (near, "run", [], {}))
    assert chain.invoke(Counter(), "add", 3) == 3
    assert near.pids == ([os.getpid()] if allowed else [])
    assert len(far.pids) == allowed
    assert os.getpid() not in far.pids
    assert ("DELEGATE_FUNCTION_DEBUG_ENABLED" in capsys.readouterr().err) is not allowed


def test_a_hook_makes_the_whole_chain_interactive():
    def last(**kwargs):
        return TrivialDelegate(interactive=True, **{k: v for k, v in kwargs.items() if k != "interactive"})

    assert DelegateChain(TrivialDelegate, last)()._interactive
    assert not DelegateChain(TrivialDelegate, TrivialDelegate)()._interactive
    assert isinstance(BaseDelegate(debug_pre_hook="SHELL")._debug_pre_hook[0], ShellCommandClass)
    assert shell_hook()[1:] == ("run", [], {})


@pytest.mark.parametrize(
    "delegate", [TrivialDelegate(interactive=True), SubprocessDelegate(interactive=True)]
)
def test_a_shell_runs_on_the_own_terminal(delegate, capfd):
    delegate.invoke(ShellCommandClass(["sh", "-c", "echo $FOO"], env={"FOO": "here I am"}), "run")
    assert capfd.readouterr().out == "here I am\n"

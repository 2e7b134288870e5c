"""What a first user trips over: each message says what is wrong where it is wrong, and what to write instead."""

from __future__ import annotations

import json

import pytest

from outrider import (
    ConfigError,
    Lost,
    Route,
    RouteError,
    Unserializable,
    cwd,
    docker,
    env,
    local,
    ssh,
    tempdir,
)
from outrider.hops.nearness import nearest
from outrider.near.calls import function_of
from tests.command_line import outrider


def told(route):
    with pytest.raises(ConfigError) as raised:
        Route.named(route)
    return str(raised.value)


@pytest.mark.parametrize(
    ("route", "says", "hint"),
    [
        ("env:A=1", "env takes names and values, in brackets", "write env(A=1)"),
        ("env:A", "env takes names and values, in brackets", "write env(A=VALUE)"),
        ("cwd", "cwd needs path", "write cwd:PATH"),
        ("local | ssh", "ssh needs host", "write ssh:HOST"),
        ("login(setup=[1", "this [ has no end", "close it with ]"),
        ("login(setup=[1,", "this [ has no end", "close it with ]"),
        ("docker(image=a", "this ( has no end", "close it with )"),
        ("docker(image=a,", "this ( has no end", "close it with )"),
        ("env(variables={A=1", "this { has no end", "close it with }"),
        ("ssh(login)", "expected = here", "name=value"),
        ("sodu:grader", "there is no hop 'sodu'", "did you mean 'sudo'?"),
        ("shs:login", "there is no hop 'shs'", "did you mean 'ssh'?"),
        ("ssh(hots=a)", "ssh has no option 'hots'", "did you mean 'host'?"),
    ],
)
def test_a_wrong_text_is_told_with_what_to_write(route, says, hint):
    message = told(route)
    assert says in message
    assert hint in message.rpartition("hint: ")[2]


def test_an_unclosed_bracket_is_pointed_at():
    lines = told("login(setup=[1").splitlines()
    assert lines[1][lines[2].index("^")] == "["


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: docker("box", netwrk="none"), "did you mean 'network'?"),
        (lambda: ssh(hots="a"), "did you mean 'host'?"),
        (lambda: Route(local()).options(timout=3), "did you mean 'timeout'?"),
    ],
)
def test_a_misspelt_keyword_is_told_with_the_nearest(make, hint):
    with pytest.raises(ConfigError) as raised:
        make()
    assert hint in str(raised.value)


def test_variables_are_no_misspelt_options():
    assert dict(env(netwrk="1").variables) == {"netwrk": "1"}


def test_letters_that_changed_places_are_near():
    assert nearest("sodu", ["slurm", "sudo"]) == "did you mean 'sudo'?"
    assert nearest("xyz", ["slurm", "sudo"]) == ""


@pytest.mark.parametrize(
    ("route", "blamed"),
    [
        (Route(cwd("/nope")), "cwd('/nope')"),
        (Route(local()) | cwd("/usr") | cwd("nope"), "cwd('nope')"),
        (Route(local()).options(cwd="/nope"), "cwd='/nope' at local"),
    ],
)
def test_a_folder_that_is_not_there_blames_who_named_it(route, blamed):
    with pytest.raises(RouteError, match="is not there") as raised:
        route.run("true")
    assert raised.value.hop == blamed


def test_a_folder_that_may_not_be_entered_is_told_as_such(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RouteError, match="cannot be entered"):
        Route(cwd(tmp_path / "file")).run("true")


def test_home_is_a_tilde_alone_or_before_a_slash(tmp_path):
    (tmp_path / "in").mkdir()
    route = Route(env({"HOME": str(tmp_path)}))
    assert (route | cwd("~")).run("pwd").text == str(tmp_path)
    assert (route | cwd("~/in")).run("pwd").text == f"{tmp_path}/in"


def test_the_parent_of_a_temporary_folder_that_is_not_there():
    with pytest.raises(RouteError, match="in which the temporary one would be made") as raised:
        Route(tempdir("/nope")).run("true")
    assert raised.value.hop == "tempdir('/nope')"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("math:sqtr", "did you mean 'sqrt'?"),
        ("math:xxxxxx", "spelling"),
        ("nomodule:f", "python -m"),
        ("math", "module:function"),
    ],
)
def test_a_function_that_is_not_there(text, hint):
    with pytest.raises(Unserializable) as raised:
        function_of(text)
    assert hint in raised.value.hint


@pytest.mark.parametrize("verb", ["call", "call_detailed", "map"])
def test_what_is_no_function_is_told_before_the_route_opens(verb):
    route = Route(ssh("nowhere.invalid"))
    with pytest.raises(TypeError, match="not a function: 3"):
        list(getattr(route, verb)(3, []))


def test_an_error_does_not_say_a_line_twice():
    error = RouteError("no such host: ssh: nobody", stderr="first\nssh: nobody\nlast\n", hop="ssh('nobody')")
    assert str(error).splitlines()[:3] == [
        "ssh('nobody'): no such host: ssh: nobody",
        "  | first",
        "  | last",
    ]
    assert "| gone" not in str(Lost("it said: gone", stderr="gone\n"))


def test_files_that_do_not_travel_tell_which_side(tmp_path):
    route = Route(local())
    with pytest.raises(RouteError, match=r"did not travel: here: .*nope"):
        route.put(tmp_path / "nope", tmp_path / "to")
    with pytest.raises(RouteError, match=r"did not travel: there: .*nope"):
        route.get(tmp_path / "nope", tmp_path / "to")


# --- the command line ----------------------------------------------------------------------------------------


def test_explain_shortens_our_own_scripts():
    route = "tempdir:/tmp | login(setup=['module load x']) | sudo:a"
    done = outrider("explain", route)
    assert all(len(line) < 160 for line in done.stdout.decode().splitlines())
    assert b"module load x" in done.stdout
    assert b"mktemp -d -- " in outrider("explain", "--full", route).stdout
    assert "mktemp -d -- " in json.loads(outrider("explain", "--json", route).stdout)[0]["argv"][2]
    assert len(outrider("explain", "relay:x").stdout) < 200


def test_call_tells_as_json_what_the_function_raised():
    done = outrider("call", "--json", "local", "math:sqrt", "--", "-1")
    error = json.loads(done.stdout)["error"]
    assert (error["type"], error["message"]) == ("ValueError", "math domain error")
    assert "raised at the far end" in error["traceback"]
    assert done.returncode == 1


@pytest.mark.parametrize("words", [("call", "local", "math:sqrt", "-1"), ("map", "local", "math:sqrt", "-1")])
def test_an_argument_that_begins_with_a_minus_needs_two(words):
    done = outrider(*words)
    assert b"put -- before" in done.stderr
    assert done.returncode == 2


def test_hints_name_the_options_of_the_command_line():
    done = outrider("run", "--timeout", "0.2", "local", "--", "sleep", "60")
    assert b"--timeout SECONDS" in done.stderr
    assert b"timeout=" not in done.stderr


def test_help_is_a_word_too():
    assert outrider("help").stdout == outrider("--help").stdout
    assert outrider("help", "group", "run").stdout == outrider("group", "run", "--help").stdout

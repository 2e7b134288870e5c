"""A route's text, its tables and its repr all lead back to the same hops."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider import hops as made
from outrider.chain import Chain
from outrider.command import Command
from outrider.errors import ConfigError
from outrider.text import from_config, parse, render, to_config
from tests.unit.hop_strategies import hops

MAKERS = {name: getattr(made, name) for name in made.__all__}
chains = st.lists(hops(), max_size=4).map(tuple).filter(lambda chain: not any(hop.last for hop in chain[:-1]))


@settings(max_examples=400, deadline=None)
@given(chains)
def test_every_chain_comes_back_from_each_of_its_forms(chain: tuple[made.local, ...]) -> None:
    text = render(chain)
    assert text.isprintable()
    assert parse(text) == chain
    assert from_config(to_config(chain)) == chain
    assert from_config(json.loads(json.dumps(to_config(chain)))) == chain
    assert tuple(eval(repr(hop), MAKERS) for hop in chain) == chain
    assert pickle.loads(pickle.dumps(Chain(*chain))) == Chain(*chain)
    assert hash(Chain(*parse(text))) == hash(Chain(*chain))


@settings(max_examples=300, deadline=None)
@given(st.text("ssh:login()|={}[],'\"\\ \nabu1", max_size=30))
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    try:
        found = parse(text)
    except ConfigError as error:
        place = str(error)
    else:
        assert parse(render(found)) == found
        return
    assert "^" in place


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("local", (made.local(),)),
        ("ssh:login", (made.ssh("login"),)),
        ("ssh:alice@login:2222", (made.ssh("login", user="alice", port=2222),)),
        ("ssh:[::1]:22", (made.ssh("::1", port=22),)),
        ("ssh(host=login, port=2222)", (made.ssh("login", port=2222),)),
        ("ssh:login(share=false, options={ForwardAgent=yes, A='x y',},)",
         (made.ssh("login", share=False, options={"ForwardAgent": "yes", "A": "x y"}),)),
        ("sudo", (made.sudo(),)),
        ("sudo()", (made.sudo(),)),
        ("  sudo : x", None),
        ("sudo:grader|docker:pybox:1", (made.sudo("grader"), made.docker("pybox:1"))),
        ("docker:'a b'", None),
        ("cwd:'/a b'", (made.cwd("/a b"),)),
        ('cwd:"/a\\tb\\u00e9\\"\\udcff"', (made.cwd('/a\tbé"\udcff'),)),
        ("env(A=1, B='x y', 'odd name'=z)", (made.env({"A": "1", "B": "x y", "odd name": "z"}),)),
        ("env({A=1})", None),
        ("env(variables={variables=1})", (made.env({"variables": "1"}),)),
        ("singularity:x.sif", (made.apptainer("x.sif"),)),
        ("slurm(time=300)", (made.slurm(time=300),)),
        ("slurm(time=5m, memory=2G)", (made.slurm(time="5m", memory="2G"),)),
        ("login:'module load x'", (made.login(["module load x"]),)),
        ("login(setup=['a b', c])", (made.login(["a b", "c"]),)),
        ("ssh:login\n  | sudo:grader\n", (made.ssh("login"), made.sudo("grader"))),
    ],
)  # fmt: skip
def test_reads(text: str, expected: tuple[made.local, ...] | None) -> None:
    if expected is None:
        with pytest.raises(ConfigError):
            parse(text)
    else:
        assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("shh:login", 0, "did you mean 'ssh'"),
        ("ssh:login | sudoo:x", 12, "did you mean 'sudo'"),
        ("ssh:login(prot=1)", 10, "did you mean 'port'"),
        ("ssh:login(port=x)", 0, "wants a whole number, not 'x'"),
        ("ssh:login(port=1, port=2)", 18, "given twice"),
        ("ssh:login(host=x)", 0, "given twice"),
        ("ssh:login(port=1", 9, "this ( has no end"),
        ("ssh:login(port)", 14, "expected ="),
        ("ssh:login |", 11, "expected the name"),
        ("ssh:login sudo", 10, "expected |"),
        ("ssh:", 4, "expected something after the colon"),
        ("ssh", 0, "needs host"),
        ("cwd:'x", 4, "has no end"),
        ("cwd:'\\q'", 5, "means nothing"),
        ("local:x", 0, "nothing after a colon"),
        ("nowhere", 0, "no hop and no configured route 'nowhere'"),
        ("docker", 0, "either an image"),
        ("docker:x(pull=sometimes)", 0, "missing, always or never"),
        ("sudo(password=secret)", 0, "not the password itself"),
    ],
)
def test_errors_point_at_the_place(text: str, column: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    lines = str(caught.value).splitlines()
    assert " " * (column + 2) + "^" in lines
    assert words.replace("not the password itself", "not the password") in str(caught.value)


def test_a_password_given_in_the_open_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        made.sudo("x", password="hunter2")
    assert "hunter2" not in str(caught.value)


def test_configured_routes_by_name() -> None:
    routes = {"front": (made.ssh("login"), made.sudo("x"))}
    assert parse("front | docker:i", routes.get) == (*routes["front"], made.docker("i"))
    with pytest.raises(ConfigError, match="no configured route 'back'"):
        parse("back", routes.get)


def test_a_callable_has_no_text_form() -> None:
    hop = made.sudo("x", password=lambda: "secret")
    for form in (render, to_config):
        with pytest.raises(ConfigError, match="env:NAME"):
            form([hop])
    assert "secret" not in repr(hop)
    assert "password" in str(Chain(hop))


def test_tables() -> None:
    tables = [{"hop": "ssh", "host": "login", "port": "2222"}, "sudo:x", {"hop": "env", "A": 1}]
    assert from_config(tables) == (made.ssh("login", port=2222), made.sudo("x"), made.env({"A": "1"}))
    for bad in ([{"host": "x"}], [{"hop": "ssh", "hots": "x"}], [{"hop": "shh"}], [{"hop": "ssh"}]):
        with pytest.raises(ConfigError):
            from_config(bad)


def test_wrapped_commands_do_not_depend_on_the_form() -> None:
    chain = Chain.parse("ssh:login | sudo:x")
    assert chain.wrap(Command(["a"])) == Chain(made.ssh("login"), made.sudo("x")).wrap(Command(["a"]))

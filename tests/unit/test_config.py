"""Configuration: which file wins, what is wrong where, and how routes lead to hops."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from outrider import hops
from outrider.chain import Chain
from outrider.config import Config, expand, key_lines
from outrider.errors import ConfigError


class Place:
    """A home, a project in it, and an environment that knows nothing else."""

    def __init__(self, folder: Path) -> None:
        self.home, self.project = folder / "home", folder / "home" / "work" / "project"
        self.user_file = self.home / ".config" / "outrider" / "config.toml"
        self.project_file = self.project / "outrider.toml"
        for path in (self.user_file, self.project_file):
            path.parent.mkdir(parents=True)
        self.environment = {"HOME": str(self.home)}

    def load(self, user: str = "", project: str = "", **environment: str) -> Config:
        self.user_file.write_text(user)
        self.project_file.write_text(project)
        below = self.project / "src"
        below.mkdir(exist_ok=True)
        return Config.load(below, {**self.environment, **environment})


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


class TestFiles:
    def test_nothing_configured(self, place: Place) -> None:
        config = place.load()
        assert config.route_names() == []
        assert config.origins() == []
        assert config.option_defaults() == {}
        assert not config.debug_allowed()

    def test_the_project_wins_key_by_key(self, place: Place) -> None:
        config = place.load(
            '[routes]\na = "ssh:user"\nb = "ssh:user"\n[defaults]\ntimeout = 5',
            '[routes]\nb = "ssh:project"\n',
        )
        assert config.route("a") == Chain(hops.ssh("user"))
        assert config.route("b") == Chain(hops.ssh("project"))
        assert config.option_defaults() == {"timeout": 5}
        assert [(origin.key, Path(origin.file), origin.line) for origin in config.origins()] == [
            ("defaults.timeout", place.user_file, 5),
            ("routes.a", place.user_file, 2),
            ("routes.b", place.project_file, 2),
        ]

    def test_the_project_can_be_left_out(self, place: Place) -> None:
        place.load("", '[routes]\na = "ssh:evil"')
        assert Config.load(place.project, place.environment, project=False).route_names() == []

    def test_xdg(self, place: Place, tmp_path: Path) -> None:
        other = tmp_path / "xdg" / "outrider"
        other.mkdir(parents=True)
        (other / "config.toml").write_text('[routes]\nx = "local"')
        assert place.load('[routes]\na = "local"', XDG_CONFIG_HOME=str(other.parent)).route_names() == ["x"]

    def test_one_named_file_replaces_both(self, place: Place, tmp_path: Path) -> None:
        (tmp_path / "pinned.toml").write_text('[routes]\np = "local"')
        both = ('[routes]\na = "local"', '[routes]\nb = "local"')
        assert place.load(*both, OUTRIDER_CONFIG=str(tmp_path / "pinned.toml")).route_names() == ["p"]
        assert place.load(*both, OUTRIDER_CONFIG="").route_names() == []
        with pytest.raises(ConfigError, match="no file"):
            place.load(*both, OUTRIDER_CONFIG="/no/such.toml")

    @pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to somebody else")
    def test_what_anyone_may_have_put_there_does_not_count(self, place: Place) -> None:
        place.load("", '[routes]\na = "ssh:evil"')
        os.chown(place.project_file, 12345, 12345)
        assert Config.load(place.project, place.environment).route_names() == ["a"]
        place.project.chmod(0o1777)
        assert Config.load(place.project, place.environment).route_names() == []


class TestRoutes:
    def test_texts_lists_and_tables(self, place: Place) -> None:
        config = place.load(
            """
[routes]
front = "ssh:alice@login"
grader = "front | sudo:grader"
box = ["grader", { hop = "docker", image = "pybox:1", env = { A = "1" } }, "cwd:/w"]
"""
        )
        expected = Chain(
            hops.ssh("login", user="alice"),
            hops.sudo("grader"),
            hops.docker("pybox:1", env={"A": "1"}),
            hops.cwd("/w"),
        )
        assert config.route("box") == expected
        assert config.route("grader | docker:pybox:1(env={A=1}) | cwd:/w") == expected
        assert Chain.parse(config.route_text("box")) == expected

    def test_variables(self, place: Place) -> None:
        config = place.load('[routes]\na = "ssh:${WHO}@login(port=$PORT) | cwd:/$$x"', WHO="bob", PORT="22")
        assert config.route("a") == Chain(hops.ssh("login", user="bob", port=22), hops.cwd("/$x"))

    def test_a_variable_that_is_not_set(self, place: Place) -> None:
        config = place.load('[routes]\na = "local"\nb = "ssh:$WHO@login"')
        config.route("a")
        with pytest.raises(ConfigError, match="WHO is not set") as caught:
            config.route("b")
        assert caught.value.line == 3

    def test_the_environment_overrides(self, place: Place) -> None:
        config = place.load(
            '[routes]\nmy-box = "ssh:file"\nuses = "my-box | sudo"',
            OUTRIDER_ROUTE_MY_BOX="ssh:late",
            OUTRIDER_ROUTE_NEW="local",
        )
        assert config.route("my-box") == Chain(hops.ssh("late"))
        assert config.route("uses") == Chain(hops.ssh("late"), hops.sudo())
        assert config.route("new") == Chain(hops.local())
        assert {origin.key: origin.file for origin in config.origins()}[
            "routes.my-box"
        ] == "$OUTRIDER_ROUTE_MY_BOX"

    def test_circles(self, place: Place) -> None:
        config = place.load('[routes]\na = "b"\nb = "local | c"\nc = "a"')
        with pytest.raises(ConfigError, match="a → b → c → a"):
            config.route("a")
        with pytest.raises(ConfigError, match="x → x"):
            place.load('[routes]\nx = "x"').route("x")

    def test_names(self, place: Place) -> None:
        config = place.load('[routes]\ngrader = "local"')
        with pytest.raises(ConfigError, match="did you mean 'grader'"):
            config.route("graber")
        with pytest.raises(ConfigError, match="did you mean 'grader'"):
            config.route_text("graber")

    def test_a_wrong_route_names_file_line_and_column(self, place: Place) -> None:
        config = place.load('[routes]\n\na = "ssh:login(prot=1)"')
        with pytest.raises(ConfigError) as caught:
            config.route("a")
        assert f"{place.user_file}:3" in str(caught.value)
        assert "            ^" in str(caught.value).splitlines()
        assert "did you mean 'port'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[rotes]\na = 1", 1, "did you mean 'routes'"),
        ("\n[defaults]\ntimout = 1", 3, "did you mean 'timeout'"),
        ('[defaults]\ntimeout = "long"', 2, "a number of seconds"),
        ("[defaults]\ntimeout = true", 2, "a number of seconds"),
        ('[defaults]\ntrust = "all"', 2, '"pickle" or "data"'),
        ("[debug]\nallow = 1", 2, "true or false"),
        ("[routes]\na = 1", 2, "a text or a list"),
        ('[routes]\nssh = "local"', 2, "name of a hop"),
        ('[routes]\n"a b" = "local"', 2, "not a name"),
        ("routes = 3", 1, "is a table"),
        ("[routes]\na = ", 2, "not valid TOML"),
        ("[routes\n", 1, "not valid TOML"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(place: Place, text: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        place.load(text)
    assert (caught.value.file, caught.value.line) == (str(place.user_file), line)
    assert words in str(caught.value)


def test_debugging_must_be_allowed(place: Place) -> None:
    assert place.load("[debug]\nallow = true").option_defaults() == {"debug": True}
    assert place.load("[debug]\nallow = false").option_defaults() == {}


def test_lines_of_keys_in_an_ugly_file() -> None:
    source = '''# [not.a.table]
[ routes ]  # here
"a" = """
b = 1
[c]
"""
'd' = [ # ]
  "e = 1",
  [ "x" ], { y = "}" },
]
f = \'\'\'
g = 2\'\'\'
[defaults]
h.i = 1
j = "\\"[k]\\""
l = 2'''
    assert key_lines(source) == {
        "routes": 2, "routes.a": 3, "routes.d": 7, "routes.f": 11,
        "defaults": 13, "defaults.h": 14, "defaults.h.i": 14, "defaults.j": 15, "defaults.l": 16,
    }  # fmt: skip


def test_expand() -> None:
    assert expand({"a": ["$X${X}$$X", 3]}, {"X": "1"}) == {"a": ["11$X", 3]}

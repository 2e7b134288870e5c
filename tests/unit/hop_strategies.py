"""Hypothesis strategies for hops of every kind, with values that a careless reader or writer of texts trips over."""

from __future__ import annotations

from hypothesis import strategies as st

from outrider.errors import ConfigError
from outrider.hops import registry
from outrider.hops.base import Hop
from outrider.hops.options import Option, options_of

nasty = st.sampled_from(
    ["", " ", "true", "none", "3", "1.5", "1e3", "nan", "a b", "a,b", "a=b", "=", "|", "a|b",
     "(x)", "[1]", "{a=1}", '"', "'", "\\", "\\n", "\n", "\t", "$X", "#", ":", "a:b", "é", "漢", "\udcff", "\x7f", "\u2028",
     "-x", "--", "ssh", "x@y", "\U0001f600"]
)  # fmt: skip
texts = nasty | st.text(st.characters(exclude_characters="\0", exclude_categories=()), max_size=12)
words = st.text("abcXYZ019._/-", min_size=1, max_size=8).filter(lambda word: word[0] not in "-.")
pairs = st.dictionaries(texts.filter(lambda name: name != "" and "=" not in name), texts, max_size=3)

# Where not every value of the right kind will do.
_BY_NAME = {
    "host": words | st.sampled_from(["::1", "fe80::1%eth0", "10.0.0.1"]),
    "image": words | st.sampled_from(["pybox:1", "a|b", "r.example.org:5000/x@sha256:12", 'q"uote']),
    "container": st.none(),
    "port": st.integers(1, 65535),
    "user": words | texts.filter(bool),
    "group": words | texts.filter(bool),
    "path": texts.filter(bool),
    "dir": st.none() | texts.map(lambda text: "/" + text),
    "parent": st.none() | texts.filter(bool),
    "prefix": texts.filter(lambda text: "/" not in text),
    "shell": words,
    "route": words.filter(lambda word: "/" not in word),
    "password": st.sampled_from([None, "prompt", "env:NAME"]),
    "pull": st.sampled_from(["missing", "always", "never"]),
    "memory": st.sampled_from([None, "2G", "512m", 1 << 30, "1.5 GiB"]),
    "time": st.sampled_from([None, "5m", "1h30m", "01:00:00", "1-12", 90, 1.5]),
    "nodes": st.none() | st.integers(1, 9),
    "tasks": st.integers(1, 9),
    "cpus": st.none() | st.integers(1, 9),
    "argv": st.builds(
        lambda program, words: [program, *words], texts.filter(bool), st.lists(texts, max_size=2)
    ),
    "machine": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,9}", fullmatch=True),
    "api_url": st.sampled_from([None, "https://api.example.org/v1,2=|", "http://localhost:80/"]),
    "token_url": st.sampled_from([None, "https://id.example.org/a b", "http://[::1]:8/"]),
    "patience": st.floats(1, 1e9),
}
_BY_KIND = {
    "str": texts,
    "int": st.integers(),
    "float": st.floats(allow_nan=False),
    "bool": st.booleans(),
    "none": st.none(),
    "list": st.lists(texts, max_size=3),
    "pairs": pairs,
}


def values(option: Option) -> st.SearchStrategy[object]:
    """Values that this option takes."""
    if option.name in _BY_NAME:
        return _BY_NAME[option.name]
    return st.one_of(*(_BY_KIND[kind] for kind in sorted(option.kinds - {"call"})))


@st.composite
def hops(draw: st.DrawFn) -> Hop:
    """Any built-in hop with some of its options."""
    kind = draw(st.sampled_from(registry.built_in()))
    options = options_of(kind)
    required = [*kind.positional[:1], *_required(kind)]
    chosen = draw(st.lists(st.sampled_from(sorted(options)), unique=True, max_size=4)) if options else []
    if kind.name == "flux":
        chosen = [name for name in chosen if name != "memory"]
    try:
        return kind(**{name: draw(values(options[name])) for name in {*required, *chosen}})
    except ConfigError:  # two values that do not go together
        return kind(**{name: draw(values(options[name])) for name in required})


def _required(kind: type[Hop]) -> list[str]:
    return ["image"] if kind.name in ("docker", "podman", "apptainer") else []

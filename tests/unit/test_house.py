"""The rules of the house: which floor imports which, and which rooms do no input or output."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import outrider

HOUSE = Path(outrider.__file__).parent
# From the ground up. What stands on one floor may import from it and from those below; a folder's name stands for all
# within it that has no floor of its own.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("far",),
    ("harmless",),
    ("errors",),
    ("command",),
    ("hops",),
    ("text", "ranges"),
    ("chain",),
    ("config", "testing", "options", "near.values", "results", "places", "sample"),
    ("near", "groups", "traces"),  # the folders themselves, which hold nothing but what they are for
    ("traces.tracing",),
    ("near.sources",),
    ("near.modules",),
    (
        "near.calls",
        "near.futures",
        "near.heartbeat",
        "near.hub",
        "near.missing",
        "near.request",
        "near.stdio",
        "near.stream",
    ),
    ("near.local_process",),
    ("near.opening",),
    ("near.closing",),
    ("near.relaying", "near.connection"),
    ("near.lasting", "near.kept"),
    ("traces.spans",),
    ("traces.views",),
    ("traces.trace",),
    # a session hands its files to transfer, which knows sessions by type only
    ("near.transfer", "session", "near.generators", "near.carried"),
    ("near.terminal",),
    ("sandboxed",),
    ("batch",),
    ("route",),
    ("groups.fanout",),
    ("groups.items",),
    ("groups.group",),
    ("checking", "demo"),
    ("bridge", "connect", "jobs", "sandbox", "clusters"),
    ("compat",),
    ("cli",),
)
LEVEL = {name: number for number, floor in enumerate(FLOORS) for name in floor}
# A hop joined with | makes a route, which stands above: the one import against the direction, deferred.
EXCEPTIONS = {("hops/base.py", "outrider.route")}
NO_IO = {
    "subprocess",
    "socket",
    "shutil",
    "tempfile",
    "select",
    "asyncio",
    "urllib",
    "http",
    "multiprocessing",
    "threading",
}
FILES = sorted(HOUSE.rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that a file imports, and whether only type checkers do."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in for_types) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = ["outrider", *path.relative_to(HOUSE).with_suffix("").parts]
                base = ".".join([*parts[: -node.level], *([base] if base else [])])
            for alias in node.names:
                whole = base in ("outrider", "outrider.near", "outrider.groups", "outrider.traces")
                yield (f"{base}.{alias.name}" if whole else base), id(node) in for_types


def room(module: str) -> str:
    """`outrider.hops.base` → `hops`; `outrider.near.hub`, which has a floor of its own, → `near.hub`."""
    words = module.split(".")[1:]
    own = ".".join(words[:2])
    return own if own in LEVEL else "".join(words[:1])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_imports_run_downward_only(path: Path) -> None:
    name = str(path.relative_to(HOUSE))
    own = room(".".join(["outrider", *path.relative_to(HOUSE).with_suffix("").parts]))
    if own in ("__init__", "__main__", "_version"):
        return
    assert own in LEVEL, f"{own} has no floor yet: give it one here, in the order of docs/design.md"
    for module, for_types in imports(path):
        if (
            not module.startswith("outrider")
            or for_types
            or (name, module) in EXCEPTIONS
            or room(module) == own
        ):
            continue
        assert LEVEL.get(room(module), 99) <= LEVEL[own], f"{name} imports {module}, which stands above it"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_a_folder_that_spans_floors_gives_each_file_its_own(path: Path) -> None:
    own = [*path.relative_to(HOUSE).with_suffix("").parts][:2]
    if own[0] in ("near", "groups", "traces") and own[1] != "__init__":
        assert ".".join(own) in LEVEL


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.is_relative_to(HOUSE / "far")], ids=lambda path: path.name
)
def test_the_far_end_needs_nothing_but_the_standard_library(path: Path) -> None:
    for module, _ in imports(path):
        top = module.split(".")[0]
        inside = top == "_outrider_far" or module.startswith("outrider.far")
        siblings = {file.stem for file in (HOUSE / "far").glob("*.py")}
        assert inside or top in sys.stdlib_module_names or top in siblings, f"{path.name} imports {module}"


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.is_relative_to(HOUSE / "hops")], ids=lambda path: path.name
)
def test_hops_do_no_input_or_output(path: Path) -> None:
    for module, _ in imports(path):
        assert module.split(".")[0] not in NO_IO, f"{path.name} imports {module}"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called != "open", f"{path.name} opens a file"
            assert not called.startswith(
                ("os.system", "os.popen", "os.exec", "os.spawn", "os.fork", "os.getcwd", "os.stat")
            ), called


def test_the_one_exception_is_still_needed() -> None:
    for name, module in EXCEPTIONS:
        assert module in {found for found, _ in imports(HOUSE / name)}


def test_every_file_says_what_it_is() -> None:
    for path in FILES:
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path.relative_to(HOUSE)} has no docstring"


# Slow to import, and not needed before something is done that needs them: only who does it shall pay.
NOT_AT_ONCE = {
    "asyncio",
    "click",
    "cloudpickle",
    "concurrent.futures",
    "datetime",
    "difflib",
    "email",
    "hashlib",
    "importlib.metadata",
    "json",
    "logging",
    "multiprocessing",
    "numpy",
    "pickletools",
    "queue",
    "random",
    "rich",
    "secrets",
    "shutil",
    "socket",
    "tempfile",
    "tomllib",
    "traceback",
    "uuid",
}


def imported_by(statement: str) -> set[str]:
    code = f"import sys\nbefore = set(sys.modules)\n{statement}\nprint(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, text=True)
    return set(done.stdout.split())


def test_importing_outrider_imports_nothing_heavy() -> None:
    assert imported_by("import outrider") & NOT_AT_ONCE == set()


def test_a_call_imports_nothing_heavy() -> None:
    call = "import outrider, math\nassert outrider.Route.named('local').call(math.sqrt, 4) == 2"
    assert imported_by(call) & NOT_AT_ONCE == set()


def test_a_verb_imports_nothing_heavy_but_what_it_is_made_with() -> None:
    verb = (
        "from outrider.cli import outrider\noutrider(['run', 'local', '--', 'true'], standalone_mode=False)"
    )
    verb = f"try:\n    exec({verb!r})\nexcept SystemExit as done:\n    assert not done.code"
    made_with = {"click", "json", "datetime", "uuid"}  # the last two by click itself
    assert imported_by(verb) & NOT_AT_ONCE - made_with == set()


def test_a_hop_is_imported_when_it_is_first_asked_for() -> None:
    found = imported_by(
        "import outrider\nassert outrider.Route.named('cwd:/usr').hops[0] == outrider.cwd('/usr')"
    )
    assert "outrider.hops.cwd" in found
    assert not found & {"outrider.hops.ssh", "outrider.hops.docker", "outrider.hops.slurm"}


def test_a_hops_name_is_the_hop_however_its_file_was_imported() -> None:
    lines = ("from outrider.hops.ssh import Ssh", "from outrider.hops import ssh", "import outrider")
    check = "\n".join([*lines, "assert ssh is Ssh is outrider.ssh"])
    assert "outrider.hops.ssh" in imported_by(check)
    from outrider import hops
    from outrider.hops import registry

    for name in hops.FILES:
        kind = registry.find(name)
        assert name in (kind.name, *kind.aliases)
        assert getattr(hops, name) is kind
        if name == "bridge":  # there the name is a package, which makes the hop when it is called
            assert type(outrider.bridge()) is kind  # type: ignore[operator]
        else:
            assert getattr(outrider, name) is kind
    assert {*hops.FILES} == {word for kind in registry.built_in() for word in (kind.name, *kind.aliases)}
    assert {*hops.__all__} == {*hops.FILES}

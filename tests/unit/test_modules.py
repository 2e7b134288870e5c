"""Your own modules at a far end: which travel, how, and what is said where one cannot."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from outrider import FarError, Route, VersionMismatch
from outrider.hops import env, local
from tests.world.fixtures import find_python

HERE = Route(local()).options(show=False)
# How many questions the far end has asked, the ones of this function itself left out.
ASKED = """
import sys
own = 0

def asked():
    global own
    own += 1
    return (sys.meta_path[-1].link.new_ident() & 0x7FFFFFFF) - own
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Writes modules into a folder that is on this process's path, and on no other's; forgets them afterwards."""
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.syspath_prepend(root)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    before = set(sys.modules)

    def write(**files):
        for name, text in files.items():
            path = root / (
                name.replace("__init__", "INIT").replace("__", "/").replace("INIT", "__init__") + ".py"
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            stamp = path.stat().st_mtime + 2 if path.exists() else None
            path.write_text(textwrap.dedent(text))
            if stamp:  # a second look at the clock must not be needed to see a change of the same length
                os.utime(path, (stamp, stamp))
        importlib.invalidate_caches()

    write.root = root
    yield write
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def run_python(*arguments, cwd=None, stdin=""):
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env=clean,
        cwd=cwd,
    )


# --- which modules travel


def test_a_package_comes_ahead_of_its_first_call_with_all_that_it_imports(project):
    project(
        shop____init__="from shop.prices import PRICES\n",
        shop__prices="from . import tax\nfrom .deep.er import BASE\nPRICES = {'tea': BASE + tax.TAX}\n",
        shop__tax="TAX = 1\n",
        shop__deep____init__="",
        shop__deep__er="import side\nBASE = side.VALUE\n",
        shop__till="import shop\nfrom .asks import asked\n\ndef pay(what):\n    return shop.PRICES[what], asked()\n",
        shop__asks=ASKED,
        side="VALUE = 10\n",
    )
    from shop.till import pay

    with HERE.open() as far:
        assert far.call(pay, "tea") == (11, 0), "(value, number of questions that the far end had)"


def test_what_is_imported_by_name_at_run_time_is_asked_for_with_what_it_needs(project):
    project(
        late____init__=ASKED,
        late__go="from late import asked\n\ndef go(name):\n    return __import__(name).VALUE, asked()\n",
        other____init__="from .a import VALUE\n",
        other__a="from .b import VALUE\n",
        other__b="VALUE = 3\n",
    )
    from late.go import go

    with HERE.open() as far:
        assert far.call(go, "other") == (3, 1)


def test_namespace_packages_and_their_parts(project):
    project(space__one="from space.sub import two\n\ndef value():\n    return two.VALUE, two.__package__\n")
    project(space__sub__two="VALUE = 2\n")
    from space.one import value

    assert HERE.call(value) == (2, "space.sub")


def test_a_part_of_yours_in_a_namespace_that_others_own_too(project, tmp_path):
    project(shared__mine="def value():\n    from shared import theirs\n    return theirs.VALUE\n")
    theirs = tmp_path / "site-packages" / "shared"
    theirs.mkdir(parents=True)
    (theirs / "theirs.py").write_text("VALUE = 'theirs'\n")
    from shared.mine import value

    assert (env(PYTHONPATH=str(theirs.parent)) | HERE).call(value) == "theirs"


def test_your_version_wins_over_one_that_is_installed_there(project, tmp_path):
    project(common_name="def value():\n    import common_rest\n    return 'near', common_rest.VALUE\n")
    project(common_rest="VALUE = 'near'\n")
    for name in ("common_name", "common_rest"):
        (tmp_path / f"{name}.py").write_text("VALUE = 'far'\n\ndef value():\n    return 'far', VALUE\n")
    import common_name

    assert (env(PYTHONPATH=str(tmp_path)) | HERE).call(common_name.value) == ("near", "near")


def test_a_package_that_is_partly_compiled_is_taken_from_where_it_is_installed(project, tmp_path):
    compiled = Path(getattr(importlib.import_module("_json"), "__file__", ""))
    if not compiled.is_file():
        pytest.skip("this Python has its _json built in, so there is no compiled module to borrow")
    project(mixed____init__="from . import _json\n\ndef value():\n    return 'near'\n")
    (project.root / "mixed" / compiled.name).write_bytes(compiled.read_bytes())
    import mixed

    with pytest.raises(ImportError) as caught:
        HERE.call(mixed.value)
    assert "'mixed._json' of your own code is compiled" in caught.value.__notes__[-1]
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "__init__.py").write_text("def value():\n    return 'far'\n")
    assert (env(PYTHONPATH=str(tmp_path)) | HERE).call(mixed.value) == "far"


def test_classes_of_arguments_and_callables_of_every_kind_travel(project):
    project(
        things="""
        import dataclasses, enum

        class Colour(enum.Enum):
            RED = 1

        @dataclasses.dataclass(frozen=True)
        class Point:
            x: int
            colour: Colour = Colour.RED

            def moved(self, by):
                return dataclasses.replace(self, x=self.x + by)

            @classmethod
            def at(cls, x):
                return cls(x)

            @staticmethod
            def nothing():
                return None

        class Adder:
            def __init__(self, amount):
                self.amount = amount

            def __call__(self, value):
                self.amount += 1
                return value + self.amount
        """
    )
    from things import Adder, Colour, Point

    with HERE.open() as far:
        assert far.call(Point(1).moved, 4) == Point(5)
        assert far.call(Point.at, 3) == Point(3, Colour.RED)
        assert far.call(Point.nothing) is None
        assert far.call(Adder(10), 1) == 12
        assert far.call(functools.partial(Adder(10), 2)) == 13
        assert far.call(max, [Colour.RED], key=lambda colour: colour.value) is Colour.RED
        assert far.call(lambda: [Point(n).moved(by=1) for n in range(2)]) == [Point(1), Point(2)]


def test_a_closure_made_there_comes_back(project):
    project(makers="def adder(n):\n    return lambda x: x + n\n")
    import makers

    assert HERE.call(makers.adder, 3)(4) == 7


# --- a module that changes


def test_a_reloaded_module_is_the_new_one_there_too_with_all_that_import_it(project):
    project(
        rate="RATE = 1\n",
        bill="from rate import RATE\nimport counter\n\ndef total():\n    counter.N += 1\n    return RATE, counter.N\n",
        counter="N = 0\n",
    )
    import bill
    import rate

    with HERE.open() as far:
        assert far.call(bill.total) == (1, 1)
        assert far.call(bill.total) == (1, 2)
        project(rate="RATE = 2\n")
        assert far.call(bill.total) == (1, 3), "what runs here is still the old one"
        importlib.reload(rate)
        assert far.call(bill.total) == (2, 4), "and what did not change kept its state"
        importlib.reload(rate)
        assert far.call(bill.total) == (2, 5)


def test_a_submodule_and_its_function_change(project):
    project(pack____init__="", pack__part="def value():\n    return 'old'\n")
    project(pack__user="from pack import part\n\ndef value():\n    return part.value()\n")
    from pack import part, user

    with HERE.open() as far:
        assert far.call(user.value) == "old"
        project(pack__part="def value():\n    return 'new'\n")
        importlib.reload(part)
        assert far.call(user.value) == "new"
        assert far.call(part.value) == "new"


def test_a_module_that_came_into_being_after_it_was_asked_for(project):
    project(seeker="def find(name):\n    return __import__(name).VALUE\n")
    import seeker

    with HERE.open() as far:
        with pytest.raises(ModuleNotFoundError):
            far.call(seeker.find, "newborn")
        project(newborn="VALUE = 1\n")
        importlib.import_module("newborn")
        assert far.call(seeker.find, "newborn") == 1


# --- scripts, however they are started


SCRIPT = """
from outrider import Route, local
import helper

class Box:
    def __init__(self, n):
        self.n = n

def work(n):
    return Box(helper.double(n))

if __name__ == "__main__":
    with Route(local()).open() as far:
        box = far.call(work, 4)
        again = far.call(lambda b: Box(b.n + 1), box)
    assert type(box) is Box and type(again) is Box
    print(box.n, again.n)
"""
HELPER = "def double(n):\n    return 2 * n\n"


def test_a_script_with_its_helpers(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "helper.py").write_text(HELPER)
    done = run_python(tmp_path / "script.py")
    assert done.stdout == "8 9\n", done.stderr


def test_a_module_that_is_run_as_the_script(tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text("")
    (tmp_path / "app" / "helper.py").write_text(HELPER)
    (tmp_path / "app" / "main.py").write_text(SCRIPT.replace("import helper", "from . import helper"))
    (tmp_path / "app" / "__main__.py").write_text(SCRIPT.replace("import helper", "from . import helper"))
    for name in ("app.main", "app"):
        done = run_python("-W", "error", "-m", name, cwd=tmp_path)
        assert done.stdout == "8 9\n", done.stderr


def test_what_is_typed_in_or_piped_in_goes_by_value(tmp_path):
    (tmp_path / "helper.py").write_text(HELPER)
    (tmp_path / "start.py").write_text("def earlier():\n    return 1\n")
    for arguments, stdin in (
        (["-c", SCRIPT], ""),
        (["-"], SCRIPT),
        (
            ["-i", "start.py"],
            "def later():\n    return earlier() + 1\n\n" + SCRIPT.strip().replace("\n\n", "\n#\n"),
        ),
    ):
        done = run_python(*arguments, cwd=tmp_path, stdin=stdin)
        if arguments[0] == "-i":
            continue
        assert done.stdout == "8 9\n", done.stderr
    typed = (
        "def later():\n    return earlier() + 1\n\nfrom outrider import local\nprint(local().call(later))\n"
    )
    done = run_python("-i", "start.py", cwd=tmp_path, stdin=typed)
    assert done.stdout == "2\n", done.stderr


# --- data of packages


def read_everything(package):
    import importlib.resources
    import pkgutil

    found = [pkgutil.get_data(package, "data/words.txt")]
    if hasattr(importlib.resources, "files"):
        root = importlib.resources.files(package)
        found.append((root / "data" / "words.txt").read_text(encoding="utf-8"))
        found.append(root.joinpath("data").joinpath("big.bin").read_bytes()[-3:])
        found.append(sorted(entry.name for entry in (root / "data").iterdir()))
        found.append(
            [(root / "data").is_dir(), (root / "nothing").is_file(), root.joinpath("table.csv").is_file()]
        )
        with importlib.resources.as_file(root / "table.csv") as path:
            found.append(path.read_text())
    with importlib.resources.open_binary(package, "table.csv") as file:
        found.append(file.read())
    return found


@pytest.fixture
def with_data(project):
    project(stocked____init__="import os\nHERE = os.path.dirname(__file__)\n")
    project(
        stocked__reader="import stocked\n\ndef by_path():\n    return open(stocked.HERE + '/table.csv').read()\n"
    )
    folder = project.root / "stocked" / "data"
    folder.mkdir()
    (folder / "words.txt").write_text("käse\n", encoding="utf-8")
    (folder / "big.bin").write_bytes(bytes(9 << 20) + b"end")
    (folder.parent / "table.csv").write_text("a,b\n")
    (project.root / "secret.txt").write_text("not inside the package")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_package_s_data_is_read_from_here(with_data):
    expected = [
        "käse\n".encode(),
        "käse\n",
        b"end",
        ["big.bin", "words.txt"],
        [True, False, True],
        "a,b\n",
        b"a,b\n",
    ]

    assert read_everything("stocked") == expected
    with HERE.open() as far:
        assert far.call(read_everything, "stocked") == expected


def outside(package):
    import importlib.resources

    return (importlib.resources.files(package) / ".." / "secret.txt").read_text()


def test_data_outside_of_the_package_stay_here(with_data):
    import stocked

    assert stocked.HERE
    with pytest.raises(FileNotFoundError):
        HERE.call(outside, "stocked")


def test_an_untrusted_far_end_gets_no_data(with_data):
    import stocked.reader

    def read():
        import pkgutil

        stocked.reader  # noqa: B018
        return pkgutil.get_data("stocked", "table.csv")

    with pytest.raises(FarError, match="FileNotFoundError"):
        HERE.options(trust="data").call(read)


def test_a_file_beside_a_module_is_known_to_be_here(with_data):
    import stocked.reader

    (Path(stocked.HERE) / "table.csv").rename(Path(stocked.HERE) / "was.csv")
    with pytest.raises(FileNotFoundError) as caught:
        HERE.call(stocked.reader.by_path)
    assert not any("importlib.resources" in note for note in caught.value.__notes__), "it is not here either"


# --- where it cannot work


def test_other_people_s_package_that_is_missing_there(project):
    project(wanting="import cloudpickle_is_not_this\n\ndef work():\n    pass\n")
    with pytest.raises(ImportError):
        importlib.import_module("wanting")

    def work():
        import wanting

        return wanting

    with pytest.raises(ModuleNotFoundError) as caught:
        HERE.call(work)
    assert "neither at local nor part of your own code" in caught.value.__notes__[-1]


def test_a_package_that_is_installed_here_only(project):
    project(clicking="def work():\n    import click\n    return click\n")
    import clicking

    with pytest.raises(ModuleNotFoundError) as caught:
        Route(local()).options(python=find_python("3.8")).call(clicking.work)
    assert "other people's packages do not travel" in caught.value.__notes__[-1]


# --- other versions of Python


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.12", "3.13"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_another_python_runs_your_modules_from_their_source(with_data, project, version):
    project(
        anywhere="""
        import dataclasses, functools, sys
        from stocked import HERE

        @dataclasses.dataclass
        class Point:
            x: int

        def work(point, scale):
            return sys.version_info[:2], Point(scale(point.x))

        def times(n, x):
            return n * x

        async def later(x):
            return x
    """
    )
    project(reading=inspect.getsource(read_everything))
    import reading
    from anywhere import Point, later, times, work

    with HERE.options(python=find_python(version)).open() as far:
        there, point = far.call(work, Point(2), functools.partial(times, 3))
        assert there == tuple(map(int, version.split(".")))
        assert point == Point(6)
        assert far.call(later, point) is not point
        found = far.call(reading.read_everything, "stocked")
        here = reading.read_everything("stocked")
        assert found == (here if version != "3.8" else [here[0], here[-1]]), (
            "3.8 has no importlib.resources.files"
        )


def test_bytecode_does_not_go_where_it_would_not_run(project):
    project(makers="import functools\n\ndef adder(n):\n    return lambda x: x + n\n")
    import makers

    with HERE.options(python=find_python("3.12")).open() as far:
        for call in (lambda: 1, functools.partial(sorted, key=makers.adder(1)), makers.adder(2)):
            with pytest.raises(VersionMismatch, match=r"3\.12") as caught:
                far.call(call)
            assert "python='python3.X'" in str(caught.value)
        with pytest.raises((AttributeError, pickle.PicklingError, TypeError), match="adder"):
            far.call(makers.adder, 2)


def test_syntax_and_modules_that_the_other_python_does_not_know(project):
    project(fresh="def work(x):\n    match x:\n        case 1: return 'one'\n")
    project(
        reader="def work():\n    import tomllib\n", needs="def work():\n    from asyncio import timeout\n"
    )
    import fresh
    import needs
    import reader

    with HERE.options(python=find_python("3.9")).open() as far:
        for work, words in (
            ((fresh.work, 1), "whose newer syntax 3.9 does not know"),
            ((reader.work,), "the 3.9 at local is older"),
            ((needs.work,), "may lack this"),
        ):
            with pytest.raises((SyntaxError, ImportError)) as caught:
                far.call(*work)
            assert words in "\n".join(caught.value.__notes__)


def test_nothing_is_sent_or_asked_again_for_a_call_that_needs_nothing_new(project):
    project(quiet=ASKED)
    import quiet

    with HERE.open() as far:
        far.call(quiet.asked)
        server = far.connection.modules
        assert server.news(quiet.asked, False, ()) is None
        assert server.news(max, False, ()) is None
        assert far.call(quiet.asked) == 0

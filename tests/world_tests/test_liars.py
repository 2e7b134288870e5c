"""A far end that speaks the protocol and lies: a call can fail, but not hang past its time, run code, write elsewhere, steer
the terminal, or fill the memory; and the next session works. `tests/samples/liar.py` plays the scenes."""

from __future__ import annotations

import dataclasses
import re
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import outrider
from outrider import FarError, Lost, OutriderError, Route, RouteError, TimedOut
from outrider.hops import base, local
from outrider.near import connection
from tests.samples import far_work, liar
from tests.world.machine import wait_for

TIMEOUT = 1.0
SLACK = 6.0
"""What may come on top of a timeout: the far end's time to confirm that it has cancelled, and three steps of ending its
process, both made shorter here; and something for a machine that is busy."""


def descriptors_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(connection, "CANCEL_WAIT", 0.5)
    monkeypatch.setattr(connection, "STALLED_WAIT", 0.3)
    # Most liars do not end when they are asked to: 3 s each, in 200 tests.
    monkeypatch.setattr(connection.Connection.close, "__defaults__", (0.3, ""))


@pytest.fixture(autouse=True)
def _nothing_stays_open():
    """No thread, no descriptor, and the next session works."""
    outrider.Route(local()).call(abs, 1)  # what is made once for all sessions is there
    threads, descriptors = threading.active_count(), descriptors_open()
    yield
    assert wait_for(lambda: threading.active_count() <= threads, 5), threading.enumerate()
    assert wait_for(lambda: descriptors_open() <= descriptors, 5)
    assert outrider.Route(local()).call(abs, -3) == 3


@dataclasses.dataclass
class Liars:
    folder: Path

    @property
    def canary(self) -> Path:
        """A file that hostile code would make."""
        return self.folder / "canary"

    def program(self, scene: str, argument: str = "") -> str:
        program = self.folder / f"python-{scene}"
        words = [sys.executable, liar.__file__, scene, argument or str(self.canary)]
        program.write_text(f"#!/bin/sh\nexec {shlex.join(words)}\n")
        program.chmod(0o755)
        return str(program)

    def route(self, scene: str, argument: str = "", *hops, **options) -> Route:
        settings = {"trust": "data", "timeout": TIMEOUT, "open_timeout": 20, "show": False, **options}
        return Route(*(hops or (local(),))).options(python=self.program(scene, argument), **settings)


@pytest.fixture
def liars(tmp_path):
    found = Liars(tmp_path)
    yield found
    assert not found.canary.exists(), "code of the far end's ran here"


class Within:
    """The block takes no more than so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __enter__(self):
        self.started = time.monotonic()

    def __exit__(self, *_):
        assert time.monotonic() - self.started < self.seconds


def memory() -> int:
    """The most memory that this process has had since `forget_peak`, in bytes."""
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


# --- time -----------------------------------------------------------------------------------------------------------

SLOW = ["silent", "deaf", "drip", "drip_part", "others_answers", "unknown_kinds", "greetings", "stderr_flood"]


@pytest.mark.parametrize("scene", SLOW)
def test_a_call_ends_in_its_time(liars, scene):
    with liars.route(scene).open() as far, Within(TIMEOUT + SLACK), pytest.raises(TimedOut, match="hint:"):
        far.call(far_work.add, 1)


@pytest.mark.parametrize("scene", ["silent", "drip_part", "others_answers"])
def test_a_command_ends_in_its_time(liars, scene):
    with liars.route(scene).open() as far, Within(TIMEOUT + SLACK), pytest.raises(TimedOut):
        far.run(["true"])


@pytest.mark.parametrize("scene", ["silent", "credit_drip", "others_answers", "deaf"])
@pytest.mark.parametrize("direction", ["put", "get"])
def test_a_transfer_ends_in_its_time_and_writes_nothing(liars, tmp_path, scene, direction):
    (tmp_path / "mine").write_bytes(bytes(1 << 23))
    with liars.route(scene).open() as far, Within(TIMEOUT + SLACK), pytest.raises((TimedOut, RouteError)):
        far.put(tmp_path / "mine", "there") if direction == "put" else far.get("there", tmp_path / "got")
    assert not (tmp_path / "got").exists()


@pytest.mark.parametrize("scene", ["silent", "deaf", "others_answers"])
def test_the_last_of_many_in_the_background_is_told_too(liars, scene):
    with liars.route(scene).open() as far, Within(TIMEOUT + SLACK):
        futures = [far.submit(far_work.add, n) for n in range(3)]
        for future in futures:
            with pytest.raises((TimedOut, Lost)):
                future.result(TIMEOUT + SLACK)


def test_what_comes_on_top_of_a_timeout_is_what_the_documentation_says(liars, monkeypatch):
    """The real waits, once: 5 s to confirm, and 3 s to end it."""
    monkeypatch.undo()
    with liars.route("deaf").open() as far, Within(TIMEOUT + 5 + 3 + 3), pytest.raises(TimedOut):
        far.call(far_work.add, 1)


def test_a_flood_to_one_session_does_not_stop_another(liars):
    with liars.route("others_answers", timeout=None).open() as flooded, Route(local()).open() as honest:
        flooded.submit(far_work.add, 1)
        time.sleep(0.3)
        with Within(10):
            assert [honest.submit(abs, n).result(10) for n in range(20)] == list(range(20))


@pytest.mark.parametrize("what", ["argument", "stdin", "file"])
def test_a_far_end_that_takes_nothing_does_not_hold_the_sender(liars, tmp_path, what):
    large = bytes(20 << 20)
    (tmp_path / "mine").write_bytes(large)
    gives = {
        "argument": lambda far: far.call(len, large),
        "stdin": lambda far: far.run(["cat"], stdin=large),
        "file": lambda far: far.put(tmp_path / "mine", "there"),
    }
    with liars.route("deaf").open() as far, Within(TIMEOUT + SLACK), pytest.raises(TimedOut):
        gives[what](far)


def test_others_are_told_when_one_finds_that_nothing_is_taken(liars):
    with liars.route("deaf", timeout=None).open() as far, Within(3 * TIMEOUT + SLACK):
        waiting = far.submit(far_work.add, 1)
        with pytest.raises(TimedOut):
            far.options(timeout=TIMEOUT).call(len, bytes(20 << 20))
        with pytest.raises(Lost, match="took nothing more"):
            waiting.result(5)


@pytest.mark.parametrize("scene", ["no_greeting", "half_a_greeting", "not_reading"])
def test_an_opening_ends_in_its_time(liars, scene):
    with Within(TIMEOUT + SLACK), pytest.raises(TimedOut):
        liars.route(scene, open_timeout=TIMEOUT, env={"LARGE": "x" * (4 << 20)}).open()


def test_noise_without_end_is_no_greeting(liars):
    with Within(20), pytest.raises(RouteError, match="prints without end"):
        liars.route("noise").open()


@pytest.mark.parametrize("scene", ["deaf", "stderr_flood"])
def test_closing_ends_it_whatever_it_does(liars, scene):
    far = liars.route(scene).open()
    with Within(12):
        far.close()
    assert far.connection.process.poll() is not None


# --- memory ---------------------------------------------------------------------------------------------------------

CAP = 16 << 20
OWN = 24 << 20
"""What this process takes for itself meanwhile: pieces under way, threads, and what the allocator does not give back."""
GREEDY = {
    "output_flood": "",
    "output_in_crumbs": "",
    "unasked_line": "",
    "unwanted_large": "",
    "too_large": "",
    "never_complete": str(12 << 20),
    "many_announcements": "",
    "announced_twice": "",
    "many_segments": "",
    "large_question": "",
    "questions": "",
    "content_flood": "",
    "content_crumbs": "",
    "stderr_flood": "",
}


@pytest.mark.parametrize("scene", GREEDY)
@pytest.mark.parametrize("what", ["call", "get"])
def test_memory_stays_under_the_cap(liars, tmp_path, scene, what):
    with liars.route(scene, GREEDY[scene], max_answer=CAP, show=True).open() as far:
        forget_peak()
        before = memory()
        with Within(TIMEOUT + SLACK), pytest.raises(OutriderError):
            far.call(far_work.add, 1) if what == "call" else far.get("there", tmp_path / "got")
        assert memory() - before < 3 * CAP + OWN


@pytest.mark.parametrize("kind", ["sets", "dicts", "nothings"])
def test_a_value_that_grows_when_it_is_read_is_refused(liars, kind):
    with liars.route("bomb", kind, max_answer=CAP, timeout=20).open() as far:
        forget_peak()
        before = memory()
        with pytest.raises(FarError, match="max_answer"):
            far.call(far_work.add, 1)
        assert memory() - before < 3 * CAP + OWN


def test_output_beyond_the_cap_is_left_out_and_that_is_said():
    with Route(local()).options(trust="data", max_answer=1 << 20, show=False).open() as far:
        done = far.run("head -c 3000000 /dev/zero | tr '\\0' a")
        assert done.returncode == 0
        assert re.fullmatch(
            rb"a{1048576}\n\[outrider: 1951424 bytes more, beyond max_answer\]\n", done.stdout
        )


def test_an_answer_beyond_the_cap_fails_its_call_and_no_other():
    with Route(local()).options(trust="data", max_answer=1 << 20, show=False).open() as far:
        with pytest.raises(FarError, match="raise max_answer"):
            far.call(bytes, 3 << 20)
        with pytest.raises(FarError, match="raise max_answer"):
            far.submit(bytes, 3 << 20).result(20)
        assert far.call(bytes, 3) == bytes(3)


def test_many_large_answers_at_once_have_room_each():
    with Route(local()).options(trust="data", max_answer=4 << 20, show=False).open() as far:
        futures = [far.submit(bytes, 3 << 20) for _ in range(6)]
        assert [len(future.result(30)) for future in futures] == [3 << 20] * 6


READS_ARCHIVES = r"decompress|zipfile|gzip|bz2|lzma|unpack_archive|extract|tarfile\.open\((?!path, \"w\")"
RUNS_THERE = {"visits.py": "import base64,zlib;SOURCE=zlib.decompress("}
"""Programs that the near end sends as text: what they unpack is our own source, at the far side."""


def test_nothing_of_the_far_ends_is_decompressed_here():
    """No bombs of that kind: the near end packs, and never unpacks."""
    near = [path for path in Path(outrider.__file__).parent.rglob("*.py") if path.parent.name != "far"]
    assert near
    for path in near:
        text = path.read_text().replace(RUNS_THERE.get(path.name, "\0"), "")
        assert not re.search(READS_ARCHIVES, text), path


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scene", ["pong", "bare", "result"])
@pytest.mark.parametrize("what", ["call", "run", "ping", "get", "put"])
def test_an_answer_of_the_wrong_kind_is_none(liars, tmp_path, scene, what):
    (tmp_path / "mine").write_text("x")
    if (scene, what) == ("pong", "ping") or (scene, what) == ("result", "call"):
        return  # the right kind
    asks = {
        "call": lambda far: far.call(far_work.add, 1),
        "run": lambda far: far.run(["true"]),
        "ping": lambda far: far.ping(TIMEOUT),
        "get": lambda far: far.get("there", tmp_path / "got"),
        "put": lambda far: far.put(tmp_path / "mine", "there"),
    }
    with (
        liars.route(scene).open() as far,
        Within(TIMEOUT + SLACK),
        pytest.raises(OutriderError, match="hint:"),
    ):
        asks[what](far)
    assert not (tmp_path / "got").exists()


def test_the_first_answer_counts(liars):
    with liars.route("twice").open() as far:
        assert [far.call(far_work.add, n) for n in range(5)] == ["first"] * 5
        assert [f.result(5) for f in [far.submit(far_work.add, n) for n in range(5)]] == ["first"] * 5


def test_a_near_end_obeys_no_orders(liars):
    with liars.route("orders").open() as far:
        assert far.call(far_work.add, 1) == "served"


@pytest.mark.parametrize("number", ["lots", "-1", "9" * 5000, "9" * 4000, "1.5", "", "\0"])
def test_credit_that_is_none_holds_nobody(liars, number):
    with (
        liars.route("credit", number).open() as far,
        Within(TIMEOUT + SLACK),
        pytest.raises((TimedOut, Lost)),
    ):
        far.run(["cat"], stdin=[b"x" * 100000] * 100)


# --- code -------------------------------------------------------------------------------------------------------------

PICKLES = [
    "pickled_result",
    "pickled_beside",
    "pickled_buffers",
    "pickled_exception",
    "pickled_everywhere",
    "marshalled",
]


@pytest.mark.parametrize("scene", PICKLES)
def test_nothing_is_ever_unpickled(liars, scene):
    with liars.route(scene).open() as far, pytest.raises(FarError):
        far.call(far_work.add, 1)


@pytest.mark.parametrize("scene", PICKLES)
def test_nor_for_futures_commands_and_files(liars, tmp_path, scene):
    with liars.route(scene).open() as far, pytest.raises(OutriderError):
        far.submit(far_work.add, 1).result(5)
    with liars.route(scene).open() as far, pytest.raises(OutriderError):
        far.run(["true"])
    with liars.route(scene).open() as far, pytest.raises(OutriderError):
        far.get("there", tmp_path / "got")


def test_the_canary_can_be_made(liars):
    """Where the far end is trusted, the same answer does run code here: these tests can fail."""
    with liars.route("pickled_result", trust="pickle").open() as far:
        far.call(far_work.add, 1)
    assert liars.canary.exists()
    liars.canary.unlink()


def test_an_open_session_cannot_be_made_to_trust(liars):
    with liars.route("pickled_result").open() as far, pytest.raises(outrider.ConfigError, match="trust"):
        far.options(trust="pickle")


SAID = {
    "deep": "b'L\\x01' * 100000 + b'N'",
    "a number of a million digits": "b'I\\xff\\xff' + b'\\x7f' * 65535",
    "a class": "b'x' + dumps('os:system') + dumps({'command': 'touch canary'})",
    "a Decimal": "b'x' + dumps('decimal.Decimal') + dumps('1e999999999')",
    "colliding keys": "b'w*' + (5000).to_bytes(4, 'little') + b''.join(dumps(k * ((1 << 61) - 1)) for k in range(9, 5009))",
    "a cut text": "b'S' + b'\\xff' * 8",
    "nothing": "b''",
}


@pytest.mark.parametrize("what", SAID)
def test_hostile_values_are_refused(liars, what):
    with (
        liars.route("said", SAID[what]).open() as far,
        Within(TIMEOUT + SLACK),
        pytest.raises(FarError, match="hint:"),
    ):
        far.call(far_work.add, 1)


class Counter:
    def __init__(self):
        self.count = 0

    def add(self, number):
        self.count += number


class Slotted:
    __slots__ = ("count",)

    def __init__(self):
        self.count = 0


STATES = {
    "none": "dumps(1)",
    "no state": "dumps((1, 2))",
    "a dunder": "dumps((1, ({'__class__': 'str'}, None, None)))",
    "a number as a name": "dumps((1, ({1: 2}, None, None)))",
    "slots that are none": "dumps((1, (({}, {'gone': 1}), None, None)))",
    "the class as a slot": "dumps((1, ((None, {'__class__': 1}), None, None)))",
    "items of what is no list": "dumps((1, ({}, [1], None)))",
    "pairs of what is no dict": "dumps((1, ({}, None, [(1, 2)])))",
    "a text": "dumps((1, ('count', None, None)))",
}


@pytest.mark.parametrize("kind", [Counter, Slotted])
@pytest.mark.parametrize("state", STATES)
def test_no_state_is_taken_over_that_an_object_cannot_have(liars, state, kind):
    subject = kind()
    with liars.route("said", STATES[state]).open() as far, pytest.raises(FarError, match="hint:"):
        far.invoke(subject, "add", 1)
    assert type(subject) is kind
    assert subject.count == 0
    assert getattr(subject, "__dict__", {}) in ({}, {"count": 0})


# --- files ------------------------------------------------------------------------------------------------------------

BODY = " + content(b'evil' * 1000) + END"
MANIFESTS = {
    "..": f"listing(names=[b'..'], sizes=[4000]){BODY}",
    "a name of two": f"listing(names=[b'../got-out'], sizes=[4000]){BODY}",
    "absolute": f"listing(names=[b'/tmp/got-out'], sizes=[4000]){BODY}",
    "a NUL": f"listing(names=[b'a\\0b'], sizes=[4000]){BODY}",
    "no name": f"listing(names=[b''], sizes=[4000]){BODY}",
    "a long name": f"listing(names=[b'n' * 5000], sizes=[4000]){BODY}",
    "below no folder": f"ROOT + listing(b'a/b', names=[b'x'], sizes=[4000]){BODY}",
    "a folder up": f"ROOT + listing(b'..', names=[b'got-out'], sizes=[4000]){BODY}",
    "an absolute folder": f"ROOT + listing(b'/tmp', names=[b'got-out'], sizes=[4000]){BODY}",
    "below a link": "listing(links=[b'a'], targets=[b'..'])"
    f" + listing(b'a', names=[b'got-out'], sizes=[4000]){BODY}",
    "a root elsewhere": f"listing(b'..', names=[b'got-out'], sizes=[4000]){BODY}",
    "a link out": "listing(links=[b'a'], targets=[b'/etc/passwd']) + END",
    "a link up": "listing(links=[b'a'], targets=[b'b/../../got-out']) + END",
    "no manifest": "dumps('manifest')",
    "nothing": "END",
    "a pickle": "item(1, evil())",
    "billions": "listing(count=1 << 31) + END",
    "an endless listing": "item(1, bytes(10 ** 6), 1 << 40)",
    "too long a file": f"listing(names=[b'a'], sizes=[1 << 63]){BODY}",
    "a strange mode": f"listing(names=[b'a'], sizes=[4000], modes=[0xffff]){BODY}",
    "more content than announced": f"listing(names=[b'a'], sizes=[10]){BODY}",
    "less content than announced": f"listing(names=[b'a'], sizes=[4001]){BODY}",
    "twice": f"listing(names=[b'a', b'a'], sizes=[2000, 2000]){BODY}",
    "content that nobody asked for": f"ROOT{BODY}",
}


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_no_manifest_writes_elsewhere(liars, tmp_path, manifest):
    place = tmp_path / "place"
    place.mkdir()
    route = liars.route("files", MANIFESTS[manifest])
    with route.open() as far, Within(TIMEOUT + SLACK), pytest.raises(OutriderError, match="hint:"):
        far.get("there", place / "got")
    assert {path.name for path in tmp_path.iterdir()} <= {"place", "python-files"}
    assert {path.name for path in place.iterdir()} <= {"got"}
    assert not (place / "got").is_symlink()
    assert not [path for path in (place / "got").rglob("*") if path.is_symlink()]
    assert not Path("/tmp/got-out").exists()


def test_a_file_comes_with_no_mode_that_gives_rights(liars, tmp_path):
    manifest = (
        f"listing(names=[b'a'], sizes=[4000], modes=[0o6777]){BODY[:-6]} + listing(b'b', mode=0o7777) + END"
    )
    with liars.route("files", manifest).open() as far:
        far.get("there", tmp_path / "got")
    assert (tmp_path / "got" / "a").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "got" / "b").stat().st_mode & 0o7777 == 0o755


def test_a_link_within_is_a_link(liars, tmp_path):
    manifest = f"listing(names=[b'a'], sizes=[4000]) + listing(b'b', links=[b'c'], targets=[b'../a']){BODY}"
    with liars.route("files", manifest).open() as far:
        far.get("there", tmp_path / "got")
    assert (tmp_path / "got" / "b" / "c").read_bytes() == b"evil" * 1000


@pytest.mark.parametrize(
    "wanted",
    ["b'AA'", "b'NS'", "b'/etc/passwd'", "bytes(100)", "b'A' * 100000"],
)
def test_a_far_end_gets_what_was_offered_and_nothing_else(liars, tmp_path, wanted):
    (tmp_path / "mine").write_text("x")
    with liars.route("wants", wanted).open() as far, pytest.raises(RouteError, match=r"not offered|hint:"):
        far.put(tmp_path / "mine", "there")


# --- words ------------------------------------------------------------------------------------------------------------


def steers(text: str) -> bool:
    return re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", text) is not None


@pytest.mark.parametrize("ending", ["returns", "raises", "dies"])
def test_what_a_call_prints_and_raises_does_not_steer_the_terminal(liars, capfd, ending):
    with liars.route("steering", ending, show=True).open() as far:
        try:
            far.call(far_work.add, 1)
        except OutriderError as error:
            told = "\n".join([str(error), *getattr(error, "__notes__", [])])
        else:
            told = ""
    out, err = capfd.readouterr()
    assert "plain words" in out + err
    assert not steers(out)
    assert not steers(err)
    assert not steers(told)
    assert told or ending == "returns"


def test_a_name_does_not_steer_the_terminal(liars, capfd):
    with liars.route("hostile_name", show=True).open() as far:
        assert not steers(far.far.host + far.far.user + repr(far))
        assert len(far.far.user) < 300
        assert "\n" not in far.far.user


@pytest.mark.parametrize("words", [["run"], ["call"]])
@pytest.mark.parametrize("ending", ["run", "raises", "dies"])
def test_the_command_line_on_a_terminal(liars, tmp_path, words, ending):
    """`outrider run` and `outrider call`, on a terminal of their own, in a far end's hands."""
    from tests.command_line import Terminal

    config = tmp_path / "config.toml"
    program = liars.program("steering", "call" if (words, ending) == (["call"], "run") else ending)
    config.write_text(f'[defaults]\npython = "{program}"\ntrust = "data"\ntimeout = 5\n')
    argv = [
        sys.executable,
        "-m",
        "outrider",
        words[0],
        "local",
        "--",
        *(["true"] if words == ["run"] else ["math:sqrt", "4"]),
    ]
    with Terminal(argv, env={"OUTRIDER_CONFIG": str(config)}) as terminal:
        terminal.end()
    shown = terminal.shown.decode(errors="replace").replace("\r", "").replace("\x1b[0m", "")
    assert "plain words" in shown
    assert not steers(shown)


# --- generators -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scene",
    [
        "items_that_never_come",
        "item_of_a_terabyte",
        "item_that_is_a_pickle",
        "items_with_a_broken_beginning",
    ],
)
def test_a_generator_of_a_liar_s_ends_in_time_and_takes_no_memory(liars, scene):
    forget_peak()
    before = memory()
    with (
        Within(TIMEOUT + SLACK),
        liars.route(scene).open() as far,
        pytest.raises((FarError, Lost, TimedOut)),
    ):
        next(far.call(far_work.counting, 3))
    assert memory() - before < 64 << 20


def test_items_beyond_what_may_be_under_way_end_the_session(liars):
    forget_peak()
    before = memory()
    with Within(TIMEOUT + SLACK), liars.route("items_without_end").open() as far:
        items = far.call(far_work.counting, 3)
        assert [next(items) for _ in range(1000)] == [1] * 1000, "as long as they are taken they are no harm"
        with pytest.raises((Lost, TimedOut)):
            far.call(far_work.add, 1)  # who waits for something else reads them all
        with pytest.raises(Lost):
            list(items)
    assert memory() - before < 64 << 20


@pytest.mark.parametrize("scene", ["items_that_never_come", "items_without_end"])
def test_closing_a_generator_that_does_not_end_is_bounded(liars, scene):
    with Within(TIMEOUT + SLACK), liars.route(scene).open() as far:
        far.call(far_work.counting, 3).close()


def test_items_of_what_is_no_call_and_items_after_the_end(liars):
    with liars.route("items_for_a_command").open() as far, pytest.raises((Lost, FarError)):
        far.run(["true"])
    with liars.route("items_that_end_twice").open() as far:
        assert list(far.call(far_work.counting, 3)) == [5]


@dataclasses.dataclass(frozen=True)
class Asking(base.Hop):
    """A hop whose program may ask for a secret, and does not."""

    name = "asking"

    def wrap(self, command):
        return command

    def prompts(self):
        return (base.Prompt(b"[secret please] ", lambda: "the secret"),)


def test_a_far_end_that_prints_a_hops_prompt_is_told_nothing(liars):
    with liars.route("phishing", "[secret please] ", Asking(), timeout=10).open() as far:
        assert far.call(far_work.add, 1) == b""


def test_a_prompt_of_sudos_cannot_be_foreseen():
    def marker():
        code = "from outrider import sudo; print(sudo('x', password='prompt').prompts()[0].marker)"
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert marker() != marker()

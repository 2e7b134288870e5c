"""Interactive pairs: a contestant and a referee in real jails, whatever either of them does."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider import Sandbox, TimedOut, interact
from outrider.errors import ConfigError, Refused
from outrider.session import Session

LIMITS = {"time": "3s", "wall": "10s", "memory": "128M", "processes": 8, "output": "1M", "disk": "4M"}

REFEREE = """
import sys
secret, asked = int(sys.argv[1]), 0
for line in sys.stdin:
    asked += 1
    try:
        guess = int(line)
    except ValueError:
        print("no number", file=sys.stderr)
        sys.exit(2)
    try:
        print("less" if guess > secret else "more" if guess < secret else "yes", flush=True)
    except BrokenPipeError:
        sys.exit(99)
    if guess == secret:
        print("found after", asked, file=sys.stderr)
        sys.exit(0)
print("it gave up", file=sys.stderr)
sys.exit(1)
"""
GOOD = """
low, high = 0, 1 << 20
while True:
    guess = (low + high) // 2
    print(guess, flush=True)
    said = input()
    if said == "yes":
        break
    low, high = (low, guess - 1) if said == "less" else (guess + 1, high)
"""


@pytest.fixture(scope="module")
def box():
    with Sandbox(**LIMITS) as box:
        try:
            box.run(["true"])
        except Refused as error:
            pytest.skip(f"no sandbox here: {error}")
        yield box


def python(box, text, *args):
    return box.program(["python3", "main.py", *args], files={"main.py": text})


def played(box, contestant, referee=REFEREE, **options):
    judge = box.limited(wall="8s")
    return interact(python(box, contestant), python(judge, referee, "777777"), **options)


def test_a_good_contestant(box):
    heard: dict[str, bytes] = {}

    def note(name, piece):
        heard[name] = heard.get(name, b"") + piece

    done = played(box, GOOD, on_output=note)
    assert done.ok
    assert done.failed_first is None
    assert (done.contestant.verdict, done.referee.verdict) == ("OK", "OK")
    assert b"found after" in done.referee.stderr
    assert heard == {"referee": done.referee.stderr}
    assert done.contestant.stdout == b""
    assert 0 < done.contestant.usage.cpu_s < 3
    assert done.contestant.usage.output_bytes > 20
    assert done.report()["contestant"]["verdict"] == "OK"


def test_thousands_of_words_each_way(box):
    contestant = "for n in range(5000):\n print(n, flush=True)\n assert int(input()) == n + 1"
    referee = "import sys\nfor line in sys.stdin:\n print(int(line) + 1, flush=True)"
    done = played(box, contestant, referee)
    assert done.ok
    assert done.first == "contestant"


def test_megabytes_one_way_to_a_slow_reader(box):
    contestant = "import sys\nsys.stdout.write('x' * 3_000_000)"
    referee = "import sys, time\ntime.sleep(0.5)\nassert len(sys.stdin.read()) == 3_000_000"
    done = played(box.limited(output="8M"), contestant, referee)
    assert done.ok


def test_both_send_much_before_they_read(box):
    """Neither takes what the other says: each waits for the other, until its time is over."""
    both = "import sys\nsys.stdout.write('x' * 900_000); sys.stdout.flush()\nsys.stdin.read()"
    began = time.monotonic()
    done = interact(
        python(box.limited(wall="1s"), both), python(box.limited(wall="3s"), both, "1"), linger=None
    )
    assert time.monotonic() - began < 15
    assert (done.contestant.verdict, done.first, done.failed_first) == ("TLE", "contestant", "contestant")


def test_a_contestant_that_closes_its_stdout_early(box):
    done = played(box, "import os\nprint(5, flush=True); input()\nos.close(1)\nimport sys; sys.stdin.read()")
    assert done.referee.exit_code == 1
    assert b"it gave up" in done.referee.stderr
    assert done.contestant.verdict == "OK"
    assert (done.first, done.failed_first) == ("referee", "referee")


def test_a_contestant_that_closes_its_stdin_early(box):
    """What the referee says is then dropped, not its own failure."""
    done = played(box, "import os\nos.close(0)\nfor n in range(10): print(n, flush=True)")
    assert done.referee.exit_code == 1
    assert b"it gave up" in done.referee.stderr
    assert done.contestant.ok


def test_a_contestant_that_ends_at_once(box):
    done = played(box, "raise SystemExit(3)")
    assert (done.contestant.verdict, done.contestant.exit_code) == ("RE", 3)
    assert done.referee.exit_code == 1
    assert (done.first, done.failed_first) == ("contestant", "contestant")


def test_a_contestant_that_is_killed_in_the_midst(box):
    done = played(box, "import os\nprint(5, flush=True); input()\nos.kill(os.getpid(), 11)")
    assert done.contestant.signal == "SIGSEGV"
    assert done.referee.exit_code == 1
    assert done.failed_first == "contestant"


def test_a_contestant_that_floods(box):
    done = played(box, "while True: print('1' * 60000, flush=True)", "import sys\nsys.stdin.read()")
    assert done.contestant.verdict == "OLE"
    assert done.contestant.usage.output_bytes > 1 << 20
    assert done.referee.ok
    assert done.failed_first == "contestant"


def test_a_contestant_that_floods_a_referee_that_does_not_read(box):
    done = played(
        box.limited(wall="1s"), "while True: print('1' * 60000, flush=True)", "import time\ntime.sleep(1)"
    )
    assert done.contestant.verdict in ("OLE", "TLE", "RE")
    assert done.referee.ok


def test_a_contestant_that_floods_its_stderr(box):
    done = played(box, "import sys\nwhile True: print('1' * 60000, file=sys.stderr, flush=True)")
    assert done.contestant.verdict == "OLE"
    assert len(done.contestant.stderr) <= 1 << 20


def test_a_contestant_that_never_answers(box):
    began = time.monotonic()
    done = played(box.limited(wall="1s"), "import time\ntime.sleep(60)")
    assert time.monotonic() - began < 15
    assert done.contestant.verdict == "TLE"
    assert (done.first, done.failed_first, done.referee.exit_code) == ("contestant", "contestant", 1)


def test_a_contestant_that_computes_for_ever(box):
    done = played(box.limited(time="300ms"), "while True: pass")
    assert done.contestant.verdict == "TLE"
    assert done.contestant.usage.cpu_s < 1
    assert done.failed_first == "contestant"


def test_a_contestant_that_goes_on_after_its_referee(box):
    done = played(box, "import time\ntime.sleep(60)", "pass", linger=0.3)
    assert done.contestant.verdict == "TLE"
    assert "referee had ended" in done.contestant.message
    assert (done.first, done.failed_first) == ("referee", "contestant")


def test_a_contestant_that_talks_to_a_referee_that_has_ended(box):
    done = played(box, "while True: print(1, flush=True)", "pass", linger=5)
    assert done.contestant.verdict == "RE"  # a broken pipe, as of any
    assert done.contestant.usage.wall_s < 4
    assert done.referee.ok
    assert done.first == "referee"


def test_a_referee_that_never_answers(box):
    judge = box.limited(wall="700ms")
    done = interact(python(box, GOOD), python(judge, "import time\ntime.sleep(60)"))
    assert (done.referee.verdict, done.failed_first) == ("TLE", "referee")
    assert done.contestant.verdict == "RE"  # EOFError


def test_what_a_child_of_the_contestant_says(box):
    child = "if os.fork() == 0:\n print(777777, flush=True)\n os._exit(0)\n"
    contestant = f"import os\n{child}os.wait(); assert input() == 'yes'"
    assert played(box, contestant).ok


def test_a_program_that_is_not_there(box):
    done = interact(box.program(["no-such-program"]), python(box, REFEREE, "1"))
    assert (done.contestant.verdict, done.contestant.exit_code) == ("RE", 127)
    assert done.referee.exit_code == 1
    done = interact(python(box, GOOD), box.program(["no-such-program"]))
    assert done.referee.exit_code == 127
    assert done.failed_first == "referee"


@pytest.mark.parametrize("which", ["contestant", "referee"])
def test_one_that_is_refused(box, which):
    fine, refused = python(box, GOOD), python(box.limited(engine="none"), GOOD)
    began = time.monotonic()
    with pytest.raises(Refused, match="none"):
        interact(*((refused, fine) if which == "contestant" else (fine, refused)))
    assert time.monotonic() - began < 8
    assert box.run(["true"]).ok


def test_its_time_for_all(box):
    sleeps = "import time\ntime.sleep(60)"
    began = time.monotonic()
    with pytest.raises(TimedOut):
        played(box, sleeps, sleeps, timeout=0.7)
    assert time.monotonic() - began < 8
    until = time.monotonic() + 5
    while box.connection.under_way() and time.monotonic() < until:
        time.sleep(0.01)
    assert not box.connection.under_way()
    assert box.run(["true"]).ok


def test_files_both_ways(box):
    talks = "import sys\nopen('out', 'w').write(sys.argv[1] + open('in').read())"
    one, two = (
        box.program(["python3", "-c", talks, name], files={"in": name.upper()}, collect=["out"])
        for name in ("one", "two")
    )
    done = interact(one, two)
    assert (done.contestant.outputs, done.referee.outputs) == ({"out": b"oneONE"}, {"out": b"twoTWO"})


def test_many_pairs_at_once(box):
    done = []
    threads = [threading.Thread(target=lambda: done.append(played(box, GOOD))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [each.ok for each in done] == [True] * 5


ACTS = (
    "os.write(1, b'x' * {size})",
    "os.write(1, b'word\\n')",
    "os.read(0, {size})",
    "os.read(0, 1)",
    "time.sleep(0.02)",
    "os.close(0)",
    "os.close(1)",
    "os.dup2(2, 1)",
    "os.write(2, b'y' * {size})",
    "os.fork()",
    "os._exit({code})",
    "os.kill(os.getpid(), 9)",
    "os.kill(os.getppid(), 9)",
    "os.set_blocking(1, False)",
)


@given(st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_whatever_the_two_do(box, random):
    """It comes to an end within the limits, with two verdicts, and the next pair is none the worse."""

    def program():
        acts = [
            random.choice(ACTS).format(size=random.choice([1, 5000, 70000, 300000]), code=random.randrange(3))
            for _ in range(random.randrange(8))
        ]
        return "import os, time\n" + "\n".join(acts)

    small = box.limited(wall="1s", output="512K")
    began = time.monotonic()
    done = interact(python(small, program()), python(small, program()), linger=random.choice([0, 0.1, None]))
    assert time.monotonic() - began < 10
    for result in (done.contestant, done.referee):
        assert result.verdict in ("OK", "RE", "TLE", "OLE")
        assert result.usage.wall_s < 5
    assert done.failed_first in ((None,) if done.ok else ("contestant", "referee"))


def test_nothing_stays_open():
    """Of pairs that end in the middle of a word, no descriptor and no thread is left at the far end."""
    with Sandbox(**LIMITS) as box:
        plain = Session(box.chain, box.settings, box.connection)
        look = f"ls /proc/{box.far.pid}/fd | wc -l; ls /proc/{box.far.pid}/task | wc -l"

        def opened() -> list[int]:
            """Descriptors and threads."""
            return [int(word) for word in plain.run(look).text.split()]

        for number in range(24):
            done = interact(
                box.program("printf half; exit 1"), box.program("printf ha; read -r line; exit 2")
            )
            assert (done.contestant.exit_code, done.referee.exit_code) == (1, 2)
            if number == 3:
                early = opened()
        deadline = time.monotonic() + 10  # the last threads may still be on their way out
        while any(now > then + 1 for now, then in zip(opened(), early, strict=True)):
            assert time.monotonic() < deadline, (opened(), early)
            time.sleep(0.1)


def test_bad_pairs(box):
    with pytest.raises(TypeError, match="program"):
        interact(["true"], box.program(["true"]))
    free = Sandbox.limited(box, time=None, wall=None)
    with pytest.raises(ConfigError, match="limit of time"):
        interact(free.program(["true"]), box.program(["true"]))
    with pytest.raises(ConfigError, match="linger"):
        interact(box.program(["true"]), box.program(["true"]), linger=-1)
    with Sandbox(**LIMITS) as other, pytest.raises(ConfigError, match="two sessions"):
        interact(box.program(["true"]), other.program(["true"]))
    with pytest.raises(ConfigError, match="cannot read"):
        box.program(["true"], files={"a": Path("/no/such/file")})


@pytest.mark.parametrize("name", ["contestant", "referee"])
def test_who_was_first_is_told_however_soon_the_other_follows(box, name):
    """Whoever waits ends in the moment in which it hears of the other's end, often before that is noted."""
    ends, follows = "exit 3", "read x; exit 4"
    for _ in range(20):
        programs = box.program(ends), box.program(follows)
        done = interact(*(programs if name == "contestant" else reversed(programs)))
        assert done.first == done.failed_first == name
    killed = box.limited(time="50ms").program("while :; do :; done"), box.program(follows)
    for _ in range(10):
        done = interact(*(killed if name == "contestant" else reversed(killed)))
        assert done.first == done.failed_first == name

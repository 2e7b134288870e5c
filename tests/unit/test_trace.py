"""Traces: what is recorded of calls, commands, files and openings, and the forms in which it is shown."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import threading
import time
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

import outrider
from outrider import ConfigError, Route, TimedOut, env, local, login, relay, ssh, sudo
from outrider.chain import Chain
from outrider.command import Command
from outrider.hops.mark import PATTERN
from outrider.traces import tracing
from outrider.traces.spans import Span
from outrider.traces.views.rows import human, rows_of
from outrider.traces.views.waterfall import waterfall
from tests.command_line import outrider as program

HERE = Route(local()).options(show=False)


@pytest.fixture(autouse=True)
def _nobody_traces_afterwards():
    yield
    assert tracing.note is None
    assert tracing.note_request is None


@pytest.fixture(scope="module")
def far():
    with HERE.open() as session:
        yield session


def names(found, kind=None):
    return [span.name for span in found.spans if kind in (None, span.kind)]


def test_the_way_of_one_call(far):
    with outrider.trace() as found:
        far.call(time.sleep, 0.05)
    (call,) = found.spans
    assert (call.kind, call.name, call.error, call.place) == ("call", "sleep", "", "local")
    assert call.host == os.uname().nodename
    assert [part.name for part in call.children][:3] == ["pack", "send", "wait"]
    (run,) = call.children[2].children
    assert run.name == "run"
    assert 0.05 <= run.duration <= call.duration < 10
    assert call.about["seconds_there"] >= 0.05
    for span in call.walk():
        for child in span.children:
            assert span.start <= child.start <= child.end <= span.end + 1e-9


def test_a_large_answer_is_seen_arriving(far):
    with outrider.trace() as found:
        far.call(os.urandom, 5_000_000)
    assert [part.name for part in found.spans[0].children] == ["pack", "send", "wait", "receive", "unpack"]


def test_the_opening_of_a_route():
    with outrider.trace() as found, HERE.open() as session:
        pid = session.connection.process.pid
    opened, closed = found.spans
    assert (opened.kind, closed.kind) == ("open", "close")
    assert [(hop.kind, hop.name) for hop in opened.children] == [("hop", "local"), ("hop", "greet")]
    assert [phase.name for phase in opened.children[0].children] == ["start python3"]
    assert sum(hop.duration for hop in opened.children) == pytest.approx(opened.duration, rel=0.1)
    assert opened.session == closed.session == 1
    assert pid > 0


def test_an_opening_that_fails_is_there_with_its_hop():
    route = Route(local(), login("false")).options(open_timeout=20)
    with outrider.trace() as found, pytest.raises(outrider.RouteError):
        route.open()
    (opened,) = found.spans
    assert opened.error == "RouteError"
    assert [hop.error for hop in opened.children] == ["RouteError"]


def test_marks_tell_which_hop_is_passed():
    with outrider.trace() as found:
        assert Route(login("sleep 0.2"), login("sleep 0.1")).run(["echo", "hi"]).text == "hi"
    first, second, greet = found.spans[0].children
    assert (first.name, second.name, greet.name) == ("login", "login", "greet")
    assert first.duration > 0.2
    assert second.duration > 0.1


def test_commands_and_files(far, tmp_path):
    (tmp_path / "data").write_bytes(os.urandom(300_000))
    with outrider.trace() as found:
        far.run(["/bin/sh", "-c", "echo secret-word; exit 3"])
        far.put(tmp_path / "data", tmp_path / "there")
        far.get(tmp_path / "there", tmp_path / "back")
        with pytest.raises(outrider.RouteError):
            far.run(["no-such-program"])
    command, put, get, missing = found.spans
    assert (command.kind, command.name, command.about["returncode"]) == ("command", "sh", 3)
    assert (put.kind, put.about["files"], get.kind, get.about["files"]) == ("put", 1, "get", 1)
    assert put.about["bytes"] >= 300_000 and put.about["bytes_per_second"] > 0
    assert (missing.name, missing.error) == ("no-such-program", "not started")


def test_progress_is_still_told(far, tmp_path):
    (tmp_path / "data").write_bytes(os.urandom(1000))
    seen = []
    with outrider.trace():
        far.put(
            tmp_path / "data", tmp_path / "there", progress=lambda done, total: seen.append((done, total))
        )
    assert seen


def test_what_fails_is_marked():
    with HERE.open() as far, outrider.trace() as found:
        with pytest.raises(ValueError):
            far.call(math.sqrt, -1)
        with pytest.raises(TimedOut):
            far.options(timeout=0.1).call(time.sleep, 30)
    raised, late = found.spans
    assert (raised.error, late.error) == ("ValueError", "TimedOut")
    assert raised.about["seconds_there"] >= 0
    assert 0.1 <= late.duration < 20


def test_a_far_end_that_is_lost():
    with HERE.open() as session, outrider.trace() as found, pytest.raises(outrider.Lost):
        session.call(os._exit, 0)
    assert [span.error for span in found.spans if span.kind == "call"] == ["Lost"]


def test_modules_that_travel(tmp_path, monkeypatch):
    (tmp_path / "of_mine.py").write_text(
        "def work():\n    from more_of_mine import answer\n    return answer\n"
    )
    (tmp_path / "more_of_mine.py").write_text("answer = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    import of_mine

    with outrider.trace() as found, HERE.open() as session:
        assert session.call(of_mine.work) == 42
    modules = [span for span in found.spans if span.kind == "module"]
    assert "more_of_mine" in [span.name for span in modules]
    (call,) = [span for span in found.spans if span.kind == "call"]
    assert all(call.start <= span.start and span.end <= call.end for span in modules)


def test_background_calls_threads_and_methods(far):
    def work():
        far.call(math.sqrt, 4)

    with outrider.trace() as found:
        assert far.submit(math.floor, 2.5).result() == 2
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert far.invoke([1], "append", 2) is None
        assert list(far.map(abs, [-1, -2])) == [1, 2]
    called = [name for name in names(found, "call") if "." not in name]
    assert sorted(called) == [
        "abs",
        "abs",
        "append",
        "floor",
        "sqrt",
    ]


def test_traces_may_be_nested_and_overlap(far):
    with outrider.trace() as outer:
        far.call(math.sqrt, 1)
        with outrider.trace() as inner:
            far.call(math.floor, 1)
        far.call(math.ceil, 1)
    far.call(math.exp, 1)
    assert names(outer) == ["sqrt", "floor", "ceil"]
    assert names(inner) == ["floor"]


def test_of_requests_the_latest_are_kept():
    with outrider.trace(limit=5) as found, HERE.open() as session:
        for _ in range(20):
            session.call(math.sqrt, 1)
    assert names(found) == ["open", *["sqrt"] * 5, "close"]
    with pytest.raises(ConfigError):
        outrider.trace(limit=0)


def test_a_forked_child_records_nothing():
    with outrider.trace():
        child = os.fork()
        if not child:
            os._exit(0 if tracing.note is None and tracing.note_request is None else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert tracing.note is not None


# --- nothing that is nobody's business ------------------------------------------------------------------------------

SECRETS = ("argument-secret", "environment-secret", "output-secret", "setup-secret", "message-secret")


def fail(text):
    raise ValueError("message-" + text)


def everything(found):
    return found.text() + found.svg() + json.dumps(found.chrome()) + repr(found.spans)


def test_no_arguments_environment_output_or_messages_are_in_a_trace():
    setup = login("export A=setup-secret")
    route = Route(setup, env(B="environment-secret")).options(env={"C": "environment-secret"}, show=False)
    with outrider.trace() as found, route.open() as far:
        far.call(len, "argument-secret")
        far.call(print, "output-secret")
        far.run("echo argument-secret; echo output-secret", env={"D": "environment-secret"})
        with pytest.raises(ValueError):
            far.call(int, "message-secret")
    assert len(found.spans) == 6
    for secret in SECRETS:
        assert secret not in everything(found)


# --- the forms ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def busy():
    with outrider.trace() as found, HERE.open() as session:
        for number in range(30):
            session.call(math.sqrt, number)
        futures = [session.submit(time.sleep, 0.02) for _ in range(4)]
        for future in futures:
            future.result()
        session.run(["sleep", "0.05"])
        with pytest.raises(ValueError):
            session.call(math.sqrt, -1)
    return found


def test_the_waterfall(busy):
    text = busy.text()
    lines = text.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].startswith("local  (")
    assert lines[1].startswith("  open ")
    assert "call sqrt × 27, median" in text
    assert "✗ ValueError" in text
    assert all(line.isascii() for line in busy.text(ascii_only=True).splitlines())
    assert max(map(len, busy.text(120).splitlines())) > 80


def test_bars_lie_where_the_time_was():
    spans = [Span("call", "a", 0.0, 0.5, session=1), Span("call", "b", 0.5, 0.5, session=1)]
    first, second = waterfall(spans).splitlines()[1:]
    assert first.index("█") < second.index("█")
    assert first.count("█") == pytest.approx(second.count("█"), abs=1)
    assert second.index("█") - first.index("█") == pytest.approx(first.count("█"), abs=1)


@given(
    st.lists(
        st.builds(
            Span,
            kind=st.sampled_from(["call", "open", "put", "phase"]),
            name=st.text(max_size=90),
            start=st.floats(0, 1e6),
            duration=st.floats(0, 1e6),
            error=st.sampled_from(["", "Lost"]),
            session=st.integers(1, 3),
            place=st.text(max_size=90),
        ),
        max_size=12,
    ),
    st.integers(0, 200),
)
def test_every_form_holds_whatever_the_spans_are(spans, width):
    from outrider.traces.views.chrome import chrome
    from outrider.traces.views.picture import picture

    text = waterfall(spans, width)
    assert all(len(line) <= max(width, 60) for line in text.split("\n"))
    ElementTree.fromstring(picture(spans))
    json.loads(json.dumps(chrome(spans)))
    assert len([row for row in rows_of(spans) if row.span]) <= len(spans)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 µs"), (0.00004549, "45 µs"), (0.0009999, "1.0 ms"), (0.4123, "412.3 ms"), (0.9999, "1.00 s"),
        (1.5, "1.50 s"), (4000, "4000 s"),
    ],
)  # fmt: skip
def test_times_as_a_person_reads_them(seconds, shown):
    assert human(seconds) == shown


def test_the_picture(busy):
    root = ElementTree.fromstring(busy.svg())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= {"svg", "style", "line", "text", "g", "title", "rect"}
    assert "prefers-color-scheme: dark" in busy.svg()


def test_the_json_of_tracing_viewers(busy):
    events = busy.chrome()["traceEvents"]
    lanes = {}
    for event in events:
        assert {"name", "ph", "pid", "tid", "ts"} <= set(event)
        assert event["ph"] in ("X", "M")
        assert isinstance(event["ts"], (int, float)) and isinstance(event["tid"], int)
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name") and event["args"]["name"]
        else:
            assert event["dur"] >= 0 and event["ts"] >= 0
            lanes.setdefault((event["pid"], event["tid"]), []).append(event)
    assert len(lanes) >= 4  # four slept at once
    for own in lanes.values():  # in a lane, one lies within the other or after it
        open_ = []
        for event in sorted(own, key=lambda event: (event["ts"], -event["dur"])):
            end = event["ts"] + event["dur"]
            while open_ and open_[-1] <= event["ts"] + 0.002:
                open_.pop()
            assert not open_ or end <= open_[-1] + 0.002
            open_.append(end)


def test_files_by_their_suffix(busy, tmp_path):
    for suffix, begins in ((".txt", "local"), (".svg", "<svg"), (".json", "{")):
        busy.save(tmp_path / f"trace{suffix}")
        assert (tmp_path / f"trace{suffix}").read_text().startswith(begins)
    with pytest.raises(ConfigError, match="suffix"):
        outrider.trace(tmp_path / "trace.png")


def test_a_file_is_written_at_the_end_even_after_an_error(tmp_path, far):
    with pytest.raises(ValueError), outrider.trace(tmp_path / "t.txt"):
        far.call(math.sqrt, -1)
    assert "call sqrt" in (tmp_path / "t.txt").read_text()


def test_nothing_traced_is_said():
    with outrider.trace() as found:
        pass
    assert found.text() == "nothing was traced\n"
    assert found.spans == ()
    ElementTree.fromstring(found.svg())


# --- OpenTelemetry --------------------------------------------------------------------------------------------------


@pytest.fixture
def telemetry():
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider, exporter
    provider.shutdown()


def test_spans_for_opentelemetry(telemetry):
    provider, exporter = telemetry
    before = time.time_ns()
    own = provider.get_tracer("mine")
    with outrider.trace(otel=provider), HERE.open() as session, own.start_as_current_span("my work") as mine:
        session.call(math.sqrt, 4)
        session.submit(math.floor, 4.5).result()
        session.run(["sh", "-c", "exit 3"])
        with pytest.raises(ValueError):
            session.call(math.sqrt, -1)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    by_id = {span.context.span_id: span for span in exporter.get_finished_spans()}
    for name in ("call floor", "command sh"):
        assert spans[name].parent.span_id == mine.get_span_context().span_id
    assert spans["open"].parent is None
    assert by_id[spans["greet"].parent.span_id].name == "open"
    assert by_id[by_id[spans["run"].parent.span_id].parent.span_id].kind.name == "CLIENT"
    command = spans["command sh"].attributes
    assert command["process.executable.name"] == "sh" and command["process.exit.code"] == 3
    call = spans["call floor"].attributes
    assert (call["rpc.system"], call["rpc.method"]) == ("outrider", "floor")
    assert call["server.address"] == os.uname().nodename
    failed = next(span for span in by_id.values() if span.attributes.get("error.type") == "ValueError")
    assert failed.status.status_code.name == "ERROR" and not failed.status.description
    for span in by_id.values():
        assert before <= span.start_time <= span.end_time <= time.time_ns()
    exporter.clear()
    with HERE.open():
        pass
    assert exporter.get_finished_spans() == ()


# --- marks and what programs tell -----------------------------------------------------------------------------------


def test_behind_sudo_and_relays_nothing_changes():
    chain = Chain(ssh("a"), sudo("b"), ssh("c"), login())
    plain, traced = chain.explain(Command(["x", "y"])), chain.traced().explain(Command(["x", "y"]))
    assert plain[2].argv == traced[3].argv  # what sudo runs; before it stands one mark
    assert plain[1].argv == traced[2].argv
    assert "LogLevel=DEBUG1" in traced[0].argv
    relayed = Chain(ssh("a"), relay("r"))
    from outrider.far.loader import LOADER

    far_end = Command(["python3", "-c", LOADER])
    assert relayed.traced().explain(far_end)[2].argv == ("outrider", "relay", "r")
    assert Chain(relay("r")).traced() == Chain(relay("r"))


def test_a_traced_chain_carries_the_same_command(tmp_path):
    chain = Chain(env(A="1"), login(), login()).traced()
    command = chain.wrap(Command(["sh", "-c", 'echo "$A $1"; pwd', "sh", "a 'b'\n$c"], cwd="/"))
    done = subprocess.run(
        command.argv, env={**os.environ, **command.env}, cwd=command.cwd, capture_output=True
    )
    assert re.findall(PATTERN, done.stdout) == [b"1"]
    assert re.sub(PATTERN, b"", done.stdout) == b"1 a 'b'\n$c\n/\n"


SSH_TELLS = b"""\
debug1: Connecting to h [1.2.3.4] port 22.\r
a banner\r
debug1: Connection established.\r
debug1: SSH2_MSG_NEWKEYS received\r
Authenticated to h ([1.2.3.4]:22) using "publickey".\r
debug2: of the user's own
debug1: Sending command: exec secret\r
"""


@given(st.lists(st.integers(0, len(SSH_TELLS)), max_size=8))
def test_what_ssh_tells_is_heard_and_kept_out_in_whatever_pieces_it_comes(cuts):
    edges = [0, *sorted(cuts), len(SSH_TELLS)]
    passage = tracing.Passage(Chain(ssh("h")))
    pieces = [SSH_TELLS[start:end] for start, end in pairwise(edges)]
    kept = b"".join(passage.without_chatter(piece) for piece in pieces)
    assert kept == b"a banner\r\ndebug2: of the user's own\n"
    assert [phase for _, _, phase in passage._events] == ["connect", "key exchange", "authenticate"]


def test_a_prompt_is_not_held_back():
    passage = tracing.Passage(Chain(ssh("h"), sudo("u", password=lambda: "x")))
    marker = passage.hops[1].prompts()[0].marker
    assert passage.without_chatter(b"debug1: x\r\n" + marker) == marker


def test_marks_of_hops_that_are_not_there_are_nothing():
    passage = tracing.Passage(Chain(ssh("a"), ssh("b")))
    buffer = b"x\0outrider passed 0\n\0outrider passed 7\ny\0outrider pas"
    assert passage.without_marks(buffer) == b"xy\0outrider pas"
    assert [(hop, phase) for _, hop, phase in passage._events] == [(0, "start")]


# --- the command line -----------------------------------------------------------------------------------------------


def test_trace_of_a_verb(tmp_path):
    done = program("run", "--trace", "-", "local", "--", "sh", "-c", "echo out; exit 3")
    assert (done.returncode, done.stdout) == (3, b"out\n")
    assert "command sh → 3" in done.stderr.decode()
    done = program("run", "--trace", "-", "local", "--", "true", env={"PYTHONIOENCODING": "ascii"})
    assert "command true" in done.stderr.decode("ascii")
    file = tmp_path / "trace.json"
    assert program("call", "--trace", file, "local", "math:sqrt", "4").stdout == b"2.0\n"
    assert "sqrt" in {event["name"] for event in json.loads(file.read_text())["traceEvents"]}
    assert program("map", "--trace", tmp_path / "t.svg", "local", "math:sqrt", "4", "9").returncode == 0
    ElementTree.parse(tmp_path / "t.svg")
    assert (
        program("group", "run", "--trace", tmp_path / "t.txt", "--on", "local", "--", "true").returncode == 0
    )
    assert "command true" in (tmp_path / "t.txt").read_text()
    assert program("cp", "--trace", "-", file, f"local::{tmp_path}/copy").stderr.count(b"put 1 file") == 1


def test_a_trace_file_that_cannot_be_is_told_before_anything_runs(tmp_path):
    for file in (tmp_path / "t.png", tmp_path / "no-such-folder" / "t.svg"):
        done = program("run", "--trace", file, "local", "--", "touch", tmp_path / "ran")
        assert done.returncode == 2
        assert b"--trace" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_variable_traces_a_whole_program(tmp_path):
    file = tmp_path / "of-%p.txt"
    done = program("run", "local", "--", "true", env={"OUTRIDER_TRACE": str(file)})
    assert done.returncode == 0
    (written,) = tmp_path.glob("of-*.txt")
    assert written.name[3:-4].isdigit()
    assert "command true" in Path(written).read_text()

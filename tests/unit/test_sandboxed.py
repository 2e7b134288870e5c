"""Sandboxes, as their users meet them: by route, by class and by command line, in real jails."""

from __future__ import annotations

import json
import os
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

import outrider
from outrider import Route, Sandbox, SandboxEnded, local, sandbox
from outrider.checking import check
from outrider.errors import CommandFailed, ConfigError, FarError, Refused
from outrider.far import images as far_images
from outrider.sandboxed import images
from outrider.sandboxed.result import parsed
from tests.samples import far_work

LIMITS = {"time": "2s", "memory": "256M", "processes": 32, "output": "1M", "disk": "16M"}
SPIN = ["sh", "-c", "while :; do :; done"]


@pytest.fixture(scope="module")
def box():
    with Sandbox(**LIMITS) as box:
        try:
            box.run(["true"])
        except Refused as error:
            pytest.skip(f"no sandbox here: {error}")
        yield box


def test_a_command_its_streams_files_and_figures(box):
    done = box.run(
        "cat; cat note; echo oops >&2; echo made > out", stdin=b"in\n", files={"note": "n\n"}, collect=["out"]
    )
    assert (done.verdict, done.stdout, done.stderr, done.outputs) == (
        "OK",
        b"in\nn\n",
        b"oops\n",
        {"out": b"made\n"},
    )
    assert done.ok and done.exit_code == 0 and done.engine
    assert 0 < done.usage.cpu_s < 2 and 0 < done.usage.wall_s < 30
    assert done.usage.output_bytes == 10
    assert json.loads(json.dumps(done.report()))["verdict"] == "OK"


def test_each_job_begins_anew(box):
    assert box.run("echo x > here; echo y > /tmp/there; ls").text == "here"
    assert box.run("ls . /tmp").text.split() == [".:", "/tmp:"]


@pytest.mark.parametrize(
    ("script", "limits", "verdict"),
    [
        ("exit 3", {}, "RE"),
        ("kill -SEGV $$", {}, "RE"),
        ("while :; do :; done", {"time": "200ms"}, "TLE"),
        ("sleep 30", {"wall": "300ms"}, "TLE"),
        ("python3 -c 'print(len(b\"x\" * 200_000_000))'", {"memory": "64M"}, "MLE"),
        ("yes", {"output": "64K"}, "OLE"),
    ],
)
def test_verdicts(box, script, limits, verdict):
    done = box.limited(**limits).run(script)
    assert done.verdict == verdict
    assert done.message
    assert not done.ok


def test_check_raises_with_the_verdict(box):
    with pytest.raises(CommandFailed, match="RE: it ended with exit code 3") as caught:
        box.run("exit 3", check=True)
    assert caught.value.completed.verdict == "RE"


def test_a_function_by_route_and_by_class(box):
    route = local() | sandbox(**LIMITS)
    assert route.call(far_work.add, 1, 2) == 3
    assert box.call(lambda: (1, {"a": b"b"})) == (1, {"a": b"b"})
    assert list(box.map(far_work.add, range(4), range(4))) == [0, 2, 4, 6]
    with box.limited() as own:
        assert own.submit(far_work.add, 2, 2).result(30) == 4
    with pytest.raises(FarError, match="Trouble"), box.inside() as far:
        far.call(far_work.raises)


def test_what_a_function_gives_is_never_unpickled(box):
    class Hostile:
        def __reduce__(self):
            return os.system, ("touch /tmp/outrider-was-here",)

    with pytest.raises((FarError, outrider.OutriderError)):
        box.call(Hostile)
    assert not Path("/tmp/outrider-was-here").exists()


def test_a_function_that_is_ended_says_why(box):
    with pytest.raises(SandboxEnded) as caught:
        box.limited(time="300ms").call(far_work.spin)
    assert caught.value.verdict == "TLE"
    assert caught.value.usage.cpu_s > 0.25
    with pytest.raises(SandboxEnded, match="MLE"):
        box.limited(memory="64M").call(far_work.allocate, 300_000_000)


def test_nothing_of_the_callers_is_inside(box, tmp_path):
    (tmp_path / "secret").write_text("s")
    os.environ["A_SECRET"] = "s"
    try:
        shown = box.run(f"env; cat {tmp_path}/secret; id -u; ls /root /home").stdout
    finally:
        del os.environ["A_SECRET"]
    assert b"A_SECRET" not in shown
    assert b"0" not in shown.split()


def test_a_folder_is_shown_read_only(box, tmp_path):
    (tmp_path / "data").write_text("seen\n")
    tmp_path.chmod(0o755)
    done = box.limited(ro={str(tmp_path): "/shown"}).run("cat /shown/data; echo x > /shown/data")
    assert (done.stdout, done.verdict) == (b"seen\n", "RE")
    assert (tmp_path / "data").read_text() == "seen\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"time": "soon"}, "not a time"),
        ({"memory": "much"}, "not a size"),
        ({"processes": 0}, "at least 1"),
        ({"engine": "magic"}, "no engine"),
        ({"rootfs": "here"}, "absolute"),
        ({"ro": {"data": "/data"}}, "absolute"),
        ({"rootfs": "/", "image": "x"}, "exclude"),
        ({"timme": "1s"}, "time"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(ConfigError, match=words):
        sandbox(**options)


@pytest.mark.parametrize("inside", ["", ".", "/", "../x", "a/../../x", 3])
def test_paths_that_are_none(box, inside):
    with pytest.raises(ConfigError, match="not a path inside"):
        box.run(["true"], files={inside: b""})


def test_files_of_many_kinds(box, tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "file").write_text("deep\n")
    (tmp_path / "deep" / "link").symlink_to("/etc/passwd")
    (tmp_path / "program").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "program").chmod(0o755)
    files = {
        "a/b/text": "text\n",
        "raw": bytearray(b"raw\n"),
        "folder": tmp_path / "deep",
        "program": tmp_path / "program",
        "script": "#!/bin/sh\necho script\n",
        "/tmp/elsewhere": b"else\n",
    }
    done = box.run(
        "cat a/b/text raw folder/er/file /tmp/elsewhere; ./program; ./script; ls folder", files=files
    )
    assert done.text.split("\n") == ["text", "raw", "deep", "else", "ran", "script", "er"]


def test_files_that_cannot_be(box, tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        box.run(["true"], files={"x": tmp_path / "none"})
    with pytest.raises(ConfigError, match="bytes, text or a Path"):
        box.run(["true"], files={"x": 3})
    with pytest.raises(ConfigError, match="list of paths"):
        box.run(["true"], collect="out")


def test_it_is_the_last_hop():
    with pytest.raises(ConfigError, match="last hop"):
        (Route(sandbox()) | local()).open()


@pytest.mark.parametrize(
    "report",
    [
        None,
        {},
        {"verdict": "FINE"},
        {"verdict": "OK", "usage": {"cpu_s": -1}},
        {"verdict": "OK", "usage": {"cpu_s": float("inf")}},
        {"verdict": "OK", "usage": {"processes": 1 << 90}},
        {"verdict": "OK", "usage": {}, "message": 3},
        {"verdict": "OK", "usage": {}, "outputs": {"a": "text"}},
        {"verdict": "OK", "usage": {}, "missing": [1]},
    ],
)
def test_a_report_that_is_none(report):
    with pytest.raises(FarError, match="report"):
        parsed(report)


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OUTRIDER_IMAGES", str(tmp_path / "unpacked"))
    return tmp_path


def test_an_image_is_kept_listed_checked_and_removed(kept):
    (kept / "tree" / "etc").mkdir(parents=True)
    (kept / "tree" / "etc" / "motd").write_text("hello\n")
    added = images.add("small", str(kept / "tree"))
    assert images.listed() == [added]
    again = images.add("other", added.archive.as_uri(), added.sha256)
    assert again.sha256 == added.sha256
    images.remove("small")
    assert images.check("other") == again
    again.archive.write_bytes(b"changed")
    with pytest.raises(ConfigError, match="changed"):
        images.check("other")
    with pytest.raises(ConfigError, match="no sandbox image"):
        images.named("small")
    with pytest.raises(ConfigError, match="SHA-256"):
        images.add("bad", str(kept / "tree"), "0" * 64)
    assert not [path for path in images.home().iterdir() if path.name.startswith(".")]


def _archive(path, *members):
    with tarfile.open(path, "w") as tar:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind == tarfile.REGTYPE:
                member.size = len(content)
                tar.addfile(member, BytesIO(content))
            else:
                member.linkname = content
                tar.addfile(member)
    return path


@pytest.mark.parametrize(
    "members",
    [
        [("../out", tarfile.REGTYPE, b"x")],
        [("/out", tarfile.REGTYPE, b"x")],
        [("a/../../out", tarfile.REGTYPE, b"x")],
        [("hard", tarfile.LNKTYPE, "../secret")],
        [("way", tarfile.SYMTYPE, ".."), ("hard", tarfile.LNKTYPE, "way/secret")],
    ],
)
def test_an_archive_that_leads_out_of_itself(tmp_path, members):
    (tmp_path / "secret").write_text("s")
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises((far_images.ImageError, OSError)):
        far_images.unpack(_archive(tmp_path / "a.tar", *members), str(root))
    assert not (tmp_path / "out").exists()
    assert not (root / "hard").exists()


def test_nothing_is_written_through_a_link(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    members = [("way", tarfile.SYMTYPE, ".."), ("way/out", tarfile.REGTYPE, b"x")]
    with pytest.raises(far_images.ImageError):
        far_images.unpack(_archive(tmp_path / "a.tar", *members), str(root))
    assert not (tmp_path / "out").exists()


# --- outrider check ---------------------------------------------------------------------------------------------------


def test_check_tells_what_the_engines_can_hold(box):
    reports = list(check(Route(local()) | local()))
    assert reports[0].sandbox == ()
    native = reports[1].sandbox[0]
    missing = box.run(["true"]).missing
    assert native == ("native, without " + ", ".join(missing) if missing else "native")


def test_check_of_a_route_to_a_sandbox(box):
    assert list(check(local() | sandbox(**LIMITS)))[-1].sandbox[0].startswith("native")
    refused = list(check(local() | sandbox(engine="none")))[-1]
    assert not refused.reached
    assert "cannot hold" in refused.error

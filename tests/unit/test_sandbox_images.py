"""Sandbox images: what is kept, what is refused, and that nothing of an archive reaches beside its folder."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from outrider import Route, Sandbox, errors, hops
from outrider.far import images as far_images
from outrider.sandboxed import images

ROOT = [
    ("dir", "./", 0o755, ""),
    ("file", "./bin/tool", 0o4755, "#!/bin/sh\n"),
    ("link", "./bin/sh", 0, "/bin/tool"),
    ("link", "./usr/lib/near", 0, "../share/text"),
    ("file", "./usr/share/text", 0o644, "text\n"),
    ("hard", "./usr/share/second", 0, "./usr/share/text"),
    ("device", "./dev/null", 0o666, ""),
]
KINDS = {
    "dir": tarfile.DIRTYPE,
    "file": tarfile.REGTYPE,
    "link": tarfile.SYMTYPE,
    "hard": tarfile.LNKTYPE,
    "device": tarfile.CHRTYPE,
    "pipe": tarfile.FIFOTYPE,
}


def archive(path, members, mode="w"):
    """A tar archive of (kind, name, mode, contents or target)."""
    with tarfile.open(path, mode) as tar:
        for kind, name, bits, text in members:
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.mtime = KINDS[kind], bits, 1_500_000_000
            if kind == "file":
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text.encode()))
            else:
                member.linkname = text
                tar.addfile(member)
    return path


@pytest.fixture(autouse=True)
def own_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "near"))
    monkeypatch.setenv("OUTRIDER_IMAGES", str(tmp_path / "far"))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_a_root_folder_is_unpacked_as_it_is(tmp_path, mode):
    root = tmp_path / "root"
    root.mkdir()
    before = os.umask(0o077)
    try:
        far_images.unpack(archive(tmp_path / "a.tar", ROOT, mode), root)
    finally:
        os.umask(before)
    assert (root / "bin/tool").stat().st_mode & 0o7777 == 0o755
    assert (root / "usr").stat().st_mode & 0o777 == 0o755
    assert (root / "bin/sh").readlink() == Path("../bin/tool")
    assert (root / "usr/lib/near").read_text() == "text\n"
    assert (root / "usr/share/second").samefile(root / "usr/share/text")
    assert (root / "usr/share/text").stat().st_mtime == 1_500_000_000
    assert not (root / "dev").exists() or not list((root / "dev").iterdir())


HOSTILE = {
    "a name above": [("file", "../evil", 0o644, "x")],
    "a name in the middle above": [("file", "a/../../evil", 0o644, "x")],
    "a name from the root": [("file", "/tmp/evil", 0o644, "x")],
    "a link above": [("link", "up", 0, "..")],
    "a link above, from a folder": [("file", "a/b", 0o644, "x"), ("link", "a/up", 0, "../../x")],
    "a link that climbs through another": [
        ("dir", "a/b", 0o755, ""),
        ("link", "a/b/up", 0, "../.."),
        ("link", "out", 0, "a/b/up/../evil"),
    ],
    "a file through a link": [("link", "a", 0, "/b"), ("dir", "b", 0o755, ""), ("file", "a/x", 0o644, "x")],
    "a link through a link": [("dir", "b", 0o755, ""), ("link", "a", 0, "b"), ("link", "a/x", 0, "y")],
    "a second name through a link": [
        ("file", "b/x", 0o644, "x"),
        ("link", "a", 0, "b"),
        ("hard", "y", 0, "a/x"),
    ],
    "a second name of what is outside": [("hard", "passwd", 0, "/etc/passwd")],
    "a second name of a link": [("link", "a", 0, "/etc/passwd"), ("hard", "b", 0, "a")],
    "a second name of a folder": [("dir", "a", 0o755, ""), ("hard", "b", 0, "a")],
    "a device": [("device", "null", 0o666, "")],
    "a pipe": [("pipe", "etc/pipe", 0o666, "")],
    "a folder over a file": [("dir", "a", 0o755, ""), ("file", "a", 0o644, "x")],
    "a root that is a file": [("file", ".", 0o644, "x")],
    "too deep": [("dir", "/".join("d" * 150), 0o755, "")],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_leads_out_is_refused(tmp_path, case):
    root = tmp_path / "place" / "root"
    root.mkdir(parents=True)
    with pytest.raises(far_images.ImageError):
        far_images.unpack(archive(tmp_path / "a.tar", HOSTILE[case]), root)
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["root"]
    assert not Path("/tmp/evil").exists()
    with pytest.raises(errors.ConfigError, match="no image"):
        images.add("bad", tmp_path / "a.tar")
    assert images.listed() == []
    assert not [path for path in images.home().iterdir() if path.name != "lock"]


def test_what_is_too_much_is_refused(tmp_path):
    many = archive(tmp_path / "many.tar", [("file", str(n), 0o644, "") for n in range(20)])
    large = archive(tmp_path / "large.tar.gz", [("file", "zeros", 0o644, "\0" * (8 << 20))], "w:gz")
    for name, source, more in (("a", many, {"most_files": 10}), ("b", large, {"most_bytes": 1 << 20})):
        root = tmp_path / name
        root.mkdir()
        with pytest.raises(far_images.ImageError, match="more than"):
            far_images.unpack(source, root, **more)


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path):
    path = tmp_path / "a.tar.gz"
    member = tarfile.TarInfo("pax")
    member.type, member.size = tarfile.XHDTYPE, 1 << 30
    import gzip

    with gzip.open(path, "wb") as file:
        file.write(member.tobuf(tarfile.USTAR_FORMAT) + bytes(1 << 20))
    (tmp_path / "root").mkdir()
    with pytest.raises(far_images.ImageError, match="header"):
        far_images.unpack(path, tmp_path / "root")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_what_is_cut_short_or_broken_is_refused(tmp_path, mode):
    whole = archive(tmp_path / "a.tar", ROOT, mode).read_bytes()
    for number, said in enumerate(
        (whole[: min(3000, len(whole) // 2)], whole[:20], b"", whole[:100] + b"\xff" * 9000)
    ):
        (tmp_path / "b.tar").write_bytes(said)
        root = tmp_path / f"root{number}"
        root.mkdir()
        with pytest.raises(far_images.ImageError):
            far_images.unpack(tmp_path / "b.tar", root)


def test_names(tmp_path):
    source = archive(tmp_path / "a.tar", ROOT)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    made = images.add("py", source, digest.upper())
    assert (made.sha256, images.named("py"), images.listed()) == (digest, made, [made])
    images.add("other", source)
    images.remove("py")
    assert made.archive.exists()
    with pytest.raises(errors.ConfigError, match="there are other"):
        images.named("py")
    images.add("other", archive(tmp_path / "b.tar", ROOT[:3]))
    assert not made.archive.exists(), "nobody's archive any more"
    for name in ("", "../x", "a/b", ".hidden", "-x"):
        with pytest.raises(errors.ConfigError, match="not a name"):
            images.add(name, source)
    with pytest.raises(errors.ConfigError, match="has the SHA-256"):
        images.add("py", source, "0" * 64)
    with pytest.raises(errors.ConfigError, match="not a SHA-256"):
        images.add("py", source, "abc")


def test_a_changed_image_is_found_out(tmp_path):
    image = images.add("py", archive(tmp_path / "a.tar", ROOT))
    images.check("py")
    content = bytearray(image.archive.read_bytes())
    content[600] ^= 1
    image.archive.write_bytes(content)
    for whole in (True, False):
        with pytest.raises(errors.ConfigError, match="changed or lost"):
            images.check("py", whole=whole)


def test_a_folder_gives_the_same_image_twice(tmp_path):
    folder = tmp_path / "folder"
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/motd").write_text("hello\n")
    (folder / "run").mkdir()
    os.mkfifo(folder / "run/pipe")
    assert images.add("one", folder).sha256 == images.add("two", folder).sha256
    os.mkfifo(folder / "etc/pipe")
    with pytest.raises(errors.ConfigError, match="pipe"):
        images.add("three", folder)


@pytest.fixture
def served(tmp_path):
    """A web server's folder, and its address."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            if self.path == "/short":
                self.send_response(200)
                self.send_header("Content-Length", "100000")
                self.end_headers()
                self.wfile.write(b"x" * 500)
                return
            super().do_GET()

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_by_url(tmp_path, served):
    folder, address = served
    source = archive(folder / "py.tar.xz", ROOT, "w:xz")
    assert images.add("py", f"{address}/py.tar.xz").source == f"{address}/py.tar.xz"
    assert images.add("file", f"file://{source}").sha256 == images.named("py").sha256
    with pytest.raises(errors.OutriderError, match="404"):
        images.add("none", f"{address}/none.tar")
    with pytest.raises(errors.OutriderError, match="ended after 500 of 100000"):
        images.add("none", f"{address}/short")
    with pytest.raises(errors.Refused, match="unprotected"):
        images.add("none", "http://images.example.org/py.tar")
    with pytest.raises(errors.ConfigError, match="https, http and file"):
        images.add("none", "ftp://images.example.org/py.tar")


def test_two_processes_at_once(tmp_path):
    source = archive(tmp_path / "a.tar", [*ROOT, ("file", "large", 0o644, "x" * (4 << 20))])
    code = "import sys\nfrom outrider.sandboxed import images\nprint(images.add(*sys.argv[1:]).sha256)"
    adding = [
        subprocess.Popen([sys.executable, "-c", code, "py", str(source)], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    digests = {process.communicate()[0] for process in adding}
    assert {process.returncode for process in adding} == {0}
    assert len(digests) == 1
    images.check("py")


def test_what_was_left_half_done_is_removed(tmp_path):
    (images.home() / ".new-dead").mkdir()
    (images.home() / ".new-dead/file").write_text("half")
    (images.home() / ".new-file").write_text("half")
    images.add("py", archive(tmp_path / "a.tar", ROOT))
    assert sorted(path.suffix for path in images.home().iterdir()) == ["", ".json", ".tar"]


def test_at_the_far_end_it_is_unpacked_once_and_made_again_if_it_was_changed(tmp_path):
    image = images.add("py", archive(tmp_path / "a.tar.gz", ROOT, "w:gz"))
    with Route(hops.local()).open() as far:
        root = Path(images.send(far, "py"))
        assert root == tmp_path / "far" / image.sha256 / "root"
        made = root.stat().st_ino
        assert images.send(far, "py") == str(root)
        assert root.stat().st_ino == made
        (root / "usr/share/text").write_text("changed")
        assert images.send(far, "py") == str(root)
        assert (root / "usr/share/text").read_text() == "text\n"
        (tmp_path / "far" / image.sha256 / ".complete").unlink()
        (tmp_path / "far" / "half-done").mkdir()
        images.send(far, "py")
    assert sorted(path.name for path in (tmp_path / "far").iterdir() if path.suffix != ".lock") == [
        image.sha256
    ]


def test_many_at_once_send_it(tmp_path):
    images.add("py", archive(tmp_path / "a.tar", ROOT))
    roots = []

    def send():
        with Route(hops.local()).open() as far:
            roots.append(images.send(far, "py"))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(roots) == 4
    assert len(set(roots)) == 1
    assert not list((tmp_path / "far").glob("*.tar"))


def test_an_image_is_the_jails_whole_file_system(tmp_path):
    static = tmp_path / "static"
    (tmp_path / "static.c").write_text('#include <stdio.h>\nint main(void) { puts("inside"); return 0; }\n')
    if subprocess.run(["cc", "-static", "-o", static, tmp_path / "static.c"], check=False).returncode:
        pytest.skip("no compiler for a program that needs nothing")
    folder = tmp_path / "folder"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/hello").write_bytes(static.read_bytes())
    (folder / "bin/hello").chmod(0o755)
    images.add("tiny", folder)
    with Sandbox(image="tiny", wall="10s") as box:
        assert box.run(["/bin/hello"]).stdout == b"inside\n"
        missing = box.run(["/bin/sh", "-c", "true"])
        assert missing.exit_code == 127
        assert box.limited(memory="64M").run(["/bin/hello"]).verdict == "OK"
    with pytest.raises(errors.ConfigError, match="no sandbox image 'none'"):
        Sandbox(image="none")

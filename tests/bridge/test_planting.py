"""A container that puts links into the bridge's folder: the host neither reads nor writes through any of them."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bridge.serving import Served, eventually

NAMES = {
    "fifo": "in out err ctl go end req script",
    "files": "in in.end out err ctl go end req script live bye beat",
}
SCRIPT = "cat; echo out; echo err >&2; exit 3"


@pytest.fixture(params=sorted(NAMES))
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path / "d", request.param, "--lost", "5", "--grace", "1")
    yield served
    served.stop()


class Container:
    """Whoever can write in the folder. It has a slot's true files open, and then puts links under their names."""

    def __init__(self, served: Served, victims: Path) -> None:
        self.served, self.victims, self.root = served, victims, served.folder / "v1"
        victims.mkdir()
        low = (self.root / "head").read_text().split()[0]
        self.low = low
        self.names = NAMES[served.carrier].split()
        self.path("claim").touch()
        self.held = {name: os.open(self.path(name), os.O_RDWR | os.O_NONBLOCK) for name in self.names}

    def path(self, name: str) -> Path:
        return self.root / f"{self.low}.{name}"

    def write(self, name: str, data: bytes) -> None:
        assert os.write(self.held[name], data) == len(data)

    def ask(self, *fields: bytes) -> None:
        token = (self.root / "server").read_bytes().split()[3]
        words = [b"outrider-bridge-1", b"token=" + token, b"cwd=/", *fields, b"end"]
        self.write("req", b"".join(word + b"\0" for word in words))

    def plant(self, names: list[str], there: bool) -> None:
        """Links to files of the user's, or to names at which there is nothing yet."""
        for name in names:
            victim = self.victims / name
            if there:
                victim.write_text(f"precious {name}\n")
            self.path(name).unlink()
            self.path(name).symlink_to(victim)

    def run(self) -> None:
        self.write("go", b"go\n")
        if self.served.carrier == "fifo":
            self.write("ctl", b"run \n")
        else:
            self.write("in.end", b"end\n")

    def heard(self, name: str, until: bytes) -> bytes:
        data, deadline = b"", time.monotonic() + 15
        while until not in data and time.monotonic() < deadline:
            select.select([self.held[name]], [], [], 0.1)
            try:
                data += os.read(self.held[name], 65536)
            except BlockingIOError:
                continue
            time.sleep(0.01)
        return data

    def close(self) -> None:
        for descriptor in self.held.values():
            os.close(descriptor)

    def unharmed(self) -> None:
        for victim in self.victims.rglob("*"):
            assert victim.is_dir() or victim.read_text() == f"precious {victim.name}\n", victim


@pytest.mark.parametrize("there", [True, False], ids=["a file", "nothing"])
def test_links_in_the_place_of_a_requests_files(served: Served, tmp_path: Path, there: bool) -> None:
    container = Container(served, tmp_path / "victims")
    container.ask(b"name=sh", b"arg=-c", b"arg=" + SCRIPT.encode())
    container.write("in", b"given\n")
    container.plant(container.names, there)
    container.run()
    os.close(container.held.pop("in"))
    assert b"exit 3" in container.heard("end", b"exit")
    assert container.heard("out", b"out\n") == b"given\nout\n"
    assert container.heard("err", b"err\n") == b"err\n"
    container.unharmed()
    assert there or not list(container.victims.iterdir())
    container.close()
    assert served.run("true").returncode == 0


def test_a_link_in_the_place_of_a_script(tmp_path: Path) -> None:
    for carrier in NAMES:
        served = Served(tmp_path / carrier, carrier, "--lost", "5", allow="sbatch=/bin/cat,true")
        try:
            container = Container(served, tmp_path / f"victims-{carrier}")
            container.ask(b"name=sbatch", b"how=,none", b"file=job.sh")
            container.write("script", b"the script\n")
            container.plant(["script"], there=True)
            container.run()
            assert b"exit 0" in container.heard("end", b"exit")
            assert container.heard("out", b"\n") == b"the script\n"
            container.close()
        finally:
            served.stop()


def test_a_link_in_the_place_of_the_folder(served: Served, tmp_path: Path) -> None:
    container = Container(served, tmp_path / "victims")
    container.ask(b"name=sh", b"how=,none", b"arg=-c", b"arg=" + SCRIPT.encode())
    moved = container.root
    same = container.victims / "same"
    # Under the folder's name then lie the same names, all of them the user's own files.
    for path in moved.rglob("*"):
        twin = same / path.relative_to(moved)
        if path.is_dir():
            twin.mkdir(parents=True, exist_ok=True)
        else:
            twin.parent.mkdir(parents=True, exist_ok=True)
            twin.write_text(f"precious {twin.name}\n")
    before = sorted(container.victims.rglob("*"))
    moved.rename(tmp_path / "moved")
    moved.symlink_to(same)
    container.run()
    assert b"exit 3" in container.heard("end", b"exit")
    container.close()
    # New slots are made where the folder is now, not where its name leads.
    (served.folder / "v1").unlink()
    (tmp_path / "moved").rename(served.folder / "v1")
    for _ in range(30):
        assert served.run("true").returncode == 0
    assert sorted(container.victims.rglob("*")) == before
    container.unharmed()


def test_links_in_the_place_of_what_all_share(served: Served, tmp_path: Path) -> None:
    root, victims = served.folder / "v1", tmp_path / "victims"
    victims.mkdir()
    for name in ("head", "beat", "server", "client.sh", "reqs", "more"):
        if (root / name).exists():
            (victims / name).write_text(f"precious {name}\n")
            (root / name).rename(tmp_path / f"true-{name}")
            (root / name).symlink_to(victims / name)
    time.sleep(2.5)  # in which the server beats
    for path in tmp_path.glob("true-*"):
        path.replace(root / path.name[5:])
    many = [served.popen("true", stdin=-3) for _ in range(40)]
    assert {process.wait(60) for process in many} == {0}
    assert {path.read_text() == f"precious {path.name}\n" for path in victims.iterdir()} == {True}


def test_links_that_wait_for_the_next_server(served: Served, tmp_path: Path) -> None:
    served.stop()
    precious = tmp_path / "precious"
    (precious / "v1").mkdir(parents=True)
    for name in ("head", "server", "true", "v1/head"):
        (precious / name).write_text("precious\n")
    (served.folder / "v1").symlink_to(precious)
    if (served.folder / "bin").is_dir():
        (served.folder / "bin").rename(tmp_path / "old-bin")
    (served.folder / "bin").symlink_to(precious)
    served.start()
    assert served.run("true").returncode == 0
    assert not (served.folder / "v1").is_symlink() and not (served.folder / "bin").is_symlink()
    for name in ("head", "server", "true", "v1/head"):
        assert (precious / name).read_text() == "precious\n"


def test_words_of_the_servers_own_processes_cannot_be_said_by_a_container(tmp_path: Path) -> None:
    served = Served(tmp_path / "d", "fifo")
    low, high = (served.folder / "v1" / "head").read_text().split()
    with (served.folder / "v1" / "reqs").open("w") as queue:
        for number in range(int(low), int(high) + 1):
            queue.write(f"taken {number}\ndone {number}\nfilled {number}\nstop\n")
        queue.write("x" * 100_000 + "\n")
    assert [served.run("true").returncode for _ in range(3)] == [0, 0, 0]
    assert served.process.poll() is None
    served.stop()


def test_a_file_system_without_names_in_two_folders(served: Served, tmp_path: Path) -> None:
    served.stop()
    (tmp_path / "d.host").write_text("somebody's\n")
    served.start()
    assert served.run("cat", input=b"hello").stdout == b"hello"
    assert {served.run("true").returncode for _ in range(30)} == {0}
    served.stop()
    assert (tmp_path / "d.host").read_text() == "somebody's\n"
    assert eventually(lambda: not (served.folder / "v1").exists())

"""`python -m bench.run`: measures, prints the table of goals, and writes bench/results.{md,json,svg}."""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

from bench import install, picture, report, world
from bench.harness import Bench

FAMILIES = (
    "warm", "cold", "command_line", "bootstrap", "many", "held", "fanout", "traced", "payload", "files", "bridge",
    "sandbox", "durable", "soak",
)  # fmt: skip
HERE = Path(__file__).parent


def main() -> int:
    arguments = parse()
    # An installed program comes compiled, as the peers' are: ours shall not compile its sources in each run. Nothing is
    # written into the checkout.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(install.cache() / "compiled")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, interrupted)
    results = report.Results()
    started = time.monotonic()
    with world.world(arguments.targets, arguments.files_in) as here:
        bench = Bench(here, results, quick=arguments.quick, peers=not arguments.no_peers)
        bench.soak = (arguments.calls, arguments.opens)
        broken = measure(bench, arguments.only, started)
        results.meta = meta(here.peers_python, time.monotonic() - started)
    if here.absent:
        results.meta["not measured"] = "; ".join(f"{name}: {reason}" for name, reason in here.absent.items())
    if broken:
        results.meta["broken off"] = ", ".join(broken)
    print(report.table([*report.verdict_rows(results), *report.other_rows(results)], report.HEADS))
    if arguments.write is not None:
        write(results, arguments.write)
    return 1 if broken else 0


def measure(bench: Bench, families: list[str], started: float) -> list[str]:
    """Measure all; gives those that were broken off. A run that is stopped keeps what it has, and takes its servers down."""
    broken = []
    for name, reason in bench.world.absent.items():
        bench.say(f"no {name}: {reason}")
    for family in families:
        bench.say(f"{family} ({time.monotonic() - started:.0f} s)")
        try:
            importlib.import_module(f"bench.cases.{family}").measure(bench)
        except KeyboardInterrupt:
            return [*broken, f"{family} and what follows (stopped)"]
        except Exception as error:  # one case is not the end of the others
            traceback.print_exc()
            broken.append(f"{family} ({type(error).__name__}: {error})")
    return broken


def interrupted(number: int, _: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats, and the small cases only")
    parser.add_argument("--only", type=words(FAMILIES), default=list(FAMILIES), help=", ".join(FAMILIES))
    parser.add_argument(
        "--targets", type=words(world.TARGETS), default=list(world.TARGETS), help=", ".join(world.TARGETS)
    )
    parser.add_argument("--calls", type=int, default=20_000, help="of the soak")
    parser.add_argument("--opens", type=int, default=200, help="of the soak")
    parser.add_argument(
        "--files-in", type=Path, default=Path("/dev/shm"), help="where files travel from and to; in memory"
    )
    parser.add_argument("--no-peers", action="store_true", help="only ourselves and the floor")
    parser.add_argument(
        "--write", type=Path, help="folder for results.md, .json and .svg; without it they are only shown"
    )
    return parser.parse_args()


def words(known: tuple[str, ...]):  # type: ignore[no-untyped-def]
    def parsed(text: str) -> list[str]:
        found = text.split(",")
        for word in found:
            if word not in known:
                raise argparse.ArgumentTypeError(f"no {word!r}; there are {', '.join(known)}")
        return found

    return parsed


def write(results: report.Results, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results.plain(), indent=1) + "\n")
    (folder / "results.md").write_text(report.markdown(results))
    (folder / "results.svg").write_text(picture.picture(results))


def meta(peers_python: Path, seconds: float) -> dict[str, str]:
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["python -m bench.run", *sys.argv[1:]]),
        "took": f"{seconds / 60:.1f} min",
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "load when it ended": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "Python": f"{platform.python_version()} here, {version(['/usr/bin/python3', '-V'])} at the hosts",
        "commit": version(["git", "-C", str(HERE), "describe", "--always", "--dirty"]),
        "peers": peers_versions(peers_python),
        "programs": ", ".join(
            version(argv).splitlines()[0] for argv in (["ssh", "-V"], ["sudo", "-V"], ["docker", "--version"])
        ),
    }


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )


def version(argv: list[str]) -> str:
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        return f"no {argv[0]} ({error.strerror})"
    return done.stdout.strip() or "unknown"


def peers_versions(python: Path) -> str:
    names = install.REQUIREMENTS.read_text().splitlines()
    frozen = version([str(python), "-m", "pip", "freeze", "--quiet"]).splitlines()
    wanted = {name for name in names if not name.startswith("#")}
    return ", ".join(line.replace("==", " ") for line in frozen if line.partition("==")[0] in wanted)


if __name__ == "__main__":
    sys.exit(main())

"""Starts a container with the bridge's folder and its shims in it, and looks at a bridge's health."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from outrider.bridge import client
from outrider.bridge.processes import DEFAULT
from outrider.errors import ConfigError

ENGINES = ("apptainer", "singularity", "podman", "docker", "bwrap")
# The shims come first on PATH, whatever the image's own is.
_ENTER = f'PATH={DEFAULT}/bin:$PATH; export PATH; exec "$@"'


def find_engine(name: str | None) -> str:
    """The engine's program: that one, or the first that is installed here. ConfigError if there is none."""
    for engine in ENGINES if name is None else (name,):
        if engine not in ENGINES:
            break
        if shutil.which(engine):
            return engine
    raise ConfigError(
        f"{name or 'no container engine'} is not installed here",
        hop="bridge",
        key="engine",
        hint=f"the engines are {', '.join(ENGINES)}",
    )


def command(
    engine: str,
    image: str | None,
    argv: Sequence[str],
    *,
    folder: str,
    cwd: str,
    binds: Sequence[str] = (),
    extra: Sequence[str] = (),
    terminal: bool = False,
) -> list[str]:
    """The words that start `argv` in a container of `image`, in the same folder as here, with the bridge in reach.

    `binds`: more folders, SOURCE or SOURCE:INSIDE[:ro]; the server learns from them which path is which.
    `extra`: more words for the engine, as they are.
    `image`: for bwrap a folder with a root file system, or None for this machine's own, read-only.
    """
    if image is None and engine != "bwrap":
        raise ConfigError(f"{engine} needs an image", hop="bridge", key="image")
    pairs = [(cwd, cwd, ""), *(_pair(bind) for bind in binds)]
    inside = {
        "OUTRIDER_BRIDGE": DEFAULT,
        "OUTRIDER_BRIDGE_MAP": "\n".join(
            f"{there}={here}"
            for here, there, _ in sorted(pairs, key=lambda pair: -len(pair[1]))
            if here != there
        ),
    }
    pairs.append((folder, DEFAULT, ""))
    words = ["sh", "-c", _ENTER, "sh", *argv]
    made = {"bwrap": _bwrap, "docker": _docker, "podman": _docker}.get(engine, _apptainer)(
        engine, image or "/", words, pairs, inside, cwd, terminal
    )
    first = 1 if engine == "bwrap" else 2  # behind `exec` or `run`
    return [*made[:first], *extra, *made[first:]]


def _pair(bind: str) -> tuple[str, str, str]:
    source, _, rest = bind.partition(":")
    there, _, mode = rest.partition(":")
    if not source.startswith("/") or mode not in ("", "ro", "rw"):
        raise ConfigError(
            f"not a bind: {bind!r}",
            hop="bridge",
            key="bind",
            hint="SOURCE or SOURCE:INSIDE[:ro], with absolute paths",
        )
    return source, there or source, "ro" if mode == "ro" else ""


Pairs = list[tuple[str, str, str]]


def _apptainer(
    engine: str, image: str, words: list[str], pairs: Pairs, env: dict[str, str], cwd: str, _: bool
) -> list[str]:
    binds = [f"--bind={here}:{there}" + (f":{mode}" if mode else "") for here, there, mode in pairs]
    # --env splits at commas, and reads quotes: the map may hold both, so it goes with `env`.
    return [
        engine,
        "exec",
        *binds,
        f"--pwd={cwd}",
        image,
        "env",
        *(f"{k}={v}" for k, v in env.items()),
        *words,
    ]


def _docker(
    engine: str, image: str, words: list[str], pairs: Pairs, env: dict[str, str], cwd: str, terminal: bool
) -> list[str]:
    flags = ["--rm", "--interactive", *(["--tty"] if terminal else []), f"--workdir={cwd}"]
    # The server takes requests of its own user only, and commands find their files as that user.
    if engine == "docker":
        flags.append(f"--user={os.getuid()}:{os.getgid()}")
    elif os.getuid():
        flags.append("--userns=keep-id")
    flags += [f"--volume={here}:{there}" + (f":{mode}" if mode else "") for here, there, mode in pairs]
    flags += [f"--env={name}={value}" for name, value in env.items()]
    return [engine, "run", *flags, f"--entrypoint={words[0]}", "--", image, *words[1:]]


def _bwrap(
    engine: str, image: str, words: list[str], pairs: Pairs, env: dict[str, str], cwd: str, _: bool
) -> list[str]:
    flags = [
        "--ro-bind",
        image,
        "/",
        "--dev",
        "/dev",
        "--proc",
        "/proc",
        "--tmpfs",
        "/run",
        "--tmpfs",
        "/tmp",
    ]
    for here, there, mode in pairs:
        flags += ["--ro-bind" if mode == "ro" else "--bind", here, there]
    for name, value in env.items():
        flags += ["--setenv", name, value]
    return [engine, *flags, "--unshare-pid", "--die-with-parent", "--chdir", cwd, "--", *words]


def status(folder: str) -> dict[str, object]:
    """What can be said of the bridge in this folder: `carrier`, `serves`, and whether each way in is `alive`.

    Empty where no server ever announced itself.
    """
    root = Path(folder)
    try:
        told = client.Told(folder)
    except client.BridgeError:
        return {}
    alive: dict[str, bool] = {}
    if (root / "socket").exists():
        try:
            client.connect(folder).close()
            alive["socket"] = True
        except client.BridgeError:
            alive["socket"] = False
    if told.carrier == "fifo":
        try:
            os.close(os.open(root / "v1" / "more", os.O_WRONLY | os.O_NONBLOCK))
            alive["fifo"] = True
        except OSError:
            alive["fifo"] = False
    elif told.carrier == "files":
        alive["files"] = _beats(root / "v1" / "beat")
    serves = sorted(path.name for path in (root / "bin").iterdir()) if (root / "bin").is_dir() else []
    return {
        "dir": folder,
        "carrier": told.carrier,
        "serves": serves,
        "variables": told.patterns,
        "alive": alive,
    }


def _beats(path: Path) -> bool:
    """Whether the server's heartbeat changes; it does so each second."""
    first, until = path.read_text(), time.monotonic() + 3
    while time.monotonic() < until:
        time.sleep(0.1)
        if path.read_text() not in (first, ""):
            return True
    return False

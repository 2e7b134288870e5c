"""How programs say what went wrong: small helpers to read their messages."""

from __future__ import annotations

import re

from outrider.hops.base import Diagnosis

# "name: not found" as sh, bash, dash, zsh, busybox, env, sudo, docker, podman, crun, apptainer and srun word it.
_NOT_FOUND = (
    r"(?:^|[\s:])(?P<a>[^\s:'\"‘`]+): (?:command )?not found",
    r"command not found: (?P<b>\S+)",
    r"(?:env|sudo|exec|nohup): [‘'\"]?(?P<c>[^’'\":]+)[’'\"]?: (?:No such file or directory|not found|cannot execute)",
    r"exec: \"(?P<d>[^\"]+)\": (?:executable file not found|stat \S+: no such file)",
    r"(?:executable file|FATAL: +\")[ `']*(?P<e>[^`'\" ]+)[`'\"]*:? (?:executable file )?not found in \$PATH",
    r"execve\(\): (?P<f>[^:]+): No such file or directory",
    r"(?:^|[\s:])(?P<g>/[^\s:'\"]+): (?:No such file or directory|not found)$",
)


def line_with(stderr: str, *patterns: str) -> str | None:
    """The last line that matches one of the patterns, stripped."""
    for line in reversed(stderr.splitlines()):
        if any(re.search(pattern, line) for pattern in patterns):
            return line.strip()
    return None


def missing_programs(stderr: str) -> list[str]:
    """The programs that some shell or engine said it could not find, last first."""
    found = []
    for line in reversed(stderr.splitlines()):
        for pattern in _NOT_FOUND:
            match = re.search(pattern, line.strip())
            if match:
                found.append(next(name for name in match.groups() if name))
                break
    return found


def own_program_missing(stderr: str, program: str, install: str) -> Diagnosis | None:
    """The hop's own program is not there: where it should have been started, so before the hop."""
    if any(name == program or name.endswith("/" + program) for name in missing_programs(stderr)):
        return Diagnosis(f"{program} is not installed where this hop starts", install)
    return None


def common(stderr: str) -> Diagnosis | None:
    """What can happen at any hop and is no hop's own doing: no interpreter, no such folder, no space."""
    for name in missing_programs(stderr):
        if re.fullmatch(r"(?:.*/)?(?:python|pypy)[\w.-]*", name):
            return Diagnosis(
                f"{name} is not there",
                "name another interpreter with route.options(python='/path/to/python3')",
            )
    line = line_with(
        stderr, r"\bcd: .*(?:No such file|can't cd|not a directory|Not a directory|Permission denied)"
    )
    if line:
        return Diagnosis(
            f"cannot enter the folder: {line}", "name a folder that exists there and may be entered"
        )
    line = line_with(stderr, r"No space left on device", r"Disk quota exceeded")
    if line:
        return Diagnosis(
            f"the disk is full there: {line}", "free some space there, or name another folder", transient=True
        )
    return None

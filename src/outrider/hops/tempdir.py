"""`tempdir`: a folder made before the command starts and gone after it ended, however it ended."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from outrider.command import Command
from outrider.errors import ConfigError
from outrider.hops.base import Diagnosis, Hop
from outrider.hops.wording import line_with

# The cleaner is a process of its own, out of reach of the command's signals and holding none of its pipes: a
# trap in the wrapper would not survive kill -9; the extra subshell makes it nobody's child, as a far end ends all its
# own. kill -0 on another user's process (the command may be sudo)
# fails too, so the wording of the failure decides. It waits for the command, not for the command's children.
_CLEANER = """\
trap '' HUP INT QUIT TERM
alive() { m=$(LC_ALL=C kill -0 "$1" 2>&1) || case $m in *ermitted*) ;; *) return 1 ;; esac; }
while alive "$1"; do sleep 0.3 2>/dev/null || sleep 1; done
rm -rf -- "$2" || { chmod -R u+rwx -- "$2"; rm -rf -- "$2"; }
"""
_WRAPPER = """\
cd -- "${1:-${TMPDIR:-/tmp}}" || exit 125
folder=$(mktemp -d -- "$2XXXXXXXX") || exit 125
folder=$(pwd -P)/$folder
session=$(command -v setsid) || session=
(cd / && $session sh -c "$3" sh "$$" "$folder" </dev/null >/dev/null 2>&1 &)
cd -- "$folder" || exit 125
if [ "$4" ]; then TMPDIR=$folder; export TMPDIR; fi
shift 4
exec "$@"
"""


@dataclass(frozen=True)
class Tempdir(Hop):
    """Runs what follows in a fresh folder that is removed within half a second of the command's end.

    `parent`: where it is made (default: `$TMPDIR` there, else /tmp). `prefix`: how its name begins.
    `set_tmpdir`: let `$TMPDIR` point to it, so that other temporary files vanish with it.

    Under a Slurm that ends a step's processes by cgroup, the folder may stay: there put it at the end of the route.
    """

    parent: str | None = None
    prefix: str = "outrider-"
    set_tmpdir: bool = True

    name: ClassVar[str] = "tempdir"
    positional: ClassVar[tuple[str, ...]] = ("parent",)
    changes_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if "/" in self.prefix:
            raise ConfigError(f"a prefix cannot hold a slash: {self.prefix!r}", hop=self.name, key="prefix")
        if self.parent == "":
            raise ConfigError("the parent folder is empty", hop=self.name, key="parent")

    def wrap(self, command: Command) -> Command:
        options = (self.parent or "", self.prefix, _CLEANER, "yes" if self.set_tmpdir else "")
        # All inside: the inner folder is relative to the new one, and an inner TMPDIR must not move the new one.
        return Command(("sh", "-c", _WRAPPER, "sh", *options, *command.as_argv()))

    def shown(self, command: Command) -> Command:
        return Command(("sh", "-c", 'cd "$(mktemp -d …)" … removed afterwards …', "sh", *command.as_argv()))

    def settings(self) -> dict[str, object]:
        # The far end makes one only in the usual place; anything else is wrapped.
        return {"tempdir": True} if self == Tempdir() else {}

    def diagnose(self, stderr: str, returncode: int | None) -> Diagnosis | None:
        line = line_with(stderr, r"\bmktemp: ")
        if line is not None:
            return Diagnosis(
                f"no temporary folder could be made: {line}",
                "name a folder that you may write to with parent=",
            )
        entered = [line for line in stderr.splitlines() if self.parent and re.search(r"\bcd: ", line)]
        if any(self.parent in line for line in entered if self.parent):
            return Diagnosis(
                f"the folder {self.parent!r}, in which the temporary one would be made, cannot be entered",
                "tempdir:FOLDER says where it is made: name a folder that exists there, or write tempdir alone",
            )
        return None

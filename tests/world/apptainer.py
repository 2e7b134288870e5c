"""Apptainer, and a newer Python, in a root folder of Debian unstable that a wrapper enters."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.world.machine import (
    PREFIX,
    RECIPE,
    Machine,
    cache,
    must_run,
    program,
    root_folder,
    run,
    unavailable,
)
from tests.world.ssh import has_user

# A plain chroot will not do: apptainer makes user and mount namespaces of its own, and the kernel refuses
# that to a process whose root is not the root of its mount namespace.
ENTER = """\
#!/bin/sh
# Runs a program with the arguments in a root folder of its own.
[ "$(id -u)" = 0 ] || exec sudo -n "$0" "$@"
exec unshare --mount --propagation private /bin/sh -euc '
root=$1; shift
mount --bind "$root" "$root"
for folder in proc sys dev tmp home; do mount --rbind "/$folder" "$root/$folder"; done
for file in passwd group hosts resolv.conf; do mount --bind "/etc/$file" "$root/etc/$file"; done
mount --rbind "ROOTS" "$root/images"
mount --rbind "SIFS" "$root/sifs"
here=$PWD
cd "$root"
pivot_root . .
umount -l .
# The working folder, unless it is not there or a folder above it is closed to the user.
AS test -x "$here" && cd "$here" || cd /
unset ENV BASH_ENV SUDO_UID SUDO_GID SUDO_USER SUDO_COMMAND
export HOME=/home/outrider-a USER=outrider-a LOGNAME=outrider-a PATH=/usr/local/bin:/usr/bin:/bin
exec AS PROGRAM "$@"
' enter "ROOT" "$@"
"""


AS_USER = "setpriv --reuid outrider-a --regid outrider-a --init-groups"
AS_ROOT = ""


@dataclass(frozen=True)
class ApptainerWorld:
    program: str
    builder: str = field(repr=False)
    image: str = f"/images/pybox-{RECIPE}"
    slim: str = f"/images/pyslim-{RECIPE}"
    bare: str = f"/images/nopython-{RECIPE}"
    absent: str = "/images/absent"

    @property
    def sif(self) -> str:
        """The slim image as one file. Made when first asked for, as it takes a while."""
        kept = sifs() / f"pyslim-{RECIPE}.sif"
        if not kept.exists():
            with tempfile.TemporaryDirectory(prefix=PREFIX + "sif-") as folder:
                made = Path(folder) / kept.name
                # As root, which alone may copy every file of the image.
                done = run([self.builder, "build", made, self.slim], timeout=300)
                if done.returncode != 0:
                    unavailable(f"apptainer makes no SIF file here: {done.stderr[-500:]}")
                part = shutil.move(made, kept.with_suffix(f".{os.getpid()}"))
                part.chmod(0o644)
                part.rename(kept)
        return f"/sifs/{kept.name}"


def sifs() -> Path:
    folder = cache() / "sifs"
    folder.mkdir(exist_ok=True)
    return folder


def launcher(machine: Machine, name: str, inner: str, user: str) -> str:
    """A wrapper executable that runs the program `inner` inside the root folder."""
    program("unshare", "util-linux")
    if not has_user("outrider-a"):
        unavailable("no user outrider-a: run 'make world'")
    root = root_folder("apptainer")
    for folder in ("images", "sifs", "home"):
        (root / folder).mkdir(exist_ok=True)
    path = machine.make_folder("bin") / name
    text = ENTER
    values = {"PROGRAM": inner, "ROOTS": cache() / "roots", "SIFS": sifs(), "ROOT": root, "AS ": user + " "}
    for word, value in values.items():
        text = text.replace(word, str(value))
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def start_apptainer(machine: Machine) -> Iterator[ApptainerWorld]:
    world = ApptainerWorld(
        program=launcher(machine, "apptainer", "apptainer", AS_USER),
        builder=launcher(machine, "apptainer-as-root", "apptainer", AS_ROOT),
    )
    root_folder("pybox")
    must_run([world.program, "--version"])
    done = run([world.program, "exec", world.image, "true"])
    if done.returncode != 0:
        unavailable(f"apptainer runs no container here: {done.stderr[-500:]}")
    yield world


def newer_python(machine: Machine) -> str:
    path = launcher(machine, "newer-python3", "python3", AS_USER)
    must_run([path, "-c", "pass"])
    return path

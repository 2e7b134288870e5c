"""The other engines: how each is asked for one job, what it says of the end, and what it cannot hold.

Words and their meanings only; `foreign` runs them. Limits and accounting round them are ours: see there.
"""

from . import guarantees, root

ORDER = ("isolate", "bwrap", "sio2jail", "proot", "none")
"""Best first. The last two keep nothing in, and are taken only when named."""
BY_NAME_ONLY = ("sio2jail", "proot", "none")
SHELL = 128
"""What an exit code is raised by where a signal ended the program, as shells and bwrap tell it."""
OWN_FILTER = "it has a filter of its own, which is shorter than ours"
NO_FILTER = "it sets no filter of system calls"
NOTHING = "it is no jail"


def lacks(name, counted, scratch):
    """{guarantee: why not} of an engine. `counted`: a control group is round it; `scratch`: its folder has limits."""
    found = {}
    if not counted:
        found[guarantees.MEMORY] = "it is only looked at now and then, without a control group"
        found[guarantees.CPU] = (
            "the time of children that nobody waits for is missed, without a control group"
        )
        if name not in ("isolate", "bwrap"):
            found[guarantees.PROCESSES] = "there is no control group to count them"
    if not scratch:
        found[guarantees.DISK] = found[guarantees.INODES] = "its folder is one of the host's, without limits"
    if name == "isolate":
        found[guarantees.CALLS] = OWN_FILTER
    if name in ("proot", "none"):
        for guarantee in (
            guarantees.NETWORK,
            guarantees.CALLS,
            guarantees.FILES,
            guarantees.KILL,
            guarantees.OWN_ID,
        ):
            found[guarantee] = NOTHING
        if name == "proot":
            found[guarantees.CALLS] = NO_FILTER
    return found


class Plan:
    """What an engine is told of a job: host paths of the view and the scratch folders, and descriptors that it inherits."""

    def __init__(self, program, view, box, tmp, shm, limits, order):
        self.program, self.view, self.box, self.tmp, self.shm = program, view, box, tmp, shm
        self.limits, self.argv, self.env = limits, order["argv"], order["env"]
        self.cwd = order["cwd"] or view.folder
        self.filter = self.status = self.block = -1
        self.number = 0
        self.meta = ""


def bwrap(plan):
    """bubblewrap's own words, for its --args: so neither paths nor environment stand on a command line."""
    view = plan.view
    words = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if not view.network:
        words.append("--unshare-net")
    words += ["--die-with-parent", "--new-session", "--hostname", "sandbox"]
    words += ["--uid", str(root.JOB), "--gid", str(root.JOB)]
    words += [
        "--ro-bind",
        view.path,
        "/",
        "--dev",
        "/dev",
        "--proc",
        "/proc",
        "--bind",
        plan.box,
        view.folder,
    ]
    for source, inside in ((plan.tmp, "/tmp"), (plan.tmp, "/var/tmp"), (plan.shm, "/dev/shm")):
        words += ["--bind", source, inside]
    for staged, inside in view.late:
        words += ["--bind", view.path + staged, inside]
    words += ["--remount-ro", "/dev", "--remount-ro", "/proc", "--chdir", plan.cwd, "--clearenv"]
    for name, value in plan.env.items():
        words += ["--setenv", name, value]
    if plan.filter >= 0:
        words += ["--seccomp", str(plan.filter)]
    return [*words, "--json-status-fd", str(plan.status), "--block-fd", str(plan.block)]


def isolate(plan, tops):
    """isolate's command line. `tops`: the top folders of the view."""
    words = [
        plan.program,
        "--box-id=%d" % plan.number,
        "--silent",
        "--meta=" + plan.meta,
        "--no-default-dirs",
        "--full-env",
    ]
    own = "proc", "tmp", "dev", plan.view.folder.strip("/").partition("/")[0]
    words += ["--dir=%s=%s/%s" % (name, plan.view.path, name) for name in tops if name not in own]
    words += ["--dir=proc=proc:fs", "--dir=dev=%s/dev:dev" % plan.view.path, "--dir=dev/shm=%s:rw" % plan.shm]
    words += ["--dir=tmp=%s:rw" % plan.tmp, "--dir=%s=%s:rw" % (plan.view.folder.strip("/"), plan.box)]
    words += ["--chdir=" + plan.cwd, "--core=0"]
    for name, option, unit in (
        ("open_files", "open-files", 1),
        ("stack", "stack", 1024),
        ("disk", "fsize", 1024),
    ):
        if plan.limits.get(name) is not None:
            words.append("--%s=%d" % (option, max(1, plan.limits[name] // unit)))
    if plan.limits.get("wall") is not None:
        words.append("--wall-time=%g" % (plan.limits["wall"] + 1))  # ours is first, and sees more
    most = plan.limits.get("processes")
    words.append("--processes" if most is None else "--processes=%d" % most)
    return [*words, "--run", "--", *plan.argv]


def proot(plan):
    words = [
        plan.program,
        "--kill-on-exit",
        "-r",
        plan.view.path,
        "-w",
        plan.cwd,
        "-b",
        "/proc",
        "-b",
        "/dev",
    ]
    for source, inside in ((plan.box, plan.view.folder), (plan.tmp, "/tmp"), (plan.shm, "/dev/shm")):
        words += ["-b", "%s:%s" % (source, inside)]
    return [*words, *plan.argv]


def status_of(code):
    """A wait status of an exit code that tells of signals as a shell does."""
    return code - SHELL if SHELL < code <= SHELL + 64 else (code & 0xFF) << 8


def meta(text):
    """(wait status, {name: figure}, whether isolate itself failed) of its file."""
    told = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    if told.get("status") == "XX" or "time" not in told:
        return 0, told, True
    signal = int(told.get("exitsig", 9 if told.get("killed") else 0))
    return signal or int(told.get("exitcode", 0)) << 8, told, False

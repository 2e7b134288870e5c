"""A job under another engine: it stands where a slot stands, so clocks, limits and the report are those of the native one.

The engine's program makes the jail. Round it come a control group where there is one (else looks at /proc), resource
limits, and a scratch space of limited size. It runs under a user id of the host's that nobody has, where that may be had.
"""

import _signal as signal  # type: ignore[import-not-found]
import json
import os
import resource
import subprocess
import time

from .. import channel
from . import collecting, engines, guarantees, job, root, seccomp, syscalls, verdict, watching

OWN_PROCESSES = {"bwrap": 1, "isolate": 2, "sio2jail": 2, "proot": 1, "none": 0}
"""Processes that an engine is itself, in the control group that counts the job's."""
TYPES = False
if TYPES:
    from typing import Any
BOXES = 100
"""How many boxes of isolate are used."""


def find(name):
    """The path of an engine's program, or None."""
    if name == "none":
        return ""
    for folder in (os.environ.get("PATH", "") + ":/usr/local/bin:/usr/bin:/bin").split(":"):
        path = os.path.join(folder, name)
        if folder and os.access(path, os.X_OK):
            return path
    return None


def tree(pid):
    """A process and all that descend from it, as far as they are not somebody else's children by now."""
    waiting, found = [pid] if pid else [], []
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        try:
            with open("/proc/%d/task/%d/children" % (pid, pid)) as file:
                waiting += [int(word) for word in file.read().split()]
        except OSError:
            pass
    return found


class Looks:
    """In place of a control group: what can be seen of a tree of processes from outside, by looking again and again."""

    version = 0
    source = "sampling"
    joins = ()
    step = 0.01
    """Seconds between two looks."""

    def __init__(self):
        self.top = 0
        self.memory = self.count = 0
        self.cpu = 0.0
        self.limit = None

    def prepare(self, memory, processes):
        self.limit = memory

    def attach(self, pid):
        self.top = pid

    def seconds(self):
        memory, cpu, count = 0, 0.0, 0
        for pid in tree(self.top):
            seconds, threads = watching.seconds_of(str(pid))
            memory += watching.memory_of(str(pid))
            cpu, count = cpu + seconds, count + threads
        self.memory, self.cpu, self.count = (
            max(self.memory, memory),
            max(self.cpu, cpu),
            max(self.count, count),
        )
        return self.cpu

    def memory_killed(self):
        self.seconds()
        return self.limit is not None and self.memory > self.limit

    def figures(self):
        return {
            "cpu_s": None,
            "user_s": None,
            "system_s": None,
            "memory_bytes": self.memory or None,
            "processes": self.count or None,
        }

    def empty(self):
        return not tree(self.top)

    def kill(self):
        self.seconds()  # the kernel forgets what children used of a process 1 that is killed before them
        for pid in tree(self.top):
            _kill(pid)


def _kill(pid, number=9):
    try:
        os.kill(pid, number)
    except OSError:
        pass


class Jail:
    """One job under `engine`. Written to as a slot's `init` and `child` are."""

    made = 0

    def __init__(self, warden, engine, program, missing, execution):
        self.warden, self.engine, self.program, self.missing = warden, engine, program, missing
        self.view = warden.views.get(execution.key)
        self.key, self.shape = None, execution.shape
        self.group = warden.cgroups.make() or Looks()
        self.alone = warden.ids.alone
        self.ids = warden.ids.take()
        self.owner = self.ids
        self.init = self.child = self
        self.state, self.used, self.job = "running", True, execution
        self.fd = self.box = self.listener = self.timer = -1
        self.began = 0.0
        self.monitor = self.top = 0
        self.code: Any = None
        self.told = b""
        Jail.made += 1
        self.scratch = "%s/foreign-%d" % (warden.views.place, Jail.made)
        self.limits = []
        self.extra = OWN_PROCESSES[engine] if self.group.version else 0

    # --- what a slot can do -------------------------------------------------------------------------------------

    def send(self, order, fds=()):
        what = order.get("do")
        if what == "kill":
            self.group.kill()
            _kill(self.top or self.monitor)
        elif what == "signal":
            for pid in tree(self.top)[1:]:
                _kill(pid, order["signal"])
        elif what is None:
            self._begin(order, fds[:3])

    def end(self):
        _kill(self.top)
        _kill(self.monitor)

    def let_go(self):
        if self.box >= 0:
            os.close(self.box)
            self.box = -1

    # --- the start ----------------------------------------------------------------------------------------------

    def _begin(self, order, fds):
        self._make_scratch(order)
        self.limits = [(resource.RLIMIT_CORE, 1, 1), *order["limits"]]
        failed = self._lacks_program(order)
        if failed is not None:
            self.job.failed = {"failed": failed[1], "ours": False}
            return self._finish(failed[0] << 8)
        plan = engines.Plan(
            self.program,
            self.view,
            self.scratch + "/box",
            self.scratch + "/tmp",
            self.scratch + "/shm",
            self.job.limits,
            order,
        )
        ends = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        (self.fd, plan.status), (plan.block, self.block) = ends
        inherited = [plan.status, plan.block]
        if self.engine == "bwrap":
            plan.filter = channel.in_memory(
                seccomp.program(self.warden.machine, listens=False, counted=self.group.version > 0)
            )
            arguments = channel.in_memory(b"".join(os.fsencode(word) + b"\0" for word in engines.bwrap(plan)))
            inherited += [plan.filter, arguments]
            syscalls.prctl(36, 1)  # a subreaper: see _collect
            argv, env = [self.program, "--args", str(arguments), "--", *plan.argv], {}
        elif self.engine == "isolate":
            argv, env = self._isolate(plan), plan.env
        elif self.engine == "proot":
            argv, env = engines.proot(plan), plan.env
        else:
            argv, env = plan.argv, plan.env
        self.monitor = self._fork(argv, env, fds, inherited)
        for fd in inherited:
            os.close(fd)
        self.warden.listen(self.fd, self._from_engine)
        if self.engine != "bwrap":
            self.top = self.monitor
            if not self.group.version:
                self.group.attach(self.monitor)

    def _make_scratch(self, order):
        os.mkdir(self.scratch, 0o755)
        syscalls.mount(
            "scratch",
            self.scratch,
            "tmpfs",
            syscalls.NOSUID | syscalls.NODEV,
            "mode=755" + root.limits(*self.shape),
        )
        # isolate takes a user id of its own choice. Nobody but this warden sees these folders anyway.
        for name, mode in (
            ("box", 0o777 if self.engine == "isolate" else 0o700),
            ("tmp", 0o1777),
            ("shm", 0o1777),
        ):
            os.mkdir(self.scratch + "/" + name)
            os.chmod(self.scratch + "/" + name, mode)
            self._own(self.scratch + "/" + name)
        self.box = os.open(self.scratch + "/box", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for path, contents, mode in order["inputs"]:
            inside = "/".join(collecting.inside(self.view.folder, path))
            path = self.scratch + "/box/" + inside
            for depth in range(1, inside.count("/") + 1):
                folder = self.scratch + "/box/" + "/".join(inside.split("/")[:depth])
                if not os.path.isdir(folder):
                    os.mkdir(folder, 0o755)
                    self._own(folder)
            with open(path, "xb") as file:
                file.write(contents)
            os.chmod(path, mode & 0o777 | (0o666 if self.engine == "isolate" else 0))
            self._own(path)

    def _own(self, path):
        if not self.alone:
            os.chown(path, *self.ids)

    def _lacks_program(self, order):
        """(exit code, words) if the program is not there, which engines tell in words of their own only."""
        name = order["argv"][0]
        folders = [""] if "/" in name else order["env"].get("PATH", "").split(":")
        worst = 127, "%s: No such file or directory" % name
        for folder in folders:
            path = self._outside(os.path.join(order["cwd"] or self.view.folder, folder, name))
            if os.path.isfile(path) and os.stat(path).st_mode & 0o111:
                return None
            if os.path.islink(path):
                return None
            if os.path.exists(path):
                worst = 126, "%s: Permission denied" % name
        return worst

    def _outside(self, path):
        """Where a path inside is on the host, links in it aside."""
        path = os.path.normpath(path)
        if self.engine == "none":
            return path
        for inside, outside in ((self.view.folder, "/box"), ("/tmp", "/tmp"), ("/dev/shm", "/shm")):
            if (path + "/").startswith(inside + "/"):
                return self.scratch + outside + path[len(inside) :]
        return self.view.path + path

    def _fork(self, argv, env, fds, inherited):
        pid = os.fork()
        if pid:
            return pid
        try:
            if self.engine != "bwrap":
                self._stay_behind(inherited)
            os.setsid()
            job.default_signals()
            for number, fd in enumerate(fds):
                os.dup2(fd, number)
            for fd in inherited:
                os.set_inheritable(fd, True)
            for fd in self.group.joins if self.engine != "bwrap" else ():
                os.write(fd, b"0")
            for kind, soft, hard in self.limits:
                most = resource.getrlimit(kind)[1]
                if kind != resource.RLIMIT_NPROC:  # it would count what else this user runs
                    most = hard if most == resource.RLIM_INFINITY else min(hard, most)
                    resource.setrlimit(kind, (min(soft, most) if most >= 0 else soft, most))
            if self.engine != "isolate" and not self.alone:
                os.setgroups([])
                os.setresgid(self.ids[1], self.ids[1], self.ids[1])
                os.setresuid(self.ids[0], self.ids[0], self.ids[0])
            syscalls.prctl(syscalls.PDEATHSIG, 9)  # not before: a new user id takes it back
            os.chdir(self.scratch + "/box" if self.engine == "none" else "/")
            os.execve(argv[0], argv, env) if "/" in argv[0] else os.execvpe(argv[0], argv, env)
        except BaseException as error:
            os.write(2, ("outrider: %s cannot be started: %s\n" % (self.engine, error)).encode())
        finally:
            os._exit(125)

    def _stay_behind(self, inherited):
        """Go on in a child, and hold meanwhile what tells of its end, which the child might close, or pass on."""
        pid = os.fork()
        if pid:
            syscalls.prctl(syscalls.PDEATHSIG, 9)
            status = os.waitpid(pid, 0)[1]
            if status & 0x7F:
                syscalls.prctl(syscalls.DUMPABLE, 0)
                signal.signal(status & 0x7F, signal.SIG_DFL)
                os.kill(os.getpid(), status & 0x7F)
            os._exit(status >> 8)
        for fd in inherited:
            os.close(fd)
        inherited.clear()

    def _isolate(self, plan):
        plan.number = self.number = self._take_box()
        made = subprocess.run(
            [self.program, "--box-id=%d" % plan.number, "--init"], stdout=-1, stderr=-1, stdin=-3
        )
        if made.returncode:
            self._give_back_box()
            raise OSError("isolate cannot make a box: %s" % made.stderr.decode("utf-8", "replace").strip())
        plan.meta = self.meta_path = self.scratch + ".meta"  # not in it: a job may have filled it
        tops = [name for name in os.listdir(self.view.path) if not name.startswith(".")]
        return engines.isolate(plan, tops)

    def _take_box(self):
        """The number of a box that no other warden uses: who has its lock, a file that goes with the lock, has the box."""
        import fcntl

        for number in range(BOXES):
            self.lock_path = "/run/outrider-isolate-%d.lock" % number
            flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
            self.lock = os.open(self.lock_path, flags, 0o600)
            try:  # not lockf: its locks are a process's, and jobs of one warden would share a box
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.stat(self.lock_path).st_ino == os.fstat(self.lock).st_ino:
                    return number
            except OSError:  # it is another's, or has just been given back
                pass
            os.close(self.lock)
        raise OSError("all boxes of isolate are taken")

    def _give_back_box(self):
        subprocess.run(
            [self.program, "--box-id=%d" % self.number, "--cleanup"], stdout=-3, stderr=-3, stdin=-3
        )
        os.unlink(self.lock_path)
        os.close(self.lock)

    # --- the end ------------------------------------------------------------------------------------------------

    def _from_engine(self):
        """bwrap tells its child's number first, and its exit code last; the end of the stream is the end of any engine."""
        piece = os.read(self.fd, 4096)
        self.told += piece
        if not piece:
            self.warden.forget(self.fd)
            os.close(self.fd)
            os.close(self.block)
            return self._ended()
        while b"\n" in self.told:
            line, _, self.told = self.told.partition(b"\n")
            said = json.loads(line)
            self.code = said.get("exit-code", self.code)
            if "child-pid" in said:
                self._let_go_on(said["child-pid"])

    def _let_go_on(self, pid):
        """bwrap's child waits for a byte: it is put where it is counted, and limited, before it starts the program."""
        self.top = pid
        try:
            for fd in self.group.joins:
                os.write(fd, b"%d" % pid)
            if not self.group.version:
                self.group.attach(pid)
                self._limit_processes(pid)
        except OSError as error:
            self.job.end(verdict.SE, "it cannot be put into its control group: %s" % error)
        self.began = time.monotonic()
        try:
            os.write(self.block, b"x")
        except BrokenPipeError:  # it has failed, and said why
            pass

    def _limit_processes(self, pid):
        """Only now: in its own user namespace nobody else's are counted. rlimits has one to spare, which is bwrap's own."""
        for kind, soft, hard in self.limits:
            if kind == resource.RLIMIT_NPROC and hard != resource.RLIM_INFINITY:
                resource.prlimit(pid, kind, (soft, hard))

    def _ended(self):
        ended = time.monotonic()
        self.group.kill()
        _, status, of_engine = os.wait4(self.monitor, 0)
        used = [of_engine, *self._collect()]
        if self.engine == "bwrap":
            if self.code is None and not self.job.cause:
                # Once it may go on, what it cannot do is to start the program.
                words = "bwrap did not start the program; its own words are on stderr"
                self.job.failed = {"failed": words, "ours": not self.began}
                self.code = 126
            status = 9 if self.code is None else engines.status_of(self.code)
        elif self.engine == "isolate":
            status = self._of_isolate()
        if status & 0x7F == 31 and self.job.cause is None:
            self.job.cause = verdict.RV, "it made a system call that is not allowed (SIGSYS)"
        self._finish(status, used, ended)

    def _collect(self):
        """bwrap ends before its child does, which then is the warden's: what it and its children used."""
        if self.top in (0, self.monitor):
            return []
        _kill(self.top)
        try:
            return [os.wait4(self.top, 0)[2]]
        except OSError:
            return []

    def _of_isolate(self):
        try:
            with open(self.meta_path) as file:
                status, told, broken = engines.meta(file.read())
            os.unlink(self.meta_path)
        except OSError as error:
            status, told, broken = 0, {"message": str(error)}, True
        if self.job.cause is not None or (broken and self.group.memory_killed()):
            status = 9
        elif broken:
            self.job.failed = {"failed": "isolate: %s" % told.get("message", "it told nothing"), "ours": True}
        self._give_back_box()
        return status

    def _finish(self, status, used=(), ended=None):
        about = {
            "status": status,
            "ended": ended or time.monotonic(),
            "left": 0,
            "user_s": sum(one.ru_utime for one in used),
            "system_s": sum(one.ru_stime for one in used),
            "switches": sum(one.ru_nvcsw + one.ru_nivcsw for one in used),
            "largest": max((one.ru_maxrss * 1024 for one in used), default=0),
            "launcher": 0,
            "written": 0,
            "watched": None if self.group.version else {"cpu": self.group.cpu},
            "connections": 0,
        }
        self.warden.report(self, self.job, about)
        self.warden.foreign.remove(self)
        self.let_go()
        syscalls.umount(self.scratch)
        os.rmdir(self.scratch)
        if self.group.version:
            self.warden.cgroups.drop(self.group)


def refusal(name, execution, warden):
    """(the engine's program, what it lacks, why it is not asked for this job or None)."""
    program = find(name)
    if name not in engines.ORDER:
        return (
            None,
            {},
            "there is no sandbox engine %r; there are native, %s" % (name, ", ".join(engines.ORDER)),
        )
    if program is None:
        return None, {}, "the sandbox engine %s is not installed here" % name
    if name == "isolate" and warden.ids.alone:
        return (
            None,
            {},
            "the sandbox engine isolate gets no rights from the user namespace that its scratch space needs",
        )
    lacking = engines.lacks(name, bool(warden.cgroups.version), True)
    return program, lacking, guarantees.refusal(execution.spec, lacking, name)


def start(warden, name, execution):
    """Run a job under an engine by name."""
    program, lacking, why = refusal(name, execution, warden)
    if why:
        return warden.refuse(execution, why)
    try:
        jail = Jail(warden, name, program, lacking, execution)
        warden.foreign.append(jail)
        return execution.start(jail)
    except (root.ViewError, OSError, ValueError) as error:
        return warden.refuse(execution, "%s: %s" % (name, error))

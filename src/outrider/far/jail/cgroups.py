"""Control groups: where the kernel counts and limits a whole tree of processes. Version 1, version 2, or none."""

import os
import time

NEEDED = ("memory", "pids", "cpuacct")
PREFIX = "outrider-"


def _read(path):
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, 65536).decode()
    except OSError:
        return None
    finally:
        os.close(fd)


def _write(path, text):
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(text).encode())
    finally:
        os.close(fd)


def _number(path):
    text = (_read(path) or "").strip()
    return int(text) if text.isdigit() else None


def _table(path):
    """{name: number} of a file of such lines."""
    found = {}
    for line in (_read(path) or "").splitlines():
        name, _, value = line.partition(" ")
        if value.strip().isdigit():
            found[name] = int(value)
    return found


def _mounts():
    """({v1 controller: (mount point, root of the mount)}, (mount point, root) of version 2 or None)."""
    first, second = {}, None
    for line in (_read("/proc/self/mountinfo") or "").splitlines():
        before, _, after = line.partition(" - ")
        root, point = (part.replace("\\040", " ") for part in before.split()[3:5])
        kind, _, options = after.split()[:3]
        if kind == "cgroup":
            for name in options.split(","):
                if name in NEEDED:
                    first[name] = point, root
        elif kind == "cgroup2" and second is None:
            second = point, root
    return first, second


def _own():
    """{controller, or "" for version 2: this process's own group}."""
    found = {}
    for line in (_read("/proc/self/cgroup") or "").splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            found[name] = path
    return found


def _folder(mount, path):
    """The folder of group `path`, as far as the mount shows it: in a container it may show a part only."""
    point, root = mount
    below = path[len(root) :] if root != "/" and path.startswith(root) else path
    folder = os.path.normpath(point + "/" + below)
    return folder if os.path.isdir(folder) and not below.startswith("/..") else point


class Group:
    """One group, for one slot: counted from zero for each job. Folders are made at once, and removed by `remove`."""

    version = 0
    folders: "list[str]" = []  # noqa: RUF012  # each has its own

    def join_files(self):
        """Descriptors; who writes "0" to each is in the group."""
        return [os.open(folder + "/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for folder in self.folders]

    def empty(self):
        return not any((_read(folder + "/cgroup.procs") or "").strip() for folder in self.folders)

    def kill(self):
        """Kill all that is in it; True if all is dead within a moment."""
        for _ in range(50):
            pids = {pid for folder in self.folders for pid in (_read(folder + "/cgroup.procs") or "").split()}
            if not pids:
                return True
            for pid in pids:
                try:
                    os.kill(int(pid), 9)
                except OSError:
                    pass
            time.sleep(0.002)
        return False

    def remove(self):
        """True once it is gone; False while something in it is still dying."""
        gone = True
        for folder in self.folders:
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                pass
            except OSError:
                gone = False
        return gone


class Version1(Group):
    """Groups of the same name in the hierarchies of memory, pids and cpuacct."""

    version = 1

    def __init__(self, bases, name):
        self.memory, self.pids, self.cpu = self.folders = [bases[kind] + "/" + name for kind in NEEDED]
        self.baseline = 0
        self.killed = 0
        for folder in self.folders:
            os.mkdir(folder, 0o755)

    def prepare(self, memory, processes):
        """Before a job: its limits, None for none, and the counters at zero."""
        if (_number(self.memory + "/memory.usage_in_bytes") or 0) > 1 << 20:
            self._forget_files()
        self.baseline = _number(self.memory + "/memory.usage_in_bytes") or 0
        limit = -1 if memory is None else memory + self.baseline
        both = self.memory + "/memory.memsw.limit_in_bytes"
        order = [self.memory + "/memory.limit_in_bytes"]
        if os.path.exists(both):
            order.append(both)
            _write(both, -1)
        for path in order:
            _write(path, limit)
        _write(self.pids + "/pids.max", "max" if processes is None else processes)
        _write(self.memory + "/memory.max_usage_in_bytes", 0)
        self.killed = _table(self.memory + "/memory.oom_control").get("oom_kill", 0)
        self.refused = _table(self.pids + "/pids.events").get("max", 0)
        self.before = self._times()

    def _forget_files(self):
        """Drop what is cached of files that an earlier job has read."""
        try:
            _write(self.memory + "/memory.force_empty", 0)
        except OSError:
            pass

    def _times(self):
        return [_number(self.cpu + "/cpuacct." + name) or 0 for name in ("usage", "usage_user", "usage_sys")]

    def seconds(self):
        """Processor time of all that has run in it since `prepare`, in seconds."""
        return ((_number(self.cpu + "/cpuacct.usage") or 0) - self.before[0]) / 1e9

    def memory_killed(self):
        """True if the kernel had to kill something for want of memory."""
        return _table(self.memory + "/memory.oom_control").get("oom_kill", 0) > self.killed

    def figures(self):
        """What was used since `prepare`."""
        total, user, system = (now - then for now, then in zip(self._times(), self.before))
        cached = _table(self.memory + "/memory.stat")
        files = cached.get("inactive_file", 0) + cached.get("active_file", 0)
        peak = (_number(self.memory + "/memory.max_usage_in_bytes") or 0) - self.baseline
        return {
            "cpu_s": total / 1e9,
            "user_s": user / 1e9,
            "system_s": system / 1e9,
            "memory_bytes": max(0, peak - files),
            "processes": _number(self.pids + "/pids.peak"),
            "refused_processes": _table(self.pids + "/pids.events").get("max", 0) > self.refused,
        }


class Version2(Group):
    """One group of the unified hierarchy."""

    version = 2

    def __init__(self, base, name):
        self.folder = base + "/" + name
        self.folders = [self.folder]
        os.mkdir(self.folder, 0o755)
        self.baseline = 0

    def prepare(self, memory, processes):
        self.baseline = _number(self.folder + "/memory.current") or 0
        self._set("memory.max", "max" if memory is None else memory + self.baseline)
        for name, value in (("memory.swap.max", 0), ("memory.oom.group", 1), ("memory.peak", 0)):
            try:
                self._set(name, value)
            except OSError:  # without swap; memory.peak takes no reset before Linux 6.12
                pass
        self._set("pids.max", "max" if processes is None else processes)
        self.killed = self._killed()
        self.refused = _table(self.folder + "/pids.events").get("max", 0)
        self.before = _table(self.folder + "/cpu.stat")

    def _set(self, name, value):
        _write(self.folder + "/" + name, value)

    def _killed(self):
        return _table(self.folder + "/memory.events").get("oom_kill", 0)

    def seconds(self):
        return (
            _table(self.folder + "/cpu.stat").get("usage_usec", 0) - self.before.get("usage_usec", 0)
        ) / 1e6

    def memory_killed(self):
        return self._killed() > self.killed

    def kill(self):
        try:
            self._set("cgroup.kill", 1)
        except OSError:  # before Linux 5.14
            pass
        return Group.kill(self)

    def figures(self):
        now = _table(self.folder + "/cpu.stat")
        times = [
            (now.get(name, 0) - self.before.get(name, 0)) / 1e6
            for name in ("usage_usec", "user_usec", "system_usec")
        ]
        cached = _table(self.folder + "/memory.stat")
        files = cached.get("inactive_file", 0) + cached.get("active_file", 0)
        peak = _number(self.folder + "/memory.peak")
        return {
            "cpu_s": times[0],
            "user_s": times[1],
            "system_s": times[2],
            "memory_bytes": None if peak is None else max(0, peak - self.baseline - files),
            "processes": _number(self.folder + "/pids.peak"),
            "refused_processes": _table(self.folder + "/pids.events").get("max", 0) > self.refused,
        }


class Cgroups:
    """Where this process may make groups; `reason` says why it cannot, if it cannot."""

    def __init__(self):
        self.version = 0
        self.reason = ""
        self.bases = {}
        self.base = ""
        self.made = 0
        self.dying = []
        self.name = "%s%d-%d-%d" % (PREFIX, _pids_of_whom(), os.getpid(), _started(os.getpid()) or 0)
        try:
            self._find()
        except (OSError, ValueError) as error:
            self.reason = str(error)

    def _find(self):
        first, second = _mounts()
        own = _own()
        if all(kind in first for kind in NEEDED):
            parents = {kind: _folder(first[kind], own.get(kind, "/")) for kind in NEEDED}
            for parent in parents.values():
                _sweep(parent)
            for kind, parent in parents.items():
                self.bases[kind] = parent + "/" + self.name
                os.mkdir(self.bases[kind], 0o755)
            self.version = 1
        elif second:
            self._find_second(_folder(second, own.get("", "/")), second[0])
        else:
            self.reason = "no control groups are mounted here"

    def _find_second(self, own, top):
        """Beside the group that this process is in, since one with processes cannot share out; the top can."""
        for parent in [own] if own == top else [os.path.dirname(own), own]:
            try:
                given = (_read(parent + "/cgroup.subtree_control") or "").split()
                if not {"memory", "pids"} <= set(given):
                    _write(parent + "/cgroup.subtree_control", "+memory +pids")
                _sweep(parent)
                base = parent + "/" + self.name
                os.mkdir(base, 0o755)
                _write(base + "/cgroup.subtree_control", "+memory +pids")
            except OSError as error:
                self.reason = "no control group is this user's to share out (%s)" % error
                continue
            self.base, self.version, self.reason = base, 2, ""
            return

    @property
    def folders(self):
        """The folders to remove in the end, whatever happens."""
        return [*self.bases.values()] or ([self.base] if self.base else [])

    def make(self):
        """A group for a slot; None without any."""
        if not self.version:
            return None
        self.made += 1
        name = "slot-%d" % self.made
        return Version1(self.bases, name) if self.version == 1 else Version2(self.base, name)

    def drop(self, group):
        """Remove a group, now or as soon as all in it has died."""
        if group is not None and not group.remove():
            self.dying.append(group)

    def tidy(self):
        """Try again for those that were still dying."""
        self.dying = [group for group in self.dying if not group.remove()]

    def close(self):
        deadline = time.monotonic() + 1
        for group in self.dying:
            group.kill()
        self.tidy()
        while self.dying and time.monotonic() < deadline:
            time.sleep(0.005)
            self.tidy()
        for folder in self.folders:
            try:
                os.rmdir(folder)
            except OSError:
                pass


def _started(pid):
    """When a process was started, in clock ticks: with its number, a name that is never used twice."""
    after = (_read("/proc/%d/stat" % pid) or "").rpartition(")")[2].split()
    return int(after[19]) if len(after) > 19 else None


def _pids_of_whom():
    """The namespace of pids that this process's pid is one of: a container's are another's."""
    return os.stat("/proc/self/ns/pid").st_ino


def _sweep(parent):
    """Remove the groups of wardens that were killed with all that they had."""
    for name in os.listdir(parent):
        parts = name[len(PREFIX) :].split("-")
        if not name.startswith(PREFIX) or len(parts) != 3 or not all(part.isdigit() for part in parts):
            continue
        if int(parts[0]) != _pids_of_whom() or _started(int(parts[1])) == int(parts[2]):
            continue
        folder = parent + "/" + name
        for below in os.listdir(folder):
            if os.path.isdir(folder + "/" + below):
                for pid in (_read(folder + "/" + below + "/cgroup.procs") or "").split():
                    try:
                        os.kill(int(pid), 9)
                    except OSError:
                        pass
                _rmdir(folder + "/" + below)
        _rmdir(folder)


def _rmdir(folder):
    for _ in range(20):
        try:
            return os.rmdir(folder)
        except FileNotFoundError:
            return None
        except OSError:
            time.sleep(0.005)

"""Control groups: where the kernel counts and limits a whole tree of processes. Version 1, version 2, or none."""

import os
import time

NEEDED = ("memory", "pids", "cpuacct")
PREFIX = "outrider-"
MOST_PROCESSES = 4096
"""Of a job whose number is not limited: so many are enough to tell, and the host can stand them."""
FILES_MATTER = 512 * 1024
"""Bytes of memory from which on it is looked at what of them are files' contents."""

TYPES = False
if TYPES:
    from typing import Any


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


class Files:
    """The files of a group, kept open: to look one up by its name takes longer than to read it."""

    def __init__(self):
        self._open = {}

    def _fd(self, path, flags):
        fd = self._open.get((path, flags))
        if fd is None:
            try:
                fd = os.open(path, flags | os.O_CLOEXEC)
            except OSError:
                fd = -1
            self._open[path, flags] = fd
        return fd

    def text(self, path):
        """What it says; "" if it is not there."""
        fd = self._fd(path, os.O_RDONLY)
        try:
            return "" if fd < 0 else os.pread(fd, 65536, 0).decode()
        except OSError:
            return ""

    def number(self, path):
        """The number in it; None if there is none."""
        text = self.text(path).strip()
        return int(text) if text.isdigit() else None

    def table(self, path):
        """{name: number} of lines of such."""
        pairs = (line.split() for line in self.text(path).splitlines())
        return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}

    def write(self, path, value):
        os.pwrite(self._fd(path, os.O_WRONLY), str(value).encode(), 0)

    def there(self, path):
        return self._fd(path, os.O_RDONLY) >= 0

    def close(self):
        for fd in self._open.values():
            if fd >= 0:
                os.close(fd)
        self._open.clear()


class Group:
    """One group, for one slot: counted from zero for each job. Folders are made at once, and removed by `remove`."""

    version = 0
    source = ""
    door = "cgroup.procs"
    step = 0.25
    """Seconds between two looks at the least that is looked at."""

    def __init__(self, folders):
        self.folders = folders
        self.files = Files()
        self.joins: Any = []
        self.limits: Any = None
        self.baseline = 0
        self.seen = 0
        self.before: Any = None
        self._make()

    def _make(self):
        for folder in self.folders:
            os.mkdir(folder, 0o755)
        self._open_joins()

    def _open_joins(self):
        """Descriptors; who writes "0" to each is in the group."""
        self._close_joins()
        self.joins = [
            os.open(folder + "/" + self.door, os.O_WRONLY | os.O_CLOEXEC) for folder in self.folders
        ]

    def _close_joins(self):
        for fd in self.joins:
            os.close(fd)
        self.joins = []

    def _limit(self, memory, processes):
        raise NotImplementedError

    def _counters(self):
        """Where the counters stand before a job."""
        raise NotImplementedError

    def _clean(self):
        raise NotImplementedError

    def prepare(self, memory, processes):
        """Before a job: its limits, None for none, and the counters at zero."""
        self.seen = 0
        if self.before is None:
            self.before = self._counters()
        if self.limits != (memory, processes):
            self._limit(memory, processes)
            self.limits = memory, processes

    def renew(self):
        """After a job, while there is time: as if the group were new."""
        self.before = None
        self._clean()
        self.before = self._counters()

    def empty(self):
        return not any(self.files.text(folder + "/cgroup.procs") for folder in self.folders)

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

    def close(self):
        self.files.close()
        self._close_joins()

    def remove(self):
        """True once it is gone; False while something in it is still dying."""
        self.close()
        gone = True
        for folder in self.folders:
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                pass
            except OSError:
                gone = False
        return gone

    def _peak(self):
        """The most memory that was used at once since `prepare`, files' contents that could have been dropped included."""
        raise NotImplementedError

    def look(self):
        """Note how much memory it has used so far: files that it reads later on cannot hide that any more."""
        peak = self._peak()
        if peak is not None:
            self.seen = max(self.seen, peak - self._cached(peak))

    def memory_peaks(self):
        """(peak of memory without files' contents, the same with them where that is not sure, else None).

        The kernel tells of the peak only with them, and how much of them there is only at this moment: what was read after
        the peak, and is taken off, makes it too small.
        """
        peak = self._peak()
        if peak is None:
            return None, None
        cached = self._cached(peak)
        return max(self.seen, peak - cached), peak if cached else None

    def _cached(self, peak):
        if peak <= FILES_MATTER:
            return 0
        table = self.files.table(self.folders[0] + "/memory.stat")
        return min(peak, table.get("inactive_file", 0) + table.get("active_file", 0))


class Version1(Group):
    """Groups of the same name in the hierarchies of memory, pids and cpuacct."""

    version = 1
    source = "cgroup v1"
    door = "tasks"  # a thread that moves itself alone needs no lock of the kernel's that takes milliseconds

    def __init__(self, bases, name):
        folders = [bases[kind] + "/" + name for kind in NEEDED]
        self.memory, self.pids, self.cpu = folders
        Group.__init__(self, folders)

    def _limit(self, memory, processes):
        limit = -1 if memory is None else memory + self.baseline
        both = self.memory + "/memory.memsw.limit_in_bytes"
        order = [self.memory + "/memory.limit_in_bytes"]
        if self.files.there(both):
            order.append(both)
            self.files.write(both, -1)
        for path in order:
            self.files.write(path, limit)
        self.files.write(self.pids + "/pids.max", MOST_PROCESSES if processes is None else processes)

    def _counters(self):
        self.baseline = self.files.number(self.memory + "/memory.usage_in_bytes") or 0
        self.files.write(self.memory + "/memory.max_usage_in_bytes", 0)
        return {
            "times": self._times(),
            "killed": self.files.table(self.memory + "/memory.oom_control").get("oom_kill", 0),
            "refused": self.files.table(self.pids + "/pids.events").get("max", 0),
        }

    def _clean(self):
        """What is cached of files that the job has read is dropped; counters that cannot be set back are made anew."""
        if (self.files.number(self.memory + "/memory.usage_in_bytes") or 0) > FILES_MATTER:
            try:
                self.files.write(self.memory + "/memory.force_empty", 0)
            except OSError:
                pass
        if (self.files.number(self.pids + "/pids.peak") or 0) > 1 or (
            self.files.number(self.memory + "/memory.usage_in_bytes") or 0
        ) > FILES_MATTER:
            self.close()
            for folder in self.folders:
                os.rmdir(folder)
            self.limits = None
            self._make()

    def _times(self):
        return [
            self.files.number(self.cpu + "/cpuacct." + name) or 0
            for name in ("usage", "usage_user", "usage_sys")
        ]

    def _peak(self):
        return self.files.number(self.memory + "/memory.max_usage_in_bytes")

    def seconds(self):
        """Processor time of all that has run in it since `prepare`, in seconds."""
        return ((self.files.number(self.cpu + "/cpuacct.usage") or 0) - self.before["times"][0]) / 1e9

    def memory_killed(self):
        """True if the kernel had to kill something for want of memory."""
        return (
            self.files.table(self.memory + "/memory.oom_control").get("oom_kill", 0) > self.before["killed"]
        )

    def figures(self):
        """What was used since `prepare`."""
        times = [(now - then) / 1e9 for now, then in zip(self._times(), self.before["times"])]
        memory, with_files = self.memory_peaks()
        return {
            "cpu_s": times[0],
            "user_s": times[1],
            "system_s": times[2],
            "memory_bytes": memory,
            "with_files": with_files,
            "processes": self.files.number(self.pids + "/pids.peak"),
            "refused_processes": self.files.table(self.pids + "/pids.events").get("max", 0)
            > self.before["refused"],
        }


class Version2(Group):
    """One group of the unified hierarchy."""

    version = 2
    source = "cgroup v2"

    def __init__(self, base, name):
        self.folder = base + "/" + name
        Group.__init__(self, [self.folder])

    def _file(self, name):
        return self.folder + "/" + name

    def _limit(self, memory, processes):
        self._try("memory.swap.max", 0)
        self._try("memory.oom.group", 1)
        self.files.write(self._file("memory.max"), "max" if memory is None else memory + self.baseline)
        self.files.write(self._file("pids.max"), MOST_PROCESSES if processes is None else processes)

    def _try(self, name, value):
        try:
            self.files.write(self._file(name), value)
        except OSError:  # a kernel without it, or without swap
            pass

    def _counters(self):
        self.baseline = self.files.number(self._file("memory.current")) or 0
        return {
            "times": self._times(),
            "killed": self.files.table(self._file("memory.events")).get("oom_kill", 0),
            "refused": self.files.table(self._file("pids.events")).get("max", 0),
        }

    def _clean(self):
        """Its peaks cannot be set back, but before Linux 6.12 by nobody: it is made anew."""
        self.close()
        os.rmdir(self.folder)
        self.limits = None
        self._make()

    def _times(self):
        table = self.files.table(self._file("cpu.stat"))
        return [table.get(name, 0) for name in ("usage_usec", "user_usec", "system_usec")]

    def _peak(self):
        return self.files.number(self._file("memory.peak"))

    def seconds(self):
        return (self._times()[0] - self.before["times"][0]) / 1e6

    def memory_killed(self):
        return self.files.table(self._file("memory.events")).get("oom_kill", 0) > self.before["killed"]

    def kill(self):
        self._try("cgroup.kill", 1)  # since Linux 5.14
        return Group.kill(self)

    def figures(self):
        times = [(now - then) / 1e6 for now, then in zip(self._times(), self.before["times"])]
        memory, with_files = self.memory_peaks()
        return {
            "cpu_s": times[0],
            "user_s": times[1],
            "system_s": times[2],
            "memory_bytes": memory,
            "with_files": with_files,
            "processes": self.files.number(self._file("pids.peak")),
            "refused_processes": self.files.table(self._file("pids.events")).get("max", 0)
            > self.before["refused"],
        }


class Cgroups:
    """Where this process may make groups; `reason` says why it cannot, if it cannot."""

    def __init__(self):
        self.version = 0
        self.reason = ""
        self.bases = {}
        self.own = []
        self.base = ""
        self.dying = []
        self.name = "%s%d-%d-%d" % (PREFIX, _pids_of_whom(), os.getpid(), _started(os.getpid()) or 0)
        self.left = []
        try:
            self._find()
        except (OSError, ValueError) as error:
            self.reason = str(error)

    def enter(self):
        """Go into the base group, or one in it, so that cgroup namespaces made from here on show nothing above it."""
        folders = self.folders
        if self.version == 2:  # where processes are, nothing can be shared out
            folders = [self.base + "/warden"]
            os.mkdir(folders[0], 0o755)
        for above, folder in zip(self.own, folders):
            try:
                _write(folder + "/cgroup.procs", 0)
                self.left.append(above)
            except OSError:  # not this user's to leave
                pass

    def leave(self):
        """Back to where it was."""
        for folder in self.left:
            try:
                _write(folder + "/cgroup.procs", 0)
            except OSError:
                pass
        self.left = []
        if self.version == 2:
            try:
                os.rmdir(self.base + "/warden")
            except OSError:
                pass

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
            self.own = list(parents.values())
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
            self.base, self.version, self.reason, self.own = base, 2, "", [own]
            return

    @property
    def folders(self):
        """The folders to remove in the end, whatever happens."""
        return [*self.bases.values()] or ([self.base] if self.base else [])

    def make(self):
        """A group for a slot; None without any."""
        if not self.version:
            return None
        name = "slot-%s" % os.urandom(6).hex()  # which a job sees, and which tells it nothing
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
        self.leave()
        for folder in self.folders:
            _remove(folder)


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
        _remove(parent + "/" + name)


def _remove(folder):
    """A warden's groups, and what is in them."""
    for below in os.listdir(folder) if os.path.isdir(folder) else ():
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

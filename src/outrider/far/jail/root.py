"""What a job sees of files: a read-only view, assembled once by the warden, made a slot's own root, with a private scratch.

A view is a folder in the warden's own mount namespace: host folders bound read-only into an empty tree, with a `/dev` of
harmless devices and an `/etc` of a few files. A slot makes it its root; each job gets a scratch space of its own on top.
"""

import errno
import os
import stat

from . import starter, syscalls
from .syscalls import BIND, NODEV, NOEXEC, NOSUID, PRIVATE, RDONLY, REC, REMOUNT

PLACES = ("/dev/pts", "/dev/mqueue", "/dev/shm", "/mnt", "/media", "/srv")  # a mount point only
"""Where views are assembled, hidden from all but the warden: what nobody wants to see in a jail."""
HOST = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix/store", "gnu/store")
ETC = (
    "alternatives",
    "ca-certificates",
    "crypto-policies",
    "fonts",
    "gai.conf",
    "gss",
    "host.conf",
    "java",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "locale.alias",
    "locale.conf",
    "magic",
    "mime.types",
    "mono",
    "nsswitch.conf",
    "pki",
    "protocols",
    "python3",
    "R",
    "rpc",
    "services",
    "shells",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "texmf",
    "timezone",
)
DEVICES = ("null", "zero", "full", "random", "urandom")
OWN = ("dev", "proc", "sys", "tmp", "run", "etc", starter.NAME[1:])
"""Top folders that are never bound from a root folder of the caller's (`etc` is, but file by file)."""
SCRATCH = "/.scratch"
JOB = 1000
MOST_COPIED = 4 << 20


class ViewError(Exception):
    """A view cannot be made as asked."""


def _makedirs(path):
    os.makedirs(path, 0o755, exist_ok=True)


def _bind(source, target, writable=False, devices=False):
    """Bind `source`, and what is mounted below it, at `target`, which is made."""
    _make_like(source, target)
    syscalls.mount(source, target, flags=BIND | REC)
    wanted = NOSUID | (0 if devices else NODEV) | (0 if writable else RDONLY)
    try:
        syscalls.restrict_mounts(target, wanted)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        _remount(target, wanted)


def _make_like(source, target):
    if os.path.isdir(source):
        _makedirs(target)
    elif not os.path.exists(target):
        _makedirs(os.path.dirname(target))
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _remount(target, flags):
    """Before Linux 5.12. What a mount has in its own right must be asked for again: a user namespace may not take it off."""
    has = os.statvfs(target).f_flag & (NOSUID | NODEV | NOEXEC | RDONLY)
    syscalls.mount(None, target, flags=BIND | REMOUNT | has | flags)


def _carry(source, target):
    """One entry of the host in the view: links as links, folders bound, small files that all may read copied."""
    about = os.lstat(source)
    if stat.S_ISLNK(about.st_mode):
        _makedirs(os.path.dirname(target))
        os.symlink(os.readlink(source), target)
    elif stat.S_ISDIR(about.st_mode):
        _bind(source, target)
    elif stat.S_ISREG(about.st_mode) and about.st_size <= MOST_COPIED and about.st_mode & 0o004:
        with open(source, "rb") as file:
            _write(target, file.read())
    elif stat.S_ISREG(about.st_mode):
        _bind(source, target)


def _write(target, contents):
    """A new file, through no link."""
    _makedirs(os.path.dirname(target))
    flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
    with os.fdopen(os.open(target, flags, 0o644), "wb") as file:
        file.write(contents)


class View:
    """One assembled tree: `key` is (root or None, binds, network or not, folder)."""

    def __init__(self, place, key):
        self.path = place
        self.root, self.binds, self.network, self.folder = key
        self.late = []
        self.scratch = (self.folder, "/tmp", "/var/tmp", "/dev/shm")
        self.has_scratch = False
        if not os.path.isabs(self.folder) or self.folder == "/" or ".." in self.folder.split("/"):
            raise ViewError("the job's folder must be an absolute path below /, not %r" % self.folder)
        os.mkdir(place, 0o755)
        syscalls.mount("outrider", place, "tmpfs", NOSUID, "mode=755,size=64m,nr_inodes=16k")
        try:
            self._assemble()
        except BaseException as error:
            syscalls.umount(place)
            if isinstance(error, OSError):
                raise ViewError("its root cannot be assembled: %s" % error) from None
            raise

    def _assemble(self):
        base = self.root or ""
        if self.root is None:
            wanted = list(HOST)
        else:
            wanted = [name for name in os.listdir(self.root) if name not in OWN]
        for name in wanted:
            if os.path.lexists(base + "/" + name):
                _carry(base + "/" + name, self.path + "/" + name)
        self._etc(base)
        self._devices()
        _write(self.path + starter.NAME, starter.program(syscalls.MACHINE))
        os.chmod(self.path + starter.NAME, 0o555)
        for name in ("/proc", "/tmp", "/var/tmp", "/run", "/sys", SCRATCH, self.folder):
            _makedirs(self._inside(name))
        for number, (source, inside, writable) in enumerate(self.binds):
            self._add(number, source, inside, writable)

    def _inside(self, path):
        """Where `path` of the view is made: through no link, which could lead out of it, to the host's own files."""
        at = self.path
        for name in path.split("/"):
            at = os.path.join(at, name)
            if os.path.islink(at):
                raise ViewError("%s leads through a link, and cannot be mounted on" % path)
        return at

    def _etc(self, base):
        wanted = list(ETC)
        if self.root is not None:
            real = os.path.isdir(base + "/etc") and not os.path.islink(base + "/etc")
            wanted = os.listdir(base + "/etc") if real else []
        made = {"passwd", "group", "hosts", "hostname", "resolv.conf"}
        for name in wanted:
            if name not in made and os.path.lexists(base + "/etc/" + name):
                _carry(base + "/etc/" + name, self.path + "/etc/" + name)
        folder = self.folder.encode()
        texts = {
            "passwd": b"root:x:0:0:root:/:/bin/sh\njob:x:1000:1000:job:" + folder + b":/bin/sh\n"
            b"nobody:x:65534:65534:nobody:/:/bin/false\n",
            "group": b"root:x:0:\njob:x:1000:\nnogroup:x:65534:\n",
            "hosts": b"127.0.0.1 localhost sandbox\n::1 localhost\n",
            "hostname": b"sandbox\n",
        }
        for name, text in texts.items():
            _write(self.path + "/etc/" + name, text)
        if self.network and os.path.exists("/etc/resolv.conf"):
            with open("/etc/resolv.conf", "rb") as file:
                _write(self.path + "/etc/resolv.conf", file.read(MOST_COPIED))

    def _devices(self):
        for name in DEVICES:
            _bind("/dev/" + name, self.path + "/dev/" + name, writable=True, devices=True)
        for name, target in (
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ):
            os.symlink(target, self.path + "/dev/" + name)
        os.mkdir(self.path + "/dev/shm")

    def _add(self, number, source, inside, writable):
        """A bind of the caller's; below a scratch folder only once a job has that."""
        if not os.path.exists(source):
            raise ViewError("%s, which is to be bound, is not there" % source)
        if not os.path.isabs(inside) or ".." in inside.split("/") or inside == "/":
            raise ViewError("a bind's path inside must be absolute and below /, not %r" % inside)
        inside = os.path.normpath(inside)
        if any((inside + "/").startswith(part + "/") for part in self.scratch):
            staged = "/.binds/%d" % number
            _bind(source, self._inside(staged), writable)
            self.late.append((staged, inside))
        else:
            _bind(source, self._inside(inside), writable)


class Views:
    """All views of this warden, in a mount namespace of its own."""

    def __init__(self):
        """After this the process is in a mount namespace of its own (and, if it may not otherwise, in a user namespace)."""
        self.known = {}
        self.made = 0
        self.place = None

    def get(self, key):
        """The view for `key`; ViewError if it cannot be made."""
        if self.place is None:
            self._settle(key)
        if key not in self.known:
            self.made += 1
            self.known[key] = View("%s/%d" % (self.place, self.made), key)
        return self.known[key]

    def _settle(self, key):
        sources = [bind[0] for bind in key[1]] + [key[0] or "/usr"]
        for place in PLACES:
            if os.path.isdir(place) and not any(_below(source, place) for source in sources):
                syscalls.mount("outrider", place, "tmpfs", NOSUID, "mode=755,size=1m,nr_inodes=10k")
                self.place = place
                return
        raise ViewError("there is no folder to assemble a view in")


def _below(path, folder):
    return (os.path.realpath(path) + "/").startswith(folder + "/")


def enter(view):
    """In a slot's init: make the view the root of this mount namespace, with this pid namespace's own /proc.

    Gives what `_open_counter` does.
    """
    syscalls.mount(None, "/", flags=REC | PRIVATE)
    syscalls.mount(view.path, view.path, flags=BIND | REC)
    os.chdir(view.path)
    counter = _open_counter()
    # Of init a job could see what earlier jobs have left in its counters, such as their page faults.
    syscalls.mount("proc", "proc", "proc", RDONLY | NOSUID | NODEV | NOEXEC, "hidepid=2")
    syscalls.mount(None, ".", flags=BIND | REMOUNT | RDONLY | NOSUID | NODEV)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".")
    os.chdir("/")
    return counter


def _open_counter():
    """Where the number of this pid namespace's last process can be set, which the job's own /proc does not let; or -1."""
    try:
        syscalls.mount("proc", "proc", "proc", NOSUID | NODEV | NOEXEC)
        try:
            return os.open("proc/sys/kernel/ns_last_pid", os.O_WRONLY | os.O_CLOEXEC)
        finally:
            syscalls.umount("proc")
    except OSError:  # a kernel without it
        return -1


def renew_scratch(view, disk, files):
    """In init: a new folder, /tmp and /dev/shm, together limited in bytes and in inodes; what was there before is gone."""
    for place in view.scratch if view.has_scratch else ():
        syscalls.umount(place)
    syscalls.mount("scratch", SCRATCH, "tmpfs", NOSUID | NODEV, "mode=755" + limits(disk, files))
    view.has_scratch = True
    for name, mode, places in (
        ("box", 0o700, view.scratch[:1]),
        ("tmp", 0o1777, view.scratch[1:3]),
        ("shm", 0o1777, view.scratch[3:]),
    ):
        folder = SCRATCH + "/" + name
        os.mkdir(folder)
        os.chown(folder, JOB, JOB)
        os.chmod(folder, mode)
        for place in places:
            syscalls.mount(folder, place, flags=BIND)
    syscalls.umount(SCRATCH)
    _bind_late(view)


def limits(disk, files):
    text = "" if disk is None else ",size=%d" % max(disk, 4096)
    return text + ("" if files is None else ",nr_inodes=%d" % (files + 4))


def _bind_late(view):
    """The caller's binds below the scratch folders."""
    for staged, inside in view.late:
        _make_like(staged, inside)
        syscalls.mount(staged, inside, flags=BIND | REC)

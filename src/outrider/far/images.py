"""Sandbox images: archives of a root folder, unpacked where the jails are. Nothing in an archive is followed or believed."""

import fcntl
import os
import stat
import sys
import time

TYPES = False
if TYPES:  # typing is slow to import, and annotations of local names are not evaluated
    from typing import Any

CACHE = "~/.cache/outrider/images"
MARK = ".complete"
MOST_FILES = 1000000
MOST_BYTES = 64 << 30
LONGEST = 4 << 20
"""Bytes of one header, at the most: headers are read into memory whole."""
DEEPEST = 100
OF_A_KERNEL = ("dev", "proc", "sys", "run")
"""Folders in whose devices, pipes and sockets nobody is interested: a jail has its own."""
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OLD = 86400.0


class ImageError(Exception):
    """An archive that cannot be an image; nothing of it is kept."""


# --- where they are -----------------------------------------------------------------------------------------------


def home():
    """The folder of the images of this user, made if it is not there; private."""
    folder = os.path.expanduser(os.environ.get("OUTRIDER_IMAGES") or CACHE)
    os.makedirs(folder, 0o700, exist_ok=True)
    about = os.lstat(folder)
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o022:
        raise ImageError("%s must be a folder of your own, where nobody else may write" % folder)
    return folder


class Lock:
    """While one process makes an image, others that want it wait; a lock ends with who holds it."""

    def __init__(self, path, wait=True):
        self.fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        self.held = True
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            self.held = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)


def root_of(digest):
    return os.path.join(home(), digest, "root")


def have(digest):
    """Path of the image's root folder here; "" if it is not here, not whole, or was changed since it was made."""
    root = root_of(digest)
    try:
        with open(os.path.join(home(), digest, MARK)) as file:
            return root if file.read() == likeness(root) else ""
    except OSError:
        return ""


def likeness(root):
    """What changes when anything in a folder does: all names, sizes, modes and times of change, as one hash."""
    import hashlib

    total = hashlib.sha256()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                about = entry.stat(follow_symlinks=False)
                told = (
                    entry.path[len(root) :],
                    about.st_mode,
                    about.st_size,
                    about.st_mtime_ns,
                    about.st_ctime_ns,
                )
                total.update(repr(told).encode("utf-8", "surrogateescape"))
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return total.hexdigest()


def landing(digest):
    """Where its archive is to be put; one of several that send it at once. What others left unfinished is removed."""
    folder = home()
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name.endswith(".tar") and os.lstat(path).st_mtime < time.time() - OLD:
            os.unlink(path)
        elif os.path.isdir(path) and not os.path.exists(os.path.join(path, MARK)):
            with Lock(path + ".lock", wait=False) as lock:
                if lock.held and not os.path.exists(os.path.join(path, MARK)):
                    remove(path)
    return os.path.join(folder, "%s.%s.tar" % (digest, os.urandom(6).hex()))


def install(order):
    """Unpack `archive`, whose contents must have the SHA-256 `digest`; the root folder's path. The archive is removed."""
    digest, archive = order["digest"], order["archive"]
    whole = os.path.join(home(), digest)
    try:
        with Lock(whole + ".lock"):
            found = have(digest)
            if found:
                return found
            if digest_of(archive) != digest:
                raise ImageError("what arrived is not what was sent")
            remove(whole)
            os.makedirs(root_of(digest), 0o755)
            try:
                unpack(archive, root_of(digest))
                with open(os.path.join(whole, MARK), "w") as file:
                    file.write(likeness(root_of(digest)))
            except BaseException:
                remove(whole)
                raise
            return root_of(digest)
    finally:
        try:
            os.unlink(archive)
        except OSError:
            pass


def remove(folder):
    """Remove a folder with all in it, whatever modes it has."""
    if not os.path.isdir(folder):
        return
    os.chmod(folder, 0o700)
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                remove(entry.path)
            else:
                os.unlink(entry.path)
    os.rmdir(folder)


def digest_of(path):
    import hashlib

    total = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            total.update(piece)
    return total.hexdigest()


# --- unpacking ----------------------------------------------------------------------------------------------------


def unpack(archive, root, most_files=MOST_FILES, most_bytes=MOST_BYTES):
    """Unpack a tar archive into the empty folder `root`; how many bytes its files have. ImageError, and half a folder, if
    it does not fit, leads out or is cut short. Owners and special bits are dropped; times are kept, as compiled Python
    goes by them.
    """
    import tarfile

    with open(archive, "rb") as file, _plain(file) as plain:
        stream: Any = Stream(plain)
        try:
            with tarfile.open(fileobj=stream, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
                tree = Tree(root, most_files, most_bytes)
                try:
                    while True:
                        member = tar.next()
                        if member is None:
                            break
                        tree.add(tar, member)
                        tar.members.clear()  # type: ignore[attr-defined]  # else it keeps them all
                finally:
                    tree.close()
                stream.seek(tar.offset)
                if stream.read(512).count(b"\0") != 512:
                    raise ImageError("it is cut short, or broken")
                if not tree.files:
                    raise ImageError("it is empty")
                return tree.bytes
        except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError, *_broken()) as error:
            raise ImageError("it cannot be read as a tar archive: %s" % error) from None


def _plain(file):
    """The open archive, uncompressed while it is read."""
    start = file.read(6)
    file.seek(0)
    try:
        if start[:2] == b"\x1f\x8b":
            import gzip

            return gzip.GzipFile(fileobj=file)
        if start[:3] == b"BZh":
            import bz2

            return bz2.BZ2File(file)
        if start == b"\xfd7zXZ\0":
            import lzma

            return lzma.LZMAFile(file)
    except ImportError as error:
        raise ImageError("this Python cannot uncompress it: %s" % error) from None
    if start[:4] == b"\x28\xb5\x2f\xfd" or start[:2] == b"PK":
        raise ImageError("archives are tar, or tar compressed by gzip, bzip2 or xz: this is another kind")
    return file


def _broken():
    """What the uncompressing raises for what is broken, beyond OSError."""
    import zlib

    lzma = sys.modules.get("lzma")
    return (zlib.error,) if lzma is None else (zlib.error, lzma.LZMAError)


class Stream:
    """An archive's bytes, as tarfile reads them. Who asks for much at once was told to by a header that lies."""

    def __init__(self, file):
        self.file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size):
        if not 0 <= size <= LONGEST:
            raise ImageError("a header of it is too long")
        return self.file.read(size)


class Tree:
    """A folder that fills with an archive's members. Every step goes through descriptors of folders, and through no link."""

    def __init__(self, root, most_files, most_bytes):
        self.root = os.open(root, FOLDER)
        os.fchmod(self.root, 0o755)
        self.most_files, self.most_bytes = most_files, most_bytes
        self.files = self.bytes = 0
        self._parts, self._folder = (), os.dup(self.root)
        self._times = []

    def close(self):
        for parts, seconds in reversed(self._times):  # what is made in a folder changes its time
            try:
                folder = self.folder(parts)
                os.utime(folder, (seconds, seconds))
            except (OSError, ImageError, OverflowError):
                pass
        os.close(self._folder)
        os.close(self.root)

    def add(self, tar, member):
        self.files += 1
        if self.files > self.most_files:
            raise ImageError("it has more than %d files" % self.most_files)
        parts = parts_of(member.name)
        try:
            if member.isdir():
                self._make(parts, member)
            elif not parts:
                raise ImageError("its root is no folder")
            elif member.isreg():
                self._write(parts, member, tar.extractfile(member))
            elif member.issym():
                self._room(parts)
                os.symlink(aim(parts, member.linkname), parts[-1], dir_fd=self.folder(parts[:-1]))
            elif member.islnk():
                self._link(parts, parts_of(member.linkname))
            elif parts[0] not in OF_A_KERNEL:
                raise ImageError("a device, pipe or socket: %r" % member.name)
        except OSError as error:
            raise ImageError("%s: %s" % (member.name[:200], error.strerror or error)) from None

    def folder(self, parts):
        """The descriptor of a folder, made with those above it if it is not there; good until the next one is asked for."""
        if parts == self._parts:
            return self._folder
        if len(parts) > DEEPEST:
            raise ImageError("folders more than %d deep" % DEEPEST)
        at = os.dup(self.root)
        try:
            for part in parts:
                try:
                    below = os.open(part, FOLDER, dir_fd=at)
                except FileNotFoundError:
                    os.mkdir(part, dir_fd=at)
                    below = os.open(part, FOLDER, dir_fd=at)
                    os.fchmod(below, 0o755)  # whatever the umask is: another user reads it
                os.close(at)
                at = below
        except BaseException:
            os.close(at)
            raise
        os.close(self._folder)
        self._parts, self._folder = parts, at
        return at

    def _make(self, parts, member):
        if parts and self._kind(parts) not in (None, stat.S_IFDIR):
            self._room(parts)
        folder = self.folder(parts)
        if parts:
            os.fchmod(folder, (member.mode & 0o777) | 0o700)
            self._times.append((parts, member.mtime))

    def _write(self, parts, member, contents):
        self._room(parts)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(parts[-1], flags, 0o600, dir_fd=self.folder(parts[:-1]))
        with open(fd, "wb") as file:
            for piece in iter(lambda: contents.read(1 << 20), b""):
                self.bytes += len(piece)
                if self.bytes > self.most_bytes:
                    raise ImageError("its files have more than %d bytes" % self.most_bytes)
                file.write(piece)
            file.flush()
            os.fchmod(fd, (member.mode & 0o777) | 0o400)
            os.utime(fd, (member.mtime, member.mtime))

    def _link(self, parts, source):
        """A second name of a file that is there."""
        if not source or self._kind(source) != stat.S_IFREG:
            raise ImageError("a second name of what is no file in it: %r" % "/".join(source))
        if source == parts:
            return
        self._room(parts)
        at = os.dup(self.folder(source[:-1]))
        try:
            os.link(
                source[-1],
                parts[-1],
                src_dir_fd=at,
                dst_dir_fd=self.folder(parts[:-1]),
                follow_symlinks=False,
            )
        finally:
            os.close(at)

    def _kind(self, parts):
        try:
            return stat.S_IFMT(os.lstat(parts[-1], dir_fd=self.folder(parts[:-1])).st_mode)
        except FileNotFoundError:
            return None

    def _room(self, parts):
        """Of two members of one name the later counts."""
        kind = self._kind(parts)
        if kind == stat.S_IFDIR:
            raise ImageError("a folder and something else of one name: %r" % "/".join(parts))
        if kind is not None:
            os.unlink(parts[-1], dir_fd=self.folder(parts[:-1]))


def parts_of(name):
    """The names in a path in the archive."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts or name.startswith("/") or "\0" in name:
        raise ImageError("a name that leads out of it: %r" % name[:200])
    return parts


def aim(parts, target):
    """Where a link in the archive leads, in words that stay within the root: what begins at the root begins at the link."""
    steps = [step for step in target.split("/") if step not in ("", ".")]
    above = len(parts) - 1
    up = 0
    while up < len(steps) and steps[up] == "..":
        up += 1
    if target.startswith("/"):  # there, nothing is above the root
        steps = [".."] * above + steps[up:]
        up = above
    # Back up after a way down could go through another link, to elsewhere: only leading dots may.
    if up > above or ".." in steps[up:] or "\0" in target:
        raise ImageError("a link that leads out of it: %r to %r" % ("/".join(parts), target[:200]))
    return "/".join(steps) or "."

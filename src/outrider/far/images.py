"""Sandbox images: archives of a root folder, unpacked where the jails are. No link in an archive is ever followed."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import tarfile

CACHE = "~/.cache/outrider/images"
MOST_FILES = 2000000
MARK = ".complete"


class ImageError(Exception):
    """An archive that cannot be an image; nothing of it is kept."""


def home():
    """The folder of the images of this user, made if it is not there; private."""
    folder = os.path.expanduser(os.environ.get("OUTRIDER_IMAGES") or CACHE)
    os.makedirs(folder, 0o700, exist_ok=True)
    about = os.lstat(folder)
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid():
        raise ImageError("%s must be a folder of your own" % folder)
    return folder


@contextlib.contextmanager
def locked(digest):
    """While one process makes an image, others that want it wait; a lock ends with who holds it."""
    fd = os.open(os.path.join(home(), digest + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def root_of(digest):
    return os.path.join(home(), digest, "root")


def have(digest):
    """Path of the image's root folder here; "" if it is not here, or only a part of it."""
    return root_of(digest) if os.path.exists(os.path.join(home(), digest, MARK)) else ""


def landing(digest):
    """Where its archive is to be put; one of several that send it at once."""
    return os.path.join(home(), "%s.%s.tar" % (digest, os.urandom(6).hex()))


def install(order):
    """Unpack `archive`, whose contents must have the SHA-256 `digest`; the root folder's path. The archive is removed."""
    digest, archive = order["digest"], order["archive"]
    try:
        with locked(digest):
            found = have(digest)
            if found:
                return found
            if digest_of(archive) != digest:
                raise ImageError("what arrived is not what was sent")
            whole = os.path.join(home(), digest)
            remove(whole)
            os.makedirs(root_of(digest), 0o755)
            try:
                unpack(archive, root_of(digest))
                os.close(os.open(os.path.join(whole, MARK), os.O_CREAT | os.O_WRONLY, 0o600))
            except BaseException:
                remove(whole)
                raise
            return root_of(digest)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(archive)


def remove(folder):
    def again(function, path, _):
        os.chmod(os.path.dirname(path), 0o700)
        function(path)

    if os.path.isdir(folder):
        shutil.rmtree(folder, onerror=again)


def digest_of(path):
    total = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            total.update(piece)
    return total.hexdigest()


def unpack(archive, root, most_files=MOST_FILES):
    """Folders and files first, links last: nothing is written through a link. Owners and special bits are dropped."""
    links = []
    with tarfile.open(archive) as tar:
        for number, member in enumerate(tar):
            if number >= most_files:
                raise ImageError("more than %d files" % most_files)
            target = _inside(root, member.name)
            if member.isdir():
                os.makedirs(target, 0o755, exist_ok=True)
            elif member.isreg():
                _file(tar.extractfile(member), target, member.mode)
            elif member.issym() or member.islnk():
                links.append((member.issym(), target, member.linkname))
            # What else there is, devices and pipes, a jail has of its own.
    for symbolic, target, name in sorted(
        links
    ):  # hard links first: none of them can lead through another kind
        _link(symbolic, target, name, root)


def _inside(root, name):
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or name.startswith("/"):
        raise ImageError("a name that leads out of it: %r" % name)
    return os.path.join(root, *parts) if parts else root


def _file(contents, target, mode):
    _room(target)
    fd = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        shutil.copyfileobj(contents, file, 1 << 20)
        os.fchmod(file.fileno(), (mode & 0o777) | 0o400)


def _link(symbolic, target, name, root):
    _room(target)
    if symbolic:
        os.symlink(name, target)
    else:
        os.link(_inside(root, name), target, follow_symlinks=False)


def _room(target):
    """The folder of `target` is there, and at `target` nothing: of two of one name the later counts."""
    folder = os.path.dirname(target)
    os.makedirs(folder, 0o755, exist_ok=True)
    if os.path.lexists(target):
        if os.path.isdir(target) and not os.path.islink(target):
            raise ImageError("two things of one name: %r" % target)
        os.unlink(target)

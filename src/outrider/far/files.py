"""Files and folders, for both ends: what is there, what of it must travel, and taking it in without trusting it.

A transfer: the sending end scans its tree into a manifest; the receiving end answers with the indexes of the files that
differ; their contents follow as one stream, in that order, cut by the manifest's sizes. Each file is written under a
temporary name and renamed, so that a reader never sees half of one; an interrupted transfer goes on where it stopped,
because what has arrived is skipped the next time.

The receiving end creates everything relative to an open folder and follows no link on the way (`dir_fd`, O_NOFOLLOW):
the other end cannot make it write elsewhere.
"""

import os
import stat
import threading
from collections import deque

from . import data, wire

PARTIAL = ".outrider-partial-"
FILE, FOLDER, LINK = "file", "folder", "link"
O_SAFE = os.O_NOFOLLOW | os.O_CLOEXEC
MAX_ENTRIES = 5000000


class TransferError(Exception):
    """Something about a path: said in plain words, with the path."""


def scan(root):
    """The manifest of a file or folder: [[path parts below root, kind, mode, mtime in ns, size, link target], ...].

    The first entry is the root itself (no parts). A root that is a link is followed; links below it travel as links.
    """
    root = os.path.expanduser(root)
    try:
        status = os.stat(root)
    except OSError as error:
        raise TransferError("%s: %s" % (root, error.strerror)) from None
    entries = [_entry([], root, status)]
    if stat.S_ISDIR(status.st_mode):
        _scan_folder(root, [], entries)
    return entries


def _scan_folder(folder, parts, entries):
    try:
        with os.scandir(folder) as found:
            items = sorted(found, key=lambda item: item.name)
    except OSError as error:
        raise TransferError("%s: %s" % (folder, error.strerror)) from None
    for item in items:
        if item.name.startswith(PARTIAL):
            continue
        status = item.stat(follow_symlinks=False)
        below = [*parts, item.name]
        entry = _entry(below, item.path, status)
        if entry is None:
            raise TransferError("%s is neither file, folder nor link; such things do not travel" % item.path)
        entries.append(entry)
        if entry[1] == FOLDER:
            _scan_folder(item.path, below, entries)


def _entry(parts, path, status):
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISREG(status.st_mode):
        return [parts, FILE, mode, status.st_mtime_ns, status.st_size, None]
    if stat.S_ISDIR(status.st_mode):
        return [parts, FOLDER, mode, status.st_mtime_ns, 0, None]
    if stat.S_ISLNK(status.st_mode):
        return [parts, LINK, 0o777, status.st_mtime_ns, 0, os.readlink(path)]
    return None


def checked(entries):
    """A manifest from the other end, or TransferError: names that could lead elsewhere are refused."""
    if not isinstance(entries, list) or not entries or len(entries) > MAX_ENTRIES:
        raise TransferError("a manifest that is none")
    folders = set()
    for number, entry in enumerate(entries):
        if not isinstance(entry, list) or len(entry) != 6:
            raise TransferError("a manifest that is none")
        parts, kind, mode, mtime, size, target = entry
        named = isinstance(parts, list) and all(
            isinstance(p, str) and p not in ("", ".", "..") and "/" not in p and "\0" not in p for p in parts
        )
        measured = all(isinstance(value, int) for value in (mode, mtime, size)) and size >= 0
        good = (
            named
            and measured
            and 0 <= mode <= 0o7777
            and abs(mtime) < 1 << 63
            and kind in (FILE, FOLDER, LINK)
        )
        good = good and (kind != LINK or (isinstance(target, str) and "\0" not in target and target != ""))
        good = good and (number == 0) == (not parts) and (number == 0 or tuple(parts[:-1]) in folders)
        if not good:
            raise TransferError("a manifest with a forbidden entry: %.200r" % (entry,))
        if kind == FOLDER:
            folders.add(tuple(parts))
    return entries


class Receiver:
    """Takes a manifest and contents in at `root`."""

    def __init__(self, root, entries):
        self.root = os.path.abspath(os.path.expanduser(root))
        self.entries = checked(entries)
        if os.path.isdir(self.root) and entries[0][1] == FILE:
            raise TransferError("%s is a folder; name the file to write" % self.root)
        self.base = self.root if entries[0][1] == FOLDER else os.path.dirname(self.root)
        self.needed = []
        self._next = 0
        self._base_fd: int | None = None
        self._file: int | None = None
        self._left = 0

    def prepare(self):
        """Make the folders; return the indexes of the files whose contents must come."""
        try:
            os.makedirs(self.base, exist_ok=True)
            self._base_fd = os.open(self.base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise TransferError("%s: %s" % (self.base, error.strerror)) from None
        for number, entry in enumerate(self.entries):
            parts, kind = entry[0], entry[1]
            if kind == FOLDER and parts:
                self._make_folder(entry)
            elif kind == FILE and not self._unchanged(entry):
                self.needed.append(number)
        self._skip_empty()
        return self.needed

    def _base(self):
        assert self._base_fd is not None, "prepare() comes first"
        return self._base_fd

    def _name(self, entry):
        return entry[0][-1] if entry[0] else os.path.basename(self.root)

    def _parent(self, entry):
        """A descriptor of the folder that holds the entry; to be closed. No link is followed below the root."""
        fd = os.dup(self._base())
        for part in entry[0][:-1]:
            try:
                below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | O_SAFE, dir_fd=fd)
            except OSError as error:
                raise TransferError("%s in %s: %s" % (part, self.base, error.strerror)) from None
            finally:
                os.close(fd)
            fd = below
        return fd

    def _make_folder(self, entry):
        fd = self._parent(entry)
        try:
            name = self._name(entry)
            try:
                os.mkdir(name, 0o700 | entry[2], dir_fd=fd)
            except FileExistsError:
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode):
                    os.unlink(name, dir_fd=fd)
                    os.mkdir(name, 0o700 | entry[2], dir_fd=fd)
                elif status.st_mode & 0o700 != 0o700:
                    os.chmod(name, stat.S_IMODE(status.st_mode) | 0o700, dir_fd=fd)
        except OSError as error:
            raise TransferError("%s: %s" % ("/".join(entry[0]), error.strerror)) from None
        finally:
            os.close(fd)

    def _unchanged(self, entry):
        """Same kind, size and modification time: as rsync judges. The mode is mended on the spot."""
        try:
            fd = self._parent(entry)
        except TransferError:
            return False
        try:
            status = os.stat(self._name(entry), dir_fd=fd, follow_symlinks=False)
            if (
                not stat.S_ISREG(status.st_mode)
                or status.st_size != entry[4]
                or status.st_mtime_ns != entry[3]
            ):
                return False
            if stat.S_IMODE(status.st_mode) != entry[2]:
                os.chmod(self._name(entry), entry[2], dir_fd=fd)
            return True
        except OSError:
            return False
        finally:
            os.close(fd)

    def total(self):
        return sum(self.entries[number][4] for number in self.needed)

    def _skip_empty(self):
        while self._file is None and self._next < len(self.needed):
            self._open_file(self.entries[self.needed[self._next]])
            if self._left:
                return
            self._close_file()

    def _open_file(self, entry):
        self._entry_now = entry
        self._folder_fd = self._parent(entry)
        self._partial = PARTIAL + "%x-%x" % (os.getpid(), threading.get_ident() & 0xFFFFFF)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | O_SAFE
        try:
            self._file = os.open(self._partial, flags, 0o600, dir_fd=self._folder_fd)
        except OSError as error:
            os.close(self._folder_fd)
            raise TransferError("%s: %s" % (self._shown(entry), error.strerror)) from None
        self._left = entry[4]

    def _shown(self, entry):
        return os.path.join(self.root, *entry[0])

    def write(self, piece):
        """Take the next piece of the stream of contents."""
        view = memoryview(piece)
        while len(view):
            if self._file is None:
                raise TransferError("more content than was announced")
            part = view[: self._left]
            try:
                done = os.write(self._file, part)
            except OSError as error:
                raise TransferError("%s: %s" % (self._shown(self._entry_now), error.strerror)) from None
            self._left -= done
            view = view[done:]
            if not self._left:
                self._close_file()
                self._skip_empty()

    def _close_file(self):
        entry, fd, file = self._entry_now, self._folder_fd, self._file
        assert file is not None
        try:
            os.fchmod(file, entry[2])
            os.utime(file, ns=(entry[3], entry[3]))
            os.close(file)
            self._file = None
            os.rename(self._partial, self._name(entry), src_dir_fd=fd, dst_dir_fd=fd)
        except OSError as error:
            raise TransferError("%s: %s" % (self._shown(entry), error.strerror)) from None
        finally:
            os.close(fd)
        self._next += 1

    def finish(self):
        """Links, and the modes and times of folders, which writing into them changed."""
        if self._file is not None or self._next < len(self.needed):
            raise TransferError("the content ended before it was complete")
        for entry in self.entries:
            if entry[1] == LINK:
                self._make_link(entry)
        for entry in sorted(self.entries, key=lambda e: -len(e[0])):
            if entry[1] == FOLDER:
                self._settle_folder(entry)
        self.abandon()

    def _make_link(self, entry):
        fd = self._parent(entry)
        name = self._name(entry)
        try:
            try:
                if os.readlink(name, dir_fd=fd) == entry[5]:
                    return
            except OSError:
                pass
            partial = PARTIAL + "link"
            try:
                os.unlink(partial, dir_fd=fd)
            except OSError:
                pass
            os.symlink(entry[5], partial, dir_fd=fd)
            os.utime(partial, ns=(entry[3], entry[3]), dir_fd=fd, follow_symlinks=False)
            os.rename(partial, name, src_dir_fd=fd, dst_dir_fd=fd)
        except OSError as error:
            raise TransferError("%s: %s" % (self._shown(entry), error.strerror)) from None
        finally:
            os.close(fd)

    def _settle_folder(self, entry):
        flags = os.O_RDONLY | os.O_DIRECTORY | O_SAFE
        try:
            if entry[0]:
                parent = self._parent(entry)
                try:
                    fd = os.open(self._name(entry), flags, dir_fd=parent)
                finally:
                    os.close(parent)
            else:
                fd = os.dup(self._base())
            try:
                os.fchmod(fd, entry[2])
                os.utime(fd, ns=(entry[3], entry[3]))
            finally:
                os.close(fd)
        except OSError as error:
            raise TransferError("%s: %s" % (self._shown(entry), error.strerror)) from None

    def abandon(self):
        """Let go of everything; a half-written file goes, what is complete stays for the next try."""
        if self._base_fd is not None:
            os.close(self._base_fd)
            self._base_fd = None
        if self._file is not None:
            for step in (
                lambda: os.close(self._file),
                lambda: os.unlink(self._partial, dir_fd=self._folder_fd),
                lambda: os.close(self._folder_fd),
            ):
                try:
                    step()
                except OSError:
                    pass
            self._file = None


def pieces(root, entries, needed):
    """Yield the contents of the needed files, exactly as long as the manifest says, in pieces of at most CHUNK."""
    root = os.path.expanduser(root)
    for number in needed:
        entry = entries[number]
        path = os.path.join(root, *entry[0])
        left = entry[4]
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (os.O_NOFOLLOW if entry[0] else 0))
        except OSError as error:
            raise TransferError("%s: %s" % (path, error.strerror)) from None
        try:
            while left:
                piece = os.read(fd, min(wire.CHUNK, left))
                if not piece:
                    raise TransferError("%s became shorter while it was sent" % path)
                left -= len(piece)
                yield piece
        finally:
            os.close(fd)


def packed(stream):
    """Small pieces joined to larger ones: ten thousand small files are no ten thousand frames."""
    kept, size = [], 0
    for piece in stream:
        kept.append(piece)
        size += len(piece)
        if size >= wire.CHUNK:
            joined = kept[0] if len(kept) == 1 else b"".join(kept)
            for start in range(0, len(joined), wire.CHUNK):
                yield joined[start : start + wire.CHUNK]
            kept, size = [], 0
    if kept:
        yield b"".join(kept)


class FarTransfer:
    """One transfer at the far end, in a thread of its own."""

    def __init__(self, owner, ident, order):
        self.owner = owner
        self.link = owner.link
        self.ident = ident
        self.order = order
        self.credit = wire.WINDOW
        self.changed = threading.Condition()
        self.arrived = deque()
        self.cancelled = False
        threading.Thread(target=self._run, name="outrider-files", daemon=True).start()

    def _run(self):
        try:
            answer = self._receive() if self.order["op"] == "put" else self._send()
            self.link.send(wire.RESULT, self.ident, [data.dumps(answer)])
        except Exception as error:
            about = {"message": str(error), "kind": type(error).__name__}
            self.link.send(wire.RAISED, self.ident, [data.dumps(about)])
        finally:
            self.owner.running.pop(self.ident, None)

    def _next_arrived(self):
        with self.changed:
            while not self.arrived and not self.cancelled:
                self.changed.wait()
            if self.cancelled:
                raise TransferError("cancelled")
            return self.arrived.popleft()

    def _receive(self):
        """put: a manifest comes as content first, then, after our answer, the files."""
        receiver = Receiver(self.order["path"], data.loads(self._gather()))
        try:
            needed = receiver.prepare()
            self._say({"needed": needed, "total": receiver.total()})
            while True:
                piece, ends = self._next_arrived()
                if piece:
                    receiver.write(piece)
                    self.link.send_frame(wire.CREDIT, self.ident, b"%d" % len(piece))
                if ends:
                    break
            receiver.finish()
        except BaseException:
            receiver.abandon()
            raise
        return {"files": len(needed)}

    def _send(self):
        """get: our manifest goes first; the near end answers with what it needs."""
        entries = scan(self.order["path"])
        self._content(data.dumps(entries))
        needed = data.loads(self._gather())
        for piece in packed(pieces(self.order["path"], entries, needed)):
            self._content(piece, ends=False)
        self.link.send_frame(wire.DATA, self.ident, b"", wire.CONTENT | wire.END)
        return {"files": len(needed)}

    def _gather(self):
        """One value from the near end: its pieces up to the one that ends it."""
        body = []
        while True:
            piece, ends = self._next_arrived()
            body.append(piece)
            if piece:
                self.link.send_frame(wire.CREDIT, self.ident, b"%d" % len(piece))
            if ends:
                return b"".join(body)

    def _say(self, value):
        self._content(data.dumps(value))

    def _content(self, body, ends=True):
        for start in range(0, len(body) or 1, wire.CHUNK):
            piece = body[start : start + wire.CHUNK]
            with self.changed:
                while self.credit <= 0 and not self.cancelled:
                    self.changed.wait()
                if self.cancelled:
                    raise TransferError("cancelled")
                self.credit -= len(piece)
            last = ends and start + wire.CHUNK >= len(body)
            self.link.send_frame(wire.DATA, self.ident, piece, wire.CONTENT | (wire.END if last else 0))


class FarFiles:
    """All transfers under way at the far end."""

    def __init__(self, link):
        self.link = link
        self.running = {}

    def start(self, ident, order):
        self.running[ident] = None
        self.running[ident] = FarTransfer(self, ident, order)

    def knows(self, ident):
        return ident in self.running

    def grant(self, ident, size):
        transfer = self.running.get(ident)
        if transfer is not None:
            with transfer.changed:
                transfer.credit += size
                transfer.changed.notify_all()

    def input(self, ident, piece, ends):
        transfer = self.running.get(ident)
        if transfer is not None:
            with transfer.changed:
                transfer.arrived.append((piece, ends))
                transfer.changed.notify_all()

    def cancel(self, ident):
        transfer = self.running.get(ident)
        if transfer is not None:
            with transfer.changed:
                transfer.cancelled = True
                transfer.changed.notify_all()

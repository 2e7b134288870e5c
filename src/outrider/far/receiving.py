"""The receiving end of a transfer: takes a tree in without trusting who sends it.

Each file is written under a temporary name and renamed, so that a reader never sees half of one. A folder that is new
is filled under a temporary name itself, and its files need none: the same promise for fewer steps. An interrupted
transfer goes on where it stopped, because what has arrived is skipped the next time.
"""

import errno
import os
import stat
from collections import deque

from .trees import (
    AHEAD,
    ALL,
    BATCH,
    CONTENT,
    END,
    ITEM,
    MAX_RECORD,
    NONE,
    O_FOLDER,
    PARTIAL,
    RECORD,
    SOME,
    TransferError,
    failure,
    open_folder,
    unpacked,
    walk,
)

MYPY = False
if MYPY:
    from typing import Any

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Receiver:
    """Takes the stream that a Sender makes, and writes the file or folder `root`. `guard(record)` may refuse or change each.

    `write` takes the next bytes and returns what to answer; `ended` is set by the stream's end. `count`, `done`,
    `total`: files that travel, bytes of them written, and bytes of them in all, as far as known.
    """

    def __init__(self, root, guard=None):
        self.guard = guard
        self.root = os.path.abspath(os.path.expanduser(root))
        self.count = self.done = self.total = 0
        self.ended = False
        self.base = -1
        self._buffer = bytearray()
        self._said = []
        self._pending = deque()
        self._ahead = 0
        self._path: Any = None
        self._missing: Any = None
        self._writer = Writer(self)
        self._content = 0

    def write(self, piece):
        """Take the next bytes of the stream; returns the answers that they asked for."""
        view = memoryview(piece)
        while len(view):
            if self._content:
                part = view[: self._content]
                self._writer.write(part)
                self._content -= len(part)
                self.done += len(part)
                view = view[len(part) :]
                if not self._content:
                    self._settle_first()
                    self._go_on()
            else:
                view = self._item(view)
        said, self._said = b"".join(self._said), []
        return said

    def finish(self):
        """The stream is at its end: folders get their modes and times, which writing into them changed."""
        if not self.ended:
            raise TransferError("the content ended before it was complete")
        self._writer.finish()
        self.abandon()

    def abandon(self):
        """Let go of everything; a half-written file goes, what is complete stays for the next try."""
        self._writer.abandon()
        self._pending.clear()
        if self.base >= 0:
            os.close(self.base)
            self.base = -1

    def _item(self, view):
        """Take an item's head, and a record's body; returns what is left over."""
        if self.ended:
            raise TransferError("more content than was announced")
        buffer = self._buffer
        need = max(0, ITEM.size - len(buffer))
        buffer += view[:need]
        view = view[need:]
        if len(buffer) < ITEM.size:
            return view
        kind, size = ITEM.unpack_from(buffer)
        if kind == RECORD and size <= MAX_RECORD:
            need = ITEM.size + size - len(buffer)
            buffer += view[:need]
            if len(buffer) == ITEM.size + size:
                body = bytes(buffer[ITEM.size :])
                buffer.clear()
                self._listed(unpacked(body))
            return view[need:]
        buffer.clear()
        if kind == CONTENT and self._pending and size == self._pending[0].size:
            self._content = size  # not 0: that would have been settled already
            self._writer.begin(self._pending[0])
        elif kind == END and not self._pending and self._path is not None:
            self.ended = True
        else:
            raise TransferError("content that was not asked for")
        return view

    # --- what is here already -------------------------------------------------------------------------------------

    def _listed(self, record):
        """Look what of a record must come, and say so."""
        parts, path = record.parts, self._path
        if self.guard is not None:
            self.guard(record)
        if path is None:
            self._start(record)
        # A folder follows its parent, or a folder below it: so one path is all that has to be remembered.
        elif record.mode is None or (parts != path and (not parts or parts[:-1] != path[: len(parts) - 1])):
            raise TransferError("a listing out of order")
        self._path = parts
        self._ahead += record.entries()
        if self._ahead > AHEAD + 2 * BATCH:
            raise TransferError("more is listed ahead than may be")
        names = record.names
        record.missing = record.links
        record.new = self._missing is not None and parts[: len(self._missing)] == self._missing
        record.choose(range(len(names)) if record.new else self._compared(record))
        chosen = record.chosen
        if len(chosen) == len(names):
            self._said.append(ALL)
        elif not chosen:
            self._said.append(NONE)
        else:
            bits = bytearray((len(names) + 7) // 8)
            for number in chosen:
                bits[number >> 3] |= 1 << (number & 7)
            self._said.append(SOME + bits)
        self.count += len(chosen)
        self.total += record.size
        self._pending.append(record)
        self._go_on()

    def _start(self, record):
        """The first record, the root's: find or make the folder that all else is below."""
        if record.parts:
            raise TransferError("a listing without its root")
        folder = os.path.isdir(self.root)
        if record.mode is None:
            if folder:
                raise TransferError("%s is a folder; name the file to write" % self.root)
            if len(record.names) != 1 or record.links:
                raise TransferError("a listing of one file that is none")
            record.names = [os.path.basename(self.root)]
        try:
            if folder:
                self.base = os.open(self.root, O_FOLDER & ~os.O_NOFOLLOW)
                return
            above = os.path.dirname(self.root)
            os.makedirs(above, exist_ok=True)
            if record.mode is None:
                self.base = os.open(above, O_FOLDER & ~os.O_NOFOLLOW)
            elif os.path.lexists(self.root):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            else:
                self._missing = ()
        except OSError as error:
            raise failure(self.root, error) from None

    def _compared(self, record):
        """The files that differ, by index. Same kind, size and time: as rsync judges. The mode is mended on the spot."""
        try:
            fd = walk(self.base, record.parts, open_here)
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise failure(self.shown(record), error) from None
            record.new = True
            self._missing = record.parts
            return range(len(record.names))
        self._missing = None
        differ = []
        look = os.stat
        number = 0
        try:
            for name, size, mtime, mode in zip(record.names, record.sizes, record.times, record.modes):
                try:
                    status = look(name, dir_fd=fd, follow_symlinks=False)
                    if (
                        status.st_mtime_ns != mtime
                        or status.st_size != size
                        or not stat.S_ISREG(status.st_mode)
                    ):
                        differ.append(number)
                    elif status.st_mode & 0o7777 != mode:
                        mend(name, fd, mode)
                except FileNotFoundError:
                    differ.append(number)
                number += 1
            record.missing = [link for link in record.links if not _is_link(link, fd)]
        except OSError as error:
            raise failure(self.shown(record, record.names[number]), error) from None
        finally:
            os.close(fd)
        return differ

    def shown(self, record, name=None):
        """The path of a record's folder, or of a name in it."""
        if record.mode is None:
            return self.root
        return os.path.join(self.root, *record.parts, *([name] if name is not None else ()))

    # --- what has come --------------------------------------------------------------------------------------------

    def _go_on(self):
        """Settle the next records for as long as they wait for no content."""
        while self._pending and not self._pending[0].size:
            self._writer.begin(self._pending[0])
            self._settle_first()

    def _settle_first(self):
        record = self._pending.popleft()
        self._ahead -= record.entries()
        self._writer.end()


class Writer:
    """Writes what has come, folder after folder, below the receiver's `base`."""

    def __init__(self, receiver):
        self.receiver = receiver
        self.mark = PARTIAL + os.urandom(6).hex()
        self._entered = []  # the folders on the way, (parts, mode, time): settled when all below them is done
        self._record: Any = None
        self._folder: Any = None
        self._todo: Any = iter(())
        self._file = -1
        self._partial: Any = None  # the name of what is not complete
        self._number = self._left = 0

    def begin(self, record):
        """The files of this record come next."""
        if record.mode is not None and (not self._entered or self._entered[-1][0] != record.parts):
            self._leave(record.parts)
            self._entered.append((record.parts, record.mode, record.time))
        self._record = record
        self._todo = iter(record.chosen)
        if self._folder is None and (record.new or record.chosen or record.missing):
            try:
                self._folder = self._opened(record)
            except OSError as error:
                raise failure(self.receiver.shown(record), error) from None
        self._next_file()

    def _opened(self, record):
        base, parts = self.receiver.base, record.parts
        if not record.new:
            fd = walk(base, parts, open_here)
            if record.mode is not None:
                loosen(fd)
            return Folder(fd)
        if parts:
            above = walk(base, parts[:-1], open_here)
            loosen(above)
            return NewFolder(above, parts[-1], self.mark)
        root = self.receiver.root
        return NewFolder(
            os.open(os.path.dirname(root), O_FOLDER & ~os.O_NOFOLLOW), os.path.basename(root), self.mark
        )

    def _leave(self, parts):
        """Put a new folder in its place, and settle those that `parts` is not below."""
        folder = self._folder
        if folder is not None:
            self._folder = None
            try:
                folder.settle()
                if self.receiver.base < 0:
                    self.receiver.base = os.dup(folder.fd)
            except OSError as error:
                raise failure(self.receiver.shown(self._record), error) from None
            finally:
                folder.close()
        while self._entered and (parts is None or parts[: len(self._entered[-1][0])] != self._entered[-1][0]):
            self._restore(*self._entered.pop())

    def _restore(self, parts, mode, mtime):
        """The mode and time that a folder had at the other end."""
        try:
            fd = walk(self.receiver.base, parts, open_here)
            try:
                status = os.fstat(fd)
                if stat.S_IMODE(status.st_mode) != mode:
                    os.fchmod(fd, mode)
                if status.st_mtime_ns != mtime:
                    os.utime(fd, ns=(mtime, mtime))
            finally:
                os.close(fd)
        except OSError as error:
            raise failure(os.path.join(self.receiver.root, *parts), error) from None

    def write(self, view):
        """Take contents of the files of this record, no more than there are."""
        try:
            while len(view):
                part = view[: self._left]
                done = os.write(self._file, part)
                self._left -= done
                if not self._left:
                    self._close_file()
                    self._next_file()
                view = view[done:]
        except OSError as error:
            raise failure(self._shown(), error) from None

    def _shown(self):
        return self.receiver.shown(self._record, self._record.names[self._number])

    def _next_file(self):
        """Open the next file that has contents; those without are done at once."""
        record, folder = self._record, self._folder
        try:
            for number in self._todo:
                self._number = number
                self._partial = self.mark if folder.staged is None else record.names[number]
                self._file = os.open(self._partial, _WRITE, 0o600, dir_fd=folder.fd)
                self._left = record.sizes[number]
                if self._left:
                    return
                self._close_file()
        except OSError as error:
            raise failure(self._shown(), error) from None

    def _close_file(self):
        record, number, fd = self._record, self._number, self._file
        os.fchmod(fd, record.modes[number])
        mtime = record.times[number]
        os.utime(fd, ns=(mtime, mtime))
        self._file = -1
        os.close(fd)
        if self._folder.staged is None:
            here = self._folder.fd
            os.rename(self._partial, record.names[number], src_dir_fd=here, dst_dir_fd=here)
        self._partial = None

    def end(self):
        """The files of this record are complete: its links."""
        for name, target, mtime in self._record.missing:
            fd = self._folder.fd
            partial = self.mark if self._folder.staged is None else name
            try:
                os.symlink(target, partial, dir_fd=fd)
                os.utime(partial, ns=(mtime, mtime), dir_fd=fd, follow_symlinks=False)
                if partial != name:
                    os.rename(partial, name, src_dir_fd=fd, dst_dir_fd=fd)
            except OSError as error:
                _try(os.unlink, partial, dir_fd=fd)
                raise failure(self.receiver.shown(self._record, name), error) from None

    def finish(self):
        """All is there."""
        self._leave(None)

    def abandon(self):
        """A half-written file goes; a new folder keeps what is complete in it, and goes if that is nothing."""
        folder, self._folder = self._folder, None
        if folder is None:
            return
        if self._file >= 0:
            _try(os.close, self._file)
            self._file = -1
        if self._partial is not None:
            _try(os.unlink, self._partial, dir_fd=folder.fd)
        if folder.staged is not None:
            try:
                os.rmdir(folder.staged, dir_fd=folder.above)
            except OSError:
                _try(folder.settle)
        folder.close()


class Folder:
    """A folder that was there: its files are written under another name, and renamed."""

    staged: "Any" = None

    def __init__(self, fd):
        self.fd = fd

    def settle(self):
        """Nothing: it is in its place."""

    def close(self):
        os.close(self.fd)


class NewFolder(Folder):
    """A folder that is filled under the name `staged`, which nobody else uses, in the open folder `above`."""

    def __init__(self, above, name, staged):
        self.above, self.name, self.staged = above, name, staged
        try:
            os.mkdir(staged, 0o700, dir_fd=above)
            try:
                super().__init__(open_folder(staged, above))
            except OSError:
                os.rmdir(staged, dir_fd=above)
                raise
        except OSError:
            os.close(above)
            raise

    def settle(self):
        """Give it its name. Where another process was quicker, what is in it moves into the folder that is there."""
        if self.staged is None:
            return
        try:
            os.rename(self.staged, self.name, src_dir_fd=self.above, dst_dir_fd=self.above)
        except NotADirectoryError:
            os.unlink(self.name, dir_fd=self.above)
            os.rename(self.staged, self.name, src_dir_fd=self.above, dst_dir_fd=self.above)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            self._merge()
        self.staged = None

    def _merge(self):
        there = open_here(self.name, self.above)
        loosen(there)
        for name in os.listdir(self.fd):
            os.rename(name, name, src_dir_fd=self.fd, dst_dir_fd=there)
        os.rmdir(self.staged, dir_fd=self.above)
        os.close(self.fd)
        self.fd = there

    def close(self):
        os.close(self.above)
        super().close()


def open_here(name, above):
    """As open_folder; a folder of ours that we may not read is made readable first."""
    try:
        fd = open_folder(name, above)
    except PermissionError:
        mend(name, above, None)
        return open_folder(name, above)
    mode = os.fstat(fd).st_mode
    if mode & 0o500 != 0o500:
        os.fchmod(fd, mode & 0o7777 | 0o700)
    return fd


def mend(name, above, mode):
    """Set the mode of a file, or (None) let its owner into a folder; should it be a link by now, it is not followed."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    try:
        found = os.fstat(fd).st_mode
        if stat.S_ISLNK(found):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        os.chmod("/proc/self/fd/%d" % fd, found & 0o7777 | 0o700 if mode is None else mode)
    finally:
        os.close(fd)


def loosen(fd):
    """Let the owner of an open folder write into it, until its mode is set in the end."""
    mode = os.fstat(fd).st_mode
    if mode & 0o700 != 0o700:
        os.fchmod(fd, mode & 0o7777 | 0o700)


def _is_link(link, fd):
    name, target, mtime = link
    try:
        if os.readlink(name, dir_fd=fd) != target:
            return False
        return os.stat(name, dir_fd=fd, follow_symlinks=False).st_mtime_ns == mtime
    except OSError:
        return False


def _try(step, *args, **options):
    try:
        step(*args, **options)
    except OSError:
        pass

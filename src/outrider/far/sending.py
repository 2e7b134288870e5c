"""The sending end of a transfer: lists a tree, and reads what the other end asks for."""

import os
import stat
from collections import deque

from .trees import (
    AHEAD,
    ALL,
    BATCH,
    CHUNK,
    CONTENT,
    END,
    FILE_BITS,
    ITEM,
    NONE,
    O_FOLDER,
    PARTIAL,
    RECORD,
    SOME,
    Record,
    TransferError,
    failure,
    packed,
    walk,
)

# Not to wait for a writer, should a named pipe have come in the place of a file.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
SMALL = 4 * CHUNK
"""Contents up to this size go out between two looks at the tree; what is larger waits until the sum is known."""


class Sender:
    """Makes the stream of the file or folder `root`. A root that is a link is followed; links below it travel as links.

    `pieces()` yields the stream, in views that hold until the next is asked for; None where it cannot go on without
    further answers, which `answer` takes.
    `count`, `done`, `total`: files that travel, bytes of them read, and bytes of them in all, as far as known.
    """

    def __init__(self, root):
        self.root = os.path.expanduser(root)
        self.count = self.done = self.total = 0
        self._unanswered = deque()
        self._answered = deque()
        self._answers = b""
        self._ahead = 0
        self._buffer = memoryview(bytearray(CHUNK))
        self._at = 0
        self._base = -1
        try:
            self._status = os.stat(self.root)
            if stat.S_ISDIR(self._status.st_mode):
                self._base = os.open(self.root, O_FOLDER & ~os.O_NOFOLLOW)
        except OSError as error:
            raise failure(self.root, error) from None

    def close(self):
        """Let go of the tree."""
        if self._base >= 0:
            os.close(self._base)
            self._base = -1

    def waits(self):
        """True while records are without their answer."""
        return bool(self._unanswered)

    def answer(self, piece):
        """Take the next bytes that the other end says."""
        said = self._answers + bytes(piece)
        at = 0
        while at < len(said):
            if not self._unanswered:
                raise TransferError("the other end asks for what was not offered")
            record = self._unanswered[0]
            count, word = len(record.names), said[at : at + 1]
            size = 1 + ((count + 7) // 8 if word == SOME else 0)
            if word not in (ALL, NONE, SOME):
                raise TransferError("the other end's answer is none")
            if at + size > len(said):
                break
            bits = said[at + 1 : at + size]
            at += size
            record.choose(
                [number for number in range(count) if word == ALL or bits[number >> 3] >> (number & 7) & 1]
                if word != NONE
                else []
            )
            self.count += len(record.chosen)
            self.total += record.size
            self._answered.append(self._unanswered.popleft())
        self._answers = said[at:]

    def pieces(self):
        """The stream, in pieces of at most CHUNK bytes."""
        listed = 0
        for record in self._records():
            body = packed(record)
            yield from self._add(ITEM.pack(RECORD, len(body)) + body)
            self._unanswered.append(record)
            self._ahead += record.entries()
            listed += record.entries()
            if listed >= BATCH:  # the other end compares while we go on looking
                listed = 0
                yield from self._flush()
            while self._answered and self._answered[0].size <= SMALL:
                yield from self._content(self._answered.popleft())
            while self._ahead > AHEAD:
                yield from self._go_on()
        while self._answered or self._unanswered:
            yield from self._go_on()
        yield from self._add(ITEM.pack(END, 0))
        yield from self._flush()

    def _go_on(self):
        if self._answered:
            yield from self._content(self._answered.popleft())
        else:
            yield from self._flush()
            if not self._answered:
                yield None

    def _add(self, piece):
        view = memoryview(piece)
        while len(view):
            at, part = self._at, view[: CHUNK - self._at]
            self._buffer[at : at + len(part)] = part
            self._at += len(part)
            view = view[len(part) :]
            if self._at == CHUNK:
                yield from self._flush()

    def _flush(self):
        at, self._at = self._at, 0
        if at:
            yield self._buffer[:at]

    # --- what is there --------------------------------------------------------------------------------------------

    def _records(self):
        if self._base < 0:
            yield self._one_file()
            return
        todo = [[]]
        while todo:
            parts = todo.pop()
            try:
                fd = walk(self._base, parts)
            except FileNotFoundError:  # gone since its parent was listed
                continue
            except OSError as error:
                raise failure(self._shown(parts), error) from None
            folders = []
            try:
                status, names = os.fstat(fd), sorted(os.listdir(fd))
                for start in range(0, len(names) or 1, BATCH):  # once for an empty folder: it travels too
                    yield self._record(parts, status, names[start : start + BATCH], fd, folders)
            except OSError as error:
                raise failure(self._shown(parts), error) from None
            finally:
                os.close(fd)
            todo.extend([[*parts, name] for name in reversed(folders)])

    def _one_file(self):
        status = self._status
        if not stat.S_ISREG(status.st_mode):
            raise TransferError(_odd(self.root))
        mode = status.st_mode & FILE_BITS
        return Record((), None, 0, ["file"], [status.st_size], [status.st_mtime_ns], [mode], [])

    def _record(self, parts, folder, listed, fd, folders):
        """What of these names in an open folder are files and links; those of folders are added to `folders`."""
        names, sizes, times, modes, links = [], [], [], [], []
        look = os.stat
        for name in listed:
            try:
                status = look(name, dir_fd=fd, follow_symlinks=False)
                kind = status.st_mode & 0o170000
                if name.startswith(PARTIAL):
                    continue
                if kind == 0o100000:
                    names.append(name)
                    sizes.append(status.st_size)
                    times.append(status.st_mtime_ns)
                    modes.append(status.st_mode & FILE_BITS)
                elif kind == 0o040000:
                    folders.append(name)
                elif kind == 0o120000:
                    links.append((name, os.readlink(name, dir_fd=fd), status.st_mtime_ns))
                else:
                    raise TransferError(_odd(self._shown([*parts, name])))
            except FileNotFoundError:  # gone since the folder was listed
                pass
        return Record(
            parts, stat.S_IMODE(folder.st_mode), folder.st_mtime_ns, names, sizes, times, modes, links
        )

    def _shown(self, parts):
        return os.path.join(self.root, *parts)

    # --- contents -------------------------------------------------------------------------------------------------

    def _content(self, record):
        """The contents of the chosen files of a record, exactly as long as it says."""
        self._ahead -= record.entries()
        if not record.size:
            return
        yield from self._add(ITEM.pack(CONTENT, record.size))
        folder = name = None
        buffer, sizes, names, read = self._buffer, record.sizes, record.names, os.readv
        try:
            if self._base >= 0:
                folder = walk(self._base, record.parts)
            for number in record.chosen:
                left, name = sizes[number], names[number]
                if not left:
                    continue
                fd = self._opened(name, folder)
                try:
                    while left:
                        at = self._at
                        size = read(fd, [buffer[at : at + left]])
                        if not size:
                            raise TransferError(
                                "%s became shorter while it was sent" % self._path(record, name)
                            )
                        left -= size
                        self.done += size
                        self._at = at + size
                        if self._at == CHUNK:
                            yield from self._flush()
                finally:
                    os.close(fd)
        except OSError as error:
            raise failure(self._path(record, name), error) from None
        finally:
            if folder is not None:
                os.close(folder)

    def _opened(self, name, folder):
        if folder is None:
            return os.open(self.root, _READ & ~os.O_NOFOLLOW)
        return os.open(name, _READ, dir_fd=folder)

    def _path(self, record, name):
        return self.root if self._base < 0 else self._shown([*record.parts, name] if name else record.parts)


def _odd(path):
    return "%s is neither file, folder nor link; such things do not travel" % path

"""Uploads on local disk: files that grow, and then get a second name under their key.

The name of an upload's file is its token. Whoever changes an upload holds the lock of its file, so
that two requests, threads or processes cannot spoil it. All of it blocks. May import the interfaces
and other modules of this room.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from attrs import frozen

from ..interfaces import OffsetMismatch, UploadMissing, UploadStat
from .directories import Directories
from .durable import ABSENT, copy_all, disk_errors, start_writeback, write_all
from .files import open_file
from .reserve import Reserve
from .staging import Staging, lock

TOKEN = re.compile(r"[0-9a-f]{40}")
NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})
"""Errors of a file system that gives a file one name only."""


@frozen
class LocalUploads:
    """The uploads in a directory."""

    directory: Path
    directories: Directories
    staging: Staging
    reserve: Reserve

    def begin(self) -> str:
        """Start an upload; see ``IStorageDriver``, as for the other methods."""
        self.reserve.claim(1)
        token = secrets.token_hex(20)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with disk_errors("starting an upload"):
            os.close(os.open(self.directory / token, flags, 0o666))
        return token

    def append(
        self,
        token: str,
        offset: int,
        data: bytes,
        show: Callable[[bytes], None] | None = None,
    ) -> int:
        """Add bytes at the end, and show them to somebody who looks at them in this thread."""
        with disk_errors("writing an upload"), self._exclusive(token) as (path, descriptor, status):
            if status.st_size != offset:
                raise OffsetMismatch(status.st_size)
            self.reserve.claim(len(data))
            if status.st_nlink > 1:
                # The file is an object as well, which must not change.
                with self.staging.file() as (copy, own):
                    copy_all(descriptor, own)
                    _extend(own, data, offset)
                    os.replace(copy, path)
            else:
                _extend(descriptor, data, offset)
                start_writeback(descriptor, offset, offset + len(data))
        if show is not None:
            show(data)
        return offset + len(data)

    def sync(self, token: str) -> None:
        """Make durable what an upload holds, while others may add to it.

        After an error the upload is gone, as the error would not be told again.
        """
        descriptor, _ = self.open(token)
        try:
            with disk_errors("syncing an upload"):
                self._sync(self._path(token), descriptor)
        finally:
            os.close(descriptor)

    def open(self, token: str) -> tuple[int, int]:
        """Open an upload for reading: the descriptor and the size."""
        return open_file(self._path(token), UploadMissing(token))

    def publish(self, token: str, path: Path, size: int | None) -> None:
        """Make the data durable, give it its name, make the name durable."""
        with disk_errors(f"publishing {path}"):
            try:
                with self._exclusive(token) as (staged, descriptor, status):
                    _check_size(status, size)
                    self._sync(staged, descriptor)
                    self.directories.place(path, lambda: self._name(staged, path), True)
            except UploadMissing:
                if not path.is_file():
                    raise
                # Published before a crash, and abandoned since.
                _check_size(os.stat(path), size)
                if self.directories.sync(path.parent):
                    self.directories.ensure(path.parent)

    def abandon(self, token: str) -> None:
        """Drop an upload."""
        with suppress(UploadMissing), disk_errors("dropping an upload", UploadMissing(token)):
            os.unlink(self._path(token))

    def known(self, after: str, limit: int) -> list[UploadStat]:
        """The uploads that there are."""
        with disk_errors("listing uploads"):
            names = sorted(filter(TOKEN.fullmatch, os.listdir(self.directory)))
            found = (self._stat(name) for name in names[bisect_right(names, after) :])
            return list(islice(filter(None, found), limit))

    def _stat(self, token: str) -> UploadStat | None:
        try:
            status = os.lstat(f"{self.directory}/{token}")
        except FileNotFoundError:
            return None
        return UploadStat(token, datetime.fromtimestamp(status.st_mtime, UTC))

    def _path(self, token: str) -> str:
        if TOKEN.fullmatch(token) is None:
            raise UploadMissing(token)
        return f"{self.directory}/{token}"

    @contextmanager
    def _exclusive(self, token: str) -> Iterator[tuple[str, int, os.stat_result]]:
        """The path of an upload, a descriptor that nobody else may write by, and its status."""
        path = self._path(token)
        descriptor = -1
        try:
            while True:
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                lock(descriptor)
                status = os.fstat(descriptor)
                if os.path.samestat(status, os.stat(path)):
                    break
                os.close(descriptor)
                descriptor = -1
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            if error.errno in ABSENT:
                raise UploadMissing(token) from None
            raise
        try:
            yield path, descriptor, status
        finally:
            os.close(descriptor)

    def _sync(self, staged: str, descriptor: int) -> None:
        """Make the data of an upload durable; after an error it is worth nothing."""
        try:
            os.fdatasync(descriptor)
        except OSError:
            with suppress(OSError):
                os.unlink(staged)
            raise

    def _name(self, staged: str, path: Path) -> None:
        """Give synced data its name, in place of an object that is there, which may be damaged.

        A link does not replace anything, so a second one is renamed. Readers keep what they have
        opened; at any moment the name stands for one whole object or the other.
        """
        try:
            os.link(staged, path, follow_symlinks=False)
            return
        except FileExistsError:
            if os.path.samestat(os.lstat(path), os.stat(staged)):
                return
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
        try:
            self.staging.replace(staged, path)
            return
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
        with self.staging.file() as (copy, own), open(staged, "rb") as source:
            copy_all(source.fileno(), own)
            os.fdatasync(own)
            os.replace(copy, path)


def _check_size(status: os.stat_result, size: int | None) -> None:
    if size is not None and status.st_size != size:
        raise OffsetMismatch(status.st_size)


def _extend(descriptor: int, data: bytes, offset: int) -> None:
    """Write at the end of a file; after an error it is as it was."""
    try:
        write_all(descriptor, data, offset)
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, offset)
        raise

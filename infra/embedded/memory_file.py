"""A buffer that is a file as well, so that a large body is never copied to be read as one."""

from __future__ import annotations

import mmap
import os
import sys

if sys.platform == "linux":

    class MemoryFile(mmap.mmap):
        """Zeros of a fixed size in memory, and the path under which the engine can read them.

        Parameters
        ----------
        size
            Bytes, at least one.
        """

        def __new__(cls, size: int) -> MemoryFile:
            """Make the file, then the buffer over it."""
            descriptor = os.memfd_create("body")
            try:
                os.ftruncate(descriptor, size)
                made = super().__new__(cls, descriptor, size)
            except BaseException:
                os.close(descriptor)
                raise
            made._descriptor = descriptor
            return made

        _descriptor: int

        @property
        def path(self) -> str:
            """Where this process can open it as long as it lives."""
            return f"/proc/self/fd/{self._descriptor}"

        def release(self) -> None:
            """Give the memory back now."""
            self.close()
            self.__del__()

        def __del__(self) -> None:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

else:

    class MemoryFile(bytearray):
        """Elsewhere a plain buffer, which has no path."""

        path = None

        def release(self) -> None:
            """Give the memory back now."""
            self.clear()

"""A buffer that is a file: what is written into one is read from the other; both end together."""

import gc
import os
import sys

import pytest

from infra.embedded.memory_file import MemoryFile

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory files are Linux's")


def test_what_is_written_can_be_read_as_a_file() -> None:
    buffer = MemoryFile(10_000)
    buffer[9_990:] = b"0123456789"
    with open(buffer.path, "rb") as file:
        assert file.read() == bytes(9_990) + b"0123456789"


def test_the_file_ends_with_its_buffer() -> None:
    buffer = MemoryFile(1)
    path = buffer.path
    del buffer
    gc.collect()
    assert not os.path.lexists(path)

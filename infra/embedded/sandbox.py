"""Landlock: the kernel keeps the engine's process to its own data and its libraries.

A second line of defence behind the check of statements. It holds for this process for ever and
cannot be taken off. The system calls have no wrapper in Python or glibc, so they are made here by
number; these numbers are the same on every architecture that Python runs on under Linux.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH, _NET_PORT = 1, 1, 2
_PR_SET_NO_NEW_PRIVS = 38

_WRITE_FILE, _READ_FILE, _READ_DIR, _BIND_TCP = 1 << 1, 1 << 2, 1 << 3, 1 << 0
_READ = _READ_FILE | _READ_DIR
# Reading, writing, making, removing, renaming and truncating files, folders and symbolic links;
# executing, sockets, pipes and devices stay refused.
_CHANGE = _READ | _WRITE_FILE | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 12 | 1 << 13 | 1 << 14
_FILE_ONLY = _READ_FILE | _WRITE_FILE | 1 << 14
_FS_BITS: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many kinds of access to files each version of the interface knows; later ones as 5."""

NONE: Final = "none (kernel offers no Landlock)"

# What Python, its libraries and the engine read of the machine.
_SYSTEM: Final = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo",
    "/usr/share/locale", "/etc/ld.so.cache", "/etc/localtime", "/etc/mime.types",
    "/etc/ssl/openssl.cnf", "/etc/ssl/certs", "/dev/urandom", "/sys/devices/system",
    "/sys/fs/cgroup", "/sys/kernel/mm/transparent_hugepage", "/proc/cpuinfo", "/proc/meminfo",
    "/proc/sys/vm", "/proc/self/maps",
)  # fmt: skip


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


class _NetPort(ctypes.Structure):
    _fields_ = (("allowed", ctypes.c_uint64), ("port", ctypes.c_uint64))


def restrict(data: Path, port: int) -> str:
    """Keep this process, and all threads it starts later, to ``data`` and its libraries.

    Call it before the first other thread starts: threads that run already are not kept.

    Parameters
    ----------
    data
        Folder to read and write.
    port
        The only TCP port that may be listened on; none may be connected to.

    Returns
    -------
    str
        How the process is kept: ``landlock``, or `NONE`.

    Raises
    ------
    OSError
        The kernel offers Landlock and refused it, or it does not hold.
    """
    offered = version()
    if offered < 1:
        return NONE
    handled = (1 << _FS_BITS.get(offered, 16)) - 1
    ruleset = _Ruleset(handled, 0b11 if offered >= 4 else 0, 0b11 if offered >= 6 else 0)
    size = 8 if offered < 4 else 16 if offered < 6 else 24
    made = _call(_CREATE_RULESET, ctypes.byref(ruleset), size, 0)
    try:
        _allow(made, [data], _CHANGE & handled)
        _allow(made, [Path("/dev/null")], (_READ_FILE | _WRITE_FILE) & handled)
        _allow(made, (*map(Path, _SYSTEM), *_libraries()), _READ & handled)
        if offered >= 4:
            _call(_ADD_RULE, made, _NET_PORT, ctypes.byref(_NetPort(_BIND_TCP, port)), 0)
        _libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        _call(_RESTRICT_SELF, made, 0)
    finally:
        os.close(made)
    _check()
    return "landlock"


def version() -> int:
    """Version of the interface, 0 where the kernel has none or has it switched off."""
    if sys.platform != "linux":
        return 0
    try:
        return _call(_CREATE_RULESET, None, 0, _VERSION)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
            return 0
        raise


def _allow(ruleset: int, paths: Iterable[Path], access: int) -> None:
    for path in paths:
        try:
            parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # this machine has none
        try:
            allowed = access if path.is_dir() else access & _FILE_ONLY
            rule = _PathBeneath(allowed, parent)
            _call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
        finally:
            os.close(parent)


def _libraries() -> set[Path]:
    """Where Python and installed packages are; of a checkout only the packages used here."""
    checkout = Path(__file__).resolve().parents[2]
    packages = {checkout / name for name in ("infra", "ingest")}
    installed = {
        Path(path) for path in sys.path if path.endswith(("site-packages", "dist-packages"))
    }
    python = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    shared = sysconfig.get_config_var("LIBDIR")
    return packages | installed | python | ({Path(shared)} if shared else set())


def _check() -> None:
    """Read something that every process may read, but this one no longer."""
    try:
        Path("/proc/self/environ").read_bytes()
    except PermissionError:
        return
    raise OSError(errno.EPERM, "Landlock is on, but this process can still read its environment")


def _call(number: int, *arguments: object) -> int:
    libc = _libc()
    words = [
        ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments
    ]
    result = int(libc.syscall(ctypes.c_long(number), *words))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}")
    return result


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc

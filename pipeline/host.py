"""The machine, as several rooms need it: names of devices and instruction sets, cores, the cache folder, whole files.

It imports nothing of the package, so that a mistake on the command line is reported at once.
"""

import contextlib
import errno
import os
import resource
import stat
import sys
from pathlib import Path

__all__ = [
    "CHECKER",
    "CUDA",
    "DEVICES",
    "EXTENSIONS",
    "GENERIC",
    "INSTRUCTION_SETS",
    "LIST",
    "SHADER_SETS",
    "cache_folder",
    "cores",
    "is_device",
    "peak_memory",
    "processor_name",
    "private_folder",
    "write_whole",
]

CHECKER = "checker"  # the device that watches kernels, and the compiled shaders that it runs
CUDA = "cuda"  # the shaders as CUDA C++
LIST = "list"  # as a device's name: the programs show those there are
DEVICES = ("auto", "cpu", CUDA, "metal", CHECKER)  # of several GPUs, cuda is cuda:0

# The instruction sets of the cpu device, best first; objc/ has the same list, and finds out which the processor has.
GENERIC = "generic"  # code for any processor, where it is no x86-64
INSTRUCTION_SETS = ("amx", "vnni", "avx512", "avx2", "baseline", GENERIC)
# Those that only kernels written by hand use; with them run the shaders of the instruction set that they extend.
EXTENSIONS = {"amx": "avx512", "vnni": "avx512"}
# Those that shaders are compiled for; on x86-64 each has all that the one before it has.
SHADER_SETS = tuple(name for name in reversed(INSTRUCTION_SETS) if name not in EXTENSIONS)


def is_device(name: str) -> bool:
    """Whether a device could have this name: one of DEVICES, or a GPU by its number, such as cuda:1."""
    kind, colon, number = name.partition(":")
    return name in DEVICES or (kind == CUDA and bool(colon) and number.isdecimal())


# What this process exits with where a file that it has mapped is cut short: 0 for a library, which leaves the signal to
# the program that uses it; a program of this package sets its own.
exit_code = 0


def processor_name() -> str:
    """The processor's name where Linux tells it, else nothing."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return ""


def cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # macOS has none
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def cache_folder() -> Path:
    """OB_CACHE, else onebuf in $XDG_CACHE_HOME, else ~/.cache/onebuf. It need not exist. OSError where none of these is
    known."""
    named = os.environ.get("OB_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache") / "onebuf"


def _home() -> Path:
    """The user's home folder. Raises OSError where neither HOME nor the system's list of users says it."""
    try:
        return Path.home()
    except RuntimeError:
        raise OSError(errno.ENOENT, "no home folder is known; set OB_CACHE to a folder for what is kept") from None


def private_folder(path: Path) -> bool:
    """Whether `path` is a folder in which only this user can put files. It is made where nothing is there.

    What is compiled is loaded from such folders alone: who can write there could have any code run."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError:
        return False
    mine = found.st_uid == os.geteuid() and stat.S_ISDIR(found.st_mode)
    return mine and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and os.access(path, os.W_OK)


# Linux keeps a process's peak memory there.
_STATUS = "/proc/self/status"


def write_whole(path: Path, text: str) -> None:
    """Puts a new version of a file in the place of the last one, so that a reader finds a whole one at any moment.

    A link stays a link. A pipe or a device gets the text, and stays what it is. OSError where that is not possible."""
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    place = Path(os.path.realpath(path))
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        with open(temporary, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, place)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def peak_memory() -> int:
    """The process's largest resident memory so far, in bytes."""
    try:
        with open(_STATUS) as status:  # getrusage counts the parent's memory before exec, too
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

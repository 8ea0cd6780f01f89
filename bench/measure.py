"""Running one program and taking its figures; the description of the machine."""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Run:
    """One finished program. peak_bytes is its largest resident set, or that of its largest child."""
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    exit_code: int
    stdout: str
    stderr: str


def run(argv, env, cwd, log):
    """Run argv to its end, output kept in the directory `log`.

    The kernel counts what a process had resident before it became the program, that is this harness, into
    the peak of the program: keep this process small, and see floor().
    """
    log.mkdir(parents=True, exist_ok=True)
    with open(log / "stdout", "wb") as out, open(log / "stderr", "wb") as err:
        start = time.perf_counter()
        child = subprocess.Popen(argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, child.returncode,
               (log / "stdout").read_text(errors="replace"), (log / "stderr").read_text(errors="replace"))


def floor(log):
    """The peak memory that a program of no size is measured with."""
    return run(["/bin/true"], {}, "/", log).peak_bytes


def files(path):
    """Every regular file below path, or path itself."""
    path = Path(path)
    return [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file() and not p.is_symlink()]


def tree_bytes(path):
    """Apparent size of all files below path."""
    return sum(p.stat().st_size for p in files(path))


def warm(path):
    """Bring the files below path into the page cache, and everything dirty onto the disk."""
    for p in files(path):
        with open(p, "rb", buffering=0) as file:
            while file.read(1 << 20):
                pass
    os.sync()


def first_value(file, key, separator):
    for line in Path(file).read_text().splitlines():
        found, _, value = line.partition(separator)
        if found.strip() == key:
            return value.strip().strip('"')
    return "unknown"


def file_system(path):
    """Type of the file system that holds path."""
    mounts = (line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines())
    holding = [(len(point), kind) for point, kind in mounts
               if Path(point) == path or Path(point) in path.parents]
    return max(holding, default=(0, "unknown"))[1]


def machine(work):
    return {
        "cpu": first_value("/proc/cpuinfo", "model name", ":"),
        "cores": os.cpu_count(),
        "memory_bytes": int(first_value("/proc/meminfo", "MemTotal", ":").split()[0]) * 1024,
        "system": first_value("/etc/os-release", "PRETTY_NAME", "="),
        "kernel": os.uname().release,
        "file_system": file_system(work),
        "load_at_start": round(os.getloadavg()[0], 2),
    }

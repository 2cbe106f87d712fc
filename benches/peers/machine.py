"""What a table of figures needs said of the machine and of the versions it was measured with."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "asimd", "sve")


def describe(checkout):
    """Lines of Markdown."""
    cpu = cpu_info()
    flags = [flag for flag in FLAGS if flag in cpu.get("flags", cpu.get("Features", "")).split()]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = [f"Python {platform.python_version()}"]
    versions += [f"{name} {version(name)}" for name in ("torch", "opacus", "onnxruntime", "numpy")]
    return [
        f"* processor: {cpu.get('model name', platform.machine())}, {os.cpu_count()} logical cores, {', '.join(flags)}",
        f"* memory {memory:.0f} GiB, {platform.system()} {platform.release()}",
        f"* {output(['rustc', '-V'])}; {', '.join(versions)}",
        f"* commit {commit(checkout)}",
    ]


def commit(checkout):
    """The commit, and whether the checkout differs from it."""
    head = output(["git", "-C", str(checkout), "rev-parse", "--short=12", "HEAD"])
    changed = output(["git", "-C", str(checkout), "status", "--porcelain", "--untracked-files=no"])
    return f"{head}, with changes" if changed else head


def version(package):
    """Version of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def cpu_info():
    """Fields of the first processor."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().split("\n\n")[0].splitlines() if path.is_file() else []
    return dict((part.strip() for part in line.split(":", 1)) for line in lines if ":" in line)


def output(command):
    """What a command prints; empty when it is not there."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""

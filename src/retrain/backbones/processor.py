"""The processor at hand: its name, and what its instructions bring to other precisions than float32."""

import functools
import platform
import re
from pathlib import Path

from retrain import workers
from retrain.backbones.engines import BFLOAT16, INT8

_CPU_INFO = Path("/proc/cpuinfo")
# A flag of Linux, what it is called, a precision, and how many times as fast as float32 that is with it at least.
_BRINGS = (
    ("amx_bf16", "AMX", BFLOAT16, 3.0),
    ("avx512_bf16", "AVX512-BF16", BFLOAT16, 1.5),
    ("avx512_vnni", "VNNI", INT8, 2.0),
    ("avx_vnni", "VNNI", INT8, 2.0),
)


def identity() -> str:
    """Return the name of the processor and how many cores this process may use, to remember what was measured on it."""
    return f"{name()}, {workers.cores()} cores"


@functools.cache
def name() -> str:
    """Return what the processor calls itself."""
    found = re.search(r"^model name\s*:\s*(.+)$", _cpu_info(), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def gains() -> dict[str, float]:
    """Return how many times as fast as float32 a convolutional network is in the precisions that gain here, by name."""
    rows: dict[str, float] = {}
    for _, precision, gain in _found():
        rows.setdefault(precision, gain)
    return rows


def prospects() -> str:
    """Return a sentence on what the other values of `--precision` would bring here, "" where nothing is known of it."""
    rows: dict[str, str] = {}
    for title, precision, gain in _found():
        rows.setdefault(precision, f"--precision {precision} is about {gain:g} times as fast ({title})")
    if not rows:
        return ""
    return f"On this processor, {' and '.join(rows.values())}: expect less exact features, and accuracy much the same."


def _found() -> list[tuple[str, str, float]]:
    flags = re.search(r"^flags\s*:\s*(.+)$", _cpu_info(), re.MULTILINE)
    words = set(flags[1].split()) if flags else set()
    return [(title, precision, gain) for flag, title, precision, gain in _BRINGS if flag in words]


def _cpu_info() -> str:
    try:
        return _CPU_INFO.read_text()
    except OSError:  # not Linux
        return ""

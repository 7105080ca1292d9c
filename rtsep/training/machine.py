"""What a training asks of the machine before its first step: a device, and memory that stays."""

from __future__ import annotations

import ctypes

import torch

from rtsep.errors import UsageError


def keep_memory() -> None:
    """Let the allocator keep large blocks: giving every feature map back to the system tripled the time of a step."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 2**30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
    except (OSError, AttributeError):
        pass  # another libc: slower, not wrong


def pick_device(device: str) -> torch.device:
    """The torch device of "cpu", "cuda" or "auto".

    Raises
    ------
    UsageError
        If "cuda" is asked for and there is none.
    """
    if device not in {"cpu", "cuda", "auto"}:
        raise UsageError(f"device {device!r}: expected cpu, cuda or auto")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda: torch sees no CUDA device; use --device cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")

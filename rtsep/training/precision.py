"""Mixed precision where the processor has it: bfloat16 that is worked out by software costs ten times float32."""

from __future__ import annotations

from collections.abc import Mapping

import torch

NATIVE = ("avx512_bf16", "amx_bf16", "bf16")
"""Names of what a processor needs to multiply bfloat16 numbers, on x86 and ARM (`torch.cpu.get_capabilities`)."""


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 on a device."""
    if device.type != "cpu":
        return True
    known: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # torch before 2.10 does not tell
    return any(known.get(name, False) for name in NATIVE)


def mixed(device: torch.device, enabled: bool = True) -> torch.autocast:
    """Run what is inside in bfloat16 as far as it bears that, on a device that is faster so; else as it is."""
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled and has_bfloat16(device))

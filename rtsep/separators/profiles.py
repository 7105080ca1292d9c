"""Which separator plays: the model of a profile where none is named, or the largest that the machine has time for.

A profile's models are the model folder of its name and those of its name and a suffix (``live``, ``live-small``).
Measuring is left to `auto`; the usual choice starts at once. [main thread]
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from rtsep.errors import RtsepError
from rtsep.separators.base import Separator
from rtsep.separators.registry import create, models
from rtsep.spec import StreamSpec

AUTO = "auto"
#: What plays where a profile has no model: the first of these that there is.
INSTEAD = {"live": ("koretzky", "midside"), "monitor": ("midside",), "karaoke": ("live", "koretzky", "midside")}
#: Always fast enough.
LAST = "midside"
#: Time that `auto` takes to measure, all candidates together, and share of the hop that the slowest runs may take.
MEASURE_S, SHARE = 1.0, 0.5

Measure = Callable[[Separator, StreamSpec, float], float]


def resolve(separator: str | None, profile: str, device: str = "auto") -> tuple[str, str]:
    """Separator for `rtsep.separators.registry.create`, and a line for the user, empty where he got what he asked for.

    Parameters
    ----------
    separator : str or None
        As given: a name, ``auto``, or None for the profile's own model.
    profile : str
        One of `rtsep.spec.PROFILES`.
    device : {"auto", "cpu", "cuda"}
        Where the net will run.
    """
    if separator == AUTO:
        return fastest(profile, device)
    if separator is not None:
        return separator, ""
    there = models()
    if profile in there:
        return profile, ""
    name = next(name for name in INSTEAD[profile] if name in there or name == LAST)
    return name, f"There is no model '{profile}' for the profile {profile}: {name} plays instead."


def variants(profile: str) -> list[str]:
    """Models of a profile, the largest file first."""
    found = {name: folder for name, folder in models().items() if name == profile or name.startswith(f"{profile}-")}
    return sorted(found, key=lambda name: -sum(file.stat().st_size for file in found[name].glob("*.onnx")))


def fastest(profile: str, device: str, measure: Measure | None = None) -> tuple[str, str]:
    """The largest model of a profile whose slowest hops (p99) take less than half of a hop; `midside` if none does.

    Returns
    -------
    name, note : str
        The choice, and what it rests on.
    """
    names, slow = variants(profile), []
    if not names:
        return LAST, f"auto: there is no model of the profile {profile}; {LAST} plays."
    for name in names:
        try:
            separator = create(name, device=device)
            rate = max(separator.supported_samplerates(), default=48000)
            spec = StreamSpec(rate, 2, separator.required_hop(rate) or StreamSpec(rate, 2).hop)
            p99 = (measure or paced)(separator, spec, MEASURE_S / len(names))
        except RtsepError as error:
            slow.append(f"{name} cannot be used ({error})")
            continue
        took = f"{p99:.2f} ms of a hop of {spec.hop_ms:.2f} ms"
        if p99 < SHARE * spec.hop_ms:
            return name, f"auto: {'; '.join([*slow, f'{name} takes {took} (p99)'])}: {name} plays."
        slow.append(f"{name} takes {took} (p99), more than half")
    return LAST, f"auto: {'; '.join(slow)}: {LAST} plays."


def paced(separator: Separator, spec: StreamSpec, seconds: float) -> float:
    """99th percentile of the time in ms that a separator takes for one hop of noise.

    The hops come at the pace of the stream, so that caches and clock speed are those of playing.
    """
    separator.prepare(spec)
    rng = np.random.default_rng(0)
    shape = (spec.channels, spec.bins)
    spectra = (rng.standard_normal((8, *shape)) + 1j * rng.standard_normal((8, *shape))).astype(np.complex64)
    mask = np.empty((separator.mask_rows(spec.channels), spec.bins), np.float32)
    took: list[float] = []
    begun = due = time.perf_counter()
    while due - begun < seconds:
        time.sleep(max(0.0, due - time.perf_counter()))
        start = time.perf_counter()
        separator.process(spectra[len(took) % 8], mask)
        took.append(time.perf_counter() - start)
        due = max(due + spec.hop_ms / 1000.0, time.perf_counter())
    return 1000.0 * float(np.percentile(took, 99))

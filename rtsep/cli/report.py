"""Figures of a session as text and as JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from rtsep.errors import UsageError

if TYPE_CHECKING:
    from rtsep.engine.session import Stats


def as_json(stats: Stats, **more: Any) -> bytes:
    """One line of JSON, silence (-inf dB) and figures that are not known yet as null."""
    return msgspec.json.encode({**more, **msgspec.to_builtins(stats)})


def write_stats(path: Path, stats: Stats) -> None:
    """Write the figures of a run, whole or not at all; `UsageError` if that is not possible."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_bytes(msgspec.json.format(as_json(stats), indent=2) + b"\n")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


def db(value: float) -> str:
    """Return a level such as ``"-12.3"``; what is below -100 dB counts as silence."""
    return f"{value:.1f}" if value > -100.0 else "-inf"


def clock(seconds: float) -> str:
    """Return a time such as ``"3:07"`` or ``"1:02:03"``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def played_s(stats: Stats) -> float:
    """Seconds of sound since the start, over reconnections."""
    return stats.hops * stats.hop_frames / stats.samplerate if stats.samplerate else 0.0


def news(before: Sequence[str], now: Sequence[str]) -> Sequence[str]:
    """Lines of `now` that have come since `before`; both are the newest lines of one growing list."""
    kept = next(n for n in range(len(now), -1, -1) if tuple(before[len(before) - n :]) == tuple(now[:n]))
    return now[kept:]


def stream_line(stats: Stats) -> str:
    """Rate, hop and latency in one line."""
    rate = f"{stats.samplerate} Hz"
    if stats.device_samplerate != stats.samplerate:
        rate += f" (device {stats.device_samplerate} Hz)"
    return f"{rate}, hop {stats.hop_frames}, latency {latency(stats)}"


def latency(stats: Stats) -> str:
    """Latency of the stream, and with the buffers of the devices where they have any."""
    whole = (
        f" ({stats.latency_ms + stats.device_latency_ms:.1f} ms with device buffers)" if stats.device_latency_ms else ""
    )
    return f"{stats.latency_ms:.1f} ms{whole}"


def cost_line(stats: Stats) -> str:
    """Time from a hop's last frame to its sound: median, 99th percentile, longest."""
    return f"{stats.hop_ms_p50:.2f} ms p50, {stats.hop_ms_p99:.2f} ms p99, {stats.hop_ms_max:.2f} ms max"


def summary(stats: Stats) -> str:
    """Text for the end of a run."""
    hop_ms = 1000.0 * stats.hop_frames / (stats.samplerate or 1)
    lines = [
        f"{clock(played_s(stats))} played, {stream_line(stats)}",
        f"{stats.hops} hops, {stats.late} late masks, xruns {stats.xruns_in} in and {stats.xruns_out} out",
        f"{cost_line(stats)}, of a hop's {hop_ms:.2f} ms",
    ]
    if stats.recording:
        stems = f", with its {', '.join(stats.parts_db)}," if stats.parts_db else ""
        lines.append(f"mixture, vocals and accompaniment{stems} are in {stats.recording}/")
    return "\n".join(lines)

"""What a running stream tells about itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from rtsep.engine import worker
from rtsep.engine.stream import Stream
from rtsep.io import tick

Levels = tuple[float, ...]


class Stats(msgspec.Struct, kw_only=True, frozen=True):
    """A snapshot of a session; counters and durations run from its start, over reconnections.

    Attributes
    ----------
    samplerate, device_samplerate : int
        Of the engine and of the device that owns the clock, in Hz.
    hop_frames, hops : int
        Frames from one spectrum to the next, and how many there have been.
    late : int
        Masks that missed their deadline; the last mask was used instead.
    xruns_in, xruns_out : int
        Periods in which input was lost or missing, and in which the output had to be silence.
    device_xruns : int
        Over- and underruns that the device or server reports, for whatever cause.
    hop_ms_p50, hop_ms_p99, hop_ms_max : float
        Time from a hop's last frame to its output, the wait for its mask included.
    host_ms_p50, host_ms_p99 : float
        The same without that wait: all but the separator.
    infer_ms_p50, infer_ms_p99 : float
        Time in the separator.
    callback_ms_p50, callback_ms_p99 : float
        Time in the audio callback, over the newest 4096.
    latency_frames : int
        Output stream against input stream, in frames of the device, without its own buffers.
    latency_ms, device_latency_ms : float
        The same in milliseconds, and what the device adds by its own account.
    load : float
        Median of the hop's cost over the hop's duration.
    rss_mb : float
        Resident memory of the process.
    drift_ppm : float
        How much faster the input's clock runs than the output's.
    peak_in_db, peak_vocals_db, peak_music_db, peak_out_db : tuple of float
        Peak levels per channel in dBFS.
    limiter_db : float
        Largest gain reduction of the output limiter since the last snapshot.
    vocals_db, music_db : float
        Faders.
    parts_db : dict of str to float
        Faders of the stems of the music and of the rest of it; empty where the separator knows no stems.
    bypass : bool
        Bypass as asked for.
    recording : str
        Folder that is recorded to, empty if none.
    state : str
        ``"playing"``, ``"bypassed: why"``, ``"reconnecting: what"`` or ``"ended"``.
    input, output, separator : str
        What is connected.
    position_s : float
        Seconds of sound since the start.
    reconnections : int
        How often a device was opened anew.
    stepdowns : int
        How often the net was sent to rest because of the machine's load (only where ``auto`` chose it).
    bad_samples : int
        Input samples that were NaN, infinite or beyond 1e6 and became 0.
    messages : tuple of str
        Lines for the user, oldest first.
    losses : tuple of str
        Those of them that tell of sound that a recording or an output file lacks.
    """

    samplerate: int = 0
    device_samplerate: int = 0
    hop_frames: int = 0
    hops: int = 0
    late: int = 0
    xruns_in: int = 0
    xruns_out: int = 0
    device_xruns: int = 0
    hop_ms_p50: float = 0.0
    hop_ms_p99: float = 0.0
    hop_ms_max: float = 0.0
    host_ms_p50: float = 0.0
    host_ms_p99: float = 0.0
    infer_ms_p50: float = 0.0
    infer_ms_p99: float = 0.0
    callback_ms_p50: float = 0.0
    callback_ms_p99: float = 0.0
    latency_frames: int = 0
    latency_ms: float = 0.0
    device_latency_ms: float = 0.0
    load: float = 0.0
    rss_mb: float = 0.0
    drift_ppm: float = 0.0
    peak_in_db: Levels = ()
    peak_vocals_db: Levels = ()
    peak_music_db: Levels = ()
    peak_out_db: Levels = ()
    limiter_db: float = 0.0
    vocals_db: float = 0.0
    music_db: float = 0.0
    parts_db: dict[str, float] = {}
    bypass: bool = False
    recording: str = ""
    state: str = "ended"
    input: str = ""
    output: str = ""
    separator: str = ""
    position_s: float = 0.0
    reconnections: int = 0
    stepdowns: int = 0
    bad_samples: int = 0
    messages: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()


def rss_mb() -> float:
    """Resident memory of this process in MB (10^6 bytes) [any thread]."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most / 1e3


COUNTERS = 6
"""Numbers of `counters`."""


def counters(stream: Stream) -> NDArray[np.int64]:
    """Hops, late masks, input and output drop-outs, the devices' own xruns and bad samples of one stream [any thread].

    Those of a source with a clock of its own are among them.
    """
    words, source = stream.words, stream.source
    of_devices, bad = stream.driver.xruns, int(stream.context.words[tick.BAD_SAMPLES])
    if source is not None:
        of_devices, bad = of_devices + source.xruns, bad + source.bad_samples
    return np.array([words[worker.HOPS], words[worker.LATE], *stream.xruns, of_devices, bad], np.int64)


def stream_stats(stream: Stream, before: NDArray[np.int64], played_s: float) -> Stats:
    """Figures of a stream [any thread but the audio and worker threads].

    Parameters
    ----------
    stream : Stream
        A running one.
    before : ndarray of int64, shape (COUNTERS,)
        `counters` of the streams that it goes on from, summed up.
    played_s : float
        Seconds of sound of these.
    """
    driver, timing, source = stream.driver, stream.timing, stream.source
    hops, late, xruns_in, xruns_out, device_xruns, bad = (int(n) for n in before + counters(stream))
    ticks = stream.context.tick_ms()
    device_ms = 1000.0 * (driver.input_latency_frames + driver.output_latency_frames) / driver.samplerate
    if source is not None:
        device_ms += 1000.0 * source.latency_frames / source.samplerate
    peaks = {name: meter.read().peak_db for name, meter in stream.meters.items()}
    latency_frames, hop_ms = stream.budget.total_frames, timing.hop.percentile_ms(50)
    return Stats(
        samplerate=stream.spec.samplerate,
        device_samplerate=driver.samplerate,
        hop_frames=stream.spec.hop,
        hops=hops,
        late=late,
        xruns_in=xruns_in,
        xruns_out=xruns_out,
        device_xruns=device_xruns,
        hop_ms_p50=hop_ms,
        hop_ms_p99=timing.hop.percentile_ms(99),
        hop_ms_max=timing.hop.max_ms,
        host_ms_p50=timing.host.percentile_ms(50),
        host_ms_p99=timing.host.percentile_ms(99),
        infer_ms_p50=timing.infer.percentile_ms(50),
        infer_ms_p99=timing.infer.percentile_ms(99),
        callback_ms_p50=float(np.percentile(ticks, 50)) if len(ticks) else 0.0,
        callback_ms_p99=float(np.percentile(ticks, 99)) if len(ticks) else 0.0,
        latency_frames=latency_frames,
        latency_ms=1000.0 * latency_frames / driver.samplerate,
        device_latency_ms=device_ms,
        load=hop_ms / stream.spec.hop_ms,
        rss_mb=rss_mb(),
        drift_ppm=stream.drift_ppm,
        peak_in_db=peaks["input"],
        peak_vocals_db=peaks["vocals"],
        peak_music_db=peaks["music"],
        peak_out_db=peaks["output"],
        limiter_db=stream.limiter.reduction_db(),
        position_s=played_s + stream.position_s,
        bad_samples=bad,
    )

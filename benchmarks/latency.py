"""Latency: click in to click out through the running engine over JACK and PortAudio, in frames.

    python -m benchmarks.latency [--rates HZ ...] [--blocks FRAMES ...]

JACK2 with its dummy driver. One client plays clicks into the engine's input ports, one behind it records its output
ports, both in the same cycle: the distance of a click in both is the latency, to the frame. For PortAudio the ports are
those of ALSA's jack plug-in; its buffers count too, so a stream that only copies is measured beside it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import _servers
from benchmarks._page import Page, Row, Table, parser, program
from rtsep.engine.options import SessionOptions
from rtsep.engine.session import Session

#: Separator and profile of each kind of stream.
STREAMS = (
    ("passthrough", "live"),
    ("passthrough", "monitor"),
    ("live", "live"),
    ("monitor", "monitor"),
    ("karaoke", "karaoke"),
    ("koretzky", "live"),
)
COLUMNS = {
    "samplerate": "rate, Hz",
    "blocksize": "block",
    "separator": "separator",
    "hop": "hop",
    "printed_frames": "printed, frames",
    "measured_frames": "measured, frames",
    "difference": "difference",
    "latency_ms": "ms",
    "clicks": "clicks",
    "xruns": "xruns",
}
THROUGH = {
    "samplerate": "rate, Hz",
    "blocksize": "block",
    "separator": "separator",
    "hop": "hop",
    "printed_frames": "printed, frames",
    "measured_frames": "measured with buffers",
    "device_frames": "buffers alone",
    "difference": "measured - buffers - printed",
    "clicks": "clicks",
    "xruns": "xruns",
}
#: Frames between two clicks: no multiple of any block or hop, and longer than any latency.
_DISTANCE = 9473
_TRIES = 3
#: Blocks for PortAudio: ALSA's jack plug-in does not offer itself on a server with a shorter one.
PLUG_IN_BLOCKS = (256, 512, 1024)


def clicks(seconds: float, samplerate: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Sound (2, frames) with a click every 0.2 s or so, and the frames of the clicks."""
    frames = int(seconds * samplerate)
    places = np.arange(_DISTANCE // 2, frames - _DISTANCE, _DISTANCE)
    sound = np.zeros((2, frames), np.float32)
    sound[:, places] = 0.5
    return sound, places


def distances(sound: NDArray[np.float32], places: NDArray[np.int64]) -> list[int]:
    """Frames from each click to the loudest sample before the next one, in both channels, where there is one."""
    found = []
    for place in places:
        for channel in np.abs(sound[:, place : place + _DISTANCE]):
            at = int(np.argmax(channel))
            if channel[at] > 0.25:
                found.append(at)
    return found


def agreed(found: list[int]) -> int | str:
    """The distance, or all that there were."""
    return found[0] if len(set(found)) == 1 else f"{sorted(set(found))}"


def one(server: Any, separator: str, profile: str, seconds: float, device: str = "") -> Row:
    """Latency of one kind of stream on a running server; repeated where an xrun tore the clicks apart.

    With `device` it goes through PortAudio, whose ports are those that are connected to the server's own.
    """
    from tests.e2e.jack_probe import Probe

    sound, places = clicks(seconds, server.rate)
    end = device or "jack:none"
    block = server.block if device else None
    options = SessionOptions(input=end, output=end, separator=separator, profile=profile, blocksize=block, device="cpu")
    for _ in range(_TRIES):
        with Session(options) as session, Probe(sound, 2, server.name) as probe:
            _connect(probe, device)
            time.sleep(0.3)
            before = session.snapshot()
            found = distances(probe.run(), places)
            stats = session.snapshot()
        xruns = stats.xruns_in + stats.xruns_out - before.xruns_in - before.xruns_out + probe.skipped
        if isinstance(agreed(found), int):
            break
    row = {
        "samplerate": server.rate,
        "blocksize": server.block,
        "separator": separator,
        "hop": stats.hop_frames,
        "printed_frames": stats.latency_frames,
        "measured_frames": agreed(found),
        "latency_ms": stats.latency_ms,
        "clicks": len(found),
        "xruns": xruns,
    }
    measured, device_frames = row["measured_frames"], copied(server, device, seconds) if device else 0
    known = isinstance(measured, int) and isinstance(device_frames, int)
    return row | {
        "device_frames": device_frames,
        "difference": measured - device_frames - stats.latency_frames if known else None,
    }


def _connect(probe: Any, device: str) -> None:
    """Probe to the ports of the engine, or of the sound device that stands for it."""
    ports = [[f"rtsep:{side}_{i}" for i in (1, 2)] for side in ("in", "out")]
    if device:
        sides = ("capture", "playback")
        found = [[probe.player.get_all_connections(f"system:{side}_{i}") for i in (1, 2)] for side in sides]
        ports = [[port.name for connected in side for port in connected] for side in found]
    probe.connect(*ports)


def copied(server: Any, device: str, seconds: float) -> int | str:
    """Latency of the device's own buffers: of a stream that copies input to output in its callback."""
    from rtsep.io.portaudio_library import portaudio, quiet
    from tests.e2e.jack_probe import Probe

    def copy(source: Any, target: Any, *_: object) -> None:
        target[:] = source[:]

    sound, places = clicks(seconds, server.rate)
    ends = {"device": (device, device), "channels": 2, "samplerate": server.rate, "blocksize": server.block}
    with quiet():
        stream = portaudio().RawStream(**ends, dtype="float32", latency="low", callback=copy)
    with stream, Probe(sound, 2, server.name) as probe:
        _connect(probe, device)
        time.sleep(0.3)
        for _ in range(_TRIES):
            found = agreed(distances(probe.run(), places))
            if isinstance(found, int):
                break
    return found


def portaudio_rows(server: Any, seconds: float) -> list[Row]:
    """Latency through PortAudio on a running server."""
    with _servers.jack_plug_in(server) as device:
        return [one(server, separator, profile, seconds, device) for separator, profile in (STREAMS[0], STREAMS[2])]


def measure(chosen: argparse.Namespace) -> Page:
    """JACK, then PortAudio."""
    _servers.require_clone()
    rates, blocks = ([48000], [128]) if chosen.quick else (chosen.rates, chosen.blocks)
    streams, seconds = (STREAMS[::2], 0.8) if chosen.quick else (STREAMS, 2.0)
    page = Page("latency", "Latency", "Click in to click out through the running engine.")
    rows: list[Row] = []
    through: list[Row] = []
    for rate in rates:
        for block in blocks:
            with (
                _servers.reported(page.notes, f"JACK at {rate} Hz, block {block}"),
                _servers.jack(rate, block) as server,
            ):
                rows += [one(server, separator, profile, seconds) for separator, profile in streams]
    for block in PLUG_IN_BLOCKS[:1] if chosen.quick else PLUG_IN_BLOCKS:
        with _servers.reported(page.notes, f"PortAudio, block {block}"), _servers.jack(48000, block) as server:
            through += portaudio_rows(server, seconds)
    text = "JACK2, dummy driver, whose own buffers are outside of what is measured."
    page.tables.append(Table("JACK", COLUMNS, rows, text))
    text = "PortAudio, ALSA's jack plug-in, JACK2 with the dummy driver and the same block."
    page.tables.append(Table("PortAudio", THROUGH, through, text))
    for row in rows:
        if row["separator"] != "passthrough" and row["blocksize"] == 128:
            page.figures[f"{row['separator']}_{row['samplerate']}_frames"] = row["measured_frames"]
    for name, measured in (("jack", rows), ("portaudio", through)):
        page.figures[f"{name}_streams"] = len(measured)
        page.figures[f"{name}_streams_to_the_frame"] = sum(row["difference"] == 0 for row in measured)
    return page


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--rates", type=int, nargs="+", default=[44100, 48000], metavar="HZ")
    options.add_argument("--blocks", type=int, nargs="+", default=[64, 128, 256, 512, 1024], metavar="FRAMES")
    return program(measure, options, arguments)


if __name__ == "__main__":
    sys.exit(main())

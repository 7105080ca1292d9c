"""Who owns the clock: from the names of input and output to a driver, and where needed a source and a sink.

The device that plays is the driver, because its buffer is the one that must never run dry. An input that is not on
the same device feeds the engine as a source. Without a device that plays, JACK drives if the input is a JACK port,
else the computer's clock does (`null`), or, from file to file, nothing but the worker's own speed.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from rtsep.engine.options import SessionOptions
from rtsep.io.base import Driver, Sink, Source
from rtsep.io.open import Endpoint, open_input, open_output

#: Rate of the computer's clock where neither a source nor an option names one, in Hz.
_DEFAULT_RATE = 48000


@dataclass(slots=True)
class Route:
    """Opened backends of a stream, and their names for the screen; the sink opens when rate and channels are known."""

    driver: Driver
    source: Source | None
    sink: Sink | None
    input_name: str
    output_name: str
    notes: list[str] = field(default_factory=list)

    def close(self, keep_source: bool = False, keep_sink: bool = False) -> None:
        """Release everything, but what is to go on in another stream; harmless when already closed."""
        self.driver.stop()
        if self.source is not None and not keep_source:
            self.source.stop()
        if self.sink is not None and not keep_sink:
            self.sink.stop()


def open_route(
    options: SessionOptions, hop: int, source: Source | None = None, sink: Sink | None = None, again: bool = False
) -> Route:
    """Open what `options` name.

    Parameters
    ----------
    options : SessionOptions
        Input and output as on the command line.
    hop : int
        Hop in frames: the period of a clock without a device.
    source : Source, optional
        Opened already, by an earlier route of the same options.
    sink : Sink, optional
        Likewise.
    again : bool
        Whether the driver of an earlier route was connected to something, which must be there again.

    Raises
    ------
    DeviceError, UsageError
        For what cannot be opened; all else is closed again.
    """
    start, end = open_input(options.input), open_output(options.output)
    with contextlib.ExitStack() as undo:
        driver, same_device = _device_driver(start, end, options, again)
        if source is None and not same_device:
            source = _source(start, options)
            source.open()
            undo.callback(source.stop)
        if driver is None:
            driver = _clock(start, end, source, options, hop)
        driver.open()
        undo.callback(driver.stop)
        sink = sink or _sink(end, options)
        undo.pop_all()
    return Route(driver, source, sink, str(start), str(end), _refused(driver, options))


def _refused(driver: Driver, options: SessionOptions) -> list[str]:
    """Lines for what was asked of a device that keeps its own, such as a JACK server."""
    notes = []
    if options.samplerate not in (None, driver.samplerate):
        notes.append(f"the device runs at {driver.samplerate} Hz: --samplerate {options.samplerate} is not in force")
    return notes


def _device_driver(start: Endpoint, end: Endpoint, options: SessionOptions, again: bool) -> tuple[Driver | None, bool]:
    """Driver of the device that plays (or of a JACK input), and whether it records the input too; None: no device."""
    if end.kind == "jack" or (start.kind == "jack" and end.kind in ("file", "pipe", "null")):
        from rtsep.io.jack import JackDriver

        return JackDriver(
            inputs=2 if start.kind == "jack" else 0,
            outputs=2 if end.kind == "jack" else 0,
            connect_in=start.name or None,
            connect_out=end.name or None,
            blocksize=options.blocksize,
            again=again,
        ), start.kind == "jack"
    if end.kind == "portaudio":
        from rtsep.io.portaudio import PortAudioDriver, same_host

        duplex = start.kind == "portaudio" and same_host(start.name, end.name)
        return PortAudioDriver(
            start.name if duplex else None, end.name, samplerate=options.samplerate, blocksize=options.blocksize
        ), duplex
    if end.kind == "pulse":
        from rtsep.io.pulse import PulseDriver

        return PulseDriver(end.name, samplerate=options.samplerate, blocksize=options.blocksize), False
    return None, False


def _clock(start: Endpoint, end: Endpoint, source: Source | None, options: SessionOptions, hop: int) -> Driver:
    """Clock of a stream that no device plays: as fast as possible from file to file, else the computer's."""
    from rtsep.io.null import FreeDriver, NullDriver

    rate = options.samplerate or (source.samplerate if source else _DEFAULT_RATE)
    block = options.blocksize or hop
    if end.kind in ("file", "pipe") and start.kind not in ("portaudio", "pulse"):
        return FreeDriver(rate, block)
    return NullDriver(rate, block, options.speed)


def _source(start: Endpoint, options: SessionOptions) -> Source:
    """Source for an input that the driver does not record itself."""
    if start.kind == "file":
        from rtsep.io.file import FileSource

        return FileSource(Path(start.name))
    if start.kind == "pipe":
        from rtsep.io.pipe import PipeSource

        return PipeSource(start.name)
    if start.kind == "demo":
        from rtsep.io.demo import DemoSource

        return DemoSource(start.name, options.duration_s)
    if start.kind == "test":
        from rtsep.io.signals import SignalSource

        return SignalSource(start.name)
    if start.kind == "jack":
        from rtsep.io.jack import JackSource

        return JackSource(start.name or None)
    if start.kind == "pulse":
        from rtsep.io.pulse import PulseSource

        return PulseSource(start.name)
    from rtsep.io.portaudio import PortAudioSource

    return PortAudioSource(start.name)


def _sink(end: Endpoint, options: SessionOptions) -> Sink | None:
    """Sink for an output that is no device."""
    if end.kind == "file":
        from rtsep.io.file import FileSink

        return FileSink(Path(end.name), options.overwrite)
    if end.kind == "pipe":
        from rtsep.io.pipe import PipeSink

        return PipeSink(end.name)
    return None

"""PulseAudio, and PipeWire through its PulseAudio side: what the computer plays as input, a sink as output.

The library is libpulse-simple, called from compiled loops in threads of their own. When a sink or source goes away,
most servers move its streams to the default one and the sound goes on there; `lost` is for a server that ends, hangs or
cuts a stream off.
"""

from __future__ import annotations

import ctypes
import threading
import time
from types import ModuleType

import numpy as np

from rtsep.dsp.ring import Ring
from rtsep.errors import DeviceError
from rtsep.io.base import Driver, Source
from rtsep.io.pulse_lookup import PulseDevice, find_sink, find_source, list_pulse
from rtsep.io.realtime import raise_priority

__all__ = ["PulseDriver", "PulseSource", "list_pulse"]

_PLAYBACK, _RECORD = 1, 2
_FLOAT32LE = 5
_DEFAULT = 0xFFFFFFFF
_PRIORITY = 75
#: A server that gives or takes nothing for so long is gone.
_SILENT_S = 3.0
#: Streams that may wait for a server that does not answer, before no more are opened.
_LEFT_BEHIND_MOST = 3
#: Blocks that the server keeps ready to play.
_QUEUED = 3
#: Frames that are read at once. The server's pieces are no whole fragments: with longer reads a rest would wait for the
#: next, and the age of the newest frame, by which clocks are matched, would swing by a fragment.
_GRAIN = 32


class _SampleSpec(ctypes.Structure):
    _fields_ = (("format", ctypes.c_int), ("rate", ctypes.c_uint32), ("channels", ctypes.c_uint8))


class _BufferAttributes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ("maxlength", "tlength", "prebuf", "minreq", "fragsize"))


def _loops() -> ModuleType:
    try:
        from rtsep.io import pulse_loops
    except OSError as error:
        raise DeviceError(f"libpulse-simple cannot be loaded ({error}): install libpulse0") from error
    return pulse_loops


#: Threads of streams that were ended while the server did not answer.
_left_behind: list[threading.Thread] = []


class _Stream:
    """One connection to the server, its loop's control words and its thread.

    The thread frees the connection: only it knows when no call is under way. A server that hangs may keep it for ever;
    it is then left behind.
    """

    def __init__(self, device: PulseDevice, direction: int, samplerate: int, channels: int, blocksize: int) -> None:
        self.loops = _loops()
        _left_behind[:] = [thread for thread in _left_behind if thread.is_alive()]
        if len(_left_behind) >= _LEFT_BEHIND_MOST:
            raise DeviceError(f"PulseAudio does not answer: {len(_left_behind)} streams wait for it")
        self.device, self.samplerate = device, samplerate
        self.control = np.zeros(self.loops.CONTROL_SIZE, np.int64)
        frames = min(_GRAIN, blocksize) if direction == _RECORD else blocksize
        self.block = np.zeros((frames, channels), np.float32)
        size = self.block.itemsize * channels * blocksize
        buffer = _BufferAttributes(_DEFAULT, _QUEUED * size, _DEFAULT, size, size)
        spec, error = _SampleSpec(_FLOAT32LE, samplerate, channels), ctypes.c_int()
        title = b"what is played" if direction == _RECORD else b"separated"
        where = (None, b"rtsep", direction, device.name.encode(), title)
        how = (ctypes.byref(spec), None, ctypes.byref(buffer), ctypes.byref(error))
        self.handle = self.loops.library.pa_simple_new(*where, *how)
        if not self.handle:
            raise DeviceError(f"PulseAudio does not open {device.name}: {_text(error.value)}")
        self._thread: threading.Thread | None = None

    def run(self, loop, *arguments: object, keep: object = None) -> None:  # type: ignore[no-untyped-def]
        """Start `loop` with the control words, the handle and `arguments`; `keep` lives as long as it does."""

        def body(_: object = keep) -> None:
            raise_priority(_PRIORITY)
            loop(self.control, self.handle, *arguments)
            self.loops.library.pa_simple_free(self.handle)

        self.control[self.loops.STAMP] = time.monotonic_ns()
        self._thread = threading.Thread(target=body, name="rtsep-pulse", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Ask the loop to end and wait for it, one second at most."""
        self.control[self.loops.STOP] = 1
        if self._thread is None:
            self.loops.library.pa_simple_free(self.handle)
        else:
            self._thread.join(1.0)
            if self._thread.is_alive():
                _left_behind.append(self._thread)

    @property
    def lost(self) -> str:
        """Why the loop has ended by itself or stands still; empty while it runs."""
        if self._thread is None or self.control[self.loops.STOP]:
            return ""
        if code := int(self.control[self.loops.ERROR]):
            return f"PulseAudio's {self.device.name} is gone: {_text(code)}"
        if time.monotonic_ns() - int(self.control[self.loops.STAMP]) > _SILENT_S * 1e9:
            return f"PulseAudio's {self.device.name} has stood still for {_SILENT_S:.0f} s"
        return ""


def _text(code: int) -> str:
    pulse = ctypes.CDLL("libpulse.so.0")
    pulse.pa_strerror.restype = ctypes.c_char_p
    return str((pulse.pa_strerror(code) or b"unknown error").decode(errors="replace")).lower()


class PulseSource(Source):
    """A source of the server, or what a sink plays; it has a clock of its own.

    Parameters
    ----------
    name : str
        See `rtsep.io.pulse_lookup.find_source`.
    blocksize : int
        Frames that the server sends at once.
    """

    own_clock = True

    def __init__(self, name: str = "", blocksize: int = 256) -> None:
        self._name = name
        self.blocksize = blocksize
        self._stream: _Stream | None = None

    def open(self) -> None:
        """Find the source and connect, at its own rate, in mono or stereo; `DeviceError` if it cannot [main thread]."""
        device = find_source(self._name)
        self.samplerate, self.channels = device.samplerate, min(2, device.channels)
        self._stream = _Stream(device, _RECORD, self.samplerate, self.channels, self.blocksize)

    def start(self, ring: Ring, samplerate: int) -> None:
        """Begin to write at the native rate [main thread]."""
        stream = self._stream
        assert stream is not None
        mixed = np.zeros((len(stream.block), ring.channels), np.float32)
        stream.run(stream.loops.capture, ring.control, stream.block, mixed, self.samplerate, keep=ring)

    def stop(self) -> None:
        """End and release; harmless when already stopped [main thread]."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.end()

    @property
    def lost(self) -> str:
        """Why the server or the source is gone; empty while all is well [any thread]."""
        stream = self._stream
        return stream.lost if stream else ""

    @property
    def xruns(self) -> int:
        """Blocks that found no room, since `start` [any thread]."""
        stream = self._stream
        return int(stream.control[stream.loops.XRUNS]) if stream else 0

    @property
    def bad_samples(self) -> int:
        """NaN and infinite ones [any thread]."""
        stream = self._stream
        return int(stream.control[stream.loops.BAD]) if stream else 0

    @property
    def latency_frames(self) -> int:  # type: ignore[override]
        """Between the sink and the ring, as the server tells it; 0 before the first block [any thread]."""
        stream = self._stream
        return int(stream.control[stream.loops.LATENCY]) if stream else 0


class PulseDriver(Driver):
    """A sink of the server as the owner of the stream's clock.

    Parameters
    ----------
    name : str
        See `rtsep.io.pulse_lookup.find_sink`.
    samplerate : int, optional
        Rate of the stream, in Hz; the sink's own if missing. The server converts.
    blocksize : int, optional
        Frames per tick; the server keeps three such blocks ready. Smaller ones need a server that is set up for them.
    """

    outputs = 2

    def __init__(self, name: str = "", samplerate: int | None = None, blocksize: int | None = None) -> None:
        self._name = name
        self._rate = samplerate
        self.blocksize = blocksize or 512
        self._stream: _Stream | None = None

    def open(self) -> None:
        """Find the sink and connect; `DeviceError` if it cannot [main thread]."""
        device = find_sink(self._name)
        self.samplerate = self._rate or device.samplerate
        self._stream = _Stream(device, _PLAYBACK, self.samplerate, self.outputs, self.blocksize)

    def start(self, context: int) -> None:
        """Begin to tick with the address of a `StreamContext` [main thread]."""
        stream = self._stream
        assert stream is not None
        queued_ns = int(_QUEUED * self.blocksize * 1e9 / self.samplerate)
        stream.run(stream.loops.play, context, stream.block, self.samplerate, queued_ns)

    def stop(self) -> None:
        """End ticking and release; harmless when already stopped or lost [main thread]."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.end()

    @property
    def lost(self) -> str:
        """Why the server or the sink is gone; empty while all is well [any thread]."""
        stream = self._stream
        return stream.lost if stream else ""

    @property
    def xruns(self) -> int:
        """Ticks that came after the server's queue must have run dry [any thread]."""
        stream = self._stream
        return int(stream.control[stream.loops.XRUNS]) if stream else 0

    @property
    def output_latency_frames(self) -> int:  # type: ignore[override]
        """From the tick to the sink's output, as the server tells it; 0 before the first block [any thread]."""
        stream = self._stream
        return int(stream.control[stream.loops.LATENCY]) if stream else 0

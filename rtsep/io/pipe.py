"""Standard input as source and standard output as sink: WAV, or raw samples."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rtsep.errors import RtsepError, UsageError, nearest
from rtsep.io.base import Sink
from rtsep.io.drain import Drain
from rtsep.io.feed import FeedSource
from rtsep.io.wav import SampleFormat, WavHeader, read_header, stream_header
from rtsep.spec import LOUDEST

#: Names of raw sample formats, little-endian.
RAW: dict[str, tuple[str, int]] = {"float32": ("float", 32), "int16": ("int", 16)}
_HINT = "for raw samples say their format, rate and channels, such as -:float32:48000:2"
_CHUNK_BYTES = 1 << 14
_PATIENCE_S = 0.5


def raw_format(text: str, samplerate: int = 48000, channels: int = 2) -> SampleFormat | None:
    """Format of ``NAME[:RATE[:CHANNELS]]``, the part after ``-:``; None if empty (WAV); `UsageError` if it is none."""
    if not text:
        return None
    name, *numbers = text.split(":")
    if name not in RAW:
        raise UsageError(f"unknown raw format '{name}': {nearest(name, RAW)}; {_HINT}")
    if len(numbers) > 2 or not all(number.isdecimal() for number in numbers):
        raise UsageError(f"-:{text} is not understood: {_HINT}")
    rate, count = [*map(int, numbers), *(samplerate, channels)[len(numbers) :]]
    format_ = SampleFormat(rate, count, *RAW[name])
    _check(format_)
    return format_


def _check(format_: SampleFormat) -> None:
    if format_.channels not in (1, 2):
        raise UsageError(f"standard input has {format_.channels} channels: 1 (mono) or 2 (stereo) are possible")
    if not 8000 <= format_.samplerate <= 192000:
        raise UsageError(f"standard input has {format_.samplerate} Hz: 8000 to 192000 Hz are possible")


class PipeSource(FeedSource):
    """Sound from standard input until its end; the writer waits when it is faster than the engine.

    Parameters
    ----------
    text : str
        Empty: WAV (PCM of 8 to 32 bits, float); else ``float32`` or ``int16`` samples, ``[:RATE[:CHANNELS]]``, by
        default 48000 Hz and 2 channels.
    descriptor : int, optional
        File descriptor to read from instead of standard input; it is not closed.
    """

    prefetch = False

    def __init__(self, text: str = "", descriptor: int | None = None) -> None:
        super().__init__()
        self._raw = raw_format(text)
        self._input = sys.__stdin__.fileno() if descriptor is None and sys.__stdin__ else descriptor or 0
        self._stopped = False
        self._wake = os.pipe()  # ends a wait for a writer that sends nothing
        self._header: WavHeader | None = None

    def open(self) -> None:
        """Read the WAV header, which waits for the writer; `UsageError` if it is none, or a terminal [main thread]."""
        if os.isatty(self._input):
            raise UsageError("standard input is a terminal: pipe sound into it, such as cat song.wav | rtsep -i -")
        try:
            header = read_header(self._exactly, "standard input") if self._raw is None else None
        except UsageError as error:
            raise UsageError(f"{error}; {_HINT}") from None
        self._header = header
        format_ = header.format if header else self._raw
        assert format_ is not None
        _check(format_)
        self._format = format_
        self.samplerate, self.channels = format_.samplerate, format_.channels

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Blocks as they come; an incomplete frame at the end is dropped."""
        size = self._format.frame_bytes
        promised = self._header.data_bytes if self._header else -1
        left = promised if promised >= 0 else sys.maxsize
        rest, done = b"", 0
        while left > 0 and (data := self._some(min(_CHUNK_BYTES, left))):
            left -= len(data)
            data = rest + data
            whole = len(data) - len(data) % size
            rest = data[whole:]
            block = self._format.decode(data[:whole])
            if not (np.abs(block) <= LOUDEST).all():
                at = done / self.samplerate
                what = f"no numbers (NaN or Inf) or beyond {LOUDEST:g}"
                raise UsageError(f"standard input holds samples that are {what}, after {at:.3f} s")
            done += len(block)
            yield block
        if left >= size and promised >= 0 and not self._stopped:
            whole_s, came_s = promised / size / self.samplerate, done / self.samplerate
            raise UsageError(f"standard input is truncated: {whole_s:.2f} s are promised, {came_s:.2f} s came")

    def stop(self) -> None:
        """End, also amid a wait for the writer [main thread]."""
        if self._stopped:
            return
        self._stopped = True
        os.write(self._wake[1], b"x")
        super().stop()
        for descriptor in self._wake:
            os.close(descriptor)

    def _some(self, count: int) -> bytes:
        """Up to `count` bytes as soon as there are any; none at the end, or when stopped."""
        ready, _, _ = select.select([self._input, self._wake[0]], [], [])
        if self._wake[0] in ready or self._stopped:
            return b""
        return os.read(self._input, count)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (part := self._some(count - len(data))):
            data += part
        return data


class PipeSink(Drain, Sink):
    """Sound to standard output; when its reader goes away, `error` says so and the sound goes on without it.

    Parameters
    ----------
    text : str
        Empty: WAV, float32, of unknown length; else raw ``float32`` or ``int16`` samples without header,
        ``[:RATE[:CHANNELS]]``, which must then be the stream's.
    descriptor : int, optional
        File descriptor to write to instead of standard output; it is not closed.
    """

    def __init__(self, text: str = "", descriptor: int | None = None) -> None:
        super().__init__(longest_nap_s=0.005)
        self._raw, self._text = raw_format(text), text
        self._output = sys.__stdout__.fileno() if descriptor is None and sys.__stdout__ else descriptor or 1

    def open(self, samplerate: int, channels: int) -> None:
        """Write the header; `UsageError` for a terminal or another format than was asked for [main thread]."""
        if os.isatty(self._output):
            raise UsageError("standard output is a terminal: pipe it into a program, such as rtsep -o - | aplay")
        wanted = raw_format(self._text, samplerate, channels)
        if wanted and (wanted.samplerate, wanted.channels) != (samplerate, channels):
            raise UsageError(
                f"-:{self._text} asks for {wanted.samplerate} Hz and {wanted.channels} channels, the stream has "
                f"{samplerate} Hz and {channels}: --samplerate {wanted.samplerate} changes the rate"
            )
        self.samplerate = samplerate
        kind, bits = (self._raw.kind, self._raw.bits) if self._raw else ("float", 32)
        self._format = SampleFormat(samplerate, channels, kind, bits)
        if self._raw is None:
            self._send(stream_header(self._format))

    def write(self, block: NDArray[np.float32]) -> None:
        """Send a block of shape (frames, channels)."""
        self._send(self._format.encode(block))

    def close(self, failed: bool) -> None:
        """Nothing to finish."""

    def discard(self) -> None:
        """Nothing to undo."""

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                # A pipe that is ready takes this much at once, so that a reader that sleeps does not hold up the end.
                if select.select([], [self._output], [], _PATIENCE_S)[1]:
                    view = view[os.write(self._output, view[: select.PIPE_BUF]) :]
                elif self._stop.is_set():
                    raise RtsepError("standard output is not read any more by the program that it goes to")
        except BrokenPipeError:
            raise RtsepError("standard output was closed by the program that read it") from None
        except OSError as error:
            raise RtsepError(f"standard output cannot be written: {error.strerror}") from error

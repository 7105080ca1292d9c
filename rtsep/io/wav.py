"""WAV headers and samples: read from a pipe, check a file's promised length, write streams, files and RF64.

libsndfile does files well, but it cannot write WAV to a pipe, does not say that a file is truncated, and switches to
RF64 beyond 4 GB only where that is asked through calls that Python lacks. These three need the 80 bytes below.

Format: Microsoft/IBM "Multimedia Programming Interface and Data Specifications" 1.0 (1991); RF64: EBU Tech 3306.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from rtsep.errors import UsageError

UNKNOWN = 0xFFFFFFFF
#: From here on, a size is what programs write into the header of a stream whose length they do not know.
STREAM_BYTES = 0x7FFFF000
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_MAX_CHUNK = 1 << 20
_HEADER_BYTES = 12 + 36 + 26 + 12 + 8


@dataclass(frozen=True, slots=True)
class SampleFormat:
    """Layout of interleaved little-endian samples.

    Parameters
    ----------
    samplerate : int
        Frames per second.
    channels : int
        Samples per frame.
    kind : str
        ``float`` or ``int``; integers of 8 bits have an offset of 128, as WAV has it.
    bits : int
        8, 16, 24, 32 (int), 32, 64 (float).
    """

    samplerate: int
    channels: int
    kind: str = "float"
    bits: int = 32

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame."""
        return self.channels * self.bits // 8

    def decode(self, data: bytes) -> NDArray[np.float32]:
        """Whole frames as float32 of shape (frames, channels), full scale 1.0."""
        if self.kind == "float":
            samples = np.frombuffer(data, f"<f{self.bits // 8}").astype(np.float32)
        elif self.bits == 8:
            samples = (np.frombuffer(data, np.uint8).astype(np.float32) - 128.0) / 128.0
        elif self.bits == 24:
            padded = np.zeros((len(data) // 3, 4), np.uint8)
            padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            samples = padded.view("<i4")[:, 0].astype(np.float32) / np.float32(2.0**31)
        else:
            samples = np.frombuffer(data, f"<i{self.bits // 8}").astype(np.float32) / np.float32(2.0 ** (self.bits - 1))
        return samples.reshape(-1, self.channels)

    def encode(self, block: NDArray[np.float32]) -> bytes:
        """Block of shape (frames, channels) as bytes; integers (16 bits) are rounded and clipped."""
        if self.kind == "float":
            return np.ascontiguousarray(block, f"<f{self.bits // 8}").tobytes()
        return np.clip(np.rint(block * 32768.0), -32768, 32767).astype("<i2").tobytes()


@dataclass(frozen=True, slots=True)
class WavHeader:
    """What a header says.

    Parameters
    ----------
    format : SampleFormat
        Of the samples.
    data_bytes : int
        Promised length of the samples; -1 if the writer did not know it (a stream).
    offset : int
        Bytes before the first sample.
    """

    format: SampleFormat
    data_bytes: int
    offset: int


def read_header(read: Callable[[int], bytes], what: str) -> WavHeader:
    """Read up to the first sample; `read(n)` gives n bytes, fewer only at the end.

    Raises
    ------
    UsageError
        If it is no WAV, or one whose samples are neither PCM nor float; `what` names the stream in the message.
    """
    place = 0

    def take(count: int) -> bytes:
        nonlocal place
        data = read(count)
        if len(data) < count:
            raise UsageError(f"{what} ends within its WAV header, after {place + len(data)} bytes")
        place += count
        return data

    riff, _, wave = struct.unpack("<4sI4s", take(12))
    if riff not in (b"RIFF", b"RF64") or wave != b"WAVE":
        raise UsageError(f"{what} is not WAV: it begins with {riff + wave!r}")
    format_: SampleFormat | None = None
    long_bytes = -1
    while True:
        name, size = struct.unpack("<4sI", take(8))
        if name == b"data":
            break
        if size > _MAX_CHUNK:
            raise UsageError(f"{what} has a damaged WAV header: chunk {name!r} of {size} bytes")
        body = take(size + size % 2)
        if name == b"ds64":
            long_bytes = struct.unpack_from("<Q", body, 8)[0]
        elif name == b"fmt " and size >= 16:
            format_ = _sample_format(body, what)
    if format_ is None:
        raise UsageError(f"{what} has a damaged WAV header: no format before the samples")
    if size == UNKNOWN:
        size = long_bytes if riff == b"RF64" else -1
    elif size == 0 or size >= STREAM_BYTES:
        size = -1
    return WavHeader(format_, size, place)


def _sample_format(body: bytes, what: str) -> SampleFormat:
    tag, channels, samplerate, _, _, bits = struct.unpack_from("<HHIIHH", body)
    if tag == _EXTENSIBLE and len(body) >= 26:
        tag = struct.unpack_from("<H", body, 24)[0]
    kind = {_PCM: "int", _FLOAT: "float"}.get(tag)
    if kind is None or bits not in ((8, 16, 24, 32) if kind == "int" else (32, 64)):
        raise UsageError(
            f"{what} holds WAV samples of type {tag}, {bits} bits: PCM of 8 to 32 bits or float is possible"
        )
    return SampleFormat(samplerate, channels, kind, bits)


def stream_header(format_: SampleFormat) -> bytes:
    """Header of a WAV stream of unknown length, for a pipe."""
    return (
        b"RIFF" + struct.pack("<I", UNKNOWN) + b"WAVE" + _format_chunk(format_) + b"data" + struct.pack("<I", UNKNOWN)
    )


def _format_chunk(format_: SampleFormat) -> bytes:
    tag = _FLOAT if format_.kind == "float" else _PCM
    rate, size = format_.samplerate, format_.frame_bytes
    return b"fmt " + struct.pack("<IHHIIHHH", 18, tag, format_.channels, rate, rate * size, size, format_.bits, 0)


class WavWriter:
    """Float32 WAV into a file; becomes RF64 where 4 GB do not suffice.

    Until `close` the header says "length unknown", so that what a killed process leaves behind still plays.

    Parameters
    ----------
    file : binary file
        Empty and seekable; stays open after `close`.
    samplerate, channels : int
        Of the sound.
    largest : int
        Size in bytes from which the file becomes RF64 (a test makes it small).
    """

    def __init__(self, file: BinaryIO, samplerate: int, channels: int, largest: int = UNKNOWN) -> None:
        self._file = file
        self._format = SampleFormat(samplerate, channels)
        self._largest = largest
        self._bytes = 0
        file.write(self._header(None))

    def write(self, block: NDArray[np.float32]) -> None:
        """Append a block of shape (frames, channels); OSError if the disk is full."""
        data = self._format.encode(block)
        self._file.write(data)
        self._bytes += len(data)

    def close(self) -> None:
        """Put the true length into the header."""
        self._file.flush()
        self._file.seek(0)
        self._file.write(self._header(self._bytes))
        self._file.flush()

    def _header(self, data_bytes: int | None) -> bytes:
        frames = UNKNOWN if data_bytes is None else data_bytes // self._format.frame_bytes
        total = (data_bytes or 0) + _HEADER_BYTES - 8
        riff, size, wide = (
            b"RIFF",
            UNKNOWN if data_bytes is None else data_bytes,
            b"JUNK" + struct.pack("<I", 28) + bytes(28),
        )
        if data_bytes is None:
            total = UNKNOWN
        elif total >= self._largest:
            wide = b"ds64" + struct.pack("<IQQQI", 28, total, data_bytes, frames, 0)
            riff, size, total, frames = b"RF64", UNKNOWN, UNKNOWN, UNKNOWN
        fact = b"fact" + struct.pack("<II", 4, min(frames, UNKNOWN))
        return (
            riff
            + struct.pack("<I", total)
            + b"WAVE"
            + wide
            + _format_chunk(self._format)
            + fact
            + b"data"
            + struct.pack("<I", size)
        )

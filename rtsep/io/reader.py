"""Read any sound file block by block: libsndfile's formats, and ffmpeg's where that is installed."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from rtsep.dsp.resample import check_ratio
from rtsep.errors import UsageError
from rtsep.io.decoders import UNKNOWN_FRAMES, Decoder, Ffmpeg, Sndfile
from rtsep.io.feed import BLOCK_FRAMES, convert
from rtsep.io.wav import STREAM_BYTES, read_header
from rtsep.spec import LOUDEST

_RATES = (8000, 192000)
#: Suffixes by which a missing file is told from the name of a device.
SUFFIXES = (
    *("wav", "flac", "ogg", "oga", "opus", "mp3", "aiff", "aif", "aifc", "au", "caf", "w64", "rf64"),
    *("m4a", "m4b", "aac", "mp4", "mkv", "mka", "webm", "wma", "ac3", "mov", "avi", "wv", "ape", "tta"),
)


class SoundReader:
    """A sound file as an iterator of blocks, shape (channels, <= block), float32, finite.

    Parameters
    ----------
    path : path
        File to read.
    samplerate : int, optional
        Rate to convert to, in Hz (libsamplerate, aligned in time); the file's own if missing.
    block : int
        Frames of a block before conversion.

    Attributes
    ----------
    samplerate : int
        Of the blocks.
    native_rate : int
        Of the file.
    channels : int
        1 or 2.
    frames : int
        Length at `samplerate`; 0 if the file does not say it.

    Raises
    ------
    UsageError
        If the file is missing, a folder, empty, no sound, truncated, of 0 or more than 2 channels; while iterating, if
        samples are NaN, Inf or beyond `LOUDEST` or the file breaks off.
    """

    def __init__(self, path: str | os.PathLike[str], samplerate: int | None = None, block: int = BLOCK_FRAMES) -> None:
        self.path = Path(path)
        self._decoder = _open(self.path)
        self.native_rate, self.channels = self._decoder.samplerate, self._decoder.channels
        self.samplerate = samplerate or self.native_rate
        self._block = block
        try:
            self._check()
        except UsageError:
            self.close()
            raise
        self.frames = round(self._decoder.frames * self.samplerate / self.native_rate)

    def _check(self) -> None:
        if self.channels not in (1, 2):
            raise UsageError(
                f"{self.path} has {self.channels} channels: 1 (mono) or 2 (stereo) are possible, extract two first"
            )
        if not _RATES[0] <= self.native_rate <= _RATES[1]:
            raise UsageError(f"{self.path} has {self.native_rate} Hz: {_RATES[0]} to {_RATES[1]} Hz are possible")
        if self._decoder.frames == 0 and self._decoder.exact:
            raise UsageError(f"{self.path} holds no sound: 0 frames")
        check_ratio(self.samplerate / self.native_rate)

    def check_samples(self) -> None:
        """Go through the file once, where samples can be NaN or Inf, so that they are found before the first sound.

        UsageError as while iterating. Costs some 0.1 s per 10 minutes of stereo.
        """
        if self._decoder.float_samples:
            for _ in self.native_blocks():
                pass
            self._decoder.rewind()

    def native_blocks(self) -> Iterator[NDArray[np.float32]]:
        """Blocks of shape (<= block, channels) at the file's own rate [one thread]."""
        done = 0
        while len(block := self._decoder.read(self._block)):
            if not (np.abs(block) <= LOUDEST).all():
                bad = ~(np.abs(block) <= LOUDEST).all(axis=1)
                at = (done + int(bad.argmax())) / self.native_rate
                raise UsageError(
                    f"{self.path} holds samples that are no numbers (NaN or Inf) or beyond {LOUDEST:g}, the first at "
                    f"{at:.3f} s: repair it"
                )
            done += len(block)
            yield block
        if done < self._decoder.frames and self._decoder.exact:
            promised, found = self._decoder.frames / self.native_rate, done / self.native_rate
            raise UsageError(f"{self.path} is truncated: {promised:.2f} s are promised, {found:.2f} s can be read")
        if done == 0:
            raise UsageError(f"{self.path} holds no sound: 0 frames")

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        for block in convert(self.native_blocks(), self.channels, self.native_rate, self.samplerate):
            yield np.ascontiguousarray(block.T)

    def close(self) -> None:
        """Release the file; harmless when already closed."""
        self._decoder.close()

    def __enter__(self) -> SoundReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_blocks(path: str | os.PathLike[str], samplerate: int | None = None, block: int = BLOCK_FRAMES) -> SoundReader:
    """Open a sound file for ``for block in read_blocks(path)``; see `SoundReader`."""
    return SoundReader(path, samplerate, block)


def _open(path: Path) -> Decoder:
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a sound file in it")
    if not path.exists():
        raise UsageError(f"{path} does not exist: {_neighbours(path)}")
    if not path.is_file():
        raise UsageError(f"{path} is no file: a pipe is read from standard input (`-`), a device by its name")
    try:
        with path.open("rb") as file:
            start = file.read(4096)
            if not start:
                raise UsageError(f"{path} is empty: 0 bytes")
            if start[:4] in (b"RIFF", b"RF64") and start[8:12] == b"WAVE":
                _check_length(path, file)
            promised, there = promised_bytes(start), os.fstat(file.fileno()).st_size
            if there < promised - 1:  # a byte that fills up the last chunk may be missing
                raise UsageError(f"{path} is truncated: {promised} bytes are promised, {there} are there")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    try:
        found = Sndfile(path)
    except soundfile.LibsndfileError as error:
        return _open_with_ffmpeg(path, start, str(error.error_string).rstrip("."))
    if found.frames < UNKNOWN_FRAMES:
        return found
    found.close()  # such as FLAC that was written to a pipe
    return _open_with_ffmpeg(path, start, "its header does not say how long it is")


def _check_length(path: Path, file: BinaryIO) -> None:
    """Compare the promised length with the file: libsndfile takes a truncated WAV for a shorter one."""
    file.seek(0)
    try:
        header = read_header(file.read, str(path))
    except UsageError as error:
        if "ends within" in str(error):
            raise
        return  # an encoding that libsndfile may know
    if header.format.channels == 0:
        raise UsageError(f"{path} has 0 channels: 1 (mono) or 2 (stereo) are possible")
    there = os.fstat(file.fileno()).st_size - header.offset
    if header.data_bytes > there:
        rate = max(1, header.format.samplerate * header.format.frame_bytes)
        promised, found = header.data_bytes / rate, there / rate
        raise UsageError(f"{path} is truncated: {promised:.2f} s are promised, {found:.2f} s are there")


def promised_bytes(start: bytes) -> int:
    """Length in bytes that an AIFF, Wave64, AU or CAF file promises itself, from its first 4096; 0: it does not.

    libsndfile takes a truncated one for a shorter one.
    """
    kind = start[:4]
    if kind == b"FORM" and start[8:12] in (b"AIFF", b"AIFC"):
        size = int.from_bytes(start[4:8], "big")
        return size + 8 if size < STREAM_BYTES else 0
    if kind == b"riff" and len(start) >= 24:
        size = int.from_bytes(start[16:24], "little", signed=True)
        return max(0, size)
    if kind == b".snd" and len(start) >= 12:
        offset, size = struct.unpack_from(">II", start, 4)
        return offset + size if size < STREAM_BYTES else 0
    if kind == b"caff":
        place = 8
        while place + 12 <= len(start):
            name, size = struct.unpack_from(">4sq", start, place)
            if size < 0:  # "to the end of the file"
                return 0
            place += 12 + size
            if name == b"data":
                return int(place)
    return 0


def _open_with_ffmpeg(path: Path, start: bytes, reason: str) -> Decoder:
    what = "text was found" if _is_text(start) else reason.lower()
    if not shutil.which("ffmpeg"):
        raise UsageError(
            f"{path} is no sound file that libsndfile reads ({what}); with ffmpeg installed, more kinds are possible"
        )
    try:
        return Ffmpeg(path)
    except UsageError as error:
        raise UsageError(f"{path} is no sound file: {what}; ffmpeg says: {error}") from error


def _is_text(start: bytes) -> bool:
    return bool(start) and all(byte >= 32 or byte in b"\t\n\r\f" for byte in start)


def _neighbours(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    names = sorted(entry.name for entry in path.parent.iterdir() if entry.suffix.lower().lstrip(".") in SUFFIXES)
    more = ", ..." if len(names) > 5 else ""
    return f"sound files there: {', '.join(names[:5])}{more}" if names else "there is no sound file in that folder"

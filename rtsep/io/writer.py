"""Write a sound file: under a `.part` name beside its place, renamed when whole, nothing overwritten unless asked."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from rtsep.errors import RtsepError, UsageError, nearest
from rtsep.io.wav import WavWriter

#: Suffix: libsndfile's container and encoding. WAV is float32, so that nothing is clipped; FLAC and AIFF have 24 bits.
FORMATS: dict[str, tuple[str, str]] = {
    "wav": ("WAV", "FLOAT"),
    "flac": ("FLAC", "PCM_24"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "aiff": ("AIFF", "PCM_24"),
}


class SoundWriter:
    """One sound file that grows block by block [one thread].

    Parameters
    ----------
    path : path
        Where the file shall be; the suffix chooses the format (`FORMATS`).
    samplerate, channels : int
        Of the sound.
    overwrite : bool
        Whether a file that exists is replaced (at `close`, not before).

    Attributes
    ----------
    frames, clipped : int
        Frames written; samples above full scale, which a format of whole numbers has cut.

    Raises
    ------
    UsageError
        Unknown suffix, file exists, folder missing or not writable, rate that the format does not know.
    """

    def __init__(self, path: str | os.PathLike[str], samplerate: int, channels: int, overwrite: bool = False) -> None:
        self.path = Path(path)
        self.part = self.path.with_name(self.path.name + ".part")
        self._overwrite = overwrite
        self._samplerate = samplerate
        self.frames = self.clipped = 0
        self._bounded = FORMATS.get(self.path.suffix.lower().lstrip("."), ("", ""))[1].startswith("PCM")
        check_target(self.path, overwrite)
        try:
            self._file = _Guarded(self.part.open("w+b" if overwrite else "x+b"))
        except FileExistsError:
            raise UsageError(
                f"{self.part} is left from another run, or that still goes on: delete it, or add --overwrite"
            ) from None
        except OSError as error:
            raise UsageError(f"{self.path} cannot be written: {error.strerror}") from error
        try:
            self._encoder = _encoder(self.path, self._file, samplerate, channels)
        except (soundfile.LibsndfileError, OSError) as error:
            self._delete()
            why = error.strerror if isinstance(error, OSError) else error.error_string
            raise UsageError(
                f"{self.path} cannot be written with {samplerate} Hz, {channels} channels: {why}"
            ) from error

    def write(self, block: NDArray[np.float32]) -> None:
        """Append a block of shape (channels, frames); `RtsepError` if the disk is full or gone."""
        try:
            self._encoder.write(np.ascontiguousarray(block.T))
        except (OSError, RuntimeError, AssertionError) as error:  # the last two: how soundfile reports a short write
            raise self._failure(error) from error
        if self._file.error:
            raise self._failure(self._file.error)
        self.frames += block.shape[1]
        if self._bounded:
            self.clipped += int(np.count_nonzero(np.abs(block) > 1.0))

    def close(self) -> None:
        """Finish the file and give it its name; `RtsepError` if that fails."""
        if self._file.closed:
            return
        try:
            self._encoder.close()
            if self._file.error:
                raise self._failure(self._file.error)
            self._file.close()
        except (OSError, RuntimeError) as error:
            raise self._failure(error) from error
        if self.path.exists() and not self._overwrite:
            raise UsageError(f"{self.path} has appeared meanwhile: the sound is in {self.part}")
        os.replace(self.part, self.path)

    def keep_part(self) -> None:
        """Close what there is so that it plays, under its `.part` name; for a disk that is full."""
        if not self._file.closed:
            # Where this fails, the header keeps "length unknown", which plays too.
            with contextlib.suppress(OSError, RuntimeError):
                self._encoder.close()
            with contextlib.suppress(OSError):
                self._file.close()

    def abort(self) -> None:
        """Delete what was written; harmless after `close`."""
        if not self._file.closed:
            self._file.silent = True
            with contextlib.suppress(OSError, RuntimeError):  # first the encoder: libsndfile writes when it is closed
                self._encoder.close()
            self._delete()

    def _delete(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        self.part.unlink(missing_ok=True)

    def _failure(self, error: BaseException) -> RtsepError:
        cause = self._file.error or error
        if isinstance(cause, KeyboardInterrupt):
            raise cause
        why = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause) or "short write"
        return RtsepError(f"{self.path} cannot be written on after {self.frames / self._samplerate:.1f} s: {why}")

    def __enter__(self) -> SoundWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def check_target(path: Path, overwrite: bool) -> None:
    """UsageError if `path` cannot become a sound file: suffix, existing file, folder [main thread]."""
    suffix = path.suffix.lower().lstrip(".")
    if suffix not in FORMATS:
        raise UsageError(f"{path} has no suffix of a sound file that can be written: {nearest(suffix, FORMATS)}")
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"{path} cannot be written: there is no folder {path.parent}")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists: choose another name, or add --overwrite")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{path} cannot be written: the folder {path.parent} is not writable")


class _Encoder(Protocol):
    def write(self, block: NDArray[np.float32]) -> Any: ...

    def close(self) -> None: ...


def _encoder(path: Path, file: _Guarded, samplerate: int, channels: int) -> _Encoder:
    container, encoding = FORMATS[path.suffix.lower().lstrip(".")]
    if container == "WAV":
        return WavWriter(file, samplerate, channels)  # type: ignore[arg-type]
    file.silent = True
    return soundfile.SoundFile(file, "w", samplerate, channels, encoding, format=container)


class _Guarded:
    """A file whose failures survive the way through libsndfile, which knows only "short write".

    `silent`: nothing is raised, only kept in `error`. What is raised in a call from C is printed, and lost.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | KeyboardInterrupt | None = None
        self.silent = False

    def _guard(self, action: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return action(*arguments)
        except (OSError, KeyboardInterrupt) as error:
            self.error = self.error or error
            if self.silent:
                return 0
            raise

    def write(self, data: bytes) -> int:
        return self._guard(self._file.write, data)  # type: ignore[no-any-return]

    def flush(self) -> None:
        self._guard(self._file.flush)

    def seek(self, place: int, whence: int = 0) -> int:
        return self._guard(self._file.seek, place, whence)  # type: ignore[no-any-return]  # it flushes, too

    def tell(self) -> int:
        return self._guard(self._file.tell)  # type: ignore[no-any-return]

    def read(self, count: int = -1) -> bytes:
        return self._file.read(count)

    def readinto(self, target: Any) -> int:
        return self._file.readinto(target)  # type: ignore[attr-defined, no-any-return]

    @property
    def closed(self) -> bool:
        return self._file.closed

    def close(self) -> None:
        self._file.close()

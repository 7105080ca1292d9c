"""Files as source and sink of the engine."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rtsep.dsp.ring import Ring
from rtsep.io.base import Sink
from rtsep.io.drain import Drain
from rtsep.io.feed import FeedSource
from rtsep.io.reader import SoundReader, read_blocks
from rtsep.io.writer import SoundWriter

__all__ = ["FileSink", "FileSource", "SoundReader", "SoundWriter", "read_blocks"]


class FileSource(FeedSource):
    """A sound file, played once.

    Parameters
    ----------
    path : path
        Any file that libsndfile or an installed ffmpeg reads; see `SoundReader` for what is refused.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._path = path
        self._reader: SoundReader | None = None
        self._native_frames = self._frames = 0

    def open(self) -> None:
        """Open and check, samples included where they are floats; `UsageError` if it cannot be played [main thread]."""
        reader = SoundReader(self._path)
        try:
            reader.check_samples()
        except BaseException:
            reader.close()
            raise
        self._reader = reader
        self.samplerate, self.channels = reader.native_rate, reader.channels
        self._native_frames = self._frames = reader.frames

    def start(self, ring: Ring, samplerate: int) -> None:
        """See `Source.start` [main thread]."""
        self._frames = round(self._native_frames * samplerate / self.samplerate)
        super().start(ring, samplerate)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Blocks of the file."""
        assert self._reader is not None
        return self._reader.native_blocks()

    def close(self) -> None:
        """Release the file."""
        if self._reader:
            self._reader.close()

    @property
    def total_frames(self) -> int:
        """Length at the rate given to `start`; 0 if the file does not say it [any thread]."""
        return self._frames


class FileSink(Drain, Sink):
    """A sound file that takes what is played.

    Parameters
    ----------
    path : path
        The suffix chooses the format: WAV is float32 (RF64 beyond 4 GB), FLAC and AIFF 24 bits, also OGG, Opus, MP3.
    overwrite : bool
        Whether a file that exists is replaced.
    """

    def __init__(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        super().__init__()
        self._path = path
        self._overwrite = overwrite
        self._writer: SoundWriter | None = None

    def open(self, samplerate: int, channels: int) -> None:
        """Create the file under its `.part` name; `UsageError` if that cannot be [main thread]."""
        self.samplerate = samplerate
        self._writer = SoundWriter(self._path, samplerate, channels, self._overwrite)

    def write(self, block: NDArray[np.float32]) -> None:
        """Append a block of shape (frames, channels)."""
        assert self._writer is not None
        self._writer.write(block.T)

    def close(self, failed: bool) -> None:
        """Finish the file; after a failure it keeps its `.part` name."""
        assert self._writer is not None
        if failed:
            self._writer.keep_part()
        else:
            self._writer.close()

    def discard(self) -> None:
        """Delete the file that was begun."""
        if self._writer:
            self._writer.abort()

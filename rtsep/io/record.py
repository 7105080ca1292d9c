"""Recording: mixture, vocals, accompaniment and its stems into files, without ever holding up the sound."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtsep.dsp.ring import Ring
from rtsep.errors import RtsepError, UsageError
from rtsep.io.drain import Drain
from rtsep.io.folders import made_folder
from rtsep.io.writer import SoundWriter

#: Files of every recording, in the order of the channels of its ring.
FILES = ("mixture", "vocals", "accompaniment")


class Recorder(Drain):
    """Writes what the worker puts into a ring of interleaved channels, those of one file after those of another.

    The worker never waits: it drops (and counts) what finds no room. A full disk ends the recording, not the sound:
    `error` says so, and the sound until then stays, playable, in files with the suffix ``.part``.

    Parameters
    ----------
    folder : path
        Is made if missing; gets ``mixture``, ``vocals``, ``accompaniment`` and `parts` with the suffix of the format.
    samplerate, channels : int
        Of the engine.
    file_format : str
        A suffix of `rtsep.io.writer.FORMATS`: ``wav`` (float32, RF64 beyond 4 GB), ``flac`` (24 bits)...
    overwrite : bool
        Whether files that exist are replaced.
    parts : sequence of str
        Names of further files: the stems of the accompaniment and the rest of it.

    Raises
    ------
    UsageError
        If the folder or a file in it cannot be made, or a file exists.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        samplerate: int,
        channels: int,
        file_format: str = "wav",
        overwrite: bool = False,
        parts: Sequence[str] = (),
    ) -> None:
        super().__init__(longest_nap_s=0.1)
        self.samplerate = samplerate
        self.frames = 0
        self._channels = channels
        self._names = (*FILES, *parts)
        self._folder = Path(folder)
        self._undo = contextlib.ExitStack()
        self._undo.enter_context(made_folder(self._folder))
        self._writers: list[SoundWriter] = []
        try:
            for name in self._names:
                path = self._folder / f"{name}.{file_format}"
                self._writers.append(SoundWriter(path, samplerate, channels, overwrite))
        except UsageError:
            self.discard()
            raise

    @property
    def paths(self) -> list[Path]:
        """Files as they are called after `stop`, in the order of the channels [any thread]."""
        return [writer.part if self.error else writer.path for writer in self._writers]

    @property
    def clipped(self) -> int:
        """Samples above full scale that the format has cut; whole numbers only, float32 keeps them [any thread]."""
        return sum(writer.clipped for writer in self._writers)

    def start(self, ring: Ring) -> None:
        """Begin to drain `ring` of so many channels for each file: those of `FILES`, then the parts [main thread]."""
        if ring.channels != len(self._names) * self._channels:
            raise ValueError(f"a ring of {len(self._names) * self._channels} channels is wanted, got {ring.channels}")
        super().start(ring)

    def write(self, block: NDArray[np.float32]) -> None:
        """Append a block of shape (frames, channels of the ring) [drain thread]."""
        for k, writer in enumerate(self._writers):
            try:
                writer.write(block[:, k * self._channels : (k + 1) * self._channels].T)
            except RtsepError as error:
                raise RtsepError(f"{error}; what came before is in {self._folder} with the suffix .part") from error
        self.frames += len(block)

    def close(self, failed: bool) -> None:
        """Finish the files; after a failure they keep their ``.part`` names [drain thread]."""
        for writer in self._writers:
            if failed:
                writer.keep_part()
            else:
                writer.close()
        self._undo.close()

    def discard(self) -> None:
        """Delete files that were begun, without sound, and the folders that were made for them [any thread]."""
        for writer in self._writers:
            writer.abort()
        self._undo.close()

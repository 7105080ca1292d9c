"""Recording: mixture, vocals and accompaniment into three files, without ever holding up the sound."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtsep.dsp.ring import Ring
from rtsep.errors import RtsepError, UsageError
from rtsep.io.drain import Drain
from rtsep.io.folders import made_folder
from rtsep.io.writer import SoundWriter

#: Files of a recording, in the order of the channels of its ring.
STEMS = ("mixture", "vocals", "accompaniment")


class Recorder(Drain):
    """Writes what the worker puts into a ring of ``3 * channels`` interleaved channels.

    The worker never waits: it drops (and counts) what finds no room. A full disk ends the recording, not the sound:
    `error` says so, and the sound until then stays, playable, in files with the suffix ``.part``.

    Parameters
    ----------
    folder : path
        Is made if missing; gets ``mixture``, ``vocals`` and ``accompaniment`` with the suffix of the format.
    samplerate, channels : int
        Of the engine.
    file_format : str
        A suffix of `rtsep.io.writer.FORMATS`: ``wav`` (float32, RF64 beyond 4 GB), ``flac`` (24 bits)...
    overwrite : bool
        Whether files that exist are replaced.

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
    ) -> None:
        super().__init__(longest_nap_s=0.1)
        self.samplerate = samplerate
        self.frames = 0
        self._channels = channels
        self._folder = Path(folder)
        self._undo = contextlib.ExitStack()
        self._undo.enter_context(made_folder(self._folder))
        self._writers: list[SoundWriter] = []
        try:
            for stem in STEMS:
                path = self._folder / f"{stem}.{file_format}"
                self._writers.append(SoundWriter(path, samplerate, channels, overwrite))
        except UsageError:
            self.discard()
            raise

    @property
    def paths(self) -> list[Path]:
        """Files as they are called after `stop`, in the order of `STEMS` [any thread]."""
        return [writer.part if self.error else writer.path for writer in self._writers]

    def start(self, ring: Ring) -> None:
        """Begin to drain `ring` of ``3 * channels`` channels: those of `STEMS` one after the other [main thread]."""
        if ring.channels != len(STEMS) * self._channels:
            raise ValueError(f"a ring of {len(STEMS) * self._channels} channels is wanted, got {ring.channels}")
        super().start(ring)

    def write(self, block: NDArray[np.float32]) -> None:
        """Append a block of shape (frames, 3 * channels) [drain thread]."""
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

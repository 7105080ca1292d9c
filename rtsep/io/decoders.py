"""The two decoders behind `rtsep.io.reader`: libsndfile, and an ffmpeg process."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from rtsep.errors import UsageError
from rtsep.io.wav import read_header


class Decoder(Protocol):
    """An open file.

    Attributes
    ----------
    samplerate, channels : int
        Of the file.
    frames : int
        Length; 0 if unknown.
    exact : bool
        Whether `frames` is the true length, so that less means truncation.
    float_samples : bool
        Whether samples may be NaN or Inf.
    """

    samplerate: int
    channels: int
    frames: int
    exact: bool
    float_samples: bool

    def read(self, frames: int) -> NDArray[np.float32]:
        """Next frames, shape (<= frames, channels); empty at the end."""
        ...

    def rewind(self) -> None:
        """Go back to the first frame; only where `exact`."""
        ...

    def close(self) -> None:
        """Release it; harmless when already closed."""
        ...


#: From here on, libsndfile's number of frames means that the file does not say it; then it cannot seek either.
UNKNOWN_FRAMES = 1 << 62
#: ffprobe's length is near enough to tell a file that breaks off by so much, where ffmpeg complains as well.
_BROKEN_OFF_S = 0.5


class Sndfile:
    """A file that libsndfile reads; `soundfile.LibsndfileError` if it does not."""

    exact = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = soundfile.SoundFile(os.fsencode(path))  # a name need not be UTF-8
        self.samplerate, self.channels, self.frames = self._file.samplerate, self._file.channels, self._file.frames
        self.float_samples = self._file.subtype in ("FLOAT", "DOUBLE")

    def read(self, frames: int) -> NDArray[np.float32]:
        try:
            return self._file.read(frames, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            at = self._file.tell() / self.samplerate
            raise UsageError(f"{self._path} is damaged near {at:.2f} s: {error.error_string}") from error

    def rewind(self) -> None:
        self._file.seek(0)

    def close(self) -> None:
        self._file.close()


class Ffmpeg:
    """A file decoded by an ffmpeg process into a WAV stream; `UsageError` with ffmpeg's words if it cannot."""

    exact = False
    float_samples = False  # ffmpeg's decoders do not make NaN

    def __init__(self, path: Path) -> None:
        # The prefix keeps a name with a colon from being a protocol, the white list a play list from fetching others.
        source = ["-protocol_whitelist", "file", "-i", f"file:{path.absolute()}"]
        command = ["ffmpeg", "-nostdin", "-v", "error", *source, "-map", "0:a:0", "-f", "wav", "-c:a", "pcm_f32le", "-"]
        self._path = path
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - not a pipe: a full one would stop ffmpeg
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._errors)
        assert self._process.stdout is not None
        self._pipe = self._process.stdout
        try:
            self._format = read_header(self._pipe.read, str(path)).format
        except UsageError:
            complaint = self._complaint()
            self.close()
            raise UsageError(complaint or "it gives no sound") from None
        self.samplerate, self.channels = self._format.samplerate, self._format.channels
        self.frames = self._duration_frames()
        self._done = 0

    def _complaint(self) -> str:
        """Last line of what ffmpeg wrote, after its end."""
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1].replace(f"file:{self._path.absolute()}: ", "") if lines else ""

    def _duration_frames(self) -> int:
        """Length as ffprobe gives it, for progress bars; near enough, not exact."""
        if not shutil.which("ffprobe"):
            return 0
        command = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "default=nw=1:nk=1"]
        answer = subprocess.run(
            [*command, f"file:{self._path.absolute()}"], capture_output=True, text=True, check=False
        )
        try:
            return round(float(answer.stdout.strip()) * self.samplerate)
        except ValueError:
            return 0

    def read(self, frames: int) -> NDArray[np.float32]:
        data = self._pipe.read(frames * self._format.frame_bytes)
        if not data:
            self._check_end()
        block = self._format.decode(data[: len(data) - len(data) % self._format.frame_bytes])
        self._done += len(block)
        return block

    def _check_end(self) -> None:
        complaint = self._complaint()
        if self._process.returncode:
            raise UsageError(f"{self._path} is damaged; ffmpeg says: {complaint or self._process.returncode}")
        if complaint and self._done < self.frames - _BROKEN_OFF_S * self.samplerate:
            promised, found = self.frames / self.samplerate, self._done / self.samplerate
            raise UsageError(f"{self._path} is truncated: {promised:.2f} s are promised, {found:.2f} s can be read")

    def rewind(self) -> None:
        raise NotImplementedError("a pipe has no way back")

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._pipe.close()
        self._errors.close()

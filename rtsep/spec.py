"""The frozen description of one stream of sound through the chain."""

from __future__ import annotations

from dataclasses import dataclass

from rtsep.errors import UsageError

#: Hop in frames of each profile.
PROFILES: dict[str, int] = {"live": 256, "monitor": 128, "karaoke": 512}

#: Length of the analysis window in frames.
WINDOW = 2048

#: Largest sample, in full scales, that is sound: what is beyond it, as NaN, is a fault of whoever gave it.
LOUDEST = 1e6


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """What a separator and the chain need to know of a stream.

    Parameters
    ----------
    samplerate : int
        Frames per second of the engine (not of the device), in Hz.
    channels : int
        1 or 2.
    hop : int
        Step between two spectra, in frames; a power of two from 16 to 1024.
    window : int
        Length of the analysis window, in frames; a power of two, at least ``2 * hop``.

    Raises
    ------
    UsageError
        If a value lies outside its range.
    """

    samplerate: int
    channels: int
    hop: int = PROFILES["live"]
    window: int = WINDOW

    def __post_init__(self) -> None:
        if not 8000 <= self.samplerate <= 192000:
            raise UsageError(f"samplerate {self.samplerate} Hz is not possible: 8000 to 192000 Hz are")
        if self.channels not in (1, 2):
            raise UsageError(f"{self.channels} channels are not possible: 1 (mono) or 2 (stereo) are")
        if self.hop not in (16, 32, 64, 128, 256, 512, 1024):
            raise UsageError(f"hop {self.hop} is not possible: a power of two from 16 to 1024 frames is")
        if self.window < 2 * self.hop or self.window & (self.window - 1):
            raise UsageError(
                f"window {self.window} is not possible: a power of two of at least 2 x hop ({2 * self.hop}) is"
            )

    @property
    def bins(self) -> int:
        """Number of bins of a spectrum: ``window // 2 + 1``."""
        return self.window // 2 + 1

    @property
    def bin_hz(self) -> float:
        """Distance between two bins in Hz."""
        return self.samplerate / self.window

    @property
    def hop_ms(self) -> float:
        """Duration of a hop in milliseconds."""
        return 1000.0 * self.hop / self.samplerate

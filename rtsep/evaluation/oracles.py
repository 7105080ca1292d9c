"""The ceilings: masks from the true parts, through the very filterbank and chain that the separators use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtsep.dsp.stft import Stft
from rtsep.separators.base import Mask, Separator, Spectrum
from rtsep.spec import StreamSpec

KINDS = {"ibm": "IBM", "irm": "IRM"}


class Oracle(Separator):
    """A separator that knows the truth, for one song.

    Parameters
    ----------
    kind : {"ibm", "irm"}
        Ideal binary mask, ``|V| > |A|``, or ideal ratio mask of powers, ``|V|^2 / (|V|^2 + |A|^2)``; each channel by
        itself, 0 where both are silent.
    vocals, accompaniment : ndarray of float32, shape (channels, frames)
        The true parts at the rate of the stream.
    rates : tuple of int
        Engine rates in Hz of the separators that it stands beside; empty for any.
    """

    name = "oracle"
    summary = "masks from the true parts"

    def __init__(
        self, kind: str, vocals: NDArray[np.float32], accompaniment: NDArray[np.float32], rates: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        self._binary = kind == "ibm"
        self._rates = rates
        self.give(vocals, accompaniment)

    def give(self, vocals: NDArray[np.float32], accompaniment: NDArray[np.float32]) -> None:
        """Take other true parts [main thread, before `prepare`]."""
        self._parts = np.stack([vocals, accompaniment])

    def supported_samplerates(self) -> tuple[int, ...]:
        return self._rates

    def prepare(self, spec: StreamSpec) -> None:
        """Make a filterbank for each part [main thread]."""
        self._spec = spec
        self._stfts = [Stft(spec), Stft(spec)]
        self._spectra = np.zeros((2, spec.channels, spec.bins), np.complex64)
        self._block = np.zeros((spec.channels, spec.hop), np.float32)
        self._start = 0

    def process(self, spectrum: Spectrum, mask: Mask) -> None:
        """Take the next hop of the parts, which is that of `spectrum`."""
        hop = self._spec.hop
        for sound, stft, bins in zip(self._parts, self._stfts, self._spectra, strict=True):
            piece = sound[:, self._start : self._start + hop]
            self._block.fill(0)
            self._block[:, : piece.shape[1]] = piece
            stft.analyse(self._block, bins)
        self._start += hop
        voice, music = np.abs(self._spectra) ** 2
        if self._binary:
            mask[:] = voice > music
        else:
            mask[:] = voice / np.maximum(voice + music, np.finfo(np.float32).tiny)

    def reset(self) -> None:
        """Begin anew."""
        self._start = 0
        for stft in self._stfts:
            stft.reset()

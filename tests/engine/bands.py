"""A separator with stems whose masks are known: bands of frequency."""

from __future__ import annotations

import numpy as np

from rtsep.separators.base import Mask, Separator, Spectrum
from rtsep.spec import StreamSpec

#: Lowest and highest frequency of each part, in Hz; the rest of the music is what lies elsewhere.
BANDS = {"vocals": (1000.0, 4000.0), "drums": (3000.0, 30000.0), "bass": (0.0, 500.0)}


class Bands(Separator):
    """Vocals are a band, in full; drums and bass what the vocals leave of theirs.

    Parameters
    ----------
    vocals : str
        Which of `BANDS` the vocals are.
    stems : tuple of str
        Which of the others it tells apart.
    mask_kind : str
        As of any separator; the rows of middle and side are alike, imaginary parts are zero.
    """

    name = "bands"
    summary = "known masks"

    def __init__(
        self, vocals: str = "vocals", stems: tuple[str, ...] = ("drums", "bass"), mask_kind: str = "channels"
    ) -> None:
        super().__init__()
        self.vocals, self.stems, self.mask_kind = vocals, stems, mask_kind

    def prepare(self, spec: StreamSpec) -> None:
        hz = np.fft.rfftfreq(spec.window, 1.0 / spec.samplerate)
        bands = {name: np.float32((hz >= low) & (hz < high)) for name, (low, high) in BANDS.items()}
        rest = 1.0 - bands["vocals"]
        shares = {"vocals": bands["vocals"], "drums": rest * bands["drums"], "bass": rest * bands["bass"]}
        rows = np.stack([shares[name] for name in (self.vocals, *self.stems)])[:, None]
        rows = np.repeat(rows, spec.channels, axis=1)
        if self.mask_kind == "complex":
            rows = np.concatenate([rows, np.zeros_like(rows)], axis=1)
        self.mask = rows.reshape(-1, spec.bins)

    def process(self, spectrum: Spectrum, mask: Mask) -> None:
        mask[:] = self.mask

    def reset(self) -> None:
        pass

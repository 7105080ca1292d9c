"""What a net of the live family hears while it learns: the first batches as WAV and as spectrograms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from rtsep.training.data.augment import STREAM_RATE, WINDOW, Floats
from rtsep.training.data.stereo import StereoMixer

BATCHES = 2


def write_preview(mixer: StereoMixer, folder: Path, say: Callable[[str], None], batches: int = BATCHES) -> None:
    """Write every row of the first batches: ``SS_R_mixture.wav``, its vocals and its accompaniment, and a PNG of each.

    Parameters
    ----------
    mixer : StereoMixer
        That the training will use.
    folder : Path
        Made if it is not there; earlier previews are replaced.
    say : callable
        Told if there are no spectrograms because matplotlib is missing.
    batches : int
    """
    folder.mkdir(parents=True, exist_ok=True)
    draw = _drawing(say)
    for step in range(batches):
        for row, (mixture, vocals) in enumerate(mixer.sounds(step)):
            for part, sound in (("mixture", mixture), ("vocals", vocals), ("accompaniment", mixture - vocals)):
                path = folder / f"{step:02d}_{row}_{part}.wav"
                soundfile.write(path, sound.T, int(STREAM_RATE), subtype="FLOAT")
                if draw is not None:
                    draw(sound, path.with_suffix(".png"))


def _drawing(say: Callable[[str], None]) -> Callable[[Floats, Path], None] | None:
    """`_spectrogram`, or nothing where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        say("matplotlib is not installed: the preview has no spectrograms (pip install 'rtsep[eval]')")
        return None
    return _spectrogram


def _spectrogram(sound: Floats, path: Path) -> None:
    """Levels of left and right (2, samples) over time and frequency, dB under the loudest."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots(2, 1, sharex=True)
    extent = (0, sound.shape[1] / STREAM_RATE, 0, STREAM_RATE / 2000)
    frames = np.lib.stride_tricks.sliding_window_view(sound, WINDOW, axis=1)[:, :: WINDOW // 4]
    levels = 20 * np.log10(np.abs(np.fft.rfft(frames * np.hanning(WINDOW))) / (WINDOW / 4) + 1e-6)
    levels -= levels.max()
    for side, axis, level in zip(("left", "right"), axes, levels, strict=True):
        image = axis.imshow(level.T, origin="lower", aspect="auto", extent=extent, vmin=-80, vmax=0)
        axis.set(title=side, ylabel="kHz")
    axes[1].set(xlabel="s")
    figure.colorbar(image, ax=axes, label="dB")
    figure.savefig(path, dpi=80)

"""What the nets are trained on. Mostly |X|, |V| and Re(V X*), all that a real mask can change in a spectrum."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from rtsep.training.data.augment import WINDOW

FLOOR = 3e-3  # of a relative error: -25 dB


def binary_mask(logits: Tensor, binary: Tensor, bins: Tensor) -> Tensor:
    """The loss of the source: mean squared error to the binary mask, over the bins that have content.

    Shapes: logits and binary (B, T, F), bins (B, F).
    """
    error = (torch.sigmoid(logits) - binary).square()
    return (error.mean(1) * bins).sum() / bins.sum()


def magnitude(outputs: Tensor, voice: Tensor, bins: Tensor) -> Tensor:
    """Mean squared error to the magnitudes of the vocals, which the source says fails.

    Shapes: outputs and voice (B, T, F), over the running level both; bins (B, F).
    """
    return ((outputs - voice).square().mean(1) * bins).sum() / bins.sum()


def soft_mask(logits: Tensor, magnitude: Tensor, ratio: Tensor, voice: Tensor, bins: Tensor) -> Tensor:
    """Closed form of the signal error of a real mask m, in logarithm, and a squared error to the best mask.

    The energy of ``m X - V`` is ``m^2 |X|^2 - 2 m Re(V X*) + |V|^2``; its logarithm per sequence is the distortion
    ratio but for constants. Alone it leaves quiet cells to chance, so a squared error weighted by ``|X|^0.5``
    to the phase-sensitive mask (`ratio` clipped to 0..1) goes beside it. Shapes: (B, T, F), bins (B, F).
    """
    mask = torch.sigmoid(logits)
    power = magnitude.square()
    error = mask.square() * power - 2 * mask * ratio * power + voice.square()
    valid = bins[:, None]
    total = (power * valid).sum((1, 2)) + 1e-9
    relative = (error * valid).sum((1, 2)).clamp_min(0) / total
    return _with_masks(relative, mask, ratio, magnitude.sqrt() * valid)


def field_mask(logits: Tensor, field: Tensor, cross: Tensor, voice: Tensor, bins: Tensor) -> Tensor:
    """`soft_mask` for masks of middle and side: one signal error for both.

    Shapes: logits and `cross`, which is Re(V X*), (B, T, 2, F); `field` (B, T, 4, F), whose first two rows are |X|;
    `voice` (B), the energy of the vocals in the bins and frames that count; bins (B, F).
    """
    mask = torch.sigmoid(logits)
    valid = bins[:, None, None]
    magnitude = field[:, :, :2] * valid
    power = magnitude.square()
    cross = cross * valid
    error = (mask * (mask * power - 2 * cross)).sum((1, 2, 3)) + voice
    relative = error.clamp_min(0) / (power.sum((1, 2, 3)) + 1e-9)
    return _with_masks(relative, mask, cross / (power + 1e-12), magnitude.sqrt())


def heard(spectra: Tensor, window: Tensor) -> Tensor:
    """What overlap-add plays of frames, before it adds them up: their newest samples through the synthesis window.

    Parameters
    ----------
    spectra : Tensor of complex64, shape (..., F)
        The lowest bins of a transform of `WINDOW` samples; nothing above them.
    window : Tensor, shape (samples,)
        The synthesis window where it is not zero.

    Returns
    -------
    Tensor, shape (..., samples)
    """
    whole = F.pad(spectra, (0, WINDOW // 2 + 1 - spectra.shape[-1]))
    return torch.fft.irfft(whole, n=WINDOW)[..., -len(window) :] * window


def heard_mask(logits: Tensor, sound: Tensor, bins: Tensor, window: Tensor, floor: float = FLOOR) -> Tensor:
    """`field_mask` with the error of what is `heard`, frame by frame.

    A frame is much longer than what is played of it: a mask may do to the rest of it what it likes.

    Parameters
    ----------
    logits : Tensor, shape (B, T, 2, F)
        Of the masks of middle and side.
    sound : Tensor of complex64, shape (B, T, 2, 2, F)
        Spectra of the mixture and of its vocals, each middle and side.
    bins : Tensor, shape (B, F)
        1 where the sources have content.
    window : Tensor
        As for `heard`.
    floor : float
        Added to the relative error before its logarithm: errors far below it count for little.
    """
    mask = torch.sigmoid(logits)
    mixture, vocals = (sound * bins[:, None, None, None]).unbind(2)
    error = heard(mask * mixture - vocals, window).square().sum((1, 2, 3))
    relative = error / (heard(mixture, window).square().sum((1, 2, 3)) + 1e-9)
    magnitude = mixture.abs()
    ratio = (vocals * mixture.conj()).real / (magnitude.square() + 1e-12)
    return _with_masks(relative, mask, ratio, magnitude.sqrt(), floor)


def _with_masks(relative: Tensor, mask: Tensor, ratio: Tensor, weight: Tensor, floor: float = FLOOR) -> Tensor:
    """Logarithm of the relative error (B), and the squared error to the best mask, which is `ratio` clipped to 0..1."""
    axes = tuple(range(1, mask.ndim))
    squared = (weight * (mask - ratio.clamp(0, 1)).square()).sum(axes) / (weight.sum(axes) + 1e-9)
    return (0.5 * torch.log(relative + floor) + 5.0 * squared).mean()


def voice_activity(logits: Tensor, vad: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy of the detector, shapes (B, T); `weight` 0 leaves a frame out."""
    error = F.binary_cross_entropy_with_logits(logits, vad, reduction="none")
    return (error * weight).sum() / (weight.sum() + 1e-9)

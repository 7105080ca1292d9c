"""One hop through the chain, the same compiled code for a live stream and for a file.

    sound -> analyse -> [separator: mask] -> mask x spectrum -> synthesise -> vocals
                                                   delayed sound - vocals -> music (accompaniment)

The music is the exact residual, so vocals + music is the delayed input at any mask. Stems of the music (drums, bass)
are made as the vocals are, by masks of their own, where the separator draws them; what they leave of the music is the
exact residual again. The chain delays by one hop, plus the separator's look-ahead; the worker adds the rest
(`rtsep.engine.latency`).
"""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtsep.dsp.stft import Stft, analyse, shift_in, synthesise
from rtsep.errors import ModelError, RtsepError, one_line
from rtsep.separators.base import Separator
from rtsep.spec import StreamSpec

#: Spectra that may wait for their masks before the oldest are passed over.
BACKLOG = 32


class ChainMemory(NamedTuple):
    """Arrays of a chain, as compiled code takes them."""

    forward_plan: int
    inverse_plan: int
    mid_side: bool  # the rows of a stereo mask are for half the sum and half the difference of left and right
    complex_mask: bool  # the first rows of a mask are real parts, as many after them imaginary parts
    analysis_window: NDArray[np.float32]
    synthesis_window: NDArray[np.float32]
    frame: NDArray[np.float32]
    bins: NDArray[np.complex64]
    recent: NDArray[np.float32]  # (channels, window or more)
    tail: NDArray[np.float32]  # (channels, hop)
    spectra: NDArray[np.complex64]  # (slots, channels, bins)
    masks: NDArray[np.float32]  # (slots, rows, bins); the voice's rows, then as many for each stem
    product: NDArray[np.complex64]  # (channels, bins)
    mixture: NDArray[np.float32]  # (channels, hop), delayed
    vocals: NDArray[np.float32]  # (channels, hop)
    music: NDArray[np.float32]  # (channels, hop)
    stems: NDArray[np.float32]  # (stems, channels, hop), parts of the music
    stem_tails: NDArray[np.float32]  # (stems, channels, hop)
    stems_wanted: NDArray[np.float32]  # (1,), the separator's


@njit(nogil=True, cache=True)
def take(chain, block, index):
    """Take hop number `index` of sound (channels, hop) and leave its spectrum in its slot."""
    shift_in(chain.recent, block)
    slot = index & (chain.spectra.shape[0] - 1)
    analyse(chain.forward_plan, chain.analysis_window, chain.recent, chain.frame, chain.bins, chain.spectra[slot])


@njit(nogil=True, cache=True)
def _part(chain, spectrum, mask, tail, out):
    """One part of the sound by the rows of the mask that are its own, into `out` (channels, hop)."""
    channels = spectrum.shape[0]
    if chain.mid_side and channels == 2:
        half = np.float32(0.5)
        for b in range(spectrum.shape[1]):
            mid = half * mask[0, b] * (spectrum[0, b] + spectrum[1, b])
            side = half * mask[1, b] * (spectrum[0, b] - spectrum[1, b])
            chain.product[0, b] = mid + side
            chain.product[1, b] = mid - side
    elif chain.complex_mask:
        for c in range(channels):
            for b in range(spectrum.shape[1]):
                chain.product[c, b] = np.complex64(complex(mask[c, b], mask[channels + c, b])) * spectrum[c, b]
    else:
        for c in range(channels):
            for b in range(spectrum.shape[1]):
                chain.product[c, b] = mask[c, b] * spectrum[c, b]
    synthesise(chain.inverse_plan, chain.synthesis_window, chain.product, chain.frame, chain.bins, tail, out)


@njit(nogil=True, cache=True)
def give(chain, index, mask_index, lookahead):
    """Split the hop that came `lookahead` hops before hop `index` with mask number `mask_index` into vocals and
    music, and of the music the stems; these are silent while nobody wants them.
    """
    slots = chain.spectra.shape[0]
    spectrum = chain.spectra[(index - lookahead) & (slots - 1)]
    mask = chain.masks[mask_index & (slots - 1)]
    stems = chain.stems.shape[0]
    rows = mask.shape[0] // (1 + stems)
    _part(chain, spectrum, mask[:rows], chain.tail, chain.vocals)
    wanted = chain.stems_wanted[0] != 0
    if not wanted:
        chain.stems[:] = 0.0
        chain.stem_tails[:] = 0.0
    for s in range(stems if wanted else 0):
        own = mask[(1 + s) * rows : (2 + s) * rows]
        _part(chain, spectrum, own, chain.stem_tails[s], chain.stems[s])
    hop = chain.vocals.shape[1]
    start = chain.recent.shape[1] - (lookahead + 2) * hop
    for c in range(spectrum.shape[0]):
        for i in range(hop):
            chain.mixture[c, i] = chain.recent[c, start + i]
            chain.music[c, i] = chain.mixture[c, i] - chain.vocals[c, i]


class Chain:
    """Filterbank and separator for one stream, driven hop by hop.

    The live worker uses `memory` from compiled code; `process` is the same in one call, for files and tests.

    Parameters
    ----------
    separator : Separator
        Prepared here for `spec`.
    spec : StreamSpec
        The stream.

    Raises
    ------
    ModelError
        If the separator fails in its `prepare`.
    """

    def __init__(self, separator: Separator, spec: StreamSpec) -> None:
        try:
            separator.prepare(spec)
        except RtsepError:
            raise
        except Exception as error:  # of another package, which may do anything
            raise ModelError(f"separator {separator.name} cannot be prepared: {one_line(error)}") from error
        separator.stems_wanted[0] = 1.0
        self.separator = separator
        self.spec = spec
        self.lookahead = separator.latency // spec.hop
        slots = 1 << (self.lookahead + BACKLOG - 1).bit_length()
        stft = Stft(spec, history=spec.window + self.lookahead * spec.hop)
        shape, block = (spec.channels, spec.bins), (spec.channels, spec.hop)
        stems = (len(separator.stems), *block)
        self.memory = ChainMemory(
            stft.forward_plan,
            stft.inverse_plan,
            separator.mask_kind == "mid_side",
            separator.mask_kind == "complex",
            stft.analysis_window,
            stft.synthesis_window,
            stft.frame,
            stft.bins,
            stft.recent,
            stft.tail,
            np.zeros((slots, *shape), np.complex64),
            np.zeros((slots, separator.mask_rows(spec.channels), spec.bins), np.float32),
            np.zeros(shape, np.complex64),
            np.zeros(block, np.float32),
            np.zeros(block, np.float32),
            np.zeros(block, np.float32),
            np.zeros(stems, np.float32),
            np.zeros(stems, np.float32),
            separator.stems_wanted,
        )
        self._hops = 0

    @property
    def latency(self) -> int:
        """Delay from `process`'s sound to its vocals and music, in frames."""
        return (1 + self.lookahead) * self.spec.hop

    def process(self, block: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Take one hop of sound (channels, hop) and return vocals and music, `latency` frames late [one thread].

        The arrays returned are overwritten by the next call, as are the stems in ``memory.stems``.
        """
        memory, index = self.memory, self._hops
        take(memory, block, index)
        slot = index & (len(memory.masks) - 1)
        self.separator.process(memory.spectra[slot], memory.masks[slot])
        give(memory, index, index, self.lookahead)
        self._hops += 1
        return memory.vocals, memory.music

    def reset(self) -> None:
        """Forget all sound, in the separator too [stream stopped]."""
        memory: Any = self.memory
        for array in (memory.recent, memory.tail, memory.stem_tails, memory.spectra, memory.masks):
            array.fill(0)
        self.separator.reset()
        self._hops = 0

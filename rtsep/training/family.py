"""Which nets the live family has, and how one training makes all of them.

The nets differ in the window of their hop, in how far they look ahead and in how many blocks they have; what they must
know of voices is the same. So one net learns all of it: each batch as another member of the family has it, through the
window of its hop, with as much of the look-ahead and as many blocks. Each member is cut out of that net afterwards
(`rtsep.training.weights.part`), and has learned from the batches of all (Yu and others, Slimmable neural networks,
2019; Huang and others, Deep networks with stochastic depth, 2016, likewise leave out parts of a net in turns).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from rtsep.training.data.sources import Corpus
from rtsep.training.data.stereo import StereoBatch, StereoMixer
from rtsep.training.nets.live import GRID, LiveConfig

if TYPE_CHECKING:
    from rtsep.training.live import LiveTraining

FAMILY = "family"
PROFILES = {
    "live": LiveConfig(blocks=6),
    "monitor": LiveConfig(hop=128, blocks=4),
    "karaoke": LiveConfig(hop=512, lookahead=6, blocks=8),
}
"""The net of each profile; karaoke: 93 ms in all at 44.1 kHz. The longer the hop, the more blocks it has time for."""
DETECTOR = "detector"
MEMBERS = PROFILES | {
    "live-small": LiveConfig(blocks=2),
    "monitor-small": LiveConfig(hop=128, blocks=2),
    DETECTOR: LiveConfig(hop=512, blocks=2),
}
"""All nets that a training of the family makes; the small ones are for machines that are too slow for the others, the
detector tells koretzky whether anybody sings."""
_LIVE = ("live", "karaoke", "monitor-small", "karaoke", "live", "karaoke", "monitor", "karaoke")
TURNS = (*_LIVE, *_LIVE[:6], DETECTOR, "karaoke")
"""Whose turn it is, from batch to batch; a net that hears what lies ahead has the most to learn."""


def member(net: LiveConfig, name: str) -> LiveConfig:
    """A member of the family as far as a net has what it takes."""
    m = MEMBERS[name]
    return replace(net, hop=m.hop, lookahead=min(m.ahead, net.ahead) * m.apart, blocks=min(m.blocks, net.blocks))


def members(name: str, net: LiveConfig) -> tuple[LiveConfig, ...]:
    """What a net is trained as, batch by batch in turns."""
    return tuple(member(net, turn) for turn in TURNS) if name == FAMILY else (net,)


def mixer_of(
    corpus: Corpus, settings: LiveTraining, net: LiveConfig, kind: Callable[..., StereoMixer] = StereoMixer
) -> StereoMixer:
    """The mash-ups of a training: frames `GRID` apart through the window of the net's own hop."""
    return kind(
        corpus,
        seed=settings.seed,
        frames=settings.filling + settings.frames + net.past,
        soft_voices=settings.soft_voices,
        sources=settings.sources,
        rolls=settings.rolls,
        hop=GRID,
        lookahead=net.ahead,
        context=net.past,
        window_hop=net.hop,
    )


def sequences(settings: LiveTraining, net: LiveConfig, of: LiveConfig) -> int:
    """Sequences in a batch of a member: the fewer blocks it has, the more, so that all steps take as long.

    Processes that take steps together then do not wait for each other. Mixing counts as a block.
    """
    most = settings.sources * (net.blocks + 1) // (of.blocks + 1)
    return max(settings.sources, most - most % settings.chunk)


class Turns:
    """The mash-ups of each member in turns, addressed by step; all of them with the look-ahead of the whole net."""

    def __init__(self, corpus: Corpus, settings: LiveTraining, name: str, net: LiveConfig) -> None:
        whole = [replace(m, lookahead=net.ahead * m.apart) for m in members(name, net)]
        each = {m: mixer_of(corpus, replace(settings, sources=sequences(settings, net, m)), m) for m in whole}
        self._mixers = [each[m] for m in whole]

    def batch(self, step: int) -> StereoBatch:
        """The batch of a step."""
        return self._mixers[step % len(self._mixers)].batch(step)

"""What a net's own part of the export hands over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rtsep.separators.manifest import State


@dataclass(frozen=True, slots=True)
class Made:
    """What the folder of a net needs beside its name.

    Parameters
    ----------
    data : bytes
        The streaming ONNX file: an input, a mask, and the state.
    state : int or list of State
        Size of the one state (1, `state`), which begins at zero; or all states.
    deviation : callable
        Largest difference of the masks between ONNX Runtime, frame by frame, and torch, all at once.
    summary : str
        One line.
    hop, kind, bins, input : int, str, int, str
        Of the manifest's tables transform, features and tensors.
    more : str
        Further lines of [tensors], each with its end.
    lookahead : int
        Hops.
    chain : callable, optional
        Of a model folder: energy of the difference between the host's stream and torch offline, dB under the latter.
    notes : list of str
        What the export says of the net.
    parameters : dict of str to float
        Values that the separator's parameters start with.
    """

    data: bytes
    state: int | list[State]
    deviation: Callable[[], float]
    summary: str
    hop: int
    kind: str
    bins: int
    input: str
    more: str
    lookahead: int
    chain: Callable[[Path], float] | None = None
    notes: list[str] = field(default_factory=list)
    parameters: dict[str, float] = field(default_factory=lambda: {"binary": 0.0, "threshold": 0.5})

"""The manifest of a model folder: what the host must know of a net, read and checked.

A model folder holds ``manifest.toml``, the file of the net and ``CARD.md``. Everything that the manifest does not say
the host does not assume; everything that it does not know it refuses by name. [main thread]
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import msgspec

from rtsep.errors import ModelError, nearest
from rtsep.spec import WINDOW

NAME = "manifest.toml"
#: Windows that a stream may have.
WINDOWS = (WINDOW,)
MOST_TURNS = 16
MOST_SILENT_RUNS = 1024
MOST_LOOKAHEADS = 64


class File(msgspec.Struct, frozen=True):
    """``[file]``: the net's file.

    Parameters
    ----------
    name : str
        Name of a file in the model's folder.
    sha256 : str
        Its checksum, 64 hexadecimal digits.
    opset : int
        ONNX operator set that it was exported with.
    """

    name: str
    sha256: str
    opset: int


class Transform(msgspec.Struct, frozen=True):
    """``[transform]``: the filterbank that the net was trained with.

    Parameters
    ----------
    samplerates : list of int
        Engine rates in Hz that it works at.
    window, hop, synthesis : int
        Analysis window, step and synthesis window in frames; `window` is one of `WINDOWS`, `synthesis` twice `hop`.
    """

    samplerates: list[int]
    window: int
    hop: int
    synthesis: int


class Features(msgspec.Struct, frozen=True):
    """``[features]``: what the net sees of a spectrum.

    Parameters
    ----------
    kind : str
        One of `rtsep.separators.features.KINDS`.
    bins : int
        Number of bins, from bin 0.
    """

    kind: str
    bins: int


class Tensors(msgspec.Struct, frozen=True):
    """``[tensors]``: names of the net's inputs and outputs, apart from the state.

    Parameters
    ----------
    input, mask : str
        Features in, mask out.
    vad : str or None
        Output of shape (1, 1): probability of voice in the masked frame.
    mask_kind : {"channels", "mid_side"}
        What the rows of a stereo mask are for: left and right, or half their sum and half their difference.
    extend : {"hold"}
        What bins above the net's get: the mask of its highest bin.
    lookahead : int
        The mask is for the frame that came so many hops ago.
    lookaheads : int
        More than 1: rows of the mask, for the frames of 0, 1 .. hops ago; `lookahead` is the row to play where a user
        asks for no other (``NAME:ROW``).
    confidence : bool
        The mask is the probability of voice: parameters ``alpha`` and ``part`` take the place of ``threshold``.
    turns : int
        Copies of the state that take turns, one a hop: the net sees every so-manyth frame in each of them.
    stems : list of str
        Of `rtsep.separators.base.STEMS`: as many rows after those of the mask, in this order, each with the share of
        its stem in what the mask leaves.
    stems_wanted : str or None
        Input of shape (1,), for a net that can leave these rows out: 0 while nobody hears the stems, else 1.
    """

    input: str
    mask: str
    vad: str | None = None
    mask_kind: Literal["channels", "mid_side"] = "channels"
    extend: Literal["hold"] = "hold"
    lookahead: int = 0
    lookaheads: int = 1
    confidence: bool = False
    turns: int = 1
    stems: list[Literal["drums", "bass"]] = []
    stems_wanted: str | None = None

    def inputs(self) -> list[str]:
        """Names of all inputs but the states."""
        return [self.input, *([self.stems_wanted] if self.stems_wanted is not None else [])]


class State(msgspec.Struct, frozen=True):
    """``[[state]]``: a float32 tensor carried from each call to the next.

    Parameters
    ----------
    input, output : str
        Its names.
    shape : list of int
        Its shape.
    silent_runs : int
        It begins as so many runs on an input of zeros leave it, if not more for another state: all are zero before.
        0: it begins at zero.
    """

    input: str
    output: str
    shape: list[int]
    silent_runs: int = 0


class Default(msgspec.Struct, frozen=True):
    """``[[parameters]]``: the value that a parameter has at start with this net.

    Parameters
    ----------
    name : str
        Parameter of the separator.
    default : float
        Value.
    """

    name: str
    default: float


class Manifest(msgspec.Struct, frozen=True):
    """All of ``manifest.toml``.

    Parameters
    ----------
    format : int
        Version of the manifest's own form: 1.
    name, summary, license : str
        Name of the model, what it is in one line, licence of the weights.
    file, transform, features, tensors, state, parameters
        The tables above.
    """

    format: Literal[1]
    name: str
    summary: str
    license: str
    file: File
    transform: Transform
    features: Features
    tensors: Tensors
    state: list[State] = []
    parameters: list[Default] = []


def read(folder: Path) -> Manifest:
    """Read and check the manifest of a model folder.

    Raises
    ------
    ModelError
        If it is missing, is not TOML, lacks a key, has an unknown one, or has a value that makes no sense.
    """
    path = folder / NAME
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"no model in {folder}: {NAME} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ModelError(f"{path} is not valid TOML: {error}") from error
    _refuse_unknown(path, table, Manifest, "")
    try:
        manifest = msgspec.convert(table, Manifest)
    except msgspec.ValidationError as error:
        raise ModelError(f"{path}: {str(error).replace('Object', 'the table').replace('$.', '')}") from error
    _refuse_nonsense(path, manifest)
    return manifest


def read_file(folder: Path, manifest: Manifest) -> bytes:
    """Bytes of the net's file, once its checksum is seen to be right.

    `ModelError` if it is not, or if there is no such file.
    """
    path = folder / manifest.file.name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"model {manifest.name}: {path} cannot be read ({error.strerror})") from error
    found = hashlib.sha256(data).hexdigest()
    if found != manifest.file.sha256.lower():
        raise ModelError(
            f"model {manifest.name}: {path} is damaged or another file: its SHA-256 is {found[:12]}..., "
            f"the manifest wants {manifest.file.sha256[:12]}...; fetch or export the model again"
        )
    return data


def _refuse_unknown(path: Path, table: Mapping[str, Any], kind: type[msgspec.Struct], where: str) -> None:
    hints = get_type_hints(kind)
    for key, value in table.items():
        if key not in hints:
            raise ModelError(f"{path}: unknown key '{where}{key}': {nearest(key, hints)}")
        inner = next((t for t in (hints[key], *get_args(hints[key])) if _is_struct(t)), None)
        for item in value if isinstance(value, list) else [value]:
            if inner is not None and isinstance(item, dict):
                _refuse_unknown(path, item, inner, f"{where}{key}.")


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _refuse_nonsense(path: Path, m: Manifest) -> None:
    hop, window, rows = m.transform.hop, m.transform.window, m.tensors.lookaheads
    tensors = [*m.tensors.inputs(), m.tensors.mask, *([m.tensors.vad] if m.tensors.vad is not None else [])]
    tensors += [name for state in m.state for name in (state.input, state.output)]
    windows = " or ".join(str(frames) for frames in WINDOWS)
    rules = {
        f"file.name '{m.file.name}' is not the name of a file in this folder": Path(m.file.name).name == m.file.name,
        f"file.sha256 '{m.file.sha256}' is not 64 hexadecimal digits": _is_sha256(m.file.sha256),
        "transform.samplerates is empty or holds one outside 8000 to 192000 Hz": m.transform.samplerates
        and all(8000 <= rate <= 192000 for rate in m.transform.samplerates),
        f"transform.hop {hop} is not a power of two from 16 to 1024": hop in (16, 32, 64, 128, 256, 512, 1024),
        f"transform.window {window} is not {windows}, the window of every stream": window in WINDOWS,
        f"transform.synthesis {m.transform.synthesis} is not 2 x hop": m.transform.synthesis == 2 * hop,
        f"features.bins {m.features.bins} is not from 1 to window // 2 + 1": 1 <= m.features.bins <= window // 2 + 1,
        f"tensors.lookahead {m.tensors.lookahead} is not from 0 to 256 hops": 0 <= m.tensors.lookahead <= 256,
        f"tensors.lookaheads {rows} is not 1, or not above lookahead, or above {MOST_LOOKAHEADS}": rows == 1
        or m.tensors.lookahead < rows <= MOST_LOOKAHEADS,
        f"tensors.turns {m.tensors.turns} is not from 1 to {MOST_TURNS}": 1 <= m.tensors.turns <= MOST_TURNS,
        f"tensors.stems {m.tensors.stems} holds one twice, or is not for a net with lookaheads": not m.tensors.stems
        or (len(set(m.tensors.stems)) == len(m.tensors.stems) and rows == 1),
        f"tensors.stems_wanted '{m.tensors.stems_wanted}' is for a net with stems": m.tensors.stems_wanted is None
        or bool(m.tensors.stems),
        "two tensors have the same name": len(set(tensors)) == len(tensors),
        "a state's shape is empty or holds a size below 1": all(s.shape and min(s.shape) >= 1 for s in m.state),
        f"a state's silent_runs is not from 0 to {MOST_SILENT_RUNS}": all(
            0 <= s.silent_runs <= MOST_SILENT_RUNS for s in m.state
        ),
    }
    for fault, fine in rules.items():
        if not fine:
            raise ModelError(f"{path}: {fault}")


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text.lower())

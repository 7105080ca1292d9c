"""Where separators come from: built in, from other packages, and from model folders.

Names are looked up in this order: built-in separators, the user's model folders (``$XDG_DATA_HOME/rtsep/models``),
the bundled models, and entry points of group ``rtsep.separators`` of installed packages. Nothing is imported before
it is asked for. [main thread]
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rtsep.errors import ModelError, RtsepError, UsageError, first_line, nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from rtsep.separators.base import Separator

GROUP = "rtsep.separators"
MANIFEST = "manifest.toml"
PACKAGE = Path(__file__).resolve().parent.parent

#: Built-in separators: class and summary, so that a list of them imports nothing.
BUILT_IN: dict[str, tuple[str, str]] = {
    "passthrough": (
        "rtsep.separators.passthrough:Passthrough",
        "takes everything for voice (to test and to measure the chain)",
    ),
    "delay": (
        "rtsep.separators.delay:Delay",
        "takes everything for voice and looks ahead N hops: delay:N (to test the latency)",
    ),
    "midside": ("rtsep.separators.midside:MidSide", "the voice is what is common to left and right (stereo; no net)"),
    "adress": (
        "rtsep.separators.adress:Adress",
        "the voice is what comes from one direction of the stereo field (stereo; no net)",
    ),
    "band": ("rtsep.separators.band:Band", "the voice is what lies between two frequencies (no net)"),
    "ica": (
        "rtsep.separators.ica:Ica",
        "the voice is one of two independent sounds in left and right (stereo; no net)",
    ),
    "invert": (
        "rtsep.separators.invert:Invert",
        "the voice is what is left of a known instrumental: invert:FILE (no net)",
    ),
    "pitch-rules": (
        "rtsep.separators.pitch_rules:PitchRules",
        "the voice is the harmonics of a sung pitch, and hiss between them (no net)",
    ),
    "repet": ("rtsep.separators.repet:Repet", "the voice is what does not repeat within the last seconds (no net)"),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One separator that can be named.

    Parameters
    ----------
    name : str
        For `create`.
    kind : {"built-in", "model", "plug-in"}
        Where it comes from.
    summary : str
        One line; empty if it cannot be used.
    origin : str
        Folder of a model, name and version of a plug-in's package, class of a built-in.
    fault : str
        One line that says why it cannot be used; empty if it can.
    """

    name: str
    kind: Literal["built-in", "model", "plug-in"]
    summary: str
    origin: str
    fault: str = ""


def with_stems() -> list[str]:
    """Names of the separators that tell stems apart in the music: none is built in; broken ones are left out."""
    from rtsep.separators import manifest

    found: list[str] = []
    for name, folder in models().items():
        with contextlib.suppress(RtsepError):
            if manifest.read(folder).tensors.stems:
                found.append(name)
    for point in _plug_ins():
        with contextlib.suppress(ModelError):
            if _load_plug_in(point).stems:
                found.append(point.name)
    return found


def model_folders() -> list[Path]:
    """Folders that hold model folders, the one that wins first; those that exist."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    places = [Path(data) / "rtsep" / "models", PACKAGE / "models"]
    if (PACKAGE.parent / "pyproject.toml").is_file():
        places.append(PACKAGE.parent / "models")
    return [place for place in places if place.is_dir()]


def names() -> list[Entry]:
    """All separators that can be named, each name once; a broken one is listed with its fault and hides no other."""
    found: dict[str, Entry] = {}
    for name, (target, summary) in BUILT_IN.items():
        found[name] = Entry(name, "built-in", summary, target)
    for name, folder in models().items():
        found.setdefault(name, _model_entry(name, folder))
    for point in _plug_ins():
        entry = _plug_in_entry(point)
        if point.name in found:
            rival = found[point.name]
            fault = f"its name is taken by the {rival.kind} separator of {rival.origin}"
            entry = Entry(f"{point.name} ({entry.origin})", "plug-in", "", entry.origin, fault)
        found[entry.name] = entry
    return list(found.values())


def create(name_or_path: str, *, device: str = "auto", cuda_graph: bool = False, **options: Any) -> Separator:
    """Make a separator.

    Parameters
    ----------
    name_or_path : str
        A name of `names`, with an argument after a colon where the separator takes one (``"delay:4"``), or the path
        of a model folder. The argument of a model is its look-ahead in hops, where it offers several.
    device : {"auto", "cpu", "cuda"}
        Where the net of a model folder runs; other separators do not heed it.
    cuda_graph : bool
        Replay the net as one CUDA graph; heeded by model folders on CUDA alone.
    **options
        Handed to the constructor of a separator that is no model folder.

    Raises
    ------
    UsageError
        If there is no such separator, or it does not take the argument.
    ModelError
        If the model folder or the plug-in is broken.
    """
    there = models()
    name, _, argument = name_or_path.partition(":")
    if name in BUILT_IN:
        return _construct(name, _load(BUILT_IN[name][0]), argument, options)
    path = Path(os.path.expanduser(name_or_path))
    folder = there.get(name_or_path)
    if folder is None and (os.sep in name_or_path or (path / MANIFEST).is_file()):
        folder = path
    lookahead = None
    start, _, digits = name_or_path.rpartition(":")
    if start and digits.isdecimal() and (folder is None or not folder.exists()):
        path = Path(os.path.expanduser(start))
        if start in there or (path / MANIFEST).is_file():
            folder, lookahead = there.get(start, path), int(digits)
    if folder is not None:
        made = _load("rtsep.separators.onnx:OnnxSeparator")
        return made(folder, device=device, cuda_graph=cuda_graph, lookahead=lookahead)
    points = {point.name: point for point in _plug_ins()}
    if name in points:
        return _construct_plug_in(points[name], argument, options)
    raise UsageError(
        f"unknown separator '{name_or_path}': {nearest(name, [*BUILT_IN, *there, *points])}, "
        f"or the path of a model folder"
    )


def _load(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _construct(name: str, factory: Any, argument: str, options: dict[str, Any]) -> Separator:
    import inspect

    try:
        inspect.signature(factory).bind(*([argument] if argument else []), **options)
    except TypeError:
        given = [f"'{argument}'"] if argument else []
        given += [f"{key}={value!r}" for key, value in options.items()]
        raise UsageError(f"separator {name} does not take {', '.join(given) or 'no argument'}") from None
    return factory(*([argument] if argument else []), **options)


def _construct_plug_in(point: EntryPoint, argument: str, options: dict[str, Any]) -> Separator:
    """`_construct` of a plug-in; whatever goes wrong in it becomes one line."""
    loaded = _load_plug_in(point)
    try:
        return _construct(point.name, loaded, argument, options)
    except RtsepError:
        raise
    except Exception as error:
        raise ModelError(f"{_where(point)} cannot be made: {_reason(error)}") from error


def models() -> dict[str, Path]:
    """Model folders by name, the user's before the bundled ones."""
    found: dict[str, Path] = {}
    for place in model_folders():
        for folder in sorted(place.iterdir()):
            if (folder / MANIFEST).is_file():
                found.setdefault(folder.name, folder)
    return found


def _model_entry(name: str, folder: Path) -> Entry:
    from rtsep.separators import manifest

    try:
        return Entry(name, "model", manifest.read(folder).summary, str(folder))
    except RtsepError as error:
        return Entry(name, "model", "", str(folder), str(error))


def _plug_ins() -> Iterator[EntryPoint]:
    """Entry points of other packages; those of rtsep itself are the built-in ones."""
    from importlib.metadata import entry_points

    return (point for point in entry_points(group=GROUP) if not point.value.startswith("rtsep."))


def _plug_in_entry(point: EntryPoint) -> Entry:
    try:
        summary = " ".join(str(_load_plug_in(point).summary).split()) or "(no summary)"
    except ModelError as error:
        return Entry(point.name, "plug-in", "", _package(point), str(error))
    return Entry(point.name, "plug-in", summary, _package(point))


def _load_plug_in(point: EntryPoint) -> Any:
    """Load the class of a plug-in; whatever goes wrong in it becomes one line."""
    from rtsep.separators.base import Separator

    try:
        loaded = point.load()
    except Exception as error:  # a plug-in may raise anything at all while it is imported
        raise ModelError(f"{_where(point)} cannot be loaded: {_reason(error)}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, Separator)):
        raise ModelError(
            f"{_where(point)} cannot be used: {point.value} is not a subclass of rtsep.separators.base.Separator"
        )
    return loaded


def _where(point: EntryPoint) -> str:
    return f"separator '{point.name}' of package {_package(point)}"


def _reason(error: Exception) -> str:
    """What an exception says, in one line."""
    return f"{type(error).__name__}: {first_line(str(error)) or 'no reason given'}"


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"

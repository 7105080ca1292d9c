"""What is compared: the floor, separators with their parameters, sweeps of one parameter, and the ceilings."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rtsep.errors import UsageError
from rtsep.evaluation.oracles import KINDS
from rtsep.separators.base import Separator
from rtsep.separators.registry import MANIFEST, create
from rtsep.spec import StreamSpec

FLOOR = "mixture"
_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_SWEEP = re.compile(rf"(?P<separator>.+):(?P<param>\w+)=(?P<low>{_NUMBER})\.\.(?P<high>{_NUMBER})/(?P<count>\d+)")
_PACKAGE = Path(__file__).resolve().parent.parent
#: Code that every score depends on, besides the separator's own.
_CODE = (
    *("__init__.py", "native.py", "dsp/*.py", "io/feed.py"),
    *("engine/chain.py", "engine/offline.py", "engine/inference.py", "engine/stream.py"),
    *(f"separators/{name}.py" for name in ("base", "kernels", "features", "gate", "onnx", "compiled_net", "session")),
    *(f"evaluation/{name}.py" for name in ("estimates", "metrics", "oracles", "scores", "song", "sound")),
)


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the tables.

    Parameters
    ----------
    label : str
        Its name there, unique.
    kind : {"floor", "separator", "ceiling"}
    source : str
        Name or folder of the separator; which ceiling.
    params : tuple of (str, str)
        Parameters that are set.
    hop : int
        In frames of the engine.
    rates : tuple of int
        Engine rates that are supported, in Hz; empty for any.
    checksum : str
        Of the separator's code or model.
    sweep : str
        Label of the curve that it is a point of.
    value : float, optional
        Of the parameter there.
    """

    label: str
    kind: str
    source: str = ""
    params: tuple[tuple[str, str], ...] = ()
    hop: int = 0
    rates: tuple[int, ...] = ()
    checksum: str = ""
    sweep: str = ""
    value: float | None = None

    def make(self, device: str) -> Separator:
        """Create the separator with its parameters."""
        separator = create(self.source, device=device)
        for name, value in self.params:
            separator.params.set(name, value)
        return separator


def plan(
    separators: Sequence[str], settings: Iterable[str], sweeps: Iterable[str], hop: int, device: str
) -> list[Method]:
    """All rows in order: floor, separators, sweeps, ceilings (one pair for each hop and set of engine rates).

    Parameters
    ----------
    separators : sequence of str
        Names, or model folders.
    settings : iterable of str
        ``NAME=VALUE`` for all separators that have the parameter, ``SEPARATOR:NAME=VALUE`` for one.
    sweeps : iterable of str
        ``SEPARATOR:NAME=LOW..HIGH/COUNT``.
    hop : int
        In frames, for separators that take any.
    device : {"auto", "cpu", "cuda"}

    Raises
    ------
    UsageError
        Unknown separator or parameter, or a text that is not understood.
    ModelError
        A model that cannot be used.
    """
    if not separators and not sweeps:
        raise UsageError("no separator is named: --separator A,B (`rtsep models` lists them)")
    swept = [_swept(text) for text in sweeps]
    labels = [_label(name) for name in separators]
    further = dict.fromkeys(match["separator"] for match in swept if _label(match["separator"]) not in labels)
    bases = chosen([*separators, *further], list(settings), hop, device)
    made = bases[: len(labels)]
    for match in swept:
        made += _sweep(match, bases, device)
    rows = [method.label for method in made]
    if twice := next((label for label in rows if rows.count(label) > 1), None):
        raise UsageError(f"two rows would be called {twice}: each sweep needs values of its own")
    grids = dict.fromkeys((method.hop, method.rates) for method in made)
    for number, (grid_hop, rates) in enumerate(grids):
        among = [other for other, _ in list(grids)[:number]]
        where = f" at {'/'.join(f'{rate / 1000:g}' for rate in rates) or 'any'} kHz" if grid_hop in among else ""
        for kind, name in KINDS.items():
            made.append(Method(f"{name}, hop {grid_hop}{where}", "ceiling", kind, hop=grid_hop, rates=rates))
    return [Method(FLOOR, "floor"), *made]


def chosen(separators: Sequence[str], settings: Sequence[str], hop: int, device: str) -> list[Method]:
    """The separators that are named, with their parameters; arguments and errors as those of `plan`."""
    StreamSpec(44100, 2, hop)  # refuses a hop that is not possible
    labels = [_label(name) for name in separators]
    for label in labels:
        if labels.count(label) > 1 or label == FLOOR:
            raise UsageError(f"two rows would be called {label}: each separator needs a name of its own")
    methods = [_method(name, label, hop, device) for name, label in zip(separators, labels, strict=True)]
    made = [_with_settings(method, settings, labels, device) for method in methods]
    _check_used(settings, made, labels)
    return made


def _label(name: str) -> str:
    return Path(name).resolve().name if (Path(name) / MANIFEST).is_file() else name


def _method(name: str, label: str, hop: int, device: str) -> Method:
    separator = create(name, device=device)
    rates = separator.supported_samplerates()
    wanted = separator.required_hop(rates[0] if rates else 44100) or hop
    return Method(label, "separator", name, (), wanted, rates, checksum(separator))


def _with_settings(method: Method, texts: Sequence[str], labels: Sequence[str], device: str) -> Method:
    known = create(method.source, device=device).params
    pairs = dict(method.params)
    for text in texts:
        label, name, value = _setting(text, labels)
        if label == method.label or (not label and name in known.params):
            known.set(name, value)  # refuses what is wrong
            pairs[name] = value
    return replace(method, params=tuple(pairs.items()))


def _setting(text: str, labels: Sequence[str]) -> tuple[str, str, str]:
    label = next((label for label in sorted(labels, key=len, reverse=True) if text.startswith(f"{label}:")), "")
    name, equals, value = text[len(label) + 1 if label else 0 :].partition("=")
    if not (name and equals and value) or ":" in name:
        raise UsageError(f"--set {text} is not understood: NAME=VALUE or SEPARATOR:NAME=VALUE is")
    return label, name.strip(), value.strip()


def _check_used(texts: Iterable[str], methods: Sequence[Method], labels: Sequence[str]) -> None:
    """UsageError for a parameter that no separator has."""
    for text in texts:
        _, name, _ = _setting(text, labels)
        if not any(name == key for method in methods for key, _ in method.params):
            raise UsageError(
                f"--set {text}: none of {', '.join(labels)} has a parameter '{name}' (`rtsep models NAME`)"
            )


def _swept(text: str) -> re.Match[str]:
    match = _SWEEP.fullmatch(text)
    if match is None or int(match["count"]) < 2:
        raise UsageError(
            f"--sweep {text} is not understood: SEPARATOR:NAME=LOW..HIGH/COUNT is, such as midside:width=0.1..0.9/9"
        )
    return match


def _sweep(match: re.Match[str], methods: Sequence[Method], device: str) -> list[Method]:
    label = _label(match["separator"])
    base = next(method for method in methods if method.label == label)
    known = create(base.source, device=device).params
    count, low, high = int(match["count"]), float(match["low"]), float(match["high"])
    points = []
    for k in range(count):
        value = round(low + (high - low) * k / (count - 1), 9)
        known.set(match["param"], value)
        params = tuple({**dict(base.params), match["param"]: f"{value:g}"}.items())
        name = f"{label} {match['param']}={value:g}"
        points.append(replace(base, label=name, params=params, sweep=f"{label}, {match['param']}", value=value))
    return points


def code_checksum() -> str:
    """Of the code that makes sound and scores: results of other code are made anew."""
    return _digest(sorted(path for pattern in _CODE for path in _PACKAGE.glob(pattern)))


def checksum(separator: Separator) -> str:
    """Of a separator: its model folder, or the files of its classes."""
    files = {Path(inspect.getfile(kind)) for kind in type(separator).__mro__ if issubclass(kind, Separator)}
    folder = getattr(separator, "folder", None)
    if folder is not None:
        # The manifest holds the checksum of the net's file, which is verified whenever it is opened.
        files.add(Path(folder) / MANIFEST)
    given = Path(getattr(separator, "path", "")).expanduser()  # a sound file that it plays against
    if given.is_file():
        files.add(given)
    return _digest(sorted(files))


def _digest(files: Iterable[Path]) -> str:
    facts = hashlib.sha256()
    for path in files:
        facts.update(path.name.encode() + path.read_bytes())
    return facts.hexdigest()

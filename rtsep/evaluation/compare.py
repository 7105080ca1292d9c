"""A page for blind listening: methods against each other on the same excerpts, level-matched, offline.

Source of the test: ITU-R BS.1116 and the ABX comparator; loudness after ITU-R BS.1770 (pyloudnorm).
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from rtsep.errors import RtsepError, UsageError
from rtsep.evaluation.estimates import separate
from rtsep.evaluation.layouts import find_songs
from rtsep.evaluation.methods import Method, chosen
from rtsep.evaluation.metrics import TARGETS
from rtsep.evaluation.sound import Sound, load
from rtsep.io.folders import made_folder
from rtsep.io.reader import SUFFIXES, read_blocks
from rtsep.spec import PROFILES

TRUTH = "truth"
#: Sound before the excerpt that the separators hear too, so that they have a past.
LEAD_SECONDS = 4.0
#: Highest peak after matching.
PEAK = 0.98
_FADE_SECONDS = 0.01
_TEMPLATE = Path(__file__).with_name("compare.html")
Source = tuple[str, Callable[[], tuple[int, Sound, dict[str, Sound]]]]


def compare(
    source: Path,
    out: Path,
    separators: Sequence[str],
    *,
    parts: Sequence[str] = TARGETS,
    start: float | None = None,
    seconds: float = 12.0,
    songs: Sequence[str] = (),
    layout: str = "auto",
    truth: bool = False,
    settings: Sequence[str] = (),
    hop: int = PROFILES["live"],
    device: str = "cpu",
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Write a listening page: ``index.html`` and ``sounds/``.

    Parameters
    ----------
    source : Path
        A song, a folder of songs, or a data set.
    out : Path
        Folder of the page.
    separators : sequence of str
        Two or more; one is enough with `truth`.
    parts : sequence of str
        Of ``"vocals"`` and ``"accompaniment"``.
    start : float, optional
        Begin of the excerpts in seconds; the middle of each song if missing.
    seconds : float
        Length of the excerpts.
    songs, layout
        As `rtsep.evaluation.layouts.find_songs` takes them.
    truth : bool
        The true parts take part as a method; of data sets only.
    settings, hop, device
        As `rtsep.evaluation.methods.plan` takes them.
    progress : callable
        Gets songs done, all songs, and the name of the last one.

    Returns
    -------
    dict
        What the page holds, without its sounds; and ``"faults"``: songs that are not on it, each with its reason.

    Raises
    ------
    UsageError
        Too few methods, nothing to play, `truth` where there is none; or silence in an excerpt, of the only song.
    """
    loudness_meter(48000)
    if not 1 <= seconds < math.inf:
        raise UsageError(f"excerpts of {seconds:g} s are not possible: at least 1 s is wanted")
    if start is not None and not math.isfinite(start):
        raise UsageError(f"an excerpt cannot begin at {start:g} s")
    if unknown := [part for part in parts if part not in TARGETS]:
        raise UsageError(f"unknown part '{unknown[0]}': {' and '.join(TARGETS)} are possible")
    methods = chosen(separators, settings, hop, device)
    labels = [method.label for method in methods] + [TRUTH] * truth
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise UsageError(f"two methods or more are compared: --separator A,B; found {', '.join(labels) or 'none'}")
    found = sources(source, layout, songs, truth)
    page: dict[str, Any] = {"title": source.resolve().name, "methods": labels, "trials": [], "levels": []}
    ready: list[tuple[Sound, int]] = []
    faults: list[tuple[str, str]] = []
    for number, (name, read) in enumerate(found):
        try:
            matches = [
                (part, matched(sounds, rate, part), rate)
                for part, sounds, rate in _excerpts(read, methods, parts, start, seconds, device)
            ]
        except RtsepError as error:
            if len(found) == 1:
                raise type(error)(f"{name}: {error}") from error
            faults.append((name, str(error)))
            matches = []
        for part, sounds, rate in matches:
            first = len(ready)
            for label, (sound, gain_db, lufs) in sounds.items():
                ready.append((sound, rate))
                page["levels"].append({"method": label, "gain_db": round(gain_db, 2), "lufs": round(lufs, 2)})
            for a, b in itertools.combinations(range(len(labels)), 2):
                trial = {"song": name, "part": part, "methods": [labels[a], labels[b]]}
                page["trials"].append({**trial, "sounds": [first + a, first + b]})
        if progress is not None:
            progress(number + 1, len(found), name)
    if not ready:
        raise UsageError(f"no song of {len(found)} can be compared; {faults[0][0]}: {faults[0][1]}")
    with made_folder(out):
        (out / "sounds").mkdir(exist_ok=True)
        for number, (sound, rate) in enumerate(ready):
            _write_sound(out / "sounds" / f"{number}.js", number, sound, rate)
        _write_page(page, out)
    return page | {"faults": faults}


def sources(source: Path, layout: str, patterns: Sequence[str], truth: bool) -> list[Source]:
    """The songs by name, each with what reads it: rate, mixture and true parts where they are known.

    A folder of sound files is a folder of songs, unless it is said to be MIR-1K.
    """
    if source.is_dir():
        try:
            kind, found = find_songs(source, layout, "all", patterns)
        except UsageError:
            if layout != "auto":
                raise
            kind, found = "", []
        if found and (kind != "mir1k" or layout == "mir1k"):
            return [(song.name, _reader_of(song)) for song in found]
        there = sorted(path for path in source.iterdir() if path.suffix.lower().lstrip(".") in SUFFIXES)
        paths = [path for path in there if not patterns or any(fnmatch(path.stem, text) for text in patterns)]
        if not paths:
            wanted = f"called {' or '.join(patterns)} " if patterns and there else ""
            raise UsageError(f"no song {wanted}in the folder {source}: sound files, or a data set, are wanted")
    else:
        paths = [source]
    if truth:
        raise UsageError(f"{source} is no data set: its true parts are not known")
    return [(path.stem, lambda path=path: (*_read(path), {})) for path in paths]  # type: ignore[misc]


def _reader_of(files: Any) -> Callable[[], tuple[int, Sound, dict[str, Sound]]]:
    def read() -> tuple[int, Sound, dict[str, Sound]]:
        song = load(files)
        return song.samplerate, song.mixture, {"vocals": song.vocals, "accompaniment": song.accompaniment}

    return read


def _read(path: Path) -> tuple[int, Sound]:
    with read_blocks(path) as reader:
        return reader.native_rate, np.concatenate(list(reader.native_blocks())).T


def _excerpts(
    read: Callable[[], tuple[int, Sound, dict[str, Sound]]],
    methods: Sequence[Method],
    parts: Sequence[str],
    start: float | None,
    seconds: float,
    device: str,
) -> Iterator[tuple[str, dict[str, Sound], int]]:
    """For each part its excerpts by method, all of the same frames of the song, and their rate."""
    rate, mixture, truth = read()
    frames = mixture.shape[1]
    length = min(frames, int(seconds * rate))
    begin = (frames - length) // 2 if start is None else int(start * rate)
    if begin < 0 or begin + min(rate, length) > frames:
        raise UsageError(f"it is {frames / rate:.1f} s long: an excerpt cannot begin at {start:g} s")
    if frames < rate:
        raise UsageError(f"it is {frames / rate:.2f} s long: at least 1 s is wanted")
    length = min(length, frames - begin)
    lead = min(begin, int(LEAD_SECONDS * rate))
    heard = np.ascontiguousarray(mixture[:, begin - lead : begin + length])
    cut = slice(begin, begin + length)
    vocals = {
        method.label: separate(method.make(device), heard, rate, method.hop)["vocals"][:, lead:] for method in methods
    }
    music = {label: mixture[:, cut] - sound for label, sound in vocals.items()}
    for part, sounds in (("vocals", vocals), ("accompaniment", music)):
        if part in parts:
            yield part, sounds | ({TRUTH: truth[part][:, cut]} if truth else {}), rate


def loudness_meter(rate: int) -> Any:
    """Meter of pyloudnorm; `UsageError` if that is not installed."""
    try:
        from pyloudnorm import Meter
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed: pip install 'rtsep[eval]'") from None
    return Meter(rate)


def matched(sounds: dict[str, Sound], rate: int, what: str) -> dict[str, tuple[Sound, float, float]]:
    """Sounds at the loudness of the quietest, all of them lower still if one would clip.

    Returns
    -------
    dict
        By method: sound, gain in dB that it got, and its loudness before in LUFS (integrated over the whole excerpt,
        ITU-R BS.1770-4).

    Raises
    ------
    UsageError
        If one is silent.
    """
    meter = loudness_meter(rate)
    levels = {label: float(meter.integrated_loudness(sound.T.astype(np.float64))) for label, sound in sounds.items()}
    for label, level in levels.items():
        if not math.isfinite(level):
            raise UsageError(f"{what}: {label} is silent in the excerpt, which cannot be matched: try another --start")
    quietest = min(levels.values())
    gains = {label: quietest - level for label, level in levels.items()}
    peak = max(float(np.abs(sound).max()) * 10 ** (gains[label] / 20) for label, sound in sounds.items())
    lower = min(0.0, 20 * math.log10(PEAK / peak))
    return {
        label: (sound * np.float32(10 ** ((gains[label] + lower) / 20)), gains[label] + lower, levels[label])
        for label, sound in sounds.items()
    }


def _write_sound(path: Path, number: int, sound: Sound, rate: int) -> None:
    """Write an excerpt as a script: a page that is opened as a file may load scripts, but no sound as data."""
    fade = min(int(_FADE_SECONDS * rate), sound.shape[1] // 2)
    faded = sound.copy()
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    faded[:, :fade] *= ramp
    faded[:, sound.shape[1] - fade :] *= ramp[::-1]
    memory = io.BytesIO()
    soundfile.write(memory, faded.T, rate, "PCM_16", format="FLAC")
    _replace(path, f'rtsepSound({number}, "{base64.b64encode(memory.getvalue()).decode()}");\n')


def _write_page(page: dict[str, Any], out: Path) -> None:
    data = json.dumps(page).replace("<", "\\u003c")
    _replace(out / "index.html", _TEMPLATE.read_text(encoding="utf-8").replace("<!--data-->", data))


def _replace(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)

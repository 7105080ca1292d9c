"""The metrics, each under its own name: figures of different columns are never comparable.

BSS Eval is museval's (Stoter, Liutkus and Ito, "The 2018 signal separation evaluation campaign", LVA/ICA 2018).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rtsep.errors import UsageError, nearest
from rtsep.evaluation.scores import sdr
from rtsep.evaluation.sound import Song, Sound, is_silent

Scores = dict[str, float | None]
TARGETS = ("vocals", "accompaniment")
#: A true part and its estimate.
Pair = tuple[Sound, Sound]


@dataclass(frozen=True, slots=True)
class Metric:
    """A group of figures that are computed together.

    Parameters
    ----------
    columns : tuple of str
        Names of the figures.
    over_songs : {"mean", "median", "length"}
        How songs become one figure; ``"length"`` is the mean weighted by the length of the songs.
    what : str
        One line for the reader of a table.
    """

    columns: tuple[str, ...]
    over_songs: Literal["mean", "median", "length"]
    what: str


METRICS: dict[str, Metric] = {
    "usdr": Metric(
        ("uSDR", "uSDR gain"),
        "mean",
        "SDR of the whole song, 10 log10(|s|^2 / |s - e|^2) over all channels, and how far it lies above that of the "
        "untouched mixture; mean over songs",
    ),
    "si-sdr": Metric(
        ("SI-SDR",),
        "mean",
        "scale-invariant SDR of the whole song (Le Roux et al. 2019), the channels as one signal, means not removed; "
        "mean over songs",
    ),
    "v3": Metric(
        ("SDR v3", "SIR v3", "SAR v3"),
        "mean",
        "BSS Eval v3, bss_eval_sources over the whole song, filters of 512 frames, on the mean of the channels; mean "
        "over songs",
    ),
    "v4": Metric(
        ("SDR v4", "ISR v4", "SIR v4", "SAR v4"),
        "median",
        "BSS Eval v4 (museval), windows of 1 s, median over the windows of a song, then median over songs",
    ),
    "mir1k": Metric(
        ("GNSDR", "GSIR", "GSAR"),
        "length",
        "BSS Eval v3 as the MIR-1K papers give it: SDR less that of the mixture, SIR and SAR, each weighted by the "
        "length of the clips",
    ),
}


def chosen_metrics(names: Sequence[str] | None, layout: str) -> tuple[str, ...]:
    """Names of metrics, in the order of `METRICS`; what is usual for `layout` if none are given.

    `UsageError` for an unknown one, or where the library for it is missing.
    """
    if not names:
        names = [name for name in METRICS if name != ("v4" if layout == "mir1k" else "mir1k")]
    for name in names:
        if name not in METRICS:
            raise UsageError(f"unknown metric '{name}': {nearest(name, METRICS)}")
    if {"v3", "v4", "mir1k"} & set(names):
        museval()
    return tuple(name for name in METRICS if name in names)


def museval() -> Any:
    """The library, without the noise of its dependencies; `UsageError` if it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from museval import metrics
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed: pip install 'rtsep[eval]'") from None
    return metrics


def si_sdr(reference: Sound, estimate: Sound) -> float:
    """Scale-invariant SDR in dB of sound of shape (channels, frames), the channels taken as one signal.

    Source: J. Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019.
    """
    s, e = reference.astype(np.float64).ravel(), estimate.astype(np.float64).ravel()
    target = (s @ e) / (s @ s) * s
    error = e - target
    return _ratio_db(float(target @ target), float(error @ error))


def _ratio_db(above: float, below: float) -> float:
    return 10 * math.log10((above + 1e-12) / (below + 1e-12))


def bss_v3(references: NDArray[np.float64], estimates: NDArray[np.float64]) -> NDArray[np.float64]:
    """BSS Eval v3 of sounds (sources, frames): SDR, SIR, SAR in dB, shape (3, sources), no permutation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = museval().bss_eval_sources(references, estimates, compute_permutation=False)
    return np.array([values[:, 0] for values in result[:3]])


def bss_v4(references: NDArray[np.float64], estimates: NDArray[np.float64], samplerate: int) -> NDArray[np.float64]:
    """BSS Eval v4 of sounds (sources, frames, channels): medians over windows of 1 s of SDR, ISR, SIR, SAR in dB.

    Shape (4, sources); windows in which a source is silent do not count; NaN where none counts.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = museval().bss_eval(
            references, estimates, window=samplerate, hop=samplerate, compute_permutation=False, framewise_filters=False
        )
        return np.array([np.nanmedian(values, axis=1) for values in result[:4]])


def score(names: Iterable[str], song: Song, vocals: Sound, accompaniment: Sound, **stems: Sound) -> dict[str, Scores]:
    """All figures of one song for one set of estimates.

    Parameters
    ----------
    names : iterable of str
        Of `METRICS`.
    song : Song
        With its true parts.
    vocals, accompaniment : ndarray of float32, shape (channels, frames)
        The estimates.
    **stems : ndarray of float32, shape (channels, frames)
        Estimates of the accompaniment's stems. BSS Eval knows them beside the vocals.

    Returns
    -------
    dict
        For each of `TARGETS`, and each stem that is not silent, the figures in dB by column; None where a figure is
        not defined (a silent estimate).
    """
    names, voice = set(names), (song.vocals, vocals)
    rows = _score(names, song, {"vocals": voice, "accompaniment": (song.accompaniment, accompaniment)})
    known = {stem: (truth, stems[stem]) for stem, truth in song.stems.items() if stem in stems}
    known = {stem: pair for stem, pair in known.items() if not is_silent(pair[0], song.mixture)}
    if known:
        beside = _score(names, song, {"vocals": voice, **known})
        rows |= {stem: beside[stem] for stem in known}
    return rows


def _score(names: Collection[str], song: Song, pairs: Mapping[str, Pair]) -> dict[str, Scores]:
    """Figures of parts that make up the song together, by part."""
    truth = [pair[0] for pair in pairs.values()]
    silent = [is_silent(estimate, song.mixture) for _, estimate in pairs.values()]
    # A silent estimate has no BSS figures, and the library refuses it: the truth stands in for it, unseen.
    filled = [true if quiet else e for (true, e), quiet in zip(pairs.values(), silent, strict=True)]
    rows: dict[str, Scores] = {}
    for (target, (reference, estimate)), quiet in zip(pairs.items(), silent, strict=True):
        rows[target] = {}
        if "usdr" in names:
            value = sdr(reference, estimate)
            rows[target] |= {"uSDR": value, "uSDR gain": value - sdr(reference, song.mixture)}
        if "si-sdr" in names:
            rows[target]["SI-SDR"] = None if quiet else si_sdr(reference, estimate)
    if {"v3", "mir1k"} & set(names):
        mono = [np.stack([s.mean(0, dtype=np.float64) for s in sounds]) for sounds in (truth, filled)]
        _bss(rows, METRICS["v3"].columns, lambda: bss_v3(mono[0], mono[1]), silent)
    if "v4" in names:
        wide = [np.stack([s.T.astype(np.float64) for s in sounds]) for sounds in (truth, filled)]
        _bss(rows, METRICS["v4"].columns, lambda: bss_v4(wide[0], wide[1], song.samplerate), silent)
    return rows


def _bss(rows: dict[str, Scores], columns: Sequence[str], compute: Any, silent: Sequence[bool]) -> None:
    """Add figures of shape (columns, targets) to the rows of the targets that are not silent.

    Where the library refuses the sound, as it does a stem whose channels cancel in their mean, no figure is defined.
    """
    try:
        values = compute()
    except ValueError:
        values = np.full((len(columns), len(rows)), np.nan)
    for number, row in enumerate(rows.values()):
        for column, of_targets in zip(columns, values, strict=True):
            value = float(of_targets[number])
            row[column] = None if silent[number] or not math.isfinite(value) else value


def add_mir1k(scores: dict[str, Scores], floor: dict[str, Scores], keep_v3: bool) -> None:
    """Turn v3 figures of a song into those that MIR-1K's are made of, given the v3 figures of its mixture."""
    for target, row in scores.items():
        own, mixture = row.get("SDR v3"), floor[target].get("SDR v3")
        row["GNSDR"] = None if own is None or mixture is None else own - mixture
        row["GSIR"], row["GSAR"] = row.get("SIR v3"), row.get("SAR v3")
        if not keep_v3:
            for column in METRICS["v3"].columns:
                row.pop(column, None)


def over_songs(metric: Metric, values: Sequence[float | None], seconds: Sequence[float]) -> float | None:
    """One figure for a data set from those of its songs; None if no song has one."""
    pairs = [(value, length) for value, length in zip(values, seconds, strict=True) if value is not None]
    if not pairs:
        return None
    figures, lengths = np.array(pairs).T
    if metric.over_songs == "median":
        return float(np.median(figures))
    return float(np.average(figures, weights=lengths if metric.over_songs == "length" else None))

"""Pictures of results (matplotlib): score against latency and cost, artifacts against interference, spectrograms."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtsep.errors import UsageError

Results = dict[str, Any]
_COLORS = ("#0b6e99", "#d9730d", "#0f7b6c", "#ad1a72", "#6940a5", "#64473a", "#b8860b", "#4a4a4a")
_TOP_HZ = 8000.0
_FLOOR_DB = -70.0
_NO_ARTIFACTS_DB = 60.0


def pyplot() -> Any:
    """Make matplotlib draw without a screen; `UsageError` if it is not installed."""
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed: pip install 'rtsep[eval]'") from None
    matplotlib.use("Agg")
    matplotlib.rcParams["text.parse_math"] = False  # a name may hold dollars
    warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # or letters that the font lacks
    matplotlib.rcParams["svg.hashsalt"] = "rtsep"  # the same picture from the same figures
    from matplotlib import pyplot as plt

    return plt


def headline(results: Results) -> str:
    """The figure that pictures and lists go by: the first of these that was asked for."""
    usual = {"usdr": "uSDR gain", "v4": "SDR v4", "mir1k": "GNSDR", "v3": "SDR v3", "si-sdr": "SI-SDR"}
    return next(column for name, column in usual.items() if name in results["metrics"])


def draw(results: Results, out: Path) -> list[tuple[str, Path]]:
    """Draw what the results allow; captions and files of the pictures."""
    folder = out / "plots"
    folder.mkdir(exist_ok=True)
    score = headline(results)
    drawn = []
    for fact, label, name in (
        ("latency_ms", "latency, ms (device buffers excluded)", "latency"),
        ("p50_ms", "process per hop, ms (p50)", "cost"),
    ):
        if _against(results, score, fact, label, folder / f"{name}.svg"):
            drawn.append((f"{score} of the vocals against {label}", folder / f"{name}.svg"))
    for version in ("v3", "v4"):
        path = folder / f"sar-sir-{version}.svg"
        if version in results["metrics"] and _sar_sir(results, version, path):
            drawn.append((f"Artifacts against interference, BSS Eval {version}, vocals and accompaniment", path))
    return drawn


def _save(figure: Any, path: Path) -> None:
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    metadata = {"Date": None} if path.suffix == ".svg" else None
    figure.savefig(part, metadata=metadata, dpi=120, bbox_inches="tight")
    pyplot().close(figure)
    os.replace(part, path)


def _color(number: int) -> str:
    return _COLORS[number % len(_COLORS)]


def _against(results: Results, score: str, fact: str, label: str, path: Path) -> bool:
    """Score of the vocals over latency or cost, with the ceilings as lines; False if there is nothing to show."""
    rows = [(method, results["summary"][method["label"]]) for method in results["methods"]]
    points = [
        (method["label"], row[fact], row["vocals"][score])
        for method, row in rows
        if fact in row and row["vocals"][score] is not None and not method["sweep"]
    ]
    if not points:
        return False
    figure, axes = pyplot().subplots(figsize=(6.4, 4.2))
    for number, (name, x, y) in enumerate(points):
        axes.scatter([x], [y], s=60, color=_color(number), zorder=3)
        axes.annotate(name, (x, y), xytext=(7, 5), textcoords="offset points", fontsize=9)
    bounds = [(method, row["vocals"][score]) for method, row in rows if method["kind"] != "separator"]
    for number, (method, value) in enumerate(bounds):
        if value is not None:
            axes.axhline(value, color="0.6", linewidth=1, linestyle="--" if method["kind"] == "ceiling" else ":")
            place = (0.99 - 0.25 * (number % 4), value)  # ceilings lie close together: their names stand side by side
            axes.annotate(
                method["label"], place, xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8
            )
    if fact == "p50_ms":
        axes.set_xscale("log")
    axes.margins(x=0.25)
    axes.set(xlabel=label, ylabel=f"{score} of the vocals, dB")
    axes.grid(alpha=0.25)
    _save(figure, path)
    return True


def _sar_sir(results: Results, version: str, path: Path) -> bool:
    """SAR over SIR of both parts: a curve for each sweep, a point for each other method."""
    figure, both = pyplot().subplots(1, 2, figsize=(10, 4.4), sharey=True)
    shown = False
    for axes, target in zip(both, ("vocals", "accompaniment"), strict=True):
        groups: dict[str, list[tuple[float, float, dict[str, Any]]]] = {}
        for method in results["methods"]:
            row = results["summary"][method["label"]][target]
            x, y = row[f"SIR {version}"], row[f"SAR {version}"]
            # The mixture has no artifacts at all: its SAR would flatten every other figure.
            if x is not None and y is not None and y < _NO_ARTIFACTS_DB:
                groups.setdefault(method["sweep"] or method["label"], []).append((x, y, method))
        for number, (name, points) in enumerate(groups.items()):
            xs, ys = [point[0] for point in points], [point[1] for point in points]
            marker = "*" if points[0][2]["kind"] == "ceiling" else "o"
            axes.plot(xs, ys, marker=marker, markersize=9 if marker == "*" else 5, color=_color(number), label=name)
            for x, y, method in points if len(points) > 1 else ():
                axes.annotate(f"{method['value']:g}", (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7)
            shown = True
        axes.set(xlabel=f"SIR {version}, dB", title=target)
        axes.grid(alpha=0.25)
    both[0].set_ylabel(f"SAR {version}, dB")
    if shown:
        handles, labels = both[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="upper center", ncols=3, fontsize=8, bbox_to_anchor=(0.5, 0.0))
        _save(figure, path)
    else:
        pyplot().close(figure)
    return shown


def spectrograms(
    path: Path,
    title: str,
    samplerate: int,
    sounds: dict[str, NDArray[np.float32]],
    masks: NDArray[np.float32],
    mask_rate: int,
) -> None:
    """Draw sounds (frames,) of one stretch under each other, and after the first the mask.

    Parameters
    ----------
    path : Path
        Picture to write.
    title : str
    samplerate : int
        Of the sounds, in Hz.
    sounds : dict
        By title; the first is the mixture.
    masks : ndarray, shape (hops, bins)
        Of the same stretch, 0 to 1.
    mask_rate : int
        Rate at which the mask was made, in Hz.
    """
    levels = {name: _levels(sound) for name, sound in sounds.items()}
    top = max(float(level.max()) for level in levels.values())
    seconds = len(next(iter(sounds.values()))) / samplerate
    pictures: list[tuple[str, NDArray[np.floating], float, float, float]] = [
        (name, level, samplerate / 2, top + _FLOOR_DB, top) for name, level in levels.items()
    ]
    pictures.insert(1, ("mask", masks, mask_rate / 2, 0.0, 1.0))
    figure, all_axes = pyplot().subplots(len(pictures), 1, figsize=(9, 9), sharex=True)
    for axes, (name, values, high_hz, low, high) in zip(all_axes, pictures, strict=True):
        axes.imshow(
            values.T,
            origin="lower",
            aspect="auto",
            cmap="gray" if name == "mask" else "magma",
            vmin=low,
            vmax=high,
            extent=(0, seconds, 0, high_hz / 1000),
            interpolation="nearest" if name == "mask" else "antialiased",
        )
        axes.set_ylim(0, min(_TOP_HZ, high_hz, samplerate / 2) / 1000)
        axes.set_title(name, loc="left", fontsize=10)
        axes.set_ylabel("kHz")
    all_axes[-1].set_xlabel(f"s ({title})")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    _save(figure, path)


def _levels(sound: NDArray[np.float32], window: int = 2048) -> NDArray[np.floating]:
    """Levels in dB, shape (frames, bins), of sound (frames,)."""
    step = max(window // 4, len(sound) // 1500)
    padded = np.concatenate([sound, np.zeros(window, np.float32)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[: len(sound) : step]
    return 20 * np.log10(np.abs(np.fft.rfft(frames * np.hanning(window))) + 1e-6)

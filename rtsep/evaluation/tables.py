"""Results as JSON, Markdown and CSV."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

from rtsep.evaluation.metrics import METRICS, TARGETS, over_songs
from rtsep.separators.base import OTHER, STEMS

Results = dict[str, Any]


def columns(results: Results) -> list[str]:
    """Names of all figures, in order."""
    return [column for name in results["metrics"] for column in METRICS[name].columns]


def targets(results: Results) -> list[str]:
    """The parts that have scores: always `TARGETS`, then stems of the accompaniment."""
    entries = [entry for song in results["songs"] for entry in song["methods"].values()]
    present = {target for entry in entries for target in entry.get("scores", {})}
    return [*TARGETS, *(stem for stem in (*STEMS, OTHER) if stem in present)]


def known(results: Results, label: str, target: str) -> bool:
    """Whether a method has figures of a part: not all tell stems apart."""
    return target in TARGETS or any(value is not None for value in results["summary"][label][target].values())


def scored(results: Results, label: str) -> list[dict[str, Any]]:
    """Songs on which a method has scores."""
    return [song for song in results["songs"] if "scores" in song["methods"].get(label, {})]


def summarize(results: Results) -> dict[str, Any]:
    """Figures of each method over the songs that have them, its cost and its latency."""
    summary: dict[str, Any] = {}
    for method in results["methods"]:
        label = method["label"]
        songs = scored(results, label)
        row: dict[str, Any] = {"songs": len(songs), "counts": {}}
        for target in targets(results):
            row[target], row["counts"][target] = {}, {}
            for name in results["metrics"]:
                for column in METRICS[name].columns:
                    values = [song["methods"][label]["scores"].get(target, {}).get(column) for song in songs]
                    seconds = [song["seconds"] for song in songs]
                    row[target][column] = over_songs(METRICS[name], values, seconds)
                    row["counts"][target][column] = sum(value is not None for value in values)
        for fact in ("latency_ms", "hop_ms", "p50_ms", "p99_ms"):
            values = [song["methods"][label][fact] for song in songs if fact in song["methods"][label]]
            if values:
                row[fact] = sum(values) / len(values)
        summary[label] = row
    return summary


def faults(results: Results) -> list[tuple[str, str]]:
    """Songs that could not be scored, and methods that failed on a song, each with its reason."""
    found = []
    for song in results["songs"]:
        if "fault" in song:
            found.append((song["song"], song["fault"]))
        found += [
            (f"{song['song']}, {label}", entry["fault"]) for label, entry in song["methods"].items() if "fault" in entry
        ]
    return found


def heading(results: Results) -> str:
    """One line: which songs."""
    good = [song for song in results["songs"] if song["methods"]]
    minutes = sum(song["seconds"] for song in good) / 60
    split = f", split {results['split']}" if results["split"] else ""
    part = f", {results['seconds_per_song']:g} s from the middle of each" if results["seconds_per_song"] else ""
    return f"{results['data']} (layout {results['layout']}{split}): {len(good)} songs, {minutes:.1f} min{part}"


def counted(row: dict[str, Any], target: str) -> str:
    """How many songs the figures of a part are of; the fewest first, where that is not the same for all figures."""
    counts = {count for count in row["counts"][target].values() if count} or {0}
    return " to ".join(str(count) for count in sorted({min(counts), max(counts)}))


def figure(value: float | None, sign: bool = False) -> str:
    """A figure in dB, or a dash; what is beyond 100 dB is the rounding of the computation."""
    if value is not None and value > 100:
        return ">100"
    return "–" if value is None else f"{value:{'+' if sign else ''}.2f}"


def markdown(results: Results) -> str:
    """The page: one table for each part, then cost, songs and faults."""
    names = columns(results)
    lines = ["# Scores", "", f"{heading(results)}. All figures in dB.", ""]
    for target in targets(results):
        lines += [f"## {target.capitalize()}", "", f"| method | songs | {' | '.join(names)} |"]
        lines += ["|---|---|" + "---|" * len(names)]
        for method in results["methods"]:
            row = results["summary"][method["label"]]
            if not known(results, method["label"], target):
                continue
            values = " | ".join(figure(row[target][name], name == "uSDR gain") for name in names)
            lines.append(f"| {_title(method)} | {counted(row, target)} | {values} |")
        lines.append("")
    lines += ["## What the columns are", "", "Never compare figures of two columns, nor of two data sets.", ""]
    for name, metric in results["metrics"].items():
        lines.append(f"- {', '.join(metric['columns'])} (`{name}`): {metric['what']}.")
    lines += [
        "- floor: the untouched mixture, taken for each part. Ceilings: IBM, |V| > |A|, and IRM, |V|² / (|V|² + |A|²), "
        "per channel, through the separators' own filterbank (window 2048, asymmetric) at the hop that is named. They "
        "bound masks of that filterbank, not every method.",
        "- songs: how many the figures are of; fewer than there are where a part is silent or a figure not defined.",
        "- –: not defined, as BSS Eval is for a silent estimate. >100: no such distortion at all, as the mixture "
        "has no artifacts.",
        "",
    ]
    lines += _cost(results) + _songs(results) + _faults(results)
    lines += [
        f"rtsep {results['rtsep']}, {results['date']}, {results['machine']}, {results['processes']} processes. "
        + (f"`{results['command']}`" if results["command"] else ""),
        "",
    ]
    return "\n".join(lines)


def _title(method: dict[str, Any]) -> str:
    params = "" if method["sweep"] else ", ".join(f"{name}={value}" for name, value in method["params"])
    kind = {"floor": " (floor)", "ceiling": " (ceiling)"}.get(method["kind"], "")
    return method["label"] + kind + (f" ({params})" if params else "")


def _cost(results: Results) -> list[str]:
    rows = [(method, results["summary"][method["label"]]) for method in results["methods"]]
    lines = [
        "## Latency and cost",
        "",
        "| separator | latency | one hop lasts | process, p50 | p99 |",
        "|---|---|---|---|---|",
    ]
    for method, row in rows:
        if "p50_ms" in row:
            lines.append(
                f"| {_title(method)} | {row['latency_ms']:.1f} ms | {row['hop_ms']:.2f} ms | {row['p50_ms']:.3f} ms "
                f"| {row['p99_ms']:.3f} ms |"
            )
    note = "Latency: 2 hops and the look-ahead, device buffers excluded. Process: of the separator, per hop, with "
    return [*lines, "", f"{note}{results['processes']} processes at work.", ""]


def _songs(results: Results) -> list[str]:
    column = next(
        (name for name in ("uSDR gain", "SDR v4", "GNSDR", "SDR v3", "SI-SDR") if name in columns(results)), ""
    )
    labels = [method["label"] for method in results["methods"] if not method["sweep"]]
    lines = [f"## Songs: {column} of the vocals", "", f"| song | s | {' | '.join(labels)} |"]
    lines.append("|---|---|" + "---|" * len(labels))
    for song in results["songs"]:
        if song["methods"]:
            scores = [song["methods"].get(label, {}).get("scores", {}).get("vocals", {}) for label in labels]
            values = " | ".join(figure(row.get(column), column == "uSDR gain") for row in scores)
            lines.append(f"| {song['song'].replace('|', '/')} | {song['seconds']:.1f} | {values} |")
    return [*lines, ""]


def _faults(results: Results) -> list[str]:
    found = faults(results)
    return ["## Not scored", "", *(f"- {name}: {fault}" for name, fault in found), ""] if found else []


def as_csv(results: Results) -> str:
    """One line for each song, method, part and figure; faults have an empty value."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["song", "seconds", "method", "kind", "target", "metric", "value_db", "fault"])
    kinds = {method["label"]: method["kind"] for method in results["methods"]}
    for song in results["songs"]:
        if "fault" in song:
            table.writerow([song["song"], "", "", "", "", "", "", song["fault"]])
        for label, entry in song["methods"].items():
            start = [song["song"], f"{song['seconds']:.3f}", label, kinds[label]]
            if "fault" in entry:
                table.writerow([*start, "", "", "", entry["fault"]])
            for target, row in entry.get("scores", {}).items():
                for column in columns(results):
                    value = row.get(column)
                    table.writerow([*start, target, column, "" if value is None else f"{value:.4f}", ""])
    return text.getvalue()


def write(results: Results, out: Path) -> None:
    """Write ``scores.json``, ``scores.md`` and ``scores.csv``, each whole or not at all."""
    texts = {
        "scores.json": json.dumps(results, indent=1, allow_nan=False) + "\n",
        "scores.md": markdown(results),
        "scores.csv": as_csv(results),
    }
    for name, text in texts.items():
        part = out / f"{name}.part"
        part.write_text(text, encoding="utf-8")
        os.replace(part, out / name)

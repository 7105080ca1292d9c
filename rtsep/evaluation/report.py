"""The report: one HTML page with tables, pictures and players, for someone who does not run rtsep.

The page and its folders ``audio`` and ``plots`` can be copied anywhere; it loads nothing from the network.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rtsep.evaluation import plots, tables
from rtsep.evaluation.metrics import TARGETS
from rtsep.evaluation.song import Job, picture_path, sound_path

Results = dict[str, Any]
_TEMPLATE = Path(__file__).with_name("report.html")


def check_library() -> None:
    """`UsageError` if the library for the pictures is missing."""
    plots.pyplot()


def write(results: Results, work: Sequence[Job], out: Path) -> None:
    """Draw the pictures and write ``report.html``."""
    pictures = plots.draw(results, out)
    for job in work:
        for method in results["methods"]:
            path = picture_path(job, method["label"])
            if job.picture and path.is_file():
                pictures.append((f"{job.files.name}: mixture, mask, estimate and truth, {method['label']}", path))
    parts = {
        "subtitle": escape(tables.heading(results)),
        "tables": "\n".join(_table(results, target) for target in tables.targets(results)),
        "columns": "\n".join(
            f"<dt>{escape(', '.join(metric['columns']))}</dt><dd>{escape(metric['what'])}.</dd>"
            for metric in results["metrics"].values()
        ),
        "cost": _cost(results),
        "listen": _listen(results, work, out),
        "pictures": "\n".join(_picture(caption, path, out) for caption, path in pictures),
        "faults": _faults(results),
        "footer": escape(
            f"rtsep {results['rtsep']}, {results['date']}, {results['machine']}. {results['command']}".strip()
        ),
    }
    text = _TEMPLATE.read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(f"<!--{name}-->", part)
    whole = out / "report.html.part"
    whole.write_text(text, encoding="utf-8")
    os.replace(whole, out / "report.html")


def _link(path: Path, out: Path) -> str:
    return escape(quote(path.relative_to(out).as_posix()))


def _bars(results: Results, target: str) -> dict[str, float]:
    """Length of each method's bar: its headline figure between the worst and the best of all, 0 to 1."""
    score = plots.headline(results)
    values = {label: row[target][score] for label, row in results["summary"].items()}
    known = [value for value in values.values() if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    return {
        label: 0.0 if value is None or high == low else (value - low) / (high - low) for label, value in values.items()
    }


def _table(results: Results, target: str) -> str:
    names = tables.columns(results)
    score = plots.headline(results)
    bars = _bars(results, target)
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = [f'<h2>{target.capitalize()}</h2><div class="wide"><table><tr><th>method</th>{head}</tr>']
    for method in results["methods"]:
        label = method["label"]
        row = results["summary"][label][target]
        if not tables.known(results, label, target):
            continue
        cells = []
        for name in names:
            text = tables.figure(row[name], name == "uSDR gain")
            bar = f' class="bar" style="--part:{100 * bars[label]:.0f}%"' if name == score else ""
            cells.append(f"<td{bar}>{text}</td>")
        note = "" if method["kind"] == "separator" else f" <small>{method['kind']}</small>"
        lines.append(f'<tr class="{method["kind"]}"><th>{escape(label)}{note}</th>{"".join(cells)}</tr>')
    return "\n".join([*lines, "</table></div>"])


def _cost(results: Results) -> str:
    rows = []
    for method in results["methods"]:
        row = results["summary"][method["label"]]
        if "p50_ms" in row and not method["sweep"]:
            rows.append(
                f"<tr><th>{escape(method['label'])}</th><td>{row['latency_ms']:.1f} ms</td>"
                f"<td>{row['hop_ms']:.2f} ms</td><td>{row['p50_ms']:.3f} ms</td><td>{row['p99_ms']:.3f} ms</td></tr>"
            )
    return "\n".join(rows)


def _listen(results: Results, work: Sequence[Job], out: Path) -> str:
    sections = []
    records = {record["song"]: record["methods"] for record in results["songs"]}
    for job in work:
        heard = {label for label, entry in records[job.files.name].items() if entry.get("audio") == job.audio}
        if not (job.audio and heard):
            continue
        rows = []
        for method in [{"label": "truth"}, *results["methods"]]:
            paths = [sound_path(job, method["label"], target) for target in TARGETS]
            if method["label"] in heard | {"truth"} and not method.get("sweep"):
                players = "".join(
                    _player(target, _link(path, out)) for target, path in zip(TARGETS, paths, strict=True)
                )
                if method["label"] == "mixture":
                    players = players.partition("</label>")[0].replace("vocals</span>", "both</span>") + "</label>"
                rows.append(f'<div class="row"><b>{escape(method["label"])}</b>{players}</div>')
        if rows:
            sections.append(f'<section class="song"><h3>{escape(job.files.name)}</h3>{"".join(rows)}</section>')
    if not sections:
        return ""
    text = "<p>The stretch with most voice of each song. A player takes over where the last one of its song stood.</p>"
    return "<h2>Listen</h2>" + text + "\n".join(sections)


def _player(target: str, link: str) -> str:
    return f'<label><span>{target}</span><audio controls preload="none" src="{link}"></audio></label>'


def _picture(caption: str, path: Path, out: Path) -> str:
    text = escape(caption)
    return f'<figure><img src="{_link(path, out)}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def _faults(results: Results) -> str:
    found = tables.faults(results)
    items = "".join(f"<li><b>{escape(name)}</b>: {escape(fault)}</li>" for name, fault in found)
    return f"<h2>Not scored</h2><ul>{items}</ul>" if found else ""

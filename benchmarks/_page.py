"""What every benchmark program shares: options, the page that it writes, and what machine it ran on."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rtsep.errors import RtsepError

#: Where pages go unless told otherwise.
OUTPUT = Path("build/bench")
_PACKAGES = ("numpy", "numba", "pyfftw", "onnxruntime", "onnxruntime-gpu")
#: Options that say nothing about what was measured.
_SILENT = ("--output", "--note", "--cache", "--work")
#: Options whose value is a place, and what stands for it.
_PLACES = {"--data": "PACK"}

Row = Mapping[str, Any]


@dataclass(slots=True)
class Table:
    """One table of a page.

    Parameters
    ----------
    title : str
        Its heading.
    columns : dict
        Key of a row to heading of the column, with the unit.
    rows : list of mapping
        Numbers, texts, or None where nothing was measured.
    text : str
        What was done, and what to look at.
    """

    title: str
    columns: dict[str, str]
    rows: Sequence[Row]
    text: str = ""

    def markdown(self) -> str:
        """The table with its heading."""
        lines = [f"## {self.title}", ""]
        if self.text:
            lines += [self.text, ""]
        lines += ["| " + " | ".join(self.columns.values()) + " |", "|" + "---|" * len(self.columns)]
        lines += ["| " + " | ".join(show(row.get(key)) for key in self.columns) + " |" for row in self.rows]
        return "\n".join(lines)


@dataclass(slots=True)
class Page:
    """What one program found out.

    Parameters
    ----------
    name : str
        Of the program; the files are called so.
    title : str
        Heading.
    text : str
        What is measured.
    figures : dict
        Single numbers by name, with the unit in the name.
    tables : list of Table
        The rest.
    notes : list of str
        What a reader must know to judge the figures.
    """

    name: str
    title: str
    text: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    command: str = ""
    date: str = field(default_factory=lambda: date.today().isoformat())
    machine: dict[str, Any] = field(default_factory=dict)

    def markdown(self) -> str:
        """The whole page."""
        parts = [f"# {self.title}"]
        if self.text:
            parts.append(self.text)
        about = [f"`{self.command}`, {self.date}", f"{self.machine['cpu']}, {self.machine['cores']} cores"]
        about += [self.machine["system"], self.machine["software"], f"load average at start {self.machine['load']:.1f}"]
        parts.append("\n".join(f"- {line}" for line in (*about, *self.notes)))
        if self.figures:
            rows = [{"name": name.replace("_", " "), "value": value} for name, value in self.figures.items()]
            parts.append(Table("In short", {"name": "figure", "value": "value"}, rows).markdown())
        parts += [table.markdown() for table in self.tables]
        return "\n\n".join(parts) + "\n"

    def write(self, folder: Path) -> None:
        """Write ``NAME.md`` and ``NAME.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.md").write_text(self.markdown(), encoding="utf-8")
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False, default=float)
        (folder / f"{self.name}.json").write_text(text + "\n", encoding="utf-8")


def show(value: Any) -> str:
    """A value as it stands in a table: three digits are enough for a measurement."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return str(value)
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}" if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"


def machine() -> dict[str, Any]:
    """The class of this machine: no names, no paths."""
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": cpu_class(),
        "cores": cores,
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "software": ", ".join([f"Python {platform.python_version()}", *found]),
        "load": round(os.getloadavg()[0], 1),
    }


def cpu_class() -> str:
    """Model of the processor, with family and model number where the system tells them."""
    words: dict[str, str] = {}
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            key, _, value = line.partition(":")
            words.setdefault(key.strip(), value.strip())
    name = words.get("model name") or platform.processor() or platform.machine()
    return f"{name} (family {words['cpu family']}, model {words['model']})" if "cpu family" in words else name


def parser(text: str | None) -> argparse.ArgumentParser:
    """Options that every program takes."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--output", type=Path, default=OUTPUT, help=f"folder for the page (default {OUTPUT})")
    made.add_argument("--quick", action="store_true", help="few repetitions: to see that it runs, not to quote")
    made.add_argument("--note", default="", help="what a reader must know, such as what else ran on the machine")
    return made


def variants_parser(text: str | None, name: str, steps: int) -> argparse.ArgumentParser:
    """Options of a program, called `name`, that trains variants of a net for so many steps and scores them on songs."""
    made = parser(text)
    made.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the data pack")
    made.add_argument("--cache", type=Path, default=Path("runs/cache"), metavar="DIR", help="decoded sound")
    made.add_argument("--work", type=Path, default=OUTPUT / name, metavar="DIR", help="trained variants")
    made.add_argument("--steps", type=int, default=steps, help="of each variant")
    made.add_argument("--seed", type=int, default=0, help="of each variant")
    made.add_argument("--seconds", type=float, default=10.0, metavar="S", help="of each song")
    made.add_argument("--songs", type=int, default=100, metavar="N", help="of each set, at most")
    return made


def program(
    measure: Callable[[argparse.Namespace], Page], options: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> int:
    """Run a program: measure, write the page, print it; returns the exit code."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    chosen = options.parse_args(tokens)
    before = machine()
    try:
        page = measure(chosen)
    except RtsepError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return error.exit_code
    page.machine = before
    page.command = command(page.name, tokens)
    if chosen.quick:
        page.notes.append("quick: too few repetitions for figures to be quoted")
    if chosen.note:
        page.notes.append(chosen.note)
    page.write(chosen.output)
    print(page.markdown())
    return 0


def command(name: str, tokens: Sequence[str]) -> str:
    """The command line to repeat it with."""
    kept, skip, place = [], False, ""
    for token in tokens:
        if skip:
            skip = False
        elif place:
            kept.append(place)
            place = ""
        elif token in _SILENT:
            skip = True
        elif token in _PLACES:
            kept.append(token)
            place = _PLACES[token]
        elif not token.startswith(tuple(f"{option}=" for option in _SILENT)):
            kept.append(token)
    return shlex.join(["python", "-m", f"benchmarks.{name}", *kept])

"""`rtsep bench`: the benchmark programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rtsep.errors import RtsepError, UsageError, nearest

#: What `all` leaves out: `guard` and `cards` write no page, the others need songs, `listening` is a page.
APART = (
    "guard",
    "cards",
    "quality",
    "robustness",
    "listening",
    "mir1k",
    "stems",
    "separators",
    "confidence",
    "koretzky",
    "ablations",
)

#: Runs ``benchmarks.NAME`` from its folder, wherever that is: in a clone, or within the installed package.
_START = """
import runpy, sys, types
package = types.ModuleType("benchmarks")
package.__path__ = [sys.argv.pop(1)]
sys.modules["benchmarks"] = package
runpy.run_module("benchmarks." + sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def bench(
    name: Annotated[str | None, Parameter(name="NAME")] = None,
    /,
    *arguments: Annotated[str, Parameter(name="ARGUMENTS", allow_leading_hyphen=True)],
) -> int:
    """List the benchmark programs, or run one of them, or all.

    Each writes a Markdown page and a JSON file. What stands behind the name goes
    to the program.

    For example:
      rtsep bench
      rtsep bench all
      rtsep bench hotpath -- --help
      rtsep bench guard       fails if the hot path has become slower

    Parameters
    ----------
    name
        A program's name, or all.
    arguments
        Options of the program.
    """
    import subprocess

    found = programs()
    if name is None:
        width = max(map(len, found), default=0)
        for program, path in found.items():
            print(f"{program:<{width}}  {_summary(path)}")
        return 0
    if name != "all" and name not in found:
        raise UsageError(f"no benchmark '{name}': {nearest(name, [*found, 'all'])}")
    chosen = [program for program in found if program not in APART] if name == "all" else [name]
    failed = []
    for program in chosen:
        command = [sys.executable, "-c", _START, str(found[program].parent), program, *arguments]
        if subprocess.run(command, check=False).returncode:
            failed.append(program)
    if failed:
        raise RtsepError(f"benchmark failed: {', '.join(failed)}")
    return 0


def programs() -> dict[str, Path]:
    """Benchmark programs by name: those of the clone, or those that came with the package."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package.parent / "benchmarks", package / "benchmarks"):
        found = {path.stem: path for path in sorted(folder.glob("*.py")) if not path.name.startswith("_")}
        if found:
            return found
    raise UsageError("the benchmark programs are not installed: run this from a clone of the project")


def _summary(path: Path) -> str:
    """First line of a program's docstring."""
    import ast

    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]

"""Imports run one way, and nothing at run time imports torch or the training."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "rtsep"

#: What each part may import, besides itself.
ALLOWED = {
    "cli": {
        "engine",
        "separators",
        "io",
        "dsp",
        "training",
        "evaluation",
        "config",
        "spec",
        "errors",
        "native",
        "_cache",
    },
    "engine": {"separators", "io", "dsp", "spec", "errors", "native", "_cache"},
    # io: a separator may need a file, as the one that knows the instrumental
    "separators": {"io", "dsp", "spec", "errors", "native"},
    "io": {"dsp", "spec", "errors", "native"},
    "dsp": {"spec", "errors", "native"},
    "training": {"dsp", "separators", "evaluation", "engine", "spec", "errors", "native"},
    # It scores what the live chain plays, so it drives that very chain (engine) and reads and writes files (io).
    "evaluation": {"engine", "dsp", "separators", "io", "spec", "errors", "native"},
    "config": {"spec", "errors", "separators"},
    "spec": {"errors"},
    "errors": set(),
    "native": set(),
    "_cache": set(),
}


def imports(path: Path, everywhere: bool = True) -> set[str]:
    """Modules that a file imports; `everywhere`: inside functions too."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if everywhere else tree.body
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names if node.module == "rtsep")
    return found


def parts() -> list[tuple[str, Path]]:
    files = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem in ALLOWED)
    return [(path.relative_to(PACKAGE).parts[0].removesuffix(".py"), path) for path in files]


@pytest.mark.parametrize("part, path", parts(), ids=lambda value: value.name if isinstance(value, Path) else value)
def test_imports_run_one_way(part: str, path: Path) -> None:
    others = {name.split(".")[1] for name in imports(path) if name.startswith("rtsep.")} - {"__version__", "__init__"}
    assert others - {part} <= ALLOWED[part], f"{path} imports {others - {part} - ALLOWED[part]}"


def test_torch_is_imported_by_the_training_alone() -> None:
    users = [path for _, path in parts() if any(name.split(".")[0] == "torch" for name in imports(path))]
    assert users
    assert {path.relative_to(PACKAGE).parts[0] for path in users} == {"training"}


def test_nothing_at_run_time_imports_the_evaluation() -> None:
    for part in ("engine", "separators", "io", "dsp", "config", "spec", "errors", "native", "_cache"):
        assert "evaluation" not in ALLOWED[part]


def test_the_command_line_imports_training_only_inside_its_commands() -> None:
    for path in (PACKAGE / "cli").glob("*.py"):
        assert not any(
            name.startswith(("rtsep.training", "rtsep.evaluation", "numba", "numpy"))
            for name in imports(path, everywhere=False)
        ), path

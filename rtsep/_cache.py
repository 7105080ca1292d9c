"""Keep Numba's cache honest.

Numba asks for each compiled function whether its own file has changed, but not whether a function of another file
that was compiled into it has. After an update of one file, the worker or an audio callback would go on with the old
code of the others. So the cache of the whole package is thrown away as soon as any file with compiled code has
changed.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
#: Parts of the package that hold compiled functions.
_PARTS = ("native.py", "dsp", "io", "separators", "engine")
_STAMP = _PACKAGE / "__pycache__" / "compiled.stamp"
_WARM = " warm"


def discard_stale() -> bool:
    """Delete what was compiled from other sources than those that are there; True if there was such [at import, a
    millisecond].

    Where the package's folder cannot be written, Numba keeps its cache elsewhere; such a package does not change file
    by file.
    """
    facts = []
    for part in _PARTS:
        for path in sorted([_PACKAGE / part, *(_PACKAGE / part).glob("*.py")]):
            if path.suffix == ".py" and path.exists():
                status = path.stat()
                facts.append(f"{path} {status.st_mtime_ns} {status.st_size}")
    stamp = "\n".join(facts)
    with contextlib.suppress(OSError):
        if _STAMP.exists() and _STAMP.read_text().removesuffix(_WARM) == stamp:
            return False
    with contextlib.suppress(OSError):
        for path in _PACKAGE.rglob("__pycache__/*.nb[ic]"):
            path.unlink(missing_ok=True)
        _STAMP.parent.mkdir(exist_ok=True)
        _STAMP.write_text(stamp)
    return True


def is_warm() -> bool:
    """Whether all that a stream needs has been compiled; True also where that cannot be noted."""
    try:
        return _STAMP.read_text().endswith(_WARM)
    except OSError:
        return True


def mark_warm() -> None:
    """Note that everything has been compiled."""
    with contextlib.suppress(OSError):
        if not is_warm():
            _STAMP.write_text(_STAMP.read_text() + _WARM)

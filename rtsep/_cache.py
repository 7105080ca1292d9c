"""Keep Numba's cache honest.

Numba asks for each compiled function whether its own file has changed, but not whether a function of another file that was compiled
into it has. After an update of one file, the worker or an audio callback would go on with the old code of the others. So
the cache of the whole package is thrown away as soon as any of its files has changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_STAMP = _PACKAGE / "__pycache__" / "compiled.stamp"


def discard_stale() -> bool:
    """Delete what was compiled from other sources than those that are there; True if there was such [at import, a millisecond].

    Where the package's folder cannot be written, Numba keeps its cache elsewhere; such a package does not change file by file.
    """
    facts = hashlib.sha256()
    for folder, _, names in sorted(os.walk(_PACKAGE)):
        for name in sorted(names):
            if name.endswith(".py"):
                status = os.stat(os.path.join(folder, name))
                facts.update(f"{folder}/{name} {status.st_mtime_ns} {status.st_size}\n".encode())
    stamp = facts.hexdigest()
    with contextlib.suppress(OSError):
        if _STAMP.exists() and _STAMP.read_text() == stamp:
            return False
    with contextlib.suppress(OSError):
        for path in _PACKAGE.rglob("__pycache__/*.nb[ic]"):
            path.unlink(missing_ok=True)
        _STAMP.parent.mkdir(exist_ok=True)
        _STAMP.write_text(stamp)
    return True

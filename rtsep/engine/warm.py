"""Compile everything that a stream needs, once, in a process of its own.

The compiler leaves more than 100 MB behind in the process that ran it; one that finds the code in the cache starts in
half a second and stays small.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from rtsep import _cache

#: Modules whose compiled functions no stream without a device touches; those of a missing library are left out.
_MODULES = (
    "rtsep.io.jack_callbacks",
    "rtsep.io.portaudio_callback",
    "rtsep.io.pulse_loops",
    "rtsep.separators.gru",
    "rtsep.separators.kernels",
    "rtsep.separators.onnx",
    "rtsep.io.demo",
)


def ensure(say: Callable[[str], None]) -> None:
    """Fill the cache if it is empty or out of date [main thread, before the engine is imported].

    Parameters
    ----------
    say : callable
        Told why it takes so long; not called if nothing has to be done.
    """
    if _cache.is_warm():
        return
    say("Compiling the sound path (once after an installation or update, half a minute) ...")
    # From wherever this package comes, also where it is not installed.
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "rtsep.engine.warm"]
    subprocess.run(command, check=False, stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": path})


def compile_all() -> None:
    """Load or compile every function, with the types that streams call them with."""
    import numpy as np

    from rtsep.engine.chain import Chain
    from rtsep.engine.stream import Controls, Stream
    from rtsep.io.demo import demo_stems
    from rtsep.io.null import FreeDriver
    from rtsep.separators.registry import create
    from rtsep.spec import StreamSpec

    for name in _MODULES:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    demo_stems(44100)
    for separator in ("passthrough", "midside", "adress", "band", "repet", "ica", "pitch-rules"):
        Chain(create(separator), StreamSpec(48000, 2)).process(np.zeros((2, 256), np.float32))
    driver = FreeDriver(48000, 256)
    driver.inputs = 2
    Stream(driver, None, create("passthrough"), 256, Controls())
    _cache.mark_warm()


if __name__ == "__main__":
    compile_all()

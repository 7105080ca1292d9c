"""The examples of docs/separators.md work as they stand there."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import numpy as np

from rtsep.separators import manifest
from rtsep.spec import StreamSpec

TEXT = (Path(__file__).parents[2] / "docs" / "separators.md").read_text(encoding="utf-8")


def test_manifest_of_the_documentation(tmp_path: Path) -> None:
    block = re.search(r"```toml\n(format.*?)```", TEXT, re.S)
    assert block is not None
    (tmp_path / "manifest.toml").write_text(block[1].replace('sha256 = "..."', f'sha256 = "{"0" * 64}"'))
    assert manifest.read(tmp_path).features.bins == 513


def test_class_of_the_documentation() -> None:
    block = re.search(r"```python\n(.*?)```", TEXT, re.S)
    assert block is not None
    names: dict = {}
    exec(block[1], names)
    separator = names["Half"]()
    separator.prepare(StreamSpec(44100, 2))
    mask = np.zeros((2, 1025), np.float32)
    separator.process(np.zeros((2, 1025), np.complex64), mask)
    assert (mask == 0.5).all()
    separator.reset()


def test_compiled_form_of_the_documentation() -> None:
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.S):
        exec(block, names)
    separator = names["FastHalf"]()
    separator.prepare(StreamSpec(44100, 2))
    separator.params.set("share", 1.0)
    compiled = separator.compiled()
    spectrum, mask, other = np.zeros((2, 1025), np.complex64), *np.zeros((2, 2, 1025), np.float32)
    function = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 3)(compiled.function)
    assert function(compiled.memory, spectrum.ctypes.data, mask.ctypes.data) == 0
    assert 0.5 < mask.min() == mask.max() < 1.0
    separator.params.settle()
    separator.process(spectrum, other)
    assert function(compiled.memory, spectrum.ctypes.data, mask.ctypes.data) == 0
    np.testing.assert_array_equal(mask, other)

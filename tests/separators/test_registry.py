"""Names, model folders and plug-ins of other packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rtsep.errors import ModelError, UsageError
from rtsep.separators import manifest, registry
from rtsep.separators.onnx import OnnxSeparator
from rtsep.spec import StreamSpec
from tests.separators import tiny

PLUG_IN = """
from rtsep.errors import UsageError
from rtsep.separators.base import Separator

class Half(Separator):
    name = "half"
    summary = "takes half of everything"
    def prepare(self, spec): pass
    def process(self, spectrum, mask): mask.fill(0.5)
    def reset(self): pass

class Plain(Separator):
    def prepare(self, spec): pass
    def process(self, spectrum, mask): mask.fill(0.5)
    def reset(self): pass

class Crash(Half):
    def __init__(self):
        raise OSError("no weights\\nin several lines")

class Unfinished(Separator):
    pass

class Picky(Half):
    def __init__(self, part="all"):
        super().__init__()
        raise UsageError(f"there is no part {part}")
"""
# As they are outside of these tests.
WINDOWS = manifest.WINDOWS


@pytest.fixture(autouse=True)
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder = tmp_path / "data" / "rtsep" / "models"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def plug_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with entry points, as pip would have installed it: some good, some not."""
    site = tmp_path / "site"
    info = site / "halves-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: halves\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "[rtsep.separators]\nhalf = halves_a:Half\nbroken = halves_b:Half\nlost = halves_a:Third\n"
        "odd = halves_a:Separator.reset\nmidside = halves_a:Half\nplain = halves_a:Plain\n"
        "crash = halves_a:Crash\nunfinished = halves_a:Unfinished\npicky = halves_a:Picky\n"
    )
    (site / "halves_a.py").write_text(PLUG_IN)
    (site / "halves_b.py").write_text("raise OSError('libhalf.so is missing\\nin several lines')")
    monkeypatch.syspath_prepend(str(site))
    yield site
    for module in ("halves_a", "halves_b"):
        sys.modules.pop(module, None)


def test_built_in_separators_are_listed_as_they_are() -> None:
    entries = {entry.name: entry for entry in registry.names()}
    for name in registry.BUILT_IN:
        separator = registry.create(name)
        assert (separator.name, separator.summary) == (name, entries[name].summary)
        assert entries[name].kind == "built-in"


def test_a_list_imports_nothing_heavy() -> None:
    code = (
        "import sys; from rtsep.separators import registry; registry.names(); "
        "print([m for m in ('numba', 'onnxruntime', 'scipy', 'torch') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_names() -> None:
    with pytest.raises(UsageError, match="unknown separator 'midsid': did you mean 'midside'"):
        registry.create("midsid")
    with pytest.raises(UsageError, match="separator midside does not take '3'"):
        registry.create("midside:3")
    with pytest.raises(UsageError, match="look-ahead '-1' of separator delay is not possible: 0 to 256"):
        registry.create("delay:-1")


def test_delay_looks_ahead_by_its_argument() -> None:
    separator = registry.create("delay:7")
    separator.prepare(StreamSpec(44100, 2, 128))
    assert separator.latency == 7 * 128


def test_model_folders(user_folder: Path, tmp_path: Path) -> None:
    tiny.build(user_folder / "mine")
    tiny.build(tmp_path / "elsewhere")
    tiny.build(user_folder / "broken")
    tiny.edit(user_folder / "broken", "hop = 64\n", "")
    (user_folder / "no-model").mkdir()
    entries = {entry.name: entry for entry in registry.names()}
    assert (entries["mine"].kind, entries["mine"].summary, entries["mine"].fault) == ("model", "a net for tests", "")
    assert "hop" in entries["broken"].fault
    assert "no-model" not in entries
    assert isinstance(registry.create("mine"), OnnxSeparator)
    by_path = registry.create(str(tmp_path / "elsewhere"), device="cpu")
    assert isinstance(by_path, OnnxSeparator)
    assert by_path.folder == tmp_path / "elsewhere"
    with pytest.raises(ModelError, match=r"manifest.toml cannot be read"):
        registry.create(str(tmp_path / "nowhere"))


def test_plug_ins(plug_ins: Path) -> None:
    separator = registry.create("half")
    separator.prepare(StreamSpec(44100, 1))
    mask = np.zeros((1, 1025), np.float32)
    separator.process(np.zeros((1, 1025), np.complex64), mask)
    assert (mask == 0.5).all()


def test_a_broken_plug_in_is_one_line_and_breaks_no_other(plug_ins: Path) -> None:
    entries = {entry.name: entry for entry in registry.names()}
    assert (entries["half"].summary, entries["half"].fault) == ("takes half of everything", "")
    assert entries["half"].origin == "halves 1.2"
    broken = "separator 'broken' of package halves 1.2 cannot be loaded: OSError: libhalf.so is missing"
    assert entries["broken"].fault == broken
    assert "AttributeError" in entries["lost"].fault
    assert "is not a subclass of rtsep.separators.base.Separator" in entries["odd"].fault
    assert "name is taken by the built-in separator" in entries["midside (halves 1.2)"].fault
    assert type(registry.create("midside")).__module__ == "rtsep.separators.midside"
    with pytest.raises(ModelError, match="libhalf.so is missing$"):
        registry.create("broken")


def test_a_plug_in_without_name_and_summary_is_listed_and_plays(plug_ins: Path) -> None:
    entries = {entry.name: entry for entry in registry.names()}
    assert (entries["plain"].summary, entries["plain"].fault) == ("(no summary)", "")
    separator = registry.create("plain")
    assert (separator.name, separator.summary) == ("plain", "")


@pytest.mark.parametrize(
    ("name", "line"), [("crash", "OSError: no weights"), ("unfinished", "TypeError: Can't instantiate abstract class")]
)
def test_a_plug_in_that_cannot_be_made_is_one_line(plug_ins: Path, name: str, line: str) -> None:
    with pytest.raises(ModelError) as caught:
        registry.create(name)
    assert str(caught.value).startswith(f"separator '{name}' of package halves 1.2 cannot be made: {line}")
    assert "\n" not in str(caught.value)


def test_a_plug_in_says_itself_what_a_user_did_wrong(plug_ins: Path) -> None:
    with pytest.raises(UsageError, match="^there is no part drums$"):
        registry.create("picky:drums")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("hop = 64", "hop = 63", "transform.hop 63 is not a power of two"),
        ("hop = 64", "", "missing required field `hop`"),
        ("hop = 64", 'hop = "64"', "`int`, got `str`"),
        ("hop = 64", "hopp = 64", "unknown key 'transform.hopp': did you mean 'hop'"),
        ("synthesis = 128", "synthesis = 256", "transform.synthesis 256 is not 2 x hop"),
        ("shape = [1, 65]", "shapes = [1, 65]", "unknown key 'state.shapes': did you mean 'shape'"),
        ("shape = [1, 65]", "shape = []", "a state's shape is empty"),
        ("format = 1", "format = 2", "format"),
        ('name = "tiny"', 'nam = "tiny"', "unknown key 'nam'"),
        ('"model.onnx"', '"../model.onnx"', "is not the name of a file in this folder"),
        ('extend = "hold"', 'extend = "zero"', "Invalid enum value 'zero'"),
        ("lookahead = 0", "lookahead = -1", "tensors.lookahead -1 is not from 0 to 256"),
        ("bins = 65", "bins = 130", "features.bins 130 is not from 1 to"),
        ('output = "state_out"', 'output = "mask"', "two tensors have the same name"),
        ("format = 1", "format = ", "is not valid TOML"),
    ],
)
def test_manifests_that_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    tiny.write_file(folder, b"")
    manifest.read(folder)
    tiny.edit(folder, old, new)
    with pytest.raises(ModelError, match=message) as caught:
        manifest.read(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_window_that_no_stream_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "WINDOWS", WINDOWS)
    tiny.write_file(tmp_path, b"")
    with pytest.raises(ModelError, match="transform.window 256 is not 2048, the window of every stream"):
        manifest.read(tmp_path)
    tiny.edit(tmp_path, "window = 256", "window = 2048")
    manifest.read(tmp_path)


def test_unknown_kind_of_features(tmp_path: Path) -> None:
    tiny.write_file(tmp_path, b"")
    tiny.edit(tmp_path, "mid_magnitude", "mid_magnitudes")
    with pytest.raises(ModelError, match="features of kind 'mid_magnitudes' are unknown.*did you mean 'mid_magnitude'"):
        OnnxSeparator(tmp_path)

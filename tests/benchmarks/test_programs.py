"""Every benchmark program runs, with few repetitions, and writes a page and JSON."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import _page, cards, latency, table
from benchmarks._page import Page, Table, show
from rtsep.separators.registry import create
from tests.conftest import need

onnxruntime = pytest.importorskip("onnxruntime")


def run(name: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """The JSON that a program writes."""
    assert import_module(f"benchmarks.{name}").main(["--quick", "--output", str(folder), *arguments]) == 0
    page = (folder / f"{name}.md").read_text()
    found = json.loads((folder / f"{name}.json").read_text())
    assert page.startswith("# ")
    assert found["name"] == name
    assert f"benchmarks.{name} --quick" in found["command"]
    assert str(folder) not in page
    assert found["machine"]["cpu"]
    assert all(value is not None for value in found["figures"].values())
    return found


def rows(page: dict[str, Any], title: str) -> list[dict[str, Any]]:
    return next(found["rows"] for found in page["tables"] if found["title"] == title)


def test_hotpath_finds_no_allocation(tmp_path: Path) -> None:
    page = run("hotpath", tmp_path, "--minutes", "0.02", "--hops", "2000", "--separators", "passthrough", "koretzky")
    assert len(rows(page, "Cost of one hop, synchronous")) == 8
    for row in rows(page, "Allocations"):
        assert row["blocks_per_hop"] < 0.01
        assert row["numpy_bytes_per_hop"] == 0
        assert row["compiled_per_hop"] < 0.01
        assert row["peak_bytes"] < row["mask_bytes"]
    assert rows(page, "Resident memory")[0]["hops"] > 0


def test_allocations_of_a_wasteful_separator_are_found() -> None:
    from benchmarks import _memory
    from rtsep.separators.passthrough import Passthrough

    kept = []

    class Wasteful(Passthrough):
        def process(self, spectrum: Any, mask: Any) -> None:
            super().process(spectrum, mask)
            kept.extend((mask * 0.5, mask * 0.25))  # two: a block of somebody else's, freed meanwhile, is no matter

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_memory, "create", lambda *_, **__: Wasteful())
        found = _memory.allocations("wasteful", 300)
    assert found["blocks_per_hop"] >= 1
    assert found["numpy_bytes_per_hop"] >= found["mask_bytes"]


def test_inference(tmp_path: Path) -> None:
    page = run("inference", tmp_path)
    found = rows(page, "Runs")
    assert {(row["device"], row["threads"]) for row in found} >= {("cpu", 1), ("cpu", 2)}
    assert all(0 < row["p50_ms"] <= row["p99_ms"] <= row["max_ms"] for row in found)
    assert any("CUDA" in note for note in page["notes"]) or any("cuda" in row["device"] for row in found)


def test_scale(tmp_path: Path) -> None:
    page = run("scale", tmp_path, "--streams", "1", "2", "--separators", "midside")
    assert len(rows(page, "Hop and channels")) == 10
    assert [row["streams"] for row in rows(page, "Streams in one process")] == [1, 2]


def test_startup(tmp_path: Path) -> None:
    page = run("startup", tmp_path)
    assert 0 < page["figures"]["help_s"] < page["figures"]["first_sound_s"]
    assert page["figures"]["rss_mb"] > 10


@pytest.mark.realtime
def test_latency(tmp_path: Path) -> None:
    page = run("latency", tmp_path)
    found = rows(page, "JACK")
    need(found, f"no JACK: {page['notes']}")
    assert [row["separator"] for row in found] == [separator for separator, _ in latency.STREAMS[::2]]
    assert all(row["difference"] == 0 for row in found if not row["xruns"])


@pytest.mark.realtime
def test_stress(tmp_path: Path) -> None:
    page = run("stress", tmp_path, "--loads", "none", "thread", "--separator", "midside")
    found = rows(page, "Drop-outs")
    need(found, f"no JACK: {page['notes']}")
    assert [row["load"] for row in found] == ["none", "thread"]
    assert all(row["cycles"] > 0 and 0 <= row["late"] <= row["hops"] for row in found)


PAGES = {
    "hotpath": {
        "machine": {"cpu": "CPU (family 1, model 2)", "cores": 2},
        "tables": [
            {
                "title": "Cost of one hop, live",
                "rows": [
                    {"separator": name, "hop": hop, "host_ms_p50": 0.05, "host_ms_p99": 0.1}
                    | {"infer_ms_p50": 0.2, "infer_ms_p99": 0.4}
                    for _, name, hop, _ in table.COLUMNS
                ],
            }
        ],
    },
    "latency": {
        "tables": [
            {
                "title": "JACK",
                "rows": [
                    {"samplerate": 44100, "blocksize": block, "separator": name, "hop": hop}
                    | {"measured_frames": 2 * hop, "printed_frames": 2 * hop}
                    for _, name, hop, block in table.COLUMNS
                ],
            }
        ]
    },
    "startup": {
        "figures": {"first_sound_s": 1.5, "help_s": 0.3},
        "tables": [
            {"title": "Memory", "rows": [{"separator": name, "rss_mb": 150.0} for _, name, _, _ in table.COLUMNS]}
        ],
    },
    "stress": {
        "machine": {"cpu": "CPU (family 1, model 2)", "cores": 2},
        "tables": [
            {
                "title": "Drop-outs",
                "rows": [
                    {"load": "thread", "minutes": 10.0, "xruns_out": 1, "xruns_in": 0, "empty_gaps": 2, "stolen_s": 9.6}
                ],
            }
        ],
    },
}


def test_table_fills_the_readme(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, page in PAGES.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(page))
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    for _ in range(2):
        assert table.main(["--output", str(tmp_path), "--readme", str(readme)]) == 0
        text = readme.read_text()
        assert text.startswith(f"before\n{table.BEGIN}\n| |")
        assert text.endswith(f"\n{table.END}\nafter\n")
        assert "old" not in text
    assert "256 frames, 5.8 ms | 512 frames, 11.6 ms | 1024 frames, 23.2 ms" in text
    assert "10 min: 1 drop-out, and 2 of a JACK client that does nothing (the hypervisor kept 10 s" in text
    elsewhere = PAGES["stress"] | {"machine": {"cpu": "Another (family 3)", "cores": 4}}
    (tmp_path / "stress.json").write_text(json.dumps(elsewhere))
    assert table.main(["--output", str(tmp_path)]) == 0
    assert "10 min, on Another: 1 drop-out, and 2 of" in (tmp_path / "table.md").read_text(encoding="utf-8")
    quality = tmp_path / "quality.json"
    songs = [
        {"kind": kind, "vocals_gain": vocals, "accompaniment_gain": 1.0}
        for kind, vocals in (("mir1k", 3.0), ("mir1k", 5.0), ("mashup", 7.0))
    ]
    quality.write_text(json.dumps({"scores": {name: songs for _, name, *_ in table.COLUMNS}}))
    assert table.main(["--output", str(tmp_path), "--quality", str(quality)]) == 0
    assert "| 2 songs of new singers (MIR-1K): vocals / accompaniment gain in SDR | +4.0 / +1.0 dB |" in (
        tmp_path / "table.md"
    ).read_text(encoding="utf-8")
    quality.write_text(json.dumps({"scores": {"live": songs}}))
    assert table.main(["--output", str(tmp_path), "--quality", str(quality)]) == 2
    assert "no mir1k songs of monitor" in capsys.readouterr().err
    (tmp_path / "latency.json").unlink()
    assert table.main(["--output", str(tmp_path)]) == 2
    assert "latency.json is missing" in capsys.readouterr().err


def test_cards_hold_what_quality_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(__file__).parents[2]
    scores = json.loads((root / "benchmarks" / "quality.json").read_text())
    for name in cards.NETS:
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(root / "models" / name / "CARD.md", folder)
    quality = tmp_path / "quality.json"
    options = ["--quality", str(quality), "--models", str(tmp_path)]
    quality.write_text(json.dumps(scores))
    assert cards.main(options) == 0
    for name in cards.NETS:
        shipped = (root / "models" / name / "CARD.md").read_text()
        assert (tmp_path / name / "CARD.md").read_text() == shipped, f"python -m benchmarks.cards: {name} is old"
    row = scores["scores"]["live"][0]
    row["vocals_gain"] = -99.0
    quality.write_text(json.dumps(scores))
    assert cards.main(options) == 0
    text = (tmp_path / "live" / "CARD.md").read_text()
    assert f"| {row['song']} | {row['mixture']:.2f} | -99.00 |" in text
    assert "Lowest: vocals -99.00 dB" in text
    assert f"songs: {row['song']}" in text.partition("Behind adress")[2]
    (tmp_path / "karaoke" / "CARD.md").write_text("# karaoke\n")
    assert cards.main(options) == 2
    assert "wanted '## Scores'" in capsys.readouterr().err


def test_the_readme_has_the_marks() -> None:
    readme = Path(__file__).parents[2] / "README.md"
    assert table.fill(readme.read_text(), "new").count("new") >= 1


def test_page_and_command() -> None:
    page = Page("x", "Title", figures={"cost_ms": 0.12345}, machine=_page.machine())
    page.tables.append(Table("Rows", {"a": "A", "b": "B"}, [{"a": 1, "b": None}, {"a": 2.0, "b": "text"}]))
    assert "| 1 |  |\n| 2.00 | text |" in page.markdown()
    assert "| cost ms | 0.123 |" in page.markdown()
    assert [show(value) for value in (1234.5, 12.34, 0.0, 0.00012, True)] == ["1234", "12.3", "0.000", "1.2e-04", "yes"]
    tokens = ["--runs", "5", "--output", "/secret", "--note=beside", "--data", "/secret", "--cache", "/x", "--quick"]
    assert _page.command("inference", tokens) == "python -m benchmarks.inference --runs 5 --data PACK --quick"


def test_every_program_is_found_and_summarised() -> None:
    from rtsep.cli.bench import _summary, programs

    found = programs()
    assert {"hotpath", "inference", "latency", "stress", "scale", "startup", "guard", "table"} <= set(found)
    assert all(_summary(path) for path in found.values())


@pytest.mark.parametrize(("name", "hop"), [("live", 256), ("monitor", 128), ("karaoke", 512), ("koretzky", 512)])
def test_the_models_of_the_tables_are_there(name: str, hop: int) -> None:
    assert create(name, device="cpu").required_hop(48000) == hop


def test_weak_points(tmp_path: Path) -> None:
    page = run("weak_points", tmp_path, "--separators", "passthrough", "band")
    shares = {(row["separator"], row["case"]): row["alone"] for row in rows(page, "Shares")}
    assert shares["passthrough", "snares"] == pytest.approx(100, abs=0.01)  # takes everything for voice
    assert shares["band", "bass note"] < 50 < shares["band", "sung low note"]
    assert len(shares) == 8


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options for a little pack of sound."""
    from tests.training.conftest import write_corpus

    folder = tmp_path_factory.mktemp("pack")
    return ["--data", str(write_corpus(folder / "data", 4.0)), "--cache", str(folder / "cache")]


def test_separators(tmp_path: Path, places: list[str]) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'rtsep[eval]'")
    more = ["--work", str(tmp_path / "work"), "--separators", "band", "koretzky"]
    page = run("separators", tmp_path, *places, *more)
    gains = {row["method"]: row["vocals_gain"] for row in rows(page, "Wide-band: mash-ups")}
    assert list(gains)[:6] == ["mixture (floor)", "half of the mixture", "band", "band, binary", "koretzky"] + [
        "koretzky, binary"
    ]
    assert gains["mixture (floor)"] == 0
    for hop in (512, 256, 128):
        assert min(gains[f"IRM, hop {hop}"], gains[f"IBM, hop {hop}"]) > max(gains["band"], gains["koretzky"], 3)
    prices = {row["separator"]: row for row in rows(page, "Latency, cost, size")}
    assert prices["koretzky"]["latency_ms"] == pytest.approx(1024 / 44.1)
    assert prices["koretzky"]["size_mb"] == pytest.approx(3.7, abs=0.1)
    assert prices["band"]["size_mb"] is None
    assert [row["net"] for row in rows(page, "Above the mixture, and soft against binary masks")] == [False, True]
    assert (tmp_path / "separators.png").stat().st_size > 1000
    # what was scored is not scored again
    kept = json.loads((tmp_path / "work" / "band.json").read_text())
    next(iter(kept["rows"].values()))["vocals_gain"] = 42.0
    (tmp_path / "work" / "band.json").write_text(json.dumps(kept))
    again = run("separators", tmp_path, *places, *more[:-1])
    assert rows(again, "Wide-band: mash-ups")[2]["vocals_gain"] == 42.0


def test_confidence(tmp_path: Path, places: list[str]) -> None:
    pytest.importorskip("museval", reason="needs museval: pip install 'rtsep[eval]'")
    page = run("confidence", tmp_path, *places, "--work", str(tmp_path / "work"))
    found = rows(page, "Wide-band: mash-ups")
    assert [(row["separator"], row["alpha"]) for row in found] == [
        ("IBM", ""),
        *((name, alpha) for name in ("deep-karaoke", "nmf") for alpha in ("soft", "0.1", "0.9")),
    ]
    assert all(found[0]["vocals_sdr"] > row["vocals_sdr"] for row in found[1:] if "vocals_sdr" in row)
    assert {row["part"] for row in rows(page, "SAR at equal SIR")} == {"vocals", "accompaniment"}
    assert (tmp_path / "confidence.png").stat().st_size > 1000


def test_kept_masks_are_those_of_the_parameters() -> None:
    from benchmarks.confidence import played, with_alphas

    mixture = (0.1 * np.random.default_rng(0).standard_normal((2, 24000))).astype(np.float32)
    vocals, music = with_alphas(create("deep-karaoke", device="cpu"), mixture, ["0.3"])["0.3"]
    for part, index, wanted in (("vocals", 0, vocals), ("non-vocals", 1, music)):
        separator = create("deep-karaoke", device="cpu")
        for name, value in (("binary", "on"), ("alpha", "0.3"), ("part", part)):
            separator.params.set(name, value)
        np.testing.assert_array_equal(played(separator, mixture)[index], wanted)
        assert np.abs(wanted).max() > 0.01


def test_sar_at_equal_sir() -> None:
    from benchmarks.confidence import at_equal_sir

    # SIR, SAR; alpha need not order them, and what is worse in both or the mixture itself does not count
    points = {"a": [(0, 10), (10, 6), (9, 1), (-1, 200)], "b": [(14, 0), (4, 4)]}
    made = [
        {"separator": name, "alpha": str(i), "vocals_sir": float(x), "vocals_sar": float(y)}
        for name, of in points.items()
        for i, (x, y) in enumerate(of)
    ]
    found = at_equal_sir(made, "a", "b", "vocals")
    assert [(row["sir"], row["first"], row["second"]) for row in (found[0], found[4])] == [
        (4.0, pytest.approx(8.4), 4.0),
        (10.0, 6.0, pytest.approx(1.6)),
    ]
    assert found[5]["more"] == pytest.approx(4.4)
    assert (
        at_equal_sir([row | {"vocals_sir": 20.0} for row in made[:4]] + made[4:], "a", "b", "vocals")[0]["more"] is None
    )


def test_ablations(tmp_path: Path, places: list[str]) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'rtsep[train]'")
    variants = ["full", "no-score", "no-room", "ahead-1"]
    page = run("ablations", tmp_path, *places, "--work", str(tmp_path / "work"), "--variants", *variants)
    assert [row["variant"] for row in rows(page, "Sources")] == ["all of it", "without songs made from scores"]
    assert [row["variant"] for row in rows(page, "Changes to the sound")] == ["all of it", "without reverb"]
    assert len(rows(page, "Net and training")) == 2
    kept = {path.parent.name: path for path in (tmp_path / "work").glob("*/scores-*.json")}
    assert set(kept) == {f"{name}-1-0" for name in variants}
    log = {name: (path.parent / "log.jsonl").read_text() for name, path in kept.items()}
    assert log["full-1-0"] != log["no-room-1-0"]  # another sound


def test_koretzky(tmp_path: Path, places: list[str]) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'rtsep[train]'")
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'rtsep[eval]'")
    page = run("koretzky", tmp_path, *places, "--work", str(tmp_path / "work"), "--lookaheads", "0", "2")
    assert [row["latency_ms"] for row in rows(page, "Look-ahead")] == pytest.approx([1024 / 44.1, 2048 / 44.1])
    assert [row["variant"] for row in rows(page, "What is learned")] == [
        f"target-{target}" for target in ("soft", "binary", "magnitude")
    ]
    assert (tmp_path / "koretzky.png").stat().st_size > 1000

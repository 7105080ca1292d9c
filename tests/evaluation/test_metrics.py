"""Figures against the libraries that define them, and against known answers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from rtsep.errors import UsageError
from rtsep.evaluation import metrics
from rtsep.evaluation.sound import Song

from ..conftest import need
from . import songs


def song_and_estimates(seed: int) -> tuple[Song, np.ndarray, np.ndarray]:
    """A song of 3 s, and estimates with leakage, a filter and noise."""
    voice, band = songs.make(seed, 3.0)
    mixture = voice + band
    rng = np.random.default_rng(seed)
    leaky = 0.8 * voice + 0.3 * band + 0.2 * np.roll(voice, 7, axis=1) + 0.01 * rng.standard_normal(voice.shape)
    leaky = leaky.astype(np.float32)
    return Song(f"song {seed}", songs.RATE, mixture, voice, band), leaky, mixture - leaky


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_v4_is_musevals(seed: int) -> None:
    need(_has("museval"), "museval is not installed")
    import museval

    song, vocals, music = song_and_estimates(seed)
    found = metrics.score(["v4"], song, vocals, music)
    references = np.stack([song.vocals.T, song.accompaniment.T])
    estimates = np.stack([vocals.T, music.T])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = museval.evaluate(references, estimates, win=songs.RATE, hop=songs.RATE, mode="v4")
    for name, values in zip(("SDR v4", "ISR v4", "SIR v4", "SAR v4"), wanted, strict=True):
        for number, target in enumerate(metrics.TARGETS):
            assert found[target][name] == pytest.approx(np.nanmedian(values[number]), abs=0.01)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_v3_is_mir_evals(seed: int) -> None:
    need(_has("museval") and _has("mir_eval"), "museval or mir_eval is not installed")
    from mir_eval.separation import bss_eval_sources

    song, vocals, music = song_and_estimates(seed)
    found = metrics.score(["v3"], song, vocals, music)
    references = np.stack([song.vocals.mean(0), song.accompaniment.mean(0)])
    estimates = np.stack([vocals.mean(0), music.mean(0)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = bss_eval_sources(references, estimates, compute_permutation=False)
    for name, values in zip(("SDR v3", "SIR v3", "SAR v3"), wanted[:3], strict=True):
        for number, target in enumerate(metrics.TARGETS):
            assert found[target][name] == pytest.approx(values[number], abs=0.01)


def test_si_sdr() -> None:
    s = np.array([[1.0, 1.0, 1.0, 1.0]])
    across = np.array([[1.0, -1.0, 1.0, -1.0]])
    assert metrics.si_sdr(s, 0.1 * (s + 0.1 * across)) == pytest.approx(20.0)
    assert metrics.si_sdr(s, 5 * s) > 100


def test_usdr_and_a_silent_estimate() -> None:
    need(_has("museval"), "museval is not installed")
    song, _, _ = song_and_estimates(0)
    found = metrics.score(metrics.METRICS.keys() - {"mir1k"}, song, song.mixture, np.zeros_like(song.mixture))
    assert found["vocals"]["uSDR gain"] == 0.0
    assert found["accompaniment"]["uSDR"] == pytest.approx(0.0, abs=1e-9)
    assert {name for name, value in found["accompaniment"].items() if value is None} == {
        *metrics.METRICS["si-sdr"].columns,
        *metrics.METRICS["v3"].columns,
        *metrics.METRICS["v4"].columns,
    }
    assert None not in found["vocals"].values()


def test_mir1k_is_normalised_and_weighted() -> None:
    scores = {target: {"SDR v3": 7.0, "SIR v3": 12.0, "SAR v3": 9.0} for target in metrics.TARGETS}
    floor = {target: {"SDR v3": 1.5} for target in metrics.TARGETS}
    metrics.add_mir1k(scores, floor, keep_v3=False)
    assert scores["vocals"] == {"GNSDR": 5.5, "GSIR": 12.0, "GSAR": 9.0}
    weighted = metrics.METRICS["mir1k"]
    assert metrics.over_songs(weighted, [1.0, 5.0, None], [3.0, 1.0, 9.0]) == pytest.approx(2.0)
    assert metrics.over_songs(metrics.METRICS["v4"], [1.0, 2.0, 9.0], [1, 1, 1]) == 2.0
    assert metrics.over_songs(metrics.METRICS["usdr"], [1.0, 2.0, 9.0], [5, 1, 1]) == 4.0
    assert metrics.over_songs(metrics.METRICS["usdr"], [None], [1]) is None


def test_unknown_metric() -> None:
    with pytest.raises(UsageError, match=r"unknown metric 'sisdr'.*'si-sdr'.*v3, v4"):
        metrics.chosen_metrics(["sisdr"], "folder")


def _has(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None

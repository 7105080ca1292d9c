"""The table of the training data: one row a source, with what is measured and what is held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from rtsep.errors import UsageError
from rtsep.training.data.inventory import band_hz, group_of, singers, table


def test_rows(corpus_folder: Path):
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table([corpus_folder]).splitlines()[2:]]
    found = {(row[0], row[1]): row for row in rows}
    assert found["paired", "eir_*"][2:5] == ["2", "0.00", "1, 0"]
    assert found["paired16k", "mir1k_*"][5] == "2"
    assert found["vocals", "yuki_*"][4] == "0, 1"
    assert found["accompaniment", "band_*"][7] == "not stated"
    assert len(rows) == 8


def test_packages_are_one_source():
    assert group_of("deb-trackballs-data_music-crazy_0") == "deb"
    assert group_of("score_001") == "score"


def test_singers():
    assert singers("score", {"score_1_kumi", "score_2_tsp_speech_FA", "score_3_kumi"}) == "2, with formants moved"
    assert singers("score", {"score_1", "score_2"}) == ""
    assert singers("deb", {"deb-toy_anna", "deb-toy_bert"}, voices=True) == "2 speakers"
    assert singers("deb", {"deb-toy_theme_0", "deb-toy_theme_1"}) == ""
    assert singers("mir1k", {"mir1k_amy_1", "mir1k_amy_2", "mir1k_leon_1"}) == "2"


@pytest.mark.parametrize("top", [5000, 11000])
def test_band_width(tmp_path: Path, top: int):
    spectrum = np.zeros(48000 + 1, complex)
    spectrum[:top] = np.exp(2j * np.pi * np.random.default_rng(0).random(top))
    sound = np.fft.irfft(spectrum, 96000)
    soundfile.write(tmp_path / "a.wav", sound / np.abs(sound).max(), 48000, subtype="FLOAT")
    assert band_hz([tmp_path / "a.wav"]) == pytest.approx(top / 2, rel=0.02)


def test_nothing_is_said(tmp_path: Path):
    with pytest.raises(UsageError, match="no sound"):
        table([tmp_path])

"""Held-out songs stay out, batches follow from seed and step, targets are what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from rtsep.errors import UsageError
from rtsep.training.data.augment import BINS, CONTEXT, Mixer, hold
from rtsep.training.data.songs import songs
from rtsep.training.data.sources import is_dev, is_new, is_validation, load

HELD_OUT = [
    "data/paired/eir_rubidium/vocals.opus",
    "/x/paired16k/mir1k_annar_3/accompaniment.opus",
    "paired16k/mir1k_tammy_1/vocals.opus",
    "paired16k/mir1k_khair_6/vocals.opus",
    "vocals/vocadito_1.opus",
    "vocals/smstools_singing.opus",
    "vocals/yuki_root_01.opus",
    "accompaniment/mdn_multitrack.opus",
    "accompaniment/neverball_track3.opus",
    "accompaniment/digabi_hyde_acoustic.opus",
    "accompaniment/opensurge_citychill.opus",
    "accompaniment/abeast_incub.opus",
    "accompaniment/xmoto_foxrun.opus",
    "accompaniment/spd_city_tense.opus",
    "accompaniment/kmacleod_gold_rush.opus",
    "accompaniment/valyria_sad_moment.opus",
]
TRAINED = [
    "data/paired/eir_sodium/vocals.opus",
    "paired16k/mir1k_amy_1/vocals.opus",
    "vocals/scottpoid_A3_00.opus",
    "accompaniment/neverball_track1.opus",
]


@pytest.mark.parametrize("path", HELD_OUT)
def test_validation_is_held_out(path: str):
    assert is_validation(path)
    assert not is_dev(path)


@pytest.mark.parametrize("path", TRAINED)
def test_the_rest_is_trained_on(path: str):
    assert not is_validation(path)
    assert not is_dev(path)
    assert is_new(path)


@pytest.mark.parametrize("song", ["eir_potassium", "mir1k_bug_3", "mir1k_davidson_5"])
def test_covers_of_dev_songs_are_no_news(song: str, tmp_path: Path):
    folder = "vocals" if song.startswith("eir") else "vocals16k"
    for name in (f"{folder}/cover_{song}_004", "vocals16k/cover_mir1k_leon_1_005", "accompaniment/a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / f"{name}.opus", np.zeros(4800), 48000, format="OGG", subtype="OPUS")
    found = {split: load(tmp_path, tmp_path / "cache", split) for split in ("train", "all_train")}
    assert [v.name for v in found["train"].voices] == ["cover_mir1k_leon_1_005"]
    assert sorted(v.name for v in found["all_train"].voices) == sorted([f"cover_{song}_004", "cover_mir1k_leon_1_005"])
    with pytest.raises(UsageError):  # nor are they songs to choose by
        load(tmp_path, tmp_path / "cache", "dev")


def test_splits_share_nothing(corpus_folder: Path, cache_folder: Path):
    names = {}
    for split in ("train", "dev", "validation"):
        corpus = load(corpus_folder, cache_folder, split)
        clips = [*corpus.voices, *corpus.accompaniments, *(clip for pair in corpus.pairs for clip in pair)]
        names[split] = {clip.name for clip in clips}
    assert not names["train"] & names["dev"]
    assert not (names["train"] | names["dev"]) & names["validation"]
    assert "yuki_root_00" in names["validation"]


def test_no_sound_is_said(tmp_path: Path):
    with pytest.raises(UsageError, match="no train sound"):
        load(tmp_path, tmp_path / "cache")


def test_batches_follow_from_seed_and_step(corpus_folder: Path, cache_folder: Path):
    corpus = load(corpus_folder, cache_folder)
    sizes = {"frames": 20, "sources": 2, "rolls": 2}
    first = Mixer(corpus, seed=3, **sizes)
    first.batch(0)
    again, other = Mixer(corpus, seed=3, **sizes), Mixer(corpus, seed=4, **sizes)
    assert np.array_equal(first.batch(7).magnitude, again.batch(7).magnitude)
    assert not np.array_equal(first.batch(7).magnitude, other.batch(7).magnitude)


@pytest.mark.parametrize("lookahead", [0, 5])
def test_targets(corpus_folder: Path, cache_folder: Path, lookahead: int):
    mixer = Mixer(load(corpus_folder, cache_folder), seed=1, frames=30, sources=3, rolls=2, lookahead=lookahead)
    for step in range(4):
        b = mixer.batch(step)
        assert b.magnitude.shape == (6, 30 + CONTEXT - 1, BINS)
        assert b.ratio.shape == b.binary.shape == b.voice.shape == (6, 30, BINS)
        assert b.vad.shape == b.vad_weight.shape == (6, 30)
        for name in b.__slots__:
            assert np.isfinite(getattr(b, name)).all(), name
        x = b.magnitude[:, CONTEXT - 1 - lookahead : b.magnitude.shape[1] - lookahead]
        # the closed form of the error must be one of a real square: never negative
        error = (b.ratio * x) ** 2 - 2 * b.ratio**2 * x**2 + b.voice**2
        assert error.min() > -1e-3 * x.max() ** 2
        # where the voice prevails, more than a quarter of the mixture lies in its direction, or it is the louder part
        assert (b.voice[b.binary > 0] >= 0.5 * x[b.binary > 0] - 1e-4).all()


def test_hold():
    active = np.zeros(20, bool)
    active[5] = True
    assert hold(active, 3).nonzero()[0].tolist() == [5, 6, 7, 8]


def test_songs_of_a_split(corpus_folder: Path, cache_folder: Path):
    found = list(songs(corpus_folder, cache_folder, "dev"))
    assert {song.kind for song in found} == {"wide", "mir1k", "mashup"}
    for song in found:
        assert song.vocals.shape == song.accompaniment.shape

"""The listening page: what it holds, that levels match, and that it counts right in a browser, where there is one."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from rtsep.cli import main
from rtsep.errors import UsageError
from rtsep.evaluation import compare

from ..conftest import need
from . import songs


def needed() -> None:
    import importlib.util

    need(importlib.util.find_spec("pyloudnorm"), "pyloudnorm is not installed")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    needed()
    songs.write_song(tmp_path / "set" / "song <b>", 0, 4.0)
    command = ["compare", str(tmp_path / "set"), "-s", "midside,passthrough", "-o", str(tmp_path / "page"), "--truth"]
    assert main.main([*command, "--seconds", "2", "--part", "vocals", "--quiet"]) == 0
    return tmp_path / "page"


def data_of(page: Path) -> dict[str, Any]:
    text = (page / "index.html").read_text()
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


def sound(page: Path, number: int) -> np.ndarray:
    found = re.fullmatch(r'rtsepSound\((\d+), "(.*)"\);\n', (page / "sounds" / f"{number}.js").read_text())
    assert found and int(found[1]) == number
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(found[2])))
    assert rate == songs.RATE
    return samples.T


def test_what_the_page_holds(page: Path) -> None:
    data = data_of(page)
    assert data["methods"] == ["midside", "passthrough", "truth"]
    assert [trial["methods"] for trial in data["trials"]] == [
        *(["midside", "passthrough"], ["midside", "truth"], ["passthrough", "truth"])
    ]
    assert {trial["song"] for trial in data["trials"]} == {"song <b>"}
    text = (page / "index.html").read_text()
    assert "<!--" not in text and "http" not in text and "song <b>" not in text


def test_a_song_that_cannot_be_compared_is_named_and_the_others_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needed()
    songs.write_song(tmp_path / "set" / "good", 0, 4.0)
    songs.write_song(tmp_path / "set" / "short", 0, 0.3)
    voice, band = songs.make(1, 4.0)
    songs.write(tmp_path / "set" / "silent" / "vocals.wav", 0 * voice)
    songs.write(tmp_path / "set" / "silent" / "accompaniment.wav", band)
    command = ["compare", str(tmp_path / "set"), "-s", "midside,band", "-o", str(tmp_path / "page"), "-q"]
    assert main.main([*command, "--seconds", "2"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert [line.split(":")[1].strip() for line in lines] == ["short", "silent"]
    assert {trial["song"] for trial in data_of(tmp_path / "page")["trials"]} == {"good"}


def test_songs_of_a_folder_are_picked_by_name(tmp_path: Path) -> None:
    needed()
    voice, band = songs.make(0, 3.0)
    for name in ("one", "two"):
        songs.write(tmp_path / "album" / f"{name}.wav", voice + band)
    page = compare.compare(tmp_path / "album", tmp_path / "page", ["midside", "band"], songs=["t*"], seconds=1.5)
    assert {trial["song"] for trial in page["trials"]} == {"two"}
    with pytest.raises(UsageError, match="called x"):
        compare.compare(tmp_path / "album", tmp_path / "page", ["midside", "band"], songs=["x"])


def test_levels_match_and_sounds_are_aligned(page: Path) -> None:
    from pyloudnorm import Meter

    data = data_of(page)
    sounds = [sound(page, number) for number in range(3)]
    loudness = [Meter(songs.RATE).integrated_loudness(one.T) for one in sounds]
    assert np.ptp(loudness) < 0.1
    assert max(np.abs(one).max() for one in sounds) < 1
    assert min(level["lufs"] for level in data["levels"]) == pytest.approx(loudness[0], abs=0.2)
    # passthrough is the mixture of the middle 2 s, at the gain that is written down
    voice, band = songs.make(0, 4.0)
    wanted = (voice + band)[:, songs.RATE : 3 * songs.RATE] * 10 ** (data["levels"][1]["gain_db"] / 20)
    inner = slice(200, -200)  # without the fades
    np.testing.assert_allclose(sounds[1][:, inner], wanted[:, inner], atol=1e-3)


def test_matching_lowers_only_and_never_clips() -> None:
    needed()
    voice, _ = songs.make(0, 2.0)
    found = compare.matched({"loud": 80 * voice, "soft": 40 * voice}, songs.RATE, "song")
    assert found["loud"][1] == pytest.approx(found["soft"][1] - 6.02, abs=0.05)
    assert max(np.abs(one).max() for one, _, _ in found.values()) == pytest.approx(compare.PEAK, abs=1e-3)
    with pytest.raises(UsageError, match="song: soft is silent"):
        compare.matched({"loud": voice, "soft": 0 * voice}, songs.RATE, "song")


def test_a_song_and_a_folder_of_songs(tmp_path: Path) -> None:
    needed()
    for seed in range(2):
        voice, band = songs.make(seed, 2.0)
        songs.write(tmp_path / "album" / f"{seed}.wav", voice + band)
    found = compare.compare(tmp_path / "album", tmp_path / "a", ["midside", "passthrough"], parts=["vocals"], seconds=1)
    assert [trial["song"] for trial in found["trials"]] == ["0", "1"]
    one = compare.compare(
        tmp_path / "album" / "1.wav", tmp_path / "b", ["midside", "passthrough"], parts=["vocals"], seconds=1, start=0.5
    )
    assert [trial["song"] for trial in one["trials"]] == ["1"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["-s", "midside"], ["two methods or more", "found midside"]),
        (["-s", "midside,passthrough", "--truth"], ["no data set"]),
        (["-s", "midside,passthrough", "--start", "9"], ["2.0 s long", "9 s"]),
        (["-s", "midside,passthrough", "--seconds", "0.1"], ["0.1 s"]),
        (["-s", "midside,passthrough"], ["accompaniment: passthrough is silent"]),
    ],
)
def test_wrong_requests(
    tmp_path: Path, arguments: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    needed()
    voice, band = songs.make(0, 2.0)
    songs.write(tmp_path / "song.wav", voice + band)
    assert main.main(["compare", str(tmp_path / "song.wav"), "-o", str(tmp_path / "out"), "--quiet", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("rtsep: ") and error.count("\n") == 1
    for part in parts:
        assert part in error
    assert not (tmp_path / "out").exists()


#: Answers every trial right and always likes A better; leaves what the page says in its title.
_LISTENER = """<script>
(async () => {
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const press = (id, name) => [...$(id).children].find((b) => b.dataset.name === name).click();
  const steps = [];
  try {
    $("begin").click();
    for (let k = 0; k < page.trials.length; k++) {
      while ($("play").disabled) await pause(10);
      const trial = trials[current];
      start();
      for (const name of "XBA") { choose(name); await pause(40); }
      steps.push(loaded.X === loaded[trial.X] && loaded.A !== loaded.B && loaded.A.length === loaded.B.length);
      press("answer", trial.X);
      press("better", "A");
      if (!$("results").hidden) throw new Error("results too early");
      $("next").click();
    }
    const shown = !$("results").hidden;
    document.title = JSON.stringify({ steps, shown, answers, tally: tally(), three_of_four: chance(3, 4) });
  } catch (error) { document.title = JSON.stringify({ error: String(error) }); }
})();
</script></body>"""


def test_in_a_browser(page: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no browser is installed")
    text = (page / "index.html").read_text()
    (page / "listener.html").write_text(text.replace("</body>", _LISTENER))
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
    command += [f"--user-data-dir={page / 'profile'}", "--timeout=20000", "--virtual-time-budget=20000", "--dump-dom"]
    done = subprocess.run(
        [*command, (page / "listener.html").as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title
    found = json.loads(title[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))
    assert found.get("error") is None
    assert found["steps"] == [True, True, True]
    assert found["shown"]
    assert all(answer["right"] and answer["preferred"] == answer["A"] for answer in found["answers"])
    assert [(row["count"], row["right"], row["chance"]) for row in found["tally"]] == [(1, 1, 0.5)] * 3
    assert sum(sum(row["preferred"]) for row in found["tally"]) == 3
    assert found["three_of_four"] == 5 / 16

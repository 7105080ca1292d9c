"""The fill of the output ring at start: two hops in all where blocks divide the hop, and time enough to work."""

import pytest

from rtsep.engine.latency import output_fill


@pytest.mark.parametrize(
    "blocksize, hop, work_ms, frames",
    [
        (256, 256, 1.3, 256),
        (64, 256, 1.3, 256),  # 1.33 ms a block: enough
        (32, 256, 1.3, 256 + 32),  # 0.67 ms: one block more
        (16, 128, 1.3, 128 + 48),  # 0.33 ms: three more
        (1024, 256, 1.3, 1024),
        (480, 256, 1.3, 480 + 256 - 32),
        (128, 512, 4.0, 512 + 128),
        (256, 512, 4.0, 512),
    ],
)
def test_fill(blocksize: int, hop: int, work_ms: float, frames: int) -> None:
    assert output_fill(blocksize, hop, 48000, work_ms) == frames


def test_blocks_of_any_length_count_as_if_they_never_met_a_hop() -> None:
    assert output_fill(512, 256, 48000, 1.3, variable=True) == 512 + 256 - 1


@pytest.mark.parametrize("blocksize", [16, 64, 100, 128, 256, 480, 1000, 1024])
@pytest.mark.parametrize("hop", [64, 256, 512])
def test_the_ring_never_runs_dry_if_each_hop_is_done_within_one_period(blocksize: int, hop: int) -> None:
    fill = output_fill(blocksize, hop, 48000, 1.3)
    taken = done = 0
    for period in range(1, 400):
        fill -= blocksize
        assert fill >= 0, period
        # The worker ends before the next period what the periods until now have completed.
        taken += blocksize
        while done + hop <= taken:
            done += hop
            fill += hop

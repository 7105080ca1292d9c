"""Guard: fails if the hot path has become slower than the committed baseline.

    python -m benchmarks.guard [--update] [--repeat N]

Hot path and a reference workload run in alternation in one thread and are timed by the CPU time of that thread, so that
other programs take from both or from neither. The median of the pairs' ratios is compared with `baseline.json`. What
seems too slow is measured again in later rounds, since a neighbour on the same core slows one kind of work more than
another for seconds at a time: only what is too slow in every round fails. `--repeat` shows how much the ratios scatter,
`--update` writes the baseline from such repetitions.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks._page import cpu_class, machine

BASELINE = Path(__file__).parent / "baseline.json"
#: Rounds, pairs of each part in one, and the wall-clock time after which a round of one part ends with fewer.
ROUNDS, PAIRS, LEAST_PAIRS, ROUND_S = 5, 100, 15, 2.0
#: Hops of the hot path, calls of a separator, and hops of the reference in one pair: about 2 ms each.
_HOPS, _REFERENCE_HOPS = 100, 200

Work = Callable[[], object]
Clock = Callable[[], int]


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is committed.

    Parameters
    ----------
    cpu : str
        Class of the processor that the ratios are from.
    ratios : mapping
        Ratio to the reference by part.
    margin, margin_elsewhere : float
        Share by which a ratio may exceed its baseline: on that class of processor, and on another.
    """

    cpu: str
    ratios: Mapping[str, float]
    margin: float
    margin_elsewhere: float

    @classmethod
    def read(cls, path: Path = BASELINE) -> Baseline:
        """Read the file."""
        found = json.loads(path.read_text(encoding="utf-8"))
        return cls(found["cpu"], found["ratios"], found["margin"], found["margin_elsewhere"])

    def allowed(self, part: str, cpu: str) -> float:
        """Largest ratio of a part that passes on a class of processor."""
        return self.ratios[part] * (1 + (self.margin if cpu == self.cpu else self.margin_elsewhere))


def ratio(work: Work, reference: Work, clock: Clock = time.thread_time_ns, pairs: int = PAIRS) -> float:
    """Median ratio of the times of `work` and `reference`, which take turns in going first."""
    work()
    reference()
    found: list[float] = []
    limit = time.monotonic() + ROUND_S
    for i in range(pairs):
        first, second = (work, reference) if i % 2 else (reference, work)
        start = clock()
        first()
        middle = clock()
        second()
        end = clock()
        spent = middle - start, end - middle
        found.append(spent[0] / spent[1] if i % 2 else spent[1] / spent[0])
        if i >= LEAST_PAIRS and time.monotonic() > limit:
            break
    return statistics.median(found)


def parts() -> tuple[dict[str, Work], Work]:
    """What is guarded, by name, and the reference."""
    import numpy as np

    from benchmarks._host import HandMade
    from benchmarks._reference import memory, reference
    from rtsep.separators.registry import create

    kept = memory()
    found: dict[str, Work] = {}
    durations = np.zeros(_HOPS, np.int64), np.zeros(_HOPS, np.int64)
    for hop in (128, 256):
        made = HandMade(create("passthrough"), hop=hop)
        found[f"host, hop {hop}"] = lambda made=made: made.make(_HOPS, *durations)  # type: ignore[misc]
    for name in ("midside", "adress"):
        made = HandMade(create(name))
        found[name] = lambda made=made: made.separate(_HOPS)  # type: ignore[misc]
    return found, lambda: reference(kept, _REFERENCE_HOPS)


def check(
    works: Mapping[str, Work],
    reference: Work,
    baseline: Baseline,
    cpu: str,
    clock: Clock = time.thread_time_ns,
    pairs: int = PAIRS,
) -> list[str]:
    """Measure all parts, print a line for each, and return those that were too slow in every round."""
    best = dict.fromkeys(works, float("inf"))
    slow = list(works)
    for turn in range(ROUNDS):
        if turn:
            print(f"measured again: {', '.join(slow)}")
        for part in slow:
            best[part] = min(best[part], ratio(works[part], reference, clock, pairs))
        slow = [part for part in slow if best[part] > baseline.allowed(part, cpu)]
        if not slow:
            break
    for part, found in best.items():
        was, allowed = baseline.ratios[part], baseline.allowed(part, cpu)
        print(
            f"{part}: {found:.3f} of the reference, baseline {was:.3f} ({100 * (found / was - 1):+.0f} %), "
            f"allowed {allowed:.3f}: {'TOO SLOW' if part in slow else 'ok'}"
        )
    return slow


def scatter(works: Mapping[str, Work], reference: Work, repeat: int) -> dict[str, list[float]]:
    """Ratios of all parts, `repeat` times over."""
    found: dict[str, list[float]] = {part: [] for part in works}
    for i in range(repeat):
        for part, work in works.items():
            found[part].append(ratio(work, reference))
        print(f"{i + 1}: " + ", ".join(f"{part} {values[-1]:.3f}" for part, values in found.items()))
    for part, values in found.items():
        middle = statistics.median(values)
        print(
            f"{part}: median {middle:.3f}, {100 * (min(values) / middle - 1):+.1f} "
            f"to {100 * (max(values) / middle - 1):+.1f} %"
        )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 1 if something is too slow."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--repeat", type=int, default=0, help="measure so many times and show the scatter")
    options.add_argument("--update", action="store_true", help="write the medians as baseline (with --repeat, or of 5)")
    chosen = options.parse_args(arguments)
    works, reference = parts()
    if not chosen.repeat and not chosen.update:
        slow = check(works, reference, Baseline.read(), cpu_class())
        print(f"slower than the baseline: {', '.join(slow)}" if slow else "not slower than the baseline")
        return 1 if slow else 0
    found = scatter(works, reference, chosen.repeat or 5)
    if chosen.update:
        ratios = {part: round(statistics.median(values), 4) for part, values in found.items()}
        before = json.loads(BASELINE.read_text(encoding="utf-8"))
        software = machine()["software"]
        text = json.dumps(before | {"cpu": cpu_class(), "software": software, "ratios": ratios}, indent=1)
        BASELINE.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

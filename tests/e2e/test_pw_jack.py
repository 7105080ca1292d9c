"""The JACK driver as a client of PipeWire: a program of its own, because a process has one libjack."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.servers import pipewire_session

pytestmark = pytest.mark.realtime

PROGRAM = """
import json, sys, time
from rtsep.dsp.ring import Ring
from rtsep.io.clock import Semaphore
from rtsep.io.jack import JackDriver
from rtsep.io.tick import TICKS, StreamContext

driver = JackDriver(connect_in="jack:a", connect_out="b", blocksize=json.loads(sys.argv[1]))
driver.open()
own = {port.shortname: port for port in [*driver._client.inports, *driver._client.outports]}
connections = {name: [other.name for other in port.connections] for name, port in own.items()}
rings = Ring(1 << 16, 2), Ring(1 << 16, 2)
context = StreamContext(2, *rings, Semaphore())
context.open()
driver.start(context.address)
limit = time.monotonic() + 20
while context.words[TICKS] < 100 and time.monotonic() < limit:
    time.sleep(0.01)
print(json.dumps([driver.samplerate, driver.blocksize, int(context.words[TICKS]), driver.lost, connections]))
driver.stop()
"""


@pytest.mark.parametrize(("quantum", "wish", "expected"), [(128, None, 128), (None, 256, 256)])
def test_runs_as_a_client_of_pipewire(quantum: int | None, wish: int | None, expected: int) -> None:
    with pipewire_session() as session:
        env = session.jack_env(quantum)
        env["PYTHONPATH"] = str(Path(__file__).parents[2])
        command = [sys.executable, "-c", PROGRAM, json.dumps(wish)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr + session.log()
    rate, block, ticks, lost, connections = json.loads(done.stdout)
    assert (rate, block, lost) == (48000, expected, "")
    assert ticks >= 100
    assert [name.rpartition(":")[2] for name in connections["in_1"] + connections["in_2"]] == [
        "monitor_FL",
        "monitor_FR",
    ]
    assert [name.rpartition(":")[2] for name in connections["out_1"] + connections["out_2"]] == [
        "playback_FL",
        "playback_FR",
    ]
    assert connections["in_1"][0].startswith("a ")
    assert connections["out_1"][0].startswith("b ")

"""From a JACK graph to a sink of another server: two devices, one clock each."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tests.e2e.jack_probe import Probe
from tests.e2e.programs import running
from tests.e2e.servers import environment, jack_server, pulse_server
from tests.e2e.sound import align, sdr_db, song
from tests.e2e.test_pulse import recording

pytestmark = pytest.mark.realtime

TAKES = 8  # a machine that stops for a while cuts the sound itself


def test_what_jack_plays_comes_out_of_a_pulse_sink() -> None:
    sound = sum(song(4.0)).astype(np.float32)
    arguments = ("--input", "jack:none", "--output", "pulse:a", "--separator", "passthrough")
    told = []
    with jack_server(48000, 256) as jack, pulse_server() as pulse:
        env = {**jack.env, **{key: value for key, value in pulse.env.items() if jack.env.get(key) != value}}
        env["JACK_DEFAULT_SERVER"] = jack.name
        for _ in range(TAKES):
            with running(*arguments, env=env) as program:
                program.plays()
                time.sleep(2.0)  # the clocks find together
                with recording(pulse, "a") as heard, environment(jack.env), Probe(sound, 1, jack.name) as probe:
                    probe.connect(["rtsep:in_1", "rtsep:in_2"], [])
                    probe.run()
                    time.sleep(0.5)
                assert program.now["state"] == "playing"
                assert program.end() == 0
            told.append(sdr_db(sound, align(heard[0], sound)[0]))
            if told[-1] > 15:  # what is left is the controller, which still settles
                return
    raise AssertionError(f"none of {TAKES} takes is what was played: {told} dB")

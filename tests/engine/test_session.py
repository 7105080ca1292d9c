"""What a session refuses or says before it starts."""

import pytest

from rtsep.engine.options import SessionOptions
from rtsep.engine.session import Session
from rtsep.errors import UsageError
from rtsep.separators.registry import model_folders
from tests.conftest import need


def test_a_hop_that_the_net_cannot_run_at_is_refused() -> None:
    need(model_folders(), "there are no models")
    with pytest.raises(UsageError, match="koretzky runs at a hop of 512 frames only, not 128"):
        Session(SessionOptions(separator="koretzky", hop=128))


@pytest.mark.parametrize(
    "name, value, why", [("vocals_db", 13, "12 dB"), ("vocals", 0, "vocals_db"), ("width", 9, "width")]
)
def test_what_cannot_be_set_is_refused(name: str, value: float, why: str) -> None:
    session = Session(SessionOptions(input="demo", output="null", separator="midside"))
    with pytest.raises(UsageError, match=why):
        session.set(name, value)


def test_faders_and_parameters_are_kept_before_the_start() -> None:
    session = Session(SessionOptions(input="demo", output="null", separator="midside", params={"width": "0.3"}))
    session.set("music_db", -6)
    assert (session.get("music_db"), session.get("width")) == (-6, 0.3)


def test_an_unknown_profile_lists_the_profiles() -> None:
    with pytest.raises(UsageError, match="live, monitor"):
        Session(SessionOptions(profile="life", separator="midside"))

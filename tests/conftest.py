"""What all tests share."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

import pytest

_process = ctypes.CDLL(None)
_DEFAULT_ENVIRONMENT = ctypes.c_void_p(-1)  # FE_DFL_ENV of Linux


def need(condition: object, reason: str) -> None:
    """Go on if `condition` holds; otherwise skip, or fail where the machine is said to have everything.

    A bare clone skips what needs an audio server or an optional library. With ``RTSEP_REQUIRE_SERVERS=1`` (as in
    ``.ci/run``) nothing may be missing, so that a test never goes unrun by accident.
    """
    if condition:
        return
    if os.environ.get("RTSEP_REQUIRE_SERVERS") == "1":
        pytest.fail(f"RTSEP_REQUIRE_SERVERS=1, but {reason}", pytrace=False)
    pytest.skip(reason)


def need_onnx() -> None:
    """`need` onnxruntime."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        need(False, "onnxruntime is not installed")


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a user's own configuration file out of the tests."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "no-config"))


@pytest.fixture(autouse=True)
def _own_arithmetic() -> Iterator[None]:
    """Give the main thread its denormal numbers back: nets switch them off in the thread that they run in."""
    yield
    _process.fesetenv(_DEFAULT_ENVIRONMENT)

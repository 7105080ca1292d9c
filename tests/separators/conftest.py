"""What the tests of the separators share."""

from __future__ import annotations

import pytest

from rtsep.separators import manifest
from rtsep.spec import WINDOW
from tests.separators import tiny


@pytest.fixture(autouse=True)
def _small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tiny nets have a window that no stream has."""
    monkeypatch.setattr(manifest, "WINDOWS", (tiny.WINDOW, WINDOW))

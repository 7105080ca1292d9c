"""Mixed precision only where the processor multiplies bfloat16 itself."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from rtsep.training.precision import has_bfloat16, mixed  # noqa: E402


@pytest.mark.parametrize(
    ("known", "wanted"),
    [
        ({"avx2": True, "avx512_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"neon": True, "bf16": True}, True),
        ({}, False),
    ],
)
def test_the_processor_is_asked(known: dict[str, bool], wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    cpu, x = torch.device("cpu"), torch.ones(2, 2)
    assert has_bfloat16(cpu) is wanted
    with mixed(cpu):
        assert (x @ x).dtype is (torch.bfloat16 if wanted else torch.float32)
    with mixed(cpu, enabled=False):
        assert (x @ x).dtype is torch.float32


def test_a_torch_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not has_bfloat16(torch.device("cpu"))
    assert has_bfloat16(torch.device("cuda"))

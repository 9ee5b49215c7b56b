from __future__ import annotations

import dataclasses

import pytest

from talkgen.losses.weights import VQGANWeights


def test_typo_negative_and_nonsense_are_refused() -> None:
    with pytest.raises(TypeError, match="percetual"):
        VQGANWeights(percetual=1.0)
    for value in (-0.1, float("nan"), float("inf"), "1.0", None, True):
        with pytest.raises(ValueError, match=r"VQGANWeights\.l1"):
            VQGANWeights(l1=value)


def test_weights_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        VQGANWeights().l1 = 2.0
    assert VQGANWeights(identity=0).identity == 0

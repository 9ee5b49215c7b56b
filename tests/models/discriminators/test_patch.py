from __future__ import annotations

import pytest
import torch

from talkgen.models.discriminators.patch import PatchDiscriminator

# Keys and shapes of taming-transformers' NLayerDiscriminator(input_nc=3, ndf=64, n_layers=3).
TAMING = {
    "main.0.weight": (64, 3, 4, 4),
    "main.0.bias": (64,),
    "main.2.weight": (128, 64, 4, 4),
    "main.5.weight": (256, 128, 4, 4),
    "main.8.weight": (512, 256, 4, 4),
    "main.11.weight": (1, 512, 4, 4),
    "main.11.bias": (1,),
}


def test_published_layout() -> None:
    state = PatchDiscriminator(norm="batch").state_dict()
    for i, channels in ((3, 128), (6, 256), (9, 512)):
        assert state.pop(f"main.{i}.num_batches_tracked").shape == ()
        for name in ("weight", "bias", "running_mean", "running_var"):
            assert state.pop(f"main.{i}.{name}").shape == (channels,)
    assert {key: tuple(value.shape) for key, value in state.items()} == TAMING


@pytest.mark.parametrize("norm", ["batch", "group", "spectral", "none"])
@pytest.mark.parametrize(("layers", "side", "seen"), [(1, 14, 16), (2, 6, 34), (3, 2, 70)])
def test_a_logit_sees_its_patch(norm: str, layers: int, side: int, seen: int) -> None:
    torch.manual_seed(0)
    net = PatchDiscriminator(in_channels=6, channels=8, layers=layers, norm=norm).eval()
    if norm != "group":  # group norm's statistics cover the picture
        picture = torch.randn(1, 6, 160, 160, requires_grad=True)
        logits = net(picture)
        logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
        rows = (picture.grad.abs().sum(dim=(0, 1, 3)) > 0).sum().item()
        assert rows == seen
    assert net(torch.randn(2, 6, 32, 32)).shape == (2, 1, side, side)


def test_spectral_norm_bounds_every_layer() -> None:
    torch.manual_seed(0)
    net = PatchDiscriminator(channels=8, layers=2)
    for _ in range(30):
        net(torch.randn(2, 3, 32, 32))
    weights = [m.weight for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(weights) == 4
    for weight in weights:
        assert torch.linalg.matrix_norm(weight.flatten(1), ord=2).item() == pytest.approx(1, abs=0.05)


def test_unknown_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="instance"):
        PatchDiscriminator(norm="instance")

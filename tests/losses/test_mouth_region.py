"""The mouth's part of pictures and latent maps."""

from __future__ import annotations

import torch

from talkgen.losses.mouth_region import mouth_cells, mouth_crop
from talkgen.losses.reconstruction import MOUTH


def face(x: float, y: float, width: float, height: float) -> torch.Tensor:
    """Landmarks whose mouth has this box; the rest lies at the origin."""
    points = torch.zeros(1, 68, 2)
    points[:, MOUTH] = torch.tensor([x, y])
    points[:, 48], points[:, 54] = torch.tensor([x - width / 2, y]), torch.tensor([x + width / 2, y])
    points[:, 51], points[:, 57] = torch.tensor([x, y - height / 2]), torch.tensor([x, y + height / 2])
    return points


def test_crop_is_centred_on_the_mouth():
    ramp = torch.arange(64.0)
    picture = torch.stack([ramp.expand(64, 64), ramp[:, None].expand(64, 64), torch.zeros(64, 64)])[None]
    crop = mouth_crop(picture, face(30, 40, 10, 4), 18, extent=1.8)
    assert crop.shape == (1, 3, 18, 18)
    # 18 pixels over 1.8 widths of 10: as many pixels as in the picture; the middle is the mouth's.
    assert torch.allclose(crop[0, 0, 0], torch.arange(18.0) + 30 - 8.5, atol=1e-3)
    assert torch.allclose(crop[0, 1, :, 0], torch.arange(18.0) + 40 - 8.5, atol=1e-3)


def test_crop_passes_gradients_to_the_mouth_alone():
    picture = torch.randn(1, 3, 64, 64, requires_grad=True)
    mouth_crop(picture, face(32, 48, 10, 4), 12).sum().backward()
    assert picture.grad is not None
    assert picture.grad[:, :, 44:52, 28:36].any()
    assert not picture.grad[:, :, :32].any()


def test_cells_say_how_much_the_mouth_covers():
    cells = mouth_cells(face(32, 48, 15.5, 7.5), rows=4, columns=8, factor=8, margin=0.0)
    assert cells.shape == (1, 1, 4, 8)
    # x 24.25 … 39.75 holds 15 of 16 columns of the cells 3 and 4, y 44.25 … 51.75 holds rows 45 … 51.
    expected = torch.zeros(4, 8)
    expected[1, 3:5] = torch.tensor([7 / 8, 1.0]) * 3 / 8
    expected[2, 3:5] = torch.tensor([7 / 8, 1.0]) * 4 / 8
    assert torch.allclose(cells[0, 0], expected)

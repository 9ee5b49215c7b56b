"""The cascade on codes: who sees what, in which order, with networks that can be computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from talkgen.inference.cascade import Cascade, SwapTalk
from talkgen.models.swaptalk.swapper import SourceMemory
from talkgen.models.vqgan.vqgan import VQGAN, build_vqgan

SIZE, DIM = 32, 8


@pytest.fixture(scope="module")
def vqgan() -> VQGAN:
    torch.manual_seed(0)
    return build_vqgan(8, (1, 1, 2), 1, latent_channels=8, codes=16, code_dim=DIM, kmeans_vectors=0).eval()


class Swap(nn.Module):
    """Half of the target, half of the source's mean."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def source_memory(self, source: Tensor) -> SourceMemory:
        self.calls.append(len(source))
        return SourceMemory((source.mean((2, 3), keepdim=True),))

    def swap(self, target: Tensor, memory: SourceMemory) -> Tensor:
        return 0.5 * target + 0.5 * memory.expand(len(target)).tensors[0]


class Lips(nn.Module):
    """Lower half = upper half + the references' lower half + how loud the frame and its window are."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[Tensor] = []

    def reference_features(self, reference: Tensor) -> Tensor:
        self.references.append(reference)
        return reference.mean(1)[:, None, :, reference.shape[3] // 2 :]

    def forward(self, target_upper: Tensor, reference: Tensor, mel: Tensor) -> Tensor:
        loudness = mel.mean((2, 3, 4))
        return target_upper + reference + (loudness + loudness.mean(1, keepdim=True))[..., None, None, None]


def model(vqgan: VQGAN, **cascade: object) -> SwapTalk:
    return SwapTalk(
        vqgan,
        Swap(),
        Lips(),
        SIZE,
        Cascade(**cascade),
        window=4,
        batch_frames=9,
        references=2,  # type: ignore[arg-type]
    )


@pytest.fixture()
def clip() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shape = (SIZE // 4, SIZE // 4)
    return {
        "codes": torch.randint(16, (11, *shape), generator=generator),
        "source": torch.randint(16, (1, *shape), generator=generator),
        "reference": torch.randint(16, (2, *shape), generator=generator),
        "mel": torch.randn(11, 1, 80, 16, generator=generator),
    }


def lips(latent: Tensor, reference: Tensor, mel: Tensor) -> Tensor:
    """What ``Lips`` gives, frame by frame: windows of 4; the last one repeats its last frame."""
    half = latent.shape[2] // 2
    loud = mel.mean((1, 2, 3))
    made = latent.clone()
    for frame in range(len(latent)):
        window = [min(i, len(latent) - 1) for i in range(frame // 4 * 4, frame // 4 * 4 + 4)]
        heard = loud[frame] + loud[window].mean()
        made[frame, :, half:] = latent[frame, :, :half] + reference.mean(0)[:, half:] + heard
    return made


def test_swap_sync_is_the_papers_equation(vqgan: VQGAN, clip: dict[str, Tensor]) -> None:
    made = model(vqgan)
    state = made.begin(clip["source"], clip["reference"])
    source = vqgan.lookup(clip["source"]).mean((2, 3), keepdim=True)
    swapped = 0.5 * vqgan.lookup(clip["codes"]) + 0.5 * source
    reference = 0.5 * vqgan.lookup(clip["reference"]) + 0.5 * source  # the reference is swapped as well
    assert torch.allclose(
        made.latents(clip["codes"], clip["mel"], state), lips(swapped, reference, clip["mel"]), atol=1e-5
    )


def test_sync_swap_syncs_the_targets_own_face(vqgan: VQGAN, clip: dict[str, Tensor]) -> None:
    made = model(vqgan, order="sync_swap")
    state = made.begin(clip["source"], clip["reference"])
    synced = lips(vqgan.lookup(clip["codes"]), vqgan.lookup(clip["reference"]), clip["mel"])
    expected = 0.5 * synced + 0.5 * vqgan.lookup(clip["source"]).mean((2, 3), keepdim=True)
    assert torch.allclose(made.latents(clip["codes"], clip["mel"], state), expected, atol=1e-5)


@pytest.mark.parametrize("order", ["swap_sync", "sync_swap"])
def test_rgb_puts_pictures_of_8_bits_between(vqgan: VQGAN, clip: dict[str, Tensor], order: str) -> None:
    made = model(vqgan, order=order, space="rgb")
    state = made.begin(clip["source"], clip["reference"])
    source = vqgan.lookup(clip["source"]).mean((2, 3), keepdim=True)

    def between(latent: Tensor) -> Tensor:
        with torch.no_grad():
            picture = ((vqgan.decode(latent) + 1) * 127.5).round().clamp(0, 255)
            return vqgan.encode(picture / 127.5 - 1).latent

    target, reference = vqgan.lookup(clip["codes"]), vqgan.lookup(clip["reference"])
    if order == "swap_sync":
        reference = between(0.5 * reference + 0.5 * source)
        expected = lips(between(0.5 * target + 0.5 * source), reference, clip["mel"])
    else:
        expected = 0.5 * between(lips(target, reference, clip["mel"])) + 0.5 * source
    latents = made.latents(clip["codes"], clip["mel"], state)
    assert torch.allclose(latents, expected, atol=1e-4)
    in_latent_space = model(vqgan, order=order)
    state = in_latent_space.begin(clip["source"], clip["reference"])
    assert not torch.allclose(in_latent_space.latents(clip["codes"], clip["mel"], state), expected, atol=1e-2)


def test_either_module_may_be_absent(vqgan: VQGAN, clip: dict[str, Tensor]) -> None:
    whole = model(vqgan)
    lips_only = whole.variant(Cascade(), swap=False)
    state = lips_only.begin(clip["source"], clip["reference"])
    assert state.memory is None
    expected = lips(vqgan.lookup(clip["codes"]), vqgan.lookup(clip["reference"]), clip["mel"])
    assert torch.allclose(lips_only.latents(clip["codes"], clip["mel"], state), expected, atol=1e-5)
    swap_only = whole.variant(Cascade(), sync=False)
    state = swap_only.begin(clip["source"], clip["reference"])
    assert state.reference is None
    source = vqgan.lookup(clip["source"]).mean((2, 3), keepdim=True)
    expected = 0.5 * vqgan.lookup(clip["codes"]) + 0.5 * source
    assert torch.allclose(swap_only.latents(clip["codes"], None, state), expected, atol=1e-6)
    neither = whole.variant(Cascade(), swap=False, sync=False)
    assert torch.equal(
        neither.latents(clip["codes"], None, neither.begin(None, None)), vqgan.lookup(clip["codes"])
    )


def test_a_clip_is_the_same_in_pieces(vqgan: VQGAN, clip: dict[str, Tensor]) -> None:
    """Batches are whole windows (9 becomes 8): pictures do not depend on where a clip is cut into them."""
    made = model(vqgan)
    assert made.batch_frames == 8
    state = made.begin(clip["source"], clip["reference"])
    whole = made.decode(made.latents(clip["codes"], clip["mel"], state))
    pieces = made.pictures(clip["codes"], clip["mel"], state)
    assert pieces.shape == (11, SIZE, SIZE, 3) and pieces.dtype == np.uint8
    assert np.abs(whole.astype(int) - pieces).max() <= 1
    assert made.face_swap.calls == [1]  # type: ignore[union-attr]
    assert len(made.lip_sync.references) == 1  # type: ignore[union-attr]


def test_snapping_leaves_codes(vqgan: VQGAN, clip: dict[str, Tensor]) -> None:
    made = model(vqgan, snap=True)
    latents = made.latents(clip["codes"], clip["mel"], made.begin(clip["source"], clip["reference"]))
    again = vqgan.quantize(latents)
    assert torch.allclose(again.latent, latents, atol=1e-6)
    assert torch.allclose(vqgan.lookup(again.codes), latents, atol=1e-6)


def test_encoding_is_that_of_the_vqgan_at_its_size(vqgan: VQGAN) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (10, SIZE, SIZE, 3), np.uint8)
    images = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        expected = vqgan.encode(images).codes
    codes = model(vqgan).encode(frames)
    assert (codes == expected).float().mean() > 0.99  # ties of the convolutions' last bits
    larger = np.repeat(np.repeat(frames, 2, 1), 2, 2)
    assert (model(vqgan).encode(larger) == expected).float().mean() > 0.99


def test_sounds_of_frames_at_any_rate(vqgan: VQGAN) -> None:
    """A frame hears the moment at which it is shown: frame 50 of 50 a second as frame 25 of 25 a second."""
    mel = np.random.default_rng(0).normal(size=(80, 400)).astype(np.float32)
    made = SwapTalk(vqgan, size=SIZE, mel_convention="centred")
    slow, fast = made.mel_of_frames(mel, [24, 25], 25), made.mel_of_frames(mel, [48, 50], 50)
    assert slow.shape == (2, 1, 80, 16)
    start = int(np.abs(mel[None, 0] - fast[1, 0, 0, 0].item()).argmin())
    assert abs(start - int(np.abs(mel[0] - slow[1, 0, 0, 0].item()).argmin())) <= 1


def test_mistakes_are_refused(vqgan: VQGAN) -> None:
    with pytest.raises(ValueError, match="swap_sync or sync_swap"):
        Cascade(order="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="latent or rgb"):
        Cascade(space="pixel")  # type: ignore[arg-type]
    other = build_vqgan(8, (1, 1, 2), 1, latent_channels=8, codes=16, code_dim=4, kmeans_vectors=0)
    with pytest.raises(ValueError, match="the decoder takes latents of 4 channels"):
        SwapTalk(vqgan, decoder=other)
    light = build_vqgan(4, (1, 1, 1), 1, latent_channels=8, codes=16, code_dim=DIM, kmeans_vectors=0).eval()
    made = SwapTalk(vqgan, size=SIZE, decoder=light)
    codes = torch.randint(16, (2, SIZE // 4, SIZE // 4))
    with torch.no_grad():
        expected = ((light.decode(vqgan.lookup(codes)).permute(0, 2, 3, 1) + 1) * 127.5).round().clamp(0, 255)
    assert np.abs(made.pictures(codes, None, made.begin(None, None)) - expected.numpy()).max() <= 1

"""Lip-sync losses: for training the expert, and for training generators with it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from talkgen.models.experts.lip_view import LipView
from talkgen.models.experts.syncnet import SyncNet, syncnet_input
from talkgen.models.frozen import Frozen

# Expert losses take unit vectors: audio (b, d), face (b, d), and shifted (b, n, d), the audio of the same
# clips at other times. Where a batch holds several windows of a clip they also take which windows those are
# (``SameClip``): such windows are each other's shifted audio, unless they are near.


@dataclass(frozen=True)
class SameClip:
    """Which windows of a batch are of one clip, ``(b, b)`` each, and symmetric.

    Attributes:
        far: at least ``min_shift`` frames apart: one's audio is another moment for the other's face.
        near: less far apart, but not the window itself: neither in sync nor out of it.
    """

    far: Bool[Tensor, "b b"]
    near: Bool[Tensor, "b b"]

    @classmethod
    def of(cls, clip: Int[Tensor, " b"], frame: Int[Tensor, " b"], min_shift: int = 5) -> SameClip:
        """From the number of each window's clip and its first frame there."""
        same = clip[:, None] == clip
        close = (frame[:, None] - frame).abs() < min_shift
        own = torch.eye(len(clip), dtype=torch.bool, device=clip.device)
        return cls(same & ~close, same & close & ~own)


class CosineBCELoss(nn.Module):
    """Binary cross-entropy on the cosine, as the published expert was trained (Wav2Lip, eq. 1).

    L = ½ E[−log cos(a, v)] + ½ E[−log(1 − cos(a', v))], a' shifted.

    The cosine must be a probability, which it is for embeddings that end in a ReLU
    (``SyncNet(final_relu=True)``); for others its logarithm does not exist, and this loss refuses them.
    It stays at ln 2 for a very long time; ``ShiftedInfoNCE`` does not.
    """

    def __init__(self) -> None:
        super().__init__()
        self._checked = False

    def forward(
        self,
        audio: Float[Tensor, "b d"],
        face: Float[Tensor, "b d"],
        shifted: Float[Tensor, "b n d"],
        same_clip: SameClip | None = None,
    ) -> Float[Tensor, ""]:
        """The loss, in float32 whatever the precision around it.

        Raises:
            ValueError: embeddings have negative components (looked at once, in the first call).
        """
        if not self._checked and bool((audio < 0).any() | (face < 0).any() | (shifted < 0).any()):
            raise ValueError(
                "BCE on the cosine needs embeddings without negative components: "
                "use SyncNet(final_relu=True), or ShiftedInfoNCE"
            )
        self._checked = True
        with torch.autocast(audio.device.type, enabled=False):
            together, apart, counted = shifted_cosines(audio, face, shifted, same_clip)
            positive = F.binary_cross_entropy(together.clamp(0, 1), torch.ones_like(together))
            weight = counted.float() / counted.sum()
            negative = F.binary_cross_entropy(
                apart.clamp(0, 1), torch.zeros_like(apart), weight, reduction="sum"
            )
            return 0.5 * (positive + negative)

    def chance(self, batch: int, shifts: int) -> float:
        """What a network gets that gives every pair a cosine of ½: ln 2."""
        return math.log(2)


class ShiftedInfoNCE(nn.Module):
    """Pick a face's own audio among the same clip at other times and all other windows of the batch.

    L = E_i[−log softmax_i(cos(v_i, ·) / τ)] over {a_i} ∪ {a'_i1 … a'_in} ∪ {a_j, j ≠ i}: InfoNCE (van den
    Oord et al., 2018). Other clips alone could be told by the voice and the face it belongs to; the shifted
    ones share both, so only timing is left.

    Windows of one clip in a batch are shifted audio that costs nothing. Near ones are left out: they agree
    with the face almost as well as its own.

    Args:
        temperature: first value of τ, which is learned.
        minimum: τ never falls below it, since the loss would follow single pairs.
        across: include the other windows of the batch; False leaves the shifted audio alone.
        symmetric: with ``across``, take the mean with the same loss the other way round: an audio's own face
            among the faces of the batch (as in CLIP, Radford et al., 2021).
    """

    def __init__(
        self, temperature: float = 0.07, minimum: float = 0.01, across: bool = True, symmetric: bool = True
    ) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        self.minimum = minimum
        self.across = across
        self.symmetric = symmetric and across

    @property
    def temperature(self) -> Tensor:
        """τ."""
        return self.log_temperature.exp().clamp_min(self.minimum)

    def forward(
        self,
        audio: Float[Tensor, "b d"],
        face: Float[Tensor, "b d"],
        shifted: Float[Tensor, "b n d"],
        same_clip: SameClip | None = None,
    ) -> Float[Tensor, ""]:
        """The loss, in float32 whatever the precision around it."""
        with torch.autocast(audio.device.type, enabled=False):
            if not self.across:
                together, apart, counted = shifted_cosines(audio, face, shifted, same_clip)
                apart = (apart / self.temperature).masked_fill(~counted, -torch.inf)
                logits = torch.cat([together[:, None] / self.temperature, apart], dim=1)
                first = torch.zeros(len(face), dtype=torch.long, device=face.device)
                return F.cross_entropy(logits, first)
            pairs = every_cosine(audio, face) / self.temperature
            if same_clip is not None:  # after the division: its gradient has no bound where a cosine has none
                pairs = pairs.masked_fill(same_clip.near, -torch.inf)
            apart = cosines(audio, face, shifted)[1] / self.temperature
            own = torch.arange(len(face), device=face.device)
            loss = F.cross_entropy(torch.cat([pairs, apart], dim=1), own)
            return 0.5 * (loss + F.cross_entropy(pairs.T, own)) if self.symmetric else loss

    def chance(self, batch: int, shifts: int) -> float:
        """What guessing gets: the logarithm of the number of candidates (near windows not taken off)."""
        picked = math.log(shifts + (batch if self.across else 1))
        return 0.5 * (picked + math.log(batch)) if self.symmetric else picked


def cosines(
    audio: Float[Tensor, "b d"], face: Float[Tensor, "b d"], shifted: Float[Tensor, "b n d"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, "b n"]]:
    """Cosines of the pairs that belong together, and of each face with its shifted audio, in float32."""
    with torch.autocast(audio.device.type, enabled=False):
        audio, face, shifted = audio.float(), face.float(), shifted.float()
        return (audio * face).sum(1), torch.einsum("bd,bnd->bn", face, shifted)


def every_cosine(audio: Float[Tensor, "b d"], face: Float[Tensor, "n d"]) -> Float[Tensor, "n b"]:
    """Cosines of each face with each audio, in float32 whatever the precision around it."""
    with torch.autocast(audio.device.type, enabled=False):
        return face.float() @ audio.float().T


def shifted_cosines(
    audio: Float[Tensor, "b d"],
    face: Float[Tensor, "b d"],
    shifted: Float[Tensor, "b n d"],
    same_clip: SameClip | None = None,
) -> tuple[Float[Tensor, " b"], Float[Tensor, "b m"], Bool[Tensor, "b m"]]:
    """Cosines of the pairs that belong together, and of each face with audio of its clip at other times.

    That is the shifted audio (m = n), and with ``same_clip`` the audio of the whole batch (m = n + b). The
    last result says which of it counts.
    """
    together, apart = cosines(audio, face, shifted)
    counted = torch.ones_like(apart, dtype=torch.bool)
    if same_clip is None:
        return together, apart, counted
    pairs = every_cosine(audio, face)
    return together, torch.cat([apart, pairs], dim=1), torch.cat([counted, same_clip.far], dim=1)


class SyncLoss(nn.Module):
    """What an expert says of generated lips; the gradient reaches the video.

    L = −log p, p = cos(a, v) for an expert that ends in a ReLU (Wav2Lip, eq. 2), p = (1 + cos(a, v)) / 2
    for one that does not, whose cosine may be negative.

    Args:
        expert: trained; frozen here, and left out of the holder's checkpoints.
        channel_order: the order it was trained with, see ``syncnet_input``.
        view: what it saw of a window in training (``view`` of its system); None: whole pictures.
    """

    def __init__(self, expert: SyncNet, channel_order: str = "bgr", view: LipView | None = None) -> None:
        super().__init__()
        self.final_relu = expert.final_relu
        self.expert = Frozen(expert)
        self.channel_order = channel_order
        self.view = view

    def forward(
        self,
        video: Float[Tensor, "b 5 3 h w"],
        mel: Float[Tensor, "b 1 80 16"],
        landmarks: Float[Tensor, "b 5 68 2"] | None = None,
    ) -> Float[Tensor, ""]:
        """The loss.

        Args:
            video: in [-1, 1], RGB, the frames that the mel window covers.
            mel: their mel window.
            landmarks: pixels of ``video``, of any frames with the same pose; needed with a view.

        Raises:
            ValueError: the expert has a view and there are no landmarks.
        """
        if self.view is not None:
            if landmarks is None:
                raise ValueError("this expert was trained on a view around the lips; it needs landmarks")
            video = self.view(video, landmarks)
        audio, face = self.expert(mel, syncnet_input(video, self.channel_order))
        cosine = (audio.float() * face.float()).sum(1)
        probability = cosine if self.final_relu else (1 + cosine) / 2
        return -(probability + 1e-4).log().mean()  # steep but finite where the cosine is 0

"""Vector quantisation: one codebook, or one for each half of the face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from talkgen.models.vqgan.kmeans import kmeans


@dataclass(frozen=True)
class Quantized:
    """What a quantiser gives.

    Attributes:
        latent: the nearest codes ``(b, d, h, w)``; gradients pass straight through to the encoder.
        codes: their indices ``(b, h, w)``, int64.
        loss: commitment (and, in gradient mode, codebook) loss, a scalar.
    """

    latent: Tensor
    codes: Tensor
    loss: Tensor


class Codebook(nn.Module):
    """The table ``weight`` (codes, dim): a parameter where gradients train it, a buffer where averages do,
    so that neither an optimiser nor a weight average ever touches the latter.
    """

    weight: Tensor

    def __init__(self, weight: Tensor, trained: bool) -> None:
        super().__init__()
        if trained:
            self.weight = nn.Parameter(weight)
        else:
            self.register_buffer("weight", weight)


class VectorQuantizer(nn.Module):
    """Replace each vector of a latent map by the nearest of ``codes`` learned vectors.

    ``mode="ema"`` (default): the codebook is the running mean of the vectors that chose each code (van den
    Oord et al. 2017, appendix A.1), started by k-means on the first batches; a code whose use falls below
    ``revive_below`` of the mean use is moved onto a vector of the batch, and its statistics with it.
    loss = β·‖z − sg(e)‖².

    ``mode="gradient"``: the published VQGAN. loss = ‖sg(z) − e‖² + β·‖z − sg(e)‖²; with ``legacy=True`` β
    sits on the other term, a slip of the published code that is needed only to go on with a run made by it.

    All arithmetic is in float32, whatever the precision around it. Under DDP the statistics are those of the
    global batch. Codes of a training forward refer to the codebook *before* that forward's update.

    Args:
        codes: size of the codebook, at most 65,536, so that indices fit into uint16.
        dim: length of a code.
        mode: see above.
        beta: weight of the commitment.
        legacy: see above.
        decay: of the running means.
        cosine: compare directions alone: latents and codes are unit vectors.
        kmeans_vectors: k-means waits for so many vectors; 0 starts from random codes instead.
        revive_below: fraction of the mean use below which a code counts as dead; 0 switches revival off.

    Shapes: ``(b, dim, h, w)`` → ``Quantized``.
    """

    # Running state of mode "ema".
    cluster_size: Tensor  # (codes,) running mean of how many vectors of a batch choose each code
    embed_avg: Tensor  # (codes, dim) running mean of their sum
    steps: Tensor  # () training forwards so far; seeds the choice of vectors
    initialised: Tensor  # () bool: k-means is done

    def __init__(
        self,
        codes: int = 1024,
        dim: int = 256,
        mode: Literal["ema", "gradient"] = "ema",
        beta: float = 0.25,
        legacy: bool = False,
        decay: float = 0.99,
        cosine: bool = False,
        kmeans_vectors: int = 8192,
        revive_below: float = 0.25,
    ) -> None:
        super().__init__()
        if mode not in ("ema", "gradient"):
            raise ValueError(f"mode is 'ema' or 'gradient', not {mode!r}")
        if not 1 < codes <= 65536:
            raise ValueError(f"codes must be in 2..65536 (indices are stored as uint16), not {codes}")
        self.codes, self.dim, self.mode = codes, dim, mode
        self.beta, self.legacy, self.decay, self.cosine = beta, legacy, decay, cosine
        self.kmeans_vectors, self.revive_below = kmeans_vectors, revive_below
        weight = torch.empty(codes, dim).uniform_(-1 / codes, 1 / codes)
        self.embedding = Codebook(
            F.normalize(weight, dim=1) if cosine else weight, trained=mode == "gradient"
        )
        if mode == "ema":
            self.register_buffer("cluster_size", torch.ones(codes))
            self.register_buffer("embed_avg", self.embedding.weight.clone())
            self.register_buffer("steps", torch.zeros((), dtype=torch.long))
            self.register_buffer("initialised", torch.tensor(kmeans_vectors == 0))
        self._waiting: list[Tensor] = []  # vectors of all processes, seen before k-means
        self._step: int | None = None  # `steps` and `initialised`, read once: reading them makes a GPU wait
        self._started = False

    def forward(self, latent: Float[Tensor, "b d h w"]) -> Quantized:
        """Quantise; in training, also move the codebook (mode "ema")."""
        with torch.autocast(latent.device.type, enabled=False):
            b, d, h, w = latent.shape
            z = latent.float().permute(0, 2, 3, 1).reshape(-1, d)
            if self.cosine:
                z = F.normalize(z, dim=1)
            learning = self.training and self.mode == "ema"
            if learning and self._step is None:
                self._step, self._started = int(self.steps), bool(self.initialised)
            if learning and not self._started:
                self._start(z.detach())
            codes = self.nearest(z)
            e = self._table()[codes]
            loss = self._loss(z, e)
            if learning:
                self._update(z.detach(), codes)
            if z.requires_grad:
                e = z + (e - z).detach()
            quantised = e.view(b, h, w, d).permute(0, 3, 1, 2)
            return Quantized(quantised, codes.view(b, h, w), loss)

    @torch.no_grad()
    def nearest(self, z: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
        """argmin over codes of ‖z − e‖² = ‖z‖² + ‖e‖² − 2·z·e; ‖z‖² is the same for all of them."""
        table = self._table()
        offset = table.square().sum(1)
        rows = max(1, 2**24 // self.codes)  # at most 64 MiB of distances at a time
        parts = [torch.addmm(offset, part, table.T, alpha=-2).argmin(1) for part in z.split(rows)]
        return torch.cat(parts)

    def lookup(self, codes: Int[Tensor, "b h w"]) -> Float[Tensor, "b d h w"]:
        """Indices (any integer type) → latent."""
        return self._table()[codes.long()].permute(0, 3, 1, 2)

    def _table(self) -> Tensor:
        weight = self.embedding.weight.float()
        return F.normalize(weight, dim=1) if self.cosine else weight

    def _loss(self, z: Tensor, e: Tensor) -> Tensor:
        commitment = F.mse_loss(z, e.detach())
        if self.mode == "ema":
            return self.beta * commitment
        codebook = F.mse_loss(e, z.detach())
        return commitment + self.beta * codebook if self.legacy else codebook + self.beta * commitment

    @torch.no_grad()
    def set_codes(self, weight: Float[Tensor, "codes d"], cluster_size: Tensor | None = None) -> None:
        """Take a codebook from elsewhere, with statistics that agree with it."""
        self.embedding.weight.copy_(weight)
        if self.mode == "ema":
            self.cluster_size.copy_(
                torch.ones_like(self.cluster_size) if cluster_size is None else cluster_size
            )
            self.embed_avg.copy_(self.embedding.weight * self.cluster_size[:, None])
            self.initialised.fill_(True)
            self._started = True
            self._waiting.clear()

    @torch.no_grad()
    def _start(self, z: Tensor) -> None:
        """Collect vectors; k-means once there are enough, a random choice of them until then.

        Every process keeps the vectors of all: a checkpoint is written by one and read by each, by any number
        of them.
        """
        batch = _gather(z)
        self._waiting.append(batch)
        seen = torch.cat(self._waiting)
        if len(seen) < self.kmeans_vectors:
            self.embedding.weight.copy_(_choose(seen, self.codes, seed=self._step or 0))
            self.cluster_size.fill_(len(seen) / self.codes)
            self.embed_avg.copy_(self.embedding.weight * self.cluster_size[:, None])
            return
        count = min(max(self.kmeans_vectors, 8 * self.codes), len(seen))
        weight, members = kmeans(_choose(seen, count, seed=0), self.codes, cosine=self.cosine)
        self.set_codes(weight, members * (len(batch) / count))

    @torch.no_grad()
    def _update(self, z: Tensor, codes: Tensor) -> None:
        """Running means over the global batch, then revival of dead codes."""
        statistics = z.new_zeros(self.codes, self.dim + 1)
        rows = torch.cat([z, z.new_ones(len(z), 1)], dim=1)
        # index_put_ with accumulate sums in a fixed order on every device; index_add_ does not on CUDA.
        statistics.index_put_((codes,), rows, accumulate=True)
        _all_reduce(statistics)
        sums, counts = statistics[:, :-1], statistics[:, -1]
        self.cluster_size.lerp_(counts, 1 - self.decay)
        self.embed_avg.lerp_(sums, 1 - self.decay)
        size = self.cluster_size[:, None]
        weight = torch.where(size > 1e-5, self.embed_avg / size.clamp_min(1e-5), self.embedding.weight)
        if self.cosine:
            weight = F.normalize(weight, dim=1)
        self.embedding.weight.copy_(weight)
        if self.revive_below > 0:
            self._revive(z, counts.sum() / self.codes)
        self.steps += 1
        self._step = (self._step or 0) + 1

    def _revive(self, z: Tensor, mean_use: Tensor) -> None:
        """Move dead codes onto vectors of the batch. Statistics move too: a code whose running sum stayed
        behind would be pulled back to where it died. Nothing branches on data, so a GPU is not waited for.
        """
        dead = self.cluster_size < self.revive_below * mean_use
        fresh = _draw(z, self.codes, seed=self._step or 0)
        credit = 2 * self.revive_below * mean_use  # dead again after ln 2 / −ln decay (69) steps without use
        self.embedding.weight.copy_(torch.where(dead[:, None], fresh, self.embedding.weight))
        self.embed_avg.copy_(torch.where(dead[:, None], fresh * credit, self.embed_avg))
        self.cluster_size.copy_(torch.where(dead, credit.expand_as(dead), self.cluster_size))

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Vectors that still wait for k-means are saved too, so that a resumed run goes the same way."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self._waiting:
            destination[f"{prefix}waiting"] = torch.cat(self._waiting)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        waiting = state_dict.pop(f"{prefix}waiting", None)
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._waiting = [] if waiting is None else [waiting.to(self.embedding.weight.device)]
        self._step = None


class HalvesQuantizer(nn.Module):
    """Two codebooks: C^U for the upper rows of a latent map, C^B for the lower (SwapTalk, section on VQ).

    The paper's reason: the upper codebook holds pose, the lower one lips.

    Shapes: ``(b, d, h, w)``, h even → ``Quantized``; ``codes[:, :h/2]`` index the upper codebook.
    """

    def __init__(self, upper: VectorQuantizer, lower: VectorQuantizer) -> None:
        super().__init__()
        if (upper.dim, upper.codes) != (lower.dim, lower.codes):
            raise ValueError(
                "both codebooks must have one shape, not "
                f"{upper.codes}×{upper.dim} and {lower.codes}×{lower.dim}"
            )
        self.upper, self.lower = upper, lower
        self.codes, self.dim = upper.codes, upper.dim

    def forward(self, latent: Float[Tensor, "b d h w"]) -> Quantized:
        """Quantise the halves, each with its own codebook; the loss is their mean."""
        above, below = latent.chunk(2, dim=2)
        u, b = self.upper(above), self.lower(below)
        return Quantized(
            torch.cat([u.latent, b.latent], dim=2),
            torch.cat([u.codes, b.codes], dim=1),
            (u.loss + b.loss) / 2,
        )

    def lookup(self, codes: Int[Tensor, "b h w"]) -> Float[Tensor, "b d h w"]:
        """Indices → latent."""
        above, below = codes.chunk(2, dim=1)
        return torch.cat([self.upper.lookup(above), self.lower.lookup(below)], dim=2)


def _order(total: int, count: int, seed: int) -> Tensor:
    """``count`` random ones of ``total`` rows, again from the beginning where there are fewer."""
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    return order.repeat(-(-count // total))[:count]


def _choose(rows: Tensor, count: int, seed: int) -> Tensor:
    """``count`` random rows."""
    return rows[_order(len(rows), count, seed).to(rows.device)]


def _draw(z: Tensor, count: int, seed: int) -> Tensor:
    """``count`` random rows of the global batch, the same on every rank and for every number of ranks."""
    if _world_size() == 1:
        return _choose(z, count, seed)
    sizes = _sizes(z)
    start = int(sizes[: dist.get_rank()].sum())
    index = _order(int(sizes.sum()), count, seed).to(z.device) - start
    mine = (index >= 0) & (index < len(z))
    rows = z[index.clamp(0, len(z) - 1)] * mine[:, None]
    _all_reduce(rows)
    return rows


def _gather(z: Tensor) -> Tensor:
    """The rows of all ranks, in the order of the ranks."""
    if _world_size() == 1:
        return z
    sizes = _sizes(z)
    start = int(sizes[: dist.get_rank()].sum())
    rows = z.new_zeros(int(sizes.sum()), z.shape[1])
    rows[start : start + len(z)] = z
    _all_reduce(rows)
    return rows


def _sizes(z: Tensor) -> Tensor:
    """Number of rows on every rank."""
    sizes = torch.zeros(_world_size(), dtype=torch.long, device=z.device)
    sizes[dist.get_rank()] = len(z)
    _all_reduce(sizes)
    return sizes


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _all_reduce(x: Tensor) -> None:
    """Sum over processes, in place; nothing to do for one."""
    if _world_size() > 1:
        dist.all_reduce(x)

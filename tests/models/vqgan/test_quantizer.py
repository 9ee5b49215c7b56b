from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from talkgen.checkpoints import load_published
from talkgen.models.vqgan.kmeans import kmeans
from talkgen.models.vqgan.quantizer import HalvesQuantizer, VectorQuantizer


def latent(b: int = 2, d: int = 4, h: int = 6, w: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(b, d, h, w, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("cosine", [False, True])
def test_nearest_is_nearest(cosine: bool) -> None:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(32, 4, cosine=cosine, kmeans_vectors=0).eval()
    quantizer.set_codes(F.normalize(torch.randn(32, 4), dim=1) if cosine else torch.randn(32, 4))
    z = latent()
    got = quantizer(z)
    vectors = z.permute(0, 2, 3, 1).reshape(-1, 4)
    if cosine:
        vectors = F.normalize(vectors, dim=1)
    expected = torch.cdist(vectors, quantizer.embedding.weight).argmin(1)
    torch.testing.assert_close(got.codes.flatten(), expected)
    torch.testing.assert_close(got.latent, quantizer.lookup(got.codes), rtol=0, atol=0)
    torch.testing.assert_close(quantizer.lookup(got.codes.to(torch.uint16)), got.latent, rtol=0, atol=0)


def test_distances_in_chunks_give_the_same_codes() -> None:
    quantizer = VectorQuantizer(65536, 2, mode="gradient")
    quantizer.set_codes(torch.randn(65536, 2))
    z = torch.randn(600, 2)  # 256 rows a chunk
    torch.testing.assert_close(
        quantizer.nearest(z), torch.cat([quantizer.nearest(row) for row in z.split(100)])
    )


def test_losses_by_hand() -> None:
    z = torch.zeros(1, 2, 1, 1, requires_grad=True)
    for mode, legacy, loss, to_z, to_e in (
        # ‖z − e‖² = 5 / 2 in the mean of two components, e = (1, 2)
        ("gradient", False, 2.5 * 1.25, 0.25, 1.0),
        ("gradient", True, 2.5 * 1.25, 1.0, 0.25),
        ("ema", False, 2.5 * 0.25, 0.25, None),
    ):
        quantizer = VectorQuantizer(2, 2, mode=mode, legacy=legacy, kmeans_vectors=0).eval()
        quantizer.set_codes(torch.tensor([[1.0, 2.0], [9.0, 9.0]]))
        z.grad = None
        got = quantizer(z)
        assert got.loss.item() == pytest.approx(loss)
        got.loss.backward()
        # d/dz of mean((z − e)²) = (z − e), e − z for the code
        torch.testing.assert_close(z.grad.flatten(), -to_z * torch.tensor([1.0, 2.0]))
        if to_e is None:
            assert not list(quantizer.parameters())
        else:
            torch.testing.assert_close(quantizer.embedding.weight.grad[0], to_e * torch.tensor([1.0, 2.0]))


def test_gradient_passes_straight_through() -> None:
    quantizer = VectorQuantizer(8, 4, kmeans_vectors=0)
    z = latent().requires_grad_()
    got = quantizer(z)
    weight = torch.randn_like(got.latent)
    (got.latent * weight).sum().backward()
    torch.testing.assert_close(z.grad, weight)


def test_running_means_by_hand() -> None:
    quantizer = VectorQuantizer(2, 1, decay=0.5, kmeans_vectors=0, revive_below=0)
    quantizer.set_codes(torch.tensor([[0.0], [10.0]]), cluster_size=torch.tensor([2.0, 2.0]))
    quantizer(torch.tensor([1.0, 2.0, 3.0, 12.0]).view(1, 1, 2, 2))
    # sizes (2 + 3) / 2 and (2 + 1) / 2; sums (0 + 6) / 2 and (20 + 12) / 2
    torch.testing.assert_close(quantizer.cluster_size, torch.tensor([2.5, 1.5]))
    torch.testing.assert_close(quantizer.embed_avg.flatten(), torch.tensor([3.0, 16.0]))
    torch.testing.assert_close(quantizer.embedding.weight.flatten(), torch.tensor([3 / 2.5, 16 / 1.5]))


def test_evaluation_moves_nothing() -> None:
    quantizer = VectorQuantizer(8, 4).eval()
    before = {key: value.clone() for key, value in quantizer.state_dict().items()}
    quantizer(latent())
    for key, value in quantizer.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


def test_revived_codes_stay_where_they_were_put() -> None:
    """A revival that forgets the running sums is undone by the next update."""
    quantizer = VectorQuantizer(4, 2, kmeans_vectors=0, revive_below=0.25)
    quantizer.set_codes(torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0], [100.0, 100.0]]))
    quantizer.cluster_size.copy_(torch.tensor([50.0, 0.0, 0.0, 0.0]))
    quantizer.embed_avg.copy_(quantizer.embedding.weight * quantizer.cluster_size[:, None])
    z = latent(b=1, d=2, h=10, w=10)
    quantizer(z)
    vectors = z.permute(0, 2, 3, 1).reshape(-1, 2)
    moved = quantizer.embedding.weight[1:]
    assert torch.cdist(moved, vectors).amin(1).max() < 1e-5  # each onto a vector of the batch
    torch.testing.assert_close(
        quantizer.embed_avg / quantizer.cluster_size[:, None], quantizer.embedding.weight
    )
    quantizer(z)
    assert torch.cdist(quantizer.embedding.weight[1:], moved).diagonal().max() < 1.0
    assert len(quantizer(z).codes.unique()) == 4


def test_kmeans_finds_clusters() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    member = torch.randint(4, (400,), generator=generator)
    vectors = truth[member] + 0.1 * torch.randn(400, 2, generator=generator)
    centres, counts = kmeans(vectors, 4)
    order = torch.cdist(truth, centres).argmin(1)
    torch.testing.assert_close(centres[order], truth, rtol=0, atol=0.1)
    torch.testing.assert_close(counts[order], member.bincount().float())


def test_kmeans_with_fewer_vectors_than_clusters_is_finite() -> None:
    centres, counts = kmeans(torch.randn(3, 2), 8)
    assert torch.isfinite(centres).all() and counts.sum() == 3


def test_kmeans_waits_for_enough_vectors_and_survives_a_restart() -> None:
    def run(restart: bool) -> torch.Tensor:
        quantizer = VectorQuantizer(16, 4, kmeans_vectors=100)
        for step in range(5):  # 60 vectors each: k-means at the second
            if restart and step == 1:
                assert not quantizer.initialised
                state = quantizer.state_dict()
                assert state["waiting"].shape == (60, 4)
                quantizer = VectorQuantizer(16, 4, kmeans_vectors=100)
                load_published(quantizer, state)
            quantizer(latent(seed=step))
        assert quantizer.initialised and "waiting" not in quantizer.state_dict()
        return quantizer.embedding.weight

    torch.testing.assert_close(run(False), run(True), rtol=0, atol=0)


def test_published_keys() -> None:
    assert set(VectorQuantizer(8, 4, mode="gradient").state_dict()) == {"embedding.weight"}
    assert set(VectorQuantizer(8, 4).state_dict()) == {
        "embedding.weight", "cluster_size", "embed_avg", "steps", "initialised",
    }  # fmt: skip


def test_halves_use_a_codebook_each() -> None:
    upper, lower = (VectorQuantizer(4, 2, kmeans_vectors=0) for _ in range(2))
    upper.set_codes(torch.zeros(4, 2))
    lower.set_codes(torch.ones(4, 2))
    both = HalvesQuantizer(upper, lower).eval()
    got = both(latent(d=2))
    assert (got.latent[:, :, :3] == 0).all() and (got.latent[:, :, 3:] == 1).all()
    torch.testing.assert_close(both.lookup(got.codes), got.latent)
    with pytest.raises(ValueError, match="4×2"):
        HalvesQuantizer(upper, VectorQuantizer(8, 2))


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="uint16"):
        VectorQuantizer(70000, 2)
    with pytest.raises(ValueError, match="mode"):
        VectorQuantizer(8, 2, mode="kmeans")


def _train(
    quantizer: VectorQuantizer, batches: list[torch.Tensor], stops: Path | None = None
) -> dict[str, torch.Tensor]:
    """Train; with ``stops``, stop after the first batch and go on with the state that was saved there."""
    for number, batch in enumerate(batches):
        quantizer(batch)
        if stops is not None and number == 0:
            if not dist.is_initialized() or dist.get_rank() == 0:  # one process writes checkpoints
                torch.save(quantizer.state_dict(), stops)
            if dist.is_initialized():
                dist.barrier()
            quantizer = _quantizer()
            load_published(quantizer, torch.load(stops, weights_only=True))
    return quantizer.state_dict()


def _quantizer() -> VectorQuantizer:
    torch.manual_seed(0)
    # k-means at the third batch; a threshold so high that codes are revived.
    return VectorQuantizer(16, 4, kmeans_vectors=300, revive_below=0.9)


def _batches() -> list[torch.Tensor]:
    return [latent(b=4, seed=i) for i in range(8)]


def _process(folder: str, rank: int, stops: bool) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    # Not the same number on both: parts of a batch may differ in size.
    mine = [batch[:1] if rank == 0 else batch[1:] for batch in _batches()]
    state = _train(_quantizer(), mine, Path(folder, "stopped.pt") if stops else None)
    torch.save(state, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("stops", [False, True])
def test_two_processes_are_one(tmp_path: Path, stops: bool) -> None:
    """k-means, running means and revival see the global batch, however many processes share it, also where
    both go on from what the first one saved.
    """
    command = [sys.executable, __file__, str(tmp_path)]
    processes = [subprocess.Popen([*command, str(rank), str(int(stops))]) for rank in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    alone = _train(_quantizer(), _batches())
    assert alone["initialised"] and alone["steps"] == 8
    for key, value in alone.items():
        torch.testing.assert_close(first[key], second[key], rtol=0, atol=0)
        torch.testing.assert_close(first[key], value, rtol=1e-4, atol=1e-5)


def test_what_two_processes_wait_with_one_goes_on_with(tmp_path: Path) -> None:
    command = [sys.executable, __file__, str(tmp_path)]
    processes = [subprocess.Popen([*command, str(rank), "1"]) for rank in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    stopped = torch.load(tmp_path / "stopped.pt", weights_only=True)
    alone = _quantizer()
    alone(_batches()[0])
    torch.testing.assert_close(stopped["waiting"], alone.state_dict()["waiting"], rtol=0, atol=0)


if __name__ == "__main__":
    _process(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1")

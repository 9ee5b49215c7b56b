"""Two processes learn what one with the whole batch learns, and so do small batches that are added up."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from talkgen.configuration import options

SCRIPT = Path(__file__).with_name("rehearse_in_parts.py")
SYSTEMS = options("system")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every system, trained by one process and by two; all systems in the same ones."""
    folder = tmp_path_factory.mktemp("parts")
    port = free_port()
    common = {
        **os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "LOCAL_WORLD_SIZE": "2",
        "TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0",
    }  # fmt: skip
    started = []
    for world, rank in ((2, 0), (2, 1), (1, 0)):
        environment = {
            **common, "MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(world),
        }  # fmt: skip
        command = [sys.executable, str(SCRIPT), str(folder), *SYSTEMS]
        started.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        )
    for process in started:
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0, out.decode()[-4000:]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_two_processes_are_one_with_the_whole_batch(system, rehearsed):
    # what is left is the order of sums; batch normalisation over a few windows of noise blows it up
    loose = 10 if system.startswith("sync_expert") else 1
    one, two = (torch.load(rehearsed / f"{system}-{world}.pt", weights_only=True) for world in (1, 2))
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-4 * loose, abs=1e-5)
    assert one["losses"][0] != one["losses"][-1]
    assert one["weights"].keys() == two["weights"].keys()
    for key, value in one["weights"].items():
        torch.testing.assert_close(
            two["weights"][key], value, rtol=1e-3, atol=1e-4 * loose, msg=lambda m, k=key: f"{k}: {m}"
        )


@pytest.mark.parametrize(
    ("system", "changes"),
    [
        # without the hint, which batches standardise, and the discriminator, whose spectral norm moves with
        # every batch
        ("diff2lip_diffusion", ["system.weights.shape=0", "system.weights.adversarial=0"]),
        ("disenttalk_codec", []),
        ("disenttalk_renderer", []),
        ("swaptalk_light_decoder", []),
    ],
)
def test_small_batches_are_one_large_batch(system, changes):
    """The same chance and, added up, the same gradients; and so the same weights."""
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        from rehearse_in_parts import rehearse
    finally:
        sys.path.remove(str(SCRIPT.parent))
    changes = [*changes, "system.learning_rate=null"]  # rates count batches, of which there are twice as many
    large = rehearse(system, 0, 1, 1, changes)
    small = rehearse(system, 0, 1, 2, changes)
    assert len(small["losses"]) == 2 * len(large["losses"])
    for key, value in large["weights"].items():
        torch.testing.assert_close(small["weights"][key], value, rtol=1e-4, atol=1e-6)


def test_learning_rates_count_batches_when_they_are_accumulated():
    from talkgen.systems.partials import _every
    from talkgen.systems.schedules import warmup_cosine

    def rates(batches: int, steps: int) -> list[float]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = _every(warmup_cosine(optimizer, 12, warmup_steps=4), batches)
        found = []
        for _ in range(steps):
            found.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
        return found

    assert rates(3, 4) == pytest.approx(rates(1, 12)[::3])


def test_sharding_is_refused_with_the_reason():
    from types import SimpleNamespace

    from lightning.pytorch.strategies import FSDPStrategy

    from talkgen.errors import TalkgenError
    from talkgen.rehearsal import stage_config, stage_system
    from talkgen.systems.partials import refuse_sharding

    system = stage_system(stage_config("disenttalk_codec", ["size=tiny"]), ["size=tiny"])
    with pytest.raises(TalkgenError, match="whole"):
        refuse_sharding(system, SimpleNamespace(strategy=FSDPStrategy()))

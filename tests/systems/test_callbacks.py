"""What happens around a step."""

from __future__ import annotations

import csv
import json
import os
import signal
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

from talkgen.data.datamodule import TalkingFaceData
from talkgen.data.windows import WindowSettings
from talkgen.errors import TalkgenError
from talkgen.systems.callbacks.checkpoints import CheckpointEvery, Interrupted
from talkgen.systems.callbacks.clip_videos import choose_clips
from talkgen.systems.callbacks.ema import EMA
from talkgen.systems.callbacks.nan_guard import NaNGuard
from talkgen.systems.callbacks.samples import SampleVideos
from talkgen.systems.callbacks.seeding import SeedEachStep
from talkgen.systems.metrics_csv import MetricsCSV
from talkgen.systems.schedules import warmup_cosine
from talkgen.systems.stream import StreamedData
from talkgen.video.reader import probe, read_frames


class Line(LightningModule):
    """y = w x, with a codebook that nobody trains."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Linear(1, 1, bias=False)
        self.net.register_buffer("table", torch.zeros(1))
        torch.nn.init.constant_(self.net.weight, 0.0)
        self.seen: list[float] = []

    def training_step(self, batch, batch_idx):
        self.net.table += 1
        return self.net(batch["video"]).mean()

    def validation_step(self, batch, batch_idx):
        self.seen.append(float(self.net.weight))
        self.log("val/score", -float(len(self.seen) == 2))  # best at the first validation

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def batches(count: int) -> list[dict]:
    return [
        {"video": torch.ones(1, 1), "clip": [f"clip{i}"], "frame": torch.tensor([i])} for i in range(count)
    ]


def fit(system, callbacks, count=4, logger=False, resume=None, **arguments) -> Trainer:
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=logger, callbacks=callbacks, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1, num_sanity_val_steps=0,
        val_check_interval=2, check_val_every_n_epoch=None, **arguments,
    )  # fmt: skip
    train, held_out = (DataLoader(batches(n), batch_size=None) for n in (count, 1))
    trainer.fit(system, train, held_out, ckpt_path=resume, weights_only=True)
    return trainer


def test_ema_by_hand():
    """The weight goes 0, −1, −2, … ; decay min(0.5, (1 + n) / (10 + n)) = 0.1, 2/11, …"""
    system, ema = Line(), EMA(["net"], decay=0.5)
    fit(system, [ema], count=2)
    first = 0.1 * 0 + 0.9 * -1
    second = 2 / 11 * first + 9 / 11 * -2
    assert float(ema.averages["net.weight"]) == pytest.approx(second)
    assert system.seen == [pytest.approx(second)]  # validated on the average
    assert float(system.net.weight) == pytest.approx(-2)  # trained weight is back


def test_ema_leaves_codebooks_alone():
    system = Line()
    ema = EMA(["net"], copied=("weight",))
    fit(system, [ema], count=2)
    assert ema.averages == {}
    assert float(system.net.table) == 2


def test_ema_refuses_a_decay_of_one():
    with pytest.raises(ValueError, match="decay"):
        EMA(["net"], decay=1.0)


def test_checkpoints_hold_last_best_and_averages(tmp_path):
    keeper = CheckpointEvery(tmp_path, every=2, monitor="val/score", keep_every=2)
    fit(Line(), [EMA(["net"], decay=0.5), keeper], count=4)
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert float(last["state_dict"]["net.weight"]) == -4
    assert float(best["state_dict"]["net.weight"]) == -2
    assert last["ema"].keys() == {"net.weight"}
    assert float(best["ema"]["net.weight"]) > -2  # behind, and not swapped with the weight
    assert json.loads((tmp_path / "best.json").read_text()) == {
        "monitor": "val/score",
        "value": 0.0,
        "batches": 2,
    }
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"last.ckpt", "best.ckpt", "best.json", "step-0000002.ckpt", "step-0000004.ckpt"}


class SendSignal(Callback):
    def __init__(self, number: int, at: int) -> None:
        self.number, self.at = number, at

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == self.at:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops(tmp_path, number):
    held = signal.getsignal(number)
    with pytest.raises(Interrupted) as stop:
        fit(Line(), [SendSignal(number, at=2), CheckpointEvery(tmp_path, every=100)])
    assert (stop.value.signum, stop.value.batches) == (number, 3)
    assert float(torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]["net.weight"]) == -3
    assert signal.getsignal(number) == held


class Die(Callback):
    """Ends the process, as far as a test can, while other callbacks still have to do with the batch."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == 2:
            raise SystemExit


def test_a_checkpoint_takes_its_name_when_all_of_its_batch_is_done(tmp_path):
    with pytest.raises(SystemExit):
        fit(Line(), [CheckpointEvery(tmp_path, every=1), Die()])
    assert float(torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]["net.weight"]) == -2


def test_a_checkpoint_that_is_kept_for_good_is_made_up_for(tmp_path):
    """Where the process died between the last checkpoint and its second name."""
    with pytest.raises(SystemExit):
        fit(Line(), [CheckpointEvery(tmp_path, every=2, keep_every=2), Die()])
    (tmp_path / "step-0000002.ckpt").unlink()
    again = CheckpointEvery(tmp_path, every=2, keep_every=2)
    fit(Line(), [again], resume=tmp_path / "last.ckpt")
    for done in (2, 4):
        kept = torch.load(tmp_path / f"step-{done:07d}.ckpt", weights_only=True)
        assert float(kept["state_dict"]["net.weight"]) == -done


def test_validations_leave_no_trace_in_checkpoints(tmp_path):
    """Of a training that was never stopped, and of one that goes on right after a validation."""
    fit(Line(), [CheckpointEvery(tmp_path / "whole", every=2)], count=5)
    with pytest.raises(Interrupted):
        fit(Line(), [SendSignal(signal.SIGTERM, at=3), CheckpointEvery(tmp_path, every=100)], count=5)
    fit(Line(), [CheckpointEvery(tmp_path, every=2)], count=5, resume=tmp_path / "last.ckpt")
    for folder in (tmp_path / "whole", tmp_path):
        loops = torch.load(folder / "last.ckpt", weights_only=True)["loops"]["fit_loop"]
        assert set(loops["epoch_loop.val_loop.batch_progress"]["current"].values()) == {0}


@pytest.mark.parametrize(
    "arguments", [{"every": 0}, {"every": 2, "mode": "up"}, {"every": 2, "keep_every": 3}]
)
def test_checkpoint_settings_are_checked(tmp_path, arguments):
    with pytest.raises(ValueError):
        CheckpointEvery(tmp_path, **arguments)


class Spoil(Callback):
    """Makes the gradient of one batch infinite."""

    def on_after_backward(self, trainer, pl_module):
        if trainer.fit_loop.batch_idx == 2:
            pl_module.net.weight.grad.fill_(float("nan"))


def test_nan_stops_before_weights_and_checkpoints_are_touched(tmp_path):
    system = Line()
    with pytest.raises(TalkgenError, match=r"net\.weight.*step 2"):
        fit(system, [NaNGuard(tmp_path), Spoil(), CheckpointEvery(tmp_path, every=1)])
    dump = json.loads((tmp_path / "nan.json").read_text())
    assert (dump["step"], dump["clips"], dump["frames"]) == (2, ["clip2"], [2])
    assert float(system.net.weight) == -2
    assert float(torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]["net.weight"]) == -2


def test_seeding_depends_on_the_step_alone():
    trainer = SimpleNamespace(global_rank=0, world_size=1, accumulate_grad_batches=1)
    system = SimpleNamespace(automatic_optimization=True)
    seeding = SeedEachStep(7)

    def draw(step, rank=0):
        trainer.global_rank = rank
        seeding.on_train_batch_start(trainer, system, None, step)
        return torch.rand(1).item()

    first = [draw(i) for i in range(3)]
    assert len(set(first)) == 3
    torch.rand(100)
    assert [draw(i) for i in range(3)] == first
    assert draw(0, rank=1) != first[0]


def test_metrics_csv_grows_columns_and_forgets(tmp_path):
    table = MetricsCSV(tmp_path / "run" / "metrics.csv")
    table.log_metrics({"a": 1.0, "epoch": 0}, 0)
    table.log_metrics({"a": 2.0}, 1)
    table.log_metrics({"b": 3.0}, 1)
    with table.file.open("a") as stream:
        stream.write("2,4.")  # a process that was killed while it wrote
    again = MetricsCSV(table.file)
    again.keep_before(1)
    again.log_metrics({"b": 9.0}, 1)
    with table.file.open() as stream:
        rows = list(csv.DictReader(stream))
    assert rows == [{"step": "0", "a": "1.0", "b": ""}, {"step": "1", "a": "", "b": "9.0"}]


def test_warmup_cosine_by_hand():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = warmup_cosine(optimizer, steps=12, warmup_steps=2, final=0.1)
    rates = []
    for _ in range(13):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert rates[7] == pytest.approx(0.55)
    assert rates[12] == pytest.approx(0.1)


class Negative(Line):
    def sample(self, video):
        assert not self.training
        return -video


def test_sample_videos_have_sound_and_both_pictures(tiny_store, tmp_path):
    data = StreamedData(TalkingFaceData(str(tiny_store), WindowSettings(frames=1), 4, workers=0), 2)
    data.data.setup("fit")
    system = Negative()
    trainer = SimpleNamespace(is_global_zero=True, datamodule=data, callbacks=[], loggers=[])
    SampleVideos(tmp_path, every=2, size=32, clips=3, seconds=0.8).write_all(trainer, system, 40)
    (file,) = tmp_path.iterdir()  # one held-out clip
    assert file.name == "step-0000040-person4_clip.mp4"
    info = probe(file)
    assert (info.width, info.height, info.frames, info.has_audio) == (64, 32, 20, True)
    frame = next(iter(read_frames(file))).astype(float)
    assert abs(frame[:, :32].mean() + frame[:, 32:].mean() - 255) < 4
    assert system.training


def test_choose_clips_takes_people_in_turn():
    clips = [SimpleNamespace(identity=name, id=i) for i, name in enumerate("aaabbc")]
    assert [clip.id for clip in choose_clips(clips, 5)] == [0, 3, 5, 1, 4]

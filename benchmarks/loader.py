"""How fast random windows of 5 frames come from a prepared corpus, by storage format.

    python benchmarks/loader.py [--videos FOLDER] [--seconds 1.5] [--write]

Every contestant gives the same thing: 5 consecutive frames, uint8 RGB at 128 or 320 px, and their mel window
(80 x 16), from a random place of a random clip. Times are CPU seconds of one process with one thread, from
files that the operating system has in memory. Baselines:

(a) the Wav2Lip way: a folder of JPEGs at the size of the face in the video, cv2.imread, cv2.resize, and the
    mel of the whole clip computed anew for each window (librosa.load and a librosa STFT). Its time depends on
    the length of the clip: 3 s is LRS2, 8 s VoxCeleb2, 141 s the mean of HDTF (17.1 h in 436 clips);
(b) the mp4 as it was downloaded (one key frame in 250), decoded with PyAV from the key frame on, mel from a
    file.

Without --videos, moving noise is filmed; with real faces the bytes per frame and PSNR mean more.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import librosa
import numpy as np
import soundfile
from document import keep

from talkgen.audio.alignment import mel_window
from talkgen.audio.mel import mel_spectrogram
from talkgen.audio.waveform import load_waveform, to_int16
from talkgen.data.clip import Clip
from talkgen.data.dataset import ClipWindows
from talkgen.data.store import Store, StoreWriter
from talkgen.data.windows import WindowSettings, resize_frames
from talkgen.video.reader import read_frames

WINDOW = 5
LENGTH = 75  # frames of a clip
CLIP_SECONDS = (3, 8, 141)
Read = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]


@dataclass
class Film:
    """A clip: square frames at the size they have in the video, and its sound."""

    frames: np.ndarray
    waveform: np.ndarray

    @property
    def mel(self) -> np.ndarray:
        return mel_spectrogram(self.waveform)


@dataclass
class Row:
    """A line of the table."""

    name: str
    windows: float
    kilobytes: float | None
    psnr: float | None


def films(folder: Path | None) -> list[Film]:
    """Clips of a folder of videos, or of moving noise."""
    if folder is None:
        rng = np.random.default_rng(0)
        made = []
        for _ in range(8):
            ground = cv2.resize(
                rng.integers(0, 255, (40, 40, 3), np.uint8), (520, 520), interpolation=cv2.INTER_CUBIC
            )
            frames = np.stack([ground[k % 40 : k % 40 + 380, k // 2 : k // 2 + 380] for k in range(LENGTH)])
            made.append(Film(frames, rng.uniform(-0.3, 0.3, LENGTH * 640).astype(np.float32)))
        return made
    made = []
    for file in sorted(folder.rglob("*.mp4"))[:12]:
        frames = list(read_frames(file, fps=25, seconds=LENGTH / 25))
        if len(frames) < LENGTH:
            continue
        side = int(0.8 * min(frames[0].shape[:2]))
        top, left = (frames[0].shape[0] - side) // 2, (frames[0].shape[1] - side) // 2
        crops = np.stack([frame[top : top + side, left : left + side] for frame in frames])
        made.append(Film(crops, load_waveform(file, seconds=LENGTH / 25)))
    return made


def start_of(rng: np.random.Generator) -> int:
    return int(rng.integers(LENGTH - WINDOW + 1))


def cut(mel: np.ndarray, start: int) -> np.ndarray:
    steps = mel_window(start)
    return mel[:, steps.start : steps.stop]


# Baselines --------------------------------------------------------------------------------------------------


def wav2lip_way(root: Path, clips: list[Film], size: int, seconds: int) -> Read:
    for number, film in enumerate(clips):
        folder = root / f"wav2lip_{seconds}/{number}"
        folder.mkdir(parents=True, exist_ok=True)
        for k, frame in enumerate(film.frames):
            cv2.imwrite(str(folder / f"{k}.jpg"), frame[..., ::-1])
        soundfile.write(folder / "audio.wav", np.resize(film.waveform, seconds * 16000), 16000)

    basis = librosa.filters.mel(sr=16000, n_fft=800, n_mels=80, fmin=55, fmax=7600)  # it keeps this one

    def read(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        folder = root / f"wav2lip_{seconds}/{rng.integers(len(clips))}"
        start = start_of(rng)
        images = [cv2.imread(str(folder / f"{k}.jpg")) for k in range(start, start + WINDOW)]
        frames = np.stack([cv2.resize(image, (size, size)) for image in images])[..., ::-1]
        wav = librosa.load(folder / "audio.wav", sr=16000)[0]
        wav = np.append(wav[:1], wav[1:] - 0.97 * wav[:-1])
        spectrum = np.abs(librosa.stft(y=wav, n_fft=800, hop_length=200, win_length=800))
        level = 20 * np.log10(np.maximum(1e-5, basis @ spectrum)) - 20
        return frames, cut(np.clip(8 * (level + 100) / 100 - 4, -4, 4), start)

    return read


def mp4(root: Path, clips: list[Film], size: int, gop: int) -> Read:
    """`gop` 250: at the size of the video, as downloaded; else cropped and encoded at `size`."""
    name = f"gop{gop}" if gop == 250 else f"gop{gop}_{size}"
    (root / name).mkdir()
    for number, film in enumerate(clips):
        frames = film.frames if gop == 250 else resize_frames(film.frames, size)
        with av.open(str(root / name / f"{number}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": "18", "g": str(gop)})
            stream.width, stream.height, stream.pix_fmt = (
                frames.shape[2] // 2 * 2,
                frames.shape[1] // 2 * 2,
                "yuv420p",
            )
            for frame in frames:
                picture = np.ascontiguousarray(frame[: stream.height, : stream.width])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
            container.mux(stream.encode())
        np.save(root / name / f"{number}.npy", film.mel)

    def read(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        number, start = rng.integers(len(clips)), start_of(rng)
        with av.open(str(root / name / f"{number}.mp4")) as container:
            stream = container.streams.video[0]
            stream.thread_count = 1
            container.seek(int(start / 25 / stream.time_base), stream=stream)
            wanted = []
            for frame in container.decode(stream):
                if round(float(frame.pts * stream.time_base) * 25) >= start:
                    wanted.append(frame.to_ndarray(format="rgb24"))
                    if len(wanted) == WINDOW:
                        break
        mel = np.load(root / name / f"{number}.npy", mmap_mode="r")
        return resize_frames(np.stack(wanted), size), np.array(cut(mel, start))

    return read


# Packs of pictures ------------------------------------------------------------------------------------------

Encode = Callable[[np.ndarray], bytes]
Decode = Callable[[bytes], np.ndarray]


def cv2_codec(suffix: str, *options: int) -> tuple[Encode, Decode]:
    def encode(frame: np.ndarray) -> bytes:
        return cv2.imencode(suffix, frame[..., ::-1], list(options))[1].tobytes()

    def decode(data: bytes) -> np.ndarray:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)

    return encode, decode


def i420_codec() -> tuple[Encode, Decode]:
    """Raw pictures with halved colour, for their size and PSNR."""

    def encode(frame: np.ndarray) -> bytes:
        return cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420).tobytes()

    def decode(data: bytes) -> np.ndarray:
        side = round((len(data) / 1.5) ** 0.5)
        planes = np.frombuffer(data, np.uint8).reshape(side * 3 // 2, side)
        return cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420)

    return encode, decode


def codecs() -> dict[str, tuple[Encode, Decode]]:
    jpeg = (cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR)
    found = {
        "JPEG q95 4:4:4, cv2": cv2_codec(".jpg", *jpeg, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        "JPEG q95 4:2:0, cv2": cv2_codec(".jpg", *jpeg, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420),
        "WebP q95, cv2": cv2_codec(".webp", cv2.IMWRITE_WEBP_QUALITY, 95),
        "PNG, cv2": cv2_codec(".png"),
    }
    try:
        import simplejpeg
    except ImportError:
        return found
    found["JPEG q95 4:4:4, simplejpeg"] = (
        lambda frame: simplejpeg.encode_jpeg(np.ascontiguousarray(frame), 95, colorsubsampling="444"),
        simplejpeg.decode_jpeg,
    )
    return found


def pack(clips: list[Film], size: int, codec: tuple[Encode, Decode]) -> tuple[Read, float, float]:
    """A codec alone: bytes in memory, mel in memory; what any container around it costs comes on top."""
    encode, decode = codec
    crops = [resize_frames(film.frames, size) for film in clips]
    packs = [[encode(frame) for frame in frames] for frames in crops]
    mels = [film.mel for film in clips]

    def read(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        number, start = rng.integers(len(clips)), start_of(rng)
        return np.stack([decode(data) for data in packs[number][start : start + WINDOW]]), cut(
            mels[number], start
        )

    errors = [
        np.mean((decode(data).astype(float) - frame) ** 2)
        for frames, datas in zip(crops, packs, strict=True)
        for frame, data in zip(frames[::15], datas[::15], strict=True)
    ]
    psnr = float(np.mean([10 * np.log10(255**2 / max(error, 1e-10)) for error in errors]))
    kilobytes = float(np.mean([len(data) for datas in packs for data in datas]) / 1000)
    return read, kilobytes, min(psnr, 99.0)


# Containers -------------------------------------------------------------------------------------------------


def store(root: Path, clips: list[Film], size: int, in_memory: bool = False, codec: str = "jpeg") -> Read:
    """talkgen's own, a training sample with landmarks and warps; `in_memory`: decoded clips are kept."""
    where = root / f"store_{codec}_{size}"
    if not where.exists():
        with StoreWriter(where, codec=codec) as writer:
            for number, film in enumerate(clips):
                arrays = {
                    "mel": film.mel,
                    "waveform": to_int16(film.waveform),
                    "landmarks": np.zeros((LENGTH, 68, 2), np.float32),
                    "identity_warp": np.zeros((LENGTH, 2, 3), np.float32),
                    "crop_matrix": np.zeros((LENGTH, 2, 3), np.float32),
                }
                clip = Clip(f"clip{number}", "benchmark", "train", f"id{number}", LENGTH, 25.0, size)
                writer.add(clip, resize_frames(film.frames, size), arrays)
    opened = Store.open(where)
    ram = 2**32 if in_memory else 0
    windows = ClipWindows(opened, opened.clips, WindowSettings(stride=1), ram_bytes=ram)
    if in_memory:
        for index in range(0, len(windows), LENGTH - WINDOW + 1):
            windows[0, index]

    def read(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        item = windows[0, int(rng.integers(len(windows)))]
        return item["video"], item["mel"][0]

    return read


def webdataset_way(root: Path, clips: list[Film], size: int) -> Read | None:
    """A stream of clips; each gives one window. There is no random access, only shuffle buffers."""
    try:
        import webdataset
    except ImportError:
        return None
    encode, decode = codecs()["JPEG q95 4:4:4, cv2"]
    file = root / f"wds_{size}.tar"
    with tarfile.open(file, "w") as tar:
        for number, film in enumerate(clips):
            jpegs = [encode(frame) for frame in resize_frames(film.frames, size)]
            buffer = io.BytesIO()
            np.save(buffer, film.mel)
            sizes = np.array([len(data) for data in jpegs], "<u4").tobytes()
            for suffix, data in (("jpegs", b"".join(jpegs)), ("sizes", sizes), ("mel", buffer.getvalue())):
                info = tarfile.TarInfo(f"{number:04d}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    stream = iter(webdataset.WebDataset(str(file), shardshuffle=False, empty_check=False).repeat())

    def read(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        item, start = next(stream), start_of(rng)
        ends = np.cumsum(np.frombuffer(item["sizes"], "<u4"), dtype=np.int64)
        begins = np.concatenate([[0], ends])
        frames = [decode(item["jpegs"][begins[k] : begins[k + 1]]) for k in range(start, start + WINDOW)]
        return np.stack(frames), cut(np.load(io.BytesIO(item["mel"])), start)

    return read


def litdata_way(root: Path, clips: list[Film], size: int) -> Read | None:
    """litdata's chunks of clips, read by index; the whole clip is loaded for each window."""
    try:
        from litdata import StreamingDataset
        from litdata.streaming.writer import BinaryWriter
    except ImportError:
        return None
    encode, decode = codecs()["JPEG q95 4:4:4, cv2"]
    where = root / f"litdata_{size}"
    writer = BinaryWriter(str(where), chunk_bytes="64MB")
    for number, film in enumerate(clips):
        jpegs = [encode(frame) for frame in resize_frames(film.frames, size)]
        sizes = np.array([len(data) for data in jpegs], np.uint32)
        writer[number] = {"jpegs": b"".join(jpegs), "sizes": sizes, "mel": film.mel}
    writer.done()
    writer.merge()
    dataset = StreamingDataset(str(where))

    def read(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        item, start = dataset[int(rng.integers(len(clips)))], start_of(rng)
        begins = np.concatenate([[0], np.cumsum(np.asarray(item["sizes"]), dtype=np.int64)])
        frames = [decode(item["jpegs"][begins[k] : begins[k + 1]]) for k in range(start, start + WINDOW)]
        return np.stack(frames), cut(np.asarray(item["mel"]), start)

    return read


# Table ------------------------------------------------------------------------------------------------------


def measure(read: Read, size: int, seconds: float) -> float:
    """Windows in a CPU second."""
    rng = np.random.default_rng(0)
    for _ in range(3):
        frames, mel = read(rng)
        assert frames.shape == (WINDOW, size, size, 3) and mel.shape == (80, 16)
    count, began = 0, time.process_time()
    while (passed := time.process_time() - began) < seconds:
        read(rng)
        count += 1
    return count / passed


def video_quality(root: Path, name: str, clips: list[Film], size: int) -> tuple[float, float]:
    """Kilobytes a frame and PSNR of short-GOP video."""
    total = sum(file.stat().st_size for file in (root / name).glob("*.mp4"))
    errors = []
    for number, film in enumerate(clips):
        decoded = list(read_frames(root / name / f"{number}.mp4"))
        crops = resize_frames(film.frames, size)
        errors += [np.mean((decoded[k].astype(float) - crops[k]) ** 2) for k in range(0, LENGTH, 15)]
    return total / len(clips) / LENGTH / 1000, float(
        np.mean([10 * np.log10(255**2 / error) for error in errors])
    )


def table(clips: list[Film], size: int, seconds: float) -> list[Row]:
    root = Path(tempfile.mkdtemp(prefix="talkgen_loader_"))
    try:
        rows = []

        def add(name: str, read: Read, kilobytes: float | None = None, psnr: float | None = None) -> None:
            rows.append(Row(name, measure(read, size, seconds), kilobytes, psnr))

        for length in CLIP_SECONDS:
            add(f"(a) the Wav2Lip way, clips of {length} s", wav2lip_way(root, clips, size, length))
        add("(b) mp4, PyAV", mp4(root, clips, size, 250))
        for name, codec in codecs().items():
            read, kilobytes, psnr = pack(clips, size, codec)
            add(f"codec alone: {name}", read, kilobytes, psnr)
        short = mp4(root, clips, size, 12)
        add("mp4, key frame every 12", short, *video_quality(root, f"gop12_{size}", clips, size))
        for name, way in (("webdataset", webdataset_way), ("litdata", litdata_way)):
            if (optional := way(root, clips, size)) is not None:
                add(f"{name}, JPEG 4:4:4", optional)
        read, kilobytes, psnr = pack(clips, size, i420_codec())
        add("**talkgen store**, jpeg (default)", store(root, clips, size))
        add("**talkgen store**, i420", store(root, clips, size, codec="i420"), kilobytes, psnr)
        add("**talkgen store**, decoded clips in memory", store(root, clips, size, in_memory=True))
        return rows
    finally:
        shutil.rmtree(root, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, help="folder of real videos of faces")
    parser.add_argument("--seconds", type=float, default=1.5, help="CPU seconds for each measurement")
    parser.add_argument("--write", action="store_true", help="keep the tables in docs/performance")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    clips = films(arguments.videos)
    lines = []
    for size in (128, 320):
        rows = table(clips, size, arguments.seconds)
        baselines = [row.windows for row in rows[: len(CLIP_SECONDS) + 1]]
        ratios = [f"× (a) {length} s" for length in CLIP_SECONDS] + ["× (b)"]
        lines += [
            f"Windows of {WINDOW} frames at {size} px:",
            "",
            f"| | windows/s/core | {' | '.join(ratios)} | kB/frame | PSNR dB |",
            "|---|" + "---:|" * (len(ratios) + 3),
        ]
        for row in rows:
            cells = [row.name, f"{row.windows:.0f}", *(f"{row.windows / base:.1f}" for base in baselines)]
            cells.append("" if row.kilobytes is None else f"{row.kilobytes:.1f}")
            cells.append("" if row.psnr is None else "lossless" if row.psnr >= 99 else f"{row.psnr:.1f}")
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    text = "\n".join(lines)
    print(text)
    if arguments.write:
        keep("loader", "Storage format and loader", text)


if __name__ == "__main__":
    main()

"""How long talkgen's audio functions take, as ratios against the usual way in the same run.

    python benchmarks/audio.py            # prints the table
    python benchmarks/audio.py --write    # also keeps it in docs/performance/audio.md

Baselines, written here as the field writes them:

- mel of 60 s: Wav2Lip's ``audio.py`` (pre-emphasis by lfilter, ``librosa.stft``, cached mel basis, dB,
  normalisation);
- windows of samples: Wav2Lip's dataset reads the file and computes the mel of the whole clip for every
  sample;
- a piece of a long file: ``librosa.load`` of the whole file, then a slice.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import librosa
import numpy as np
import scipy.signal
import timing
from document import keep

from talkgen.audio.alignment import mel_window, mel_windows
from talkgen.audio.mel import mel_spectrogram
from talkgen.audio.waveform import load_waveform, save_waveform

RATE = 16000
SAMPLES = 64  # windows drawn from one clip


seconds = partial(timing.seconds, repeats=7, wall=True)

BASIS = librosa.filters.mel(sr=RATE, n_fft=800, n_mels=80, fmin=55, fmax=7600)


def usual_mel(waveform: np.ndarray) -> np.ndarray:
    emphasised = scipy.signal.lfilter([1, -0.97], [1], waveform)
    spectrum = librosa.stft(y=emphasised, n_fft=800, hop_length=200, win_length=800, pad_mode="reflect")
    level = 20 * np.log10(np.maximum(np.exp(-100 / 20 * np.log(10)), np.dot(BASIS, np.abs(spectrum)))) - 20
    return np.clip(8 * ((level + 100) / 100) - 4, -4, 4)


def usual_windows(file: Path, starts: list[int]) -> list[np.ndarray]:
    """A read and a mel of the whole clip for every sample."""
    return [usual_mel(librosa.load(file, sr=RATE)[0])[:, start : start + 16] for start in starts]


def stored_windows(file: Path, starts: list[int]) -> np.ndarray:
    """One read, one mel, one gather; a prepared store saves the first two as well."""
    return mel_windows(mel_spectrogram(load_waveform(file)), starts)


def rows(folder: Path) -> list[tuple[str, float, float]]:
    """(what, seconds of the baseline, seconds of talkgen)."""
    rng = np.random.default_rng(0)
    minute = rng.normal(0, 0.1, 60 * RATE).astype(np.float32)
    clip, long = folder / "clip.wav", folder / "long.wav"
    save_waveform(clip, minute[: 5 * RATE])
    save_waveform(long, np.tile(minute, 10))
    starts = [mel_window(int(frame)).start for frame in rng.integers(0, 120, SAMPLES)]

    assert np.abs(usual_mel(minute) - mel_spectrogram(minute)).max() < 1e-4
    assert np.abs(np.stack(usual_windows(clip, starts)) - stored_windows(clip, starts)).max() < 1e-4
    mel = mel_spectrogram(minute[: 5 * RATE])
    per_sample = seconds(lambda: usual_windows(clip, starts))
    return [
        (
            "mel spectrogram of 60 s",
            seconds(lambda: usual_mel(minute)),
            seconds(lambda: mel_spectrogram(minute)),
        ),
        (
            f"{SAMPLES} mel windows of a 5 s clip, from its file",
            per_sample,
            seconds(lambda: stored_windows(clip, starts)),
        ),
        (
            f"{SAMPLES} mel windows of a 5 s clip, its mel in a store",
            per_sample,
            seconds(lambda: mel_windows(mel, starts)),
        ),
        (
            "2 s from the middle of a 10 min file",
            seconds(lambda: librosa.load(long, sr=RATE)[0][300 * RATE : 302 * RATE]),
            seconds(lambda: load_waveform(long, start_seconds=300, seconds=2)),
        ),
    ]


def table(measured: list[tuple[str, float, float]]) -> str:
    lines = [
        "| what | usual way, ms | talkgen, ms | times faster |",
        "|---|---:|---:|---:|",
        *(f"| {w} | {1e3 * a:.2f} | {1e3 * b:.3f} | {a / b:.1f} |" for w, a, b in measured),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="keep the table in docs/performance")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = table(rows(Path(folder)))
    print(result)
    if arguments.write:
        about = f"Least of seven, librosa {librosa.__version__}; results of both ways agree to 1e-4."
        keep("audio", "Audio", f"{about}\n\n{result}")


if __name__ == "__main__":
    main()

"""From speech to motion: mouth shapes that overlap, blinks, glances, brows, nods and breath, for the demo
corpus.

The lips follow the phonemes by dominance functions (Cohen & Massaro 1993, "Modeling coarticulation in
synthetic visual speech"): every sound pulls towards its own shape with a strength that rises before and falls
after it, so a rounded vowel is seen already in the consonant before it. Two things are exact: p, b and m
close the lips in at least one frame, and f and v bring the lower lip to the teeth.

Frame ``i`` shows the face at ``(i + 0.5) / fps`` seconds of the sound, the middle of the time it is on the
screen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from talkgen.audio.speech import SILENCE, Phoneme
from talkgen.audio.visemes import VISEMES
from talkgen.face3d.actor import Pose
from talkgen.face3d.head_motion import GAZE_ANGLE, GENERATORS, LIP_GENERATORS

Array = NDArray[np.float64]

FPS = 25
PHONEMES: tuple[str, ...] = tuple(letter for viseme in VISEMES for letter in viseme.phonemes)
"""Inventory of sounds; ``truth_phoneme`` counts in it. Compound symbols are split into these."""
_VISEME_OF = {letter: i for i, viseme in enumerate(VISEMES) for letter in viseme.phonemes}
_LONGEST = max(map(len, PHONEMES))
_STEP = 0.01  # seconds of the inner time grid
_CLOSED = next(i for i, viseme in enumerate(VISEMES) if viseme.name == "closed")
_LIP_TEETH = next(i for i, viseme in enumerate(VISEMES) if viseme.name == "lip_teeth")

# Shapes of the mouth as lip generators, by the names of `talkgen.audio.visemes`
_SHAPES: dict[str, dict[str, float]] = {
    "silence": {},
    "closed": {"jaw_open": 0.10, "close_lips": 0.10, "press": 0.5},
    "lip_teeth": {"jaw_open": 0.10, "lower_bite": 0.9, "upper_raise": 0.30},
    "tongue_teeth": {"jaw_open": 0.24, "tongue_out": 0.7, "tongue_up": 0.4, "lower_depress": 0.20},
    "tongue_ridge": {"jaw_open": 0.24, "tongue_up": 0.9, "lower_depress": 0.15},
    "hiss": {"jaw_open": 0.10, "wide": 0.45, "lower_depress": 0.45, "upper_raise": 0.30},
    "hush": {"jaw_open": 0.15, "funnel": 0.75, "pucker": 0.25},
    "palatal": {"jaw_open": 0.14, "wide": 0.50, "lower_depress": 0.30, "upper_raise": 0.10},
    "retroflex": {"jaw_open": 0.18, "funnel": 0.40, "pucker": 0.15, "tongue_up": 0.5},
    "rhotic": {"jaw_open": 0.22, "pucker": 0.40, "funnel": 0.20},
    "back": {"jaw_open": 0.30},
    "rounded_close": {"jaw_open": 0.16, "pucker": 0.95, "funnel": 0.10},
    "rounded_mid": {"jaw_open": 0.42, "pucker": 0.60, "funnel": 0.25},
    "rounded_front": {"jaw_open": 0.15, "pucker": 0.75, "funnel": 0.20},
    "open": {"jaw_open": 0.74, "lower_depress": 0.15},
    "open_spread": {"jaw_open": 0.60, "wide": 0.50, "lower_depress": 0.20, "upper_raise": 0.15},
    "mid_spread": {"jaw_open": 0.40, "wide": 0.45, "lower_depress": 0.15},
    "neutral": {"jaw_open": 0.32},
    "spread": {"jaw_open": 0.22, "wide": 0.85, "lower_depress": 0.25, "upper_raise": 0.12},
}
_TARGETS = np.array([[_SHAPES[viseme.name].get(name, 0.0) for name in LIP_GENERATORS] for viseme in VISEMES])
_JAW = np.array(
    [
        name in ("jaw_open", "close_lips", "press", "lower_depress", "upper_raise", "lower_bite")
        for name in LIP_GENERATORS
    ]
)
_ROUND = np.array([name in ("pucker", "funnel", "wide") for name in LIP_GENERATORS])
_VOWEL = np.array([viseme.opening >= 0.35 or abs(viseme.width) >= 0.8 for viseme in VISEMES])
# How strongly each viseme insists on opening, on rounding or spreading, and on the tongue
_INSISTS = {
    "silence": (1.0, 0.35, 0.5),
    "closed": (1.6, 0.15, 0.2),
    "lip_teeth": (1.5, 0.25, 0.3),
    "tongue_teeth": (0.9, 0.2, 1.5),
    "tongue_ridge": (0.7, 0.12, 1.5),
    "hiss": (1.2, 0.6, 1.0),
    "hush": (1.0, 1.2, 1.0),
    "back": (0.4, 0.10, 0.6),
}
_STRENGTH = np.array([_INSISTS.get(viseme.name, (1.0, 1.0, 0.7)) for viseme in VISEMES])


@dataclass(frozen=True)
class Sound:
    """One mouth shape in time: index into ``VISEMES``, index into ``PHONEMES``, seconds."""

    viseme: int
    phoneme: int
    start: float
    end: float


@dataclass(frozen=True)
class Performance:
    """What a face does, frame by frame.

    Attributes:
        generators: (frames, 64) in the order of ``head_motion.GENERATORS``.
        pose: head and chest.
        viseme, phoneme: (frames,) int16, the sound at the middle of the frame.
        blink: (frames,) bool, lids more than half closed by a blink.
        loudness: (frames,) in [0, 1].
    """

    generators: Array
    pose: Pose
    viseme: NDArray[np.int16]
    phoneme: NDArray[np.int16]
    blink: NDArray[np.bool_]
    loudness: Array


def split_sounds(phonemes: tuple[Phoneme, ...]) -> list[Sound]:
    """Sounds of an utterance; diphthongs and clusters are divided evenly into the letters of ``PHONEMES``."""
    sounds: list[Sound] = []
    for item in phonemes:
        letters: list[str] = []
        rest = item.symbol
        while rest:
            for length in range(min(_LONGEST, len(rest)), 0, -1):
                if rest[:length] in _VISEME_OF:
                    letters.append(rest[:length])
                    break
            else:
                length = 1  # length marks and the like change the time, which is known
            rest = rest[length:]
        letters = letters or [SILENCE]
        edges = np.linspace(item.start_seconds, item.end_seconds, len(letters) + 1)
        for letter, start, end in zip(letters, edges[:-1], edges[1:], strict=True):
            sounds.append(Sound(_VISEME_OF[letter], PHONEMES.index(letter), float(start), float(end)))
    return sounds


def loudness(waveform: NDArray[np.float32], sample_rate: int, times: Array) -> Array:
    """Loudness in [0, 1] at some times: root mean square over 40 ms, 0 at -45 dB of the loudest, 1 at it."""
    window = int(0.04 * sample_rate)
    power = np.convolve(np.asarray(waveform, dtype=np.float64) ** 2, np.ones(window) / window, mode="same")
    level = np.sqrt(power[np.clip((times * sample_rate).astype(int), 0, len(power) - 1)])
    decibel = 20 * np.log10(np.maximum(level, 1e-6) / max(float(level.max()), 1e-6))
    return np.clip(1 + decibel / 45, 0, 1)


def lips(sounds: list[Sound], loud: Array, times: Array) -> Array:
    """Lip generators at the inner time grid, (times, 16)."""
    total = np.zeros((len(times), len(LIP_GENERATORS)))
    weight = np.full((len(times), len(LIP_GENERATORS)), 1e-6)
    for sound in sounds:
        duration = sound.end - sound.start
        near = slice(*np.searchsorted(times, (sound.start - 0.30, sound.end + 0.30)))
        t = times[near]
        # rises ~100 ms ahead of the sound, falls a little faster; flat within its middle half
        before, after = sound.start + 0.25 * duration - t, t - (sound.end - 0.35 * duration)
        away = np.maximum(np.maximum(before / 0.050, after / 0.038), 0.0)
        silence = sound.viseme == 0
        dominance = np.exp(-(away**1.15)) * (1.0 if silence else 1 - np.exp(-duration / 0.035))
        target = _TARGETS[sound.viseme].copy()
        if _VOWEL[sound.viseme]:  # short vowels are undershot, loud ones are opened more
            reach = 1 - 0.45 * np.exp(-duration / 0.07)
            target[0] *= reach * (0.65 + 0.45 * float(loud[near].max(initial=0.0)))
        strength = np.where(
            _JAW,
            _STRENGTH[sound.viseme, 0],
            np.where(_ROUND, _STRENGTH[sound.viseme, 1], _STRENGTH[sound.viseme, 2]),
        )
        share = dominance[:, None] * strength
        total[near] += share * target
        weight[near] += share
    track = gaussian_filter1d(total / weight, 1.6, axis=0, mode="nearest")
    return _close_and_bite(track, sounds, times)


def _envelope(times: Array, start: float, end: float, ramp: float) -> Array:
    """1 between start and end, falling to 0 within ``ramp`` seconds on both sides along a cosine."""
    away = np.maximum(np.maximum(start - times, times - end), 0.0)
    return 0.5 + 0.5 * np.cos(np.pi * np.minimum(away / ramp, 1.0))


def _close_and_bite(track: Array, sounds: list[Sound], times: Array) -> Array:
    """Make bilabials close and labiodentals touch, whatever their neighbours pull."""
    column = {name: i for i, name in enumerate(LIP_GENERATORS)}
    shut, bite = np.zeros(len(times)), np.zeros(len(times))
    for sound in sounds:
        if sound.viseme in (_CLOSED, _LIP_TEETH, 0):
            middle, half = 0.5 * (sound.start + sound.end), max(0.5 * (sound.end - sound.start), 0.026)
            if sound.viseme == 0:  # the mouth closes in a pause after it, not at once
                if half < 0.06:
                    continue
                shut = np.maximum(shut, _envelope(times, sound.start + 0.08, sound.end - 0.03, 0.09))
            elif sound.viseme == _CLOSED:
                shut = np.maximum(shut, _envelope(times, middle - half, middle + half - 0.006, 0.055))
            else:
                bite = np.maximum(bite, _envelope(times, middle - half, middle + half - 0.006, 0.055))
    out = track.copy()
    jaw = track[:, column["jaw_open"]] * (1 - 0.75 * shut) + 0.05 * shut
    out[:, column["jaw_open"]] = jaw
    for name in ("upper_raise", "lower_depress", "funnel", "lower_bite", "tongue_out"):
        out[:, column[name]] *= 1 - shut
    out[:, column["close_lips"]] = track[:, column["close_lips"]] * (1 - shut) + jaw * shut
    bite *= 1 - shut
    touch = {
        "lower_bite": 0.95,
        "upper_raise": 0.28,
        "jaw_open": 0.10,
        "funnel": 0.0,
        "lower_depress": 0.0,
        "close_lips": 0.0,
    }
    for name, value in touch.items():
        out[:, column[name]] += bite * (value - out[:, column[name]])
    return out


def _smooth_noise(random: np.random.Generator, count: int, seconds: float) -> Array:
    """Noise of unit variance with a correlation time, on the inner grid."""
    pad = int(4 * seconds / _STEP) + 1
    noise = gaussian_filter1d(random.normal(size=count + 2 * pad), seconds / _STEP)[pad : pad + count]
    return noise * np.sqrt(2 * np.sqrt(np.pi) * seconds / _STEP)


def _bump(times: Array, centre: float, rise: float, fall: float) -> Array:
    """A bell with different slopes before and after its top."""
    return np.exp(-0.5 * ((times - centre) / np.where(times < centre, rise, fall)) ** 2)


def blink_times(random: np.random.Generator, seconds: float, pauses: list[float]) -> list[float]:
    """Moments at which the lids are closed: log-normal gaps (median 3.5 s), drawn to pauses, some double."""
    moments: list[float] = []
    t = float(random.uniform(0.2, 3.0))
    while t < seconds - 0.1:
        near = [p for p in pauses if abs(p - t) < 0.35]
        moment = near[0] if near and random.uniform() < 0.5 else t
        if not moments or moment - moments[-1] > 0.5:
            moments.append(moment)
            if random.uniform() < 0.10:
                moments.append(moment + float(random.uniform(0.30, 0.42)))
        t = max(t, moment) + float(np.clip(random.lognormal(np.log(3.5), 0.5), 0.8, 9.0))
    return moments


def _lids(random: np.random.Generator, times: Array, moments: list[float]) -> Array:
    """Closure of the lids by blinks in [0, 1]: down in 60-80 ms, shut for 40 ms, up in 120-180 ms."""
    closure = np.zeros(len(times))
    for moment in moments:
        down, up = random.uniform(0.06, 0.08), random.uniform(0.12, 0.18)
        t = times - moment
        falling = np.clip((t + 0.02 + down) / down, 0, 1)
        rising = np.clip((t - 0.02) / up, 0, 1)
        closure = np.maximum(closure, (0.5 - 0.5 * np.cos(np.pi * falling)) * (1 - rising) ** 1.6)
    return closure


def _gaze(random: np.random.Generator, times: Array) -> Array:
    """Glances, (times, 2) yaw and pitch as shares of ``GAZE_ANGLE``: jumps between resting points."""
    track = np.zeros((len(times), 2))
    at, here = 0.0, np.zeros(2)
    while at < times[-1]:
        there = (
            np.zeros(2)
            if random.uniform() < 0.55
            else np.clip(random.normal(size=2) * (0.30, 0.16), -0.7, 0.7)
        )
        track += (there - here) * (0.5 + 0.5 * np.tanh((times - at) / 0.018))[:, None]
        here = there
        at += float(random.lognormal(np.log(1.1), 0.6))
    return track


def perform(
    phonemes: tuple[Phoneme, ...],
    waveform: NDArray[np.float32],
    sample_rate: int,
    frames: int,
    seed: list[int],
) -> Performance:
    """Act an utterance.

    Args:
        phonemes: in order, from second 0.
        waveform: the same speech.
        sample_rate: of the waveform.
        frames: length in frames of 25 a second.
        seed: what makes this performance differ from another of the same words.
    """
    random = np.random.default_rng(seed)
    seconds = frames / FPS
    times = np.arange(-0.5, seconds + 0.5, _STEP)
    middle = (np.arange(frames) + 0.5) / FPS
    column = {name: i for i, name in enumerate(GENERATORS)}
    sounds = split_sounds(phonemes)
    loud = loudness(waveform, sample_rate, np.clip(times, 0, seconds))
    loud[(times < 0) | (times > seconds)] = 0.0
    count = len(times)
    track = np.zeros((count, len(GENERATORS)))
    mouth = lips(sounds, loud, times)
    energy = random.uniform(0.85, 1.15)  # some people open their mouths more than others
    mouth[:, LIP_GENERATORS.index("jaw_open")] *= energy
    mouth[:, LIP_GENERATORS.index("close_lips")] *= energy
    track[:, : len(LIP_GENERATORS)] = mouth

    # Emphasis: the loudest syllables, at least 0.45 s apart
    slow = gaussian_filter1d(loud, 5)
    peaks = [
        i for i in range(1, count - 1) if slow[i] > slow[i - 1] and slow[i] >= slow[i + 1] and slow[i] > 0.5
    ]
    stressed: list[float] = []
    for i in sorted(peaks, key=lambda i: -slow[i]):
        if all(abs(times[i] - t) > 0.45 for t in stressed) and len(stressed) < 1.1 * seconds:
            stressed.append(float(times[i]))

    def idle(scale: float, correlation: float, mean: float = 0.0) -> Array:
        return np.maximum(mean + scale * _smooth_noise(random, count, correlation), 0.0)

    mood = random.normal() * 0.15
    smile = idle(0.12, 1.2, 0.05 + mood)
    lean = random.normal() * 0.05
    track[:, column["corner_up_left"]] += np.clip(smile * (1 + lean), 0, 0.8)
    track[:, column["corner_up_right"]] += np.clip(smile * (1 - lean), 0, 0.8)
    track[:, column["cheek_raise"]] += np.clip(0.6 * smile, 0, 1)
    track[:, column["corner_down"]] += np.clip(idle(0.08, 1.0, -0.02 - mood), 0, 0.5)
    track[:, column["press"]] += idle(0.05, 0.4)
    track[:, column["mouth_shift"]] += 0.06 * _smooth_noise(random, count, 0.5)
    track[:, column["jaw_side"]] += 0.05 * _smooth_noise(random, count, 0.4)
    for name in ("nose_wrinkle", "nostril_flare", "chin_raise", "cheek_puff"):
        track[:, column[name]] += idle(0.08, 0.5)
    for i in range(29):
        track[:, column[f"soft_{i:02d}"]] += 0.25 * _smooth_noise(random, count, 0.35)

    brow = idle(0.10, 0.9, 0.05)
    knit = idle(0.12, 0.9, -0.02)
    for t in stressed:
        if random.uniform() < 0.55:
            brow = brow + random.uniform(0.25, 0.7) * _bump(times, t, 0.12, 0.22)
    uneven = random.normal() * 0.12
    track[:, column["brow_inner_up"]] += np.clip(brow * random.uniform(0.5, 1.0), 0, 1.2)
    track[:, column["brow_outer_up_left"]] += np.clip(brow * (1 + uneven), 0, 1.2)
    track[:, column["brow_outer_up_right"]] += np.clip(brow * (1 - uneven), 0, 1.2)
    for name in ("brow_down_left", "brow_down_right", "brow_knit"):
        track[:, column[name]] += np.clip(knit, 0, 1.0)

    # Head: slow wandering, nods on stressed syllables; chest follows a little; breath
    angle = np.stack(
        [s * _smooth_noise(random, count, c) for s, c in ((0.045, 0.55), (0.075, 0.8), (0.035, 0.8))], 1
    )
    angle[:, 0] += random.normal() * 0.03
    angle[:, 1] += random.normal() * 0.12
    angle[:, 2] += random.normal() * 0.03
    for t in stressed:
        angle[:, 0] += random.uniform(0.015, 0.06) * _bump(times, t + 0.04, 0.09, 0.16)
        if random.uniform() < 0.3:
            angle[:, 1] += random.normal() * 0.05 * _bump(times, t, 0.15, 0.3)
    breath = np.sin(2 * np.pi * (0.25 * times + random.uniform()))
    place = np.array([random.normal() * 0.10, -0.03 + random.normal() * 0.04, random.normal() * 0.25])
    moved = place + np.stack([0.05 * _smooth_noise(random, count, 1.0) for _ in range(3)], 1)
    moved[:, 0] += 0.35 * angle[:, 1]
    moved[:, 1] += 0.008 * breath
    chest_angle = 0.22 * gaussian_filter1d(angle, 20, axis=0, mode="nearest") * (0.3, 1.0, 0.6)
    chest_moved = place + 0.5 * (moved - place)
    chest_moved[:, 1] = place[1] + 0.016 * breath

    gaze = _gaze(random, times)
    # the eyes stay on the camera while the head turns (vestibulo-ocular reflex)
    gaze[:, 0] -= 0.8 * angle[:, 1] / GAZE_ANGLE
    gaze[:, 1] += 0.8 * angle[:, 0] / GAZE_ANGLE
    track[:, column["gaze_yaw"]] += np.clip(gaze[:, 0], -1.1, 1.1)
    track[:, column["gaze_pitch"]] += np.clip(gaze[:, 1], -0.8, 0.8)
    wide = np.clip(0.5 * (brow - 0.15), 0, 0.5)
    squint = idle(0.10, 0.8, 0.05) + 0.4 * smile
    # blinks meet the beginnings of pauses
    pauses = [sound.start + 0.1 for sound in sounds if sound.viseme == 0 and sound.end - sound.start > 0.15]
    closure = _lids(random, times, blink_times(random, seconds, pauses))
    late = _lids_between(closure, random.uniform(0.0, 0.008))
    for side, lid in (("left", closure), ("right", late)):
        track[:, column[f"blink_{side}"]] += lid
        track[:, column[f"wide_{side}"]] += wide * (1 - lid)
        track[:, column[f"squint_{side}"]] += np.clip(squint, 0, 0.8) * (1 - lid)

    def sample(values: Array) -> Array:
        return np.stack([np.interp(middle, times, values[:, i]) for i in range(values.shape[1])], axis=1)

    generators = sample(track)
    starts = np.array([sound.start for sound in sounds])
    which = np.clip(np.searchsorted(starts, middle, side="right") - 1, 0, len(sounds) - 1)
    blink = generators[:, column["blink_left"]] > 0.5
    return Performance(
        generators=generators,
        pose=Pose(sample(angle), sample(moved), sample(chest_angle), sample(chest_moved)),
        viseme=np.array([sounds[i].viseme for i in which], dtype=np.int16),
        phoneme=np.array([sounds[i].phoneme for i in which], dtype=np.int16),
        blink=blink,
        loudness=np.interp(middle, times, loud),
    )


def _lids_between(closure: Array, delay: float) -> Array:
    """The same closure ``delay`` seconds later: the lids of the two eyes are never quite together."""
    grid = np.arange(len(closure)) * _STEP
    return np.interp(grid - delay, grid, closure)

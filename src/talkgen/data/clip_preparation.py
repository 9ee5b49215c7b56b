"""From a raw clip to encoded clips of a store, at constant memory however long the video is.

The video is decoded twice. The *survey* finds shots and follows the face; from it come the stretches to
keep, their crops, and every filter that needs no crop. The *cut* goes through the video again, crops,
finds landmarks and encodes.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from talkgen import weights
from talkgen.audio.alignment import sample_range
from talkgen.audio.mel import mel_spectrogram
from talkgen.audio.waveform import SAMPLE_RATE, load_waveform, to_int16
from talkgen.data.clip import Clip, RawClip
from talkgen.data.face_choice import choose_speaker, frame_loudness, from_left_to_right, parse_choice
from talkgen.data.filters import FilterSettings, sharpness, yaw_degrees
from talkgen.data.store import ClipEncoder, Fragment
from talkgen.data.voice import make_speech_ratio
from talkgen.errors import FileError, TalkgenError
from talkgen.faces.alignment import crop_matrices, identity_warp
from talkgen.faces.crop import CROPS, CropSettings, crop_frame, transform_points
from talkgen.faces.detection import Face, make_detector
from talkgen.faces.ibug import keypoints_from_landmarks, mouth_opening
from talkgen.faces.landmarks import make_landmarker
from talkgen.faces.shots import shot_boundaries
from talkgen.faces.tracking import FaceTrack, choose_track, fill_gaps, track_faces
from talkgen.npz import read_npz
from talkgen.video.reader import VideoInfo, probe, read_frames

_Network = TypeVar("_Network")

SOUND_FEATURES = ("whisper", "hubert")
FEATURES = (*SOUND_FEATURES, "codes", "coefficients")
_MISSING_SOUND_SECONDS = 0.5  # sound may end so much before the picture; it is filled up with silence
_SHARPNESS_EVERY = 5  # frames
_CODED_AT_ONCE = 32  # frames


class AVExpert(Protocol):
    """Measures how far sound and picture of a clip are apart."""

    def __call__(
        self, frames: np.ndarray, waveform: np.ndarray, landmarks: np.ndarray
    ) -> tuple[float, float]:
        """Offset in frames, positive where the sound is early, and confidence.

        Args:
            frames: crops, uint8 `(n, size, size, 3)`, RGB.
            waveform: their sound, float32, 16 kHz.
            landmarks: `(n, 68, 2)` in pixels of `frames`.
        """
        ...


class TrainedAVExpert(AVExpert, Protocol):
    """One from a checkpoint."""

    @property
    def sha256(self) -> str:
        """Of the checkpoint."""
        ...


class FrameEncoder(Protocol):
    """Gives the codes of frames by a network from a checkpoint."""

    @property
    def sha256(self) -> str:
        """Of the checkpoint."""
        ...

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """A batch of crops, uint8 `(n, size, size, 3)`, RGB → uint16 `(n, h, w)`."""
        ...


class LandmarkFitter(Protocol):
    """Gives the coefficients of a clip by a morphable model."""

    @property
    def sha256(self) -> str:
        """Of the model."""
        ...

    def __call__(self, landmarks: np.ndarray, crop: CropSettings) -> np.ndarray:
        """Landmarks of a whole clip, `(n, 68, 2)` in pixels of the crop → float32 `(n, 257)`."""
        ...


@dataclass(frozen=True)
class Networks:
    """Networks of the layers above, which `talkgen prepare` opens; hashable, and light to send to workers.

    Attributes:
        av_expert: what `PrepareSettings.av_expert` names, where that is a run.
        codes: what `PrepareSettings.codes` names.
        coefficients: fits what `PrepareSettings.morphable_model` names.
    """

    av_expert: TrainedAVExpert | None = None
    codes: FrameEncoder | None = None
    coefficients: LandmarkFitter | None = None

    def digests(self) -> dict[str, str] | None:
        """The sha256 of each checkpoint; a store is made with one and the same. None without networks."""
        named = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return {name: network.sha256 for name, network in named.items() if network is not None} or None


@dataclass(frozen=True)
class PrepareSettings:
    """How raw clips become clips of a store.

    Attributes:
        size: of the crops in pixels.
        crop: name of a preset of `talkgen.faces.crop.CROPS`.
        fps: frames a second of the store.
        max_seconds: longer stretches are cut into equal pieces of at most this length.
        codec: of the stored frames: `jpeg`, or `i420` (raw, much larger, much faster to read at large sizes).
        quality: of the JPEGs, 1 to 100.
        detector, landmarker: backends, see `talkgen.faces`.
        detect_every: the detector looks at every n-th frame; between them the face is interpolated.
        choose: which face of several in a shot: `size`, `longest`, `index:N` (from left to right, from 0;
            faces seen for less than `min_seconds` are not counted), or `speaker` (whose mouth moves with the
            sound; finds landmarks of every face, which takes about as long again as detection).
        sound: False: clips have no sound, mel or waveform, whatever the video has; for pictures.
        speech: `energy`, `silero`, or `auto` (silero where its file lies).
        features: of FEATURES, computed with the networks below.
        whisper, hubert: file, folder or hub id of the network; None: the registered default.
        codes: run of a VQGAN (folder or checkpoint; `talkgen prepare` opens it and hands it over in
            `Networks`), whose codes of the stored frames are the feature `codes`.
        morphable_model: for the feature `coefficients`, which is fitted to the landmarks: `demo` (None), the
            built-in head, or the file of a model (see `talkgen.face3d.model_files`).
        av_expert: what measures how far sound and picture are apart: a run of `experiment=sync_expert`
            (folder or checkpoint; `talkgen prepare` opens it and hands it over in `Networks`), or
            `module:function` that gives an `AVExpert`. None measures nothing.
        correct_av_offset: move the sound by what the expert says, where offset and confidence are within
            the filters' limits.
        filters: limits beyond which clips are left out.
    """

    size: int = 256
    crop: str = "face"
    fps: float = 25.0
    max_seconds: float = 10.0
    codec: str = "jpeg"
    quality: int = 95
    detector: str = "insightface"
    landmarker: str = "insightface"
    detect_every: int = 1
    choose: str = "size"
    sound: bool = True
    speech: str = "auto"
    features: tuple[str, ...] = ()
    whisper: str | None = None
    hubert: str | None = None
    codes: str | None = None
    morphable_model: str | None = None
    av_expert: str | None = None
    correct_av_offset: bool = True
    filters: FilterSettings = field(default_factory=FilterSettings)

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        object.__setattr__(self, "features", tuple(self.features))  # a list comes from a config
        if unknown := sorted(set(self.features) - set(FEATURES)):
            raise ValueError(
                f"no features {', '.join(unknown)}; there are {', '.join(FEATURES)} (mel is always there)"
            )
        heard = {*SOUND_FEATURES} & {*self.features} or self.av_expert or self.choose == "speaker"
        if not self.sound and heard:
            raise ValueError("without sound there are no features of it, no av_expert and no speaker")
        if ("codes" in self.features) != (self.codes is not None):
            raise ValueError("codes of frames need both features=[codes] and codes=RUN, the run of a VQGAN")
        if self.morphable_model is not None and "coefficients" not in self.features:
            raise ValueError(
                "a morphable_model is for the coefficients of frames; add features=[coefficients]"
            )
        if self.crop not in CROPS:
            raise ValueError(f"no crop {self.crop!r}; there are {', '.join(CROPS)}")
        if self.codec not in ("jpeg", "i420") or (self.codec == "i420" and self.size % 2):
            raise ValueError(f"codec is jpeg, or i420 with an even size, not {self.codec!r} with {self.size}")
        parse_choice(self.choose)
        if self.size < 16 or self.fps <= 0 or not 1 <= self.quality <= 100:
            raise ValueError(
                "size is at least 16, fps above 0, quality 1 to 100, "
                f"not {self.size}, {self.fps}, {self.quality}"
            )
        if self.detect_every < 1 or self.max_seconds < 2 * self.filters.min_seconds:
            raise ValueError("detect_every must be at least 1, and max_seconds at least twice min_seconds")

    @property
    def crop_settings(self) -> CropSettings:
        """The preset at this store's size."""
        return dataclasses.replace(CROPS[self.crop], size=self.size)


@dataclass(frozen=True)
class Reject:
    """Something that was left out.

    Attributes:
        clip: id of the clip or stretch.
        file: its video.
        stage: where: probe, decode, audio, face, length, the name of a filter, worker, …
        reason: in words.
    """

    clip: str
    file: str
    stage: str
    reason: str


@dataclass(frozen=True)
class _Stretch:
    """Consecutive frames with one face."""

    start: int  # in frames at the store's rate, from the beginning of the raw clip
    matrices: np.ndarray  # (frames, 2, 3)
    keypoints: np.ndarray  # (frames, 5, 2)
    boxes: np.ndarray  # (frames, 4)
    found: np.ndarray  # (frames,)
    found_ratio: float
    landmarks: np.ndarray | None = None  # (frames, 68, 2), where truth gives them
    truth: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.found)

    def part(self, start: int, stop: int) -> _Stretch:
        """Frames `start` to `stop` of it."""
        frames = len(self)
        return _Stretch(
            self.start + start,
            self.matrices[start:stop],
            self.keypoints[start:stop],
            self.boxes[start:stop],
            self.found[start:stop],
            self.found_ratio,
            None if self.landmarks is None else self.landmarks[start:stop],
            {name: a[start:stop] if len(a) == frames else a for name, a in self.truth.items()},
        )


class _Left(Exception):
    """Ends the work on a clip or stretch; becomes a `Reject`."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(reason)
        self.stage = stage
        self.reason = reason


class ClipPreparer:
    """Prepares raw clips of one corpus. Networks are loaded when they are first needed.

    Args:
        source: folder of the corpus.
        settings: how.
        networks: those that the settings name.
    """

    def __init__(
        self, source: str | Path, settings: PrepareSettings, networks: Networks | None = None
    ) -> None:
        self.source = Path(source)
        self.settings = settings
        self.networks = networks or Networks()
        if settings.codes is not None and self.networks.codes is None:
            raise TalkgenError(f"codes={settings.codes}: its VQGAN was not handed over in networks")
        if "coefficients" in settings.features and self.networks.coefficients is None:
            raise TalkgenError("features=[coefficients]: the morphable model was not handed over in networks")

    def prepare(self, raw: RawClip, crop_like: RawClip | None = None) -> Iterator[Fragment | Reject]:
        """All clips of a raw clip, encoded, one after the other, and what was left out of it.

        Args:
            raw: what to prepare.
            crop_like: the clip that `raw.swap_of` names: it is cropped by that one's truth.

        Raises:
            TalkgenError: a network's file is missing, or a setting cannot be used.
        """
        rejects: list[Reject] = []
        kept: list[tuple[Clip, _Stretch]] = []
        try:
            info = self._probe(raw)
            stretches = list(self._survey(raw, info, crop_like, rejects))
            kept = list(self._sound_filter(raw, stretches, rejects))
        except _Left as left:
            rejects.append(Reject(raw.id, raw.video, left.stage, left.reason))
        except FileError as error:
            rejects.append(Reject(raw.id, raw.video, "decode", error.cause))
        yield from rejects
        yield from self._cut(raw, kept)

    # Survey -------------------------------------------------------------------------------------------------

    def _probe(self, raw: RawClip) -> VideoInfo:
        try:
            info = probe(self.source / raw.video)
        except FileError as error:
            raise _Left("probe", error.cause) from error
        if self.settings.sound and raw.audio is None and not info.has_audio:
            raise _Left("audio", "the video has no sound (sound=false makes clips without)")
        return info

    def _frames(self, raw: RawClip, start: int = 0) -> Iterator[np.ndarray]:
        fps = self.settings.fps
        begin = raw.start_seconds + start / fps
        seconds = None if raw.end_seconds is None else raw.end_seconds - begin
        return read_frames(self.source / raw.video, fps=fps, start_seconds=begin, seconds=seconds)

    def _survey(
        self, raw: RawClip, info: VideoInfo, crop_like: RawClip | None, rejects: list[Reject]
    ) -> Iterator[_Stretch]:
        """Stretches with a face, each of at most `max_seconds`."""
        if raw.truth is not None:
            whole = [self._from_truth(raw, info, crop_like)]
        elif raw.swap_of is not None:
            whole = list(self._like_target(raw, info, crop_like))
        else:
            whole = list(self._from_detection(raw, rejects))
        fps, filters = self.settings.fps, self.settings.filters
        for stretch in whole:
            seconds = len(stretch) / fps
            if seconds < filters.min_seconds:
                where = f"{raw.id} at {stretch.start / fps:.2f} s"
                reason = f"{seconds:.2f} s with a face, should be at least {filters.min_seconds:g}"
                rejects.append(Reject(where, raw.video, "length", reason))
                continue
            pieces = int(np.ceil(round(seconds / self.settings.max_seconds, 6)))
            edges = np.linspace(0, len(stretch), pieces + 1).round().astype(int)
            yield from (stretch.part(int(a), int(b)) for a, b in pairwise(edges))

    def _from_truth(self, raw: RawClip, info: VideoInfo, crop_like: RawClip | None) -> _Stretch:
        arrays = self._load_truth(raw)
        frames = len(arrays["landmarks"])
        shown = int(np.floor(round(frames / info.fps * self.settings.fps, 6)))
        # the frame of the file that is on the screen at each frame of the store
        of_file = np.minimum(
            np.floor(np.arange(shown) / self.settings.fps * info.fps + 1e-6), frames - 1
        ).astype(int)
        guide = arrays["landmarks"] if crop_like is None else self._load_truth(crop_like)["landmarks"]
        if len(guide) < frames:
            raise _Left("truth", f"its target {raw.swap_of} has {len(guide)} frames, it has {frames}")
        landmarks = arrays["landmarks"][of_file].astype(np.float32)
        boxes = np.concatenate([landmarks.min(1), landmarks.max(1)], axis=1)
        # 68 points reach from the brows to the chin: three quarters of a face from hairline to chin
        boxes[:, 1] -= (boxes[:, 3] - boxes[:, 1]) / 3
        truth = {name: array for name, array in arrays.items() if name.startswith("truth_")}
        return _Stretch(
            0,
            crop_matrices(guide[of_file], self.settings.crop_settings, self.settings.fps),
            keypoints_from_landmarks(landmarks),
            boxes,
            np.ones(shown, bool),
            1.0,
            landmarks,
            {name: array[of_file] if len(array) == frames else array for name, array in truth.items()},
        )

    def _like_target(self, raw: RawClip, info: VideoInfo, target: RawClip | None) -> Iterator[_Stretch]:
        """The stretches of the target of a swapped clip, with its crops and its face."""
        if target is None:
            raise _Left("target", f"its target {raw.swap_of} is not in the corpus")
        try:
            like = probe(self.source / target.video)
        except FileError as error:
            raise _Left("target", f"its target {target.id}: {error.cause}") from error
        if (info.width, info.height) != (like.width, like.height):
            raise _Left(
                "target",
                f"its pictures have {info.width}×{info.height} pixels, those of its target {target.id} "
                f"{like.width}×{like.height}; a swapped clip is cropped like its target",
            )
        if target.truth is not None:
            found = iter([self._from_truth(target, like, None)])
        else:
            found = self._from_detection(target, [])  # what is wrong with the target is said of the target
        for stretch in found:
            yield dataclasses.replace(stretch, landmarks=None, truth={})

    def _load_truth(self, raw: RawClip) -> dict[str, np.ndarray]:
        file = self.source / str(raw.truth)
        try:
            arrays = read_npz(file)
        except FileError as error:
            raise _Left("truth", f"{raw.truth} {error.cause}") from error
        landmarks = arrays.get("landmarks")
        if landmarks is None or landmarks.ndim != 3 or landmarks.shape[1:] != (68, 2) or not len(landmarks):
            raise _Left("truth", f"{raw.truth} has no array 'landmarks' of shape (frames, 68, 2)")
        return arrays

    def _from_detection(self, raw: RawClip, rejects: list[Reject]) -> Iterator[_Stretch]:
        settings = self.settings
        detections: list[list[Face]] = []
        openings: list[list[float]] = []  # of the mouths of the faces, where the speaker is looked for

        def watched() -> Iterator[np.ndarray]:
            for number, frame in enumerate(self._frames(raw)):
                faces = self._detector.detect(frame) if number % settings.detect_every == 0 else []
                detections.append(faces)
                if settings.choose == "speaker":
                    points = [self._landmarker.landmarks(frame, face) for face in faces]
                    openings.append([float(mouth_opening(each)) for each in points])
                yield frame

        cuts = list(shot_boundaries(watched()))
        if not any(detections):
            raise _Left("face", f"no face in {len(detections)} frames")
        found = min(2, len(detections))  # a picture is one frame
        tracks = track_faces(detections, max_gap=round(settings.fps), min_found=found, cuts=cuts)
        edges = [0, *cuts, len(detections)]
        for start, stop in pairwise(edges):
            inside = [track for track in tracks if start <= track.start < stop]
            if not inside:
                where = f"{raw.id} at {start / settings.fps:.2f} s"
                rejects.append(
                    Reject(where, raw.video, "face", f"no face in a shot of {stop - start} frames")
                )
                continue
            try:
                track = self._choose(raw, inside, detections, openings)
            except _Left as left:
                where = f"{raw.id} at {start / settings.fps:.2f} s"
                rejects.append(Reject(where, raw.video, left.stage, left.reason))
                continue
            yield self._followed(track)

    def _choose(
        self,
        raw: RawClip,
        tracks: list[FaceTrack],
        detections: list[list[Face]],
        openings: list[list[float]],
    ) -> FaceTrack:
        """The face that is meant among those of one shot."""
        by, fps = parse_choice(self.settings.choose), self.settings.fps
        if isinstance(by, str) and by != "speaker":
            return choose_track(tracks, by=by)
        # whoever is seen for a moment only would be no clip; neither count nor score shall depend on them
        least = self.settings.filters.min_seconds * fps
        tracks = [track for track in tracks if len(track.found) >= least] or tracks
        if isinstance(by, int):
            if by >= len(tracks):
                raise _Left("face", f"no face {by} from the left; there are {len(tracks)}, counted from 0")
            return choose_track(from_left_to_right(tracks), by=by)
        if len(tracks) == 1:
            return tracks[0]
        first, last = min(track.start for track in tracks), max(track.stop for track in tracks)
        file = self.source / (raw.audio or raw.video)
        loudness = frame_loudness(file, raw.start_seconds + first / fps, last - first, fps)
        return choose_speaker(tracks, detections, openings, loudness, fps)

    def _followed(self, track: FaceTrack) -> _Stretch:
        looked = np.arange(track.start, track.stop) % self.settings.detect_every == 0
        return _Stretch(
            track.start,
            crop_matrices(track.keypoints, self.settings.crop_settings, self.settings.fps),
            track.keypoints,
            track.boxes,
            track.found,
            float(track.found[looked].mean()) if looked.any() else 1.0,
        )

    # Filters that need no crop ------------------------------------------------------------------------------

    def _sound_filter(
        self, raw: RawClip, stretches: list[_Stretch], rejects: list[Reject]
    ) -> Iterator[tuple[Clip, _Stretch]]:
        """Stretches that pass, each as a clip."""
        for number, stretch in enumerate(stretches):
            name = f"{raw.id}#{number + 1}" if len(stretches) > 1 else raw.id
            try:
                waveform = self._waveform(raw, stretch) if self.settings.sound else None
            except _Left as left:
                rejects.append(Reject(name, raw.video, left.stage, left.reason))
                continue
            heights = stretch.boxes[:, 3] - stretch.boxes[:, 1]
            checks = {
                "face_found_ratio": stretch.found_ratio,
                "face_size_pixels": float(np.median(heights)),
                "yaw_degrees": float(np.median(np.abs(yaw_degrees(stretch.keypoints)))),
            }
            if waveform is not None:
                checks["speech_ratio"] = self._speech_ratio(waveform)
            if fault := self.settings.filters.fault(checks):
                rejects.append(Reject(name, raw.video, *fault))
                continue
            swap_of = raw.swap_of
            clip = Clip(
                id=name,
                corpus=raw.corpus,
                split=raw.split,
                identity=raw.identity,
                frames=len(stretch),
                fps=self.settings.fps,
                size=self.settings.size,
                language=raw.language,
                video=raw.video,
                audio=raw.audio,
                start_seconds=round(raw.start_seconds + stretch.start / self.settings.fps, 6),
                raw=raw.id,
                # cut alike, because cropped by the same truth
                swap_of=f"{swap_of}#{number + 1}" if swap_of and len(stretches) > 1 else swap_of,
                notes=raw.notes,
                checks=checks,
            )
            yield clip, stretch

    def _waveform(self, raw: RawClip, stretch: _Stretch) -> np.ndarray:
        """Sound of a stretch, float32, exactly as long as its frames."""
        file = self.source / (raw.audio or raw.video)
        fps = self.settings.fps
        samples = sample_range(0, len(stretch), fps).stop
        try:
            waveform = load_waveform(
                file, start_seconds=raw.start_seconds + stretch.start / fps, seconds=samples / SAMPLE_RATE
            )
        except FileError as error:
            raise _Left("audio", error.cause) from error
        missing = samples - len(waveform)
        if missing > _MISSING_SOUND_SECONDS * SAMPLE_RATE:
            raise _Left("audio", f"the sound ends {missing / SAMPLE_RATE:.2f} s before the picture")
        return np.pad(waveform[:samples], (0, max(missing, 0)))

    # Cut ----------------------------------------------------------------------------------------------------

    def _cut(self, raw: RawClip, kept: list[tuple[Clip, _Stretch]]) -> Iterator[Fragment | Reject]:
        if not kept:
            return
        first = kept[0][1].start
        frames = iter(enumerate(self._frames(raw, first), start=first))
        for clip, stretch in kept:
            try:
                # the sound is read again: that of all stretches of a long video would fill the memory
                waveform = self._waveform(raw, stretch) if self.settings.sound else None
                yield self._encode(clip, stretch, waveform, frames)
            except _Left as left:
                yield Reject(clip.id, raw.video, left.stage, left.reason)
            except FileError as error:
                yield Reject(clip.id, raw.video, "decode", error.cause)

    def _encode(
        self,
        clip: Clip,
        stretch: _Stretch,
        waveform: np.ndarray | None,
        frames: Iterator[tuple[int, np.ndarray]],
    ) -> Fragment:
        crops: list[np.ndarray] = []  # kept for the expert only
        sharp: list[float] = []
        landmarks = np.full((len(stretch), 68, 2), np.nan, np.float32)
        encoder = ClipEncoder(clip, self.settings.quality, self.settings.codec)
        number = 0
        for place, frame in frames:
            if place < stretch.start:
                continue
            crop = crop_frame(frame, stretch.matrices[number], clip.size)
            encoder.add_frame(crop)
            if number % _SHARPNESS_EVERY == 0:
                sharp.append(sharpness(crop))
            if self.settings.av_expert is not None:
                crops.append(crop)
            if stretch.landmarks is None and stretch.found[number]:
                face = Face(stretch.boxes[number], 1.0, stretch.keypoints[number])
                landmarks[number] = self._landmarker.landmarks(frame, face)
            number += 1
            if number == len(stretch):
                break
        if number < len(stretch):
            raise _Left("decode", f"the video gave {number} of {len(stretch)} frames when it was read again")
        if stretch.landmarks is not None:
            landmarks = stretch.landmarks
        elif not np.isfinite(landmarks).all((1, 2)).any():
            raise _Left("landmarks", "the landmark network found no face")
        in_crop = transform_points(stretch.matrices, fill_gaps(landmarks))
        checks = {**clip.checks, "sharpness": float(np.median(sharp))}
        if self.settings.av_expert is not None and waveform is not None:
            offset, checks["av_confidence"] = self._av_expert(np.stack(crops), waveform, in_crop)
            checks["av_offset_frames"] = offset
        if fault := self.settings.filters.fault(checks):
            raise _Left(*fault)
        offset = checks.get("av_offset_frames", 0.0)
        if self.settings.correct_av_offset and offset and waveform is not None:
            waveform = _moved_later(waveform, round(offset / clip.fps * SAMPLE_RATE))
        rounded = {name: round(value, 3) for name, value in checks.items()}
        encoder.clip = dataclasses.replace(clip, checks=rounded)
        arrays: dict[str, np.ndarray] = {
            "landmarks": in_crop,
            "identity_warp": identity_warp(transform_points(stretch.matrices, stretch.keypoints)),
            "crop_matrix": stretch.matrices,
            **self._codes(encoder),
            **self._coefficients(in_crop),
            **stretch.truth,
        }
        if waveform is not None:
            arrays |= {"mel": mel_spectrogram(waveform), "waveform": to_int16(waveform)}
            arrays |= {name: extract(waveform) for name, extract in self._features.items()}
        return encoder.finish(arrays)

    def _codes(self, encoder: ClipEncoder) -> dict[str, np.ndarray]:
        """Codes of the frames as they are stored, where they are asked for."""
        encode, frames = self.networks.codes, encoder.clip.frames
        if "codes" not in self.settings.features or encode is None:
            return {}
        starts = range(0, frames, _CODED_AT_ONCE)
        parts = [encode(encoder.frames(start, start + _CODED_AT_ONCE)) for start in starts]
        return {"codes": np.concatenate(parts)}

    def _coefficients(self, landmarks: np.ndarray) -> dict[str, np.ndarray]:
        """Coefficients of the morphable model, where they are asked for."""
        fit = self.networks.coefficients
        if "coefficients" not in self.settings.features or fit is None:
            return {}
        return {"coefficients": fit(landmarks, self.settings.crop_settings)}

    # Networks -----------------------------------------------------------------------------------------------

    @cached_property
    def _detector(self) -> Any:
        return _loaded(partial(make_detector, self.settings.detector))

    @cached_property
    def _landmarker(self) -> Any:
        return _loaded(partial(make_landmarker, self.settings.landmarker))

    @cached_property
    def _speech_ratio(self) -> Callable[[np.ndarray], float]:
        return _loaded(partial(make_speech_ratio, self.settings.speech))

    @cached_property
    def _features(self) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
        return {
            name: _loaded(partial(make_features, name, getattr(self.settings, name)))
            for name in SOUND_FEATURES
            if name in self.settings.features
        }

    @cached_property
    def _av_expert(self) -> AVExpert:
        if self.networks.av_expert is not None:
            return self.networks.av_expert
        module, _, function = str(self.settings.av_expert).partition(":")
        try:
            expert: AVExpert = getattr(importlib.import_module(module), function)()
        except (ImportError, AttributeError, ValueError) as error:
            raise TalkgenError(
                f"av_expert={self.settings.av_expert}: {error}; write it as module:function"
            ) from error
        return expert


def _loaded(load: Callable[[], _Network]) -> _Network:
    """A network; that its name or file is wrong is no fault of the clip, and ends the preparation."""
    try:
        return load()
    except (FileError, ValueError) as error:
        raise TalkgenError(str(error)) from error


def make_features(name: str, network: str | None) -> Callable[[np.ndarray], np.ndarray]:
    """A function from a 16 kHz waveform to features `(steps, dim)` at 50 Hz."""
    if name == "whisper":
        from talkgen.audio.whisper import WhisperFeatures

        return WhisperFeatures(network)
    from talkgen.audio.hubert import HubertFeatures

    return HubertFeatures(network or weights.find("hubert_base"))


def _moved_later(waveform: np.ndarray, samples: int) -> np.ndarray:
    """The sound `samples` later (earlier where negative), as long as before; silence fills the gap."""
    moved = np.zeros_like(waveform)
    if samples >= 0:
        moved[samples:] = waveform[: len(waveform) - samples]
    else:
        moved[:samples] = waveform[-samples:]
    return moved

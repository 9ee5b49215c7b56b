"""Coefficients of a clip from its 68 landmarks: one identity, and a smooth expression and pose.

A regressor that looks at each frame alone hides blinks and lips in an identity that changes from frame to
frame. Here the identity β is one for all frames, so that everything that moves must be expression ψ_t or
pose θ_t (three angles, three translations). What is minimised (Gauss-Newton, robust):

    Σ_t Σ_l w_l ρ(‖p_tl − π(R_t (m + B_id β + B_exp ψ_t)_l + t_t)‖ / σ)²        landmarks
      + ‖β‖² + Σ_t ‖ψ_t / s‖² + z_t² / d²             priors: coefficients of known deviation, usual distance
      + Σ_t ‖(ψ_t − ψ_{t−1}) / (a s)‖² + ‖(θ_t − θ_{t−1}) / b‖²      frames that follow each other

β comes from frames spread over the clip, by elimination of their ψ and θ (Schur complement); then the frames
are one block-tridiagonal system, solved exactly in one sweep forth and one back.
Compare Garrido et al. 2016 (one identity a video); Thies et al. 2016 (Gauss-Newton for such energies).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from talkgen.errors import TalkgenError
from talkgen.face3d import coefficients as layout
from talkgen.face3d.coefficients import Coefficients
from talkgen.face3d.model_files import open_morphable_model
from talkgen.face3d.morphable_model import MorphableModel
from talkgen.face3d.rasterizer import Camera
from talkgen.faces.crop import CropSettings

_POSE = 6  # parameters
_FOCAL = 4.42  # in face heights, as the crops count them: at it, demo faces are as large as they should be
_AT_ONCE = 256  # frames whose derivatives are in memory


@dataclass(frozen=True)
class FittingSettings:
    """Strengths of the terms.

    Attributes:
        noise: σ, deviation of a landmark in sides of the picture.
        outlier: residuals beyond so many σ count linearly (Huber).
        outline_weight: w of points 0 to 16, which on a turned face slide along the cheek.
        eye_weight, inner_lip_weight: w of points 36 to 47 and 60 to 67, whose small gaps are blinks and
            speech.
        expression_change: a, change from frame to frame in deviations of the coefficient.
        angle_change: b of the angles, radians.
        translation_change: b of the translation, decimetres.
        depth_deviation: prior of the distance to the camera, decimetres. Landmarks alone cannot tell a small
            head from a far one; were this free, every head would come out too small, because expressions
            that follow the noise cost less then.
        identity_frames: frames from which the identity is found.
        independent_frames: as how many they count against the identity's prior: what a landmark network and a
            model disagree about is the same in all frames, and no person is made of it.
        identity_steps, frame_steps: Gauss-Newton steps.
    """

    noise: float = 0.006
    outlier: float = 3.0
    outline_weight: float = 0.3
    eye_weight: float = 3.0
    inner_lip_weight: float = 3.0
    expression_change: float = 0.7
    angle_change: float = 0.04
    translation_change: float = 0.1
    depth_deviation: float = 0.3
    identity_frames: int = 48
    independent_frames: float = 4.0
    identity_steps: int = 8
    frame_steps: int = 4

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if min(self.__dict__.values()) <= 0:
            raise ValueError(f"every setting must be above 0: {self}")

    def weights(self) -> NDArray[np.float64]:
        """w of the 68 points."""
        weights = np.ones(68)
        weights[:17] = self.outline_weight
        weights[36:48] = self.eye_weight
        weights[60:68] = self.inner_lip_weight
        return weights


@dataclass(frozen=True)
class Fit:
    """What was found.

    Attributes:
        coefficients: float32 (frames, 257), see `talkgen.face3d.coefficients`; the identity is the same in
            all frames; texture and light are 0, since landmarks know nothing of them.
        residual: float32 (frames,) root mean square distance between landmarks and model, pixels; NaN where a
            frame had none.
    """

    coefficients: NDArray[np.float32]
    residual: NDArray[np.float32]


def crop_camera(crop: CropSettings) -> Camera:
    """The camera to which a face in a crop has its usual distance, ten decimetres, and its natural size."""
    return Camera(focal=_FOCAL / crop.scale, size=crop.size)


def fit_landmarks(
    model: MorphableModel,
    landmarks: NDArray[np.floating],
    camera: Camera,
    settings: FittingSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Fit:
    """Fit a clip.

    Args:
        model: with at most 80 identity and 64 expression coefficients (`MorphableModel.resized`).
        landmarks: (frames, 68, 2) pixels of one clip, consecutive; NaN points are left out, and frames
            without any follow from their neighbours.
        camera: of the pictures. The distance of the face is fitted, so a wrong focal length costs little.
        settings: strengths of the terms.
        progress: called with steps done and steps in all.

    Raises:
        ValueError: another shape, or no frame has landmarks.
    """
    settings = settings or FittingSettings()
    points = torch.as_tensor(np.asarray(landmarks), dtype=torch.float64)
    if points.ndim != 3 or points.shape[1:] != (68, 2) or not len(points):
        raise ValueError(f"landmarks are (frames, 68, 2), not {tuple(points.shape)}")
    known = torch.isfinite(points).all(-1)
    usable = torch.nonzero(known.sum(1) >= 20).flatten()
    if not len(usable):
        raise ValueError("no frame has landmarks")
    clip = _Clip(model, points, known, camera, settings)
    total = settings.identity_steps + settings.frame_steps
    step = 0

    def report() -> None:
        nonlocal step
        step += 1
        if progress is not None:
            progress(step, total)

    spread = usable[torch.linspace(0, len(usable) - 1, min(settings.identity_frames, len(usable))).long()]
    state = clip.begin(spread)
    identity = torch.zeros(clip.identity_size, dtype=torch.float64)
    for number in range(settings.identity_steps):
        identity, state = clip.identity_step(spread, identity, state, pose_only=number < 2)
        report()

    # every frame begins at the nearest of those
    nearest = (torch.arange(len(points))[:, None] - spread).abs().argmin(1)
    state = state[nearest]
    for _ in range(settings.frame_steps):
        state = clip.frame_step(identity, state)
        report()
    return clip.result(identity, state)


@dataclass(frozen=True)
class ClipFitter:
    """Fits clips of a store with one model.

    Picklable: another process opens the model when it first needs it.

    Attributes:
        model: what `open_morphable_model` takes.
        sha256: `MorphableModel.sha256` of it, to which a store is bound.
    """

    model: str
    sha256: str

    def __call__(self, landmarks: NDArray[np.floating], crop: CropSettings) -> NDArray[np.float32]:
        """Coefficients (frames, 257) of a clip with these landmarks (frames, 68, 2), in pixels of the crop.

        Raises:
            TalkgenError: the model is no longer what it was.
        """
        return fit_landmarks(_same_model(self.model, self.sha256), landmarks, crop_camera(crop)).coefficients


def load_clip_fitter(model: str | None = None) -> ClipFitter:
    """A fitter with the built-in head (`demo`, None) or the model in a file.

    Raises:
        TalkgenError: there is no such model, or its file cannot be used.
    """
    name = model or "demo"
    if name != "demo":
        name = str(Path(name).absolute())  # a worker may stand elsewhere
    return ClipFitter(name, open_morphable_model(model or "demo").sha256())


@lru_cache(maxsize=2)
def _same_model(name: str, sha256: str) -> MorphableModel:
    model = open_morphable_model(name)
    if model.sha256() != sha256:
        raise TalkgenError(f"morphable_model={name} was replaced by another one while it was in use")
    return model.resized()


class _Clip:
    """The energy of one clip. A frame's state is (6 + expressions): angles, translation, ψ."""

    def __init__(
        self,
        model: MorphableModel,
        points: Tensor,
        known: Tensor,
        camera: Camera,
        settings: FittingSettings,
    ) -> None:
        ids = model.landmark_vertices
        tensor = lambda array: torch.as_tensor(np.array(array), dtype=torch.float64)  # noqa: E731
        self.mean = tensor(model.mean[ids])
        self.identity_basis = tensor(model.identity_basis[:, ids])
        self.expression_basis = tensor(model.expression_basis[:, ids])
        self.identity_size, self.expressions = len(self.identity_basis), len(self.expression_basis)
        if self.identity_size > 80 or self.expressions > 64:
            raise ValueError("the model has more coefficients than the layout holds; resize it first")
        self.points, self.known, self.camera, self.settings = points, known, camera, settings
        sigma = settings.noise * camera.size
        self.weights = tensor(settings.weights()) / sigma**2
        self.sigma = sigma
        deviation = tensor(model.expression_deviation)
        pose = torch.zeros(_POSE, dtype=torch.float64)
        pose[5] = settings.depth_deviation**-2
        self.prior = torch.cat([pose, deviation**-2])
        change = torch.tensor([settings.angle_change] * 3 + [settings.translation_change] * 3).double()
        self.change = torch.cat([change, settings.expression_change * deviation]) ** -2

    def begin(self, frames: Tensor) -> Tensor:
        """Pose from the spread and place of the points, seen from the front; no expression."""
        camera = self.camera
        focal = camera.focal * camera.size
        shape = self.mean - self.mean.mean(0)
        state = torch.zeros(len(frames), _POSE + self.expressions, dtype=torch.float64)
        middle = 0.5 * (camera.size - 1)
        for row, frame in enumerate(frames):
            known = self.known[frame]
            seen = self.points[frame][known]
            centre = seen.mean(0)
            model = shape[known] - shape[known].mean(0)
            # similarity, with the picture's y downwards: its angle is the roll, its scale the depth
            a, b = model[:, 0] - 1j * model[:, 1], torch.complex(*(seen - centre).T)
            turn = (a.conj() * b).sum() / (a.abs() ** 2).sum()
            state[row, 2] = -turn.angle()
            depth = focal / turn.abs().clamp_min(1e-6)
            state[row, 3] = (centre[0] - middle) * depth / focal
            state[row, 4] = -(centre[1] - middle) * depth / focal
            state[row, 5] = camera.distance - depth
            angle = torch.zeros(3, dtype=torch.float64)
            angle[2] = state[row, 2]
            state[row, 3:6] -= _rotation(angle[None])[0] @ self.mean[known].mean(0)
        return state

    def linearise(
        self, frames: Tensor, identity: Tensor, state: Tensor, with_identity: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Residual (f, 136), its derivatives by state (f, 136, k) and by identity, all times the root of the
        robust weights.
        """
        angle, translation, expression = state[:, :3], state[:, 3:6], state[:, _POSE:]
        rest = self.mean + torch.einsum("k,kld->ld", identity, self.identity_basis)
        shape = rest + torch.einsum("fk,kld->fld", expression, self.expression_basis)
        turn, by_angle = _rotation(angle), _rotation_derivatives(angle)
        place = torch.einsum("fij,flj->fli", turn, shape) + translation[:, None]
        camera = self.camera
        depth = (camera.distance - place[..., 2]).clamp_min(0.5)
        scale = camera.focal * camera.size / depth
        middle = 0.5 * (camera.size - 1)
        x, y = place[..., 0] * scale, place[..., 1] * scale
        seen = self.points[frames]
        known = self.known[frames]
        residual = torch.stack([seen[..., 0] - middle - x, seen[..., 1] - middle + y], -1)
        residual = torch.where(known[..., None], residual, residual.new_zeros(()))
        zero = torch.zeros_like(scale)
        # derivative of the pixel by the place in space, (f, 68, 2, 3)
        by_place = torch.stack(
            [torch.stack([scale, zero, x / depth], -1), torch.stack([zero, -scale, -y / depth], -1)], -2
        )
        by_pose = torch.cat(
            [
                torch.einsum("flpd,afde,fle->flpa", by_place, by_angle, shape),
                by_place,
            ],
            -1,
        )
        by_shape = by_place @ turn[:, None]
        by_expression = torch.einsum("flpd,kld->flpk", by_shape, self.expression_basis)
        distance = residual.norm(dim=-1) * self.weights.sqrt()
        robust = (self.settings.outlier / distance.clamp_min(self.settings.outlier)) * self.weights * known
        root = robust.sqrt()[..., None]
        flat = len(frames), 136
        by_state = torch.cat([by_pose, by_expression], -1) * root[..., None]
        by_identity = None
        if with_identity:
            by_identity = torch.einsum("flpd,kld->flpk", by_shape, self.identity_basis) * root[..., None]
            by_identity = by_identity.reshape(*flat, -1)
        return (residual * root).reshape(flat), by_state.reshape(*flat, -1), by_identity

    def identity_step(
        self, frames: Tensor, identity: Tensor, state: Tensor, pose_only: bool
    ) -> tuple[Tensor, Tensor]:
        """One step on the identity and the states of frames that are taken as independent.

        With H the normal matrix of a frame's state, C that between state and identity:
        (Λ + Σ JᵦᵀJᵦ − CᵀH⁻¹C) Δβ = g_β − Σ CᵀH⁻¹g.
        """
        residual, by_state, by_identity = self.linearise(frames, identity, state, with_identity=True)
        assert by_identity is not None
        normal = by_state.mT @ by_state + torch.diag(self.prior)
        normal.diagonal(dim1=-2, dim2=-1).add_(1e-6)
        gradient = torch.einsum("fmk,fm->fk", by_state, residual) - self.prior * state
        if pose_only:
            pose = slice(0, _POSE)
            moved = torch.linalg.solve(normal[:, pose, pose], gradient[:, pose])
            state = state.clone()
            state[:, pose] += moved
            return identity, state
        cross = by_state.mT @ by_identity
        factor = torch.linalg.cholesky(normal)
        eliminated = torch.cholesky_solve(cross, factor)
        first = torch.cholesky_solve(gradient[..., None], factor)[..., 0]
        prior = max(1.0, len(frames) / self.settings.independent_frames)
        outer = prior * torch.eye(len(identity), dtype=torch.float64)
        outer = outer + (by_identity.mT @ by_identity - cross.mT @ eliminated).sum(0)
        right = torch.einsum("fmk,fm->k", by_identity, residual) - prior * identity
        right = right - torch.einsum("fkj,fk->j", cross, first)
        change = torch.linalg.solve(outer, right)
        return identity + change, state + first - eliminated @ change

    def frame_step(self, identity: Tensor, state: Tensor) -> Tensor:
        """One step on all frames together: their blocks lie on a diagonal, and the terms between neighbours
        are diagonal matrices beside it (block Thomas algorithm).
        """
        frames, size = state.shape
        normal = torch.empty(frames, size, size, dtype=torch.float64)
        gradient = torch.empty(frames, size, dtype=torch.float64)
        for start in range(0, frames, _AT_ONCE):
            part = torch.arange(start, min(start + _AT_ONCE, frames))
            residual, by_state, _ = self.linearise(part, identity, state[part], with_identity=False)
            normal[part] = by_state.mT @ by_state
            gradient[part] = torch.einsum("fmk,fm->fk", by_state, residual)
        normal += torch.diag(self.prior + 1e-6)
        gradient -= self.prior * state
        difference = state[1:] - state[:-1]
        neighbours = torch.full((frames, 1), 2.0, dtype=torch.float64)
        neighbours[0] -= 1
        neighbours[-1] -= 1
        normal.diagonal(dim1=-2, dim2=-1).add_(neighbours * self.change)
        gradient[1:] -= self.change * difference
        gradient[:-1] += self.change * difference

        gain = torch.empty_like(normal)  # D_t⁻¹ Λ, which carries a frame's answer to the one before it
        answer = torch.empty_like(gradient)
        beside = torch.diag(self.change)
        for t in range(frames):
            block, right = normal[t], gradient[t]
            if t:
                block = block - self.change[:, None] * gain[t - 1]
                right = right + self.change * answer[t - 1]
            solved = torch.cholesky_solve(
                torch.cat([beside, right[:, None]], 1), torch.linalg.cholesky(block)
            )
            gain[t], answer[t] = solved[:, :-1], solved[:, -1]
        for t in range(frames - 2, -1, -1):
            answer[t] += gain[t] @ answer[t + 1]
        return state + answer

    def result(self, identity: Tensor, state: Tensor) -> Fit:
        """In the 257 numbers, and how well they explain the landmarks."""
        frames = len(state)
        packed = np.zeros((frames, layout.SIZE), np.float32)
        parts = Coefficients.unpack(packed)
        parts.identity[:, : self.identity_size] = identity.numpy()
        parts.expression[:, : self.expressions] = state[:, _POSE:].numpy()
        parts.angle[:] = state[:, :3].numpy()
        parts.translation[:] = state[:, 3:6].numpy()
        shape = self.mean + torch.einsum("k,kld->ld", identity, self.identity_basis)
        shape = shape + torch.einsum("fk,kld->fld", state[:, _POSE:], self.expression_basis)
        place = torch.einsum("fij,flj->fli", _rotation(state[:, :3]), shape) + state[:, None, 3:6]
        drawn = torch.as_tensor(self.camera.project(place.numpy()))
        square = ((drawn - self.points) ** 2).sum(-1)
        square = torch.where(self.known, square, torch.nan)
        residual = square.nanmean(1).sqrt().float().numpy()
        return Fit(packed, residual)


def _elements(angle: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Rotations about x, y and z (f, 3, 3), and their derivatives by the angle."""
    cos, sin = angle.cos(), angle.sin()
    made = []
    for axis in range(3):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = torch.zeros(len(angle), 3, 3, dtype=angle.dtype)
        slope = torch.zeros_like(turn)
        c, s = cos[:, axis], sin[:, axis]
        turn[:, axis, axis] = 1.0
        turn[:, i, i], turn[:, j, j], turn[:, i, j], turn[:, j, i] = c, c, -s, s
        slope[:, i, i], slope[:, j, j], slope[:, i, j], slope[:, j, i] = -s, -s, -c, c
        made.append((turn, slope))
    (x, dx), (y, dy), (z, dz) = made
    return x, y, z, dx, dy, dz


def _rotation(angle: Tensor) -> Tensor:
    """R = Rz Ry Rx of angles (f, 3), as `coefficients.rotation`."""
    x, y, z, *_ = _elements(angle)
    return z @ y @ x


def _rotation_derivatives(angle: Tensor) -> Tensor:
    """Derivatives of R by the three angles, (3, f, 3, 3)."""
    x, y, z, dx, dy, dz = _elements(angle)
    return torch.stack([z @ y @ dx, z @ dy @ x, dz @ y @ x])

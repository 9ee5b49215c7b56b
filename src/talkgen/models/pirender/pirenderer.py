"""PIRenderer: a source picture, and the motion coefficients of a frame and its neighbours, to that frame.

Ren et al., "PIRenderer: Controllable Portrait Image Generation via Semantic Neural Rendering", ICCV 2021;
layout of its published weights (RenYurui/PIRender, which StyleTalk and DreamTalk render with, too).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from talkgen.models.pirender.editing import EditingNet
from talkgen.models.pirender.mapping import MappingNet
from talkgen.models.pirender.warping import WarpingNet, warp_by_flow


@dataclass(frozen=True)
class Rendering:
    """A rendered picture and its stages.

    Attributes:
        generated: ``(b, 3, h, w)`` in [-1, 1]; the warped picture where the editing net was left out.
        warped: ``(b, 3, h, w)``, the source bent by the flow.
        flow: ``(b, 2, h', w')``, see ``WarpingNet``.
    """

    generated: Tensor
    warped: Tensor
    flow: Tensor


class PIRenderer(nn.Module):
    """z = f(p_{i−13 … i+13});  Î_w = warp(I_s, g_w(I_s, z));  Î = g_e(Î_w, I_s, z).

    The defaults are the published network. Its file loads strictly:
    ``load_published(PIRenderer(), "epoch_00190_iteration_000400000_checkpoint.pt", "pirender")``, which
    leaves out 48 tensors of layers whose result the published code throws away (a sixth of its arithmetic);
    what comes out is the same to the bit.

    New trainings should set ``fix_res_block``, ``align_corners`` and ``standardise``; small ones also
    ``residual`` and ``patch``.

    Args:
        descriptor: dimensions of z.
        warp_channels, warp_most_channels, warp_down, warp_up: see ``WarpingNet``.
        edit_channels, edit_most_channels, edit_layers, edit_blocks: see ``EditingNet``.
        fix_res_block: residual blocks as they were meant; published weights do not fit then.
        align_corners: a flow of zeros changes nothing (see ``warp_by_flow``), and training begins there;
            published weights need False.
        standardise: coefficients are brought to zero mean and unit variance inside, by buffers that
            ``set_scale`` fills and checkpoints keep; the published layout has none.
        residual: the editing net says what is to be added, Î = Î_w + g_e, and begins with nothing: what
            bending gets right need not be learned again.
        patch: squares of so many pixels become channels before either net: a wider network at the price of a
            smaller picture.
        relative: the mapping net is also told how the motion differs from that of the source picture, which
            the published network must see in the picture.
        coarse_flow: see ``WarpingNet``.
        coefficients: of a frame, see ``motion_window.renderer_motion``.
    """

    coefficient_mean: Tensor
    coefficient_deviation: Tensor

    def __init__(
        self,
        descriptor: int = 256,
        warp_channels: int = 32,
        warp_most_channels: int = 256,
        warp_down: int = 5,
        warp_up: int = 3,
        edit_channels: int = 64,
        edit_most_channels: int = 256,
        edit_layers: int = 3,
        edit_blocks: int = 2,
        fix_res_block: bool = False,
        align_corners: bool = False,
        standardise: bool = False,
        residual: bool = False,
        patch: int = 1,
        relative: bool = False,
        coarse_flow: int = 0,
        coefficients: int = 73,
    ) -> None:
        super().__init__()
        self.factor = patch * 2 ** max(warp_down, edit_layers)
        self.align_corners = align_corners
        self.standardise = standardise
        self.relative = relative
        self.mapping_net = MappingNet(2 * coefficients if relative else coefficients, descriptor)
        self.warpping_net = WarpingNet(
            warp_channels, warp_most_channels, warp_down, warp_up, descriptor, patch, coarse_flow
        )
        self.editing_net = EditingNet(
            edit_channels, edit_most_channels, edit_layers, edit_blocks, descriptor, fix_res_block, residual,
            patch,
        )  # fmt: skip
        if align_corners:
            flow = self.warpping_net.flow_out[-1]
            assert isinstance(flow, nn.Conv2d) and flow.bias is not None
            nn.init.zeros_(flow.weight)
            nn.init.zeros_(flow.bias)
        if standardise:
            self.register_buffer("coefficient_mean", torch.zeros(coefficients))
            self.register_buffer("coefficient_deviation", torch.ones(coefficients))

    @torch.no_grad()
    def set_scale(self, motion: Tensor) -> None:
        """Take mean and deviation from motion ``(frames, coefficients)``; what never moves stays as it is."""
        self.coefficient_mean.copy_(motion.mean(0))
        deviation = motion.std(0)
        self.coefficient_deviation.copy_(torch.where(deviation > 1e-4, deviation, 1.0))

    def describe(self, motion: Tensor, source_motion: Tensor | None = None) -> Tensor:
        """Motion ``(b, frames + 26, coefficients)`` → descriptors ``(b, frames, descriptor)``.

        13 frames on either side are used up: ``motion_window.edge_padded`` repeats the ends of a clip.

        Args:
            motion: of the frames.
            source_motion: of the source picture, ``(b, coefficients)``; only a ``relative`` network needs it.

        Raises:
            ValueError: it does, and there is none.
        """
        motion = self._scaled(motion)
        if self.relative:
            if source_motion is None:
                raise ValueError("this network needs the motion coefficients of the source picture")
            motion = torch.cat([motion, motion - self._scaled(source_motion)[:, None]], -1)
        descriptors: Tensor = self.mapping_net(motion.mT)
        return descriptors

    def _scaled(self, motion: Tensor) -> Tensor:
        if self.standardise:
            return (motion - self.coefficient_mean) / self.coefficient_deviation
        return motion

    def render(self, source: Tensor, descriptor: Tensor, edit: bool = True) -> Rendering:
        """Source ``(b, 3, h, w)`` in [-1, 1] and descriptors ``(b, descriptor)`` → pictures.

        Args:
            source: sides are multiples of ``factor``; one source for all descriptors is repeated by
                ``expand``.
            descriptor: one a picture.
            edit: False leaves the editing net out.
        """
        source = source.expand(len(descriptor), -1, -1, -1)
        flow = self.warpping_net(source, descriptor)
        warped = warp_by_flow(source, flow, self.align_corners)
        generated = self.editing_net(source, warped, descriptor) if edit else warped
        return Rendering(generated, warped, flow)

    def forward(
        self, source: Tensor, motion: Tensor, source_motion: Tensor | None = None, edit: bool = True
    ) -> Rendering:
        """Source ``(b, 3, h, w)``, windows of motion ``(b, 27, coefficients)`` and the source's own motion
        ``(b, coefficients)`` → pictures.
        """
        return self.render(source, self.describe(motion, source_motion)[:, 0], edit)

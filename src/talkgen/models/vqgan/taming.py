"""Published VQGAN weights (taming-transformers and its descendants) into a ``VQGAN``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from talkgen.checkpoints import LoadReport, load_published, published_weights
from talkgen.models.vqgan.quantizer import HalvesQuantizer, VectorQuantizer
from talkgen.models.vqgan.vqgan import VQGAN

CODEBOOK = "quantize.embedding.weight"


def load_taming(vqgan: VQGAN, source: str | Path | Mapping[str, Any]) -> LoadReport:
    """Fill any ``VQGAN`` from a published checkpoint, strictly.

    A single codebook in gradient mode is the published layout itself. Two codebooks both start from the one
    published; running statistics of mode "ema" start so that they agree with the codebook. Public checkpoints
    saw whole images: with ``halves`` fine-tune before judging (the cut gets zero padding they never saw).

    Raises:
        FileError: keys are missing, unexpected or mis-shaped.
    """
    name = source if isinstance(source, str | Path) else "checkpoint"
    weights, dropped = published_weights(source, "taming")
    quantizers: dict[str, VectorQuantizer]
    if isinstance(vqgan.quantize, HalvesQuantizer):
        quantizers = {"quantize.upper": vqgan.quantize.upper, "quantize.lower": vqgan.quantize.lower}
    else:
        quantizers = {"quantize": vqgan.quantize}
    codebook = weights.pop(CODEBOOK, None)
    if codebook is not None:
        for prefix, quantizer in quantizers.items():
            own = quantizer.state_dict()
            own["embedding.weight"] = codebook  # its shape is checked with all others
            weights |= {f"{prefix}.{key}": value for key, value in own.items()}
    report = load_published(vqgan, weights, name=name)
    if codebook is not None:
        for quantizer in quantizers.values():
            quantizer.set_codes(codebook)
    return LoadReport(report.loaded, dropped)

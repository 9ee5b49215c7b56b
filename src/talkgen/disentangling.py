"""``talkgen disentangle``: coefficients of a store, and which part of an expression is lips, lids and rest.

It trains nothing and takes seconds once the coefficients are there; see ``talkgen.face3d.subspaces`` for the
rules, and ``talkgen.data.disentangled`` for what lies in the folder afterwards.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from omegaconf import DictConfig

from talkgen.configuration import build, check_keys, hydra_command
from talkgen.errors import TalkgenError

if TYPE_CHECKING:
    import numpy as np

    from talkgen.data.store import Store
    from talkgen.face3d.morphable_model import MorphableModel
    from talkgen.face3d.subspaces import Subspaces

Rule = Literal["closed_form", "index", "styletalk", "none"]
TRUTH = "truth_coefficients"  # of the demo corpus


def main(arguments: Sequence[str]) -> int:
    """``talkgen disentangle data.root=STORE out=FOLDER``.

    Args:
        arguments: Hydra overrides.
    """
    return hydra_command("disentangle", run, arguments)


def run(cfg: DictConfig) -> int:
    """Do what the composed config describes."""
    check_keys(cfg, "disentangle")
    if cfg.root is None or cfg.out is None:
        raise TalkgenError("say of which store, and where to: talkgen disentangle root=STORE out=FOLDER")
    build(cfg.make, root=cfg.root, out=cfg.out)
    return 0


def disentangle_store(
    root: str,
    out: str | Path,
    model: str = "demo",
    array: str | None = None,
    rule: Rule = "closed_form",
    sizes: Mapping[str, int] | None = None,
    index_sizes: Mapping[str, int] | None = None,
    index_floor: float = 0.0,
    rest_size: int = 20,
    ridge: float = 1.0,
    progress: bool = True,
) -> None:
    """Fit what has no coefficients, part the expression, and say how well that does on people who were not
    looked at.

    Args:
        root: folder or URL of a prepared store.
        out: folder; what is complete in it is kept.
        model: what ``open_morphable_model`` takes.
        array: of the store, with coefficients of that model; None: its ``coefficients``, or fitted.
        rule: ``closed_form``: rotated subspaces; ``index``: the paper's largest |Δ| / σ between frames of
            which one region moved; ``styletalk``: StyleTalk's fixed indices; ``none``: no regions.
        sizes: region → directions, of ``closed_form``.
        index_sizes: region → coefficients, of ``index``.
        index_floor: added to σ; without it coefficients with a tiny σ win by their noise.
        rest_size: directions that are kept of what belongs to no region.
        ridge: see ``talkgen.face3d.subspaces.disentangle``.
        progress: show bars.

    Raises:
        TalkgenError: the store or the model cannot be used.
    """
    from talkgen.data.coefficient_cache import fit_store
    from talkgen.data.disentangled import FILE, Description, Disentangled
    from talkgen.data.store import Store
    from talkgen.face3d.coefficients import EXPRESSION
    from talkgen.face3d.fitting import load_clip_fitter
    from talkgen.face3d.model_files import open_morphable_model
    from talkgen.face3d.motion_statistics import motion_statistics
    from talkgen.face3d.subspace_picture import draw_subspaces

    if rule not in get_args(Rule):
        raise TalkgenError(f"rule is one of {', '.join(get_args(Rule))}, not {rule!r}")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    store = Store.open(root)
    fitter = load_clip_fitter(model)
    (out / FILE).unlink(missing_ok=True)  # until all is there
    coefficients = fit_store(out / "coefficients", store, fitter, array, progress)
    morphable = open_morphable_model(fitter.model).resized()
    train = [clip for clip in store.clips if clip.split == "train" and clip.swap_of is None]
    if not train:
        raise TalkgenError(f"{root} has no clips of split train to learn from")
    expressions = [coefficients.array(clip.id)[:, EXPRESSION] for clip in train]

    def part(each: Sequence[np.ndarray]) -> dict[str, Subspaces]:
        return every_rule(each, morphable, sizes, index_sizes, index_floor, ridge)

    chosen = part(expressions).get(rule)
    statistics = motion_statistics(
        expressions, [clip.identity for clip in train], chosen, morphable, rest_size
    )
    if chosen is not None:
        chosen.save(out / "subspaces.npz")
    statistics.save(out / "motion.npz")
    rows = share_rows(store, coefficients.array, part, morphable)
    _write_table(out, rows)
    draw_subspaces(out / "subspaces.png", statistics, expressions)
    sizes_found = tuple(statistics.sizes)
    Disentangled.write(out, Description(fitter.model, fitter.sha256, array, rule, sizes_found))
    print((out / "shares.md").read_text())
    print(f"disentangled by rule={rule}: {out} (subspaces.npz, subspaces.png, shares.md)")


def every_rule(
    expressions: Sequence[np.ndarray],
    model: MorphableModel,
    sizes: Mapping[str, int] | None = None,
    index_sizes: Mapping[str, int] | None = None,
    index_floor: float = 0.0,
    ridge: float = 1.0,
) -> dict[str, Subspaces]:
    """The subspaces of a corpus by each rule.

    Args:
        expressions: (frames, k) of each clip.
        model: whose coefficients they are.
        sizes, index_sizes, index_floor, ridge: see ``disentangle_store``.
    """
    import numpy as np

    from talkgen.face3d.subspaces import (
        BLINK_INDICES,
        LANDMARKS,
        STYLETALK_LIP,
        disentangle,
        index_subspaces,
        indices_of_edits,
        motion_energy,
        natural_edits,
    )

    energies = {name: motion_energy(model, name) for name in LANDMARKS}
    moving = np.concatenate([clip - clip.mean(0) for clip in expressions]).astype(np.float64)
    index_sizes = index_sizes or {"lip": 13, "eye": 8}
    edits = natural_edits(expressions, energies, list(index_sizes))
    indices = indices_of_edits(edits, moving.std(0) + 1e-8, index_sizes, index_floor)
    return {
        "closed_form": disentangle(energies, sizes or {"lip": 6, "eye": 4}, np.cov(moving.T), ridge),
        "index": index_subspaces(indices),
        "styletalk": index_subspaces({"lip": STYLETALK_LIP, "eye": BLINK_INDICES}),
    }


def share_rows(
    store: Store,
    coefficients: Callable[[str], np.ndarray],
    part: Callable[[Sequence[np.ndarray]], dict[str, Subspaces]],
    model: MorphableModel,
) -> list[dict[str, str]]:
    """What each rule keeps of its own region's motion and leaks of the others', on held-out people, or on
    whoever there is: of the coefficients, and of the exact ones that the demo corpus has.

    Args:
        store: the clips.
        coefficients: clip id → (frames, 257).
        part: expressions of the clips that are learned from → subspaces by each rule.
        model: whose coefficients they are.
    """
    import numpy as np

    from talkgen.face3d.coefficients import EXPRESSION
    from talkgen.face3d.subspaces import LANDMARKS, motion_energy, region_shares

    energies = {name: motion_energy(model, name) for name in LANDMARKS}
    clips = [clip for clip in store.clips if clip.swap_of is None]
    split = next(name for name in ("test", "val", "train") if any(clip.split == name for clip in clips))
    sources = {"coefficients": coefficients}
    if model.mixing is not None and all(store.has(clip, TRUTH) for clip in clips):
        sources["exact"] = lambda name: store.array(store.clip(name), TRUTH)
    rows = []
    for source, read in sources.items():
        each = {clip.id: read(clip.id)[:, EXPRESSION].astype(np.float64) for clip in clips}
        ways = part([each[clip.id] for clip in clips if clip.split == "train"])
        held_out = [each[clip.id] for clip in clips if clip.split == split]
        moving = np.concatenate([expression - expression.mean(0) for expression in held_out])
        for rule, subspaces in ways.items():
            shares = region_shares(subspaces, moving, energies)
            for own in subspaces.names:
                row = {"motion": f"{source}, {split}", "rule": rule, "part": own}
                row["directions"] = str(subspaces.sizes[subspaces.names.index(own)])
                row["kept"] = f"{shares[own, own].kept:.2f}"
                for region in LANDMARKS:
                    row[f"moves {region}"] = f"{shares[own, region].moved:.2f}"
                rows.append(row)
    return rows


def _write_table(out: Path, rows: Sequence[Mapping[str, str]]) -> None:
    from talkgen.data.files import write_atomically

    header = list(rows[0])
    lines = [header, ["---"] * len(header), *([row[key] for key in header] for row in rows)]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    about = (
        "kept: share of the own region's motion that the part reproduces (wanted: 1). moves …: share of a "
        "region's motion that the part makes; of another region that is the leak (wanted: 0)."
    )
    write_atomically(out / "shares.md", f"{text}\n\n{about}\n".encode())
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, header)
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(out / "shares.csv", buffer.getvalue().encode())

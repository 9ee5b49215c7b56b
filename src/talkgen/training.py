"""``python train.py experiment=…``: compose, build, fit one stage; or run a method's stages in order.

A run lives in ``runs/<name>``. The same command takes an unfinished run up where it stopped, and says so when
there is nothing left to do. Heavy libraries are imported where training begins, so that ``--help``, refusals
and "finished" answer at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from talkgen import __version__, weights
from talkgen.configuration import (
    RunFolder,
    build,
    check_keys,
    choices,
    config_folder,
    differences,
    hydra_command,
    options,
    overrides,
)
from talkgen.data.files import write_atomically
from talkgen.errors import FileError, MissingWeights, TalkgenError
from talkgen.submission import inside_job, submit

# Settings on which the weights of a run depend; the rest (workers, callbacks, loggers) may change on the way.
FIXED = ("system", "make", "data", "seed", "steps", "precision")
FREE = ("data.workers", "data.root")

RENDERED = ("demo", "demo_crowd", "demo_city")  # corpora that are made where they are missing

PERCEPTUAL = (
    "talkgen.losses.perceptual.perceptual_loss",
    "talkgen.losses.vgg_pyramid.renderer_perceptual",
)
STAND_IN = "gradient_pyramid"  # its net where the weights of LPIPS are absent


def main(arguments: Sequence[str]) -> int:
    """``talkgen train`` and ``python train.py``.

    Args:
        arguments: Hydra overrides.

    Returns:
        Exit code: 0, or 128 + signal number of a run that was asked to stop and can be resumed.
    """
    return hydra_command("train", run, arguments)


def run(cfg: DictConfig) -> int:
    """Train what the composed config describes; see the module.

    Raises:
        TalkgenError: the config cannot be used, or the run folder belongs to other settings.
    """
    check_keys(cfg, "train")
    experiment = choices().get("experiment")
    if experiment is None:
        raise TalkgenError(f"say what to train: experiment={'|'.join(options('experiment'))}")
    stage_of = f"{cfg.method}-{choices()['data']}/" if cfg.method else ""
    if cfg.submit is not None and not inside_job():
        return send(cfg)
    name = cfg.name or (f"{stage_of}{experiment}" if stage_of else f"{experiment}-{choices()['data']}")
    suffix = _sweep_suffix()
    if cfg.stages:
        return run_stages(list(cfg.stages), f"{name}{suffix}", Path(cfg.paths.runs), cfg.evaluate)
    cfg.paths.run = str(Path(cfg.paths.runs) / f"{name}{suffix}")
    cfg.paths.stages = str((Path(cfg.paths.runs) / name).parent)
    if cfg.make is not None:
        return run_making(cfg, experiment)
    return run_stage(cfg, experiment)


def send(cfg: DictConfig) -> int:
    """Have a cluster give this command, see ``talkgen.submission``.

    Raises:
        TalkgenError: it trains a method; or the job cannot be sent.
    """
    if cfg.stages:
        raise TalkgenError(f"a job trains one stage; send them in order: {', '.join(cfg.stages)}")
    job = submit(build(cfg.submit), overrides())
    print(f"sent as job {job.job_id}; its logs are in {job.paths.folder}. The same command sends it again")
    return 0


def _sweep_suffix() -> str:
    """In a sweep (``-m``) every job has a run folder of its own, named by what it varies."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    return f"/{hydra.job.override_dirname}" if hydra.mode == RunMode.MULTIRUN else ""


# A method ---------------------------------------------------------------------------------------------------


def run_stages(
    stages: Sequence[str], name: str, runs: Path, evaluate: Mapping[str, Any] | None = None
) -> int:
    """Run a method's stages in order, each in a process of its own, then score the method.

    A stage that is finished says so at once and the next begins; one that fails stops the method. Signals
    are passed on to the stage, which saves a checkpoint.

    Args:
        stages: experiments.
        name: folder of the method under ``runs``.
        runs: where runs are.
        evaluate: settings of ``evaluate.py``, which scores the method in the end; None: it is not scored.
    """
    own = ("experiment", "name", "stages", "evaluate")
    passed = [item for item in overrides() if re.split(r"[=.]", item.lstrip("+~"))[0] not in own]
    for i, stage in enumerate(stages, 1):
        print(f"[{i}/{len(stages)}] {stage}", flush=True)
        arguments = [f"experiment={stage}", f"name={name}/{stage}", *passed]
        code = _run_process([sys.executable, "-m", "talkgen.cli", "train", *arguments])
        if code:
            if code < 128:
                print(f"{stage} failed (exit code {code}); the stages after it were not run", file=sys.stderr)
            return code
    print(f"{name.split('/')[0]}: all stages are trained, in {runs / name}", flush=True)
    if evaluate is None:
        return 0
    settings = {"run": name, "paths.runs": runs, **evaluate}
    arguments = [f"{key}={value}" for key, value in settings.items()]
    return _run_process([sys.executable, "-m", "talkgen.cli", "evaluate", *arguments])


def _run_process(command: Sequence[str]) -> int:
    """Run a command in a session of its own, and pass each signal on to it once."""
    process = subprocess.Popen(command, start_new_session=True)

    def forward(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    passed = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    held = {number: signal.signal(number, forward) for number in passed}
    try:
        code = process.wait()
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


# A stage ----------------------------------------------------------------------------------------------------


def run_stage(cfg: DictConfig, experiment: str) -> int:
    """Train one stage in its run folder, or go on with it."""
    run_folder = RunFolder(Path(cfg.paths.run))
    begun = _begun(run_folder)
    perceptual = settle_perceptual(cfg, None if cfg.resume_with_changes else begun)
    settle_precision(cfg, begun)
    settle_speech(cfg, begun)
    resolved = _resolve(cfg)
    first_process = int(os.environ.get("LOCAL_RANK", 0)) == 0
    if first_process:
        prepare_corpus(resolved["data"], choices()["data"], Path(cfg.paths.prepared))
    manifest = _manifest_hash(Path(resolved["data"]["root"]))
    facts = json.loads(run_folder.facts.read_text()) if run_folder.facts.is_file() else {}
    if begun is not None and not cfg.resume_with_changes:
        _refuse_changes(run_folder, begun, resolved, facts.get("manifest"), manifest)
    if facts.get("finished_batches", 0) >= cfg.steps:
        print(
            f"{run_folder.path} is finished ({cfg.steps} batches). "
            f"To train anew give it another name (name=…), or delete that folder. Next: python evaluate.py"
        )
        return 0
    _require_lpips(run_folder, perceptual)
    with _lock(run_folder) if first_process else contextlib.nullcontext():
        if first_process:
            facts = {**_facts(facts, manifest), "experiment": experiment, "perceptual": perceptual}
            write_atomically(run_folder.facts, json.dumps(facts, indent=1).encode())
            write_atomically(run_folder.config, OmegaConf.to_yaml(OmegaConf.create(resolved)).encode())
        code = fit(cfg, run_folder)
        if first_process and code == 0:
            write_atomically(
                run_folder.facts, json.dumps({**facts, "finished_batches": cfg.steps}, indent=1).encode()
            )
            print(
                f"{experiment} is trained: {run_folder.path} (checkpoints/best.ckpt, metrics.csv, samples/). "
                "Next: python evaluate.py"
            )
    return code


def run_making(cfg: DictConfig, experiment: str) -> int:
    """A stage that trains nothing: call ``cfg.make`` with ``root``, the store, and ``out``, its run folder.

    A stage that is done with these settings is not done again.
    """
    run_folder = RunFolder(Path(cfg.paths.run))
    data = {"root": str(cfg.data.root)}
    prepare_corpus(data, choices()["data"], Path(cfg.paths.prepared))
    manifest = _manifest_hash(Path(data["root"]))
    resolved = {"make": OmegaConf.to_container(cfg.make, resolve=True), "data": data}
    begun = _begun(run_folder)
    facts = json.loads(run_folder.facts.read_text()) if run_folder.facts.is_file() else {}
    if begun is not None and not cfg.resume_with_changes:
        _refuse_changes(run_folder, begun, resolved, facts.get("manifest"), manifest)
        if facts.get("made"):
            print(f"{run_folder.path} is made. To make it anew give it another name, or delete that folder.")
            return 0
    with _lock(run_folder):
        facts = {**_facts(facts, manifest), "experiment": experiment, "made": False}
        write_atomically(run_folder.facts, json.dumps(facts, indent=1).encode())
        write_atomically(run_folder.config, OmegaConf.to_yaml(OmegaConf.create(resolved)).encode())
        build(cfg.make, root=data["root"], out=str(run_folder.path))
        write_atomically(run_folder.facts, json.dumps({**facts, "made": True}, indent=1).encode())
    return 0


def fit(cfg: DictConfig, run_folder: RunFolder) -> int:
    """Build everything and train; 0 when the run is done, 128 + signal when it was asked to stop."""
    import logging
    import warnings

    import lightning

    # Lightning's hints concern choices which the configs have made on purpose.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")

    from talkgen.systems.callbacks.checkpoints import Interrupted
    from talkgen.systems.checkpointing import checkpoint_networks
    from talkgen.systems.compilation import compile_networks
    from talkgen.systems.partials import accumulate_in, refuse_sharding
    from talkgen.systems.stream import StreamedData

    if cfg.accumulate < 1 or (cfg.accumulate > 1 and cfg.checkpoint_every % cfg.accumulate):
        raise TalkgenError(
            f"accumulate={cfg.accumulate} must be at least 1 and divide checkpoint_every="
            f"{cfg.checkpoint_every}: a checkpoint holds no gradients"
        )

    lightning.seed_everything(cfg.seed, workers=True, verbose=False)
    data = StreamedData(build(cfg.data), batches=cfg.steps, one_batch=cfg.one_batch)
    system = build(cfg.system)
    if cfg.checkpointing:
        checkpoint_networks(system)
    if cfg.compile:
        compile_networks(system)
    callbacks = [build(node) for node in cfg.callbacks.values() if node is not None]
    loggers = [build(node) for node in cfg.logger.values() if node is not None]
    trainer = build(cfg.trainer, _partial_=True)(
        callbacks=callbacks,
        logger=loggers,
        precision=cfg.precision,
        default_root_dir=str(run_folder.path),
        accumulate_grad_batches=accumulate_in(system, cfg.accumulate),
    )
    refuse_sharding(system, trainer)
    resume = run_folder.last if run_folder.last.is_file() else None
    if resume:
        _check_resumable(run_folder)
        if trainer.is_global_zero:
            print(f"resuming {run_folder.path}", flush=True)
    try:
        trainer.fit(system, datamodule=data, ckpt_path=resume, weights_only=True)
    except Interrupted as stop:
        if trainer.is_global_zero:
            print(f"\n{stop} of {cfg.steps}; the same command goes on from there", flush=True)
        return 128 + stop.signum
    return 0


def _check_resumable(run_folder: RunFolder) -> None:
    """Refuse a checkpoint that a disk has damaged, before its weights spoil the run."""
    from talkgen.checkpoints import load_checkpoint

    try:
        load_checkpoint(run_folder.last)
    except FileError as error:
        kept = sorted(run_folder.checkpoints.glob("step-*.ckpt"))
        older = f"copy {kept[-1].name} in its place" if kept else "delete the folder to begin anew"
        raise FileError(run_folder.last, f"{error.cause}; where there is no copy, {older}") from error


def _begun(run_folder: RunFolder) -> DictConfig | None:
    """The config that the run began with; None where there is no run yet."""
    if not run_folder.config.is_file():
        return None
    config = OmegaConf.load(run_folder.config)
    assert isinstance(config, DictConfig)
    return config


def settle_perceptual(cfg: DictConfig, begun: DictConfig | None) -> dict[str, str]:
    """Write into the config what each perceptual term is, since that depends on the machine.

    A run that begins takes LPIPS where its weights are present, else the stand-in. A run that goes on keeps
    what it began with, whatever has been fetched since.

    Args:
        cfg: composed config; ``net`` of its perceptual terms is changed in place.
        begun: the config that the run began with; None: it begins now.

    Returns:
        Key of each perceptual term → its net.
    """
    settled: dict[str, str] = {}
    for key in _perceptual_terms(cfg.system, "system"):
        net = str(OmegaConf.select(cfg, f"{key}.net", throw_on_missing=True))
        held = None if begun is None else OmegaConf.select(begun, f"{key}.net")
        if net != STAND_IN and net != held:
            if held == STAND_IN:
                net = STAND_IN
            elif not weights.available(f"lpips_{net}"):
                cure = f"talkgen weights get lpips_{net}"
                print(
                    f"{key}: LPIPS weights are absent, so the run keeps to a stand-in (`{cure}`)", flush=True
                )
                net = STAND_IN
        OmegaConf.update(cfg, f"{key}.net", net)
        settled[key] = net
    return settled


def settle_precision(cfg: DictConfig, begun: DictConfig | None) -> None:
    """Write into the config what ``precision: auto`` is: bfloat16 where the machine computes it by itself.

    Elsewhere bfloat16 is emulated, and two to nine times slower than float32. A run that goes on keeps what
    it began with.

    Args:
        cfg: composed config; ``precision`` is changed in place.
        begun: the config that the run began with; None: it begins now.
    """
    if cfg.precision == "auto":
        native = native_bfloat16(str(cfg.trainer.accelerator)) if begun is None else None
        cfg.precision = begun.precision if begun is not None else "bf16-mixed" if native else "32-true"


def settle_speech(cfg: DictConfig, begun: DictConfig | None) -> None:
    """Write into the config what ``speech=auto`` is: Whisper where its weights are present, else the mel.

    Args:
        cfg: composed config; ``speech`` is changed in place.
        begun: the config that the run began with; None: it begins now.
    """
    if cfg.get("speech") is None or cfg.speech.kind != "auto":
        return
    if begun is not None:
        kind = str(begun.speech.kind)
    else:
        kind = "whisper" if weights.available("whisper_tiny_en") else "mel"
        if kind == "mel":
            cure = "`talkgen weights get whisper_tiny_en`"
            print(
                f"no weights of Whisper: frames hear a mel, which says less of the lips ({cure})", flush=True
            )
    cfg.speech = OmegaConf.load(config_folder() / f"speech/{kind}.yaml")


def native_bfloat16(accelerator: str) -> bool:
    """Whether the machine multiplies bfloat16 numbers without emulation.

    Args:
        accelerator: Lightning's name, such as ``cpu``, ``gpu`` or ``auto``.
    """
    if accelerator != "cpu":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and bool(re.search(r"\b(avx512_bf16|amx_bf16)\b", flags.read_text()))


def _perceptual_terms(node: Any, key: str) -> Iterator[str]:
    if isinstance(node, DictConfig):
        if node.get("_target_") in PERCEPTUAL:
            yield key
        for name in map(str, node):
            if not OmegaConf.is_missing(node, name) and not OmegaConf.is_interpolation(node, name):
                yield from _perceptual_terms(node[name], f"{key}.{name}")


def _require_lpips(run_folder: RunFolder, perceptual: Mapping[str, str]) -> None:
    """A run that began with LPIPS does not go on with anything else."""
    for key, net in perceptual.items():
        if net != STAND_IN:
            try:
                weights.find(f"lpips_{net}")
            except MissingWeights as error:
                raise TalkgenError(
                    f"{run_folder.path} was begun with {key}.net={net}, which is not on this machine: {error}"
                ) from error


def prepare_corpus(data: dict[str, Any], name: str | None, prepared: Path) -> None:
    """Render and prepare a corpus of RENDERED when it is not yet where it belongs, in ``prepared/<name>``.

    Raises:
        TalkgenError: another corpus, or one named by its path, is missing; or the preparation failed.
    """
    root = str(data["root"])
    if "://" in root or (Path(root) / "store.json").is_file():
        return
    if name not in RENDERED or Path(root).resolve() != (prepared / name).resolve():
        source = "" if name in RENDERED else "source=FOLDER "
        raise TalkgenError(
            f"there is no prepared corpus at {root}: make one with "
            f"'talkgen prepare corpus={name} {source}out={root}', or name another with data.root=…"
        )
    print(f"the {name} corpus is not there yet; preparing it in {root}", flush=True)
    command = [sys.executable, "-m", "talkgen.cli", "prepare", f"corpus={name}", f"out={root}"]
    if code := _run_process(command):
        raise TalkgenError(f"preparing the {name} corpus failed (exit code {code}): {' '.join(command)}")


def _resolve(cfg: DictConfig) -> dict[str, Any]:
    try:
        resolved = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise TalkgenError(f"the config lacks a value that only you can give: {error}") from error
    except OmegaConfBaseException as error:
        raise TalkgenError(f"the config cannot be resolved: {error}") from error
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def _refuse_changes(
    run_folder: RunFolder,
    begun: Any,
    resolved: dict[str, Any],
    old_manifest: str | None,
    manifest: str | None,
) -> None:
    held = OmegaConf.to_container(begun)
    assert isinstance(held, dict)
    changed = differences({str(key): value for key, value in held.items()}, resolved, FIXED)
    changed = [line for line in changed if not line.startswith(tuple(f"{key}:" for key in FREE))]
    if old_manifest and manifest and old_manifest != manifest:
        changed.append("the corpus itself (its clips.jsonl)")
    if changed:
        raise TalkgenError(
            f"{run_folder.path} was begun with other settings: {'; '.join(changed)}. "
            "Give the new run another name (name=…), or go on with these settings (resume_with_changes=true)"
        )


def _manifest_hash(root: Path) -> str | None:
    file = root / "clips.jsonl"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def _facts(held: dict[str, Any], manifest: str | None) -> dict[str, Any]:
    """What a reader of the results will ask: versions, commit, data, and when it ran."""
    packages = ("torch", "lightning", "numpy", "transformers", "hydra-core")
    versions = {"talkgen": __version__, "python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in packages}
    start = {
        "time": time.strftime("%Y-%m-%d %H:%M:%S%z"),
        "command": overrides(),
        "host": platform.platform(),
    }
    return {
        "versions": versions,
        "git": _git_commit(),
        "manifest": manifest,
        "starts": [*held.get("starts", []), start],
    }


def _git_commit() -> str | None:
    """Commit of the checkout that this package lies in, with ``+`` when files differ from it."""
    folder = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changes.strip() else "")


@contextlib.contextmanager
def _lock(run_folder: RunFolder) -> Iterator[None]:
    """One process a run folder; the lock goes with the process, however it ends."""
    run_folder.path.mkdir(parents=True, exist_ok=True)
    with (run_folder.path / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise TalkgenError(
                f"{run_folder.path} is being trained by {owner}; wait for it or stop it"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield

"""Every experiment is a test case: it composes, and runs through the real command at tiny size."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from talkgen.cli import main
from talkgen.configuration import RunFolder, config_folder, options

EXPERIMENTS = options("experiment")
STAGES = [
    name
    for name in EXPERIMENTS
    if not {"stages", "make"} & OmegaConf.load(config_folder() / f"experiment/{name}.yaml").keys()
]
MAKING = [  # stages that train nothing
    name for name in EXPERIMENTS if "make" in OmegaConf.load(config_folder() / f"experiment/{name}.yaml")
]
METHODS = [name for name in EXPERIMENTS if name not in (*STAGES, *MAKING)]


def train(store: Path, *arguments: str) -> int:
    return main(
        [
            "train",
            "size=tiny",
            f"data.root={store}",
            "data.workers=0",
            "logger=csv",
            "trainer.log_every_n_steps=1",
            *arguments,
        ]
    )


def short(*arguments: str) -> tuple[str, ...]:
    """Two steps with a validation, a checkpoint and, where there are any, samples."""
    return ("steps=2", "validate_every=2", "checkpoint_every=2", *arguments)


def order_of(method: str) -> list[str]:
    """The stages of a method as its experiment lists them."""
    return list(OmegaConf.load(config_folder() / f"experiment/{method}.yaml").stages)


@pytest.fixture(scope="module")
def trained(tiny_store, tmp_path_factory) -> Path:
    """Every stage of every method in order, since each works with what the earlier ones learned."""
    runs = tmp_path_factory.mktemp("runs")
    for method in METHODS:
        for experiment in order_of(method):
            name = f"name={method}/{experiment}"
            assert train(tiny_store, f"experiment={experiment}", name, f"paths.runs={runs}", *short()) == 0
    return runs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "experiment"), [(m, e) for m in METHODS for e in order_of(m) if e not in MAKING]
)
def test_every_stage_of_a_method_takes_two_steps(method, experiment, trained):
    run = RunFolder(trained / method / experiment)
    assert run.last.is_file()
    assert run.best.is_file(), "the experiment names no metric to choose the best by, or nothing logs it"
    header = run.metrics.read_text().splitlines()[0]
    assert "train/" in header
    assert "val/" in header


def test_every_stage_belongs_to_a_method():
    """One that a method can do without, such as a faster decoder, says whose it is."""
    needed = {stage for method in METHODS for stage in order_of(method)}
    assert needed <= {*STAGES, *MAKING}
    for experiment in set(STAGES) - needed:
        assert compose(f"experiment={experiment}").method, experiment


def compose(*overrides: str):
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("train", overrides=list(overrides), return_hydra_config=True)


@pytest.mark.parametrize("size", options("size"))
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_composes_at_every_size(experiment, size):
    cfg = compose(f"experiment={experiment}", f"size={size}")
    if experiment in STAGES:
        OmegaConf.resolve(cfg.system)
        assert cfg.steps > 0


@pytest.mark.parametrize("debug", options("debug"))
def test_composes_with_every_debug(debug):
    assert compose("experiment=swaptalk_vqgan", f"debug={debug}").name == f"debug-{debug}"
    assert f"`debug={debug}`" in (config_folder().parent / "CONTRIBUTING.md").read_text()


@pytest.mark.parametrize("option", options("trainer"))
def test_composes_with_every_trainer(option):
    assert compose("experiment=sync_expert", f"trainer={option}").trainer.max_epochs == 1


@pytest.mark.slow
@pytest.mark.parametrize("option", options("system"))
def test_every_system_is_made_of_what_its_constructors_take(option, trained):
    """Networks, losses and the system itself are built; no key is left that nobody reads."""
    from talkgen.configuration import build
    from talkgen.training import settle_speech

    experiment = max((stage for stage in STAGES if option.startswith(stage)), key=len)
    method = compose(f"experiment={experiment}").method
    cfg = compose(
        f"experiment={experiment}", f"system={option}", "size=tiny", f"paths.stages={trained / str(method)}"
    )
    settle_speech(cfg, None)  # as training does
    system = build(cfg.system)
    assert len(list(system.parameters())) > 0
    system.configure_optimizers()


SIZES = sorted((config_folder() / "size").glob("*.yaml"))


def test_all_sizes_have_the_same_keys():
    def keys(node, prefix=""):
        if not OmegaConf.is_dict(node):
            return {prefix}
        return set().union(*(keys(node[k], f"{prefix}.{k}") for k in node))

    files = {file.stem: OmegaConf.load(file) for file in SIZES}
    # demo, with some numbers changed
    changes = [keys(files.pop(size)) - {".defaults"} for size in ("demo_long", "demo_gpu")]
    first, *others = (keys(file) for file in files.values())
    assert all(other == first for other in others)
    assert all(changed < first for changed in changes)


@pytest.mark.parametrize(
    ("typo", "names"),
    [
        ({"stepps": 3}, "stepps"),  # beside everything
        ({"size": {"sync_expert": {"widht": 1}}}, "size.sync_expert.widht"),  # in a plain mapping
        ({"callbacks": {"checkpoints": {"evry": 3}}}, "evry"),  # argument of a class
        ({"callbacks": {"emma": {"decay": 0.5}}}, "callbacks.emma"),
        ({"data": {"window": {"frams": 5}}}, "frams"),
        ({"data": {"batchsize": 5}}, "batchsize"),
        ({"system": {"expert": {"widht": 5}}}, "widht"),
        ({"system": {"optimizer": {"lrr": 5}}}, "lrr"),  # of something that is called later
        ({"system": {"learning_rate": {"warm_up": 5}}}, "warm_up"),
        ({"trainer": {"presicion": 5}}, "presicion"),
        ({"paths": {"rns": "x"}}, "paths.rns"),
        ({"logger": {"csv": {"fiel": "x"}}}, "fiel"),
    ],
)
def test_a_typo_in_an_experiment_is_refused(typo, names, tiny_store, tmp_path, monkeypatch, capsys):
    """In a file it is: on the command line Hydra itself refuses unknown keys."""
    folder = tmp_path / "configs"
    import shutil

    import talkgen.configuration

    shutil.copytree(config_folder(), folder)
    original = OmegaConf.load(folder / "experiment/sync_expert.yaml")
    text = OmegaConf.to_yaml(OmegaConf.merge(original, typo))
    (folder / "experiment/typo.yaml").write_text("# @package _global_\n" + text)
    monkeypatch.setattr(talkgen.configuration, "config_folder", lambda: folder)
    monkeypatch.chdir(tmp_path)
    assert train(tiny_store, "experiment=typo") == 1
    assert names in capsys.readouterr().err
    assert not (tmp_path / "runs/typo-demo/checkpoints").exists()


def test_a_typo_on_the_command_line_is_refused(tiny_store, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train(tiny_store, "experiment=sync_expert", "sytem.expert.width=1") == 1
    assert "sytem" in capsys.readouterr().err
    assert train(tiny_store, "experiment=sync_expert", "+size.sync_expert.widht=1") == 1
    assert "widht" in capsys.readouterr().err

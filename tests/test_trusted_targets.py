from __future__ import annotations

import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from talkgen.configuration import config_folder
from talkgen.errors import FileError
from talkgen.trusted_targets import refuse_foreign_targets


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.exec",
        "subprocess.run",
        "talkgen.training.subprocess.run",
        "talkgen.training.run_stages",
        "talkgen.cli.main",
        "talkgen.data.prepare.shutil.rmtree",
        "talkgen.models.vqgan.vqgan.__builtins__.exec",
        "torch.load",
        "torch.hub.load",
        "torch.nn.functional.torch.load",
        "talkgen",
        "",
        "mine.Loss",
    ],
)
def test_code_that_nobody_installed_is_refused(target: str) -> None:
    with pytest.raises(FileError, match=r"config\.yaml: was refused: it would call"):
        refuse_foreign_targets({"a": [{"b": {"_target_": target}}]}, "config.yaml")


def test_a_package_of_ones_own_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKGEN_TRUST", "theirs, mine")
    refuse_foreign_targets({"_target_": "mine.Loss"}, "config.yaml")
    with pytest.raises(FileError, match="set TALKGEN_TRUST=others"):
        refuse_foreign_targets({"_target_": "others.Loss"}, "config.yaml")


@pytest.mark.parametrize("group", ["system", "data"])
def test_all_that_the_configs_build_is_trusted(group: str) -> None:
    """But the trainer and loggers, which only training builds."""
    for file in (config_folder() / group).glob("*.yaml"):
        refuse_foreign_targets(OmegaConf.to_container(OmegaConf.load(file), resolve=False), file)


def test_looking_is_no_importing() -> None:
    """A config names the data of its training as well, and with them Lightning."""
    code = (
        "import sys; from talkgen.trusted_targets import refuse_foreign_targets as look;"
        "look({'_target_': 'talkgen.data.latent_data.LatentData'}, 'config.yaml');"
        "sys.exit('lightning' in sys.modules or 'talkgen.data.latent_data' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

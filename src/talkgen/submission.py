"""A training as a job of a cluster: sent by submitit, resumed by itself when it was preempted.

    python train.py experiment=diff2lip_diffusion size=paper data=hdtf trainer=slurm submit.nodes=2

sends the same command, on every node once for each GPU, and returns. Before its time is up, or when it is
preempted, SLURM wakes the job; each task then asks its training to stop, which saves a checkpoint, and
submitit puts the job into the queue again. The same command inside a job trains.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from talkgen.errors import MissingPackage, TalkgenError

SECONDS_TO_SAVE = 300  # between SLURM's warning and the end of a job
INSIDE = "TALKGEN_JOB"  # set for trainings that a job started


@dataclass(frozen=True)
class Job:
    """What to ask of the cluster.

    Attributes:
        folder: for logs and the job's description.
        cluster: ``slurm``; ``local`` runs processes on this machine, which is for trying out.
        nodes: machines.
        gpus: of each machine, a process each.
        cpus: of each process.
        hours: until the job is sent again, if it is not done.
        memory_gb: of each machine; None leaves it to the cluster.
        partition: of SLURM; None: the default one.
        more: further settings of submitit, such as ``slurm_account``.
    """

    folder: str
    cluster: str = "slurm"
    nodes: int = 1
    gpus: int = 1
    cpus: int = 8
    hours: float = 24.0
    memory_gb: float | None = None
    partition: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def parameters(self) -> dict[str, Any]:
        """As submitit takes them."""
        settings: dict[str, Any] = {
            "name": "talkgen",
            "nodes": self.nodes,
            "tasks_per_node": self.gpus,
            "cpus_per_task": self.cpus,
            "timeout_min": max(1, round(60 * self.hours)),
        }
        if self.cluster == "slurm":
            settings["slurm_gpus_per_node"] = self.gpus
            settings["slurm_signal_delay_s"] = SECONDS_TO_SAVE
            if self.partition is not None:
                settings["slurm_partition"] = self.partition
        if self.memory_gb is not None:
            settings["mem_gb"] = self.memory_gb
        return {**settings, **self.more}


class Training:
    """What a job does; submitit pickles it, and calls ``checkpoint`` when the job must end.

    Args:
        arguments: of ``talkgen train``.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self.arguments = list(arguments)
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Train to the end.

        Raises:
            TalkgenError: the training failed.
        """
        command = [sys.executable, "-m", "talkgen.cli", "train", *self.arguments]
        self._process = subprocess.Popen(command, env={**os.environ, INSIDE: "1"})
        # `checkpoint` interrupts this from a signal, and could not wait for a process that is waited for.
        while (code := self._process.poll()) is None:
            time.sleep(0.2)
        if code:
            raise TalkgenError(f"the training ended with exit code {code}: {' '.join(command)}")
        return code

    def checkpoint(self) -> Any:
        """Have the training save, and the job sent again: the same command goes on from there."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + SECONDS_TO_SAVE - 20
            while self._process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.2)
        return DelayedSubmission(Training(self.arguments))

    def __getstate__(self) -> dict[str, Any]:
        """A process is no part of a description."""
        return {"arguments": self.arguments, "_process": None}


def inside_job() -> bool:
    """Whether this process was started by a job."""
    return INSIDE in os.environ


def submit(job: Job, arguments: Sequence[str]) -> Any:
    """Send a training.

    Args:
        job: what to ask for.
        arguments: of ``talkgen train``.

    Returns:
        submitit's job.

    Raises:
        MissingPackage: submitit is absent.
        TalkgenError: there is no such cluster here.
    """
    try:
        import submitit
    except ImportError as error:
        raise MissingPackage(
            "jobs of a cluster need the package submitit: pip install 'talkgen[slurm]'"
        ) from error
    try:
        executor = submitit.AutoExecutor(folder=job.folder, cluster=job.cluster)
        executor.update_parameters(**job.parameters())
        return executor.submit(Training(arguments))
    except (RuntimeError, submitit.core.utils.FailedJobError, FileNotFoundError) as error:
        raise TalkgenError(
            f"the job could not be sent to {job.cluster}: {str(error).splitlines()[0]}"
        ) from error

"""MediaPipe beside the rest of the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from talkgen import weights

pytest.importorskip("mediapipe")

AFTER_A_TRAINING = """
import os, signal
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from talkgen.faces.mesh import FaceMesh

FaceMesh()
# as at the end of Trainer.fit
for number, handler in _SignalConnector._get_current_signal_handlers().items():
    if handler is not None:
        signal.signal(number, handler)
os.kill(os.getpid(), signal.SIGPROF)  # as a tick of MediaPipe's profiler
print("alive")
"""


@pytest.mark.skipif(not weights.available("face_landmarker"), reason="needs the weights of MediaPipe's mesh")
def test_its_profiler_does_not_kill_a_training():
    done = subprocess.run([sys.executable, "-c", AFTER_A_TRAINING], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "alive" in done.stdout


@pytest.mark.skipif(not weights.available("face_landmarker"), reason="face_landmarker is not here")
def test_a_mesh_that_is_dropped_waits_for_nobody() -> None:
    from talkgen.faces.mesh import FaceMesh

    first = FaceMesh()
    landmarker = first._landmarker
    del first  # MediaPipe's clean-up in a garbage collection may wait forever
    assert FaceMesh()._landmarker is landmarker

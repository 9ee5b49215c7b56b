"""One long epoch over the loader of the data module, from anywhere."""

from __future__ import annotations

import pytest

from talkgen.data.datamodule import TalkingFaceData
from talkgen.data.windows import WindowSettings
from talkgen.errors import TalkgenError
from talkgen.systems.stream import TrainingStream


def stream(store, batches: int, workers: int = 0, batch_size: int = 8) -> TrainingStream:
    window = WindowSettings(frames=5)
    return TrainingStream(
        TalkingFaceData(str(store), window, batch_size, workers).train_dataloader(), batches
    )


def keys(batch) -> list[tuple[str, int]]:
    return list(zip(batch["clip"], batch["frame"].tolist(), strict=True))


def test_as_many_batches_as_asked_for(tiny_store):
    whole = stream(tiny_store, 11)
    assert len(whole) == 11
    assert len(list(whole)) == 11
    assert whole.epoch == 11 // len(whole.loader)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("stop", [1, 3, 4, 5, 8])
def test_goes_on_after_any_batch(tiny_store, stop, workers):
    """Including the last one of an epoch (an epoch has 4 batches)."""
    unbroken = [keys(batch) for batch in stream(tiny_store, 10, workers)]
    first, seen = stream(tiny_store, 10, workers), []
    assert len(first.loader) == 4
    for batch in first:
        seen.append(keys(batch))
        if len(seen) == stop:
            state = first.state_dict()
            break
    second = stream(tiny_store, 10, workers)
    second.load_state_dict(state)
    assert seen + [keys(batch) for batch in second] == unbroken


def test_epochs_differ(tiny_store):
    batches = [keys(batch) for batch in stream(tiny_store, 8)]
    assert batches[:4] != batches[4:]


@pytest.mark.parametrize("workers", [0, 1])
def test_one_batch_again_and_again(tiny_store, workers):
    def overfit() -> TrainingStream:
        return TrainingStream(stream(tiny_store, 1, workers).loader, 10, one_batch=True)

    first, seen = overfit(), []
    for batch in first:
        seen.append(keys(batch))
        batch.clear()  # what a step does to its batch stays with it
        if len(seen) == 6:
            state = first.state_dict()
            break
    second = overfit()
    second.load_state_dict(state)
    seen += [keys(batch) for batch in second]
    assert len(seen) == 10
    assert seen == [keys(next(iter(stream(tiny_store, 1))))] * 10


def test_an_empty_loader_is_refused():
    class Empty:
        def __len__(self) -> int:
            return 0

    with pytest.raises(TalkgenError, match="no batch"):
        TrainingStream(Empty(), 3)

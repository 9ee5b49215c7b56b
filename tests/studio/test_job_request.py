"""What the page may ask for, and what a worker is then handed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from talkgen.errors import TalkgenError
from talkgen.studio.job_request import JobOrder, read_order
from talkgen.studio.settings import StudioSettings
from talkgen.studio.trained_methods import find_methods
from talkgen.studio.uploads import Upload, Uploads

Read = Callable[..., JobOrder]
FILES = (
    ("speaks.mp4", "video", True),
    ("silent.mp4", "video", False),
    ("speech.wav", "sound", True),
    ("face.png", "picture", False),
)


@pytest.fixture()
def read(settings: StudioSettings) -> Read:
    uploads = Uploads(settings)

    ids = {}
    for number, (name, kind, sound) in enumerate(FILES, 1):
        ids[name] = f"{number:032x}"
        end = Path(name).suffix
        uploads._known[ids[name]] = Upload(
            ids[name], "me", name, kind, f"file{end}", f"file{end}", 1.0, 64, 48, 25.0, sound, 0.0
        )
    trained = find_methods(settings.runs)

    def call(session: str = "me", **given: Any) -> JobOrder:
        usual = {"task": "generate", "target": "speaks.mp4", "variants": [{"name": "swaptalk-x"}]}
        asked = {key: ids.get(value, value) if isinstance(value, str) else value
                 for key, value in (usual | given).items()}  # fmt: skip
        return read_order(asked, session, uploads, trained, settings)[0]

    return call


def test_what_a_worker_is_handed(read: Read, settings: StudioSettings) -> None:
    order = read(text=" Hello,\n you ", voice="ada", label=True, source="face.png", variants=[
        {"name": "swaptalk-x", "options": {"order": "sync_swap", "snap": True, "space": None}}])  # fmt: skip
    (variant,) = order.variants
    assert order.text == "Hello, you" and order.audio is None and order.measure
    assert variant.title == "SwapTalk · swaptalk-x (order: lips, then swap, snap to the nearest codes: yes)"
    assert variant.values == {
        "order": "sync_swap", "space": "latent", "paste": "face", "snap": True, "choose": "size",
        "label": "synthetic",
    }  # fmt: skip
    for file in (order.target, variant.source):
        assert file is not None and Path(file).is_relative_to(settings.uploads.absolute())
    assert "watermark" not in variant.values  # it cannot be left out here


def test_regions(read: Read) -> None:
    variants = [{"name": "disenttalk-x"}]
    order = read(task="regions", target="face.png", audio="speech.wav", eyes="silent.mp4", pose="speaks.mp4",
                 variants=variants)  # fmt: skip
    values = order.variants[0].values
    assert values["disenttalk.eye"] == "copied"
    assert values["disenttalk.eye_source"].endswith("file.mp4") and values["disenttalk.pose"] is not None
    plain = read(task="regions", target="face.png", audio="speech.wav", variants=variants)
    assert not {"disenttalk.eye", "disenttalk.pose"} & plain.variants[0].values.keys()


def test_only_methods_that_swap_see_the_source(read: Read) -> None:
    two = [{"name": "swaptalk-x"}, {"name": "diff2lip-x", "options": {"diff2lip.steps": 3}}]
    order = read(task="compare", source="face.png", variants=two)
    assert [variant.source is None for variant in order.variants] == [False, True]
    assert order.variants[1].values["diff2lip.steps"] == 3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"target": None}, "Face: choose a file"),
        ({"target": "0" * 32}, "no longer here"),
        ({"target": "../speaks.mp4"}, "no longer here"),
        ({"target": 7}, "no longer here"),
        ({"target": "speech.wav"}, "speech.wav is a sound; give a picture or a video"),
        ({"source": "speaks.mp4"}, "Source: speaks.mp4 is a video; give a picture"),
        ({"session": "somebody"}, "no longer here"),
        ({"audio": "silent.mp4"}, "silent.mp4 is silent"),
        ({"audio": "speech.wav", "text": "hello"}, "either a file or a text"),
        ({"target": "face.png"}, "what shall be said?"),
        ({"target": "silent.mp4", "text": "  "}, "what shall be said?"),
        ({"text": "a" * 601}, "601 letters; at most 600"),
        ({"text": ["a"]}, "Text: give words"),
        ({"language": "fr"}, "Language: give en or zh"),
        ({"voice": "../voice"}, "Voice: choose one"),
        ({"task": "swap"}, "Source: choose a file"),
        ({"task": "swap", "source": "face.png", "variants": [{"name": "diff2lip-x"}]}, "no face-swapping"),
        ({"task": "regions"}, "regions are controlled by DisentTalk"),
        ({"eyes": "speaks.mp4"}, "tab of regions"),
        ({"variants": []}, "Method: choose one"),
        ({"variants": "swaptalk-x"}, "Method: choose one"),
        ({"variants": [{"name": "/etc"}]}, "no longer there"),
        ({"variants": [{"name": "swaptalk-x"}, {"name": "diff2lip-x"}]}, "at most 1 videos"),
        ({"task": "compare", "variants": [{"name": "swaptalk-x"}] * 5}, "at most 4 videos"),
        ({"task": "compare", "variants": [{"name": "swaptalk-x"}] * 2}, "are the same"),
        ({"variants": [{"name": "swaptalk-x", "options": {"watermark": False}}]}, "no option 'watermark'"),
        ({"variants": [{"name": "swaptalk-x", "options": {"order": "both"}}]}, "Order: give swap_sync or"),
        ({"variants": [{"name": "swaptalk-x", "options": {"snap": "yes"}}]}, "give yes or no"),
        ({"variants": [{"name": "diff2lip-x", "options": {"diff2lip.steps": 10**9}}]}, "from 1 to 100"),
        ({"variants": [{"name": "diff2lip-x", "options": {"diff2lip.steps": True}}]}, "whole number"),
        ({"variants": [{"name": "diff2lip-x", "options": []}]}, "Method: choose one"),
        ({"measure": "yes"}, "measure: give true or false"),
        ({"out": "/tmp/x.mp4"}, "nothing reads 'out'"),
    ],
)
def test_what_is_refused(read: Read, given: dict[str, Any], said: str) -> None:
    with pytest.raises(TalkgenError) as error:
        read(**given)
    assert said in str(error.value)

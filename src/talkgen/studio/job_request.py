"""What the page asks for, checked field by field, and what a worker is handed for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from talkgen.errors import TalkgenError
from talkgen.studio.settings import StudioSettings
from talkgen.studio.trained_methods import TrainedMethod, changed_words, checked_values
from talkgen.studio.uploads import Upload, Uploads

TASKS = ("generate", "compare", "regions", "swap")
MOST_VARIANTS = 4
LABEL = "synthetic"
FIELDS = {
    *("task", "target", "source", "audio", "text", "language", "voice", "eyes", "pose", "still"),
    *("variants", "label", "measure"),
}


@dataclass(frozen=True)
class Variant:
    """One video of a job.

    Attributes:
        title: above it.
        method: key of ``generation.methods()``.
        folder: of the trained stages.
        values: keys of ``configs/generate.yaml`` and their values.
        source: picture of who shall be seen, or None.
    """

    title: str
    method: str
    folder: str
    values: dict[str, Any]
    source: str | None


@dataclass(frozen=True)
class JobOrder:
    """What a worker is handed; everything in it is JSON.

    Attributes:
        task: one of ``TASKS``.
        target: picture or video of who speaks.
        audio: file with the speech, or None.
        text, language, voice: what is said instead.
        still: whether the first frame alone of the target is used, so that nothing of it moves.
        variants: what is made.
        measure: whether numbers are wanted.
        device: where networks run.
        runs: folder of runs.
        shown: role → what the page is told of the file, for the page.
    """

    task: str
    target: str
    audio: str | None
    text: str | None
    language: str
    voice: str | None
    still: bool
    variants: list[Variant]
    measure: bool
    device: str
    runs: str
    shown: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def read_order(
    given: Any,
    session: str,
    uploads: Uploads,
    trained: Sequence[TrainedMethod],
    settings: StudioSettings,
) -> tuple[JobOrder, list[Upload]]:
    """Check what a page asks for.

    Args:
        given: the JSON that came.
        session: whose it is.
        uploads: files that there are.
        trained: methods that there are.
        settings: limits.

    Returns:
        The order, and the uploads that it uses.

    Raises:
        TalkgenError: something is missing, unknown, or does not fit together.
    """
    if not isinstance(given, Mapping):
        raise TalkgenError("a request is a JSON object")
    if unknown := sorted(set(map(str, given)) - FIELDS):
        raise TalkgenError(f"nothing reads {unknown[0][:40]!r} of the request")
    task = given.get("task")
    if task not in TASKS:
        raise TalkgenError(f"task: give {', '.join(TASKS)}")
    used: dict[str, Upload] = {}

    def file(role: str, words: str, kinds: tuple[str, ...], needed: bool = False) -> str | None:
        id_ = given.get(role)
        if id_ is None:
            if needed:
                raise TalkgenError(f"{words}: choose a file")
            return None
        upload = uploads.get(id_, session) if isinstance(id_, str) else None
        if upload is None:
            raise TalkgenError(f"{words}: this file is no longer here; choose it again")
        if upload.kind not in kinds:
            raise TalkgenError(f"{words}: {upload.name} is a {upload.kind}; give a {' or a '.join(kinds)}")
        used[role] = upload
        return str(uploads.path(upload).absolute())

    target = file("target", "Face", ("picture", "video"), needed=True)
    source = file("source", "Source", ("picture",), needed=task == "swap")
    audio = file("audio", "Sound", ("sound", "video"))
    eyes = file("eyes", "Eyes", ("video",))
    pose = file("pose", "Head movement", ("video",))
    if "audio" in used and not used["audio"].has_sound:
        raise TalkgenError(f"Sound: {used['audio'].name} is silent; give a file with speech")
    text = _text(given, settings)
    language, voice = _voice(given)
    if audio is not None and text is not None:
        raise TalkgenError("the speech is either a file or a text; leave one of them out")
    if audio is None and text is None and not used["target"].has_sound:
        raise TalkgenError("what shall be said? Give a sound, or a text; the face's file has no sound")
    if (eyes or pose) and task != "regions":
        raise TalkgenError("eyes and head movement are chosen in the tab of regions")
    variants = _variants(given, str(task), trained, source, _regions(eyes, pose), text or audio)
    for name in ("still", "label", "measure"):
        if not isinstance(given.get(name, False), bool):
            raise TalkgenError(f"{name}: give true or false")
    if given.get("label", False):
        for variant in variants:
            variant.values["label"] = LABEL
    order = JobOrder(
        str(task), str(target), audio, text, language, voice, bool(given.get("still", False)), variants,
        bool(given.get("measure", True)), settings.device, str(settings.runs),
        {role: upload.shown() for role, upload in used.items()},
    )  # fmt: skip
    return order, list(used.values())


def _text(given: Mapping[str, Any], settings: StudioSettings) -> str | None:
    text = given.get("text")
    if text is None:
        return None
    if not isinstance(text, str):
        raise TalkgenError("Text: give words")
    text = " ".join(text.split())
    if len(text) > settings.text_letters:
        raise TalkgenError(f"Text: it has {len(text)} letters; at most {settings.text_letters} are taken")
    return text or None


def _voice(given: Mapping[str, Any]) -> tuple[str, str | None]:
    from talkgen.audio.speech import voices
    from talkgen.inference.request import LANGUAGES

    language, voice = given.get("language") or LANGUAGES[0], given.get("voice") or None
    if language not in LANGUAGES:
        raise TalkgenError(f"Language: give {' or '.join(LANGUAGES)}")
    if voice is not None and voice not in {one.name for one in voices()}:
        raise TalkgenError("Voice: choose one of the list")
    return str(language), None if voice is None else str(voice)


def _regions(eyes: str | None, pose: str | None) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if eyes is not None:
        values |= {"disenttalk.eye": "copied", "disenttalk.eye_source": eyes}
    if pose is not None:
        values["disenttalk.pose"] = pose
    return values


def _variants(
    given: Mapping[str, Any],
    task: str,
    trained: Sequence[TrainedMethod],
    source: str | None,
    regions: Mapping[str, Any],
    speech: str | None,
) -> list[Variant]:
    asked = given.get("variants")
    if not isinstance(asked, list) or not asked:
        raise TalkgenError("Method: choose one")
    if len(asked) > (MOST_VARIANTS if task == "compare" else 1):
        raise TalkgenError(f"at most {MOST_VARIANTS if task == 'compare' else 1} videos a job are made here")
    known = {method.name: method for method in trained}
    variants: list[Variant] = []
    for one in asked:
        if not isinstance(one, Mapping) or not isinstance(one.get("options", {}), Mapping):
            raise TalkgenError("Method: choose one")
        method = known.get(str(one.get("name")))
        if method is None:
            raise TalkgenError("Method: it is no longer there; choose another")
        if task == "regions" and method.method != "disenttalk":
            raise TalkgenError("regions are controlled by DisentTalk; choose one of its runs")
        if task == "swap" and not method.swaps:
            raise TalkgenError(f"{method.name} has no face-swapping module; choose another")
        if not method.moves_lips and speech is not None:
            raise TalkgenError(f"{method.name} has no lip-sync module; leave the speech out")
        own_source = source if method.swaps else None
        if not method.moves_lips and own_source is None:
            raise TalkgenError(f"{method.name} swaps faces only; give a source picture")
        values = checked_values(method, one.get("options", {}))
        words = changed_words(method, values)
        title = f"{method.title} · {method.name}" + (f" ({words})" if words else "")
        variants.append(Variant(title, method.method, str(method.folder), {**values, **regions}, own_source))
    seen = [(variant.folder, sorted(map(str, variant.values.items()))) for variant in variants]
    if any(seen.count(one) > 1 for one in seen):
        raise TalkgenError("two of the compared are the same; change an option of one of them")
    return variants

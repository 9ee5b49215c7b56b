"""Who plays in the demo corpus, what they say, and which clips are held out.

Identities, voices and sentences of the test split occur in no other split; validation holds sentences of
its own, spoken by people of the training split when there are few, by a person of its own otherwise.
English and Mandarin are in every split that has at least two clips.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np

from talkgen.audio.sentences import SENTENCES
from talkgen.audio.speech import Voice, voices
from talkgen.face3d.actor import Person, Styling
from talkgen.face3d.backdrop import KINDS
from talkgen.face3d.clothes import STYLES
from talkgen.face3d.lighting import gamma_of_lights
from talkgen.face3d.skin_detail import SkinDetail

LANGUAGES = ("en", "zh")
HELD_OUT_VOICES = 4
"""The last of `talkgen.audio.speech.voices` are spoken by test identities only."""
_HAIR = (
    (0.055, 0.043, 0.040),
    (0.14, 0.085, 0.055),
    (0.26, 0.16, 0.09),
    (0.42, 0.29, 0.16),
    (0.60, 0.49, 0.32),
    (0.33, 0.14, 0.07),
    (0.45, 0.44, 0.43),
)
_SHORT_CUTS = ("crop", "short", "quiff", "buzz", "short", "afro", "bald", "crop")
_LONG_CUTS = ("bob", "long", "wavy", "tied", "fringe", "long", "afro", "bob")


@dataclass(frozen=True)
class DemoSettings:
    """Size and seed of the demo corpus.

    Args:
        seed: everything follows from it.
        identities: people, at least 2.
        held_out: how many of them, the last ones, are in the test split (at most half); None: a sixth (at
            least one).
        clips_per_identity: clips in which each of them speaks as himself.
        held_out_clips: the same for people of the test split, if it is fewer; None: as many as the others.
        swaps_per_identity: of these, how many are rendered once more with another identity's face.
        seconds: length of every clip.
        size_pixels: width and height of the pictures (even).
        crf: H.264 quality.
    """

    seed: int = 0
    identities: int = 20
    held_out: int | None = None
    clips_per_identity: int = 8
    held_out_clips: int | None = None
    swaps_per_identity: int = 1
    seconds: float = 3.0
    size_pixels: int = 160
    crf: float = 16

    def __post_init__(self) -> None:
        if self.identities < 2:
            raise ValueError("the demo corpus needs at least 2 identities (one is held out)")
        if self.size_pixels % 2 or self.size_pixels < 32:
            raise ValueError(f"size_pixels must be even and at least 32, got {self.size_pixels}")
        if not 0 <= self.swaps_per_identity <= self.tested_clips:
            raise ValueError(
                f"swaps_per_identity must lie between 0 and {self.tested_clips}, the clips of a person"
            )
        if self.seconds < 1.0:
            raise ValueError(f"clips must last at least 1 second, got {self.seconds}")

    @property
    def tested(self) -> int:
        """Number of identities in the test split."""
        wanted = self.identities // 6 if self.held_out is None else min(self.held_out, self.identities // 2)
        return max(1, wanted)

    @property
    def tested_clips(self) -> int:
        """Clips of a person in the test split, as himself."""
        few = self.clips_per_identity if self.held_out_clips is None else self.held_out_clips
        return min(few, self.clips_per_identity)

    def as_dict(self) -> dict[str, float | int | None]:
        """Plain numbers, for a file."""
        return asdict(self)


TINY = DemoSettings(identities=3, clips_per_identity=2, swaps_per_identity=1, seconds=2.0, size_pixels=96)
"""For tests: nine clips in a few seconds, every split in two languages but validation."""


@dataclass(frozen=True)
class ClipPlan:
    """One clip of the corpus before it is made.

    Attributes:
        id: its name.
        split: ``train``, ``val`` or ``test``.
        performer: index of the identity who acts (and whose hair, clothes and room are seen).
        face: index of the identity whose face is seen; the performer's own but for swaps.
        take: number of the performer's clip.
        language: ``en`` or ``zh``.
        voice: who speaks.
        sentences: what is said, in order, as far as the time allows.
        swap_of: id of the clip with the performer's own face, for swaps.
        lead_seconds: silence before the first sentence; None for a random one.
    """

    id: str
    split: str
    performer: int
    face: int
    take: int
    language: str
    voice: Voice
    sentences: tuple[str, ...]
    swap_of: str | None = None
    lead_seconds: float | None = None


def split_of_identity(settings: DemoSettings, identity: int) -> str:
    """Split in which an identity appears: the last ones are for testing, one before them for validation if
    there are six."""
    if identity >= settings.identities - settings.tested:
        return "test"
    if settings.identities >= 6 and identity == settings.identities - settings.tested - 1:
        return "val"
    return "train"


def split_of_sentence(index: int) -> str:
    """Split in which the sentence of this number is said: of seven, one is for validation, two are for
    testing."""
    return ("train", "train", "test", "train", "val", "train", "test")[index % 7]


def voice_of_identity(settings: DemoSettings, identity: int) -> Voice:
    """Voice of an identity; those of test identities are heard nowhere else."""
    known = voices()
    if split_of_identity(settings, identity) == "test":
        held_out = known[-HELD_OUT_VOICES:]
        return held_out[(settings.identities - 1 - identity) % len(held_out)]
    free = known[:-HELD_OUT_VOICES]
    return free[identity % len(free)]


def plan_take(
    settings: DemoSettings, identity: int, take: int, language: str | None = None, split: str | None = None
) -> ClipPlan:
    """One clip of an identity as itself, in a language (None: they alternate) and a split (None: its own)."""
    split = split or split_of_identity(settings, identity)
    language = language or LANGUAGES[(identity + take) % 2]
    allowed = [text for i, text in enumerate(SENTENCES[language]) if split_of_sentence(i) == split]
    order = np.random.default_rng([settings.seed, 1, identity, take]).permutation(len(allowed))
    return ClipPlan(
        id=f"id{identity:03d}_{take:02d}_{language}",
        split=split,
        performer=identity,
        face=identity,
        take=take,
        language=language,
        voice=voice_of_identity(settings, identity),
        sentences=tuple(allowed[i] for i in order[: max(2, int(settings.seconds / 1.5) + 1)]),
    )


def plan_clips(settings: DemoSettings) -> list[ClipPlan]:
    """All clips of the corpus, in the order of the listing: everyone's own clips, then the swaps.

    A swap takes its face from the same side of the wall between testing and the rest. Where only one identity
    is held out, its target's face has to come from training: a known face in testing harms nothing, and a
    test face never appears in training.
    """
    own, swaps = [], []
    everyone = range(settings.identities)
    tested = [split_of_identity(settings, i) == "test" for i in everyone]
    for identity in everyone:
        mates = [i for i in everyone if i != identity and tested[i] == tested[identity]]
        if not mates and tested[identity]:
            mates = [i for i in everyone if i != identity]
        clips = settings.tested_clips if tested[identity] else settings.clips_per_identity
        for take in range(clips):
            # with few people none is left for validation alone: the last take of the first one is
            lent = settings.identities < 6 and identity == 0 and 0 < take == clips - 1
            plan = plan_take(settings, identity, take, split="val" if lent else None)
            own.append(plan)
            if mates and take < settings.swaps_per_identity and not lent:
                face = mates[(identity + take) % len(mates)]
                swaps.append(replace(plan, id=f"{plan.id}_face{face:03d}", face=face, swap_of=plan.id))
    return own + swaps


def identity_name(identity: int) -> str:
    """Name of an identity in the manifest."""
    return f"demo{identity:03d}"


def cast(settings: DemoSettings, identity: int) -> Person:
    """Shape, skin and fine traits of an identity."""
    random = np.random.default_rng([settings.seed, 2, identity])
    male = identity % 2 == 1  # the voices alternate, too
    shape = 0.80 * np.clip(random.normal(size=80), -1.9, 1.9)
    texture = 0.85 * np.clip(random.normal(size=80), -1.9, 1.9)
    # complexions are spread evenly over the cast rather than drawn, so that a small cast is varied, too
    texture[0] = -1.5 + 3.0 * ((identity * 0.382 + 0.15) % 1.0)
    hair = np.array(_hair_colour(settings, identity))
    beard = male and random.uniform() < 0.30
    detail = SkinDetail(
        seed=int(random.integers(2**31)),
        brow=float(random.uniform(0.70, 0.92)),
        brow_thickness=float(random.uniform(0.9, 1.4) if male else random.uniform(0.6, 0.95)),
        brow_tint=tuple(np.clip(hair * 0.8 + 0.10, 0.12, 0.42)),
        freckles=float(random.uniform(0.3, 1.0)) if random.uniform() < 0.2 else 0.0,
        stubble=float(random.uniform(0.2, 0.8)) if male and not beard and random.uniform() < 0.6 else 0.0,
        beard=float(random.uniform(0.75, 0.95)) if beard else 0.0,
        lines=float(random.uniform(0.05, 0.6)),
        makeup=0.0 if male else float(random.uniform(0.2, 0.9)),
    )
    return Person(shape, texture, detail)


def _hair_colour(settings: DemoSettings, identity: int) -> tuple[float, float, float]:
    random = np.random.default_rng([settings.seed, 3, identity])
    return _HAIR[int(random.choice(len(_HAIR), p=(0.24, 0.22, 0.18, 0.12, 0.10, 0.06, 0.08)))]


def style(settings: DemoSettings, identity: int, take: int) -> Styling:
    """Hair of an identity, and what the take adds: clothes, room and light."""
    male = identity % 2 == 1
    random = np.random.default_rng([settings.seed, 4, identity, take])
    cuts = _SHORT_CUTS if male else _LONG_CUTS
    side = random.choice((-1.0, 1.0))
    key = np.array((side * random.uniform(0.15, 0.95), random.uniform(0.3, 0.9), random.uniform(0.7, 1.0)))
    fill = np.array((-side * random.uniform(0.5, 1.0), random.uniform(-0.1, 0.4), random.uniform(0.4, 0.8)))
    warmth = random.uniform(-0.05, 0.05)
    strength = random.uniform(0.48, 0.68)
    gamma = gamma_of_lights(
        np.stack([key, fill]),
        np.array([(1.0 + warmth, 1.0, 1.0 - warmth), (1.0 - warmth, 1.0, 1.0 + warmth)])
        * ((strength,), (random.uniform(0.12, 0.30),)),
        np.full(3, random.uniform(0.42, 0.54)),
    )

    def fabric(dark: float, light: float) -> tuple[float, float, float]:
        hue, saturation, value = random.uniform(), random.uniform(0.05, 0.6), random.uniform(dark, light)
        k = (np.array([5.0, 3.0, 1.0]) + hue * 6) % 6
        red, green, blue = value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)
        return float(red), float(green), float(blue)

    clothes = STYLES[(identity * 5 + take * 2 + settings.seed) % len(STYLES)]
    return Styling(
        haircut=cuts[(identity // 2 + settings.seed) % len(cuts)],
        hair_colour=_hair_colour(settings, identity),
        clothes=clothes,
        clothes_colour=fabric(0.10, 0.26) if clothes == "suit" else fabric(0.15, 0.75),
        second_colour=fabric(0.35, 0.8),
        backdrop=KINDS[(identity + 2 * take + settings.seed) % len(KINDS)],
        gamma=gamma,
        seed=int(random.integers(2**31)),
        breadth=float(random.uniform(0.98, 1.12) if male else random.uniform(0.84, 0.95)),
    )

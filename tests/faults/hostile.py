"""Files that somebody made to do harm: they are refused or served, and nothing in them is ever run."""

from __future__ import annotations

import io
import os
import pickle
import resource
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from kills import LIMIT_SECONDS, write_base
from nursery import Nursery
from square_faces import film, speech
from tally import Tally

from talkgen.errors import TalkgenError

CANARY = "touched-by-hostile-code"
SIDE = 30_000  # pixels
# What a shell would run, and what a path would climb out of.
NAMES = (
    f"a; touch {CANARY}",
    f"$(touch {CANARY})",
    f"`touch {CANARY}`",
    f"a && touch {CANARY}",
    f"| touch {CANARY}",
    f"a\ntouch {CANARY}",
    *("-rf", "--help", "a'b", 'a"b', "a b", "*", "?", "%s%n", "{a,b}", "${HOME}", "~", "#a", "a..b", "a\\b"),
    *("a=b", "a,b", "[a]", "\u202egnp.a", "ü你好", "con", "a" * 120),
)


class Touch:
    """Pickles to something that makes a file when it is read carelessly."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {CANARY}",)


def refused(tally: Tally, what: str, attempt: Callable[[], object], served: bool = False) -> None:
    """Try something that has to be refused, or at least do nothing."""
    try:
        attempt()
    except TalkgenError:
        outcome = "refused"
    except BaseException as error:
        tally.fail(f"{what}: {type(error).__name__}: {error}")
        return
    else:
        outcome = "served"
    touched = [place for place in (Path(CANARY), Path.home() / CANARY) if place.exists()]
    if touched:
        tally.fail(f"{what}: code was run")
        for place in touched:
            place.unlink()
    elif outcome == "refused":
        tally.refuse()
    elif served:
        tally.survive()
    else:
        tally.fail(f"{what}: it was taken")


# Code in files ----------------------------------------------------------------------------------------------


def pickled_code(room: Path) -> list[Tally]:
    """Checkpoints, arrays, models, caches and configs that would run a command when they are read."""
    import torch
    from tiny import write_tiny_store, write_tiny_swaptalk

    from talkgen.checkpoints import load_checkpoint, load_published, published_weights
    from talkgen.configuration import RunFolder
    from talkgen.data.clip import RawClip
    from talkgen.data.store import Store
    from talkgen.face3d.flame import convert_flame
    from talkgen.face3d.model_files import open_morphable_model
    from talkgen.face3d.subspaces import Subspaces
    from talkgen.inference.runs import load_network
    from talkgen.metrics.feature_cache import FeatureCache
    from talkgen.models.experts.array_pickle import read_arrays
    from talkgen.npz import read_npz

    room.mkdir(parents=True)
    os.chdir(room)
    tally = Tally("code in pickles, arrays and configs")
    code, weights = Touch(), {"weight": torch.ones(5, 7), "bias": torch.ones(5)}
    for suffix in (".ckpt", ".pt", ".pth"):
        torch.save({"state_dict": weights, "callbacks": code}, f"zip{suffix}")
        torch.save(
            {"state_dict": weights, "callbacks": code}, f"old{suffix}", _use_new_zipfile_serialization=False
        )
        Path(f"bare{suffix}").write_bytes(pickle.dumps(code))
    for file in sorted(room.glob("*.*")):
        refused(tally, f"load_checkpoint {file.name}", lambda file=file: load_checkpoint(file))
        linear = torch.nn.Linear(7, 5)
        # the weights beside it may be used; what would run is replaced by something inert
        refused(
            tally,
            f"load_published {file.name}",
            lambda file=file, net=linear: load_published(net, file),
            served=True,
        )
        refused(
            tally, f"published_weights {file.name}", lambda file=file: published_weights(file), served=True
        )
        refused(tally, f"read_arrays {file.name}", lambda file=file: read_arrays(file))
    objects = np.array([code], object)
    names_of_arrays = "landmarks neutral expr ident names directions sizes readers v_template shapedirs"
    np.savez("objects.npz", **dict.fromkeys(names_of_arrays.split(), objects))
    np.save("objects.npy", objects)
    refused(tally, "read_npz", lambda: read_npz("objects.npz"))
    refused(tally, "open_morphable_model npz", lambda: open_morphable_model("objects.npz"))
    refused(tally, "Subspaces.load", lambda: Subspaces.load("objects.npz"))
    for file in ("bare.pt", "objects.npy", "objects.npz"):
        shutil.copyfile(file, "model.pkl")
        refused(
            tally,
            f"convert_flame {file}",
            lambda: convert_flame("model.pkl", "objects.npz", Path("out.npz")),
        )
        refused(tally, f"open_morphable_model pkl {file}", lambda: open_morphable_model("model.pkl"))
    cache = FeatureCache(room / "cache", 10**9)
    (room / "cache" / "ab").mkdir(parents=True)
    shutil.copyfile("objects.npy", room / "cache" / "ab" / "cd.npy")
    refused(tally, "FeatureCache", lambda: cache.get("abcd"), served=True)

    store = write_tiny_store(room / "store")
    film(room / "film.mp4", 14, sound=speech(0.56))
    from readers import prepare_clips

    clip = RawClip("clip", "demo", "train", "film.mp4", "somebody", truth="objects.npz")
    refused(tally, "truth of a clip", lambda: prepare_clips(room, [clip]))
    shutil.copyfile("objects.npy", store / "index.npy")
    refused(tally, "index of a store", lambda: Store.open(store))
    description = (store / "store.json").read_text()
    import hashlib
    import json

    forged = json.loads(description)
    forged["index_sha256"] = hashlib.sha256((store / "index.npy").read_bytes()).hexdigest()
    (store / "store.json").write_text(json.dumps(forged))
    refused(tally, "index of a store, with its checksum", lambda: Store.open(store))

    shutil.rmtree(store)
    method = write_tiny_swaptalk(room / "methods" / "tiny", write_tiny_store(store))
    run = RunFolder(method / "swaptalk_vqgan")
    sound = run.config.read_text()
    torch.save({"state_dict": weights, "callbacks": code}, run.last)
    refused(tally, "checkpoint of a run", lambda: load_network(run, "vqgan"))
    for text in (
        sound.replace("talkgen.models.vqgan.vqgan.build_vqgan", "os.system"),
        sound.replace(
            "talkgen.models.vqgan.vqgan.build_vqgan\n",
            f"subprocess.getoutput\n    cmd: touch {CANARY}\n    _args_: [touch {CANARY}]\n",
        ),
        f"system:\n  _target_: a\n  vqgan:\n    _target_: os.system\n    _args_: ['touch {CANARY}']\n",
        f"system:\n  _target_: a\n  vqgan:\n    _target_: talkgen.models.vqgan.vqgan.build_vqgan\n"
        f"    codes: {{_target_: builtins.exec, _args_: ['import os; os.system(\"touch {CANARY}\")']}}\n",
        f"system: !!python/object/apply:os.system ['touch {CANARY}']\n",
        "system: {_target_: a, vqgan: '${oc.env:HOME}'}\nx: !!python/name:os.system\n",
    ):
        run.config.write_text(text)
        refused(tally, f"config of a run: {text[:60]!r}", lambda: load_network(run, "vqgan"))
    return [tally]


# Archives ---------------------------------------------------------------------------------------------------


def archives(room: Path) -> list[Tally]:
    """Members that climb out of the folder, are links, or unpack to far more than they are."""
    from talkgen.download import copy_member

    room.mkdir(parents=True)
    os.chdir(room)
    folder = room / "weights"
    folder.mkdir()
    climbing = ("../escaped", "/tmp/escaped", "a/../../escaped", "..\\escaped", "weights.pt/../../escaped")
    tally = Tally("archives of weights: paths and links that lead outside")
    before = sorted(room.rglob("*"))
    for name in climbing:
        with zipfile.ZipFile("a.zip", "w") as archive:
            archive.writestr(name, "x")
            archive.writestr("net/weights.pt", "right")
        _copied(tally, f"zip {name}", Path("a.zip"), folder, copy_member)
        with tarfile.open("a.tar", "w") as tar:
            for member, content in ((name, b"x"), ("net/weights.pt", b"right")):
                entry = tarfile.TarInfo(member)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        _copied(tally, f"tar {name}", Path("a.tar"), folder, copy_member)
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        with tarfile.open("a.tar", "w") as tar:
            entry = tarfile.TarInfo("net/weights.pt")
            entry.type, entry.linkname = kind, "/etc/passwd"
            tar.addfile(entry)
        _copied(tally, f"tar member of type {kind!r}", Path("a.tar"), folder, copy_member)
    left = [
        file for file in sorted(room.rglob("*")) if file not in before and file.suffix not in (".zip", ".tar")
    ]
    if left or Path("/tmp/escaped").exists():
        tally.fail(f"written outside: {left}")

    bombs = Tally("archives of weights: bombs", note="a file of 1 GB in one of 1 MB, where 100 MB are wanted")
    with (
        zipfile.ZipFile("bomb.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open("net/weights.pt", "w", force_zip64=True) as member,
    ):
        for _ in range(64):
            member.write(bytes(2**24))
    out = folder / "weights.pt"
    refused(bombs, "zip", lambda: copy_member(Path("bomb.zip"), "weights.pt", out, "bomb.zip", limit=10**8))
    with tarfile.open("bomb.tar.gz", "w:gz", compresslevel=9) as tar:
        entry = tarfile.TarInfo("net/weights.pt")
        entry.size = 2**30
        tar.addfile(entry, _Zeros(entry.size))
    refused(
        bombs, "tar", lambda: copy_member(Path("bomb.tar.gz"), "weights.pt", out, "bomb.tar.gz", limit=10**8)
    )
    if any(file.stat().st_size > 10**8 for file in folder.iterdir()):
        bombs.fail("the disk was filled")
    return [tally, bombs]


class _Zeros(io.RawIOBase):
    def __init__(self, size: int) -> None:
        self.left = size

    def read(self, size: int = -1) -> bytes:
        size = min(size if size >= 0 else self.left, self.left)
        self.left -= size
        return bytes(size)


def _copied(tally: Tally, what: str, archive: Path, folder: Path, copy: Callable[..., None]) -> None:
    out = folder / "weights.pt"
    try:
        copy(archive, "weights.pt", out, what)
    except TalkgenError:
        tally.refuse()
        return
    if out.read_bytes() == b"right":
        tally.survive()
    else:
        tally.fail(f"{what}: {out.read_bytes()!r} was taken for the weights")
    out.unlink()


# Pictures ---------------------------------------------------------------------------------------------------


def huge_png(side: int) -> bytes:
    """A black png."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    pressed, row = zlib.compressobj(9), bytes(1 + side * 3)
    content = b"".join([*(pressed.compress(row) for _ in range(side)), pressed.flush()])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def huge_pictures(nursery: Nursery, room: Path) -> list[Tally]:
    """Pictures of 30,000 pixels a side, shown to generate and prepare, within 2 GB more than they have."""
    room.mkdir(parents=True)
    picture = huge_png(SIDE)
    (room / "huge.png").write_bytes(picture)
    header = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, SIDE, SIDE, 1, 24, 0, 0, 0, 0, 0, 0)
    (room / "huge.bmp").write_bytes(header)
    frame = b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 17, 8, SIDE, SIDE, 3) + b"\1\x11\0\2\x11\1\3\x11\1"
    (room / "huge.jpg").write_bytes(
        frame + b"\xff\xda\0\x0c\3\1\0\2\x11\3\x11\0\x3f\0" + bytes(1000) + b"\xff\xd9"
    )
    tally = Tally(f"pictures of {SIDE} × {SIDE} pixels", note="read as source, and prepared")
    for name in ("huge.png", "huge.bmp", "huge.jpg"):
        for function in ("read_huge", "prepare_huge"):
            ended = nursery.start(f"hostile:{function}", [name], room).end(60)
            if ended.code == 0 and "refused" in ended.said:
                tally.refuse()
            else:
                tally.fail(f"{function} {name}: exit code {ended.code}: {ended.said[-300:]}")
    return [tally]


def _bounded(attempt: Callable[[], object]) -> int:
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + 2 * 2**30, mapped + 2 * 2**30))
    try:
        attempt()
    except TalkgenError as error:
        print(f"refused: {error}")
        return 0
    return 1


def read_huge(name: str) -> int:
    """In a child: as a source."""
    from talkgen.inference.target_video import read_picture

    return _bounded(lambda: read_picture(name))


def prepare_huge(name: str) -> int:
    """In a child: as a clip of a corpus of pictures."""
    from readers import prepare_clips

    from talkgen.data.clip import RawClip

    return _bounded(lambda: prepare_clips(Path(), [RawClip("a", "images", "train", name, "a")]))


# Names and links --------------------------------------------------------------------------------------------


def names(nursery: Nursery, room: Path) -> list[Tally]:
    """Files, runs and folders whose names a shell would run: generated and prepared as any other."""
    room.mkdir(parents=True)
    write_base(room / "base")
    made = Tally("names that a shell would run: generate", note="as face and as output")
    corpus = room / "corpus"
    corpus.mkdir()
    one = film(room / "film.mp4", 26, sound=speech(1.04)).read_bytes()
    folder = room / "jobs"
    folder.mkdir()
    import csv

    with (folder / "jobs.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(("face", "out"))
        for name in NAMES:
            (folder / f"{name}.mp4").write_bytes(one)
            (corpus / f"{name}.mp4").write_bytes(one)
            table.writerow((f"{name}.mp4", f"made/{name}.mp4"))
    method = room / "base" / "methods" / "swaptalk-tiny"
    ended = nursery.start(
        "commands:talkgen_with_squares",
        [["generate", "batch=jobs.csv", f"run={method}", "device=cpu"]],
        folder,
    ).end(LIMIT_SECONDS)
    written = {file.name for file in (folder / "made").glob("*")} if (folder / "made").is_dir() else set()
    for name in NAMES:
        if f"{name}.mp4" in written:
            made.survive()
        else:
            made.fail(f"{name!r}: nothing was written: {ended.said[-300:]}")
    prepared = Tally("names that a shell would run: prepare")
    arguments = [
        "prepare", "corpus=folder", f"source={corpus}", "out=store; touch x", "executor=serial",
        "settings.size=32", "settings.speech=energy", "settings.filters.min_face_pixels=8",
        "settings.filters.min_sharpness=0", "settings.filters.min_speech_ratio=0", "progress=false",
    ]  # fmt: skip
    ended = nursery.start("commands:talkgen_with_squares", [arguments], room).end(LIMIT_SECONDS)
    from talkgen.data.store import Store

    if ended.code == 0:
        kept = {Path(clip.video).name for clip in Store.open(room / "store; touch x").clips}
        for name in NAMES:
            if f"{name}.mp4" in kept:
                prepared.survive()
            else:
                prepared.fail(f"{name!r} was not prepared: {ended.said[-300:]}")
    else:
        prepared.fail(ended.said[-400:])
    touched = [*room.rglob(CANARY), *room.rglob("x")]
    if touched:
        made.fail(f"a name was run: {touched}")
    return [made, prepared]


def links(nursery: Nursery, room: Path) -> list[Tally]:
    """A corpus with links that lead outside, in circles, to nowhere: nothing outside is changed or shown."""
    room.mkdir(parents=True)
    tally = Tally("links in a corpus that lead outside, in circles, to nowhere")
    corpus, outside = room / "corpus", room / "outside"
    corpus.mkdir()
    outside.mkdir()
    film(corpus / "good.mp4", 26, sound=speech(1.04))
    secret = outside / "secret.txt"
    secret.write_text("the secret words\n" * 100)
    film(outside / "film.mp4", 26, sound=speech(1.04))
    (corpus / "secret.mp4").symlink_to(secret)
    (corpus / "circle").symlink_to(corpus)
    (corpus / "circle.mp4").symlink_to("circle.mp4")
    (corpus / "gone.mp4").symlink_to("nowhere.mp4")
    (corpus / "device.mp4").symlink_to("/dev/zero")
    (corpus / "memory.mp4").symlink_to("/proc/self/mem")
    (corpus / "linked.mp4").symlink_to(outside / "film.mp4")  # many corpora are folders of links
    before = {file: file.read_bytes() for file in outside.iterdir()}
    arguments = [
        "prepare", "corpus=folder", f"source={corpus}", "out=store", "executor=serial", "settings.size=32",
        "settings.speech=energy", "settings.filters.min_face_pixels=8", "settings.filters.min_sharpness=0",
        "settings.filters.min_speech_ratio=0", "progress=false",
    ]  # fmt: skip
    ended = nursery.start("commands:talkgen_with_squares", [arguments], room).end(60)
    from talkgen.data.store import Store

    if ended.code or "Traceback" in ended.said:
        tally.fail(f"exit code {ended.code}: {ended.said[-400:]}")
        return [tally]
    kept = {Path(clip.video).name for clip in Store.open(room / "store").clips}
    if kept != {"good.mp4", "linked.mp4"}:
        tally.fail(f"kept {kept}")
    else:
        tally.survive(2)
        tally.refuse(6)
    said = ended.said + (room / "store" / "rejects.csv").read_text()
    if "secret words" in said or before != {file: file.read_bytes() for file in outside.iterdir()}:
        tally.fail("what lies outside was shown or changed")
    return [tally]

"""Content Credentials (C2PA): a signed statement inside a video of how it was made.

Signing needs the package ``c2pa-python`` (``pip install "talkgen[provenance]"``) and a certificate of who
generates; ``docs/provenance.md`` shows how to make one. Two variables of the environment switch it on, so
that whatever writes generated video on a machine signs it::

    TALKGEN_C2PA_CERTIFICATE=chain.pem   # the signer's certificate, then those that vouch for it
    TALKGEN_C2PA_KEY=sign.key            # its ES256 private key, PKCS 8

The specification: https://spec.c2pa.org. ``compositeWithTrainedAlgorithmicMedia`` is IPTC's word for what
these methods make: real footage with a part that a trained model generated.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from talkgen import __version__
from talkgen.errors import FileError, MissingPackage

CERTIFICATE, KEY = "TALKGEN_C2PA_CERTIFICATE", "TALKGEN_C2PA_KEY"
SUFFIXES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime"}
"""Containers that can hold a manifest; Matroska cannot."""

_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"


@dataclass(frozen=True)
class Credentials:
    """What a file's manifest says.

    Attributes:
        generator: program that made the claim.
        signer: organisation in the certificate; None: it names none.
        synthetic: whether the manifest says that a trained model made it, or part of it.
        state: ``Valid`` (unchanged since it was signed), ``Trusted`` (and by a known authority), ``Invalid``.
    """

    generator: str
    signer: str | None
    synthetic: bool
    state: str


def signing_wanted(file: Path) -> bool:
    """Whether the environment names a certificate and a key, and the container can hold a manifest."""
    named = [bool(os.environ.get(name)) for name in (CERTIFICATE, KEY)]
    if any(named) and not all(named):
        raise FileError(file, f"cannot be signed: set both {CERTIFICATE} and {KEY}, or neither")
    return all(named) and file.suffix.lower() in SUFFIXES


def sign(unsigned: Path, signed: Path, title: str) -> None:
    """Copy a video with a manifest inside that says that it was generated.

    Args:
        unsigned: the finished file.
        signed: where the copy goes; it has another name.
        title: name of the video in the manifest.

    Raises:
        MissingPackage: c2pa-python is not installed.
        FileError: certificate or key are missing or do not belong together.
    """
    c2pa = _library()
    texts = {}
    for name in (CERTIFICATE, KEY):
        file = Path(os.environ[name])
        if not file.is_file():
            raise FileError(file, f"no such file; {name} names it")
        texts[name] = file.read_bytes()
    agent = {"name": "talkgen", "version": __version__}
    action = {"action": "c2pa.created", "digitalSourceType": _SOURCE_TYPE, "softwareAgent": agent}
    manifest = {
        "claim_generator_info": [agent],
        "title": title,
        "format": SUFFIXES[unsigned.suffix.lower()],
        "assertions": [{"label": "c2pa.actions", "data": {"actions": [action]}}],
    }
    try:
        info = c2pa.C2paSignerInfo(b"es256", texts[CERTIFICATE], texts[KEY], None)
        c2pa.Builder(manifest).sign_file(unsigned, signed, c2pa.Signer.from_info(info))
    except c2pa.C2paError as error:
        raise FileError(
            os.environ[CERTIFICATE], f"cannot sign with it ({error}); see docs/provenance.md"
        ) from error


def read_credentials(file: str | Path) -> Credentials | None:
    """What the manifest of a file says; None where it has none.

    Raises:
        MissingPackage: c2pa-python is not installed.
    """
    c2pa = _library()
    if Path(file).suffix.lower() not in SUFFIXES:
        return None
    try:
        reader = c2pa.Reader(str(file))
    except c2pa.C2paError:  # no manifest, or a container that cannot be read
        return None
    with reader:
        told = json.loads(reader.json())
        state = str(reader.get_validation_state())
    manifest = told["manifests"][told["active_manifest"]]
    made_by = manifest.get("claim_generator_info") or [{"name": "unknown"}]
    actions = [
        action
        for assertion in manifest.get("assertions", ())
        if str(assertion.get("label", "")).startswith("c2pa.actions")
        for action in assertion["data"].get("actions", ())
    ]
    kinds = [str(action.get("digitalSourceType", "")) for action in actions]
    return Credentials(
        str(made_by[0].get("name")),
        manifest.get("signature_info", {}).get("issuer"),
        any(kind.rsplit("/", 1)[-1].lower().endswith("trainedalgorithmicmedia") for kind in kinds),
        state,
    )


def _library() -> ModuleType:
    try:
        import c2pa
    except ImportError as error:
        raise MissingPackage(
            'Content Credentials need c2pa-python: pip install "talkgen[provenance]"'
        ) from error
    return c2pa  # type: ignore[no-any-return]

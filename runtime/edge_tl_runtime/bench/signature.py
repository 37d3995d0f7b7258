"""A signature over a result, Ed25519 (RFC 8032), so that figures that travel can be told from figures that were made up.

It says that whoever holds the key signed these very figures; that the device measured them honestly it cannot say.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.files import read_regular
from edge_tl_runtime.core.text import one_line

PrivateKey = Any
PublicKey = Any
"""Ed25519PrivateKey and Ed25519PublicKey of cryptography, which is loaded when somebody signs."""

ALGORITHM = "ed25519"
_PURPOSE = b"edge-tl bench result\n"
"""Signed before the digest, so that a signature made for something else is none for a result."""
_MAX_KEY_BYTES = 2**16


def private_key(path: Path) -> PrivateKey:
    """The key of an unencrypted PEM file, as `openssl genpkey -algorithm ed25519` makes it. Raises UsageError."""
    serialization, ed25519 = (
        _library("hazmat.primitives.serialization"),
        _library("hazmat.primitives.asymmetric.ed25519"),
    )
    try:
        key = serialization.load_pem_private_key(_read(path), None)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path} is no private key without a password in PEM ({one_line(error)}); {_MAKE}") from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise UsageError(f"{path} is a key of another kind than Ed25519; {_MAKE}")
    return key


def public_key(path: Path) -> PublicKey:
    """The key of a PEM file, as `openssl pkey -in KEY -pubout` makes it. Raises UsageError."""
    serialization, ed25519 = (
        _library("hazmat.primitives.serialization"),
        _library("hazmat.primitives.asymmetric.ed25519"),
    )
    try:
        key = serialization.load_pem_public_key(_read(path))
    except ValueError as error:
        raise UsageError(f"{path} is no public key in PEM ({one_line(error)}); {_PUBLIC}") from None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise UsageError(f"{path} is a key of another kind than Ed25519; {_PUBLIC}")
    return key


def signed(document: dict[str, Any], key: PrivateKey) -> dict[str, Any]:
    """The document with its checksum with a signature over its digest."""
    signature = {
        "algorithm": ALGORITHM,
        "public_key": key.public_key().public_bytes_raw().hex(),
        "value": key.sign(_PURPOSE + document["sha256"].encode("ascii")).hex(),
    }
    return {**document, "signature": signature}


def check_signature(document: dict[str, Any], key: PublicKey) -> None:
    """Raises UsageError unless the document, whose digest `read_result` has checked, was signed by this key."""
    signature = document.get("signature")
    if not isinstance(signature, dict):
        raise UsageError("the result has no signature; measure again with --sign KEY")
    try:
        value = bytes.fromhex(str(signature.get("value")))
        key.verify(value, _PURPOSE + document["sha256"].encode("ascii"))
    except (ValueError, _library("exceptions").InvalidSignature):
        raise UsageError("the signature is not that of this key; ask who measured for the right public key") from None


def _library(name: str) -> Any:
    try:
        return importlib.import_module(f"cryptography.{name}")
    except ModuleNotFoundError:
        raise UsageError(
            "signatures need cryptography, which is not installed here; run: pip install 'edge-tl[sign]'"
        ) from None


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, _MAX_KEY_BYTES)
    except OSError as error:
        raise UsageError(f"cannot read the key {path}: {error.strerror}; check the path") from None


_MAKE = "make one: openssl genpkey -algorithm ed25519 -out key.pem"
_PUBLIC = "make it of the private one: openssl pkey -in key.pem -pubout -out public.pem"

"""Which results of a benchmark are believed, what its ledger keeps, and whose signature holds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tl_runtime.bench.ledger import DiskLedger
from edge_tl_runtime.bench.result import KIND, read_result, with_digest, write_result
from edge_tl_runtime.core.errors import UsageError

# The ledger


def test_a_ledger_keeps_documents_and_takes_damaged_ones_for_none(tmp_path):
    ledger = DiskLedger(tmp_path / "r.json", {"model": "a"})
    ledger.put("piece ผึ้ง", {"right": [1, 0], "name": "ผึ้ง"})
    again = DiskLedger(tmp_path / "r.json", {"model": "a"})
    assert (ledger.resumed, again.resumed) == (False, True)
    assert again.get("piece ผึ้ง") == {"right": [1, 0], "name": "ผึ้ง"}
    assert again.get("other") is None
    (path,) = (path for path in again.folder.iterdir() if path.name != "identity.json")
    whole = path.read_bytes()
    for damaged in (whole[:-1], b"", whole.replace(b"[1, 0]", b"[1, 1]"), b"\xff" + whole):
        path.write_bytes(damaged)
        assert again.get("piece ผึ้ง") is None
    again.discard()
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_of_something_else_is_refused_by_name(tmp_path):
    DiskLedger(tmp_path / "r.json", {"model": "a", "machine": 1})
    with pytest.raises(UsageError, match="differs in machine"):
        DiskLedger(tmp_path / "r.json", {"model": "a", "machine": 2})


# The result


RESULT = with_digest(
    {
        "format": 1,
        "kind": KIND,
        "model": {"name": "ผึ้ง.onnx"},
        "machine": {},
        "session": {},
        "settings": {"seed": 0},
        "parts": {"latency": {"p50_ms": 1.25, "queries": 1024}},
        "runs": {},
        "absent": {"square": "no photos"},
        "ended": "2025-01-31T12:00:00Z",
    }
)


def test_a_result_reads_back_as_it_was_written_whatever_its_layout(tmp_path):
    path = tmp_path / "r.json"
    write_result(path, RESULT)
    assert read_result(path) == RESULT
    path.write_text(json.dumps(RESULT, sort_keys=True, separators=(",", ":")))
    assert read_result(path) == RESULT


@given(data=st.data())
def test_a_result_of_which_anything_was_altered_is_refused(data, tmp_path_factory):
    altered = json.loads(json.dumps(RESULT))
    keys = [key for key in altered if key not in ("format", "kind")]
    key = data.draw(st.sampled_from(keys))
    altered[key] = data.draw(st.none() | st.integers() | st.text() | st.dictionaries(st.text(), st.integers()))
    if altered == RESULT:
        return
    path = tmp_path_factory.mktemp("result") / "r.json"
    write_result(path, altered)
    with pytest.raises(UsageError, match="altered"):
        read_result(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is no result"),
        ("[" * 100_000, "is no result"),
        ("[]", "is no result"),
        (
            '{"kind": "edge-tl bench", "format": 2}',
            "is newer than this edge-tl: its format is 2, and this edge-tl reads 1; upgrade",
        ),
        (json.dumps(RESULT).replace("1.25", "1.05"), "altered"),
        (json.dumps(with_digest({**RESULT, "parts": []})), "damaged: parts"),
    ],
    ids=["empty", "deep", "list", "newer", "figure", "shape"],
)
def test_what_is_no_result_is_refused_in_one_line(tmp_path, text, reason):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=reason) as caught:
        read_result(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="cannot read"):
        read_result(tmp_path / "none.json")


# Signatures


def key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    key, pem = ed25519.Ed25519PrivateKey.generate(), serialization.Encoding.PEM
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    plain = serialization.NoEncryption()
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def test_a_signature_is_of_one_key_and_of_one_result(tmp_path):
    ours, theirs = key_pair(tmp_path, "ours"), key_pair(tmp_path, "theirs")
    from edge_tl_runtime.bench.signature import check_signature, private_key, public_key, signed

    document = signed(RESULT, private_key(ours[0]))
    write_result(tmp_path / "r.json", document)
    read = read_result(tmp_path / "r.json")
    check_signature(read, public_key(ours[1]))
    other = with_digest({**RESULT, "ended": "later"})
    cases = [(read, theirs[1]), ({**other, "signature": read["signature"]}, ours[1]), (RESULT, ours[1])]
    for subject, key in cases:
        with pytest.raises(UsageError, match="signature"):
            check_signature(subject, public_key(key))
    for value in ("zz", "00", None):
        broken = {**read, "signature": {**read["signature"], "value": value}}
        with pytest.raises(UsageError, match="signature"):
            check_signature(broken, public_key(ours[1]))
    for path in (ours[1], tmp_path / "r.json", tmp_path / "none.pem"):
        with pytest.raises(UsageError, match=r"key"):
            private_key(path)


def test_without_the_library_a_line_says_what_to_install(tmp_path, monkeypatch):
    from edge_tl_runtime.bench.signature import private_key

    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.serialization", None)
    with pytest.raises(UsageError, match=r"pip install 'edge-tl\[sign\]'"):
        private_key(tmp_path / "key.pem")

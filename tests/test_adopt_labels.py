"""Labels as people have them, and those that no classifier can have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tl_export.adoption.labels import labels_of_metadata, numbered, read_labels, with_background
from edge_tl_runtime.core.errors import UsageError

ANIMALS = ("cat", "dog", "fox")

FORMS: dict[str, tuple[str, bytes]] = {
    "plain": ("l.txt", b"cat\ndog\nfox\n"),
    "no suffix": ("labels", b"cat\ndog\nfox"),
    "windows": ("l.txt", b"cat\r\ndog\r\nfox\r\n"),
    "old mac": ("l.txt", b"cat\rdog\rfox"),
    "mark": ("l.txt", b"\xef\xbb\xbfcat\ndog\nfox\n"),
    "utf-16": ("l.txt", "cat\ndog\nfox\n".encode("utf-16")),
    "utf-16 without a mark": ("l.txt", "cat\ndog\nfox\n".encode("utf-16-le")),
    "utf-16, big end first": ("l.txt", b"\xfe\xff" + "cat\ndog\nfox\n".encode("utf-16-be")),
    "empty lines": ("l.txt", b"\ncat\n\ndog\nfox\n\n\n"),
    "numbered": ("l.txt", b"0 cat\n1 dog\n2 fox\n"),
    "numbered with colons": ("l.txt", b"0: cat\n1: dog\n2: fox\n"),
    "numbered with commas": ("l.txt", b"0,cat\n1,dog\n2,fox\n"),
    "numbered with tabs": ("l.txt", b"0\tcat\n1\tdog\n2\tfox\n"),
    "numbered with dots": ("l.txt", b"0. cat\n1. dog\n2. fox\n"),
    "numbered from 1": ("l.txt", b"1 cat\n2 dog\n3 fox\n"),
    "numbered in another order": ("l.txt", b"2 fox\n0 cat\n1 dog\n"),
    "numbers behind": ("l.txt", b"cat,0\ndog,1\nfox,2\n"),
    "wordnet": ("l.txt", b"n02123045 cat\nn02085620 dog\nn02119022 fox\n"),
    "numbered wordnet": ("l.txt", b"0 n02123045 cat\n1 n02085620 dog\n2 n02119022 fox\n"),
    "quoted": ("l.txt", b'"cat",\n"dog",\n"fox"\n'),
    "list": ("l.json", b'["cat", "dog", "fox"]'),
    "list, called text": ("l.txt", b'["cat", "dog", "fox"]'),
    "index to name": ("l.json", b'{"0": "cat", "2": "fox", "1": "dog"}'),
    "name to index": ("l.json", b'{"fox": 2, "cat": 0, "dog": 1}'),
    "id2label": ("config.json", b'{"model_type": "vit", "id2label": {"0": "cat", "1": "dog", "2": "fox"}}'),
    "label2id": ("config.json", b'{"label2id": {"cat": 0, "dog": 1, "fox": 2}}'),
    "names": ("l.json", b'{"nc": 3, "names": ["cat", "dog", "fox"]}'),
    "keras": ("l.json", b'{"0": ["n02123045", "cat"], "1": ["n02085620", "dog"], "2": ["n02119022", "fox"]}'),
    "pairs": ("l.json", b'[["n02123045", "cat"], ["n02085620", "dog"], ["n02119022", "fox"]]'),
    "objects": ("l.json", b'[{"id": 1, "name": "dog"}, {"id": 0, "name": "cat"}, {"id": 2, "name": "fox"}]'),
    "coco": (
        "l.json",
        b'{"categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "fox"}]}',
    ),
    "python": ("l.txt", b"{0: 'cat', 1: 'dog',\n 2: 'fox'}"),
    "csv": ("l.csv", b"id,name\n1,dog\n0,cat\n2,fox\n"),
    "csv, semicolons": ("l.csv", b"class_name;index\ncat;0\ndog;1\nfox;2\n"),
    "csv, sep": ("l.csv", b"sep=;\nindex;label\n0;cat\n1;dog\n2;fox\n"),
    "csv without indices": ("l.csv", b"label,colour\ncat,red\ndog,blue\nfox,red\n"),
    "tsv": ("l.tsv", b"label\tid\ncat\t0\ndog\t1\nfox\t2\n"),
}


def written(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_labels(form, tmp_path):
    assert read_labels(written(tmp_path, *FORMS[form])).labels == ANIMALS


AS_THEY_ARE = {
    "speeds": ("20 km/h", "30 km/h", "50 km/h"),
    "commas": ("tench, Tinca tinca", "goldfish, Carassius auratus", "great white shark"),
    "some numbered": ("7 up", "cola", "0 sugar"),
    "numbers": ("3", "1", "2"),
    "classes": ("class 0", "class 1", "class 2"),
    "scripts": ("แมว", "собака", "狐"),
    "letters": ("a", "A", "b"),
    "joiners": ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f468\u200d\U0001f469", "cat"),
    "times": ("8:00", "9:30", "12:00"),
    "persons": ("1 person", "2 persons", "4 persons"),
    "wordnet names alone": ("n02123045", "n02085620", "n02119022"),
}


@pytest.mark.parametrize("kind", AS_THEY_ARE)
def test_labels_that_only_look_like_a_form_stay(kind, tmp_path):
    text = "\n".join(AS_THEY_ARE[kind]).encode()
    assert read_labels(written(tmp_path, "l.txt", text)).labels == AS_THEY_ARE[kind]


REFUSED: dict[str, tuple[str, bytes, str]] = {
    "twice": ("l.txt", b"cat\ndog\ncat\n", "'cat' at 0 and 2.*--repeated-labels number"),
    "one": ("l.txt", b"cat\n", "has 1 label, 'cat'"),
    "none": ("l.txt", b"", "has 0 labels"),
    "latin-1": ("l.txt", "cat\nch\u00e8vre\n".encode("latin-1"), "not UTF-8 .line 2."),
    "control characters": ("l.txt", b"cat\ndo\x1b[31mg\n", "line 2.*control characters"),
    "a gap": ("l.json", b'{"0": "cat", "2": "fox"}', "index 1 is missing"),
    "a number twice": ("l.csv", b"id,name\n0,cat\n0,dog\n", "index 0 appears twice"),
    "a key twice": ("l.json", b'{"0": "cat", "0": "dog"}', "a key appears twice"),
    "half a document": ("l.json", b'["cat", "dog"', "begins like JSON"),
    "another document": ("l.json", b'{"lr": "fast", "layers": "many"}', "object without labels.*lr"),
    "numbers for names": ("l.json", b"[1, 2, 3]", "no labels in a form"),
    "an empty name": ("l.json", b'["cat", ""]', "label 1 is empty"),
    "numbered with a gap": ("l.txt", b"0: a\n1: b\n2: c\n3: d\n5: e\n", "index 4 is missing"),
    "numbered with a gap, spaces": ("l.txt", b"0 a\n1 b\n2 c\n4 e\n", "index 3 is missing"),
    "numbered with a gap, tabs": ("l.txt", b"0\ta\n2\tc\n", "index 1 is missing"),
    "numbered twice": ("l.txt", b"0: a\n1: b\n1: c\n", "index 1 appears twice"),
    "numbered from 2": ("l.txt", b"2: a\n3: b\n4: c\n", "index 0 is missing"),
    "gap in numbers behind": ("l.txt", b"a: 0\nb: 1\nc: 3\n", "index 2 is missing"),
    **{
        f"not seen, {ord(mark):x}": ("l.txt", f"cat\ndo{mark}g\n".encode(), "not seen|control characters")
        for mark in "\u202e\u2066\u200b\u2060\u00ad\u3164\u061c\u200e\ufeff\U000e0041"
    },
    "joined": ("l.txt", "cat\nca\u200dt\n".encode(), "labels 0 and 1, 'cat' and .*not seen"),
    "twice once stripped": ("l.json", '["cat", "dog", "\u200bcat "]'.encode(), "'cat' at 0 and 2"),
    "yaml": ("data.yaml", b"names:\n  0: cat\n  1: dog\n", "YAML"),
    "code": ("l.txt", b"[__import__('os').getcwd(), 'dog']", "begins like JSON"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_labels_is_refused_by_name(kind, tmp_path):
    name, data, reason = REFUSED[kind]
    with pytest.raises(UsageError, match=reason) as caught:
        read_labels(written(tmp_path, name, data))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_is_a_folder(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(UsageError, match="cannot read the labels"):
            read_labels(path)


def test_deep_and_large_documents_are_refused_soon(tmp_path):
    for data in (b"[" * 100_000, b"{'a':" * 50_000, b"(" * 100_000 + b"[", b"[" + b"-" * 100_000 + b"1]"):
        with pytest.raises(UsageError):
            read_labels(written(tmp_path, "l.json", data))
    with pytest.raises(UsageError, match="larger than"):
        read_labels(written(tmp_path, "l.txt", b"x\n" * (3 << 20)))


def test_repeated_labels_get_their_index_when_that_is_asked_for(tmp_path):
    path = written(tmp_path, "l.txt", b"crane\ncat\ncrane\n")
    found = read_labels(path, "number")
    assert found.labels == ("crane", "cat", "crane (2)")
    assert any("'crane' at 0 and 2" in line for line in found.how)
    with pytest.raises(UsageError, match="rename one"):
        read_labels(written(tmp_path, "m.txt", b"crane\ncrane\ncrane (1)\n"), "number")


def test_what_was_left_out_is_said(tmp_path):
    assert "line 2 is empty" in read_labels(written(tmp_path, "l.txt", b"cat\n\ndog\n")).how[0]


@pytest.mark.parametrize(
    "metadata",
    [
        {"names": "{0: 'cat', 1: 'dog', 2: 'fox'}", "task": "classify"},
        {"id2label": json.dumps({"0": "cat", "1": "dog", "2": "fox"})},
        {"classes": "cat,dog,fox"},
        {"labels": "cat\ndog\nfox"},
        {"class_names": '["cat", "dog", "fox"]'},
    ],
    ids=lambda value: next(iter(value)),
)
def test_a_file_may_carry_its_labels(metadata):
    found = labels_of_metadata(metadata)
    assert found is not None
    assert found.labels == ANIMALS
    assert "metadata" in found.origin


def test_a_file_without_labels_says_none():
    assert labels_of_metadata({"author": "me", "names": " "}) is None


def test_numbers_sort_as_they_count():
    assert numbered(11).labels[:3] == ("00", "01", "02")
    assert sorted(numbered(1000).labels) == list(numbered(1000).labels)


def test_a_background_comes_first():
    assert with_background(numbered(3)).labels == ("background", "0", "1", "2")
    with pytest.raises(UsageError, match="already"):
        with_background(with_background(numbered(3)))


@given(st.lists(st.text("abcdefg ", min_size=1).filter(str.strip), min_size=2, max_size=20))
def test_plain_text_gives_its_lines_or_names_what_repeats(tmp_path_factory, lines):
    path = written(tmp_path_factory.mktemp("labels"), "l.txt", "\n".join(lines).encode())
    plain = tuple(line.strip() for line in lines)
    if len(set(plain)) == len(plain):
        assert read_labels(path).labels == plain
    else:
        with pytest.raises(UsageError, match="repeats"):
            read_labels(path)
        assert len(set(read_labels(path, "number").labels)) == len(plain)


@given(st.binary(max_size=300))
def test_any_bytes_give_labels_or_one_line(tmp_path_factory, data):
    path = written(tmp_path_factory.mktemp("labels"), "l.txt", data)
    said, labels = "", ("none", "read")
    try:
        labels = read_labels(path).labels
    except UsageError as error:
        said = str(error)
    assert "\n" not in said
    assert len(labels) >= 2

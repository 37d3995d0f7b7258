"""Addresses of streams as people type them, and what of them is shown."""

from __future__ import annotations

import re
import string
from email.message import Message
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tl_runtime.core.errors import EdgeTLError, SourceError, UsageError
from edge_tl_runtime.sources import open_source
from edge_tl_runtime.sources.address import parse_address, shown_address, why_no_address
from edge_tl_runtime.sources.decoding.reasons import why_no_stream
from edge_tl_runtime.sources.http.client import Client
from edge_tl_runtime.sources.names import suggestion


@pytest.mark.parametrize(
    ("typed", "url", "shown"),
    [
        ("RTSP://cam/x", "rtsp://cam/x", "rtsp://cam/x"),
        (
            "rtsp://admin:p@ss/w#rd@192.168.1.9:8554/s",
            "rtsp://admin:p%40ss%2Fw%23rd@192.168.1.9:8554/s",
            "rtsp://***@192.168.1.9:8554/s",
        ),
        ("rtsp://u:p@host/path@home", "rtsp://u:p@host/path@home", "rtsp://***@host/path@home"),
        ("rtsp://u:p%40s@host/x", "rtsp://u:p%40s@host/x", "rtsp://***@host/x"),
        ("rtsp://u:100%@host/x", "rtsp://u:100%25@host/x", "rtsp://***@host/x"),
        ("rtsp://u:a b@host/x", "rtsp://u:a%20b@host/x", "rtsp://***@host/x"),
        ("rtsp://u:pa/ss@cam/x", "rtsp://u:pa%2Fss@cam/x", "rtsp://***@cam/x"),
        ("rtsp://cam:8554/path@home.org", "rtsp://cam:8554/path@home.org", None),
        ("rtsp://u@cam/x", "rtsp://u@cam/x", "rtsp://***@cam/x"),
        ("rtsp://[::1]:8554/x", "rtsp://[::1]:8554/x", "rtsp://[::1]:8554/x"),
        ("http://cam/x?user=me&pwd=hi", "http://cam/x?user=me&pwd=hi", "http://cam/x?user=***&pwd=***"),
        ("rtsp://cam:554/x", "rtsp://cam/x", "rtsp://cam/x"),
    ],
)
def test_an_address_is_understood_as_a_person_means_it(typed, url, shown):
    address = parse_address(typed)
    assert address is not None
    assert address.url == url
    if shown is not None:
        assert address.shown == shown


@pytest.mark.parametrize("text", ["clip.mp4", "rtsp://", "rtsp:///x", "rtsp://cam:99999/x", "0", "C:\\x"])
def test_what_is_no_address_of_a_host_is_none(text):
    assert parse_address(text) is None
    assert shown_address(text) == text


@given(st.text(string.ascii_letters + string.digits + "@/#:?%&+= ;'\"é", min_size=1, max_size=12))
def test_any_password_reaches_the_camera_and_no_message(password):
    """Against Python's own reader of URLs. %41 in a password means A: that is the rule for URLs."""
    address = parse_address(f"rtsp://admin:{password}@192.168.1.9:8554/live")
    assert address is not None
    parts = urlsplit(address.url)
    assert (parts.hostname, parts.port, parts.path) == ("192.168.1.9", 8554, "/live")
    assert parts.password is not None
    assert unquote(parts.password) == address.password
    if "%" not in password:
        assert address.password == password
    assert address.shown == "rtsp://***@192.168.1.9:8554/live"


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("http://u:x@[::1/x", "bracket around its IPv6 address is not closed"),
        ("http://[zz]/x", "no IPv6 address"),
        ("http://[]/x", "no IPv6 address"),
        ("rtsp://fe80::1/x", "an IPv6 address stands in brackets"),
        ("http://[::1]x/y", "port"),
        ("http://[::1]:70000/x", "port is not between 1 and 65535"),
        ("http://cam:99999/x", "port is not between 1 and 65535"),
        ("http://u:p@cam:99999/x", "port is not between 1 and 65535"),
        ("rtsp://cam:0/x", "port is not between 1 and 65535"),
        ("rtsp://cam:123456789012345678901/x", "port is not between 1 and 65535"),
        ("rtsp://cam:abc/x", "port is not a number"),
        ("rtsp://cam:8554x/x", "port is not a number"),
        ("rtsp://cam:٥٥٤/x", "port is not a number"),
        ("rtsp://cam:/x", "port is missing"),
        ("rtsp://", "names no host"),
        ("http:///x", "names no host"),
        ("http://u:p@/x", "names no host"),
        ("http://:80/x", "names no host"),
        ("http://ca m/x", "a character that no name of a machine has"),
        ("http://cam\n.lan/x", "line break"),
        ("http://u:pa/ss w0rd@h", "where its password ends is not clear"),
    ],
)
def test_what_is_wrong_with_an_address_is_said_in_one_line(typed, words):
    assert words in why_no_address(typed)
    with pytest.raises(UsageError, match=re.escape(words)) as caught:
        open_source(typed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "good",
    ["rtsp://cam/x", "http://[::1]:8080/x", "http://u:pa%2Fss@cam/x", "http://u:p%40%23%3F%20w@cam", "http://cam"],
)
def test_a_proper_address_gets_no_advice(good):
    assert (why_no_address(good), suggestion(good)) == ("", "")


FORMS = [
    "http://u:{}@h/x",
    "http://u:{}@h",
    "http://u:{}@h:8080/x?a=b#c",
    "http://u:{}@[::1/x",
    "http://u:{}@h:99999/x",
    "http://{}@h/x",
    "rtsp://u:{}@127.0.0.1:554/live",
    "rtsp://u:{}@h@127.0.0.1/a@b",
    "rtsp://u:12/{}@127",
    "htp://u:{}@h/x",
    "http:/u:{}@h/x",
    "http:u:{}@h/x",
    "http;//u:{}@h/x",
    "//u:{}@h/x",
    "u:{}@h",
    "u:{}@192.168.1.5/x",
    "onvif://u:{}@h/x",
    "nonsense://u:{}@h/x",
    "rpicam:u:{}@h",
    "test://u:{}@h",
    "test://bars?script=u:{}@h",
    " http://u:{}@h/x ",
    "'http://u:{}@h/x'",
    "file://u:{}@h/x.mp4",
    "http://u:{}@h:x/clip.mp4",
    "/dev/u:{}@h",
    "http://h/x?user=u&password={}",
]
MARK = "Zq7"
"""In every password, and nowhere else in a message."""


@given(
    st.sampled_from(FORMS),
    st.text(string.ascii_letters + string.digits + "@/#:?%+= ;'\"é\n", max_size=8),
    st.text(string.ascii_letters + string.digits + "@/#:?%+= ;'\"é\n", max_size=8),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_no_message_and_no_name_holds_a_password(form, before, after, coded):
    """Everything that is said of a source before its connection, and what is said of each kind of failure afterwards."""
    if form.endswith("={}"):
        before, after = (re.sub(r"[@/#:?%+= ;'\"\n]", "", text) for text in (before, after))
    password = f"{before}{MARK}{after}"
    name = form.format(quote(password, safe="") if coded else password)
    told = [shown_address(name), suggestion(name), why_no_address(name)]
    try:
        with open_source(name) as source:
            told.append(source.name)
    except EdgeTLError as error:
        told.append(str(error))
    for log in (
        "Connection refused",
        "Failed to resolve",
        "error 401",
        "error 404 Not Found",
        "error 503",
        "timed out",
    ):
        told.append(why_no_stream(name, OSError("x"), [log]))
    try:
        client = Client(name, 1, 1)
        headers = Message()
        told += [client._refusal(HTTPError("http://h", code, "no", headers, None)) for code in (401, 403, 404, 500)]
    except EdgeTLError as error:
        told.append(str(error))
    assert not any(MARK in line for line in told), (name, [line for line in told if MARK in line])
    assert not any("\n" in line for line in told)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("12345678901234567890", "no camera of a number as long as"),
        ("a\0b", r"'a\x00b' holds a NUL character"),
        ("http://a\0b/x", "holds a NUL character"),
        ("a" * 400, "longer than the name of a file can be"),
        ("a\nb", r"no photos at a\nb;"),
        ("a\x1b[31mb.mp4", r"no photos at a\x1b[31mb.mp4;"),
        ("\udcffx", r"no photos at \udcffx;"),
        ("test://[::", "no test pattern"),
        ("test://bars?size=a\nb", "test://bars?size=a\\nb: give size"),
        ("rpicam:a\nb", r"rpicam:a\nb names no camera"),
        ("file:///a\nb", r"give the path itself: /a\nb"),
    ],
)
def test_a_source_that_names_nothing_is_refused_in_one_line(name, words):
    with pytest.raises(EdgeTLError) as caught:
        open_source(name)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_camera_of_a_number_that_no_driver_has_is_refused_by_the_camera_too():
    from edge_tl_runtime.sources.capture.devices import Camera
    from edge_tl_runtime.sources.request import CaptureRequest

    with pytest.raises(SourceError, match="cannot open 999999"):
        Camera(CaptureRequest(kind="camera", name="999999")).open()


def test_a_file_whose_name_looks_like_an_address_keeps_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "u:p@h.txt").write_text("")
    assert shown_address("u:p@h.txt") == "u:p@h.txt"

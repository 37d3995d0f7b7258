"""Addresses of streams as people type them, and what of them is shown."""

from __future__ import annotations

import string
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tl_runtime.sources.address import parse_address, shown_address


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

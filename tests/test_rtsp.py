"""Network cameras over real sockets: what they refuse is said, what they lose is left out, and they are tried again."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from stopwatch import HANGING

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'edge-tl[video]'")

from rtsp_camera import RtspCamera, encoded  # noqa: E402
from videos import moving  # noqa: E402

from edge_tl_runtime.core.errors import SourceError  # noqa: E402
from edge_tl_runtime.sources import LiveOptions, Patience, Source, State, open_source  # noqa: E402

PATIENCE = Patience(first_frame=8, stale=1, lost=2, backoff=0.1, backoff_max=0.3, stop=0.3)
GOOD = {"crf": "16", "tune": "zerolatency", "preset": "ultrafast"}
PICTURES = moving(40, step=4)


@pytest.fixture(scope="module")
def units() -> list[tuple[bytes, bool]]:
    return encoded(PICTURES, options=GOOD)


def opened(url: str, said: list[str] | None = None, **options: object) -> Source:
    say = (lambda line: None) if said is None else said.append
    return open_source(url, LiveOptions(**{"patience": PATIENCE, "say": say, **options}))


def closest(frame: np.ndarray) -> tuple[int, float]:
    """The picture that a frame is of, and how much they differ."""
    errors = [float(np.abs(frame.astype(int) - picture).mean()) for picture in PICTURES]
    return int(np.argmin(errors)), min(errors)


@pytest.mark.parametrize(
    ("more", "credentials"),
    [
        ({}, ""),
        ({"transports": ("tcp",)}, ""),
        ({"transports": ("udp",)}, ""),
        ({"auth": "digest"}, "admin:p@ss/w#rd:1%@"),
        ({"auth": "basic"}, "admin:p@ss/w#rd:1%@"),
        ({"auth": "basic"}, "admin:p%40ss%2Fw%23rd%3A1%25@"),
    ],
)
def test_a_camera_is_read_and_no_frame_is_made_up(units, more, credentials):
    said: list[str] = []
    with RtspCamera(units, **more) as camera, opened(camera.url(credentials), said) as source:
        for record in itertools.islice(source, 15):
            assert closest(record.frame)[1] < 6
            assert "p@ss" not in record.source
        assert source.counts.rejected == 0
    assert said
    assert not any("ss/w" in line or "ss%2Fw" in line for line in said)


def test_the_scheme_may_be_in_capitals(units):
    with RtspCamera(units) as camera, opened(camera.url().replace("rtsp", "RTSP")) as source:
        next(iter(source))


def test_the_first_key_frame_is_kept_where_the_next_is_far_away():
    """One key frame in 16 s; what comes after it is worth nothing without it."""
    far = encoded(PICTURES * 8, options=GOOD, gop=1000)
    assert sum(key for _, key in far) == 1
    with RtspCamera(far, once=True) as camera, opened(camera.url()) as source:
        record = next(iter(source))
        assert record.index < 40
        assert closest(record.frame)[1] < 6


def test_a_camera_joined_midway_is_waited_for_and_the_frames_before_its_key_frame_counted(units):
    with RtspCamera(units, begin=5) as camera, opened(camera.url()) as source:
        for record in itertools.islice(source, 5):
            assert closest(record.frame)[1] < 6
        deadline = time.monotonic() + HANGING
        for _ in source:
            if source.counts.reasons or time.monotonic() > deadline:
                break
        assert source.counts.reasons == {"before the first key frame": 7}


@pytest.mark.parametrize(
    ("more", "credentials", "path", "words"),
    [
        ({"auth": "digest"}, "", "live", "wants a user name and a password (401)"),
        ({"auth": "digest"}, "admin:wrong@", "live", "user name or the password is wrong (401)"),
        ({"auth": "basic"}, "admin:wrong@", "live", "user name or the password is wrong (401)"),
        ({}, "", "nothing", "no stream at /nothing (404)"),
        ({"transports": ()}, "", "live", "neither over TCP nor over UDP (461)"),
        ({"status": "403 Forbidden"}, "", "live", "may not see this stream (403)"),
        ({"status": "453 Not Enough Bandwidth"}, "", "live", "453 Not Enough Bandwidth"),
        ({"status": "503 Service Unavailable"}, "", "live", "503 Service Unavailable"),
        ({"status": "418 Teapot"}, "", "live", "418 Teapot"),
        ({"silent": True}, "", "live", "does not answer"),
        ({"codec": "FOO"}, "", "live", "coded with FOO"),
    ],
)
def test_each_failure_says_what_it_is(units, more, credentials, path, words):
    patience = Patience(first_frame=4, lost=1, backoff=0.1, stop=0.3)
    with RtspCamera(units, **more) as camera, opened(camera.url(credentials, path), patience=patience) as source:
        with pytest.raises(SourceError) as caught:
            next(iter(source))
        message = str(caught.value)
    assert words in message
    assert "wrong@" not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("rtsp://127.0.0.1:9/x", "nothing listens at 127.0.0.1, port 9"),
        ("rtsp://no-such-camera.invalid/x", "does not know no-such-camera.invalid"),
    ],
)
def test_an_address_that_leads_nowhere_says_why(address, words):
    with opened(address) as source, pytest.raises(SourceError, match=words):
        next(iter(source))


def test_a_port_without_tls_is_named(units):
    with (
        RtspCamera(units) as camera,
        opened(camera.url().replace("rtsp:", "rtsps:")) as source,
        pytest.raises(SourceError, match="speaks no TLS"),
    ):
        next(iter(source))


@pytest.mark.slow
def test_packets_that_the_network_lost_cost_frames_and_never_make_one_up(units):
    """UDP: the decoder goes on without them and says nothing; all up to the next key frame is left out."""
    lost = frozenset(range(60, 4000, 50))
    with RtspCamera(units, transports=("udp",), lose=lost) as camera, opened(camera.url()) as source:
        errors = [closest(record.frame)[1] for record in itertools.islice(source, 60)]
        assert source.counts.rejected > 5
    assert max(errors) < 6


@pytest.mark.slow
def test_a_camera_that_ends_and_returns_is_read_again_from_its_key_frame(units):
    said: list[str] = []
    with RtspCamera(units, once=True) as camera, opened(camera.url(), said) as source:
        for record in source:
            assert closest(record.frame)[1] < 6
            if source.counts.reconnects == 2 and closest(record.frame)[0] > 5:
                break
        assert source.counts.rejected == 0
    assert any("trying again" in line for line in said)
    assert any("is back" in line for line in said)


@pytest.mark.slow
def test_the_first_frame_may_take_longer_than_a_silence_later(units):
    """--first-frame 8, --stall 1: a camera that needs 3 s for its first frame."""
    patience = Patience(first_frame=8, stale=0.5, lost=1, backoff=0.1, stop=0.3)

    def pause(number: int) -> None:
        if number == 0:
            time.sleep(3)

    with RtspCamera(units, pause=pause) as camera, opened(camera.url(), patience=patience) as source:
        next(iter(source))
        assert source.counts.reconnects == 0


@pytest.mark.slow
def test_a_camera_that_falls_silent_is_noticed_and_left(units):
    def pause(number: int) -> None:
        if number == 20:
            time.sleep(60)

    states: set[State] = set()
    said: list[str] = []
    with RtspCamera(units, pause=pause) as camera, opened(camera.url(), said) as source:
        source.on_idle = lambda: states.add(source.state)
        for _ in source:
            if source.counts.reconnects:
                break
    assert State.STALE in states
    assert any("silent" in line for line in said)

"""Still pictures at an address: asked for at a pace, never twice at once, and given only when they changed."""

from __future__ import annotations

import io
import itertools

import pytest
from odd_servers import OddServer, Visit, jpeg, number_of, serving
from PIL import Image

from edge_tl_runtime.core.errors import SourceError
from edge_tl_runtime.sources import LiveOptions, Patience, State, open_source
from edge_tl_runtime.sources.http.camera import HttpCamera, StillPicture
from edge_tl_runtime.sources.http.client import Client
from edge_tl_runtime.sources.request import CaptureRequest

HASTY = Patience(first_frame=8, stale=0.5, lost=1.5, frozen=5, backoff=0.05, backoff_max=0.2, steady=1, stop=0.3)


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Shots:
    """A camera that gives one picture a request; `queue` holds what it answers, the last one for ever."""

    def __init__(self, *queue: object) -> None:
        self.queue = list(queue)
        self.asked: list[dict[str, str]] = []

    def __call__(self, visit: Visit) -> None:
        self.asked.append({name: visit.header(name) for name in ("If-None-Match", "If-Modified-Since")})
        item = self.queue.pop(0) if len(self.queue) > 1 else self.queue[0]
        if callable(item):
            item(visit)
            return
        assert isinstance(item, bytes)
        visit.answer("200 OK", "Content-Type: image/jpeg", f"Content-Length: {len(item)}", body=item)


def poll(shots: Shots, rounds: int, every: float = 2.0) -> tuple[list[bytes], list[float]]:
    """Pictures that were new, and when requests were sent, by a clock of our own."""
    clock, found, times = Clock(), [], []
    with serving(shot=shots) as server:
        client = Client(server.url("/shot"), 3.0, 3.0)

        def ask(headers: dict[str, str]):
            times.append(clock.now)
            return client.get(headers)

        still = StillPicture(ask, every, 3.0, clock, clock.sleep)
        while len(times) < rounds:
            data = still.next()
            if data is not None:
                found.append(data)
    return found, times


def test_a_still_picture_is_asked_for_at_a_steady_pace_and_never_twice_at_once():
    pictures = [jpeg(number) for number in (10, 20, 30, 40)]
    found, times = poll(Shots(*pictures), 4)
    assert found == pictures
    assert [round(later - earlier, 6) for earlier, later in itertools.pairwise(times)] == [2.0] * 3


def test_an_unchanged_picture_is_not_given_again():
    first, second = jpeg(10), jpeg(20)
    found, _ = poll(Shots(first, first, first, second, second, first), 6)
    assert found == [first, second, first]


def test_an_unchanged_picture_is_given_where_that_is_wanted():
    data = jpeg(10)
    clock = Clock()
    with serving(shot=Shots(data)) as server:
        still = StillPicture(Client(server.url("/shot"), 3.0, 3.0).get, 2.0, 3.0, clock, clock.sleep, repeats=True)
        given = [still.next() for _ in range(40)]
    assert [picture for picture in given if picture] == [data] * 4


def test_what_the_server_says_of_changes_is_used():
    data = jpeg(10)

    def tagged(visit: Visit) -> None:
        visit.answer(
            "200 OK",
            'ETag: "v1"',
            "Last-Modified: Sat, 28 Nov 2026 01:00:00 GMT",
            f"Content-Length: {len(data)}",
            body=data,
        )

    def unchanged(visit: Visit) -> None:
        visit.answer("304 Not Modified")

    shots = Shots(tagged, unchanged, unchanged, jpeg(20))
    found, _ = poll(shots, 4)
    assert found == [data, jpeg(20)]
    assert shots.asked[0] == {"If-None-Match": "", "If-Modified-Since": ""}
    assert shots.asked[1] == {"If-None-Match": '"v1"', "If-Modified-Since": "Sat, 28 Nov 2026 01:00:00 GMT"}


def test_a_slow_answer_is_not_made_up_for():
    clock = Clock()
    pictures = iter(jpeg(number) for number in range(10, 200, 10))

    def slow(visit: Visit) -> None:
        clock.now += 7.0
        data = next(pictures)
        visit.answer("200 OK", f"Content-Length: {len(data)}", body=data)

    times: list[float] = []
    with serving(shot=slow) as server:
        client = Client(server.url("/shot"), 3.0, 3.0)

        def ask(headers: dict[str, str]):
            times.append(clock.now)
            return client.get(headers)

        still = StillPicture(ask, 2.0, 3.0, clock, clock.sleep)
        for _ in range(4):
            assert still.next() is not None
        assert server.most_open == 1
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == [7.0] * 3


def live(server: OddServer, path: str, told: list[str] | None = None, **options: object):
    return open_source(
        server.url(path),
        LiveOptions(**{"patience": HASTY, "say": [].append if told is None else told.append, **options}),
    )


@pytest.mark.slow
def test_a_still_that_stays_the_same_is_classified_once_and_no_reason_to_reconnect():
    shots = Shots(jpeg(50), *[jpeg(50)] * 12, jpeg(60))
    told: list[str] = []
    with serving(shot=shots) as server, live(server, "/shot", told, every=0.2) as source:
        seen = [number_of(record.frame) for record in itertools.islice(source, 2)]
        assert source.counts.reconnects == 0
        assert source.state is State.LIVE
    assert seen == [50, 60]
    assert any("a picture every 0.2 s" in line for line in told)
    assert len(shots.asked) >= 14


def test_a_page_in_place_of_the_picture_is_a_loss():
    def page(visit: Visit) -> None:
        visit.answer("200 OK", "Content-Type: image/jpeg", body=b"<html><title>Log in</title></html>")

    shots = Shots(jpeg(50), page)
    with serving(shot=shots) as server:
        device = HttpCamera(
            CaptureRequest(kind="http", name=server.url("/shot"), every=0.05, open_ms=3000, read_ms=1500)
        )
        device.open()
        assert device.grab()

        def go_on() -> None:
            while not device.grab():
                pass

        with pytest.raises(SourceError, match=r"is a web page \(Log in\)"):
            go_on()
        device.close()


@pytest.mark.slow
def test_a_still_camera_that_fails_is_tried_again_and_its_last_picture_is_not_given_twice():
    def broken(visit: Visit) -> None:
        visit.answer("500 Internal Server Error", "Content-Length: 0")

    shots = Shots(jpeg(50), broken, broken, jpeg(50), jpeg(60))
    told: list[str] = []
    with serving(shot=shots) as server, live(server, "/shot", told, every=0.2) as source:
        seen = [number_of(record.frame) for record in itertools.islice(source, 2)]
        assert source.counts.reconnects >= 2
    assert seen == [50, 60]
    assert any("answers 500" in line for line in told)


@pytest.mark.parametrize(
    ("text", "seconds"), [("2", 2), ("2s", 2), ("500ms", 0.5), ("1m", 60), ("1.5 s", 1.5), ("1h", 3600), ("0.01", 0.01)]
)
def test_times_as_people_write_them(text, seconds):
    from edge_tl.cli.kinds import Seconds

    assert Seconds().convert(text, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "2 days", "1e9", "nan", "1ms"])
def test_times_that_make_no_sense(text):
    import click

    from edge_tl.cli.kinds import Seconds

    with pytest.raises(click.BadParameter, match="give one such as 2s"):
        Seconds().convert(text, None, None)


def test_a_pace_for_what_has_none_is_refused(color_model, color_photos):
    from contextlib import ExitStack

    from edge_tl_runtime.core.errors import UsageError
    from edge_tl_runtime.inference.classifier import Classifier
    from edge_tl_runtime.run.assemble import assemble
    from edge_tl_runtime.run.plan import RunPlan

    plan = RunPlan(model=color_model, source=str(color_photos), every=2.0, headless=True)
    with ExitStack() as stack, pytest.raises(UsageError, match="--every paces a camera or a stream"):
        assemble(plan, Classifier, stack, [].append)


@pytest.mark.parametrize(("form", "count"), [("WEBP", 3), ("PNG", 3), ("WEBP", 1), ("PNG", 1)])
def test_of_an_animation_at_an_address_it_is_said_once_that_its_first_picture_is_used(form, count):
    def animation(shade: int) -> bytes:
        out = io.BytesIO()
        first, *others = (Image.new("RGB", (64, 48), (shade + 60 * number, 90, 0)) for number in range(count))
        first.save(out, form, **({"save_all": True, "append_images": others} if others else {}))
        return out.getvalue()

    told: list[str] = []
    with (
        serving(shot=Shots(animation(10), animation(40), animation(70))) as server,
        live(server, "/shot", told, every=0.05) as source,
    ):
        for _, record in zip(range(2), source, strict=False):
            assert record.frame.shape == (48, 64, 3)
    said = [line for line in told if "the first of it is used" in line]
    assert len(said) == (1 if count > 1 else 0)

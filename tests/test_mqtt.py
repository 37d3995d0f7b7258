"""A broker knows the newest label, how the run is, and whether it is there at all; it may come and go as it likes."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from conftest import THAI
from results import make_result
from stopwatch import HANGING, Stopwatch

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.sinks import Mqtt, QueuedSink
from edge_tl_runtime.sinks import mqtt as module
from edge_tl_runtime.sinks.mqtt import Broker

paho = pytest.importorskip("paho.mqtt.client")
SOURCE = ("--source", "test://bars?size=64x48&fps=20")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, seconds=HANGING):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.01)


class Server:
    """A real broker on this machine that can be ended and begun again."""

    def __init__(self, folder, password=""):
        self.port, self.folder, self.password, self.process = free_port(), folder, password, None
        self.start()

    @property
    def url(self):
        return f"mqtt://{self.password and f'me:{self.password}@'}127.0.0.1:{self.port}/home/bees"

    def start(self):
        mosquitto = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
        if not mosquitto:
            pytest.skip("no MQTT broker here: mosquitto is not installed")
        rule = "allow_anonymous true"
        if self.password:
            users = self.folder / "users"
            users.write_text(f"me:{self.password}\n")
            subprocess.run(["mosquitto_passwd", "-U", str(users)], check=True, capture_output=True)
            users.chmod(0o644)
            rule = f"allow_anonymous false\npassword_file {users}"
        config = self.folder / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nuser root\n{rule}\n")
        command = [mosquitto, "-c", str(config)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.answers)

    def answers(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        self.process.kill()
        self.process.wait()


class Listener:
    """Another client, which hears everything under the topic."""

    def __init__(self, server):
        self.heard, self.retained = [], {}
        client = self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        if server.password:
            client.username_pw_set("me", server.password)
        client.reconnect_delay_set(1, 1)
        client.on_connect = lambda *arguments: client.subscribe("home/bees/#", qos=1)
        client.on_message = self.hear
        self.ready = threading.Event()
        client.on_subscribe = lambda *arguments: self.ready.set()
        client.connect("127.0.0.1", server.port)
        client.loop_start()
        assert self.ready.wait(HANGING)

    def hear(self, client, userdata, message):
        name, text = message.topic.removeprefix("home/bees/"), message.payload.decode()
        if message.retain:
            self.retained[name] = text
        else:
            self.heard.append((name, text))

    def of(self, name):
        return [text for topic, text in self.heard if topic == name]

    def labels(self):
        return [json.loads(text)["label"] for text in self.of("label")]

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def listen():
    made = []

    def make(server):
        made.append(Listener(server))
        return made[-1]

    yield make
    for listener in made:
        listener.close()


@pytest.fixture
def publish():
    """Makes an outlet to a broker; closed at the end."""
    made = []

    def make(server, every=False, connected=True):
        said = []
        outlet = QueuedSink(Mqtt(server.url, every, said.append), lossless=False, say=said.append)
        made.append(outlet)
        if connected:
            wait_for(outlet.sink._client.is_connected)
        return outlet, said

    yield make
    for outlet in made:
        outlet.finish()
        outlet.join(time.monotonic() + 3)


def offer(outlet, *labels, start=0):
    for index, label in enumerate(labels, start):
        result = make_result(label, index)
        if outlet.wants(result):
            outlet.offer(result)


def test_labels_are_published_on_change_only_and_kept_for_who_comes_later(server, listen, publish):
    listener = listen(server)
    outlet, said = publish(server)
    offer(outlet, "bee", "bee", "bee", THAI, THAI, "bee")
    wait_for(lambda: len(listener.of("label")) == 3)
    time.sleep(0.2)
    assert listener.labels() == ["bee", THAI, "bee"]
    assert listener.of("result") == []
    assert listener.of("available") == ["online"]
    later = listen(server)
    wait_for(lambda: {"label", "available"} <= set(later.retained))
    assert json.loads(later.retained["label"])["label"] == "bee"
    assert later.retained["available"] == "online"
    assert said == [], "a connection that is as it should be is not talked about"
    assert outlet.counts() == {"written": 3, "dropped": 0, "failed": 0}


def test_every_result_is_published_where_that_is_asked_for(server, listen, publish):
    listener = listen(server)
    outlet, _ = publish(server, every=True)
    for index in range(40):
        offer(outlet, "bee", start=index)
        time.sleep(0.002)
    wait_for(lambda: len(listener.of("result")) == 40)
    assert [json.loads(text)["frame"] for text in listener.of("result")] == list(range(40))
    assert listener.labels() == ["bee"]


def test_the_status_is_published_at_its_pace(server, listen, publish, monkeypatch):
    monkeypatch.setattr(module, "STATUS_S", 0.3)
    listener = listen(server)
    outlet, _ = publish(server)
    for number in range(12):
        outlet.status({"number": number})
        time.sleep(0.05)
    wait_for(lambda: len(listener.of("status")) >= 2)
    assert len(listener.of("status")) <= 3
    later = listen(server)
    wait_for(lambda: "status" in later.retained)
    assert json.loads(later.retained["status"])["number"] >= 5


def test_drift_is_published_when_another_change_is_told_and_kept_for_who_comes_later(server, listen, publish):
    listener = listen(server)
    outlet, _ = publish(server)
    for number, notice in enumerate(["", "", "since Tuesday", "since Tuesday", ""]):
        outlet.status({"number": number, "drift": {"notice": notice, "level": f"{number} %"}})
    outlet.status({"number": 9, "drift": None})
    wait_for(lambda: len(listener.of("drift")) == 3)
    assert [json.loads(text) for text in listener.of("drift")] == [
        {"notice": notice, "level": level} for notice, level in (("", "0 %"), ("since Tuesday", "2 %"), ("", "4 %"))
    ]
    later = listen(server)
    wait_for(lambda: "drift" in later.retained)
    assert json.loads(later.retained["drift"])["notice"] == ""


def test_the_newest_label_is_published_when_the_broker_is_back(server, listen, publish):
    outlet, said = publish(server)
    offer(outlet, "bee")
    wait_for(lambda: outlet.written == 1)
    server.stop()
    wait_for(lambda: outlet.sink.notice)
    offer(outlet, "ant", "wasp", "fly")
    wait_for(lambda: outlet.counts()["written"] == 2)
    counts = outlet.counts()
    assert counts["failed"] == 2, "two labels came and went unheard"
    assert "the broker 127.0.0.1" in counts["error"]
    server.start()
    listener = listen(server)
    wait_for(lambda: listener.labels()[-1:] == ["fly"] or "label" in listener.retained)
    newest = listener.labels()[-1:] or [json.loads(listener.retained["label"])["label"]]
    assert newest == ["fly"]
    wait_for(lambda: not outlet.sink.notice)
    assert len(said) == 2, said
    assert "lost the broker" in said[0]
    assert "connected to" in said[1]
    offer(outlet, "bee")
    wait_for(lambda: listener.labels()[-1:] == ["bee"])


def test_a_broker_that_forgot_everything_is_told_the_label_again(server, listen, publish):
    outlet, _ = publish(server)
    offer(outlet, "bee")
    wait_for(lambda: not outlet.sink._due and outlet.written == 1)
    server.stop()
    wait_for(lambda: outlet.sink.notice)
    server.start()
    wait_for(lambda: not outlet.sink.notice)
    listener = listen(server)
    wait_for(lambda: "bee" in listener.labels() or "label" in listener.retained)


def test_a_broker_that_is_not_there_is_told_once_and_delays_nothing(tmp_path, publish):
    class Nobody:
        url = f"mqtt://me:secret@127.0.0.1:{free_port()}/home/bees"

    outlet, said = publish(Nobody, connected=False)
    watch = Stopwatch()
    for index in range(300):
        offer(outlet, f"n{index}", start=index)
    took = watch.quiet()
    wait_for(lambda: said)
    time.sleep(2.5)  # a try each second
    assert took < 1
    assert len(said) == 1
    assert "cannot reach" in said[0]
    assert "secret" not in str(said) + str(outlet.counts())
    watch = Stopwatch()
    outlet.finish()
    assert outlet.join(time.monotonic() + HANGING)
    assert watch.quiet() < 2


def test_a_wrong_password_is_told_once_and_never_shown(tmp_path, listen):
    server = Server(tmp_path, "right")
    try:
        said = []
        sink = Mqtt(server.url.replace("right", "wr0ng"), say=said.append)
        wait_for(lambda: said)
        time.sleep(3.2)
        assert len(said) == 1
        assert "refused" in said[0]
        assert "wr0ng" not in said[0] + sink.notice
        sink.close()
        sink = Mqtt(server.url)
        wait_for(sink._client.is_connected)
        sink.close()
    finally:
        server.stop()


def test_a_broker_that_takes_results_too_slowly_costs_results_and_no_memory(publish):
    """It accepts the connection and reads nothing more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        class Deaf:
            url = f"mqtt://127.0.0.1:{listener.getsockname()[1]}/x"

        outlet, _ = publish(Deaf, every=True, connected=False)
        connection, _address = listener.accept()
        connection.recv(1000)
        connection.sendall(b"\x20\x02\x00\x00")  # connected
        wait_for(outlet.sink._client.is_connected)
        for index in range(30_000):
            outlet.offer(make_result("bee" * 100, index))
            if index % 200 == 0:
                time.sleep(0.002)
        wait_for(lambda: not outlet._waiting)
        assert len(outlet.sink._client._out_packet) <= outlet.sink.depth + 5
        counts = outlet.counts()
        assert counts["failed"] + counts["dropped"] > 1000
        assert counts["failed"] + counts["dropped"] + counts["written"] == 30_000
        connection.close()


def test_threads_and_descriptors_of_a_closed_sink_are_given_back(server):
    def once():
        sink = Mqtt(server.url)
        wait_for(sink._client.is_connected)
        sink.write(make_result())
        sink.close()
        gc.collect()  # the client library and we hold on to each other

    once()
    threads, handles = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        once()
    assert threading.active_count() <= threads
    assert len(os.listdir("/proc/self/fd")) <= handles


# The command.


def run(model, url, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "edge_tl", "run", str(model), "--headless", "--mqtt", url, *SOURCE, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_broker_says_offline_when_the_runner_is_gone(server, listen, color_model, number):
    listener = listen(server)
    process = run(color_model, server.url)
    wait_for(lambda: listener.of("label") and listener.of("status"))
    assert listener.of("available") == ["online"]
    assert json.loads(listener.of("status")[-1])["state"] in ("LIVE", "CONNECTING")
    process.send_signal(number)
    wait_for(lambda: listener.of("available")[-1] == "offline")
    process.communicate(timeout=HANGING)
    assert process.returncode == (-9 if number == signal.SIGKILL else 0)
    assert listener.of("available") == ["online", "offline"]
    later = listen(server)
    wait_for(lambda: later.retained.get("available") == "offline")


@pytest.mark.slow
def test_a_password_is_shown_nowhere(tmp_path, listen, color_model):
    server = Server(tmp_path, "s3cret")
    try:
        listener = listen(server)
        status = tmp_path / "status.json"
        process = run(color_model, server.url, "--status", str(status), "--json")
        wait_for(lambda: listener.of("status"))
        server.stop()
        time.sleep(2.5)
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=HANGING)
        assert process.returncode == 0, errors
        assert "lost the broker" in errors
        for text in (out, errors, status.read_text(), *(text for _, text in listener.heard)):
            assert "s3cret" not in text
    finally:
        server.stop()


def test_without_the_client_library_one_line_says_what_to_install(color_model):
    code = """
        import sys

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] == "paho":
                    raise ModuleNotFoundError("blocked", name="paho")

        sys.meta_path.insert(0, Blocker())
        from edge_tl.cli import main
        main(["run", sys.argv[1], "--headless", "--source", "test://bars", "--mqtt", "mqtt://me:s3cret@localhost"])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(color_model)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["edge-tl: MQTT needs paho-mqtt; run: pip install 'edge-tl[mqtt]'"]


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "topic", "user", "password"),
    [
        ("mqtt://localhost", "localhost", 1883, False, "edge-tl", "", ""),
        ("mqtts://h/a/b/", "h", 8883, True, "a/b", "", ""),
        ("mqtt://u:p%40ss%2F@10.0.0.1:99/x%20y", "10.0.0.1", 99, False, "x y", "u", "p@ss/"),
        ("mqtt://u:p@w@h/t", "h", 1883, False, "t", "u", "p@w"),
        ("mqtt://[::1]:5/ผึ้ง", "::1", 5, False, "ผึ้ง", "", ""),
    ],
)
def test_a_broker_is_read_from_its_url(url, host, port, tls, topic, user, password):
    broker = Broker.parse(url)
    assert (broker.host, broker.port, broker.tls, broker.topic) == (host, port, tls, topic)
    assert (broker.user, broker.password) == (user, password)
    assert not password or password not in repr(broker)


@pytest.mark.parametrize(
    "url",
    ["", "localhost", "http://s3cret@h", "mqtt://", "mqtt://h:port/s3cret@", "mqtt://u:s3cret@h:99999", "u:s3cret@h",
     "mqtt://u:s3/cret@h/t", "mqtt://u:s3cret@h/a/#", "mqtt://u:s3cret@h/+/b", "mqtt://u:s3#cret@h", "mqtt://u:s3?cret@h"],
)  # fmt: skip
def test_what_is_no_broker_is_refused_without_showing_a_password(url):
    with pytest.raises(UsageError) as caught:
        Broker.parse(url)
    assert "s3" not in str(caught.value)

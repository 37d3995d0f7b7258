"""Execution providers: what runs a graph, the short names people type, and where each takes its threads from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnxruntime

from edge_tl_runtime.core import plugins
from edge_tl_runtime.core.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """What onnxruntime must be told of a provider.

    name: onnxruntime's own. session_threads: whether it computes on the session's threads, which `threads` counts and `spin`
    keeps awake. threads_option: the option of its own that takes a number of threads, or "". A provider with neither has
    nothing to choose. options: always passed. computes: False for one that runs no network by itself.
    """

    name: str
    session_threads: bool = False
    threads_option: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    computes: bool = True


# Options are those of onnxruntime's pages "Execution Providers".
PROVIDERS = {
    "cpu": Provider(name="CPUExecutionProvider", session_threads=True),
    "dnnl": Provider(name="DnnlExecutionProvider", session_threads=True),
    "acl": Provider(name="ACLExecutionProvider", session_threads=True),
    "armnn": Provider(name="ArmNNExecutionProvider", session_threads=True),
    # It has a pool of its own, which the session's would only compete with.
    "xnnpack": Provider(name="XnnpackExecutionProvider", threads_option="intra_op_num_threads"),
    # One stream: a frame is answered soonest when every thread works on it. Without a precision, processors that have
    # bfloat16 compute in it, and FP32 files fail their self-test.
    "openvino": Provider(
        name="OpenVINOExecutionProvider",
        threads_option="num_of_threads",
        options={"device_type": "CPU", "precision": "FP32", "num_streams": "1"},
    ),
    "cuda": Provider(name="CUDAExecutionProvider"),
    "tensorrt": Provider(name="TensorrtExecutionProvider"),
    "rocm": Provider(name="ROCMExecutionProvider"),
    "migraphx": Provider(name="MIGraphXExecutionProvider"),
    "directml": Provider(name="DmlExecutionProvider"),
    "coreml": Provider(name="CoreMLExecutionProvider"),
    "nnapi": Provider(name="NnapiExecutionProvider"),
    "qnn": Provider(name="QNNExecutionProvider"),
    "vitisai": Provider(name="VitisAIExecutionProvider"),
    # A client of inference servers; it runs no network on this machine.
    "azure": Provider(name="AzureExecutionProvider", computes=False),
}
"""The name to type, then the provider. One that is not here is asked for by onnxruntime's own name."""


def find_provider(name: str) -> Provider:
    """The provider of a name in PROVIDERS or of onnxruntime's own, in any case of letters.

    Raises UsageError when this machine's onnxruntime was not built with it.
    """
    available = list(onnxruntime.get_available_providers())
    known = PROVIDERS.get(name.lower())
    added = None
    if known is None and name.lower() not in (full.lower() for full in available):
        added = plugins.load("providers", name.lower(), checked_provider)
    if added is not None:
        known, available = added.part, list(onnxruntime.get_available_providers())  # a plugin may register its library
        if known.name not in available:
            raise UsageError(
                f"{added.plugin}: onnxruntime has no {known.name} here; install what {added.plugin.package} asks for"
            )
    wanted = name.lower() if known is None else known.name.lower()
    for full in available:
        if full.lower() == wanted:
            return known or next((p for p in PROVIDERS.values() if p.name == full), Provider(name=full))
    there = ", ".join((*map(short_name, available), *plugins.names("providers", PROVIDERS)))
    raise UsageError(f"execution provider {name!r} is not installed here; there are: {there}")


def checked_provider(part: object) -> Provider:
    """A Provider, or what a function gives that registers its library first. Raises TypeError for anything else."""
    return plugins.instance(plugins.made(part), Provider)


def computing_providers() -> tuple[str, ...]:
    """Short names of the installed providers that can run a network, onnxruntime's favourite first."""
    names = map(short_name, onnxruntime.get_available_providers())
    return tuple(name for name in names if name not in PROVIDERS or PROVIDERS[name].computes)


def short_name(full: str) -> str:
    """The name in PROVIDERS of onnxruntime's own name; the same name when it is not there."""
    return next((short for short, provider in PROVIDERS.items() if provider.name == full), full)

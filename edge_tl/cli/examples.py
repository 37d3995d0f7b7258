"""The examples that end the help of each command; a test has the program parse every one."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "demo": ("edge-tl demo",),
    "train": (
        "edge-tl train photos -o runs/mine",
        "edge-tl train photos -o runs/mixed --recipe finetune --set finetune.mixup=0.2",
    ),
    "collect": ("edge-tl collect --background empty --source 0 --for 60s",),
    "evaluate": (
        "edge-tl evaluate runs/mine/model.onnx photos",
        "edge-tl evaluate runs/mine photos --split test --json",
    ),
    "export": (
        "edge-tl export runs/mine --quantize",
        "edge-tl export model.onnx --quantize int8 --photos photos -o files",
    ),
    "predict": ("edge-tl predict model.onnx bee.jpg", "edge-tl predict model.onnx photos --top-k 3 --json"),
    "run": (
        "edge-tl run model.onnx --source 0",
        "edge-tl run model.onnx --source rtsp://camera/live --headless --json --log bees.jsonl",
    ),
    "attack": (
        "edge-tl attack model.onnx photos --preset quick",
        "edge-tl attack model-int8.onnx photos --epsilons 1,2,4 -o attacked",
    ),
    "dream": ("edge-tl dream model.onnx --class bee -o dreams",),
    "report": ("edge-tl report runs/mine runs/other", "edge-tl report before after -o compared.html"),
    "data": ("edge-tl data check photos -o check.html", "edge-tl data get hymenoptera -o sets"),
    "adopt": ("edge-tl adopt theirs.onnx -o model.onnx --labels labels.txt --photos photos",),
    "inspect": ("edge-tl inspect model.onnx",),
    "pack": ("edge-tl pack model.onnx photos -o bench.pack",),
    "bench": ("edge-tl bench model.onnx bench.pack -o pi.json", "edge-tl bench model.onnx --quick"),
    "tune": ("edge-tl tune model.onnx --seconds 60",),
    "doctor": ("edge-tl doctor", "edge-tl doctor model.onnx"),
}


def epilog(name: str) -> str:
    """The examples of a command as click shows them unwrapped after its options."""
    return "\b\n" + "\n".join(["Examples:", *(f"  {line}" for line in EXAMPLES[name])])

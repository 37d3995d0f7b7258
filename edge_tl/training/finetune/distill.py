"""A larger network that a smaller one learns from."""

from __future__ import annotations

from pathlib import Path

import torch

from edge_tl.models import Network, WeightsSource, build_network, find_backbone, is_backbone
from edge_tl.training.probe.features import FeatureExtractor
from edge_tl.training.probe.probe import fit_probe
from edge_tl.training.run_folder import load_run
from edge_tl_export import PixelModel
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.progress import Progress
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos


class Teacher:
    """Logits of a trained network for the very views its student sees (Beyer et al. 2022: a consistent teacher)."""

    def __init__(self, network: Network, device: torch.device, order: list[int]) -> None:
        """order: for each of the student's classes, its place among the teacher's."""
        self.network, self._order = network, torch.tensor(order, device=device)
        self._side = network.backbone.size
        self._model = PixelModel(network.module.eval(), network.backbone.normalization)
        self._model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        for parameter in self._model.parameters():
            parameter.requires_grad_(False)

    @torch.no_grad()
    def __call__(self, views: torch.Tensor) -> torch.Tensor:
        """views: float32 (B, H, W, 3), 0 to 255, brought to the teacher's own size. Returns float32 (B, C)."""
        if views.shape[1:3] != (self._side, self._side):
            planes = views.permute(0, 3, 1, 2)
            planes = torch.nn.functional.interpolate(planes, (self._side, self._side), mode="bilinear", antialias=True)
            views = planes.permute(0, 2, 3, 1)
        logits: torch.Tensor = self._model(views)
        return logits.float()[:, self._order]


def find_teacher(name: str, train: LabelledPhotos, device: torch.device, progress: Progress) -> Teacher:
    """A trained run, or a backbone by name, which is given a linear probe on the student's training photos.

    Raises UsageError when the run does not know the student's classes, WeightsError when there are no weights to be had.
    """
    if is_backbone(name) and not Path(name).exists():
        backbone = find_backbone(name)
        network = build_network(backbone, WeightsSource.parse("pretrained", backbone))
        features = FeatureExtractor(network, device)(train, progress)
        probe = fit_probe(features.values, features.targets, features.names, len(train.labels), groups=features.groups)
        network.set_head(torch.from_numpy(probe.weight), torch.from_numpy(probe.bias), train.labels)
        return Teacher(network, device, list(range(len(train.labels))))
    run = load_run(Path(name))
    unknown = [label for label in train.labels if label not in run.spec.labels]
    if unknown:
        raise UsageError(f"the teacher {name} does not know the class {unknown[0]!r}; train it on the same classes")
    return Teacher(run.network, device, [run.spec.labels.index(label) for label in train.labels])

"""Backbones: which there are, where their weights come from, and the network with a head of its own."""

from edge_tl.models.backbones import BACKBONES, Backbone, find_backbone, is_backbone
from edge_tl.models.network import Network, build_network
from edge_tl.models.weights import WeightsSource

__all__ = ["BACKBONES", "Backbone", "Network", "WeightsSource", "build_network", "find_backbone", "is_backbone"]

"""The network that a specification describes."""

from __future__ import annotations

from typing import TypeAlias

from kd6d_ros.networks.dense_network import DenseNetwork
from kd6d_ros.networks.keypoint_network import KeypointNetwork
from kd6d_ros.networks.spec import NetworkSpec

AnyNetwork: TypeAlias = KeypointNetwork | DenseNetwork


def make_network(spec: NetworkSpec) -> AnyNetwork:
    """A network of the kind of `spec`, randomly initialised.

    Raises:
        ConfigError: a timm model that is not to be had, see ``TimmBackbone``.
    """
    return DenseNetwork(spec) if spec.kind == 'dense' else KeypointNetwork(spec)

"""Feature pyramid: lateral 1x1, top-down nearest upsampling, 3x3 outputs, extra levels by stride-2 convolutions.

Reference: Lin et al., "Feature Pyramid Networks", CVPR 2017; extra levels from the backbone's last map as in
Tian et al., "FCOS", ICCV 2019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from kd6d_ros.errors import ConfigError


class FeaturePyramid(nn.Module):
    """Maps {stride: features} of a backbone to one map of `width` channels per stride in `strides`.

    Strides finer than the finest requested one are not computed; no coarser level depends on them. Coarser
    maps than are asked for lend their context from above.

    Raises:
        ConfigError: `strides` has nothing of the backbone, or goes on beyond it without its coarsest map.
    """

    def __init__(self, channels: Mapping[int, int], strides: Sequence[int], width: int) -> None:
        super().__init__()
        coarsest = max(channels)
        wanted, self.extra = [s for s in strides if s in channels], [s for s in strides if s not in channels]
        if not wanted or (self.extra and wanted[-1] != coarsest):
            raise ConfigError(
                f'network.strides: {list(strides)} must include {coarsest}, the coarsest map of the backbone'
            )
        self.inner = sorted(s for s in channels if s >= wanted[0])
        self.lateral = nn.ModuleList(nn.Conv2d(channels[s], width, 1) for s in self.inner)
        self.output = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in wanted)
        last = channels[self.inner[-1]]
        widths = [last] + [width] * len(self.extra)
        self.down = nn.ModuleList(nn.Conv2d(w, width, 3, 2, 1) for w in widths[: len(self.extra)])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Mapping[int, Tensor]) -> list[Tensor]:
        """One map per stride, finest first."""
        merged = [conv(features[s]) for conv, s in zip(self.lateral, self.inner, strict=True)]
        for index in range(len(merged) - 1, 0, -1):
            up = F.interpolate(merged[index], scale_factor=2.0, mode='nearest')
            merged[index - 1] = merged[index - 1] + up
        maps = [conv(x) for conv, x in zip(self.output, merged[: len(self.output)], strict=True)]
        x = features[self.inner[-1]]
        for index, conv in enumerate(self.down):
            x = conv(x if index == 0 else F.relu(x))
            maps.append(x)
        return maps

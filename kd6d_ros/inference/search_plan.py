"""When to run the network over the whole frame, and when to measure what it found. No network in here.

A run over the frame costs as much as several crops. With both in every image, images wait for each other for as long
as an object stays away. So images that follow each other quickly share the work: one is searched, in the next the
regions are measured where objects were and where the search had a doubtful find. Measured at once is what passes the
gates already where it is found, and everything when an object was seen just before and no search was made for
search_period_s. A find only says where to look: poses are of the image itself.

What is done depends on stamps and on what was seen, not on measured times: a recording gives the same poses again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Sequence

import numpy as np

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import NetworkSpec
    from kd6d_ros.inference.measure import Request
    from kd6d_ros.inference.settings import EstimatorSettings

SHARED_WITHIN_S = 0.25
"""Images farther apart than this do not share a search: there is time for all of it, and a find would be outdated."""


class SearchPlan:
    """Whose turn it is, from image to image: ``advance`` first, then the questions about that image."""

    def __init__(self, settings: EstimatorSettings, network: NetworkSpec) -> None:
        self._settings = settings
        width, height = network.frame_size or (0, 0)
        self._most_finds = max(1, width * height // network.crop_size**2)
        self.reset()

    def reset(self) -> None:
        """Forget when images came, were searched, and what was found."""
        self._image = self._searched = -np.inf
        self._sharing = self._after_search = False
        self._finds: List[Request] = []

    def advance(self, stamp: float) -> None:
        """Move to the image of `stamp` [s]."""
        self._sharing = self._settings.track and stamp - self._image <= SHARED_WITHIN_S
        self._after_search = self._searched == self._image
        self._image = stamp
        if not self._sharing:
            self._finds = []

    @property
    def due(self) -> bool:
        """Whether the last search is search_period_s ago."""
        return self._image - self._searched >= self._settings.search_period_s

    def search_alone(self, seen: bool) -> bool:
        """Whether this image is for the search alone. `seen`: an object was seen in the last image."""
        return self._sharing and not seen and not self._after_search and not self._finds

    def search_beside(self, measured: bool) -> bool:
        """Whether an image without any object is searched. `measured`: a region of it was measured, in vain."""
        return not (self._sharing and measured)

    def may_wait(self, lost: bool) -> bool:
        """Whether doubtful finds are measured in the next image. `lost`: an object of the last image is missing."""
        return self._sharing and not (lost and self.due)

    def searched(self, finds: Sequence[Request]) -> None:
        """The image was searched; `finds` are to be measured in the next ones."""
        self._searched, self._finds = self._image, list(finds)

    def next_finds(self) -> List[Request]:
        """Finds to measure in this image: no more at a time than cost what a search costs."""
        now, self._finds = self._finds[: self._most_finds], self._finds[self._most_finds :]
        return now

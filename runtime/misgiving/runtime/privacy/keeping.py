"""From the decision to keep a frame to the spool: may it, and what of it."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from misgiving.runtime.geometry import CropRule
from misgiving.runtime.nouns import Frame, Person
from misgiving.runtime.privacy.policy import Barred, PrivacyPolicy
from misgiving.runtime.privacy.redacting import redacted
from misgiving.runtime.wire.collected import KeptFrame, coded

log = logging.getLogger(__name__)

_SAID = {
    Barred.COLLECTION_OFF: "privacy.collect is false",
    Barred.GEOFENCE: "it was taken where privacy.geofence keeps none",
    Barred.NO_POSITION: "privacy.geofence wants to know where it was taken, and it has no position",
    Barred.NO_PERSON: "nobody was found in it whose surroundings or head could be covered",
}
"""Of a redaction that failed, the spool tells."""


class Keeping:
    """What a pipeline asks before it collects.

    Args:
        policy: from the start.
        jpeg_quality: of a kept image that is not encoded yet, 1 to 100; 0 for PNG.
    """

    def __init__(self, policy: PrivacyPolicy = PrivacyPolicy(), jpeg_quality: int = 0) -> None:
        self.policy = policy
        """In force from the next frame on."""
        self._jpeg_quality = jpeg_quality
        self._counts: Counter[Barred] = Counter()

    def bars(self, frame: Frame, persons: Sequence[Person]) -> Barred | None:
        """Why a frame may not be kept; None where it may."""
        return self.policy.bars(frame, persons)

    def count(self, why: Barred) -> None:
        """A frame that was to be kept is not; the first for each reason is told."""
        self._counts[why] += 1
        if self._counts[why] == 1 and why in _SAID:
            says = "a frame is not kept: %s; misgiving_frames_barred_total counts the next ones"
            log.warning(says, _SAID[why])

    @property
    def counts(self) -> Mapping[Barred, int]:
        """Frames that were to be kept and are not, since the start."""
        return {why: self._counts[why] for why in Barred}

    def finishing(self, rule: CropRule) -> Callable[[KeptFrame], KeptFrame]:
        """What the spool's thread does to a frame before it is stored, by the policy of now.

        Args:
            rule: of the bundle that answered.
        """
        return partial(self._finished, self.policy, rule)

    def _finished(self, policy: PrivacyPolicy, rule: CropRule, kept: KeptFrame) -> KeptFrame:
        try:
            return coded(redacted(kept, policy, rule), self._jpeg_quality)
        except Exception:
            self.count(Barred.REDACTION_FAILED)
            raise

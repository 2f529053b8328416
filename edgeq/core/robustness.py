"""Does an artifact lose more under a corruption than on clean data, beyond chance?

Each sample is answered four times: by the float model and by the artifact, clean and corrupted. It
turns against the artifact when its drop (float right less artifact right: -1, 0 or 1) is larger
corrupted than clean, and for it when smaller. If the corruption did nothing to the drop, either
would be as likely: a one-sided sign test. With many corruptions some look bad by chance, so Holm's
step-down procedure (Scandinavian Journal of Statistics 6 (1979), 65-70) decides over all of them.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from edgeq.core.metrics import ScoreKind
from edgeq.core.scores import Batch

Drops = npt.NDArray[np.int8]
LEVEL = 0.05
_EXACT_UP_TO = 1000


class Turns:
    """How often samples turned against the artifact (``worse``) and for it (``better``)."""

    def __init__(self) -> None:
        self.worse: dict[ScoreKind, int] = {"probabilities": 0, "logits": 0}
        self.better: dict[ScoreKind, int] = {"probabilities": 0, "logits": 0}

    def add(self, clean: dict[ScoreKind, Batch], corrupted: dict[ScoreKind, Batch]) -> None:
        """Take a batch, answered clean and corrupted."""
        for kind, batch in corrupted.items():
            before, after = clean[kind].drop, batch.drop
            if before is not None and after is not None:
                self.worse[kind] += int((after > before).sum())
                self.better[kind] += int((after < before).sum())

    def chance(self, kind: ScoreKind) -> float:
        """Of at least as many ``worse`` if both were as likely."""
        return sign_test(self.worse[kind], self.better[kind])


def sign_test(more: int, less: int) -> float:
    """Chance of ``more`` heads or still more in ``more + less`` throws of a fair coin."""
    throws = more + less
    if throws <= _EXACT_UP_TO:
        ways = sum(math.comb(throws, heads) for heads in range(more, throws + 1))
        return float(Fraction(ways, 2**throws))
    # the normal approximation with Yates' correction
    z = (more - 0.5 - throws / 2) / math.sqrt(throws / 4)
    return math.erfc(z / math.sqrt(2)) / 2


def holm(chances: Sequence[float], level: float = LEVEL) -> tuple[bool, ...]:
    """Which findings stand when all are to be right together with a chance of 1 - ``level``."""
    order = sorted(range(len(chances)), key=lambda place: chances[place])
    stand = [False] * len(chances)
    for rank, place in enumerate(order):
        if chances[place] > level / (len(chances) - rank):
            break
        stand[place] = True
    return tuple(stand)

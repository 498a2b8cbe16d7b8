"""A stand-in for what a bridge receives."""

import math

STREAMS = "digest"


class Receiving:
    """What a bridge receives: everything, unless said otherwise."""

    streams = STREAMS

    def __init__(
        self,
        *,
        is_cut: bool = False,
        silent_s: float = 0.0,
        has_frames: bool = True,
        whole_since: int = 0,
        lag_s: float = 0.0,
    ) -> None:
        self.is_cut, self.whole_since = is_cut, whole_since
        self._lag_s = lag_s
        self._silent_s, self._has_frames = silent_s, has_frames

    def silent_s(self, *, has_frames: bool = False) -> float:
        return math.inf if has_frames and not self._has_frames else self._silent_s

    def lag_s(self) -> float:
        return self._lag_s

"""How long, how much, how hard: what a soak is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One soak."""

    seed: int
    """Of everything that is left to chance. Times on the wire are not, so no two runs are alike."""
    seconds: float = 1200.0
    """How long rounds are begun."""
    least_rounds: int = 1
    """As many rounds there are in any case."""
    edges: int = 30
    objects: int = 500
    """Pods, ConfigMaps, Secrets and Devices together."""
    clouds: int = 3
    round_seconds: float = 60.0
    """How long things break before all is healed."""
    pause: tuple[float, float] = (0.3, 3.0)
    """Seconds between two faults: least and most."""
    longest: float = 40.0
    """Seconds that one fault lasts at most; a dead link is noticed after 25."""
    writes: float = 16.0
    """Changes a second that the driver asks the API for."""
    look: float = 1.0
    """Seconds between two looks at what the edges have."""
    starting: int = 4
    """Edges that start at once."""
    nice: int = 0
    """Added to the niceness of every process, so that others on the machine keep their time."""
    safety: float = 300.0
    """Seconds after a heal at which agreement is given up. No measure of quality."""

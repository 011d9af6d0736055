"""What Edged is told about its node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kubeedge_tx.edge.edged.containers import ClusterNames
from kubeedge_tx.edge.edged.podspec import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """One node: its identity, how it presents itself, and its limits. Times in seconds."""

    name: str
    ip: str
    root_dir: Path
    """Where pods' volumes are; ``rootDirectory``."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Added to those that every edge node has."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Json, ...] = ()
    """As in ``spec.taints``: key, value, effect."""
    register: bool = True
    """Whether to create the Node object."""
    schedulable: bool = True
    max_pods: int = 110
    names: ClusterNames = field(default_factory=ClusterNames)
    status_update_seconds: float = 10.0
    """``nodeStatusUpdateFrequency``: how often the node is looked at."""
    status_report_seconds: float = 300.0
    """``nodeStatusReportFrequency``: how often an unchanged status is sent all the same."""
    lease_seconds: int = 40
    """``nodeLeaseDurationSeconds``; renewed four times as often."""
    image_gc_high_percent: float = 85.0
    image_gc_low_percent: float = 80.0
    image_gc_seconds: float = 300.0
    dead_containers: int = 1
    """``maxPerPodContainerCount``: ended attempts kept behind the newest one."""
    kubelet_port: int = 10350
    """What the node announces as its kubelet endpoint. Source: KubeEdge ``constants``."""

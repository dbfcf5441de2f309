"""Generated data with known truth: the two published patch sets, groups of every kind, and full-frame sensor scenes."""

from irst_stream.sim.datasets import FRAMES_PER_TRAJECTORY, Patches, SeqCsistRules, csist100k, seqcsist
from irst_stream.sim.mixed import Mixed, mixed
from irst_stream.sim.scene import Background, Groups, Platform, Scene, SceneSettings
from irst_stream.sim.sensor import Sensor

__all__ = [
    "FRAMES_PER_TRAJECTORY",
    "Background",
    "Groups",
    "Mixed",
    "Patches",
    "Platform",
    "Scene",
    "SceneSettings",
    "Sensor",
    "SeqCsistRules",
    "csist100k",
    "mixed",
    "seqcsist",
]

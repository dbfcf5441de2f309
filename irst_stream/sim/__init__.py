"""Simulated data with known truth: the two published patch sets, mixed groups, and full-frame sensor scenes."""

from irst_stream.sim.datasets import FRAMES_PER_TRAJECTORY, PatchSequences, SeqCsistRules, csist100k, seqcsist
from irst_stream.sim.mixed import MixedGroups, mixed
from irst_stream.sim.scene import Background, Groups, Platform, Scene, SceneSettings
from irst_stream.sim.sensor import Sensor

__all__ = [
    "FRAMES_PER_TRAJECTORY",
    "Background",
    "Groups",
    "MixedGroups",
    "PatchSequences",
    "Platform",
    "Scene",
    "SceneSettings",
    "Sensor",
    "SeqCsistRules",
    "csist100k",
    "mixed",
    "seqcsist",
]

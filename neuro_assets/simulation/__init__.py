"""A whole recording session with known truth, written as rigs write it.

The public functions only; each part of the world, the probes and the files has its own module.
"""

from neuro_assets.simulation.memory import simulate_recording
from neuro_assets.simulation.session import SimulatedSession, simulate_session

__all__ = ["SimulatedSession", "simulate_recording", "simulate_session"]

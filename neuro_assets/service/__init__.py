"""Running the platform on one machine: its home folder, its processes, its runs.

Nothing here knows what is computed. `home` prepares the folder, `supervisor` keeps the processes
of `neuro-assets up` alive, `execution` hands a run to the daemon or executes it itself.
"""

from neuro_assets.service.execution import daemon_alive, execute
from neuro_assets.service.follower import RunResult
from neuro_assets.service.home import CodeLocation, prepare_home
from neuro_assets.service.progress import steps_in_progress
from neuro_assets.service.supervisor import up

__all__ = [
    "CodeLocation",
    "RunResult",
    "daemon_alive",
    "execute",
    "prepare_home",
    "steps_in_progress",
    "up",
]

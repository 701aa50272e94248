"""Running the platform on one machine: its home folder, its processes, its runs.

Nothing here knows what is computed. `home` prepares the folder, `supervisor` keeps the processes
of `neuro-assets up` alive, `execution` hands a run to the daemon or executes it itself.
"""

from neuro_assets.service.execution import daemon_alive, execute, prepared_worker
from neuro_assets.service.follower import RunResult
from neuro_assets.service.home import CodeLocation, prepare_home
from neuro_assets.service.progress import loaded_configuration, steps_in_progress
from neuro_assets.service.supervisor import up

__all__ = [
    "CodeLocation",
    "RunResult",
    "daemon_alive",
    "execute",
    "loaded_configuration",
    "prepare_home",
    "prepared_worker",
    "steps_in_progress",
    "up",
]

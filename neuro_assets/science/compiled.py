"""Keeps what numba compiled for SpikeInterface on disk, so that the next process starts fast.

SpikeInterface compiles its kernels anew in every process: for a minute of recording that is most
of the time of a sorter and of an analyzer. numba can keep them (in `__pycache__`, or in
`NUMBA_CACHE_DIR`) but has to be asked, function by function. Nothing else about running is here.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence

ANALYZER_KERNELS = (
    "spikeinterface.postprocessing.correlograms",
    "spikeinterface.postprocessing.isi",
    "spikeinterface.postprocessing.localization_tools",
    "spikeinterface.postprocessing.template_similarity",
    "spikeinterface.metrics.quality.misc_metrics",
    "spikeinterface.comparison.comparisontools",
)
"""Modules of SpikeInterface 0.105.3 with the kernels of an analyzer."""

PEAK_KERNELS = (
    "spikeinterface.sortingcomponents.peak_detection.locally_exclusive",
    "spikeinterface.sortingcomponents.peak_detection.matched_filtering",
    "spikeinterface.postprocessing.localization_tools",
)
"""Modules with the kernels of peak detection and localisation."""

SORTER_KERNELS = (
    *PEAK_KERNELS,
    "spikeinterface.postprocessing.template_similarity",
    "spikeinterface.postprocessing.correlograms",
    "spikeinterface.sortingcomponents.clustering.isosplit_isocut",
    "spikeinterface.sortingcomponents.clustering.merging_tools",
    "spikeinterface.sortingcomponents.matching.circus",
    "spikeinterface.sortingcomponents.matching.tdc_peeler",
    "spikeinterface.sortingcomponents.matching.wobble",
)
"""Modules with the kernels of the sorters that live in SpikeInterface."""


UNKEPT = ("_compute_correlograms_one_segment_numba",)
"""Kernels that numba cannot keep (dynamic globals), and would warn about."""


def keep_compiled(modules: Sequence[str]) -> int:
    """Ask numba to keep every kernel of SpikeInterface that is a function of a module.

    Parameters
    ----------
    modules : sequence of str
        Modules to import first. One that this SpikeInterface does not have is passed over: its
        kernels are then compiled in every process, which is slow but right.

    Returns
    -------
    int
        How many kernels are kept.
    """
    from numba.core.registry import CPUDispatcher

    for name in modules:
        if importlib.util.find_spec(name.rsplit(".", 1)[0]) and importlib.util.find_spec(name):
            importlib.import_module(name)
    kernels = {
        id(value): value
        for name, module in list(sys.modules.items())
        if name.startswith("spikeinterface.")
        for value in vars(module).values()
        if isinstance(value, CPUDispatcher) and value.__name__ not in UNKEPT
    }
    for kernel in kernels.values():
        kernel.enable_caching()
    return len(kernels)

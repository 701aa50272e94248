"""How the LF band of a probe lies against its AP band in time."""

from __future__ import annotations

OFFSET = "offset_samples"
"""Annotation of an LF stream: its first sample after that of the AP stream, in LF samples."""


def shared_clock_rate(ap_rate: float, lf_rate: float) -> float:
    """Rate of the LF band when both bands are counted by one oscillator.

    Metadata round the rates apart from each other (30000.390639 and 2500.03): 1e-6 would be
    3.6 ms an hour. The AP rate divided by the whole ratio is the exact one.

    Parameters
    ----------
    ap_rate, lf_rate : float
        As written in the metadata, Hz.

    Returns
    -------
    float
        Hz.
    """
    ratio = ap_rate / lf_rate
    whole = round(ratio)
    if whole >= 1 and abs(ratio / whole - 1) < 1e-4:
        return ap_rate / whole
    return lf_rate

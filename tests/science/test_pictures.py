"""The pictures of the steps: what they draw, that no text hides another, and how large they are."""

from __future__ import annotations

import base64
import io
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neuro_assets.checks.criteria import limits_of
from neuro_assets.parameters.bad_channels import BadChannelsParameters
from neuro_assets.parameters.motion import MotionParameters
from neuro_assets.parameters.unit_quality import UnitQualityParameters
from neuro_assets.science import drawings, pictures
from neuro_assets.science.units_picture import units_picture

NOISE_LIMITS = {"warning": 20.0, "fail": 40.0}
MOTION_LIMITS = {"warning": 20.0, "fail": 50.0}
LFP_LIMITS = {"warning": 1000.0, "fail": 5000.0}


def channels(n: int, shanks: int = 1, *, probe: bool = True, method: str = "coherence+psd"):
    rng, k = np.random.default_rng(0), np.arange(n)
    label = np.full(n, "good", object)
    if n > 12:
        label[3], label[7], label[-n // 12 :] = "dead", "noise", "out"
    trend = np.where(label == "out", 0.1, 1) + rng.normal(0, 0.02, n)
    offset = rng.normal(0, 0.1, n) - 0.9 * (label == "dead") + 1.4 * (label == "noise")
    return pd.DataFrame(
        {
            "y_um": (k // shanks // 2) * 20.0 if probe else np.nan,
            "shank": (k % shanks).astype(str),
            "label": label,
            "method": method,
            "similarity": trend + offset,
            "similarity_trend": trend,
            "psd_hf_uv2_hz": np.exp(rng.normal(-6, 0.3, n)) * np.where(label == "noise", 20, 1),
            "spread_uv": np.exp(rng.normal(2, 0.1, n)) * (label != "dead"),
            "rms_destriped_uv": np.exp(rng.normal(2, 0.1, n)) * (label != "dead"),
            "rms_raw_uv": np.exp(rng.normal(4, 0.2, n)) * (label != "dead"),
            "rms_uv": np.exp(rng.normal(5, 0.2, n)),
        }
    )


def bad_channels(table):
    return drawings.channels_picture(table, BadChannelsParameters())


def noise(table, power=1.0):
    hz, n = np.fft.rfftfreq(128, 1 / 30_000), len(table)
    spectrum = {
        "channel_index": np.repeat(np.arange(n), len(hz)),
        "frequency_hz": np.tile(hz, n),
        "power_uv2_hz": np.tile(power * 9 / (1 + hz), n),
    }
    ap = pd.DataFrame(spectrum).assign(stream="ap")
    lf = ap.assign(stream="lf", frequency_hz=ap["frequency_hz"] / 12)
    return drawings.noise_picture(table, pd.concat([ap, lf]), NOISE_LIMITS)


def motion(
    seconds: int, confident: list[bool], size_um: float = 10.0, error: float = 9.0, doubted=()
):
    rng, sure = np.random.default_rng(2), np.array(confident)
    times = np.arange(seconds) + 0.5
    moved = size_um * np.sin(times / seconds * 6)[:, None] + rng.normal(
        0, 0.7, (seconds, len(sure))
    )
    windows = pd.DataFrame(
        {
            "depth_um": 200.0 + 400 * np.arange(len(sure)),
            "peaks_per_bin": np.where(sure, 40.0, 3.0),
            "error_um": np.where(sure, 1.2, error),
            "confident": sure,
        }
    )
    believed = np.ones(moved.shape, bool)
    believed[list(doubted)] = False
    return drawings.motion_picture(
        times, moved, believed, windows, MotionParameters(), MOTION_LIMITS
    )


def units(n: int, shanks: int = 1, *, known: bool = True, good=None):
    rng, k = np.random.default_rng(3), np.arange(n)
    table = pd.DataFrame(
        {
            "label": rng.choice(["good", "bad", "noise", "unknown"][0 if known else 3 :], n),
            "shank": (k % shanks).astype(str),
            "y_um": rng.uniform(0, 3840, n),
            "ibl_amp_median_uv": np.exp(rng.normal(4.4, 0.6, n)) if known else np.nan,
            "ibl_noise_cutoff": 5 * rng.standard_t(1, n) if known else np.nan,
            "ibl_max_confidence": rng.uniform(0, 100, n) if known else np.nan,
            "central_span": np.where(k % 9, rng.uniform(0.2, 0.9, n), np.nan),
        }
    )
    return units_picture(table, UnitQualityParameters(**({"good": good} if good else {})))


def lfp(table, samples: int = 1000, *, power: bool = True):
    rng, n = np.random.default_rng(4), len(table)
    hz = np.arange(501.0) if power else np.zeros(1)
    spectrum = 1e3 / (1 + hz[:, None]) * np.exp(rng.normal(0, 0.1, (len(hz), n)))
    spectrum = spectrum if power else np.full((1, n), np.nan)
    traces = rng.normal(0, 100, (samples, n))
    return drawings.field_picture(traces, 10_799.5, 1000, table, hz, spectrum, LFP_LIMITS)


SIZES = [(24, 1), (385, 1), (384, 4)]
DRAWN = {
    **{f"bad channels {n} {s}": lambda n=n, s=s: bad_channels(channels(n, s)) for n, s in SIZES},
    **{f"noise {n} {s}": lambda n=n, s=s: noise(channels(n, s)) for n, s in SIZES},
    **{f"lfp {n} {s}": lambda n=n, s=s: lfp(channels(n, s)) for n, s in SIZES},
    "bad channels 1": lambda: bad_channels(channels(1)),
    "noise of 16 on 4 shanks": lambda: noise(channels(16, 4)),
    "noise of 32 on 8 shanks": lambda: noise(channels(32, 8)),
    "bad channels without a probe": lambda: bad_channels(channels(24, probe=False)),
    "spread of 8": lambda: bad_channels(channels(8, method="mad")),
    "spread of 4 shanks": lambda: bad_channels(channels(64, 4, method="mad")),
    "noise of nothing": lambda: noise(
        channels(24).assign(rms_raw_uv=np.nan, rms_destriped_uv=np.nan), 0.0
    ),
    "motion 2 min": lambda: motion(120, [True] * 3),
    "motion 3 h": lambda: motion(10_800, [True] * 10),
    "motion of one window": lambda: motion(60, [True], 1.0),
    "motion, most unsure": lambda: motion(600, [False] * 6 + [True] * 3, 60.0),
    "motion, none sure": lambda: motion(60, [False] * 2, error=np.nan),
    "units 0": lambda: units(0),
    "units 1": lambda: units(1),
    "units 400": lambda: units(400),
    "units 400 on 4 shanks": lambda: units(400, 4),
    "units, nothing known": lambda: units(5, known=False),
    "lfp, too short": lambda: lfp(channels(8), 5, power=False),
    "lfp in counts": lambda: lfp(channels(8).assign(rms_uv=np.nan)),
}


@pytest.fixture
def drawn(monkeypatch):
    """Pictures, with the figure that each was rendered from."""
    figures, render = [], pictures.to_picture
    monkeypatch.setattr(
        pictures,
        "to_picture",
        lambda title, figure: figures.append(figure) or render(title, figure),
    )
    return lambda make: (make(), figures.pop())


def shown_texts(figure):
    """Every text that a reader sees: labels, ticks within their axes, titles, legend."""
    from matplotlib.text import Text

    ticks = set()
    for axes in figure.axes:
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            for tick in axis.get_major_ticks() + axis.get_minor_ticks():
                if not min(low, high) <= tick.get_loc() <= max(low, high):
                    ticks |= {tick.label1, tick.label2}
    texts = figure.findobj(Text)
    return [t for t in texts if t.get_visible() and t.get_text().strip() and t not in ticks]


@pytest.mark.parametrize("name", DRAWN)
def test_no_text_hides_another_and_the_legend_hides_no_data(name, drawn):
    picture, figure = drawn(DRAWN[name])
    boxes = [(t.get_text(), t.get_window_extent().padded(-1)) for t in shown_texts(figure)]
    assert len(boxes) > 5
    whole = figure.bbox.padded(1)
    assert [
        text for text, box in boxes if not whole.contains(*box.p0) or not whole.contains(*box.p1)
    ] == []
    hidden = [(a, b) for (a, one), (b, two) in combinations(boxes, 2) if one.overlaps(two)]
    assert hidden == []
    (legend,) = figure.legends
    assert not any(legend.get_window_extent().overlaps(a.bbox.padded(-1)) for a in figure.axes)
    for axes in figure.axes:
        assert axes.get_xlabel() or axes.get_label() == "<colorbar>"
    assert Image.open(io.BytesIO(picture.png)).width == 700
    assert len(base64.b64encode(picture.png)) <= 100_000


def lines_of(figure):
    return {line.get_label(): line for axes in figure.axes for line in axes.lines}


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("bad channels 384 4", {"out: trend below 0.25": 0.25, "noise: above 0.02 µV²/Hz": 0.02}),
        ("noise 24 1", {"warning: median above 20 µV": 20, "fail: median above 40 µV": 40}),
        ("motion 2 min", {"error: at most 2 µm": 2, "peaks a bin: at least 10": 10}),
        (
            "units 400",
            {
                "ibl_max_confidence: at least 90": 90,
                "ibl_noise_cutoff: at most 5": 5,
                "central_span: at least 0.55": 0.55,
            },
        ),
        ("lfp 24 1", {"warning: median above 1000 µV": 1000, "fail: median above 5000 µV": 5000}),
    ],
)
def test_limits_are_lines_at_their_numbers_and_in_sight(name, limits, drawn):
    _, figure = drawn(DRAWN[name])
    for label, value in limits.items():
        found = lines_of(figure)[label]
        assert list(found.get_xdata()) == [value, value]
        low, high = found.axes.get_xlim()
        assert low < value < high
        assert label in {text.get_text() for text in figure.legends[0].get_texts()}


def test_limits_of_the_motion_lie_on_both_sides_of_it(drawn):
    _, figure = drawn(lambda: motion(600, [True], 60.0))
    (left, *_) = figure.axes
    levels = {tuple(line.get_ydata()) for line in left.lines if len(line.get_ydata()) == 2}
    assert levels == {(20, 20), (-20, -20), (50, 50), (-50, -50)}
    _, small = drawn(lambda: motion(600, [True], 2.0))
    assert {tuple(line.get_ydata()) for line in small.axes[0].lines[1:]} == {(20, 20), (-20, -20)}


def test_windows_that_are_not_believed_are_not_drawn_over_time_but_beside_the_limit(drawn):
    _, figure = drawn(lambda: motion(60, [True, False, False]))
    left, error, peaks = figure.axes
    assert sum(len(line.get_xdata()) > 10 for line in left.lines) == 1
    for axes in (error, peaks):
        believed, unsure = (c.get_offsets()[:, 1].tolist() for c in axes.collections)
        assert (believed, unsure) == ([200.0], [600.0, 1000.0])
    _, none = drawn(lambda: motion(60, [False, False]))
    assert "no depth window has enough evidence" in {t.get_text() for t in none.axes[0].texts}


def test_labels_of_channels_that_were_judged_by_their_spread_stand_beside_its_limits(drawn):
    table = channels(64, method="mad")
    _, figure = drawn(lambda: bad_channels(table))
    found = lines_of(figure)
    assert found["noise: above median x 5"].get_xdata() == pytest.approx(
        5 * table["spread_uv"].median()
    )
    assert "trend" not in found


def test_bins_that_are_not_believed_are_marked_in_windows_that_are(drawn):
    _, figure = drawn(lambda: motion(60, [True, False], doubted=[7, 18]))
    marked = lines_of(figure)["bin interpolated: error above 5 µm"]
    assert marked.get_xdata().tolist() == [7.5, 18.5]
    _, plain = drawn(lambda: motion(60, [True, False]))
    assert not any("interpolated" in name for name in lines_of(plain))


def test_a_dead_channel_is_drawn_where_the_scale_begins(drawn):
    _, figure = drawn(DRAWN["noise 24 1"])
    (x,), (y,) = lines_of(figure)["dead"].get_data()
    left = figure.axes[0]
    assert left.get_xlim()[0] < x < 5 and y == 20


def test_a_dead_channel_is_drawn_where_the_scale_of_the_lfp_begins(drawn):
    table = channels(24)
    table["rms_uv"] = np.where(np.arange(24) == 5, 0.0, 80.0)
    _, figure = drawn(lambda: lfp(table))
    right = next(one for one in figure.axes if one.get_xlabel().startswith("RMS"))
    x = lines_of(figure)["channel"].get_xdata()
    assert right.get_xlim()[0] < x.min() < 80 and (x == 80).sum() == 23


def test_the_picture_of_units_follows_the_limits_of_good_and_counts_what_is_not_computed(drawn):
    def drawn_of(good):
        _, figure = drawn(lambda: units(90, good=good))
        return {axes.get_xlabel() for axes in figure.axes}, set(lines_of(figure)), figure

    names, lines, figure = drawn_of({"central_span": (0.3, None), "ibl_amp_median_uv": (40, None)})
    assert names == {"amplitude (µV)", "central_span"}
    assert {"central_span: at least 0.3", "ibl_amp_median_uv: at least 40"} <= lines
    assert "central_span: not computed (10)" in {
        text.get_text() for text in figure.legends[0].get_texts()
    }
    span = figure.axes[1]
    ends = span.get_xlim()
    assert all(ends[0] < x < ends[1] for line in span.lines for x in line.get_xdata())
    assert sum(len(line.get_xdata()) for line in span.lines if "(" in line.get_label()) == 90
    names, lines, _ = drawn_of({"ibl_label": (1.0, None)})
    assert names == {"amplitude (µV)", "ibl_max_confidence", "ibl_noise_cutoff"}
    assert "ibl_amp_median_uv: at least 50" in lines


def test_each_unit_is_drawn_once_by_its_label(drawn):
    _, figure = drawn(DRAWN["units 400 on 4 shanks"])
    shanks = [axes for axes in figure.axes if axes.get_title()]
    kinds = ("good", "bad", "unknown", "noise")
    counts = {
        kind: sum(
            len(line.get_xdata())
            for axes in shanks
            for line in axes.lines
            if line.get_label().startswith(kind)
        )
        for kind in kinds
    }
    assert sum(counts.values()) == 400
    assert {f"{kind} ({n})" for kind, n in counts.items()} <= {
        text.get_text() for text in figure.legends[0].get_texts()
    }


def test_a_long_line_keeps_its_extremes_and_its_gaps():
    times = np.concatenate([np.arange(5000.0), np.arange(9000.0, 14_000)])
    values = np.sin(times / 500)
    values[1234], values[7777] = 9.0, -9.0
    t, v = pictures.thinned(times, values)
    assert len(t) <= 1050 and np.nanmax(v) == 9 and np.nanmin(v) == -9
    assert t[np.nanargmax(v)] == 1234 and (np.diff(t) >= 0).all()
    assert np.isnan(v[(t >= 4999) & (t <= 9000)]).any()


def test_neighbours_are_averaged_and_what_is_missing_counts_for_nothing():
    image = np.array([[1.0, 3.0, np.nan, 8.0], [3.0, 5.0, np.nan, np.nan]])
    np.testing.assert_array_equal(pictures.pooled(image, 2, 2), [[2, 8], [4, np.nan]])
    assert pictures.pooled(np.ones((385, 1000)), 96, 200).shape == (96, 200)


def test_a_picture_that_would_be_too_large_gets_fewer_colours():
    figure = pictures.new_figure()
    cells = np.random.default_rng(0).random((210, 350, 3))
    figure.add_axes((0, 0, 1, 1)).imshow(cells, aspect="auto", interpolation="nearest")
    picture = pictures.to_picture("noise", figure)
    assert len(picture.png) <= pictures.MAX_BYTES  # in full colour 240 kB
    assert Image.open(io.BytesIO(picture.png)).mode == "P"


def test_limits_are_those_of_the_criteria():
    from neuro_assets.assets.steps import lfp, motion, recording_quality

    assert limits_of(recording_quality.CRITERIA, "rms_destriped_uv_median") == NOISE_LIMITS
    assert limits_of(motion.CRITERIA, "drift_rms_um") == MOTION_LIMITS
    assert limits_of(lfp.CRITERIA, "lfp_rms_uv_median") == LFP_LIMITS
    assert limits_of(lfp.CRITERIA, "unknown") == {}

"""What a fresh Alyx holds, and the OpenAPI document of the endpoints that the test server has."""

from __future__ import annotations

from typing import Any

from fake_alyx.filters import UNMODELLED
from fake_alyx.models import DatasetType, Named
from fake_alyx.tables import Tables

# Stock fixtures of Alyx 3.6.1 that recordings need: name, pattern of the file name.
TYPES = """
spikes.clusters *spikes.clusters*.npy
spikes.times *spikes.times*.npy
spikes.samples *spikes.samples*.npy
spikes.amps *spikes.amps*.npy
spikes.depths *spikes.depths*.npy
spikes.templates *spikes.templates*.npy
clusters.uuids *clusters.uuids*.csv
clusters.amps *clusters.amps*.npy
clusters.channels *clusters.channels*.npy
clusters.depths *clusters.depths*.npy
clusters.metrics *clusters.metrics*.pqt
clusters.peakToTrough *clusters.peakToTrough*.npy
clusters.waveforms *clusters.waveforms.npy
clusters.waveformsChannels *clusters.waveformsChannels*.npy
channels.localCoordinates *channels.localCoordinates*.npy
channels.rawInd *channels.rawInd*.npy
channels.mlapdv *channels.mlapdv.npy
channels.brainLocationIds_ccf_2017 *channels.brainLocationIds*.npy
channels.labels
templates.amps *templates.amps.npy
templates.waveforms *templates.waveforms.npy
templates.waveformsChannels *templates.waveformsChannels.npy
waveforms.channels
waveforms.table
waveforms.templates
waveforms.traces
_spikeglx_sync.channels _spikeglx_sync.channels*.npy
_spikeglx_sync.polarities _spikeglx_sync.polarities*.npy
_spikeglx_sync.times _spikeglx_sync.times*.npy
ephysData.raw.ap *ephysData*.ap.cbin
ephysData.raw.lf *ephysData*.lf.cbin
ephysData.raw.nidq *ephysData*.nidq.cbin
ephysData.raw.ch *ephysData*.ch
ephysData.raw.meta *ephysData*.meta
ephysData.raw.sync *ephysData*.sync.npy
ephysData.raw.timestamps *ephysData*.timestamps.npy
ephysData.raw.wiring *ephysData*.wiring.json
probes.description probes.description*.json
probes.trajectory probes.trajectory*.json
trials.probabilityLeft _ibl_trials.probabilityLeft.*
camera.dlc *camera.dlc.*
camera.times *camera.times.*
drift.times drift.times.npy
drift.um drift.um.npy
drift_depths.um drift_depths.um.npy
licks.times licks.times.*
_kilosort_raw.output _kilosort_raw.output*.tar
"""
FORMATS = (
    "jsonable mj2 ssv m json mat ch cbin bin csv mp4 npy zip meta log tsv flac tar htsv yml tdms "
    "yaml tif npz"
)
ODD_FORMATS = {"notData": "", "parquet": ".pqt", "bzip2": ".bz2", "sparse npz": ".sparse_npz"}
PROCEDURES = (
    "Behavior training/tasks",
    "Ephys recording with acute probe(s)",
    "Ephys recording with chronic probe(s)",
    "Craniotomy",
    "Headplate implant",
    "Histology",
    "Imaging",
    "Optical stimulation",
    "handling_habituation",
)
MODELS = ("3A", "3B2", "NP2.1", "NP2.4", "Fiber")
SYSTEMS = ("Needles-Allen", "IBL-Allen")


def add_fixtures(tables: Tables, users: tuple[str, ...]) -> None:
    """Fill the tables that an installation of Alyx brings."""
    named = ((tables.users, users), (tables.procedures, PROCEDURES))
    for table, words in (*named, (tables.models, MODELS), (tables.systems, SYSTEMS)):
        for word in words:
            table.add(Named(tables.new_id(), word))
    formats = {name: f".{name}" for name in FORMATS.split()} | ODD_FORMATS
    for name, extension in formats.items():
        tables.formats.add(Named(tables.new_id(), name, file_extension=extension))
    for line in TYPES.split("\n"):
        if line:
            name, _, pattern = line.partition(" ")
            # Alyx keeps patterns in lower case.
            tables.types.add(DatasetType(tables.new_id(), name, pattern.lower()))


ACTIONS = {
    "get": "List rows or read one.",
    "post": "Create a row.",
    "put": "Update a row.",
    "patch": "Update fields of a row.",
    "delete": "Delete a row.",
}


def openapi(endpoints: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI document of endpoints: as much as ONE's client reads of it.

    Parameters
    ----------
    endpoints : dict
        Name to an object with `methods`, `row_methods`, `key`, `parameters` and `specs`.
    """
    paths: dict[str, Any] = {
        "/api/schema": {"get": {}},
        "/auth-token": {"post": {}},
    }
    schemas: dict[str, Any] = {}
    for name, endpoint in endpoints.items():
        component = "".join(word.capitalize() for word in name.split("-"))
        schemas[component] = {
            "type": "object",
            "properties": {field: {"type": "string"} for field in endpoint.specs},
        }
        others = UNMODELLED.get(name, "").split()
        parameters = sorted({*endpoint.parameters, *others, "limit", "offset"})
        listed = {
            "get": {
                "description": ACTIONS["get"],
                "parameters": [
                    {"name": word, "in": "query", "schema": {"type": "string"}}
                    for word in parameters
                ],
            },
            "post": _write(component, "post"),
        }
        paths[f"/{name}"] = {
            method: listed[method]
            for method in ("get", "post")
            if method.upper() in endpoint.methods
        }
        detail = {method: _write(component, method) for method in ("put", "patch")}
        detail |= {"get": {}, "delete": {}}
        if endpoint.row_methods:
            paths[f"/{name}/{{{endpoint.key}}}"] = {
                method.lower(): detail[method.lower()] for method in endpoint.row_methods
            }
    return {
        "openapi": "3.0.3",
        "info": {"title": "Alyx", "version": "3.6.1"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _write(component: str, method: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{component}"}
    return {
        "description": ACTIONS[method],
        "requestBody": {"content": {"application/json": {"schema": schema}}},
    }

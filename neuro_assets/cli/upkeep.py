"""Commands that look after what is stored: `verify`, `gc`, `rename`, `delete-raw`, ..."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from neuro_assets import names
from neuro_assets.cli.app import app
from neuro_assets.cli.lab import Interrupted, Lab, console, open_lab, size_words
from neuro_assets.cli.process import process_keys, succeeded
from neuro_assets.cli.progress import progress_of
from neuro_assets.outcomes import NeuroAssetsError, PermanentFailure

if TYPE_CHECKING:
    from neuro_assets.service.worker_process import WorkerProcess
    from neuro_assets.store import Store
    from neuro_assets.store.repair import Repair


@app.command()
def verify(
    key: Annotated[str | None, typer.Argument(help="One recording; all when left out")] = None,
    asset: Annotated[str | None, typer.Option(help="One asset only")] = None,
    mend: Annotated[
        bool, typer.Option("--repair", help="Let an intact attempt count, or make a new one")
    ] = False,
) -> None:
    """Read everything stored again: files, manifests, pointers, registry, what cites what."""
    lab = open_lab()
    store = lab.writable_store() if mend else lab.store()
    key = lab.present_key(key) if key else None
    with progress_of("verifying") as progress:
        defects = store.verify(asset, key, progress=progress)
    records = [] if asset or key else lab.registry().verify(repair=mend)
    if not defects and not records:
        console.print("Everything stored is as it was committed.")
        return
    console.print(f"[bold]{len(defects) + len(records)} defects[/]")
    for each in defects:
        where = " ".join(filter(None, (each.asset, each.key, each.path)))
        console.print(escape(f"{where}: {each.kind}: {each.detail}"), soft_wrap=True)
    for line in records:
        console.print(escape(f"registry: {line}"), soft_wrap=True)
    if mend:
        _repair(lab, store.repair(defects))
    else:
        console.print("Add --repair to let an intact attempt count, or to make a new one.")
    raise typer.Exit(1)


def _repair(lab: Lab, repairs: Sequence[Repair]) -> None:
    """Tell which attempts count now, and make anew what has no intact one."""
    from neuro_assets.service import prepared_worker

    lost: dict[str, list[str]] = {}
    stuck: dict[str, set[str]] = {}
    for done in repairs:
        outcome = f"attempt {done.attempt} counts now" if done.attempt else "no intact copy"
        console.print(escape(f"{done.asset} of {done.key}: {done.error or outcome}"))
        if done.error:
            stuck.setdefault(done.key, set()).add(done.asset)
        elif not done.attempt:
            lost.setdefault(done.key, []).append(done.asset)
    if not lost:
        return
    ok = not stuck
    with prepared_worker(lab.folder) as worker:
        for key, assets in lost.items():
            ok = _make_again(lab, key, assets, stuck.get(key, set()), worker) and ok
    console.print("Made again." if ok else "Not everything could be made again; see above.")


def _make_again(
    lab: Lab, key: str, assets: Sequence[str], stuck: set[str], worker: WorkerProcess | None
) -> bool:
    """Make lost outputs of a key anew, each by itself and needs first; True when all were."""
    from neuro_assets.service import execute
    from neuro_assets.store.model import WHOLE_LAB

    if key == WHOLE_LAB:
        return succeeded(execute(names.TABLES_JOB, workdir=lab.folder, worker=worker))
    needs = {step.name: {need.asset for need in step.needs} for step in lab.steps()}
    known = [name for name in needs if name in assets]
    failed = set(stuck)
    for asset in [*(name for name in assets if name not in needs), *known]:
        if missing := sorted(failed & needs.get(asset, set())):
            why = f"not tried, because it needs {', '.join(missing)}"
        else:
            why = _why_not_made(lab, key, asset, worker)
        if why:
            console.print(escape(f"{asset} of {key}: {why}"))
            failed.add(asset)
    return not failed


def _why_not_made(lab: Lab, key: str, asset: str, worker: WorkerProcess | None) -> str:
    """Make an output anew; empty when that went well."""
    try:
        made = process_keys(lab, [key], [asset], force=True, worker=worker)
    except Interrupted:
        raise
    except NeuroAssetsError as error:  # the other outputs are made all the same
        return str(error)
    return "" if made else "could not be made again"


@app.command()
def gc(
    older_than_h: Annotated[
        float, typer.Option(help="Leave what is younger, hours: it may be being written")
    ] = 24.0,
    snapshots_d: Annotated[
        float, typer.Option(help="Days for which earlier versions of the lab's tables are kept")
    ] = 30.0,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it only list")] = False,
) -> None:
    """List, or with --yes remove, leftovers of killed runs. Never a committed output in use."""
    lab = open_lab()
    store = lab.writable_store() if yes else lab.store()
    garbage = store.gc(older_than_h=older_than_h, snapshots_d=snapshots_d, dry_run=not yes)
    for item in garbage:
        size = size_words(item.size_bytes)
        line = f"{item.kind}: {item.path}: {size} in {item.n_files} files"
        console.print(escape(line), soft_wrap=True)
    verb = "removed" if yes else "can be removed (add --yes)"
    console.print(f"{len(garbage)} leftovers {verb}.")


@app.command("upgrade-store")
def upgrade_store() -> None:
    """Bring a store of an older format to this one: nothing is copied or computed again."""
    from neuro_assets.assets.adopt_outputs import adopt_outputs
    from neuro_assets.registry.adopt_records import adopt_records
    from neuro_assets.registry.registry import Registry
    from neuro_assets.store.opening import open_store

    lab = open_lab()
    store = open_store(lab.config.store, create=False, any_format=True)
    with console.status("") as status:
        adopted = adopt_outputs(store, lab.steps(), status.update)
    n_records = adopt_records(Registry(store))  # writes the store's identity
    for problem in adopted.problems:
        console.print(f"[bold red]not adopted[/] {escape(problem)}")
    console.print(f"{adopted.n_outputs} outputs and {n_records} recordings adopted.")
    if adopted.problems:
        raise typer.Exit(1)


@app.command("delete-raw")
def delete_raw(
    key: Annotated[str, typer.Argument(help="The recording")],
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it only check")] = False,
) -> None:
    """Check every sample of the stored copy against the raw files, then delete those."""
    from neuro_assets.registry.raw_deletion import deletable_files, delete_files

    lab = open_lab()
    if yes and not lab.config.raw_deletion.enabled:
        raise PermanentFailure(
            "raw deletion is off; set raw_deletion.enabled: true in lab.yaml if you mean it"
        )
    store = lab.writable_store() if yes else lab.store()
    key = lab.present_key(key)
    files = deletable_files(store, lab.registry(), key, lab.config.roots)
    for file in files:
        console.print(escape(str(file.path)))
    console.print(f"{len(files)} raw files are stored bit for bit.")
    if not yes:
        console.print("Nothing was deleted; add --yes to delete them.")
        return
    delete_files(store, key, files)
    console.print(f"{len(files)} raw files deleted.")


@app.command()
def rename(
    key: Annotated[str, typer.Argument(help="The recording, by its key of today")],
    new_key: Annotated[str, typer.Argument(help="The key that it gets")],
    yes: Annotated[bool, typer.Option("--yes", help="Rename; without it only check")] = False,
) -> None:
    """Give a recording another key; outputs, their history and what Alyx holds stay its own."""
    import dagster as dg

    from neuro_assets.assets.checks import check_specs
    from neuro_assets.partitions import SESSION_PROBE
    from neuro_assets.registry.registry import Registry
    from neuro_assets.service import prepare_home
    from neuro_assets.service.renaming import check_renaming
    from neuro_assets.service.renaming import rename as give_key

    lab = open_lab()
    registry = Registry(lab.writable_store() if yes else lab.store())
    with dg.DagsterInstance.from_config(str(prepare_home(lab.folder))) as instance:
        if not yes:
            can = check_renaming(registry, instance, key, new_key)
            console.print(f"{can}; nothing was changed: add --yes to do it.")
            return
        checks = [
            spec.key
            for step in lab.steps()
            for spec in check_specs(step.name, step.criteria, SESSION_PROBE)
        ]
        console.print(give_key(registry, instance, key, new_key, checks))
    for asset, name in _files_named(lab.store(), new_key):
        console.print(
            f"{asset} keeps its file {name}: `neuro-assets run {new_key} --only {asset} --force` "
            "writes one of the new name",
            soft_wrap=True,
        )


def _files_named(store: Store, key: str) -> Iterator[tuple[str, str]]:
    """Find the outputs whose files are named for an earlier key of their recording."""
    for asset in store.assets():
        stored = store.current(asset, key)
        if stored is None or stored.key == key:
            continue
        tops = dict.fromkeys(entry.path.partition("/")[0] for entry in stored.manifest.files)
        yield from ((asset, top) for top in tops if top.startswith(f"{stored.key}."))

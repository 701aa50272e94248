"""Commands that look after what is stored: `verify`, `gc`, `upgrade-store`, `delete-raw`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from neuro_assets.cli.app import app
from neuro_assets.cli.session import console, open_lab
from neuro_assets.outcomes import PermanentFailure


@app.command()
def verify(
    key: Annotated[str | None, typer.Argument(help="One recording; all when left out")] = None,
    asset: Annotated[str | None, typer.Option(help="One asset only")] = None,
) -> None:
    """Read every stored file again and compare it with its checksum."""
    defects = open_lab().store().verify(asset, key)
    for defect in defects:
        console.print(f"[bold red]defect[/] {defect}")
    console.print("Every stored file is as it was committed." if not defects else "")
    if defects:
        raise typer.Exit(1)


@app.command()
def gc(
    older_than_h: Annotated[
        float, typer.Option(help="Leave what is younger, hours: it may be being written")
    ] = 24.0,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it only list")] = False,
) -> None:
    """List, or with --yes remove, leftovers of killed runs. Never a committed output in use."""
    garbage = open_lab().store().gc(older_than_h=older_than_h, dry_run=not yes)
    for item in garbage:
        console.print(str(item))
    verb = "removed" if yes else "can be removed (add --yes)"
    console.print(f"{len(garbage)} leftovers {verb}.")


@app.command("upgrade-store")
def upgrade_store() -> None:
    """Take a store that an older release made over: nothing is copied or computed again."""
    from neuro_assets.assets.upgrade import adopt_outputs
    from neuro_assets.registry.registry import Registry
    from neuro_assets.registry.upgrade import adopt_records
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
    files = deletable_files(lab.store(), lab.registry(), key, lab.config.roots)
    for file in files:
        console.print(escape(str(file.path)))
    console.print(f"{len(files)} raw files are stored bit for bit.")
    if not yes:
        console.print("Nothing was deleted; add --yes to delete them.")
        return
    if not lab.config.raw_deletion.enabled:
        raise PermanentFailure(
            "raw deletion is off; set raw_deletion.enabled: true in lab.yaml if you mean it"
        )
    delete_files(files)
    console.print(f"{len(files)} raw files deleted.")

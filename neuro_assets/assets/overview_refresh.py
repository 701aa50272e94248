"""Making the overview's lines ahead, as a process of `up`: who asks waits for what changed only."""

from neuro_assets.assets.catalog import all_steps
from neuro_assets.assets.overview import Filter
from neuro_assets.assets.overview_lines import lines_of
from neuro_assets.config import config_path, read_config
from neuro_assets.registry.registry import Registry
from neuro_assets.service import steps_in_progress
from neuro_assets.store.opening import lab_memory, open_store


def main() -> None:
    """Make the lines of a store in a folder; those of one on a server are not remembered."""
    path, memory = config_path(), lab_memory()
    if memory is None:
        return
    config = read_config(path)
    store = open_store(config.store, create=False)
    if store.is_local:
        records, running = Registry(store).all(), steps_in_progress(path.parent)
        list(lines_of(store, records, all_steps(config), running, Filter(), memory.folder))


if __name__ == "__main__":
    main()

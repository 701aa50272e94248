"""`python -m neuro_assets.service.reload JSON`: load changed definitions into the code server.

A process of its own: it loads the definitions as they would be, without the last good
configuration to fall back on, and asks the code server to reload only when they are usable. A
reload that fails would shut down the server that worked.
"""

from __future__ import annotations

import json
import os
import sys

from neuro_assets.service.home import HOME_VARIABLE

RELOAD_TIMEOUT_S = 300


def main() -> None:
    """Check, then reload; exit code 1, and why on standard output, when the check fails."""
    message = json.loads(sys.argv[1])
    # Where there is no home, nothing is kept and nothing is fallen back on.
    os.environ.pop(HOME_VARIABLE, None)
    from dagster._core.definitions.reconstruct import (
        ReconstructableRepository,
        initialize_repository_def_from_pointer,
    )
    from dagster._grpc.client import DagsterGrpcClient

    repository = ReconstructableRepository.for_module(message["module"], message["attribute"])
    try:
        initialize_repository_def_from_pointer(repository.pointer)
    except Exception as error:
        print(error)
        sys.exit(1)
    DagsterGrpcClient(socket=message["socket"]).reload_code(timeout=RELOAD_TIMEOUT_S)


if __name__ == "__main__":
    main()

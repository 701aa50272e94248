"""Lossless compression of raw recordings, verified bit by bit, and what depends on its being so.

`run` is the step; its parts are `source` (reading), `codec` (bytes), `layout` (the folder),
`writer` (the pass), `stored` (reading back), `verify` (comparison with the source), `cbin`
(mtscomp files). Deleting raw data is not here: a command does that, on a person's order.
"""

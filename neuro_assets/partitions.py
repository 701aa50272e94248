"""The one partition set of everything that is made per recording, and nothing else.

Its keys are recordings: `neuro_assets.recording_key` says how they are spelled.
"""

import dagster as dg

SET_NAME = "session_probe"
SESSION_PROBE = dg.DynamicPartitionsDefinition(name=SET_NAME)

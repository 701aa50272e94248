"""The steps, a file each: what one needs, its criteria, pool, scope, clock and science call.

Every module here has `specs(config)`, which gives its steps for a lab, and names the parameter
models that `lab.yaml` may set for them. Nothing else lists them: a new file is a new step.
"""

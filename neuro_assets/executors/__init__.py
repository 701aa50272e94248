"""Where and how runs are executed: launcher, executors, identities of processes.

What is executed, and when, is decided by assets, jobs and sensors.
"""

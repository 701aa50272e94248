"""The REST interface of an Alyx database: client, rows, files, and registering results there.

Nothing is imported here: the definitions load in every process, and ONE is slow to import.
"""

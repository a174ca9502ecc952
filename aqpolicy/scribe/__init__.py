"""The writing side of the log: a step as columns of numbers, and the process that puts it on disk.

Input: a step's columns from the gate. Output: what `aqpolicy.lineage` writes.
Only who trains imports this package: it needs numpy, which reading a log does not.
It never imports torch, so the writer's process starts fast and stays small.
"""

"""The writing side of the log: the rows of a step as columns of numbers, and their bytes.

Input: a step's columns from the gate. Output: what `aqpolicy.lineage` writes.
Only who trains imports this package: it needs numpy, which reading a log does not.
It never imports torch.
"""

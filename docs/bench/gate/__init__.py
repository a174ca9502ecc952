"""What the gate costs, measured beside plain training and beside its peers in one run.

Start at `docs/bench/gate.py`. `cases` are models, `modes` and `peers` are ways to
make one step of them, `timing` and `memory` measure, `reports` tells.
"""

"""Train a run again: as it was, under another policy, without some examples, or with contents exchanged.

Input: a verified run and a *recipe*, the user's own training as a function; output:
decisions, models and measurements, never a change of what the log holds. Start at
`recipe.train_again`; `replaying` alone trains nothing and needs no recipe.
Reads next: `origin` (what a run was trained with), `forgetting`, `indirect`, `calibration`.
"""

from aqpolicy.rerun.recipe import Rerun, Trained, first, train_again

__all__ = ["Rerun", "Trained", "first", "train_again"]

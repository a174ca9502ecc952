"""aqpolicy: policy-as-code for what a neural network may learn.

    policies/*.aqp                                manifest of signed observations
      | syntax      text -> tree                     |  (provenance)
      | model       tree -> typed Policy             |
      | semantics   the meaning, readable and slow   |
      | analysis    z3: conflicts, unbounded budgets |
      | compiler    Policy -> mask tables            v
      +-----------> signed bundle ----------------> gate     update -> routed update
                                                     | lineage  append-only log, checkpoints
                                                     | trace    behaviour -> updates -> annotators
                                                     v
                                                    report

Authoring never loads torch; training never loads lark or z3; the signed bundle
is all that crosses. Import the sub-package you need: this module imports none.
"""

from typing import Final

__version__: Final = "0.1.0"

LANGUAGE_VERSION: Final = 2
"""Version of the routing language; a bundle names the one it was compiled from."""

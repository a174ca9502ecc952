"""Where gradients go: the gated backward pass of a model. Input: losses, shares, limits; entry: `Backward`.

Modules with a rule in `layers` are patched, what else uses a parameter is followed
in `operations`; what comes back meets in a strand of groups and is flushed there.
It knows no policy.
"""

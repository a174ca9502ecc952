"""What leaves a run: rows and books for the log, and models, published as the policy promises."""

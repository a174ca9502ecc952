"""What `docs/bench/tracing.py` measures: traces held to trainings without the examples, with peers beside them."""

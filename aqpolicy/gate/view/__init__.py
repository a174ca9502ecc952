"""Seeing the gate work: a line, a file for `aqpolicy watch`, and an answer to why. It decides nothing."""

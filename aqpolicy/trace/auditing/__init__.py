"""Derive a run again: every decision, charge, verification and promotion of its log, and compare.

Nothing here needs torch, and nothing is shared with what the gate computes. Start
at `audit.audit_run`.
"""

"""A compiled policy bound to one model: all that the training side knows of a policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aqpolicy.bundle.tables import Tables

Parameter = tuple[str, tuple[int, ...]]
"""Name and shape of a parameter."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """The contents of a bundle file."""

    tables: Tables
    policy_name: str
    policy_version: str
    taxonomy: str
    """Name and version, as `name@version`."""
    parameters: tuple[tuple[Parameter, ...], ...]
    """Per depth group, in the model's order."""
    digests: Mapping[str, str]
    """What it was made from: `source`, `grammar`, `taxonomy`, `model`."""
    source_map: Mapping[str, str]
    """Where each rule, and each budget (as `budget NAME`), stands: `file:line`."""
    findings: tuple[str, ...]
    """What was proved of the policy, in words."""
    digest: bytes = b""
    """SHA-256 of the payload; set when a payload is read, and not part of it."""

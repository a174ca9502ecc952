"""Observations as witnesses: the attributes that several policies speak of, and values in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from aqpolicy.errors import InputError
from aqpolicy.model.policy import Attribute, Numeric, Policy
from aqpolicy.units import value_text

Value = str | int
"""A value of an attribute: a category's name, or millionths."""

Observation = dict[str, Value]
"""A value for every attribute."""


def shared_attributes(policies: Iterable[Policy]) -> tuple[Attribute, ...]:
    """Return the attributes of all policies, those of the first one first.

    Raises:
        InputError: Two policies declare one attribute differently; nothing can be said of both at once.
    """
    found: dict[str, Attribute] = {}
    for attribute in (attribute for policy in policies for attribute in policy.attributes):
        if found.setdefault(attribute.name, attribute).type != attribute.type:
            raise InputError(f"the policies declare attribute `{attribute.name}` differently")
    return tuple(found.values())


def observation_text(attributes: Sequence[Attribute], observation: Mapping[str, Value]) -> dict[str, str]:
    """Return an observation as its author would write it."""
    return {a.name: attribute_text(a, observation[a.name]) for a in attributes if a.name in observation}


def attribute_text(attribute: Attribute, value: Value) -> str:
    """Return a value of an attribute as its author would write it."""
    return value_text(value, attribute.type.kind) if isinstance(attribute.type, Numeric) else str(value)

"""Bundle to canonical JSON and back; the form is described in docs/formats/bundle.md.

Decoding accepts exactly what encoding writes: every member, every type and every
size is checked, so that nothing behind this module meets an impossible table.
"""

from __future__ import annotations

from typing import Final

from aqpolicy import LANGUAGE_VERSION
from aqpolicy.bundle.bundle import Bundle, Parameter
from aqpolicy.bundle.fields import a_text, integer, items, members, refuse, texts_by_name, unique
from aqpolicy.bundle.form import decode_tables, encode_tables
from aqpolicy.errors import CanonicalError, MalformedBundleError
from aqpolicy.trust import canonical_json, parse_canonical, sha256

FORMAT: Final = "aqpolicy bundle 2"


def encode_bundle(bundle: Bundle) -> bytes:
    """Return the payload of a bundle: the same contents always give the same bytes."""
    return canonical_json(
        {
            "digests": bundle.digests,
            "findings": bundle.findings,
            "format": FORMAT,
            "language": LANGUAGE_VERSION,
            "parameters": bundle.parameters,
            "policy": {"name": bundle.policy_name, "version": bundle.policy_version},
            "source_map": bundle.source_map,
            "tables": encode_tables(bundle.tables),
            "taxonomy": bundle.taxonomy,
        }
    )


def decode_bundle(payload: bytes) -> Bundle:
    """Read a payload.

    Raises:
        MalformedBundleError: The bytes are not what `encode_bundle` writes.
    """
    try:
        value = parse_canonical(payload)
    except CanonicalError as error:
        raise MalformedBundleError(f"the bundle is not canonical: {error}") from error
    names = "digests findings format language parameters policy source_map tables taxonomy"
    found = members(value, names, "the bundle")
    if found["format"] != FORMAT or integer(found["language"]) != LANGUAGE_VERSION:
        refuse("it is of another version; compile the policy again")
    policy = members(found["policy"], "name version", "the policy")
    tables = decode_tables(found["tables"])
    return Bundle(
        tables=tables,
        policy_name=a_text(policy["name"]),
        policy_version=a_text(policy["version"]),
        taxonomy=a_text(found["taxonomy"]),
        parameters=_parameters(found["parameters"], len(tables.groups)),
        digests=texts_by_name(found["digests"]),
        source_map=texts_by_name(found["source_map"]),
        findings=items(found["findings"], a_text),
        digest=sha256(payload),
    )


def _parameters(value: object, groups: int) -> tuple[tuple[Parameter, ...], ...]:
    found = items(value, lambda group: items(group, _parameter), groups)
    unique([name for group in found for name, _ in group], "a parameter")
    return found


def _parameter(value: object) -> Parameter:
    name, shape = items(value, lambda part: part, 2)
    return a_text(name), items(shape, lambda size: integer(size, 0))

"""The demo's policies: checked, shown with their findings, bound to the network, signed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aqpolicy.bundle import seal_bundle
from aqpolicy.demo.model import build_model
from aqpolicy.demo.workspace import Workspace
from aqpolicy.diagnostics import Diagnostic, Source
from aqpolicy.errors import PolicyError
from aqpolicy.gate.describe import describe_model
from aqpolicy.pipeline import Pipeline
from aqpolicy.report import PolicyPart
from aqpolicy.shipped import shipped_folder
from aqpolicy.trust import SigningKey, canonical_json, digest_text, replace_file, sha256

FILES: Final[Mapping[str, str]] = {
    "radiology": "radiology/policy.aqp",
    "open": "open/policy.aqp",
    "broken": "radiology/broken.aqp",
}


def copy_policies(work: Workspace) -> dict[str, Pipeline]:
    """Copy the shipped examples into the folder, and return the pipeline of each; nothing is read yet."""
    work.path("policies").mkdir()
    pipelines = {}
    for name, place in FILES.items():
        text = (shipped_folder("policies") / "examples" / place).read_text(encoding="utf-8")
        work.path("policies", f"{name}.aqp").write_text(text, encoding="utf-8")
        pipelines[name] = Pipeline(Source(f"policies/{name}.aqp", text))
    return pipelines


def findings_of(pipeline: Pipeline) -> tuple[Diagnostic, ...]:
    """Return what is wrong with a policy: its errors, without notes and accepted warnings."""
    try:
        found = pipeline.findings
    except PolicyError as error:
        found = error.diagnostics
    return tuple(finding for finding in found if finding.severity == "error")


def part_of(pipeline: Pipeline, title: str, note: str) -> PolicyPart:
    """Return what the report shows of a policy."""
    findings = findings_of(pipeline)
    verdict = f"{len(findings)} errors" if findings else f"{len(pipeline.result.proved)} claims proved"
    return PolicyPart(title, pipeline.source.text, findings, verdict, note)


def compile_policy(work: Workspace, name: str, pipeline: Pipeline, author: SigningKey) -> str:
    """Bind a policy to the demo's network, sign the bundle, and return its digest."""
    description = canonical_json(describe_model(build_model()))
    replace_file(work.path("model.json"), description)
    payload = pipeline.payload(description)
    replace_file(work.path(f"{name}.aqb"), seal_bundle(payload, [author]))
    return digest_text(sha256(payload))

"""The exceptions of aqpolicy, and nothing else.

Authors get *diagnostics*, many at once; `PolicyError` carries them. Everything
that runs later (loading, training, verifying) raises one typed error that says
what to do. Untrusted bytes can raise nothing but the types of this module.

Messages are lower case, without a full stop, with the user's own text in
backticks; a cause is joined with a colon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aqpolicy.diagnostics import Diagnostic


class AqpolicyError(Exception):
    """Root of every error that aqpolicy raises on purpose."""


class PolicyError(AqpolicyError):
    """A policy has errors; `diagnostics` holds all of them."""

    def __init__(self, diagnostics: tuple[Diagnostic, ...]) -> None:
        """Keep the diagnostics; the message counts them and shows the first."""
        self.diagnostics = diagnostics
        first = diagnostics[0].message if diagnostics else "no diagnostic"
        super().__init__(f"{len(diagnostics)} diagnostics, the first: {first}")


class AnalysisError(AqpolicyError):
    """The solver did not decide a question; never a pass."""


class InputError(AqpolicyError):
    """A file, argument or name given by the user cannot be used."""


class TrustError(AqpolicyError):
    """A key, signature or signed format is not acceptable."""


class KeyFormatError(TrustError):
    """Text or file that should hold a key does not."""


class SignatureError(TrustError):
    """A signature is missing, invalid, or by a key that is not trusted for this purpose."""


class CanonicalError(TrustError):
    """A value has no canonical form, or bytes are not in canonical form."""


class ProofError(TrustError):
    """A Merkle proof does not connect what it claims to connect."""


class BundleError(AqpolicyError):
    """A bundle cannot be trusted or does not fit."""


class MalformedBundleError(BundleError):
    """The bytes are not a bundle that this version reads."""


class BundleSignatureError(BundleError):
    """The bundle is unsigned, tampered with, or signed by an unknown key."""


class ProvenanceError(AqpolicyError):
    """A manifest cannot be trusted."""


class MalformedManifestError(ProvenanceError):
    """The bytes are not a manifest that this version reads."""


class ManifestSignatureError(ProvenanceError):
    """The manifest or one of its sessions is not signed by a trusted key."""


class GateError(AqpolicyError):
    """Training cannot go on as the policy demands."""


class UngovernedParameterError(GateError):
    """A parameter is in no depth group, in two, or differs from the bundle's."""


class UnsupportedLayerError(GateError):
    """A governed module cannot be gated exactly; the message names it."""


class IllegalTrainingSetupError(GateError):
    """The training loop uses the gate in a way that would break a promise."""


class BudgetExhaustedError(GateError):
    """A budget that says `on exhaust halt` is spent."""


class VerificationError(GateError):
    """A metric lost more than the policy allows, and the remedy is to halt."""


class LineageError(AqpolicyError):
    """The lineage log is not what it should be."""


class CorruptLogError(LineageError):
    """Bytes of the log differ from what was signed; `where` locates the first."""

    def __init__(self, message: str, where: str = "") -> None:
        """Keep the problem and its location (entry, step, example) apart."""
        self.problem, self.where = message, where
        super().__init__(f"{where}: {message}" if where else message)


class ForkedLogError(LineageError):
    """Two heads of one log contradict each other, or the log went back in time."""


class TraceError(AqpolicyError):
    """A behaviour cannot be traced from this run."""


class InternalError(AqpolicyError):
    """A fault of aqpolicy itself; please report it with the versions printed."""

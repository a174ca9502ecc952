"""The bundle: a compiled, bound and signed policy, all that crosses to the training side.

Input: tables and parameters from the compiler, or a file and a keyring; output:
signed bytes, or a verified `Bundle`. Start at `load_bundle`. Nothing here needs
the parser, the solver or torch.
"""

from aqpolicy.bundle.bundle import Bundle, Parameter
from aqpolicy.bundle.capabilities import ENFORCED, FEATURES, MIXING_MODULES, refuse_unenforced
from aqpolicy.bundle.classify import Classifier
from aqpolicy.bundle.codec import decode_bundle, encode_bundle
from aqpolicy.bundle.sealed import PAYLOAD_TYPE, ROLE, load_bundle, open_bundle, seal_bundle
from aqpolicy.bundle.tables import (
    ERROR_ROW,
    LARGEST_SHARE,
    NO_LIMIT,
    AttributeTable,
    BudgetTable,
    Cause,
    Effect,
    EvidenceTable,
    ObligationTable,
    Row,
    StageTable,
    Tables,
)

__all__ = [
    "ENFORCED",
    "ERROR_ROW",
    "FEATURES",
    "LARGEST_SHARE",
    "MIXING_MODULES",
    "NO_LIMIT",
    "PAYLOAD_TYPE",
    "ROLE",
    "AttributeTable",
    "BudgetTable",
    "Bundle",
    "Cause",
    "Classifier",
    "Effect",
    "EvidenceTable",
    "ObligationTable",
    "Parameter",
    "Row",
    "StageTable",
    "Tables",
    "decode_bundle",
    "encode_bundle",
    "load_bundle",
    "open_bundle",
    "refuse_unenforced",
    "seal_bundle",
]

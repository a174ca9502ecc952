"""One good policy that uses every construct, and a small one to put statements into."""

from __future__ import annotations

RADIOLOGY = """\
# Who may shape what in a radiology triage model.
policy radiology.triage version 2.1.0

taxonomy acme.clinical version 3 {
  authority crowd < resident < attending < board
  review    draft < submitted < approved; rejected
  tier      synthetic < scraped < licensed < clinical
  attribute consensus     : number 0..1
  attribute judgments     : integer 0..1000
  attribute label_entropy : number 0..10 nat
  attribute ontology      : version 1..50
  attribute prelabel      : one of none, accepted_unchanged, corrected
}

depth from input {
  surface   = modules "embeddings", "encoder.layer.0" to "encoder.layer.1"
  structure = modules "encoder.layer.2" to "encoder.layer.3"
  semantic  = modules "encoder.layer.4" to "encoder.layer.5", "pooler*"
  head      = modules "classifier"
}

define trustworthy = review is approved and consensus >= 0.9 and judgments >= 3

profile full        { all 1 }
profile provisional { surface 0.5; head 1 }

rule board_truth "Authoritative ground truth shapes every depth"
  when authority >= attending and trustworthy
  admit full

rule hint "Learn superficially until consensus improves"
  when authority >= resident and not trustworthy
  admit provisional

rule crowd_hint
  when authority is crowd and tier is not synthetic
  admit provisional

rule crowd_outside_semantics
  when authority is crowd
  deny semantic because "crowd labels may not shape semantic layers"

rule gentle_hints
  when consensus < 0.9
  limit surface norm 0.01
  limit head share 0.25

rule rejected "Rejected labels teach nothing"
  when review is rejected
  deny all because "the label was rejected in review"

budget crowd_information
  for authority is crowd
  on surface, head
  within any_update
  surprisal at most 500 nat per epoch, at most 6 nat per update
  exposures at most 4 per example
  on exhaust defer

budget any_update
  on all
  surprisal at most 50000 nat per run, at most 12 nat per update
  on exhaust halt

otherwise deny because "no rule admits it"

prove never authority is crowd and admitted(semantic) > 0
"""

SMALL = """\
policy test.small version 1.0.0
taxonomy t version 1 {
  authority crowd < expert < board
  review draft < approved; rejected
  attribute consensus : number 0..1
  attribute judgments : integer 0..20
}
depth from input { surface = modules "a"; semantic = modules "b"; head = modules "c" }
profile full { all 1 }
profile weak { surface 0.5; head 0.25 }
otherwise deny because "no rule admits it"
"""

OBSERVATION: dict[str, str | int] = {
    "authority": "expert",
    "review": "approved",
    "consensus": 750_000,
    "judgments": 3_000_000,
}
"""An observation of the small policy's taxonomy."""

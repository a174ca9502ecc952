"""A trace as a page to look around in: the "why?" path, depth groups, annotators, and what leaving labels out would do.

Everything reads without the script, which sorts and narrows tables and adds up
what is ticked. What is ticked stands in the page's address, so that it can be
passed on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from aqpolicy.report.charts import render_signed
from aqpolicy.report.data import Table
from aqpolicy.report.frame import Section, render_page
from aqpolicy.report.markup import facts, number, table, text
from aqpolicy.report.style import SCRIPT, STYLE
from aqpolicy.report.tracing import view_of_trace
from aqpolicy.report.why import render_trace
from aqpolicy.units import micro_text

if TYPE_CHECKING:  # these load torch; a page needs only their shape
    from aqpolicy.rerun.applying import Calibrated
    from aqpolicy.rerun.foreseeing import Foreseen
    from aqpolicy.trace.result import Signed, Trace
    from aqpolicy.trace.rollup import Entry

MOST: Final = 500
"""Lines of a table; the strongest come first, and the page says how many were left out."""

_STYLE: Final = (
    STYLE
    + """
table.sums td,table.sums th{vertical-align:middle}
table.sums input{width:1.1rem;height:1.1rem;margin:0 .5rem 0 0;vertical-align:-.15rem;accent-color:var(--accent)}
table.sums label{cursor:pointer;white-space:nowrap}
th button.sort{border:0;padding:0;color:inherit;font:inherit;text-align:inherit;cursor:pointer}
th[aria-sort] button.sort::after{content:" ▾"}th[aria-sort=ascending] button.sort::after{content:" ▴"}
input[type=search]{font:inherit;font-size:.9rem;padding:.25rem .6rem;border:1px solid var(--soft);border-radius:6px;
background:var(--card);color:inherit;min-width:16rem}
html:not(.js) .tool{display:none}
.tool{display:flex;flex-wrap:wrap;gap:.6rem 1rem;align-items:center;margin:.6rem 0}
output.answer{display:block;font-size:1.15rem;margin:.8rem 0;padding:.8rem 1rem;border-left:3px solid var(--accent);
background:color-mix(in srgb,var(--accent) 7%,transparent)}
svg .up{fill:var(--b)}svg .down{fill:var(--a)}
"""
)

_SCRIPT: Final = (
    SCRIPT
    + """
(function(){
function cells(row){return Array.prototype.slice.call(row.children);}
function value(cell){
  var n=parseFloat(cell.dataset.value||cell.textContent.replace(/\\u2212/g,"-").replace(/\\u202f/g,""));
  return isNaN(n)?null:n;
}
document.querySelectorAll("section[data-tools] table").forEach(function(table){
  cells(table.tHead.rows[0]).forEach(function(head,at){
    if(head.querySelector("input")||!head.textContent)return;
    var button=document.createElement("button");button.type="button";button.className="sort";
    button.textContent=head.textContent;head.textContent="";head.appendChild(button);
    button.addEventListener("click",function(){
      var up=head.getAttribute("aria-sort")==="descending",body=table.tBodies[0];
      cells(table.tHead.rows[0]).forEach(function(other){other.removeAttribute("aria-sort");});
      head.setAttribute("aria-sort",up?"ascending":"descending");
      cells(body).sort(function(a,b){
        var x=value(a.children[at]),y=value(b.children[at]);
        var order=x!==null&&y!==null?x-y:a.children[at].textContent.localeCompare(b.children[at].textContent);
        return up?order:-order;
      }).forEach(function(row){body.appendChild(row);});
    });
  });
});
document.querySelectorAll("input[data-narrow]").forEach(function(field){
  field.addEventListener("input",function(){
    var word=field.value.toLowerCase();
    document.querySelectorAll("#"+field.dataset.narrow+" tbody tr").forEach(function(row){
      row.hidden=row.children[0].textContent.toLowerCase().indexOf(word)<0;
    });
  });
});
var box=document.getElementById("sums");if(!box)return;
var answer=document.getElementById("answer"),now=parseFloat(box.dataset.now),slope=parseFloat(box.dataset.slope);
var people=Array.prototype.slice.call(box.querySelectorAll("input[data-row]"));
var groups=Array.prototype.slice.call(box.querySelectorAll("input[data-column]"));
function show(n){return (n<0?"\\u2212":"")+Math.abs(n).toPrecision(4);}
function add(){
  var change=0,visits=0,left=[];
  var open=groups.filter(function(g){return g.checked;}).map(function(g){return +g.dataset.column;});
  people.forEach(function(one){
    if(!one.checked)return;
    left.push(one.dataset.row);visits+=parseFloat(one.dataset.visits);
    var row=one.closest("tr");
    open.forEach(function(at){change-=slope*parseFloat(row.querySelector("td[data-group='"+at+"']").dataset.value);});
  });
  var part=visits/parseFloat(box.dataset.visits);
  answer.textContent=left.length?"About "+show(now+change)+" instead of "+show(now)+" ("+(change<0?"":"+")+show(change)+
    "), "+(part*100).toFixed(1)+" % of all visits left out."+(part>0.1?
    " That is more than a tenth: train again before believing it.":""):
    "Nothing is left out: "+show(now)+".";
  var closed=groups.filter(function(g){return !g.checked;}).map(function(g){return g.dataset.column;});
  var address=left.length||closed.length?"#without="+left.map(encodeURIComponent).join(",")+
    (closed.length?";but="+closed.join(","):""):"#leave-out";
  if(typed)history.replaceState(null,"",address);
}
var typed=false,asked=/^#without=([^;]*)(?:;but=(.*))?$/.exec(location.hash);
if(asked){
  var wanted=asked[1].split(",").map(decodeURIComponent),closed=(asked[2]||"").split(",");
  people.forEach(function(one){one.checked=wanted.indexOf(one.dataset.row)>=0;});
  groups.forEach(function(one){one.checked=closed.indexOf(one.dataset.column)<0;});
  document.getElementById("leave-out").scrollIntoView();
}
box.addEventListener("change",function(){typed=true;add();});
add();
})();
"""
)

_FOOTER: Final = (
    "Made by aqpolicy. Supporting evidence from one run's signed record; this page is not signed, the files it was "
    "made from are. Estimates are first order and no retraining."
)


def render_trace_page(trace: Trace, calibrated: Calibrated | None = None, foreseen: Foreseen | None = None) -> str:
    """Return a trace as one self-contained page.

    Args:
        trace: From `trace.query.trace_behaviour`.
        calibrated: The same with the intervals of the run's calibration card, if it has one.
        foreseen: What another policy would make of the behaviour, if that was asked.
    """
    view = replace(view_of_trace(trace, trace.behaviour, _summary(trace)), ranking=None, statement=())
    statement = view_of_trace(trace, "", "").statement
    sections = [
        Section("behaviour", "The behaviour", facts(_facts(trace))),
        Section("why", "Why?", render_trace(view, "path")),
        Section("regions", "Depth groups and rows", _regions(trace), tools=True),
        Section("annotators", "Annotators", _annotators(trace, calibrated), tools=True),
        Section("leave-out", "What if labels were left out?", _leave_out(trace, calibrated), tools=True),
        Section("policy", "What if the policy were another?", "" if foreseen is None else _foreseen(foreseen)),
        Section("sources", "By class, consensus, rule", "".join(_roll_ups(trace)), tools=True),
        Section("visits", "Examples and updates", _strongest(trace), tools=True),
        Section("observations", "Signed observations", "".join(map(_observation, trace.observations))),
        Section("belief", "How far to believe this", facts(statement)),
    ]
    return render_page(
        f"Why: {trace.behaviour}",
        f"Run {trace.run}, policy {trace.policy}",
        sections,
        _FOOTER,
        style=_STYLE,
        script=_SCRIPT,
    )


def _summary(trace: Trace) -> str:
    kind = "contributions" if trace.level == 0 else "estimates"
    return f"The strongest depth groups, in each the strongest updates, in each the strongest examples, by {kind}."


def _facts(trace: Trace) -> tuple[tuple[str, str], ...]:
    return (
        ("Value", f"{trace.value:.6g}"),
        ("All visits together", f"{trace.total:+.4g}"),
        ("Weight decay of the initial weights", f"{trace.opening:+.4g}"),
        ("Visits", str(trace.visits)),
        ("Numbers are", trace.statement.method),
        ("Scope", trace.statement.scope),
        ("Model", f"sha256:{trace.model}"),
    )


def _regions(trace: Trace) -> str:
    readings = (
        ("What its absence would change" if trace.level else "What wrote it", [one.score for one in trace.regions]),
        ("Who wrote it: the contribution", [one.contribution for one in trace.regions]),
        ("Where it lives now: along the way its weights went", [one.holds for one in trace.regions]),
    )
    names = [one.name for one in trace.regions]
    figures = "".join(render_signed(title, names, values) for title, values in readings)
    note = "Three readings that answer different questions, each on a scale of its own. They are never mixed."
    return f'<p class="note">{text(note)}</p><div class="figures">{figures}</div>{_rows(trace)}'


def _rows(trace: Trace) -> str:
    if not trace.rows:
        return ""
    rows = tuple(
        (
            f"{part.parameter}[{part.row}]",
            part.group,
            f"{part.score:+.4g}",
            f"{part.contribution:+.4g}",
            f"{part.holds:+.4g}",
        )
        for part in trace.rows
    )
    columns = ("Row of a parameter", "Depth group", "Estimate", "Contribution", "Along its way")
    return table(Table("Rows of parameters, the strongest", columns, rows))


def _annotators(trace: Trace, calibrated: Calibrated | None) -> str:
    intervals = {} if calibrated is None else {one.name: one for one in calibrated.annotators}
    columns = ["Credential", "Estimate", "What chance makes", "", "Contribution", "Per visit", "Visits"]
    if calibrated is not None:
        columns += ["Calibrated", "Interval"]
    rows = []
    for entry in trace.annotators[:MOST]:
        band = "–" if entry.low is None or entry.high is None else f"{entry.low:+.3g} to {entry.high:+.3g}"
        said = {True: "outside", False: "not distinguishable", None: ""}[entry.distinguishable]
        row = [entry.name, f"{entry.score:+.4g}", band, said, f"{entry.contribution:+.4g}", f"{entry.mean:+.3g}"]
        row.append(str(entry.visits))
        if calibrated is not None:
            one = intervals.get(entry.name)
            row += ["–", "–"] if one is None else [f"{one.middle:+.4g}", f"{one.low:+.3g} to {one.high:+.3g}"]
        rows.append(tuple(row))
    note = trace.statement.null + _left_out(trace.annotators)
    if calibrated is not None:
        note += (
            f" Calibrated by {calibrated.groups} trainings without one annotator: estimates times "
            f"{calibrated.slope:.3g}; intervals meant for {calibrated.level:.0%} held {calibrated.coverage:.0%}."
        )
    shown = table(Table("Positive raises the behaviour", tuple(columns), tuple(rows), note=note))
    return _narrow("annotators", "credentials") + shown


def _leave_out(trace: Trace, calibrated: Calibrated | None) -> str:
    """Return the table whose ticked lines are added up; nothing for contributions, which say nothing of an absence."""
    if trace.level == 0:
        return ""
    slope = 1.0 if calibrated is None else calibrated.slope
    groups = [one.name for one in trace.regions]
    order = [trace.groups.index(name) for name in groups]
    head = "".join(
        f'<th class="n" scope="col"><label><input type="checkbox" data-column="{at}" checked>{text(name)}</label></th>'
        for at, name in enumerate(groups)
    )
    rows = "".join(_line(entry, order) for entry in trace.annotators[:MOST])
    said = (
        "Tick credentials whose labels no step would have used, and the depth groups for which that holds. The "
        "estimates of this trace are added up: first order, each as if the others had stayed. Confirm by training "
        "again (aqpolicy forget, aqpolicy replay --train)."
    )
    scaled = "" if calibrated is None else f" They are multiplied by {slope:.3g}, as the run's calibration says."
    return (
        f"<p>{text(said + scaled)}</p>"
        '<output class="answer tool" id="answer" aria-live="polite"></output>'
        f"{_narrow('leave-out', 'credentials')}"
        f'<div class="scroll" tabindex="0" role="region" aria-label="Estimates by credential and depth group">'
        f'<table class="sums heat" id="sums" data-now="{trace.value!r}" data-slope="{slope!r}" '
        f'data-visits="{max(1, trace.visits)}"><caption>Estimate by credential and depth group; positive raises the '
        f'behaviour{text(_left_out(trace.annotators))}</caption><thead><tr><th scope="col">Leave out</th>{head}</tr>'
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def _line(entry: Entry, order: Sequence[int]) -> str:
    scores = [entry.groups[group] for group in order]
    cells = "".join(
        f'<td class="n" data-group="{at}" data-value="{score!r}">{score:+.3g}</td>' for at, score in enumerate(scores)
    )
    box = f'<input type="checkbox" data-row="{text(entry.name)}" data-visits="{entry.visits}">'
    return f'<tr><th scope="row"><label>{box}{text(entry.name)}</label></th>{cells}</tr>'


def _foreseen(found: Foreseen) -> str:
    pairs = (
        ("Policy of the run", found.policy),
        ("Instead", found.other),
        ("Behaviour", f"{found.value:.6g} now, {found.value + found.change:.6g} foreseen ({found.change:+.4g})"),
        ("Visits with other factors", f"{found.changed} of {found.visits}; {found.part:.1%} of all there are to give"),
        ("How sure", found.sure),
    )
    by_group = Table("Change by depth group", ("Depth group", "Change"), _changes(found.groups))
    by_credential = Table("Change by annotator", ("Credential", "Change"), _changes(found.credentials))
    return facts(pairs) + table(by_group) + (table(by_credential) if found.credentials else "")


def _changes(sums: dict[str, float]) -> tuple[tuple[str, ...], ...]:
    ordered = sorted(sums.items(), key=lambda pair: -abs(pair[1]))[:MOST]
    return tuple((name, f"{change:+.4g}") for name, change in ordered)


def _roll_ups(trace: Trace) -> Iterable[str]:
    named = {f"By {name}": entries for name, entries in trace.classes.items()}
    named |= {"Consensus events, by who states them": trace.consensus, "Rules": trace.rules, "Epochs": trace.epochs}
    for caption, entries in named.items():
        yield table(_entries(caption, entries))


def _strongest(trace: Trace) -> str:
    examples = table(_entries("Examples, the strongest", trace.examples))
    return examples + table(_entries("Updates, the strongest", trace.steps, "step "))


def _entries(caption: str, entries: Sequence[Entry], prefix: str = "") -> Table:
    rows = tuple(
        (
            f"{prefix}{entry.name}",
            f"{entry.score:+.4g}",
            f"{entry.contribution:+.4g}",
            f"{entry.mean:+.3g}",
            str(entry.visits),
        )
        for entry in entries[:MOST]
    )
    return Table(caption, ("", "Estimate", "Contribution", "Per visit", "Visits"), rows, note=_left_out(entries))


def _left_out(entries: Sequence[Entry]) -> str:
    return f" The strongest {MOST} of {len(entries)} are shown." if len(entries) > MOST else ""


def _observation(signed: Signed) -> str:
    said = [(name, value if isinstance(value, str) else micro_text(value)) for name, value in signed.attributes.items()]
    history = "; ".join(
        f"{event.credential}: {number(event.consensus)} agree after {event.judgments}" for event in signed.history
    )
    pairs = (
        ("Annotator", " ".join(part for part in (signed.credential, signed.holder, signed.authority) if part)),
        *said,
        ("Decided by", ", ".join(signed.rules) or "no rule"),
        ("History", history or "none"),
        ("Manifest leaf", f"{signed.leaf_index}, {signed.leaf}"),
        *((("Revoked", signed.revoked),) if signed.revoked else ()),
    )
    return f'<details class="card"><summary>{text(signed.example)}</summary>{facts(pairs)}</details>'


def _narrow(anchor: str, what: str) -> str:
    return (
        f'<p class="tool"><label>Show only {text(what)} with '
        f'<input type="search" data-narrow="{text(anchor)}" autocomplete="off"></label></p>'
    )

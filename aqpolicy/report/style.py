"""The style sheet and the script of the page; both are named in its content security policy by digest.

The script only opens and closes details; nothing on the page needs it.
"""

from typing import Final

STYLE: Final = """
:root{color-scheme:light dark;--ink:#1d2433;--soft:#596275;--faint:#dfe3ea;--paper:#fbfbf9;--card:#fff;
--accent:#2456a6;
--warm:#a8480f;--bad:#a3242c;--good:#256b3c;--a:#2456a6;--b:#c26a1b;--c:#6b7280;
--h0:#fdfdfb;--h1:#eef4fa;--h2:#dfeaf5;--h3:#cfe0f0;--h4:#bdd4ea;--h5:#a9c7e3;--h6:#92b7db;--h7:#78a5d1;
--h8:#5890c5;--h9:#3b76b2;--h10:#245d99}
@media(prefers-color-scheme:dark){:root{--ink:#e4e7ee;--soft:#a3acbd;--faint:#2f3747;--paper:#12161f;--card:#191f2b;
--accent:#8db6f5;--warm:#f0a673;--bad:#f08c92;--good:#86cf9c;--a:#7fabf0;--b:#e79a54;--c:#98a1b3;
--h0:#171d28;--h1:#1a2433;--h2:#1c2b40;--h3:#1e334e;--h4:#213c5d;--h5:#24466d;--h6:#28517f;--h7:#2d5e93;
--h8:#346ca8;--h9:#3d7bbe;--h10:#4a8bd2}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;scroll-padding-top:4rem}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
.skip{position:absolute;left:-99rem}.skip:focus{left:1rem;top:1rem;background:var(--card);padding:.5rem 1rem;
z-index:9}
header,main,footer{max-width:66rem;margin:0 auto;padding:0 1.25rem}
header{padding-top:3rem}
h1{font:600 2.1rem/1.2 Georgia,"Times New Roman",serif;margin:0 0 .4rem}
h2{font:600 1.5rem/1.25 Georgia,"Times New Roman",serif;margin:3.2rem 0 .6rem}
h3{font-size:1.05rem;margin:1.8rem 0 .4rem}article>h3{margin-top:.2rem}
p,li{max-width:46rem}.lead{color:var(--soft);font-size:1.1rem;margin:0 0 1rem}.note,small{color:var(--soft);
font-size:.9rem}
a{color:var(--accent)}
nav{position:sticky;top:0;background:var(--paper);border-bottom:1px solid var(--faint);z-index:2}
nav ul{max-width:66rem;margin:0 auto;padding:.55rem 1.25rem;display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;
list-style:none}
nav a{text-decoration:none;white-space:nowrap;font-size:.9rem}nav a:hover{text-decoration:underline}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px;border-radius:3px}
.card{background:var(--card);border:1px solid var(--faint);border-radius:8px;padding:1rem 1.25rem;margin:1rem 0}
.tag{display:inline-block;font-size:.75rem;line-height:1.5;padding:0 .5rem;border-radius:99px;
border:1px solid currentColor;
vertical-align:.1em;white-space:nowrap}
.real,.measured,.ok{color:var(--good)}.planted,.error{color:var(--bad)}.assigned,.warning{color:var(--warm)}
.plain,.info{color:var(--soft)}
ol.story{list-style:none;counter-reset:s;padding:0;margin:1.5rem 0}
ol.story>li{counter-increment:s;position:relative;padding:0 0 1rem 2.8rem;max-width:50rem}
ol.story>li::before{content:counter(s);position:absolute;left:0;top:.1rem;width:1.7rem;height:1.7rem;
border-radius:50%;
border:1px solid var(--soft);color:var(--soft);text-align:center;font:.85rem/1.6rem Georgia,serif}
dl.facts{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1.2rem;margin:.6rem 0}
dl.facts dt{color:var(--soft)}dl.facts dd{margin:0;overflow-wrap:anywhere}
.scroll{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);padding-bottom:.4rem;font-size:.9rem}
th,td{padding:.4rem .9rem .4rem 0;text-align:left;border-bottom:1px solid var(--faint);vertical-align:top}
td.n,th.n{text-align:right;padding-left:1rem}td.n{white-space:nowrap}thead th{font-weight:600;font-size:.9rem}
tr.marked>*{background:color-mix(in srgb,var(--bad) 11%,transparent)}tbody th{font-weight:500}
table.heat td{padding:.5rem .8rem;border:3px solid var(--paper);text-align:right;min-width:7.5rem}
table.heat td b{display:block;font-size:1.05rem}table.heat td span{font-size:.8rem;white-space:nowrap}
table.heat th{padding:.5rem .8rem;border:0}
.h0{background:var(--h0)}.h1{background:var(--h1)}.h2{background:var(--h2)}.h3{background:var(--h3)}
.h4{background:var(--h4)}
.h5{background:var(--h5)}.h6{background:var(--h6)}.h7{background:var(--h7)}.h8{background:var(--h8);color:#fff}
.h9{background:var(--h9);color:#fff}.h10{background:var(--h10);color:#fff}
@media(prefers-color-scheme:light){.h8{color:#06182c}}
pre{font:13px/1.55 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-x:auto;margin:0;tab-size:2}
pre.source>span{display:block;padding:0 .6rem;min-width:max-content}
pre.source i{display:inline-block;width:2.6rem;color:var(--soft);font-style:normal;user-select:none;text-align:right;
margin-right:1rem;opacity:.75}
pre.source .hit{background:color-mix(in srgb,var(--bad) 13%,transparent);box-shadow:inset 3px 0 var(--bad)}
pre.source b{font-weight:600;color:var(--accent)}pre.source em{color:var(--soft)}pre.source q{quotes:none;
color:var(--good)}
.wrap{white-space:pre-wrap;overflow-wrap:anywhere}
.finding{border-left:3px solid var(--bad);padding:.1rem 0 .1rem 1rem;margin:1.2rem 0}
.finding.note{border-color:var(--soft)}
.finding.warning{border-color:var(--warm)}
.finding.error,.finding.warning,.finding.note{color:inherit;font-size:inherit}.finding p{margin:.3rem 0}
code{font:.9em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
svg{display:block;max-width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:var(--ink)}
svg .dim{fill:var(--soft)}
svg .axis{stroke:var(--faint)}svg .line{fill:none;stroke:var(--a);stroke-width:2}svg .area{fill:var(--a);opacity:.12}
svg .a{fill:var(--a)}svg .b{fill:var(--b)}svg .c{fill:var(--c)}svg .err{stroke:var(--ink);stroke-width:1.2}
svg .dot{fill:var(--card);stroke:var(--a);stroke-width:1.5}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,27rem),1fr));gap:1rem}
.figures figure{margin:0}figure{margin:1rem 0}figcaption{font-size:.95rem;margin-bottom:.4rem}
.key{display:flex;gap:1.2rem;flex-wrap:wrap;font-size:.9rem;list-style:none;padding:0;margin:.3rem 0}
.key svg{display:inline-block;margin-right:.35rem}
.why{margin:.35rem 0}.why summary{cursor:pointer;padding:.45rem .6rem;border-radius:6px;display:block;list-style:none}
.why summary::-webkit-details-marker{display:none}
.why>summary::before{content:"▸";display:inline-block;width:1.1rem;color:var(--soft)}
.why[open]>summary::before{content:"▾"}
.why summary:hover{background:color-mix(in srgb,var(--accent) 8%,transparent)}
.why .in{border-left:1px solid var(--faint);margin-left:1.05rem;padding-left:1rem}
.rank{color:var(--soft);font-size:.78rem;display:inline-block;min-width:8.2rem}
.share{float:right;font-variant-numeric:tabular-nums;color:var(--soft);font-size:.9rem;white-space:nowrap}
.share svg{display:inline-block;vertical-align:-.1em;margin-left:.5rem}
.buttons{display:flex;gap:.6rem;flex-wrap:wrap}
button{font:inherit;font-size:.9rem;color:var(--accent);background:none;border:1px solid var(--faint);
border-radius:6px;
padding:.25rem .8rem;cursor:pointer}button:hover{border-color:var(--accent)}
html:not(.js) .buttons{display:none}
footer{padding:3rem 1.25rem 4rem;color:var(--soft);font-size:.9rem}
@media(max-width:40rem){nav{position:static}h1{font-size:1.6rem}header{padding-top:1.6rem}.card{padding:.8rem .9rem}
dl.facts{grid-template-columns:1fr;gap:0}dl.facts dd{margin-bottom:.5rem}.why .in{margin-left:.3rem;
padding-left:.6rem}
.rank{display:block;margin-left:1.1rem}.share{float:none;display:block;margin-left:1.1rem}}
@media print{nav,.skip,.buttons{display:none}body{background:#fff;color:#000;font-size:10.5pt}
.card{break-inside:avoid-page}
h2{break-after:avoid}.scroll,pre{overflow:visible;white-space:pre-wrap}a{color:inherit}}
@media(prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
"""

SCRIPT: Final = """
document.documentElement.classList.add("js");
document.querySelectorAll("button[data-for]").forEach(function(button){
  button.addEventListener("click",function(){
    var box=document.getElementById(button.dataset.for),open=button.dataset.act!=="close";
    box.querySelectorAll(button.dataset.act==="path"?"details[data-path]":"details").forEach(function(d){d.open=open;}
);
  });
});
addEventListener("beforeprint",function(){document.querySelectorAll("details[data-path]").forEach(function(d){d.open=true;});});
"""

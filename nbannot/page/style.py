"""The style sheet of displays: a few rules for all of them, and parts that only some displays need.

At 600 pixels and less the first table of a card or report stands in blocks; a wider table can be moved, and a shadow
shows that more is there. Printed, everything is open and black on white.
"""

from __future__ import annotations

import re

STYLE = """
.nbannot{font-family:var(--jp-content-font-family,var(--vscode-font-family,system-ui,sans-serif));font-size:13px;
line-height:1.45;color:var(--jp-content-font-color1,var(--vscode-editor-foreground,inherit));max-width:84em;
overflow-wrap:break-word;font-variant-numeric:tabular-nums;print-color-adjust:exact}
.nbannot *{box-sizing:border-box}
.nbannot h3,.nbannot h4,.nbannot h5{font-weight:600;line-height:1.25;margin:0}
.nbannot h3{font-size:17px;margin:.2em 0 .45em}
.nbannot small{font-weight:400;font-size:12px;opacity:.72;margin-left:.5em;display:inline-block}
.nbannot p{margin:.45em 0;max-width:52em}
.nbannot .q{opacity:.72}
@media print{.nbannot{color:#1b1b1b;background:#fff;overflow:visible;max-width:none}}
"""
"""The style sheet of every display: every rule stands below ``.nbannot``."""

PARTS = {
    "<h4": """
.nbannot h4{font-size:15px;margin:1.5em 0 .35em;padding-top:.8em;border-top:1px solid #80808059}
""",
    "<h5": """
.nbannot h5{font-size:13px;margin:1em 0 .2em}
""",
    'class="v"': """
.nbannot .v{font-size:15px;margin:.1em 0 .6em}
""",
    "<ul": """
.nbannot ul{margin:.45em 0;padding-left:1.3em;max-width:52em}
.nbannot li{margin:.15em 0}
""",
    "<table": """
.nbannot table{border-collapse:collapse;border:0;margin:.55em 0;font-size:13px;display:table;width:auto}
.nbannot tr,.nbannot tbody tr:nth-child(n){background:none}
.nbannot th,.nbannot td{padding:.18em .75em .18em 0;vertical-align:top;border:0;max-width:34em;white-space:normal;
text-align:left;line-height:1.4}
@media print{.nbannot table{color:#1b1b1b;background:#fff;font-size:11px}.nbannot td{overflow-wrap:anywhere}
.nbannot tr{break-inside:avoid}}
""",
    'class="t"': """
.nbannot .t{overflow-x:auto}
.nbannot thead{border-bottom:1px solid #8080808c}
.nbannot th{font-weight:400;opacity:.72;vertical-align:bottom}
.nbannot tbody th{opacity:1;vertical-align:top}
.nbannot th[align=right],.nbannot td[align=right]{text-align:right}
.nbannot td[align=right],.nbannot td.i{white-space:nowrap}
.nbannot td.q+td.q,.nbannot td.i{padding-left:0}
.nbannot tr.g>td,.nbannot tr.g>th{border-top:1px solid #80808040}
.nbannot .t{--b:var(--jp-layout-color0,var(--vscode-editor-background,Canvas));
--g:linear-gradient(270deg,var(--b) 30%,transparent) 100% 0/36px 100% no-repeat local,
linear-gradient(270deg,#8080808c,transparent) 100% 0/12px 100% no-repeat scroll}
.nbannot .t[tabindex]{background:var(--g)}
@media (max-width:900px){.nbannot .t{background:var(--g)}}
@media (max-width:600px){.nbannot th,.nbannot td{padding-right:.5em}}
@media print{.nbannot .t{--g:none;overflow:visible;max-width:none}}
""",
    "<caption": """
.nbannot caption{caption-side:top;text-align:left;font-weight:600;padding:.2em 0 .25em;position:sticky;left:0;
width:max-content;max-width:min(52em,80vw)}
""",
    'class="p"': """
@media (max-width:600px){.nbannot td.p{min-width:8em}}
@media print{.nbannot td.p{min-width:0}}
""",
    'class="w"': """
.nbannot td.w{overflow-wrap:anywhere;min-width:14em}
@media print{.nbannot td.w{min-width:0}}
""",
    'class="l"': """
@media (max-width:600px){.nbannot td.l{min-width:12em}}
@media print{.nbannot td.l{min-width:0}}
""",
    'class="m"': """
.nbannot table.m td,.nbannot table.m th{padding:.28em .6em}
.nbannot table.m td:first-child,.nbannot table.m th:first-child{padding-left:0}
.nbannot table.m td[align=right],.nbannot table.m th[align=right]{min-width:var(--w,3em);text-align:center}
""",
    'class="s"': """
.nbannot table.s{margin:.3em 0}
""",
    'class="h"': """
@media (max-width:600px){
.nbannot table.h,.nbannot .h>tbody{display:block}.nbannot .h>thead{display:none}
.nbannot .h>tbody>tr{display:flex;flex-wrap:wrap;align-items:baseline;padding:.3em 0}
.nbannot .h>tbody>tr.g{border-top:1px solid #80808040}
.nbannot .h>tbody>tr>*{border:0}
.nbannot .h>tbody>tr>:nth-child(2){flex:1 0 60%}
.nbannot .h>tbody>tr>td:nth-child(5){flex:1 0 100%;order:1;padding:0}
.nbannot .h td:nth-child(n+6)::before{content:"baseline ";opacity:.72}
.nbannot .h td:nth-child(7)::before{content:"answered "}
.nbannot .h table.s{width:100%!important}
.nbannot .h .s td::before{content:none!important}}
""",
    "<dl": """
.nbannot dl{display:grid;grid-template-columns:max-content minmax(0,54em);gap:.3em 1.2em;margin:.55em 0}
.nbannot dt{font-weight:400;opacity:.72;white-space:nowrap}
.nbannot dd{margin:0}
@media print{.nbannot dl{font-size:11px}}
""",
    "<pre": """
.nbannot pre{white-space:pre-wrap;overflow-wrap:anywhere;word-break:normal;font-size:12px;margin:.4em 0;
padding:.5em .7em;background:#8080801a;border:0;color:inherit;max-height:32em;overflow:auto}
@media print{.nbannot pre{max-height:none;overflow:visible}}
""",
    "<details": """
.nbannot details{margin:.5em 0}
.nbannot summary{cursor:pointer}
@media print{.nbannot details::details-content{content-visibility:visible;block-size:auto}}
""",
    'class="n"': """
.nbannot details.n{margin:.6em 0;padding-top:.55em;border-top:1px solid #80808059}
.nbannot details.n>summary{font-size:15px}
""",
    "<img": """
.nbannot img{max-width:100%;height:auto;background:none}
.nbannot:is([data-jp-theme-light=false] *) img{color-scheme:dark}
.nbannot:is(.vscode-dark *) img{color-scheme:dark}
.nbannot:is([data-theme=dark] *) img{color-scheme:dark}
.nbannot:is([theme=dark] *) img{color-scheme:dark}
@media (max-width:600px){.nbannot picture img{width:auto}.nbannot .t>img{max-width:none}}
@media print{.nbannot img{color-scheme:light;break-inside:avoid}}
""",
}
"""What must be in a display's HTML -> the rules that it then needs; so that a small display stays small."""


def style_of(inside: str) -> str:
    """Return the style sheet that this HTML needs."""
    present = {name for name in PARTS if name in inside}
    present |= {
        f'class="{kind}"' for kinds in re.findall(r'class="([^"]+)"', inside) for kind in kinds.split()
    }
    return (STYLE + "".join(rules for name, rules in PARTS.items() if name in present)).replace("\n", "")


def whole_style() -> str:
    """Return every rule, for a page that shows now this and now that."""
    return STYLE + "".join(PARTS.values())

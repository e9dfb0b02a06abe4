"""How the form looks: on a narrow screen, in light and in dark."""

from __future__ import annotations

CSS = """
.nbannot-form{max-width:68em;gap:2px;padding:2px 2px 8px}
.nbannot-form .widget-inline-hbox{margin-left:0;margin-right:0}
.nbannot-form .nbannot-row{display:flex;flex-flow:row wrap;gap:4px 18px;align-items:flex-start;overflow:visible}
.nbannot-form .nbannot-field{overflow:visible;margin:0;max-width:100%}
.nbannot-form .nbannot-field .nbannot-row{gap:0 2px}
.nbannot-form .nbannot-field .widget-inline-hbox:not(.widget-checkbox){flex-direction:column;align-items:stretch;
height:auto;max-width:100%}
.nbannot-form .nbannot-field .widget-inline-hbox:not(.widget-checkbox)>label{width:auto!important;text-align:left;
opacity:.8;line-height:1.5;height:auto}
.nbannot-form .nbannot-field select{height:28px;flex:none}
.nbannot-form .nbannot-field select[multiple]{overflow-y:auto;height:5.4em;flex:none}
.nbannot-form h4.nbannot-title{font-size:13px;font-weight:600;margin:8px 0 0;line-height:1.4;
border-top:1px solid rgba(128,128,128,.35);padding-top:6px;color:var(--jp-ui-font-color1,inherit)}
.nbannot-form .widget-html,.nbannot-form .widget-html-content{height:auto;line-height:1.45;overflow:visible;
color:var(--jp-ui-font-color1,inherit)}
.nbannot-form .nbannot-fault{border-left:3px solid rgba(215,120,20,.9);padding-left:.5em;max-width:24em;font-weight:600;
white-space:normal}
.nbannot-form .nbannot-field .nbannot-checks{gap:0 18px}
.nbannot-form .nbannot-checks .widget-checkbox{width:auto}
.nbannot-form.nbannot-form.nbannot-form :focus-visible{outline:2px solid var(--jp-brand-color1,#1976d2)!important;
outline-offset:1px}
.nbannot-form .nbannot-prompt pre{max-height:15em;margin:2px 0;word-break:normal}
.nbannot-form .nbannot-fold{align-self:flex-start;border:0;background:none;box-shadow:none!important;text-align:left;
padding:0 4px;color:var(--jp-ui-font-color1,inherit);font-weight:600}
.nbannot-form .nbannot-bar{align-items:center}
.nbannot-form textarea{font-family:var(--jp-code-font-family,monospace);white-space:pre}
.nbannot-form.nbannot-questions textarea{font-family:inherit;white-space:pre-wrap}
.nbannot-form.nbannot-questions .nbannot-field select[size]{height:auto;min-height:6em}
.nbannot-form.nbannot-questions .widget-html-content{max-width:100%;overflow-wrap:anywhere}
.jp-CodeCell.jp-mod-outputsScrolled .jp-Cell-outputArea:has(.nbannot-form){max-height:none}
.jp-CodeCell.jp-mod-outputsScrolled .jp-Cell-outputArea:has(.nbannot-form)::after{display:none}
"""

// The coding desk: draws what Python holds (`view`, `questions`) and sends actions. An answer counts as kept when Python
// says so; keys typed meanwhile wait. Places in a text are UTF-16 units here and code points on the way to Python.
// One file, longer than others, because it is what a browser loads: there is no build step.

const RESERVED = "mfuvoxe";
const LETTERS = [..."abcdefghijklmnopqrstuvwxyz"].filter(c => !RESERVED.includes(c));
const ANSWER_WITHIN_MS = 1000, GONE_AFTER_MS = 5000;
const HUES = [210, 30, 130, 300, 55, 265, 0, 180, 90, 330];

function make(name, attributes = {}, ...inside) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false && value !== undefined) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...inside.filter(part => part !== null && part !== undefined));
  return element;
}

const colour = (k, alpha) => `hsl(${HUES[k % HUES.length]} 70% 50% / ${alpha})`;
const codePoints = (text, unit) => { let n = 0; for (const _ of text.slice(0, unit)) n += 1; return n; };

/** Code-point places as UTF-16 places of one text. */
function unitsOf(text) {
  if (!/[\ud800-\udfff]/.test(text)) return place => place;
  const units = [0];
  for (const c of text) units.push(units[units.length - 1] + c.length);
  return place => units[place];
}

/** The keys that choose a field's labels, in their order. */
function keysOf(field) {
  if (field.type === "checkbox") return ["0", "1"];
  const n = field.labels.length;
  if (field.type === "likert" && field.labels.every(v => v >= 0 && v <= 9)) return field.labels.map(String);
  return Array.from({ length: n }, (_, i) => (i < 9 ? String(i + 1) : i === 9 ? "0" : LETTERS[i - 10] ?? ""));
}

const shown = (field, value) => field.type === "checkbox" ? (value ? "yes" : "no")
  : field.type === "span" ? value.map(s => `“${s.text}”${s.label ? ` ${s.label}` : ""}`).join(", ") || "nothing found"
  : field.type === "multiselect" ? value.join(", ") || "none of them"
  : value === "" ? "nothing" : String(value);

function render({ model, el }) {
  const book = model.get("questions"), client = Math.random().toString(36).slice(2, 8);
  let view = model.get("view"), drawnText = null, active = null, pending = {}, panel = null, reason = null, editing = false;
  let oneByOne = false, caret = 0, anchor = 0, units = unitsOf(""), serial = 0, waiting = null, queue = [], dead = "";
  let lastSeen = null, since = performance.now(), hiddenAt = null, spent = 0;

  const say = make("span", { class: "nba-status", role: "status", "aria-live": "polite" });
  const head = make("div", { class: "nba-head" }), bar = make("div", { class: "nba-bar", "aria-hidden": "true" }, make("div"));
  const notes = make("div"), context = make("div", { class: "nba-context" });
  const text = make("div", { class: "nba-text", dir: "auto", tabindex: "0", role: "document", "aria-label": "Text" });
  const marks = make("ul", { class: "nba-spans", "aria-label": "Marked passages" });
  const fields = make("div"), buttons = make("div", { class: "nba-buttons" }), below = make("div");
  const caretLine = make("div", { class: "nba-caret", hidden: true });
  const root = make("div", { class: "nba-root lm-mod-x", tabindex: "0", role: "group", "data-lm-suppress-shortcuts": "true",
    "aria-label": `Coding desk: ${book.title}. Press ? for the keys.` },
    head, bar, notes, make("div", { class: "nba-body" }, make("div", {}, context, text, marks), make("div", {}, fields, buttons)), below);
  el.classList.add("nba-desk");
  el.append(root);

  // ---- to Python and back -------------------------------------------------------------------------------------------
  function status(words, bad = false) { say.textContent = words; say.classList.toggle("bad", bad); }

  function send(act, more = {}, after = () => {}) {
    if (dead) { status(`NOT KEPT: ${dead}`, true); return; }
    if (waiting) { queue.push({ run: () => send(act, more, after) }); return; }
    const n = `${client}-${++serial}`;
    const late = setTimeout(() => {
      queue = [];
      status("NOT KEPT yet: no answer from the kernel (is a cell running?)", true);
      waiting.gone = setTimeout(() => die("the kernel does not answer; if no cell is running, run this one again"), GONE_AFTER_MS - ANSWER_WITHIN_MS);
    }, ANSWER_WITHIN_MS);
    waiting = { n, late, after };
    model.send({ n, act, place: view.place, ...more });
  }

  function onMessage(message) {
    if (!waiting || message.ack !== waiting.n) return;
    clearTimeout(waiting.late); clearTimeout(waiting.gone);
    const after = waiting.after;
    waiting = null;
    revive();
    if (message.refused) { status(`NOT KEPT: ${message.refused}`, true); queue = []; if (/go on there/i.test(message.refused)) die(message.refused); }
    else after();
    while (queue.length && !waiting) onKey(queue.shift());
  }

  function die(why) { dead = why; root.classList.add("dead"); root.setAttribute("aria-disabled", "true"); status(`NOT KEPT: ${why}`, true); }
  function revive() { if (dead) { dead = ""; root.classList.remove("dead"); root.removeAttribute("aria-disabled"); } }

  function onView() {
    const before = view;
    view = model.get("view");
    if (view.place !== before.place || view.text !== before.text) { pending = {}; reason = null; editing = false; active = null; startClock(); caret = anchor = 0; }
    if (view.found) panel = "found"; else if (panel === "found") panel = null;
    if (!active || !view.applies?.includes(active)) active = firstOpen() ?? view.applies?.[0] ?? null;
    draw();
  }

  // ---- time on the text, without the time in which the page is not seen ---------------------------------------------
  function startClock() { since = performance.now(); spent = 0; }
  function clock() { const now = performance.now(), s = (spent + (hiddenAt === null ? now - since : 0)) / 1000; since = now; spent = 0; return s; }
  const onHide = () => { if (document.hidden) { hiddenAt = performance.now(); spent += hiddenAt - since; } else { hiddenAt = null; since = performance.now(); } };

  // ---- answers ------------------------------------------------------------------------------------------------------
  const value = column => (column in pending ? pending[column] : view.values[column]);
  const firstOpen = () => view.applies?.find(c => !(c in view.values));
  function step(by) {
    const at = view.applies.indexOf(active) + by;
    if (at < 0) send("go", { place: view.place - 1 });
    else if (at >= view.applies.length) send("open");
    else { active = view.applies[at]; draw(); }
  }

  function keep() {
    if (!active) return send("open");
    const field = book.fields[active], column = active;
    let given = value(column);
    if (given === undefined && (field.type === "span" || field.type === "multiselect")) given = [];
    if (given === undefined && field.type === "textbox") given = "";
    if (given === undefined) { status(`“${field.name}” has no answer yet`); return; }
    if (!(column in pending) && column in view.values) return step(1);
    const stay = view.finished, applied = view.place;
    send("answer", { column, value: given, seconds: clock(), stay }, () => {
      if (view.place === applied) delete pending[column];
      status(`kept · “${field.name}”: ${shown(field, given).slice(0, 60)}`);
      if (view.after && editing) { editing = false; status("kept; a digit gives the reason, Enter decides"); return draw(); }
      if (view.place === applied && !view.after) { const open = firstOpen(); stay && !open ? step(1) : (active = open ?? active, draw()); }
    });
  }

  function choose(label) {
    const field = book.fields[active], chosen = value(active) ?? [];
    pending[active] = field.type !== "multiselect" ? label : field.labels.filter(l => chosen.includes(l) !== (l === label));
    status("Enter keeps it"); draw();
  }

  function mark(label) {
    let [start, end] = [Math.min(anchor, caret), Math.max(anchor, caret)];
    if (start === end) { status("mark a passage first: mouse, or Shift and arrows"); return; }
    const span = { start: codePoints(view.text, start), end: codePoints(view.text, end), text: view.text.slice(start, end), label };
    const same = s => s.start === span.start && s.end === span.end && s.label === label;
    const spans = value(active) ?? [];
    pending[active] = spans.some(same) ? spans.filter(s => !same(s)) : [...spans, span].sort((a, b) => a.start - b.start || a.end - b.end);
    anchor = caret; getSelection()?.removeAllRanges();
    status("marked; Enter keeps it"); draw();
  }

  function unmark(k) { pending[active] = (value(active) ?? []).filter((_, i) => i !== k); status("taken away; Enter keeps it"); draw(); }

  // ---- the text, its marks and its caret ----------------------------------------------------------------------------
  function drawText() {
    const field = active ? book.fields[active] : null;
    const spanColumn = field?.type === "span" ? active : view.applies?.find(c => book.fields[c].type === "span" && value(c)?.length);
    const spans = spanColumn ? value(spanColumn) ?? [] : [], labels = spanColumn ? book.fields[spanColumn].labels : [];
    const key = JSON.stringify([view.place, view.text, spans]);
    if (key === drawnText) return drawCaret();
    drawnText = key;
    units = unitsOf(view.text);
    const placed = spans.map(s => ({ ...s, a: units(s.start), b: units(s.end), k: Math.max(0, labels.indexOf(s.label)) }));
    const lanes = [];
    for (const s of placed) { s.lane = lanes.findIndex(end => end <= s.a); if (s.lane < 0) s.lane = lanes.length; lanes[s.lane] = s.b; }
    const cuts = [...new Set([0, view.text.length, ...placed.flatMap(s => [s.a, s.b])])].sort((x, y) => x - y);
    const parts = [];
    for (let i = 0; i + 1 < cuts.length; i++) {
      const here = placed.filter(s => s.a <= cuts[i] && s.b >= cuts[i + 1]), piece = view.text.slice(cuts[i], cuts[i + 1]);
      if (!here.length) { parts.push(piece); continue; }
      const m = make("mark", { title: here.map(s => s.label ?? "marked").join(", ") }, piece);
      const begins = here.filter(s => s.a === cuts[i] && s.label);
      if (begins.length) m.dataset.tag = begins.map(s => s.label.length > 18 ? s.label.slice(0, 17) + "…" : s.label).join(" · ");
      m.style.backgroundImage = here.map(s => `linear-gradient(${colour(s.k, .95)}, ${colour(s.k, .95)})`).concat(`linear-gradient(${colour(here[0].k, .2)}, ${colour(here[0].k, .2)})`).join(",");
      m.style.backgroundSize = here.map(() => "100% 3px").concat("100% 100%").join(",");
      m.style.backgroundPosition = here.map(s => `0 calc(100% - ${s.lane * 4}px)`).concat("0 0").join(",");
      m.style.paddingBottom = `${2 + 4 * Math.max(...here.map(s => s.lane))}px`;
      parts.push(m);
    }
    text.replaceChildren(...parts);
    marks.replaceChildren(...placed.map((s, i) => make("li", {},
      make("span", { class: "nba-chip", style: `background:${colour(s.k, .9)}`, "aria-hidden": "true" }), make("b", {}, s.label ?? "marked"), make("q", {}, s.text),
      spanColumn === active ? make("button", { "aria-label": `Take away ${s.label ?? ""} ${s.text}`, onclick: () => { unmark(i); focusDesk(); } }, "×") : null)));
    drawCaret();
  }

  function nodeAt(unit) {
    const walker = document.createTreeWalker(text, NodeFilter.SHOW_TEXT);
    let node, last = null, left = unit;
    while ((node = walker.nextNode())) { if (left <= node.data.length) return [node, left]; left -= node.data.length; last = node; }
    return last ? [last, last.data.length] : [text, 0];
  }

  function unitAt(node, offset) {
    if (node.nodeType !== Node.TEXT_NODE) { const range = document.createRange(); range.setStart(text, 0); range.setEnd(node, offset); return lengthOf(range.cloneContents()); }
    const walker = document.createTreeWalker(text, NodeFilter.SHOW_TEXT);
    let n = 0, at;
    while ((at = walker.nextNode())) { if (at === node) return n + offset; n += at.data.length; }
    return n;
  }
  const lengthOf = part => { let n = 0; const walker = document.createTreeWalker(part, NodeFilter.SHOW_TEXT); while (walker.nextNode()) n += walker.currentNode.data.length; return n; };

  function drawCaret() {
    const on = active && book.fields[active].type === "span" && view.text;
    caretLine.hidden = !on || caret !== anchor;
    if (!on) return;
    if (caret !== anchor) { getSelection().setBaseAndExtent(...nodeAt(anchor), ...nodeAt(caret)); }
    const range = document.createRange(), [node, offset] = nodeAt(caret);
    range.setStart(node, offset); range.collapse(true);
    const box = range.getClientRects()[0] ?? node.parentElement.getBoundingClientRect(), frame = text.getBoundingClientRect();
    if (!caretLine.isConnected) text.parentElement.append(caretLine);
    text.parentElement.style.position = "relative";
    const home = text.parentElement.getBoundingClientRect();
    if (box.top < frame.top || box.bottom > frame.bottom) text.scrollTop += box.top - frame.top - frame.height / 3;
    const now = range.getClientRects()[0] ?? box;
    Object.assign(caretLine.style, { left: `${now.left - home.left}px`, top: `${now.top - home.top}px`, height: `${now.height || 18}px` });
  }

  /** The next place left or right of one, by characters as people see them, or by words. */
  function hop(from, by, words) {
    const lo = Math.max(0, from - 200), around = view.text.slice(lo, from + 200);
    const kind = new Intl.Segmenter(undefined, { granularity: words ? "word" : "grapheme" });
    const stops = [...kind.segment(around)].flatMap(s => (words && !s.isWordLike ? [] : by > 0 ? [lo + s.index + s.segment.length] : [lo + s.index]));
    return by > 0 ? stops.find(s => s > from) ?? view.text.length : stops.filter(s => s < from).pop() ?? 0;
  }

  function moveCaret(event) {
    const rtl = getComputedStyle(text).direction === "rtl", forward = (event.key === "ArrowRight") !== rtl;
    if (event.key === "Home") caret = view.text.lastIndexOf("\n", caret - 1) + 1;
    else if (event.key === "End") { const e = view.text.indexOf("\n", caret); caret = e < 0 ? view.text.length : e; }
    else caret = hop(caret, forward ? 1 : -1, event.ctrlKey || event.altKey);
    if (!event.shiftKey) { anchor = caret; getSelection()?.removeAllRanges(); }
    drawCaret();
  }

  function onMouseUp() {
    const selection = getSelection();
    if (!selection.rangeCount || !text.contains(selection.anchorNode) || !text.contains(selection.focusNode)) return;
    const range = selection.getRangeAt(0);
    let a = unitAt(range.startContainer, range.startOffset), b = unitAt(range.endContainer, range.endOffset);
    if (a < b) { while (a < b && /\s/.test(view.text[a])) a++; while (b > a && /\s/.test(view.text[b - 1])) b--; }
    if (active && book.fields[active].type !== "span") { const c = view.applies.find(c => book.fields[c].type === "span"); if (!c || a === b) return; active = c; draw(); }
    [anchor, caret] = [a, b];
    drawCaret();
    root.focus({ preventScroll: true });
  }

  // ---- the questions ------------------------------------------------------------------------------------------------
  function drawField(column) {
    const field = book.fields[column], on = column === active, keys = keysOf(field), now = value(column);
    const box = make("fieldset", { class: `nba-field${on ? " active" : ""}`, onclick: () => { if (active !== column) { active = column; draw(); } } },
      make("legend", {}, field.name, column in pending ? " ·" : column in view.values ? " ✓" : ""));
    if (on && (field.instruction || field.guidance)) box.append(make("p", { class: "nba-guide" }, [field.guidance, field.instruction].filter(Boolean).join("\n\n")));
    if (field.type === "textbox") {
      const area = make("textarea", { rows: "2", "aria-label": field.name, placeholder: "Enter keeps; empty: nothing to write" });
      area.value = now ?? "";
      area.addEventListener("input", () => { pending[column] = area.value; });
      area.addEventListener("focus", () => { if (active !== column) { active = column; draw(); } });
      box.append(area);
    } else if (field.type === "span") {
      if (on) box.append(...(field.labels.length ? field.labels : [null]).map((label, i) => make("label", { onmousedown: e => e.preventDefault(), onclick: e => { e.preventDefault(); mark(label); } },
        make("kbd", {}, field.labels.length ? keys[i] : "1"), make("span", { class: "nba-chip", style: `background:${colour(i, .9)};width:.8em;height:.8em;border-radius:2px` }), label ?? "mark")));
      box.append(make("div", { class: "nba-quiet" }, now === undefined ? "Enter with nothing marked: nothing found" : `${now.length} marked`));
    } else {
      const several = field.type === "multiselect", listed = several || field.type === "dropdown";
      const group = make("div", { role: several ? "group" : "radiogroup", "aria-label": several ? `${field.name}: all that apply` : field.name, class: listed ? "" : "nba-scale" });
      if (several && on) box.append(make("div", { class: "nba-quiet" }, now === undefined ? "All that apply. Enter with nothing chosen: none of them" : `${now.length || "none"} chosen`));
      field.labels.forEach((label, i) => {
        const radio = make("input", { type: several ? "checkbox" : "radio", name: `${client}-${column}`, tabindex: on ? "0" : "-1" });
        radio.checked = several ? (now ?? []).includes(label) : now === label;
        radio.addEventListener("change", () => { active = column; choose(label); });
        const says = field.type === "checkbox" ? ["no", "yes"][i] : String(label);
        group.append(make("label", { class: radio.checked ? "on" : null, title: field.described[i] || null }, radio, on ? make("kbd", {}, keys[i]) : null,
          make("span", {}, says, on && field.described[i] ? make("small", { class: "nba-quiet" }, ` ${field.described[i]}`) : null)));
      });
      box.append(group);
    }
    return box;
  }

  function draw() {
    const inside = root.contains(document.activeElement), wasText = document.activeElement?.tagName === "TEXTAREA";
    if (!view.total) { head.replaceChildren(make("span", { class: "nba-title" }, book.title), "no texts to code", say); return; }
    const all = view.done === view.total;
    head.replaceChildren(make("span", { class: "nba-title" }, book.title), make("span", {}, `text ${view.place + 1} of ${view.total}`),
      make("span", { class: "nba-quiet" }, `${view.done} done${view.left && !all ? `, about ${view.left} left` : ""}`), view.flagged ? make("span", {}, "⚑ flagged") : "",
      view.memo ? make("span", { title: view.memo }, "✎ memo") : "", make("span", { class: "nba-quiet" }, make("kbd", {}, "?"), " keys"), say);
    bar.firstChild.style.width = `${100 * view.done / view.total}%`;
    notes.replaceChildren(...(view.place === 0 || view.done === 0 || panel === "help" ? view.notices : []).map(n => make("p", { class: "nba-note" }, n)),
      ...(view.trouble ? [make("p", { class: "nba-note bad", role: "alert" }, view.trouble)] : []),
      ...(all ? [make("p", { class: "nba-note" }, `All ${view.total} texts are coded. The labels are in ${view.kept_in}.`)] : []));
    context.replaceChildren(...(view.context ?? []).filter(([, cell]) => cell.trim()).flatMap(([name, cell]) => [make("b", {}, name), ` ${cell}\n`]));
    drawText();
    const list = oneByOne ? view.applies.filter(c => c === active) : view.applies;
    fields.replaceChildren(...list.map(drawField));
    const button = (label, key, act) => make("button", { onmousedown: e => e.preventDefault(), onclick: () => { act(); focusDesk(); } }, label, " ", make("kbd", {}, key));
    buttons.replaceChildren(button("Keep", "Enter", go), button("Back", "⌫", () => step(-1)), button("Undo", "u", undo),
      button(view.flagged ? "Unflag" : "Flag", "f", flag), button("Memo", "m", () => open("memo")), button("Search", "/", () => open("search")));
    drawPanel();
    if (inside || wasText) focusDesk();
    const seen = `${view.place} ${view.after ? "after" : ""}`;
    if (inside && lastSeen !== null && seen !== lastSeen) (view.after ? below : head).scrollIntoView({ block: "nearest" });
    lastSeen = seen;
  }

  function focusDesk() {
    const entry = below.querySelector("textarea, input[type=text]") ?? (active && !view.after && book.fields[active].type === "textbox" ? fields.querySelector(".active textarea") : null);
    (entry ?? root).focus({ preventScroll: true });
  }

  // ---- below: what comes after a text, keys, memo, search -----------------------------------------------------------
  function drawPanel() {
    const parts = [];
    if (view.after) {
      parts.push(...view.after.tables.map(t => make("div", {}, make("div", { class: "nba-h" }, t.title), make("table", {}, ...t.rows.map(r => make("tr", {}, make("th", {}, r[0]), make("td", {}, r[1])))), t.words ? make("p", {}, t.words) : null)));
      parts.push(...(view.after.reasons ?? []).map((words, i) => make("label", { style: reason === i ? "font-weight:600" : "", onclick: () => { reason = i; draw(); } }, make("kbd", {}, String(i + 1)), ` ${words} `)));
      parts.push(make("p", { class: "nba-quiet" }, view.after.hint));
    }
    if (panel === "help") parts.push(help());
    if (panel === "memo") parts.push(entry("Memo on this text", view.memo ?? "", words => send("memo", { words })));
    if (panel === "search") parts.push(entry("Search the texts (or: flagged, changed)", "", words => send("search", { words })));
    if (panel === "found") parts.push(make("div", { class: "nba-h" }, `${view.found.n} found: ${view.found.words}`), ...view.found.places.map(([place, start]) => make("div", {}, make("button", { onclick: () => { panel = null; send("go", { place }); root.focus(); } }, `${place + 1}`), ` ${start}`)));
    if (below.dataset.panel === panel && below.querySelector("textarea, input[type=text]") && (panel === "memo" || panel === "search")) return;
    below.dataset.panel = panel ?? "";
    below.replaceChildren(...(parts.length ? [make("div", { class: "nba-panel", tabindex: "0", role: "region", "aria-label": "More about this text" }, ...parts)] : []));
  }

  function entry(label, before, done) {
    const area = make("input", { type: "text", "aria-label": label, placeholder: `${label}: Enter keeps, Esc leaves` });
    area.value = before;
    area.addEventListener("keydown", event => {
      event.stopPropagation();
      if (event.isComposing || (event.key !== "Enter" && event.key !== "Escape")) return;
      event.preventDefault();
      panel = null; below.replaceChildren(); root.focus({ preventScroll: true });
      if (event.key === "Enter") done(area.value); else draw();
    });
    return area;
  }

  function open(name) { panel = panel === name ? null : name; below.dataset.panel = "new"; draw(); focusDesk(); }
  function undo() { send("undo", {}, () => { pending = {}; active = firstOpen() ?? active; status("taken back"); draw(); }); }
  function flag() { send("flag", { on: !view.flagged }); }

  function help() {
    const keys = [["digits, letters", "choose an answer (of several: also take it back); with a passage marked: its label"], ["Enter", "keep it and go on"], ["Backspace", "back"], ["↑ ↓", "another question of this text"],
      ["← → Home End", "move in the text (Ctrl: by words)"], ["Shift and these", "mark a passage"], ["x, Delete", "take away the mark at the caret"], ["u", "undo the last answer"], ["m", "memo"], ["f", "flag: come back to this"],
      ["o", "next open text"], [", .", "text before, text after"], ["/", "search"], ["v", "one question at a time, or all"], ["Esc", "leave a box"]];
    return make("div", {}, make("div", { class: "nba-h" }, "Keys"), make("table", {}, ...keys.map(([k, w]) => make("tr", {}, make("th", {}, make("kbd", {}, k)), make("td", {}, w)))),
      make("div", { class: "nba-h" }, "Codebook"), ...book.order.map(c => { const f = book.fields[c]; return make("div", {}, make("div", { class: "nba-h" }, f.name, f.when ? ` (where ${f.when})` : ""), make("p", {}, [f.instruction, f.guidance].filter(Boolean).join(" ")),
        make("ul", {}, ...f.labels.map((l, i) => f.described[i] ? make("li", {}, `${l}: ${f.described[i]}`) : null)), ...f.examples.map(e => make("pre", {}, e))); }));
  }

  // ---- keys ---------------------------------------------------------------------------------------------------------
  function go() {
    if (view.after && !editing) {
      if (!view.after.reasons) return send("open");
      return reason === null && view.after.needs_reason ? status("choose a reason first") : send("decide", { reason });
    }
    keep();
  }

  function listen(event) {
    if (event.isComposing) return;
    const typing = event.target.tagName === "TEXTAREA" || (event.target.tagName === "INPUT" && event.target.type === "text");
    const ahead = waiting && !dead && fields.contains(event.target);  // typed while an answer is on its way: for what comes next
    if (typing && !ahead && !(event.key === "Enter" && !event.shiftKey) && event.key !== "Escape" && !(event.key === "Backspace" && !event.target.value)) { event.stopPropagation(); return; }
    if (event.target.tagName === "BUTTON" && (event.key === "Enter" || event.key === " ")) { event.stopPropagation(); return; }
    const handled = { key: event.key, shiftKey: event.shiftKey, ctrlKey: event.ctrlKey, altKey: event.altKey };
    if (!isOurs(handled) && !(ahead && event.key === " ")) return;
    event.preventDefault(); event.stopPropagation();
    if (waiting && !dead) queue.push({ ...handled, ahead: true }); else onKey(handled);
  }

  const onSpan = () => active !== null && book.fields[active].type === "span";

  function isOurs(e) {
    if (e.metaKey || (e.ctrlKey && !e.key.startsWith("Arrow"))) return false;
    if (e.key.startsWith("Arrow") || e.key === "Home" || e.key === "End") { return onSpan() || (waiting && !dead) || e.key === "ArrowUp" || e.key === "ArrowDown"; }
    return e.key.length === 1 ? e.key !== " " : ["Enter", "Backspace", "Delete", "Escape"].includes(e.key);
  }

  function onKey(e) {
    if (dead) { status(`NOT KEPT: ${dead}`, true); return; }
    if (e.run) return e.run();
    if (e.ahead && !view.after && active && book.fields[active].type === "textbox" && (e.key.length === 1 || (e.key === "Backspace" && value(active)))) {
      const before = value(active) ?? "";
      pending[active] = e.key === "Backspace" ? before.slice(0, -1) : before + e.key;
      return draw();
    }
    const field = active ? book.fields[active] : null, at = field ? keysOf(field).indexOf(e.key) : -1;
    if (e.key === "Enter") return go();
    if (e.key === "Escape") { panel = null; root.focus(); anchor = caret; getSelection()?.removeAllRanges(); return draw(); }
    if (e.key === "Backspace") return step(-1);
    if (view.after?.reasons && !editing) {
      if (view.after.reasons[Number(e.key) - 1]) { reason = Number(e.key) - 1; return draw(); }
      if (e.key === "e") { editing = true; active = view.applies[0]; status("change your answer; Enter keeps it"); return draw(); }
    }
    if (e.key === "ArrowUp" || e.key === "ArrowDown") { const k = view.applies.indexOf(active) + (e.key === "ArrowDown" ? 1 : -1); if (view.applies[k]) { active = view.applies[k]; draw(); } return; }
    if (e.key.startsWith("Arrow") || e.key === "Home" || e.key === "End") return onSpan() ? moveCaret(e) : undefined;
    if (field?.type === "span") {
      if (!field.labels.length && e.key === "1") return mark(null);
      if (at >= 0) return mark(field.labels[at]);
      if (e.key === "x" || e.key === "Delete") { const here = codePoints(view.text, caret), k = (value(active) ?? []).findLastIndex(s => s.start <= here && here <= s.end); return k < 0 ? status("no mark at the caret") : unmark(k); }
    } else if (field && at >= 0 && field.type !== "textbox") return choose(field.labels[at]);
    if (field?.type === "checkbox" && (e.key === "y" || e.key === "n")) return choose(e.key === "y" ? 1 : 0);
    const acts = { "?": () => open("help"), m: () => open("memo"), f: flag, u: undo, "/": () => open("search"), o: () => send("open"),
      ",": () => send("go", { place: view.place - 1 }), ".": () => send("go", { place: view.place + 1 }), v: () => { oneByOne = !oneByOne; draw(); } };
    if (acts[e.key]) acts[e.key](); else status(`“${e.key}” does nothing here; ? shows the keys`);
  }

  root.addEventListener("keydown", listen);
  text.addEventListener("mouseup", onMouseUp);
  document.addEventListener("visibilitychange", onHide);
  model.on("change:view", onView);
  model.on("msg:custom", onMessage);
  const lost = () => { if (!waiting && !dead) send("ping", {}, () => status("")); };
  model.on("comm_live_update", lost);
  active = firstOpen() ?? view.applies?.[0] ?? null;
  draw();
  return () => { document.removeEventListener("visibilitychange", onHide); model.off("change:view", onView); model.off("msg:custom", onMessage); model.off("comm_live_update", lost); };
}

export default { render };

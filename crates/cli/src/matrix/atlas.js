"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const page = 200;
let shown = page;
const chosen = new Map();
const varying = data.axes.map((name, index) => ({ name, index, values: [...new Set(data.cells.map(c => c.axes[index]))] }))
  .filter(axis => axis.values.length > 1);

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}
function kind(outcome) {
  if (outcome === "ok") return "ok";
  if (outcome === "skipped" || outcome === "create_error" || outcome === "gone") return "warn";
  return "bad";
}
function fits(cell) {
  for (const [key, value] of chosen) {
    if (key === "outcome" ? cell.outcome !== value : key === "agrees" ? String(cell.agrees) !== value : cell.axes[key] !== value) return false;
  }
  return true;
}
function filter(key, title, values) {
  const box = element("fieldset");
  box.append(element("legend", title));
  const name = "filter-" + key;
  for (const value of [null, ...values]) {
    const label = element("label");
    const input = element("input");
    input.type = "radio";
    input.name = name;
    input.checked = value === null;
    input.addEventListener("change", () => {
      if (value === null) chosen.delete(key); else chosen.set(key, value);
      shown = page;
      draw();
    });
    label.append(input, value === null ? "all" : value);
    box.append(label);
  }
  document.getElementById("filters").append(box);
}
function detail(cell, columns) {
  const row = element("tr", undefined, "detail");
  const cellElement = element("td");
  cellElement.colSpan = columns;
  if (cell.why) cellElement.append(element("p", cell.why));
  if (cell.predicted) cellElement.append(element("p", "The model says: consumer " + cell.predicted.consumer.join(" → ") + "; node " + cell.predicted.node.join(" → ")));
  cellElement.append(element("pre", cell.evidence.join("\n")));
  if (cell.report) {
    const link = element("a", "The whole report");
    link.href = cell.report;
    cellElement.append(link);
  }
  cellElement.append(element("p", "Run it again, with its whole report:"));
  cellElement.append(element("pre", "propagation matrix --cell " + cell.id));
  row.append(cellElement);
  return row;
}
function draw() {
  const fitting = data.cells.filter(fits);
  // What the model did not foresee comes first.
  fitting.sort((a, b) => (a.agrees === false ? 0 : 1) - (b.agrees === false ? 0 : 1));
  const counts = new Map();
  for (const cell of fitting) counts.set(cell.outcome, (counts.get(cell.outcome) || 0) + 1);
  const disagreeing = fitting.filter(c => c.agrees === false).length;
  document.getElementById("count").textContent =
    `${fitting.length} of ${data.cells.length} cells; the kernel and the model disagree in ${disagreeing}`;
  const summary = document.getElementById("summary");
  summary.replaceChildren(...[...counts].sort((a, b) => b[1] - a[1]).map(([outcome, count]) => element("span", `${outcome}: ${count}`, kind(outcome))));
  const head = [...varying.map(a => a.name), "before", "after the fault", "in the end", "layers", "ms", ""];
  document.getElementById("head").replaceChildren(...head.map(text => { const th = element("th", text); th.scope = "col"; return th; }));
  const rows = [];
  for (const cell of fitting.slice(0, shown)) {
    const row = element("tr");
    for (const axis of varying) row.append(element("td", cell.axes[axis.index]));
    const seen = cell.seen ? cell.seen.consumer : ["", "", cell.outcome];
    seen.forEach(word => row.append(element("td", word, word ? kind(word) : "")));
    row.append(element("td", cell.layers), element("td", cell.ms));
    const last = element("td");
    const open = element("button", cell.agrees === false ? "evidence (not foreseen)" : "evidence");
    open.type = "button";
    open.setAttribute("aria-expanded", "false");
    open.addEventListener("click", () => {
      const next = row.nextElementSibling;
      const isOpen = next && next.classList.contains("detail");
      if (isOpen) next.remove(); else row.after(detail(cell, head.length));
      open.setAttribute("aria-expanded", String(!isOpen));
    });
    last.append(open);
    row.append(last);
    rows.push(row);
  }
  document.getElementById("rows").replaceChildren(...rows);
  document.getElementById("more").hidden = fitting.length <= shown;
}
for (const axis of varying) filter(axis.index, data.titles[axis.index], axis.values);
filter("outcome", "in the end", [...new Set(data.cells.map(c => c.outcome))]);
filter("agrees", "as the model says", ["true", "false"]);
document.getElementById("more").addEventListener("click", () => { shown += page; draw(); });
draw();

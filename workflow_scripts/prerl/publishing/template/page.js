"use strict";
// The page as a whole: its charts when they come into view, and tables that can be sorted.

(() => {
  const seeds = document.getElementById("seeds");
  const pending = new Map(); // element -> draw it

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      seen.unobserve(entry.target);
      pending.get(entry.target)();
      pending.delete(entry.target);
    }
  }, { rootMargin: "400px" });

  function chart(parent, title, level, draw) {
    const box = document.createElement("div");
    const heading = document.createElement(level);
    const div = document.createElement("div");
    box.className = "chart";
    heading.textContent = title;
    box.append(heading, div);
    parent.append(box);
    const now = () => draw(div);
    pending.set(box, now);
    seen.observe(box);
    return () => { if (!pending.has(box)) now(); };
  }

  for (const panel of prerl.data.claims) {
    chart(document.getElementById("forest"), panel.title, "h3", (div) => prerl.forest(div, panel));
  }
  const graph = document.getElementById("graph"); // not of a run of earlier versions
  if (graph) chart(graph, "Each rule reads what those before it have made", "h4",
    (div) => prerl.flow(div, prerl.data.graph));
  const redraw = [];
  for (const parent of document.querySelectorAll("[data-figure]")) {
    const panels = prerl.data.figures[parent.dataset.figure];
    const several = new Set(panels.map((panel) => panel.model)).size > 1;
    for (const panel of panels) {
      const title = several ? `${panel.model}: ${panel.title}` : panel.title;
      redraw.push(chart(parent, title, "h4", (div) => prerl.panel(div, panel, seeds.checked)));
    }
  }
  seeds.addEventListener("change", () => redraw.forEach((draw) => draw()));

  function valueOf(cell) {
    const text = (cell.dataset.value ?? cell.textContent).replace(/[,[]/g, "").replace(/−/g, "-").trim();
    const number = parseFloat(text);
    return Number.isNaN(number) ? text : number;
  }

  function sort(table, column, header) {
    const ascending = header.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b
      : typeof a === "number" ? -1 : typeof b === "number" ? 1 : a.localeCompare(b));
    const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row.cells[column]), row]);
    rows.sort(([a], [b]) => (ascending ? compare(a, b) : compare(b, a)));
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }

  const folded = "#claims details:not([open]), #figures details:not([open]), #tables details:not([open])";
  let opened = []; // for print
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll(folded)];
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of opened) one.open = false;
  });

  for (const table of document.querySelectorAll("table.sortable, .markdown table")) {
    [...table.tHead.rows[0].cells].forEach((header, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => sort(table, column, header));
    });
  }
})();

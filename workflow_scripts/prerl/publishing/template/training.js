"use strict";
// Curves of every measured quantity, loaded one by one; values of all methods at the update that the slider is at.

(() => {
  const at = (id) => document.getElementById(`training-${id}`);
  const [model, quantity, seeds, bands, update] = ["model", "quantity", "seeds", "bands", "update"].map(at);
  if (!model) return;
  const GROUPS = { train: "rollouts and updates", validation: "validation" };
  let panel = null;
  const chosen = new Map(); // method -> whether it is drawn

  function options(select, values) {
    select.replaceChildren(...values.map(([value, text]) => new Option(text, value)));
  }

  function quantities() {
    const before = quantity.selectedOptions[0]?.textContent;
    const all = prerl.data.training[model.value];
    quantity.replaceChildren(...Object.entries(GROUPS).map(([group, title]) => {
      const block = document.createElement("optgroup");
      block.label = title;
      block.append(...all.filter((one) => one.group === group).map((one) => new Option(one.title, one.file)));
      return block;
    }));
    const wanted = all.find((one) => one.title === before) ?? all.find((one) => one.title === "Accuracy (share), mean") ?? all[0];
    quantity.value = wanted.file;
  }

  function row(cells, kind) {
    const tr = document.createElement("tr");
    cells.forEach((text, index) => {
      const cell = document.createElement(kind === "th" || index === 0 ? "th" : "td");
      cell.textContent = text;
      if (cell.tagName === "TH") cell.scope = kind === "th" ? "col" : "row";
      tr.append(cell);
    });
    return tr;
  }

  function number(value) {
    return value === null || value === undefined ? "" : String(Number(value.toPrecision(4))).replace("-", "−");
  }

  function values() {
    const now = Number(update.value);
    at("at").textContent = update.value;
    const names = [...new Set(panel.series.flatMap((s) => Object.keys(s.seeds)))];
    const head = document.createElement("thead");
    const body = document.createElement("tbody");
    head.append(row(["method", "at update", "mean", "interval", ...names.map((name) => `seed ${name}`)], "th"));
    for (const s of panel.series) {
      const index = s.x.findLastIndex((x) => x <= now);
      if (index < 0) continue;
      const interval = s.low[index] === null ? "" : `[${number(s.low[index])}, ${number(s.high[index])}]`;
      const ofSeeds = names.map((name) => number(s.seeds[name]?.[index]));
      body.append(row([s.name, String(s.x[index]), number(s.y[index]), interval, ...ofSeeds], "td"));
    }
    at("values").replaceChildren(head, body);
    draw();
  }

  function draw() {
    const now = Number(update.value);
    const mark = { type: "line", x0: now, x1: now, yref: "paper", y0: 0, y1: 1, line: { width: 1, dash: "dot", color: "#888888" } };
    const drawn = panel.series.filter((s) => chosen.get(s.name));
    const series = bands.checked ? drawn : drawn.map((s) => ({ ...s, low: undefined }));
    prerl.panel(at("chart"), { ...panel, series, height: 460 }, seeds.checked, [mark]);
  }

  function methods() {
    const none = !panel.series.some((s) => s.first);
    at("methods").replaceChildren(...panel.series.map((s) => {
      if (!chosen.has(s.name)) chosen.set(s.name, none || s.first);
      const label = document.createElement("label"), box = document.createElement("input");
      box.type = "checkbox";
      box.checked = chosen.get(s.name);
      box.addEventListener("change", () => { chosen.set(s.name, box.checked); draw(); });
      label.append(box, ` ${s.name} `);
      return label;
    }));
  }

  function show() {
    read().catch((error) => { at("values").replaceChildren(row([error.message], "td")); });
  }

  async function read() {
    panel = await prerl.load(`training/${model.value}/${quantity.value}`);
    const before = update.value, atEnd = before === update.max; // the slider starts at its end
    update.max = Math.max(...panel.series.flatMap((s) => s.x));
    update.min = Math.min(...panel.series.flatMap((s) => s.x));
    update.value = atEnd ? update.max : before;
    methods();
    values();
  }

  options(model, Object.keys(prerl.data.training).map((name) => [name, name]));
  model.addEventListener("change", () => { quantities(); show(); });
  quantity.addEventListener("change", show);
  for (const box of [seeds, bands]) box.addEventListener("change", draw);
  update.addEventListener("input", values);
  quantities();
  const seen = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) { seen.disconnect(); show(); }
  }, { rootMargin: "400px" });
  seen.observe(at("chart"));
})();

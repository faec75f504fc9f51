"use strict";
// Charts of panels (prerl/publishing/noted.py) by plotly, and files that the page loads when it needs them.

window.prerl = (() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const data = JSON.parse(document.getElementById("data").textContent);
  const waiting = new Map(); // name of a file -> resolve
  const loaded = new Map(); // name of a file -> promise of its value
  const drawn = new Map(); // element -> how to draw it again

  function receive(name, value) {
    waiting.get(name)(value);
  }

  // The value of page/rollouts/{name}.js or page/{name}.js: a script, since a page from a file may not fetch.
  function load(name) {
    if (!loaded.has(name)) {
      loaded.set(name, new Promise((resolve, reject) => {
        waiting.set(name, resolve);
        const script = document.createElement("script");
        script.src = (name.startsWith("training/") ? "page/" : "page/rollouts/") + name + ".js";
        script.onerror = () => {
          loaded.delete(name);
          reject(new Error(`${script.getAttribute("src")} is missing: keep the folder page/ beside this file`));
        };
        script.onload = () => script.remove();
        document.head.append(script);
      }));
    }
    return loaded.get(name);
  }

  function ink(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function color(of) { // black lines would vanish in the dark
    return of === "#000000" ? ink("--ink") : of;
  }

  function faint(of, alpha) {
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(color(of).slice(at, at + 2), 16));
    return `rgba(${r},${g},${b},${alpha})`;
  }

  function plain(text) { // plotly reads some HTML in names
    return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/\n/g, "<br>");
  }

  const bounds = (s, i) => (s.low && s.low[i] !== null && s.high ? ` [${s.low[i]}, ${s.high[i]}]` : "");

  function line(s, withSeeds) {
    const hover = s.y.map((_, i) => bounds(s, i));
    const group = { legendgroup: s.name, name: plain(s.name) };
    const edge = { ...group, x: s.x, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
    const traces = [];
    if (s.low && s.low.some((value) => value !== null)) {
      traces.push({ ...edge, y: s.low }, { ...edge, y: s.high, fill: "tonexty", fillcolor: faint(s.color, 0.16) });
    }
    if (s.raw) traces.push({ ...edge, y: s.raw, line: { width: 0.8, color: faint(s.color, 0.45) } });
    for (const [seed, y] of Object.entries(withSeeds && s.seeds ? s.seeds : {})) {
      traces.push({ ...group, x: s.x, y, mode: "lines", line: { width: 0.8, color: faint(s.color, 0.6) },
        showlegend: false, hovertemplate: `%{x}: %{y}<extra>${plain(s.name)}, seed ${plain(seed)}</extra>` });
    }
    const mode = s.x.length > 30 ? "lines" : "lines+markers";
    traces.push({ ...group, x: s.x, y: s.y, mode, line: { color: color(s.color), dash: s.dash, width: 2 },
      marker: { color: color(s.color), symbol: s.symbol, size: 7 }, customdata: hover,
      hovertemplate: "%{x}: %{y}%{customdata}<extra>" + plain(s.name) + "</extra>" });
    return traces;
  }

  function points(s, withSeeds) {
    const group = { legendgroup: s.name, name: plain(s.name) };
    const error = s.y.map((y, i) => [s.high[i] === null ? 0 : s.high[i] - y, s.low[i] === null ? 0 : y - s.low[i]]);
    const traces = [{ ...group, x: s.x, y: s.y, mode: "markers",
      marker: { color: color(s.color), symbol: s.symbol, size: 9 }, customdata: s.y.map((_, i) => bounds(s, i)),
      error_y: { array: error.map((e) => e[0]), arrayminus: error.map((e) => e[1]), color: color(s.color) },
      hovertemplate: "%{y}%{customdata}<extra>" + plain(s.name) + "</extra>" }];
    for (const [seed, y] of Object.entries(withSeeds && s.seeds ? s.seeds : {})) {
      traces.push({ ...group, x: s.x.map((x) => x + 0.15), y, mode: "markers", showlegend: false,
        marker: { color: faint(s.color, 0.6), size: 5 },
        hovertemplate: `%{y}<extra>${plain(s.name)}, seed ${plain(seed)}</extra>` });
    }
    return traces;
  }

  function dots(s) {
    const error = (key, sign) => s.x.map((x, i) => (s[key][i] === null ? 0 : sign * (s[key][i] - x)));
    return [{ name: plain(s.name), x: s.x, y: s.y, mode: "markers",
      showlegend: false, marker: { color: color(s.color), symbol: s.symbol, size: 9 }, customdata: s.x.map((_, i) => bounds(s, i)),
      error_x: { symmetric: false, array: error("high", 1), arrayminus: error("low", -1), color: color(s.color) },
      hovertemplate: "%{x}%{customdata}<extra>" + plain(s.name) + "</extra>" }];
  }

  function steps(s) {
    return [{ name: plain(s.name), x: s.x, y: [...s.y, s.y[s.y.length - 1]], mode: "lines",
      line: { color: color(s.color), dash: s.dash, width: 2, shape: "hv" },
      hovertemplate: "from %{x}: %{y}<extra>" + plain(s.name) + "</extra>" }];
  }

  function cells(s) {
    return [{ name: plain(s.name), x: s.x, y: s.y, mode: "markers", showlegend: false,
      marker: { symbol: "hexagon", size: 7, color: s.low.map((n) => Math.log10(n)), colorscale: "Cividis",
        showscale: true, colorbar: { title: { text: "log₁₀ n" }, thickness: 10 } }, customdata: s.low,
      hovertemplate: "%{x}, %{y}: n = %{customdata}<extra></extra>" }];
  }

  function rule(s) {
    if (s.x.length > 1 && s.y.length > 1) {
      return { type: "line", x0: s.x[0], x1: s.x[1], y0: s.y[0], y1: s.y[1], line: { color: ink("--soft"), dash: "dot", width: 1 } };
    }
    if (s.x.length > 1) {
      return { type: "rect", x0: s.x[0], x1: s.x[1], yref: "paper", y0: 0, y1: 1, layer: "below", line: { width: 0 },
        fillcolor: faint("#888888", 0.18), label: { text: plain(s.name), font: { size: 10 }, textposition: "top center" } };
    }
    const [at, axis] = s.x.length ? [s.x[0], "x"] : [s.y[0], "y"];
    const dash = s.dash === "solid" ? "solid" : "dot";
    const end = axis === "x" ? { x0: at, x1: at, yref: "paper", y0: 0, y1: 1 } : { y0: at, y1: at, xref: "paper", x0: 0, x1: 1 };
    return { type: "line", ...end, line: { color: color(s.color), dash, width: 1 },
      label: { text: plain(s.name), font: { size: 10 }, textangle: 0,
        ...(axis === "x" ? { textposition: "start" } : { textposition: "end", xanchor: "right", yanchor: "bottom" }) } };
  }

  const KINDS = { line, points, dots, steps, cells };

  // Ticks at 1, 2 and 5 of each power of ten, at the power alone over more than two and a half.
  function logarithmic(values) {
    const known = values.filter((value) => value > 0);
    if (Math.log10(Math.max(...known) / Math.min(...known)) > 2.5) return { dtick: 1 };
    return { tickvals: [-3, -2, -1, 0, 1, 2, 3, 4].flatMap((power) => [1, 2, 5].map((digit) => Number(`${digit}e${power}`))) };
  }

  function layout(panel) {
    const ofX = (panel.series ?? []).flatMap((s) => s.x);
    const range = (limits, log) => (limits ? { range: log ? limits.map(Math.log10) : limits } : {});
    const axis = { gridcolor: ink("--line"), zerolinecolor: ink("--line"), automargin: true };
    return { font: { color: ink("--ink"), family: "system-ui, sans-serif", size: 12 }, paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 48, r: 12, t: 30, b: 40 }, hovermode: "closest", height: panel.height || 300,
      legend: { orientation: "h", y: 1.02, yanchor: "bottom" }, modebar: { orientation: "v" },
      xaxis: { ...axis, title: { text: plain(panel.x || "") }, type: panel.log_x ? "log" : "linear", ...range(panel.range_x, panel.log_x),
        ...(panel.log_x ? logarithmic(ofX) : {}),
        ...(panel.ticks ? { tickvals: panel.ticks.at, ticktext: panel.ticks.labels.map(plain) } : {}) },
      yaxis: { ...axis, title: { text: plain(panel.y || "") }, ...range(panel.range_y),
        ...(panel.ticks_y ? { tickvals: panel.ticks_y.at, ticktext: panel.ticks_y.labels.map(plain) } : {}) } };
  }

  const CONFIG = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"] };

  function show(div, draw) { // draw: -> [traces, layout]
    drawn.set(div, draw);
    return Plotly.react(div, ...draw(), CONFIG);
  }

  function panel(div, of, withSeeds, extra = []) {
    div.setAttribute("role", "group");
    div.setAttribute("aria-label", `Chart: ${of.title}. ${of.series.map((s) => s.name).join(", ")}`);
    return show(div, () => [
      of.series.filter((s) => s.kind !== "rule").flatMap((s) => KINDS[s.kind](s, withSeeds)),
      { ...layout(of), shapes: [...of.series.filter((s) => s.kind === "rule").map(rule), ...extra] },
    ]);
  }

  function forest(div, of) {
    div.setAttribute("role", "group");
    div.setAttribute("aria-label", `Forest plot: ${of.title}. The table below has its numbers.`);
    return show(div, () => {
      const traces = of.series.map((s) => ({ name: plain(s.name), x: s.x, y: s.y, mode: "markers",
        marker: { color: color(s.color), symbol: s.symbol, size: 11, line: { width: 1.5 } },
        customdata: s.x.map((_, i) => [s.low ? bounds(s, i) : "", plain(s.says[i])]),
        ...(s.low ? { error_x: { type: "data", color: color(s.color), symmetric: false,
          array: s.x.map((x, i) => (s.high[i] === null ? 0 : s.high[i] - x)),
          arrayminus: s.x.map((x, i) => (s.low[i] === null ? 0 : x - s.low[i])) } } : {}),
        hovertemplate: "%{y}: %{x}%{customdata[0]}<br>%{customdata[1]}<extra>" + plain(s.name) + "</extra>" }));
      const base = layout({ x: of.title, log_x: of.log_x, series: of.series });
      return [traces, { ...base, height: 120 + 34 * of.names.length,
        margin: { l: 120, r: 12, t: 30, b: 40 },
        yaxis: { ...base.yaxis, title: {}, type: "category", categoryarray: of.names, categoryorder: "array" },
        shapes: [{ type: "line", x0: of.null, x1: of.null, yref: "paper", y0: 0, y1: 1, line: { color: ink("--ink"), width: 1 } }] }];
    });
  }

  function flow(div, of) { // of: rule -> rules whose files it reads
    const names = Object.keys(of);
    const links = names.flatMap((name) => of[name].map((needed) => [names.indexOf(needed), names.indexOf(name)]));
    div.setAttribute("role", "group");
    div.setAttribute("aria-label", "Graph of rules. The table below has its links.");
    return show(div, () => [[{ type: "sankey", node: { label: names.map(plain), pad: 12, thickness: 10, color: ink("--soft"),
      line: { width: 0 }, hovertemplate: "%{label}<extra></extra>" },
    link: { source: links.map(([from]) => from), target: links.map(([, to]) => to), value: links.map(() => 1),
      color: faint("#000000", 0.13), hovertemplate: "%{source.label} → %{target.label}<extra></extra>" } }],
    { ...layout({}), height: 24 * names.length }]);
  }

  for (const media of [dark, matchMedia("print")]) {
    media.addEventListener("change", () => {
      for (const [div, draw] of drawn) Plotly.react(div, ...draw(), CONFIG);
    });
  }

  return { data, receive, load, panel, forest, flow };
})();

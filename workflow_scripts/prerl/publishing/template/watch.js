"use strict";
// The page of `make watch`: asks every two seconds what the run has done.

(() => {
  const at = (id) => document.getElementById(id);
  const charts = new Map(); // title -> element

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function runs(all) {
    at("runs").replaceChildren(...all.map((run) => {
      const row = element("tr");
      const name = element("th", "", run.name);
      name.scope = "row";
      row.append(name, ...[run.model, `${run.update} of ${run.updates}`, String(run.reward), run.state].map((text) => element("td", "", text)));
      return row;
    }));
  }

  function panels(all) {
    for (const panel of all) {
      if (!charts.has(panel.title)) {
        const box = element("div", "chart"), div = element("div");
        box.append(element("h3", "", panel.title), div);
        at("charts").append(box);
        charts.set(panel.title, div);
      }
      prerl.panel(charts.get(panel.title), panel, false);
    }
  }

  function answers(all) {
    at("answers").replaceChildren(...all.flatMap((run) => run.answers.map((answer) => {
      const box = element("section", "answer");
      box.append(element("h3", "", `${run.name}, update ${run.update}`),
        element("p", `verdict ${answer.reward > 0.5 ? "agrees" : "differs"}`, `reward ${answer.reward}`),
        element("div", "text", answer.problem), element("div", "text", answer.text));
      return box;
    })));
  }

  async function ask() {
    try {
      const now = await (await fetch("situation")).json();
      runs(now.runs);
      panels(now.panels);
      answers(now.samples);
      const jobs = now.jobs ? `${now.jobs} done, ` : "";
      at("said").textContent = `${jobs}as of ${new Date().toLocaleTimeString()}. ${now.runs.length ? "" : "No training run has finished an update yet."}`;
    } catch (error) {
      at("said").textContent = `No answer: ${error.message}. Is \`make watch\` still running?`;
    }
    setTimeout(ask, 2000);
  }

  ask();
})();

"use strict";
// The browser of answers: a list of questions, filtered by outcome, and the answers to one, side by side. All text of models and
// problems goes into the page by textContent alone.

(() => {
  const at = (id) => document.getElementById(`rollout-${id}`);
  const model = at("model");
  if (!model) return;
  const benchmark = at("benchmark"), search = at("search"), list = at("list"), shown = document.getElementById("rollout");
  const policyOf = [document.getElementById("first-policy"), document.getElementById("second-policy")];
  const outcomeOf = [document.getElementById("first-outcome"), document.getElementById("second-outcome")];
  const OUTCOMES = { // of a policy's answers to a question, by their outcomes' first letters
    "": ["anything", () => true],
    right: ["always right", (of) => /^r+$/.test(of)],
    sometimes: ["right at least once", (of) => of.includes("r")],
    never: ["never right", (of) => /^[wt]+$/.test(of)],
    truncated: ["truncated at least once", (of) => of.includes("t")],
  };
  const MARKS = { right: "✓ right", wrong: "✗ wrong", truncated: "… truncated" };
  const MOST_TOKENS = 20000; // of an answer whose tokens have colours
  const STEPS = [0.05, 0.5, 1, 2, 4, 8]; // nats
  let index = null; // of the benchmark: policies, questions
  let matches = []; // numbers of the questions in the list
  let current = null; // {number, question}
  const chosen = new Set(); // ids of policies

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function options(select, pairs) {
    select.replaceChildren(...pairs.map(([value, text]) => new Option(text, value)));
  }

  const measure = () => document.querySelector('input[name="measure"]:checked').value;

  function grade(answer, position) { // [class, words] of a token
    const { yx, y } = answer.logprobs, kind = measure();
    if (kind === "" || (kind !== "yx" && !y)) return ["", yx ? `log P(y|x) ${yx[position] / 100}` : ""];
    const said = [yx && `log P(y|x) ${yx[position] / 100}`, y && `log P(y) ${y[position] / 100}`].filter(Boolean).join(", ");
    const value = (kind === "difference" ? yx[position] - y[position] : (kind === "yx" ? yx : y)[position]) / 100;
    if (kind !== "difference") {
      const level = STEPS.filter((step) => -value > step).length;
      return [level ? `t${level}` : "", said];
    }
    const level = [0.1, 1, 3].filter((step) => Math.abs(value) > step).length;
    return [level ? `d${value > 0 ? level : level + 3}` : "", said];
  }

  function key() {
    const kind = measure(), line = document.getElementById("measure-key");
    line.hidden = kind === "";
    shown.classList.toggle("measured", kind !== "");
    if (kind === "difference") {
      const steps = (first) => ["0.1", "1", "3"].map((text, i) => element("span", `d${first + i}`, `> ${text}`));
      line.replaceChildren("log P(y|x) − log P(y) in nats. Likelier given x, by ", ...steps(1), "; likelier without x, by ", ...steps(4),
        ". Answers without log P(y) have no colour.");
    } else {
      line.replaceChildren("−log P, nats: ", ...STEPS.map((step, i) => element("span", `t${i + 1}`, `> ${step}`)),
        kind === "y" ? " Answers without log P(y) have no colour." : "");
    }
  }

  function textOf(answer) {
    const text = element("div", "text");
    text.tabIndex = 0; // it scrolls, and its tokens are read by arrow keys
    text.setAttribute("role", "group");
    text.setAttribute("aria-label", "answer; arrow keys read its tokens' log-probs");
    const thoughts = [...answer.thoughts]; // apart: a token with a blank line, at least, is between two
    const apart = answer.tokens.length <= MOST_TOKENS; // more elements than that would hold up the browser
    let into = text;
    let together = [];
    function flush() {
      into.append(together.join(""));
      together = [];
    }
    answer.tokens.forEach((token, position) => {
      if (into !== text && position === thoughts[0][1]) {
        flush();
        thoughts.shift();
        into = text;
      }
      if (thoughts.length && position === thoughts[0][0]) {
        flush();
        const [, , kind, term] = thoughts[0];
        into = element("span", `thought ${kind}`);
        into.append(element("span", "tag", `${kind}: “${term}”`));
        text.append(into);
      }
      if (!apart) {
        together.push(token);
        return;
      }
      const [level, said] = grade(answer, position);
      const made = element("span", level, token);
      if (said) made.title = said;
      into.append(made);
    });
    flush();
    return text;
  }

  function hash(number, answer) {
    const parts = ["rollouts", model.value, benchmark.value, number];
    if (answer) parts.push(answer.policy, answer.sample);
    return "#" + parts.map((part) => encodeURIComponent(part)).join("/");
  }

  function card(answer) {
    const box = element("section", "answer");
    const label = index.policies.find((policy) => policy.id === answer.policy).label;
    const link = element("a", "", `${label}, answer ${answer.sample + 1}`);
    link.href = hash(current.number, answer);
    const heading = element("h4");
    heading.append(link);
    box.id = `answer-${answer.policy}-${answer.sample}`;
    box.tabIndex = -1;
    const boxed = answer.boxed === null ? "" : `, boxed: ${answer.boxed}`;
    const verdict = element("p", `verdict ${answer.outcome === "right" ? "agrees" : "differs"}`, MARKS[answer.outcome]);
    box.append(heading, verdict, element("p", "note", `${answer.tokens.length} tokens${answer.tokens.length > MOST_TOKENS ? ", too many to colour" : ""}${boxed}`), textOf(answer));
    return box;
  }

  function read(token) { // below the answers, for those without a pointer to hover
    shown.querySelector(".here")?.classList.remove("here");
    token.classList.add("here");
    token.scrollIntoView({ block: "nearest", behavior: "instant" });
    shown.querySelector(".reading").textContent = `${JSON.stringify(token.textContent)}: ${token.title}`;
  }

  function readNext(text, by) {
    const tokens = [...text.querySelectorAll("[title]")];
    const next = tokens[tokens.findIndex((token) => token.classList.contains("here")) + by] ?? tokens.at(by > 0 ? 0 : -1);
    if (next) read(next);
  }

  function render() {
    if (!current) return;
    const { number, question } = current;
    const heading = element("h3", "", `${question.id} (${matches.indexOf(number) + 1 || "–"} of ${matches.length})`);
    const grid = element("div", "answers");
    for (const policy of index.policies.filter((one) => chosen.has(one.id))) {
      const column = element("div", "policy");
      column.append(...question.answers.filter((answer) => answer.policy === policy.id).map(card));
      grid.append(column);
    }
    const steps = element("p", "controls");
    for (const [text, by] of [["previous (p)", -1], ["next (n)", 1]]) {
      const button = element("button", "", text);
      button.type = "button";
      button.addEventListener("click", () => step(by));
      steps.append(button);
    }
    shown.replaceChildren(heading, steps, element("div", "text", question.problem),
      element("p", "", `Answer: ${question.answer}`), grid, element("p", "reading"));
    for (const link of list.querySelectorAll("a")) {
      if (Number(link.dataset.number) === number) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }

  async function show(number, answer) {
    if (!index.questions[number]) throw new Error(`There is no question ${number + 1} in ${benchmark.value}: it has ${index.questions.length}`);
    const name = `${model.value}/${benchmark.value}/${String(number).padStart(5, "0")}`;
    const question = await prerl.load(name);
    current = { number, question };
    if (answer) chosen.add(answer.policy);
    if (answer) policies();
    render();
    if (answer) document.getElementById(`answer-${answer.policy}-${answer.sample}`)?.focus();
  }

  function go(number) {
    history.replaceState(null, "", hash(number));
    return show(number).catch(fail);
  }

  function step(by) {
    if (!matches.length) return;
    const place = current ? matches.indexOf(current.number) : -1;
    const next = place < 0 ? 0 : (place + by + matches.length) % matches.length;
    go(matches[next]);
  }

  function fail(error) {
    shown.replaceChildren(element("p", "note", error.message));
  }

  function filter() {
    const wanted = search.value.toLowerCase();
    matches = index.questions.flatMap((question, number) => {
      const text = `${question.id} ${question.problem}`.toLowerCase();
      const fits = policyOf.every((select, i) => OUTCOMES[outcomeOf[i].value][1](question.outcomes[select.value] ?? ""));
      return fits && text.includes(wanted) ? [number] : [];
    });
    at("count").textContent = `${matches.length} of ${index.questions.length} questions`;
    list.replaceChildren(...matches.map((number) => {
      const item = element("li"), link = element("a", "", index.questions[number].id);
      link.href = hash(number);
      link.dataset.number = number;
      item.append(link);
      return item;
    }));
    render();
  }

  function narrow() { // to the first that fits, unless the one shown does
    filter();
    if (!matches.length) {
      current = null;
      shown.replaceChildren(element("p", "note", "No question fits."));
    } else if (!matches.includes(current?.number)) go(matches[0]);
  }

  function policies() {
    at("policies").replaceChildren(...index.policies.map((policy) => {
      const label = element("label"), box = element("input");
      box.type = "checkbox";
      box.checked = chosen.has(policy.id);
      box.addEventListener("change", () => {
        if (box.checked) chosen.add(policy.id); else chosen.delete(policy.id);
        render();
      });
      label.append(box, ` ${policy.label} `);
      return label;
    }));
  }

  async function open(number, answer) {
    index = await prerl.load(`${model.value}/${benchmark.value}`);
    if (!chosen.size) index.policies.filter((policy) => policy.main).forEach((policy) => chosen.add(policy.id));
    const before = policyOf.map((select) => select.value);
    policyOf.forEach((select, i) => {
      options(select, index.policies.map((policy) => [policy.id, policy.label]));
      const main = index.policies.filter((policy) => policy.main).map((policy) => policy.id);
      const usual = main.find((id) => id.startsWith(["dsrl@", "grpo@"][i])) ?? main[main.length - 1 - i];
      select.value = before[i] || usual || index.policies[0].id;
    });
    policies();
    current = null;
    filter();
    await show(number ?? matches[0] ?? 0, answer);
  }

  function benchmarks() {
    options(benchmark, prerl.data.rollouts[model.value].map((name) => [name, name]));
  }

  function follow() { // the address: #rollouts/model/benchmark/number[/policy/sample]
    const [place, ...parts] = location.hash.slice(1).split("/").map(decodeURIComponent);
    if (place !== "rollouts" || parts.length < 3 || !prerl.data.rollouts[parts[0]]?.includes(parts[1])) return false;
    const same = index && model.value === parts[0] && benchmark.value === parts[1];
    model.value = parts[0];
    if (!same) benchmarks();
    benchmark.value = parts[1];
    const answer = parts.length > 4 ? { policy: parts[3], sample: Number(parts[4]) } : null;
    (same ? show(Number(parts[2]), answer) : open(Number(parts[2]), answer))
      .then(() => { if (!same && !answer) shown.scrollIntoView({ behavior: "instant" }); }).catch(fail);
    return true;
  }

  options(model, Object.keys(prerl.data.rollouts).map((name) => [name, name]));
  outcomeOf.forEach((select) => options(select, Object.entries(OUTCOMES).map(([value, [text]]) => [value, text])));
  benchmarks();
  model.addEventListener("change", () => { benchmarks(); open().catch(fail); });
  benchmark.addEventListener("change", () => open().catch(fail));
  search.addEventListener("input", narrow);
  [...policyOf, ...outcomeOf].forEach((select) => select.addEventListener("change", narrow));
  document.querySelectorAll('input[name="measure"]').forEach((radio) => radio.addEventListener("change", () => { key(); render(); }));
  document.getElementById("rollout-controls").addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", follow);
  addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, select, textarea");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !index) return;
    if (event.key === "n" || event.key === "p") step(event.key === "n" ? 1 : -1);
  });
  shown.addEventListener("click", (event) => {
    const token = event.target.closest(".answer .text [title]");
    if (token) read(token);
  });
  shown.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by || event.altKey || !event.target.matches(".answer .text")) return;
    event.preventDefault();
    readNext(event.target, by);
  });
  if (!follow()) {
    const seen = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) { seen.disconnect(); if (!index) open().catch(fail); }
    }, { rootMargin: "400px" });
    seen.observe(document.getElementById("rollouts"));
  }
})();

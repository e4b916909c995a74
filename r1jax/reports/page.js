"use strict";
// The sample browser. Whatever comes from a sample reaches the page through textContent alone.
const data = JSON.parse(document.getElementById("data").textContent);
const PAGE = 20;
const field = (id) => document.getElementById(id);
let shown = data.samples, place = 0;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function options(id, values) {
  const box = field(id);
  box.append(new Option("all", ""));
  for (const [value, label] of values) box.append(new Option(label, value));
  box.parentElement.hidden = values.length < 2;
}

function round(value) {
  return value === null ? "?" : String(Math.round(value * 1000) / 1000);
}

function textBlock(into, title, text) {
  into.append(element("p", title, "tag"), element("div", text || "(empty)", "text"));
}

function card(sample) {
  const made = element("article"), head = element("header");
  if (data.runs.length > 1) head.append(element("span", data.runs[sample.run]));
  head.append(element("b", `${sample.stage}, step ${sample.step}`), element("b", `reward ${round(sample.reward)}`));
  for (const [part, value] of Object.entries(sample.parts)) head.append(element("span", `${part} ${round(value)}`));
  if (sample.advantage !== null) head.append(element("span", `advantage ${round(sample.advantage)}`));
  if (sample.length !== null) head.append(element("span", `${sample.length} tokens`));
  if (!sample.stopped) head.append(element("span", "cut at the maximum length"));
  if (sample.status && sample.status !== "scored") head.append(element("span", sample.status));
  made.append(head);
  textBlock(made, "Question", sample.question);
  if (sample.thinking) {
    const fold = element("details");
    fold.append(element("summary", `Thinking (${sample.thinking.length} characters)`), element("div", sample.thinking, "text"));
    made.append(fold);
  }
  textBlock(made, "Answer", sample.answer);
  if (sample.gold) made.append(element("p", `Right answer: ${sample.gold}`, "tag"));
  return made;
}

function draw() {
  const pages = Math.max(1, Math.ceil(shown.length / PAGE));
  place = Math.min(Math.max(place, 0), pages - 1);
  field("list").replaceChildren(...shown.slice(place * PAGE, (place + 1) * PAGE).map(card));
  field("count").textContent = `${shown.length} of ${data.samples.length} samples`;
  field("place").textContent = `page ${place + 1} of ${pages}`;
  field("back").disabled = place === 0;
  field("on").disabled = place === pages - 1;
}

function filter() {
  const number = (id, otherwise) => (field(id).value === "" ? otherwise : Number(field(id).value));
  const wanted = field("search").value.toLowerCase(), run = field("run").value, stage = field("stage").value;
  const from = number("from", -Infinity), to = number("to", Infinity);
  const low = number("low", -Infinity), high = number("high", Infinity);
  const anyReward = low === -Infinity && high === Infinity;
  shown = data.samples.filter((s) => (run === "" || String(s.run) === run) && (stage === "" || s.stage === stage)
    && s.step >= from && s.step <= to && (anyReward || (s.reward !== null && s.reward >= low && s.reward <= high))
    && (wanted === "" || `${s.question}\n${s.thinking}\n${s.answer}`.toLowerCase().includes(wanted)));
  const by = { best: (a, b) => b.reward - a.reward, worst: (a, b) => a.reward - b.reward, long: (a, b) => b.length - a.length };
  if (by[field("order").value]) shown.sort(by[field("order").value]);
  place = 0;
  draw();
}

options("run", data.runs.map((name, i) => [String(i), name]));
options("stage", [...new Set(data.samples.map((s) => s.stage))].map((name) => [name, name]));
field("filters").addEventListener("input", filter);
field("filters").addEventListener("submit", (event) => event.preventDefault());
field("filters").addEventListener("reset", () => setTimeout(filter));
field("back").addEventListener("click", () => { place -= 1; draw(); });
field("on").addEventListener("click", () => { place += 1; draw(); });
draw();

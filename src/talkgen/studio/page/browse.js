// Looking at what there is: runs with their curves, samples and commands; corpora with their clips and rejects.
import { ask, element, say } from "./studio.js";

const when = (seconds) => new Date(seconds * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });

// Runs -------------------------------------------------------------------------------------------------------

let chosenRun = null;

export async function showRuns(panel) {
  let runs;
  try {
    runs = await ask("/api/runs");
  } catch (error) {
    panel.replaceChildren(element("p", { class: "notice warn" }, error.message));
    return;
  }
  if (!runs.length) {
    panel.replaceChildren(element("div", { class: "card empty" }, element("b", {}, "No runs yet"), "Begin one: ", element("code", {}, "python train.py experiment=swaptalk")));
    return;
  }
  const page = element("div", { class: "card run" });
  const rows = runs.map((run) => {
    const row = element("tr", { class: "pick", tabindex: 0, "data-run": run.name },
      element("td", {}, element("b", {}, run.name.split("/").at(-1)), element("small", {}, [...run.name.split("/").slice(0, -1), when(run.changed)].join(" · "))),
      element("td", {}, element("span", { class: `state ${run.state}` }, run.state),
        element("small", {}, run.steps ? `${run.step} of ${run.steps}` : `${run.step} batches`)));
    row.onclick = () => open(run, row);
    row.onkeydown = (event) => event.key === "Enter" && open(run, row);
    return row;
  });
  async function open(run, row) {
    chosenRun = run.name;
    for (const other of rows) other.classList.toggle("chosen", other === row);
    try {
      const inside = await ask(`/api/run?name=${encodeURIComponent(run.name)}`, { text: true });
      page.replaceChildren(element("h2", {}, run.name));
      page.insertAdjacentHTML("beforeend", inside); // written by the studio, every word of a run escaped
      copyButton(page);
      const heads = [...page.querySelectorAll("h2")].slice(1);
      heads[0]?.before(element("div", { class: "row jumps" }, ...heads.map((head) =>
        element("button", { class: "small", onclick: () => head.scrollIntoView({ behavior: "smooth" }) }, head.textContent))));
    } catch (error) {
      page.replaceChildren(element("p", { class: "refusal" }, error.message));
    }
  }
  const list = element("div", { class: "card" }, element("h2", {}, "Runs"), element("p", { class: "lead" }, "Newest first; choose one."),
    element("table", {}, element("tbody", {}, ...rows)));
  panel.replaceChildren(element("div", { class: "columns" }, list, page));
  const first = Math.max(0, runs.findIndex((run) => run.name === chosenRun));
  open(runs[first], rows[first]);
}

function copyButton(page) {
  const cell = [...page.querySelectorAll("td")].find((one) => one.textContent === "command")?.nextElementSibling;
  if (!cell) return;
  const copy = element("button", { class: "small" }, "Copy");
  copy.onclick = () => navigator.clipboard.writeText(cell.querySelector("code").textContent).then(() => say("The command is in the clipboard."), () => say("The browser refuses the clipboard."));
  cell.append(" ", copy);
}

// Corpora ----------------------------------------------------------------------------------------------------

export async function showCorpora(panel) {
  let corpora;
  try {
    corpora = await ask("/api/corpora");
  } catch (error) {
    panel.replaceChildren(element("p", { class: "notice warn" }, error.message));
    return;
  }
  if (!corpora.length) {
    panel.replaceChildren(element("div", { class: "card empty" }, element("b", {}, "No prepared corpus yet"), "Prepare one: ", element("code", {}, "talkgen prepare corpus=demo")));
    return;
  }
  const choose = element("select", { "aria-label": "Corpus", name: "corpus" }, ...corpora.map((one) => element("option", { value: one.name }, one.name)));
  const split = element("select", { "aria-label": "Split" });
  const words = element("input", { type: "search", placeholder: "name, person or words", "aria-label": "Search" });
  const facts = element("ul", { class: "facts" });
  const clips = element("div", { class: "clips" });
  const looked = element("div", { class: "card", hidden: true });
  const rejects = element("details", { class: "card rejects" });
  const count = element("span", { class: "hint" });
  const back = element("button", { class: "small" }, "◀ Back");
  const on = element("button", { class: "small" }, "On ▶");
  let first = 0;

  async function page() {
    const asked = new URLSearchParams({ first, split: split.value, words: words.value });
    let found;
    try {
      found = await ask(`/api/corpora/${encodeURIComponent(choose.value)}?${asked}`);
    } catch (error) {
      clips.replaceChildren(element("p", { class: "refusal" }, error.message));
      return;
    }
    count.textContent = found.total ? `${first + 1}–${first + found.clips.length} of ${found.total} clips` : "no clip fits";
    back.disabled = first === 0;
    on.disabled = first + found.clips.length >= found.total;
    back.onclick = () => { first = Math.max(0, first - 24); page(); };
    on.onclick = () => { first += found.clips.length; page(); };
    clips.replaceChildren(...found.clips.map((clip) => {
      const card = element("button", { class: "clip", "data-clip": clip.number },
        element("img", { src: `${clip.url}/strip.jpg`, alt: `four frames of ${clip.id} with landmarks`, loading: "lazy" }),
        element("div", {}, element("b", {}, clip.id), element("span", {}, `${clip.identity} · ${clip.split} · ${clip.seconds.toFixed(1)} s${clip.language ? ` · ${clip.language}` : ""}${clip.swap_of ? " · swapped" : ""}`)));
      card.onclick = () => look(clip);
      return card;
    }));
  }

  function look(clip) {
    const video = (name, title) => element("figure", {}, element("video", { src: `${clip.url}/${name}`, controls: true, loop: true, preload: "auto" }), element("figcaption", { class: "hint" }, title));
    const source = element("img", { src: `${clip.url}/source.jpg`, alt: "frame of the raw video with the crop" });
    const raw = element("figure", {}, source, element("figcaption", { class: "hint" }, "raw frame, with what is cut out"));
    source.onerror = () => raw.replaceChildren(element("p", { class: "hint" }, "The raw video does not lie beside the store, so the crop cannot be drawn into it."));
    const checks = Object.entries(clip.checks).map(([key, value]) => element("li", {}, `${key.replaceAll("_", " ")} `, element("b", {}, String(Math.round(value * 1000) / 1000))));
    looked.hidden = false;
    looked.replaceChildren(
      element("div", { class: "row between" }, element("h2", {}, clip.id), element("button", { class: "small", onclick: () => (looked.hidden = true) }, "Close")),
      element("p", { class: "lead" }, clip.notes || `${clip.identity}, ${clip.seconds.toFixed(1)} s`),
      element("div", { class: "looked" }, video("clip.mp4", "as it is stored"), video("landmarks.mp4", "with landmarks"), raw),
      element("ul", { class: "facts" }, ...checks));
    looked.scrollIntoView({ block: "nearest", behavior: "smooth" });
  }

  function corpus() {
    const one = corpora.find((each) => each.name === choose.value);
    const fact = (value, name) => element("li", {}, element("b", {}, value), ` ${name}`);
    facts.replaceChildren(fact(one.clips, "clips"), fact(one.people, "people"), fact(one.minutes.toFixed(1), "minutes"),
      fact(`${one.size} px`, `at ${one.fps} fps`), ...Object.entries(one.languages).map(([name, number]) => fact(number, name)), fact(one.rejects.length, "left out"));
    split.replaceChildren(element("option", { value: "" }, "all splits"), ...Object.entries(one.splits).map(([name, number]) => element("option", { value: name }, `${name} (${number})`)));
    rejects.replaceChildren(element("summary", {}, `Left out: ${one.rejects.length}`),
      one.rejects.length ? element("div", { class: "scroll" }, element("table", {},
        element("thead", {}, element("tr", {}, ...["clip", "file", "where", "reason"].map((name) => element("th", {}, name)))),
        element("tbody", {}, ...one.rejects.map((reject) => element("tr", {}, ...[reject.clip, reject.file, reject.stage, reject.reason].map((value) => element("td", {}, value)))))))
        : element("p", { class: "hint" }, "Every clip of the corpus was taken."));
    rejects.open = one.rejects.length > 0 && one.rejects.length < 20;
    looked.hidden = true;
    first = 0;
    page();
  }

  choose.onchange = corpus;
  split.onchange = () => { first = 0; page(); };
  words.oninput = () => { first = 0; clearTimeout(words.timer); words.timer = setTimeout(page, 250); };
  for (const narrow of [choose, split]) narrow.style.width = "auto";
  words.style.width = "220px";
  panel.replaceChildren(
    element("div", { class: "card" }, element("div", { class: "row" }, choose, split, words, count, back, on), facts),
    looked, element("div", { class: "card" }, element("h2", {}, "Clips"), element("p", { class: "hint" }, "Frames as they are stored, with their landmarks. Choose one to see and hear it."), clips), rejects);
  corpus();
}

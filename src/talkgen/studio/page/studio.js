// The page: state, tabs, consent. Every other host is refused by the page's policy.
import { makeTask } from "./fields.js";
import { Results } from "./results.js";
import { showRuns, showCorpora } from "./browse.js";

const HEADS = {
  generate: ["Let a face speak", "A face and what it says become a video."],
  compare: ["Methods side by side", "The same face and speech through up to four methods or settings, played together."],
  regions: ["Lips, eyes and head apart", "DisentTalk drives each region of a face from another source."],
  swap: ["Put a face into a video", "SwapTalk gives the target the face of the source; its lips may follow another sound."],
};
export const state = {};

// Talking to the server --------------------------------------------------------------------------------------

export async function ask(path, { method = "GET", body, text = false } = {}) {
  const sent = body === undefined ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(path, { method, ...sent });
  } catch {
    throw new Error("the studio does not answer; is it still running?");
  }
  if (answer.ok) return text ? answer.text() : answer.json();
  const said = await answer.json().catch(() => ({}));
  throw new Error(said.reason || `the studio answered ${answer.status}`);
}

export function say(words) {
  const line = element("p", {}, words);
  document.querySelector("#said").append(line);
  setTimeout(() => line.remove(), 6000);
}

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// Consent ----------------------------------------------------------------------------------------------------

export function agreed() {
  if (state.consent.given) return Promise.resolve(true);
  const dialog = document.querySelector("#consent");
  dialog.showModal();
  return new Promise((resolve) => {
    document.querySelector("#agree").onclick = async () => {
      await ask("/api/consent", { method: "POST" });
      state.consent.given = true;
      dialog.close();
      resolve(true);
    };
    dialog.oncancel = () => resolve(false);
  });
}

// Tabs -------------------------------------------------------------------------------------------------------

const opened = {};
const panels = { runs: showRuns, corpora: showCorpora };

function openTab(name) {
  for (const tab of document.querySelectorAll("[role=tab]")) tab.setAttribute("aria-selected", tab.dataset.tab === name);
  for (const panel of document.querySelectorAll("[role=tabpanel]")) panel.hidden = panel.id !== `tab-${name}`;
  const panel = document.querySelector(`#tab-${name}`);
  if (panels[name]) panels[name](panel);
  else if (!opened[name]) opened[name] = openTask(name, panel);
}

function openTask(task, panel) {
  const [title, lead] = HEADS[task];
  const results = new Results(task);
  const form = makeTask(task, results);
  const left = element("div", { class: "card" }, element("h2", {}, title), element("p", { class: "lead" }, lead), ...form);
  panel.replaceChildren(element("div", { class: "columns" }, left, results.place));
  return true;
}

function fromAddress() {
  const name = location.hash.slice(1).split("/")[0];
  openTab(document.querySelector(`#tab-${CSS.escape(name || "generate")}`) ? name || "generate" : "generate");
}

async function begin() {
  Object.assign(state, await ask("/api/state"));
  const list = document.querySelector("#consent ul");
  list.replaceChildren(...state.consent.text.map((words) => element("li", {}, words)));
  if (state.open) {
    const warning = document.querySelector("#warning");
    warning.textContent = "This studio can be reached from other machines, without a password.";
    warning.hidden = false;
  }
  for (const tab of document.querySelectorAll("[role=tab]")) tab.onclick = () => (location.hash = tab.dataset.tab);
  window.addEventListener("hashchange", fromAddress);
  fromAddress();
  document.body.dataset.ready = "yes";
}

begin().catch((error) => {
  document.querySelector("main").replaceChildren(element("p", { class: "notice warn" }, error.message));
});

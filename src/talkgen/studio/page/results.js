// Jobs of a tab: their place in the queue, progress, videos that play together, numbers under each.
import { ask, element, say } from "./studio.js";

const ENDED = ["done", "failed", "cancelled"];
const ROLES = { target: "Face", source: "Source", audio: "Sound", eyes: "Eyes", pose: "Head" };
const OFTEN = 600; // milliseconds between two questions

export class Results {
  constructor(task) {
    this.task = task;
    this.cards = new Map();
    this.empty = element("div", { class: "card empty" }, element("b", {}, "Results appear here"),
      "Fill in an example on the left, or choose files of your own.");
    this.place = element("div", { class: "results" }, this.empty);
    this.load();
  }

  async load() {
    try {
      const jobs = await ask("/api/jobs");
      for (const job of jobs.filter((one) => one.task === this.task).reverse()) this.add(job, false);
    } catch (error) {
      say(error.message);
    }
  }

  add(job, scroll = true) {
    this.empty.remove();
    const card = new Card(job, () => { this.cards.delete(job.id); if (!this.cards.size) this.place.append(this.empty); });
    this.cards.set(job.id, card);
    this.place.prepend(card.place);
    if (scroll && matchMedia("(max-width: 900px)").matches) card.place.scrollIntoView({ behavior: "smooth" });
  }
}

class Card {
  constructor(job, gone) {
    this.gone = gone;
    this.title = element("h2", {});
    this.time = element("span", { class: "hint" });
    this.badge = element("span", { class: "state" });
    this.bar = element("progress", { max: 1, "aria-label": "progress" });
    this.words = element("p", { class: "hint", "aria-live": "polite" });
    this.stop = element("button", { class: "small", onclick: () => this.cancel() }, "Cancel");
    this.drop = element("button", { class: "small", onclick: () => this.forget() }, "Delete");
    this.body = element("div");
    this.numbers = element("div");
    this.place = element("article", { class: "card job", "data-job": job.id },
      element("div", { class: "row between" }, element("div", { class: "row" }, this.title, this.badge, this.time), element("div", { class: "row" }, this.stop, this.drop)),
      this.bar, this.words, this.body, this.numbers);
    this.shown = 0;
    this.show(job);
  }

  async follow() {
    clearTimeout(this.timer);
    if (ENDED.includes(this.job.state) || this.deleted) return;
    this.timer = setTimeout(async () => {
      try {
        this.show(await ask(`/api/jobs/${this.job.id}`));
      } catch (error) {
        this.words.textContent = error.message;
        this.timer = setTimeout(() => this.follow(), 3000);
      }
    }, OFTEN);
  }

  show(job) {
    this.job = job;
    const ended = ENDED.includes(job.state);
    this.title.textContent = [...new Set(job.parts.map((part) => part.title.split(" · ")[0]))].join(", ");
    this.time.textContent = new Date(job.created * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    this.badge.textContent = job.state;
    this.badge.className = `state ${job.state}`;
    this.place.dataset.state = job.state;
    this.stop.hidden = ended;
    this.drop.hidden = !ended;
    this.bar.hidden = ended;
    if (job.total) this.bar.value = job.done / job.total;
    else this.bar.removeAttribute("value");
    this.words.textContent = sentence(job);
    this.words.className = job.state === "failed" ? "refusal" : "hint";
    const written = job.parts.filter((part) => part.video).length;
    const decided = job.parts.filter((part) => part.video || part.reason).length;
    if (written && decided !== this.shown) {
      this.shown = decided;
      this.body.replaceChildren(...videos(job));
    }
    if (job.scores && !this.scored) {
      this.scored = true;
      this.numbers.replaceChildren(...scores(job));
    }
    this.follow();
  }

  async cancel() {
    try { this.show(await ask(`/api/jobs/${this.job.id}/cancel`, { method: "POST" })); } catch (error) { say(error.message); }
  }

  async forget() {
    try { await ask(`/api/jobs/${this.job.id}`, { method: "DELETE" }); } catch (error) { say(error.message); return; }
    this.deleted = true;
    this.place.remove();
    this.gone();
  }
}

function sentence(job) {
  if (job.state === "waiting") return job.place ? `Waiting: ${job.place} ${job.place === 1 ? "job" : "jobs"} before this one.` : "Next in the queue.";
  if (job.state === "working") {
    const left = job.left_seconds === null ? "" : ` · about ${Math.ceil(job.left_seconds)} s left`;
    return `${job.stage}${job.total ? ` · ${job.done} of ${job.total} frames${left}` : " …"}`;
  }
  if (job.state === "failed") return `${capital(job.reason || "It could not be made")}.`;
  if (job.state === "cancelled") return "Cancelled; nothing is kept.";
  const lost = job.parts.filter((part) => part.reason).map((part) => `${part.title}: ${part.reason}.`).join(" ");
  return lost ? capital(lost) : job.text ? `“${job.text}”` : "";
}

const capital = (words) => words[0].toUpperCase() + words.slice(1);

// Videos that play together ----------------------------------------------------------------------------------

function videos(job) {
  const [large, small] = [[], []]; // what was changed beside what became of it; what else was given
  for (const [role, upload] of Object.entries(job.inputs)) {
    const name = job.task === "regions" && role === "audio" ? "Lips" : job.task === "swap" && role === "target" ? "Target" : ROLES[role];
    const made = tile(name, upload.name, upload.kind, upload.kind === "sound" ? null : upload.url, null);
    (role === "target" ? large : small).push(made);
  }
  for (const part of job.parts.filter((one) => one.video)) {
    const facts = part.facts;
    const missed = facts.without_face ? ` · ${facts.without_face} without a face` : "";
    const words = `${facts.video_seconds.toFixed(1)} s made in ${facts.worked_seconds.toFixed(1)} s${missed}`;
    const [title, ...more] = part.title.split(" · ");
    const about = [...more, words].join(" · ");
    const name = `talkgen-${job.task}-${job.parts.indexOf(part) + 1}.mp4`;
    large.push(tile(title, about, "video", part.video, name, part.strip));
  }
  const grid = (tiles, kind) => element("div", { class: `videos ${kind}` }, ...tiles.map((one) => one.place));
  const played = player([...large, ...small].filter((one) => one.video));
  return [...(small.length ? [grid(small, "given")] : []), grid(large, "made"), played];
}

function tile(title, words, kind, url, download, strip) {
  const frame = element("div", { class: "frame" });
  let video = null;
  if (kind === "video") {
    video = element("video", { src: url, preload: "auto", playsinline: true, muted: true });
    video.muted = true;
    frame.append(video);
  } else if (kind === "picture") frame.append(element("img", { src: url, alt: title }));
  else frame.append(element("div", { class: "wave", "aria-hidden": "true" }, "♪"));
  const hear = video ? element("button", { class: "hear", "aria-pressed": "false", title: "Hear this one" }, "sound") : null;
  if (hear) frame.append(hear);
  const save = download ? element("div", { class: "row" }, element("a", { href: url, download }, "Download"),
    element("a", { href: strip, target: "_blank" }, "Strip of frames")) : null;
  const place = element("figure", { class: download ? "result" : "" }, frame,
    element("figcaption", {}, element("b", {}, title), element("p", { class: "hint" }, words), save));
  return { place, video, hear, result: Boolean(download) };
}

function player(tiles) {
  const results = tiles.filter((one) => one.result);
  const leader = results[0].video;
  const go = element("button", { class: "primary", "data-play": "yes" }, results.length > 1 ? "Play all" : "Play");
  const place = element("input", { type: "range", min: 0, max: 1, step: 0.001, value: 0, "aria-label": "Position" });
  const clock = element("output", {}, "");
  const speed = element("select", { "aria-label": "Speed" }, ...[["1", "1 ×"], ["0.5", "½ ×"], ["0.25", "¼ ×"]].map(([value, words]) => element("option", { value }, words)));
  const words = go.textContent;

  const listen = (chosen) => tiles.forEach((one) => {
    one.video.muted = one !== chosen;
    one.hear.setAttribute("aria-pressed", one === chosen);
  });
  tiles.forEach((one) => (one.hear.onclick = () => listen(one)));
  listen(results[0]);
  const within = (video, time) => Math.min(time, (video.duration || time) - 0.001);
  const seek = (time) => tiles.forEach((one) => (one.video.currentTime = within(one.video, time)));
  const draw = () => {
    const total = leader.duration || 0;
    place.value = total ? leader.currentTime / total : 0;
    clock.textContent = `${leader.currentTime.toFixed(1)} / ${total.toFixed(1)} s`;
  };
  const follow = () => {
    draw();
    if (leader.paused) return;
    for (const one of tiles) {
      const wanted = within(one.video, leader.currentTime);
      if (one.video !== leader && Math.abs(one.video.currentTime - wanted) > 0.08) one.video.currentTime = wanted;
    }
    requestAnimationFrame(follow);
  };
  go.onclick = async () => {
    if (!leader.paused) { tiles.forEach((one) => one.video.pause()); return; }
    if (leader.ended || leader.currentTime > leader.duration - 0.05) seek(0);
    tiles.forEach((one) => { one.video.playbackRate = Number(speed.value); });
    await Promise.allSettled(tiles.map((one) => one.video.play()));
    requestAnimationFrame(follow);
  };
  leader.onplay = () => (go.textContent = "Pause");
  leader.onpause = leader.onended = () => { go.textContent = words; tiles.forEach((one) => one.video.pause()); draw(); };
  leader.onloadedmetadata = leader.onseeked = draw;
  place.oninput = () => leader.duration && seek(place.value * leader.duration);
  speed.onchange = () => tiles.forEach((one) => (one.video.playbackRate = Number(speed.value)));
  return element("div", { class: "player" }, go, place, clock, speed);
}

// Numbers ----------------------------------------------------------------------------------------------------

function scores(job) {
  const { columns, rows, notes } = job.scores;
  const parts = [];
  if (rows.length) {
    const head = element("tr", {}, element("th", {}, "Measured"), ...rows.map((row) => {
      const [title, ...more] = row.name.split(" · ");
      return element("th", { class: "number" }, title, element("small", {}, more.join(" · ")));
    }));
    const lines = columns.map((column, number) => element("tr", {},
      element("td", {}, column.heading, element("small", {}, column.hint)),
      ...rows.map((row) => element("td", { class: "number" }, row.cells[number]))));
    parts.push(element("div", { class: "scroll" }, element("table", { class: "scores" }, element("thead", {}, head), element("tbody", {}, ...lines))));
  }
  const meaning = rows.length ? ["↑ more is better, ↓ less is better; n/a: a file is missing, –: it does not apply here."] : [];
  parts.push(element("ul", { class: "notes" }, ...[...meaning, ...notes].map((words) => element("li", {}, words))));
  return parts;
}

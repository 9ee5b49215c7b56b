// Forms: files that are dropped, chosen or recorded; speech; methods and their options.
import { agreed, ask, element, say, state } from "./studio.js";

const KINDS = {
  picture: "image/*",
  video: "video/*",
  sound: "audio/*",
};
const FIELDS = {
  generate: [["target", "Face", "a picture or a video of who speaks", ["picture", "video"]], "speech"],
  compare: [
    ["target", "Face", "a picture or a video of who speaks", ["picture", "video"]],
    ["source", "Source", "optional: whose face is put there, by methods that swap", ["picture"]],
    "speech",
  ],
  regions: [
    ["target", "Face", "who is seen", ["picture", "video"]],
    "speech",
    ["eyes", "Eyes", "optional: a video whose lids are followed", ["video"]],
    ["pose", "Head", "optional: a video whose head movements are taken", ["video"]],
  ],
  swap: [
    ["source", "Source", "whose face is shown", ["picture"]],
    ["target", "Target", "gives head, expression and background", ["video", "picture"]],
    "speech",
  ],
};
const GO = { generate: "Generate", compare: "Compare", regions: "Animate", swap: "Swap" };
const MISSING = {
  generate: ["There is no trained method yet.", "python train.py experiment=swaptalk"],
  compare: ["There is no trained method yet.", "python train.py experiment=swaptalk"],
  regions: ["Regions need a trained DisentTalk.", "python train.py experiment=disenttalk"],
  swap: ["Swapping needs a trained face-swapping module of SwapTalk.", "python train.py experiment=swaptalk"],
};

export function makeTask(task, results) {
  const usable = state.methods.filter((one) => (task === "regions" ? one.method === "disenttalk" : task !== "swap" || one.swaps));
  if (!usable.length) {
    const [words, command] = MISSING[task];
    return [element("div", { class: "notice" }, `${words} Train one in the folder that holds ${state.runs}/, then load this page again:`, element("pre", {}, command))];
  }
  const files = {};
  const parts = [];
  let speech;
  for (const field of FIELDS[task]) {
    if (field === "speech") {
      speech = new Speech(task);
      parts.push(speech.place);
    } else {
      const [role, name, hint, kinds] = field;
      files[role] = new FileField(role, name, hint, kinds);
      parts.push(files[role].place);
    }
  }
  const still = checkbox("still", "Hold the head still", "Where no video moves the head; else it moves as in the face's own video.", task === "regions");
  if (task === "regions") parts.push(still.place);
  const methods = task === "compare" ? new MethodList(usable) : new MethodField(usable, false);
  const label = checkbox("label", "Visible label", "“synthetic” in the corner of every frame. Metadata and an invisible watermark always say it.");
  const measure = checkbox("measure", "Measure the result", "Sync, identity and sharpness under each video.", true);
  const go = element("button", { class: "primary wide", "data-go": task }, GO[task]);
  const refusal = element("p", { class: "refusal", role: "alert" });
  const example = element("button", { class: "small accent", "data-example": task, title: "Fills in files of the demo corpus" }, "Fill in an example");

  example.onclick = async () => {
    if (!(await agreed())) return;
    example.disabled = true;
    refusal.textContent = "";
    try {
      const given = await ask(`/api/examples/${task}`, { method: "POST" });
      for (const field of Object.values(files)) field.clear();
      for (const [role, upload] of Object.entries(given.files)) (role === "audio" ? speech.file : files[role]).show(upload);
      if (given.text) speech.write(given.text);
      else if (given.files.audio) speech.choose("file");
    } catch (error) {
      refusal.textContent = error.message;
    }
    example.disabled = false;
  };
  go.onclick = async () => {
    refusal.textContent = "";
    if (!(await agreed())) return;
    go.disabled = true;
    try {
      const order = { task, variants: methods.values(), label: label.input.checked, measure: measure.input.checked, ...speech.values() };
      for (const [role, field] of Object.entries(files)) if (field.id) order[role] = field.id;
      if (task === "regions") order.still = still.input.checked && !field(files.pose);
      results.add(await ask("/api/jobs", { method: "POST", body: order }));
    } catch (error) {
      refusal.textContent = `${error.message[0].toUpperCase()}${error.message.slice(1)}.`;
    }
    go.disabled = false;
  };
  const head = element("div", { class: "row between field" }, element("span", { class: "hint" }, "No files at hand?"), example);
  return [...(state.examples ? [head] : []), ...parts, methods.place, label.place, measure.place, go, refusal];
}

const field = (one) => Boolean(one && one.id);

function checkbox(name, words, hint, checked = false) {
  const input = element("input", { type: "checkbox", name });
  input.checked = checked;
  const place = element("label", { class: "check" }, input, element("span", {}, words, element("span", { class: "hint", style: null }, element("br"), hint)));
  return { place, input };
}

// Files ------------------------------------------------------------------------------------------------------

class FileField {
  constructor(role, name, hint, kinds) {
    Object.assign(this, { role, kinds, id: null });
    this.input = element("input", { type: "file", "aria-label": name, name: role, accept: kinds.map((kind) => KINDS[kind]).join(",") });
    this.box = element("div", { class: "drop" });
    this.refusal = element("p", { class: "refusal", role: "alert" });
    this.place = element("div", { class: "field", "data-role": role },
      element("span", { class: "name" }, name, " ", element("small", {}, hint)), this.box, this.refusal);
    this.input.onchange = () => this.input.files[0] && this.send(this.input.files[0]);
    this.box.ondragover = (event) => { event.preventDefault(); this.box.classList.add("over"); };
    this.box.ondragleave = () => this.box.classList.remove("over");
    this.box.ondrop = (event) => {
      event.preventDefault();
      this.box.classList.remove("over");
      if (event.dataTransfer.files[0]) this.send(event.dataTransfer.files[0]);
    };
    this.clear();
  }

  clear() {
    this.id = null;
    this.input.value = "";
    this.refusal.textContent = "";
    this.box.classList.remove("filled");
    const choose = element("button", { class: "small", onclick: () => this.input.click() }, "Choose a file");
    const record = element("button", { class: "small", onclick: () => this.record() }, this.kinds[0] === "picture" && this.kinds.length === 1 ? "Take a picture" : "Record");
    const about = element("div", { class: "about" }, element("div", { class: "row" }, choose, record), element("span", {}, `or drop one here · at most ${state.limits.megabytes.toFixed(0)} MB, ${state.limits.seconds.toFixed(0)} s`));
    this.box.replaceChildren(this.input, about);
  }

  async send(file) {
    this.clear();
    if (file.size > state.limits.megabytes * 2 ** 20) {
      this.refusal.textContent = `${file.name} has ${(file.size / 2 ** 20).toFixed(0)} MB; at most ${state.limits.megabytes.toFixed(0)} MB are taken.`;
      return;
    }
    if (!(await agreed())) return;
    const bar = element("progress", { max: 1, value: 0, "aria-label": "upload" });
    const words = element("span", {}, "sending …");
    this.box.replaceChildren(this.input, element("div", { class: "about" }, element("b", {}, file.name), bar, words));
    try {
      this.show(await sendFile(file, (share) => {
        bar.value = share;
        if (share === 1) { bar.removeAttribute("value"); words.textContent = "looking at it …"; }
      }));
      this.input.value = "";
    } catch (error) {
      this.clear();
      this.refusal.textContent = `${file.name}: ${error.message}.`;
    }
  }

  show(upload) {
    if (!this.kinds.includes(upload.kind)) {
      this.clear();
      this.refusal.textContent = `${upload.name} is a ${upload.kind}; a ${this.kinds.join(" or a ")} is needed here.`;
      return;
    }
    this.id = upload.id;
    this.refusal.textContent = "";
    this.box.classList.add("filled");
    const thumb = upload.kind === "sound"
      ? element("div", { class: "thumb sound", "aria-hidden": "true" }, "♪")
      : element("img", { class: "thumb", src: upload.thumbnail, alt: "" });
    const size = upload.width ? `${upload.width} × ${upload.height}` : "";
    const lasting = upload.seconds ? `${upload.seconds.toFixed(1)} s` : "";
    const facts = [upload.kind, size, lasting, upload.kind === "video" && !upload.has_sound ? "silent" : ""].filter(Boolean).join(" · ");
    const about = element("div", { class: "about" }, element("b", {}, upload.name), element("span", {}, facts));
    if (upload.kind === "sound") about.append(element("audio", { src: upload.url, controls: true, preload: "none" }));
    const change = element("button", { class: "small", onclick: () => this.clear(), "aria-label": `remove ${upload.name}` }, "✕");
    this.box.replaceChildren(this.input, thumb, about, change);
  }

  async record() {
    if (!(await agreed())) return;
    const picture = this.kinds.length === 1 && this.kinds[0] === "picture";
    const file = await record(picture ? "picture" : this.kinds.includes("sound") ? "sound" : "video");
    if (file) this.send(file);
  }
}

function sendFile(file, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/api/uploads?name=${encodeURIComponent(file.name || "recording")}`);
    request.responseType = "json";
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onload = () => request.status === 201 ? resolve(request.response)
      : reject(new Error(request.response?.reason || `the studio answered ${request.status}`));
    request.onerror = () => reject(new Error("the upload broke off"));
    request.send(file);
  });
}

async function record(kind) {
  const dialog = document.querySelector("#recorder");
  const [screen, hint] = [dialog.querySelector("video"), dialog.querySelector(".hint")];
  const [close, go] = [dialog.querySelector("[data-do=close]"), dialog.querySelector("[data-do=go]")];
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: kind !== "sound", audio: kind !== "picture" });
  } catch {
    say("The browser gives no camera or microphone to this page.");
    return null;
  }
  screen.hidden = kind === "sound";
  screen.srcObject = stream;
  screen.play();
  hint.textContent = kind === "picture" ? "Look into the camera." : `At most ${state.limits.seconds.toFixed(0)} seconds.`;
  go.textContent = kind === "picture" ? "Take the picture" : "Record";
  go.disabled = false;
  dialog.showModal();
  const done = await new Promise((resolve) => {
    close.onclick = () => resolve(null);
    dialog.oncancel = () => resolve(null);
    go.onclick = () => {
      if (kind === "picture") {
        const canvas = element("canvas", { width: screen.videoWidth, height: screen.videoHeight });
        canvas.getContext("2d").drawImage(screen, 0, 0);
        canvas.toBlob((blob) => resolve(new File([blob], "picture.png")), "image/png");
        return;
      }
      const pieces = [];
      const recorder = new MediaRecorder(stream);
      recorder.ondataavailable = (event) => pieces.push(event.data);
      recorder.onstop = () => resolve(new File(pieces, kind === "sound" ? "recorded sound" : "recorded video"));
      recorder.start();
      const stop = () => recorder.state === "recording" && recorder.stop();
      setTimeout(stop, (state.limits.seconds - 1) * 1000);
      go.textContent = "Stop";
      hint.textContent = "Recording …";
      go.onclick = stop;
    };
  });
  stream.getTracks().forEach((track) => track.stop());
  dialog.close();
  return done;
}

// Speech -----------------------------------------------------------------------------------------------------

class Speech {
  constructor(task) {
    const own = task === "swap" || task === "compare" || task === "generate";
    const names = { text: "Text", file: "Sound file", own: "Its own sound" };
    const title = task === "regions" ? "Lips" : "Speech";
    this.way = task === "swap" ? "own" : "text";
    this.file = new FileField("audio", "Sound", "a recording, or a video with sound", ["sound", "video"]);
    this.text = element("textarea", { name: "text", maxlength: state.limits.letters, "aria-label": "Text", placeholder: "What shall be said?" });
    this.language = element("select", { name: "language", "aria-label": "Language" }, ...Object.entries(state.languages).map(([key, words]) => element("option", { value: key }, words)));
    this.voice = element("select", { name: "voice", "aria-label": "Voice" }, ...state.voices.map((name) => element("option", { value: name }, `voice ${name}`)));
    this.buttons = Object.entries(names).filter(([key]) => key !== "own" || own).map(([key, words]) =>
      element("button", { "data-way": key, onclick: () => this.choose(key) }, words));
    this.spoken = element("div", {}, this.text, element("div", { class: "options" }, this.language, this.voice), element("p", { class: "hint" }, "Spoken by a simple synthetic voice."));
    this.hint = element("p", { class: "hint" }, task === "swap" ? "The target keeps its sound and its lips." : "The lips follow the sound that the face's own video has.");
    this.place = element("div", { class: "field", "data-role": "speech" }, element("span", { class: "name" }, title, " ", element("small", {}, "what is said")),
      element("div", { class: "choice" }, ...this.buttons), this.spoken, this.file.place, this.hint);
    this.choose(this.way);
  }

  choose(way) {
    this.way = way;
    for (const button of this.buttons) button.setAttribute("aria-pressed", button.dataset.way === way);
    this.spoken.hidden = way !== "text";
    this.file.place.hidden = way !== "file";
    this.hint.hidden = way !== "own";
  }

  write(words) {
    this.choose("text");
    this.text.value = words;
  }

  values() {
    if (this.way === "text") return { text: this.text.value, language: this.language.value, voice: this.voice.value };
    if (this.way === "file" && !this.file.id) throw new Error("choose a sound file, or another kind of speech");
    return this.way === "file" ? { audio: this.file.id } : {};
  }
}

// Methods ----------------------------------------------------------------------------------------------------

class MethodField {
  constructor(usable, removable) {
    this.usable = usable;
    this.select = element("select", { "aria-label": "Method", name: "method" }, ...usable.map((one, number) =>
      element("option", { value: number }, `${one.title} · ${one.name}`)));
    this.hint = element("p", { class: "hint" });
    this.options = element("div", { class: "options" });
    this.details = element("details", {}, element("summary", {}, "Options"), this.options);
    const remove = removable ? element("button", { class: "small", "aria-label": "remove", onclick: () => this.onremove() }, "✕") : null;
    const line = element("div", { class: "row" }, this.select, remove);
    if (removable) { this.select.style.flex = "1"; this.select.style.width = "auto"; }
    this.place = element("div", { class: removable ? "variant" : "field" }, removable ? null : element("span", { class: "name" }, "Method"), line, this.hint, this.details);
    this.select.onchange = () => this.fill();
    this.fill();
  }

  fill() {
    const method = this.usable[this.select.value];
    const when = new Date(method.changed * 1000).toLocaleDateString();
    this.hint.textContent = [method.parts, `trained ${when}`].filter(Boolean).join(" · ");
    this.inputs = method.options.map((option) => [option, optionInput(option)]);
    this.options.replaceChildren(...this.inputs.map(([option, input]) => typeof option.default === "boolean"
      ? element("label", { class: "check", title: option.hint }, input, element("span", {}, option.label))
      : element("label", { title: option.hint }, option.label, input)));
    this.details.hidden = !this.inputs.length;
  }

  value() {
    const options = {};
    for (const [option, input] of this.inputs) {
      if (typeof option.default === "boolean") options[option.key] = input.checked;
      else if (option.choices) options[option.key] = input.value || null;
      else options[option.key] = input.value === "" ? null : Number(input.value);
    }
    return { name: this.usable[this.select.value].name, options };
  }

  values() { return [this.value()]; }
}

function optionInput(option) {
  if (option.choices) {
    const choices = Object.entries(option.choices).map(([value, words]) => element("option", { value }, words));
    if (option.default === null) choices.unshift(element("option", { value: "" }, "as trained"));
    const select = element("select", { name: option.key }, ...choices);
    select.value = option.default ?? "";
    return select;
  }
  if (typeof option.default === "boolean") {
    const input = element("input", { type: "checkbox", name: option.key });
    input.checked = option.default;
    return input;
  }
  return element("input", { type: "number", name: option.key, min: option.least, max: option.most, value: option.default });
}

class MethodList {
  constructor(usable) {
    this.usable = usable;
    this.fields = [];
    this.list = element("div");
    this.more = element("button", { class: "small", "data-more": "yes", onclick: () => this.add(0) }, "Add another");
    this.place = element("div", { class: "field" }, element("span", { class: "name" }, "Methods ", element("small", {}, `up to ${state.limits.variants}; also one with different options`)), this.list, this.more);
    const first = usable.findIndex.bind(usable);
    const kinds = [...new Set(usable.map((one) => one.method))].map((kind) => first((one) => one.method === kind));
    for (const number of kinds.length > 1 ? kinds.slice(0, 3) : usable.slice(0, 2).keys()) this.add(number);
  }

  add(number) {
    const made = new MethodField(this.usable, true);
    made.select.value = number;
    made.fill();
    made.onremove = () => { this.fields = this.fields.filter((one) => one !== made); this.draw(); };
    this.fields.push(made);
    this.draw();
  }

  draw() {
    this.list.replaceChildren(...this.fields.map((one) => one.place));
    this.more.disabled = this.fields.length >= state.limits.variants;
  }

  values() { return this.fields.map((one) => one.value()); }
}

// The control page: follows the session's state, plays its two pictures, sends what the user changes.

const RETRY_LEAST_MS = 500;
const RETRY_MOST_MS = 5000;
const SILENT_MS = 4000; // without news for this long the server is gone
const FROZEN_MS = 8000; // without a new picture for this long a view is connected anew
const HELD_MS = 1500; // what the user just changed is not overwritten by older news

const GATES = {
  real: "Nobody is speaking: the real lips are shown.",
  speech: "Speech sounds: the lips follow it.",
  closed: "The speaker talks before the translation: the lips are kept closed.",
};
const REASONS = {
  off: "lip-sync is switched off",
  quiet: "nobody is speaking",
  late: "this computer was too slow",
  engine: "the generator failed",
  turned: "the head is turned away",
  occluded: "something covers the mouth",
  "no-face": "no face is seen",
  "no-identity": "the face is still being learned",
  mismatch: "the painted lips did not match the speech",
};
const DOUBTS = {
  starting: "listening…",
  silence: "nobody is speaking",
  "no painted mouth": "no painted mouth",
};
const STAGES = {
  capture: "Camera",
  track: "Finding the face",
  wait: "Waiting for sound",
  generate: "Painting the lips",
  compose: "Putting together",
  show: "Handing out",
};

const find = (id) => document.getElementById(id);

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const whole = (value) => (typeof value === "number" ? Math.round(value).toString() : "–");
const milliseconds = (value) => (typeof value === "number" ? `${Math.round(value)} ms` : "–");

// Pictures and sound

/** One picture, by WHEP; `tick` keeps it connected. */
class View {
  constructor(which, withSound) {
    this.which = which;
    this.withSound = withSound;
    this.screen = find(which);
    this.video = this.screen.querySelector("video");
    this.blank = this.screen.querySelector(".blank");
    this.connection = null;
    this.session = null;
    this.notBefore = 0;
    this.retryMs = RETRY_LEAST_MS;
    this.progress = { time: -1, at: 0 };
    for (const event of ["loadedmetadata", "resize"]) {
      this.video.addEventListener(event, () => this.fit());
    }
    this.video.addEventListener("playing", () => this.screen.classList.add("playing"));
  }

  fit() {
    const { videoWidth, videoHeight } = this.video;
    if (videoWidth) {
      this.screen.parentElement.style.setProperty("--ratio", `${videoWidth / videoHeight}`);
    }
  }

  /** To be called twice a second while the server answers. */
  tick(live) {
    const now = performance.now();
    if (!this.connection) {
      if (!live) setText(this.blank, "Waiting for the camera…");
      else if (now >= this.notBefore) this.start();
      return;
    }
    if (this.video.currentTime !== this.progress.time || document.hidden) {
      const moved = this.progress.time >= 0 && this.video.currentTime > 0;
      this.progress = { time: this.video.currentTime, at: now };
      if (moved && !document.hidden) {
        this.screen.classList.add("playing");
        this.retryMs = RETRY_LEAST_MS;
      }
    } else if (now - this.progress.at > FROZEN_MS) {
      this.lost(
        this.screen.classList.contains("playing")
          ? "The picture stands still; connecting again…"
          : "The browser does not connect. It needs a network, even to reach this computer.",
      );
    }
  }

  async start() {
    const connection = new RTCPeerConnection({ iceServers: [] });
    this.connection = connection;
    this.progress = { time: -1, at: performance.now() };
    const stream = new MediaStream();
    this.video.srcObject = stream;
    connection.ontrack = (event) => {
      if ("jitterBufferTarget" in event.receiver) event.receiver.jitterBufferTarget = 0;
      stream.addTrack(event.track);
    };
    connection.onconnectionstatechange = () => {
      if (["failed", "closed", "disconnected"].includes(connection.connectionState)) {
        if (this.connection === connection) this.lost("The connection was lost; trying again…");
      }
    };
    connection.addTransceiver("video", { direction: "recvonly" });
    if (this.withSound) connection.addTransceiver("audio", { direction: "recvonly" });
    try {
      await connection.setLocalDescription();
      const answer = await fetch(`/whep/${this.which}`, {
        method: "POST",
        headers: { "Content-Type": "application/sdp" },
        body: connection.localDescription.sdp,
      });
      const text = await answer.text();
      if (!answer.ok) throw new Error(text);
      this.session = answer.headers.get("Location");
      if (this.connection !== connection) return;
      await connection.setRemoteDescription({ type: "answer", sdp: text });
      await this.video.play();
    } catch (error) {
      if (this.connection === connection && error.name !== "AbortError") {
        const said = error instanceof TypeError ? "The server does not answer." : error.message;
        this.lost(said);
      }
    }
  }

  lost(sentence) {
    this.stop();
    setText(this.blank, sentence);
    this.notBefore = performance.now() + this.retryMs;
    this.retryMs = Math.min(RETRY_MOST_MS, this.retryMs * 2);
  }

  stop() {
    const { connection, session } = this;
    this.connection = this.session = null;
    this.screen.classList.remove("playing");
    if (connection) connection.close();
    if (session) fetch(session, { method: "DELETE", keepalive: true }).catch(() => {});
  }
}

// The state

const views = [new View("camera", false), new View("output", true)];
const held = new Map(); // setting → until when the user's own value stands
let run = null;

function showSettings(settings) {
  const now = performance.now();
  for (const input of document.querySelectorAll(".switch input")) {
    input.disabled = false;
    if (!(held.get(input.name) > now)) input.checked = Boolean(settings[input.name]);
  }
  const trim = find("trim");
  trim.disabled = false;
  if (!(held.get("trim_ms") > now)) trim.value = Math.round(settings.trim_ms ?? 0);
  showTrim();
}

function showTrim() {
  const value = Number(find("trim").value);
  const size = `${Math.abs(value)} ms`;
  const text = value === 0 ? "as measured" : `picture ${size} ${value > 0 ? "later" : "earlier"}`;
  setText(find("trim-value"), text);
  find("trim").setAttribute("aria-valuetext", text);
  find("trim-reset").disabled = value === 0;
}

function showNumber(id, value, unit = "", detail = "") {
  const element = find(id);
  const text = `${value}${unit && value !== "–" ? ` ${unit}` : ""}`;
  if (element.dataset.shown === text + detail) return;
  element.dataset.shown = text + detail;
  const small = document.createElement("small");
  small.textContent = detail;
  element.replaceChildren(text, ...(detail ? [small] : []));
}

function showLevel(id, value) {
  // 60 dB below full scale is the bar's beginning.
  const share = value > 0 ? Math.max(0, Math.min(1, 1 + Math.log10(value) / 3)) : 0;
  const bar = find(id);
  bar.firstElementChild.style.width = `${Math.round(share * 100)}%`;
  bar.setAttribute("aria-valuenow", Math.round(share * 100));
}

function showMeters(meters) {
  const gate = meters.gate ?? "none";
  find("gate").dataset.gate = gate;
  setText(find("gate-text"), GATES[gate] ?? "Waiting for the first picture…");
  showNumber("fps", typeof meters.fps === "number" ? meters.fps.toFixed(1) : "–");
  const delay = meters.added_delay_ms ?? {};
  showNumber("delay", whole(delay.total), "ms");
  const skew = meters.skew_ms;
  let ahead = "";
  if (typeof skew === "number" && Math.abs(skew) >= 1) ahead = skew > 0 ? "late" : "early";
  showNumber("skew", typeof skew === "number" ? Math.abs(skew).toFixed(0) : "–", "ms", ahead);
  const frames = meters.frames ?? {};
  const share = frames.in ? `${((100 * frames.dropped) / frames.in).toFixed(1)} %` : "";
  showNumber("dropped", whole(frames.dropped), "", share);
  const reason = meters.passthrough_reason;
  setText(find("reason"), reason ? (REASONS[reason] ?? reason) : "–");
  showLevel("sound-level", meters.sound_level);
  showLevel("microphone-level", meters.microphone_level);
  showSync(meters.sync);
  showStages(delay.stages ?? {}, delay.total ?? 0);
  showEnds(meters.states ?? {});
  showFacts(meters, frames);
}

function showSync(sync) {
  for (const id of ["sync", "avsu"]) find(id).parentElement.hidden = !sync;
  if (!sync) return;
  const moved = sync.correction_frames;
  const detail = moved ? `corrected by ${moved > 0 ? "+" : "−"}${Math.abs(moved)}` : "";
  let text = { good: "good", poor: "no match" }[sync.state] ?? "–";
  if (sync.state === "drifting") {
    const frames = Math.abs(sync.offset_frames);
    text = `${frames} frames ${sync.offset_frames > 0 ? "early" : "late"}`;
  }
  showNumber("sync", text, "", sync.state === "unsure" ? (DOUBTS[sync.doubt] ?? "") : detail);
  const avsu = typeof sync.avsu === "number" ? sync.avsu.toFixed(2) : "–";
  showNumber("avsu", avsu, "", sync.expert);
}

function showFacts(meters, frames) {
  const seconds = Math.floor(meters.uptime_s ?? 0);
  const two = (number) => String(number).padStart(2, "0");
  const clock = [Math.floor(seconds / 3600), two(Math.floor(seconds / 60) % 60), two(seconds % 60)];
  setText(find("facts"), `Bundle ${meters.bundle ?? "–"} on ${meters.backend || "–"}`);
  const counts = ["in", "out", "generated", "passthrough", "repeated"]
    .filter((name) => typeof frames[name] === "number")
    .map((name) => `${frames[name]} ${name === "passthrough" ? "unchanged" : name}`);
  setText(find("counts"), `Up ${clock.join(":")} · Pictures: ${counts.join(", ")}`);
}

/** A list's items by their keys, made where they are missing, removed where they are no more. */
function items(list, keys, make) {
  const known = new Map([...list.children].map((item) => [item.dataset.key, item]));
  const wanted = keys.map((key) => {
    const item = known.get(key) ?? make(key);
    item.dataset.key = key;
    return item;
  });
  if (wanted.some((item, n) => item !== list.children[n]) || wanted.length !== known.size) {
    list.replaceChildren(...wanted);
  }
  return wanted;
}

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function showStages(stages, total) {
  const names = Object.keys(stages);
  const most = Math.max(100, total, ...names.map((name) => stages[name] ?? 0));
  const rows = items(find("stages"), names, (name) => {
    const row = element("li", "");
    const bar = element("span", "bar");
    bar.append(element("i", ""));
    row.append(element("span", "", STAGES[name] ?? name), bar, element("span", "ms"));
    return row;
  });
  rows.forEach((row, n) => {
    const value = stages[names[n]];
    row.querySelector("i").style.width = `${(100 * (value ?? 0)) / most}%`;
    setText(row.querySelector(".ms"), typeof value === "number" ? `${value.toFixed(1)} ms` : "–");
  });
}

function showEnds(states) {
  const names = Object.keys(states);
  const rows = items(find("ends"), names, (name) => {
    const row = element("li", "");
    row.append(element("span", "", name[0].toUpperCase() + name.slice(1)), element("span", "state"));
    return row;
  });
  rows.forEach((row, n) => {
    const { state, text } = states[names[n]];
    const shown = row.querySelector(".state");
    shown.dataset.state = state;
    setText(shown, text || (state === "running" ? "works" : state));
  });
  tell("session", names.filter((name) => states[name].text).map((name) => states[name].text));
}

// Sentences for the user, by who says them

const said = new Map();

function tell(who, sentences) {
  said.set(who, sentences);
  const all = [...new Set([...said.values()].flat())];
  const trouble = find("trouble");
  if (trouble.dataset.shown === all.join("\n")) return;
  trouble.dataset.shown = all.join("\n");
  trouble.hidden = all.length === 0;
  trouble.replaceChildren(...all.map((sentence) => element("p", "", sentence)));
}

// The server

async function send(path, content) {
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(content),
    });
    if (!answer.ok) throw new Error(await answer.text());
    tell("page", []);
    return true;
  } catch (error) {
    tell("page", [error instanceof TypeError ? "The change did not arrive." : error.message]);
    held.clear();
    return false;
  }
}

let retryMs = RETRY_LEAST_MS;

function follow() {
  const events = new EventSource("/api/events");
  let silence = 0;
  const again = () => {
    clearTimeout(silence);
    events.close();
    setLink("lost", "Reconnecting…");
    setTimeout(follow, retryMs);
    retryMs = Math.min(RETRY_MOST_MS, retryMs * 2);
  };
  silence = setTimeout(again, SILENT_MS);
  events.onerror = again;
  events.onmessage = (event) => {
    clearTimeout(silence);
    silence = setTimeout(again, SILENT_MS);
    retryMs = RETRY_LEAST_MS;
    const state = JSON.parse(event.data);
    if (run !== null && run !== state.run) for (const view of views) view.stop();
    run = state.run;
    setLink(state.live ? "live" : "waiting", state.live ? "Live" : "Starting…");
    showSettings(state.settings);
    showMeters(state.meters);
    for (const view of views) view.tick(state.live);
    find("aim").disabled = !views[0].screen.classList.contains("playing");
  };
}

function setLink(state, text) {
  find("link").dataset.state = state;
  setText(find("link"), text);
}

// The user

for (const input of document.querySelectorAll(".switch input")) {
  input.addEventListener("change", () => {
    held.set(input.name, performance.now() + HELD_MS);
    send("/api/settings", { name: input.name, value: input.checked });
  });
}

let sending = false;
let unsent = null;

/** The newest trim, one request at a time. */
async function sendTrim(value) {
  held.set("trim_ms", performance.now() + HELD_MS);
  unsent = value;
  if (sending) return;
  sending = true;
  while (unsent !== null) {
    const next = unsent;
    unsent = null;
    await send("/api/settings", { name: "trim_ms", value: next });
  }
  sending = false;
}

find("trim").addEventListener("input", (event) => {
  showTrim();
  sendTrim(Number(event.target.value));
});

find("trim-reset").addEventListener("click", () => {
  find("trim").value = 0;
  find("trim").focus();
  showTrim();
  sendTrim(0);
});

find("sound").addEventListener("click", () => {
  const video = views[1].video;
  video.muted = !video.muted;
  find("sound").dataset.on = String(!video.muted);
  setText(find("sound-label"), video.muted ? "Turn sound on" : "Turn sound off");
  video.play().catch(() => {});
});

const aim = find("aim");
const cross = aim.querySelector(".cross");
const place = { x: 0.5, y: 0.5 };

function moveCross(x, y) {
  place.x = Math.min(1, Math.max(0, x));
  place.y = Math.min(1, Math.max(0, y));
  cross.style.left = `${100 * place.x}%`;
  cross.style.top = `${100 * place.y}%`;
}

aim.addEventListener("keydown", (event) => {
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const step = steps[event.key];
  if (!step) return;
  event.preventDefault();
  moveCross(place.x + 0.04 * step[0], place.y + 0.04 * step[1]);
});

aim.addEventListener("click", async (event) => {
  if (event.detail > 0) {
    // By mouse or touch; the keyboard's click has no place.
    const box = aim.getBoundingClientRect();
    moveCross((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  }
  const hint = find("aim-hint");
  if (await send("/api/face", place)) {
    aim.classList.add("chosen");
    setText(hint, "The face nearest to the cross is followed");
    setTimeout(() => {
      aim.classList.remove("chosen");
      setText(hint, "Click the face whose lips should move");
    }, 3000);
  }
});

window.addEventListener("pagehide", () => views.forEach((view) => view.stop()));
window.addEventListener("pageshow", (event) => event.persisted && location.reload());

follow();

// One speaker in the grid: the pictures, their sound, and the choice between them.

import { element, fromTemplate, label, setText } from "./dom.js";
import { Hold } from "./policy.js";
import { lineOf, planFor } from "./plan.js";
import { shownName } from "./text.js";
import { WhepConnection } from "./whep.js";

const HANDOVER_MS = 4000; // an old connection goes on until the new one plays, or for this long

const FRESH = { live: false, lip_sync: true, languages: [], original: {} };

/** A picture's place; it shows a stream, or says why there is none. */
class Screen {
  constructor(node) {
    this.node = node;
    this.video = node.querySelector("video");
    this.blank = node.querySelector(".blank");
    this.video.addEventListener("playing", () => node.classList.add("playing"));
    for (const event of ["loadedmetadata", "resize"]) {
      this.video.addEventListener(event, () => {
        const { videoWidth, videoHeight } = this.video;
        if (videoWidth) node.style.setProperty("--ratio", `${videoWidth / videoHeight}`);
        node.dispatchEvent(new Event("fitted", { bubbles: true }));
      });
    }
  }

  show(stream) {
    this.node.classList.remove("playing");
    this.video.srcObject = stream;
    if (stream) this.video.play().catch(() => {});
  }

  say(sentence) {
    setText(this.blank, sentence);
  }
}

/** A connection with the screen and the bus that it plays on. */
class Line {
  constructor({ api, mixer }, path, { video, bus, screen, changed }) {
    this.mixer = mixer;
    this.video = video;
    this.bus = bus;
    this.screen = video ? screen : null;
    this.sound = null;
    // Chromium decodes a remote track's sound only while some element plays it, even if muted.
    this.player = video ? null : new Audio();
    if (this.player) this.player.muted = true;
    this.whep = new WhepConnection(api, path, {
      video,
      took: (stream) => this.take(stream),
      changed,
    });
  }

  take(stream) {
    this.sound?.detach();
    this.sound = null;
    this.screen?.show(stream);
    if (this.player) {
      this.player.srcObject = stream;
      if (stream) this.player.play().catch(() => {});
    }
    if (stream) this.sound = this.mixer.attach(stream, this.bus);
  }

  to(bus) {
    if (bus !== this.bus) this.sound?.move(bus);
    this.bus = bus;
  }

  stop() {
    this.whep.stop();
  }
}

export class Tile {
  /** `around`: {api, mixer, view: the choice to begin with, choosable}. */
  constructor(around, name) {
    this.around = around;
    this.name = name;
    this.view = around.view;
    this.speaker = { ...FRESH, name };
    this.language = "";
    this.lines = { synced: null, original: null };
    this.leaving = [];
    this.lineHold = new Hold();
    this.badgeHold = new Hold();
    this.plan = null;
    this.node = fromTemplate("tile-template");
    this.build();
  }

  build() {
    const { node, name } = this;
    const shown = shownName(name);
    const part = (className) => node.querySelector(`.${className}`);
    this.screens = {
      original: new Screen(part("original")),
      synced: new Screen(part("synced")),
    };
    this.screens.original.video.setAttribute("aria-label", `${shown}, original picture`);
    this.screens.synced.video.setAttribute("aria-label", `${shown}, lip-synced picture`);
    setText(part("name"), shown);
    this.parts = {
      talks: part("talks"),
      badge: part("badge"),
      note: part("note"),
      choice: part("choice"),
      muted: part("muted"),
    };
    const { choice } = this.parts;
    setText(choice.querySelector("legend"), `Picture of ${shown}`);
    for (const input of choice.querySelectorAll("input")) {
      input.name = `view-${name}`;
      input.checked = input.value === this.view;
      input.addEventListener("change", () => {
        this.view = input.value;
        this.update(this.speaker, this.language);
        this.tick(performance.now());
      });
    }
    const full = part("full");
    full.setAttribute("aria-label", `${shown}: full screen`);
    const screens = part("screens");
    if (!screens.requestFullscreen) full.hidden = true;
    full.addEventListener("click", () => {
      if (document.fullscreenElement) document.exitFullscreen();
      else screens.requestFullscreen().catch(() => {});
    });
  }

  /** Take what the server says of the speaker, and the language that the listener wants. */
  update(speaker, language) {
    const now = performance.now();
    if (language !== this.language) {
      this.lineHold = new Hold();
      this.drop("synced");
    }
    this.speaker = speaker;
    this.language = language;
    const line = lineOf(speaker, language);
    const lineLive = this.lineHold.take(now, Boolean(line?.live));
    const underOn = this.around.mixer.underDb !== null;
    const wish = { language, view: this.view, underOn };
    this.plan = planFor(speaker, wish, lineLive);
    this.follow(this.plan);
    this.show(line, now);
  }

  follow(plan) {
    const { api, mixer } = this.around;
    if (!plan.synced) this.drop("synced");
    else if (!this.lines.synced) {
      this.lines.synced = new Line(this.around, api.path("whep", this.name, this.language), {
        video: true,
        bus: plan.synced,
        screen: this.screens.synced,
        changed: () => this.say(),
      });
    }
    const { original } = this.lines;
    if (!plan.original) {
      this.drop("original");
    } else if (!original || original.video !== plan.original.video) {
      if (original) this.leaving.push({ line: original, until: performance.now() + HANDOVER_MS });
      this.lines.original = new Line({ api, mixer }, api.path("whep", this.name), {
        ...plan.original,
        screen: this.screens.original,
        changed: () => this.say(),
      });
    } else {
      original.to(plan.original.bus);
    }
  }

  show(line, now) {
    const { node, parts, plan, speaker } = this;
    const synced = plan.screens.includes("synced");
    for (const which of ["original", "synced"]) {
      this.screens[which].node.hidden = !plan.screens.includes(which);
    }
    node.dataset.screens = plan.screens.length;
    node.dataset.choosable = String(Boolean(plan.synced));
    parts.choice.hidden = !plan.synced || this.around.choosable === false;
    const modified = this.badgeHold.take(now, synced && Boolean(line?.modified));
    parts.badge.hidden = !synced;
    parts.badge.classList.toggle("absent", !modified); // keeps its place
    const talks = Boolean(speaker.speaking && speaker.live);
    node.classList.toggle("talking", talks);
    parts.talks.hidden = !talks;
    parts.muted.hidden = !speaker.muted;
    setText(parts.note, plan.note);
    parts.note.hidden = !plan.note;
    this.say();
  }

  /** Where no picture plays, say why. */
  say() {
    for (const which of ["original", "synced"]) {
      const whep = this.lines[which]?.whep;
      const live = which === "original" ? this.speaker.live : true;
      const sentence = live ? whep?.sentence : `Waiting for ${shownName(this.name)}’s camera…`;
      this.screens[which].say(sentence || "Waiting for the picture…");
    }
    const again = this.node.querySelector(".again");
    const refused = Object.values(this.lines).some((line) => line?.whep.phase === "refused");
    if (refused && !again) {
      const button = element("button", "plain again");
      button.type = "button";
      label(button, "", "Try again");
      button.addEventListener("click", () => {
        for (const line of Object.values(this.lines)) line?.whep.again();
      });
      this.parts.note.after(button);
    } else if (!refused) {
      again?.remove();
    }
  }

  /** Twice a second. */
  tick(now) {
    const { synced, original } = this.lines;
    const line = lineOf(this.speaker, this.language);
    synced?.whep.tick(now, Boolean(line?.live));
    original?.whep.tick(now, this.speaker.live);
    this.leaving = this.leaving.filter(({ line: old, until }) => {
      const done = now > until || original?.whep.phase === "connected" || !this.lines.original;
      if (done) old.stop();
      else old.whep.tick(now, this.speaker.live);
      return !done;
    });
  }

  drop(which) {
    this.lines[which]?.stop();
    this.lines[which] = null;
  }

  remove() {
    this.drop("synced");
    this.drop("original");
    for (const { line } of this.leaving) line.stop();
    this.leaving = [];
  }
}

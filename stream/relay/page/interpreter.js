// The interpreter: hears the original and sends a voice in another language.

import { OwnMedia } from "./devices.js";
import { find, label, setText } from "./dom.js";
import { Listening } from "./listening.js";
import { measurements } from "./meters.js";
import { languagesOf, lineOf } from "./plan.js";
import { Stage } from "./stage.js";
import { TargetSource } from "./target.js";
import { FLOOR, languageName, people, shownName } from "./text.js";
import { WhipConnection } from "./whip.js";

/** What the state says of an interpreter's own line; undefined while it does not know it. */
export function ownLine(state, whom, language) {
  if (whom === FLOOR) return state.floor.languages.find(({ code }) => code === language);
  const speaker = state.speakers.find(({ name }) => name === whom);
  return speaker && lineOf(speaker, language);
}

export class InterpreterView {
  constructor(app, { whom, language }) {
    const { api, mixer } = app;
    const media = new OwnMedia();
    media.adopt(app.media, "audio");
    Object.assign(this, { app, whom, language, state: null, line: undefined });
    this.talking = true;
    this.pushing = false;
    this.panel = find("interpreter-panel");
    this.panel.hidden = false;
    const name = whom === FLOOR ? "the whole floor" : shownName(whom);
    setText(find("interpreter-title"), `You interpret ${name} into ${languageName(language)}`);
    this.source = new TargetSource({
      mixer,
      media,
      begin: "microphone",
      changed: (track) => this.send(track),
    });
    find("interpreter-source").replaceChildren(this.source.node);
    const path = api.path("whip", whom, language);
    this.whip = new WhipConnection(api, path, { audio: this.source.track }, {
      changed: () => this.show(),
      isTaken: () => Boolean(this.line?.live),
    });
    find("interpreter-again").onclick = () => this.whip.again();
    if (app.may("listen")) {
      this.stage = new Stage(api, mixer, {
        empty: whom === FLOOR ? "Nobody speaks yet." : `${name} is not here yet.`,
      });
      this.listening = new Listening(mixer, { language: null, mainLabel: "Speaker’s volume" });
    }
    this.listenToKeys();
    this.show();
  }

  get title() {
    return "Interpreting";
  }

  listenToKeys() {
    const talk = find("talk");
    const modes = [...this.panel.querySelectorAll("[name=talk-mode]")];
    modes.forEach((input) => {
      input.checked = input.value === "always";
      input.onchange = () => this.setMode(input.value);
    });
    this.mode = "always";
    const push = (on) => (event) => {
      if (this.mode !== "push") return;
      if (event.type.startsWith("key")) {
        if (event.key !== " " && event.key !== "Enter") return;
        const elsewhere = event.target.closest("button, input, select, a, summary, label");
        if (elsewhere && elsewhere !== talk) return;
        event.preventDefault();
      }
      this.pushing = on;
      this.show();
    };
    talk.onclick = () => {
      if (this.mode === "always") this.talking = !this.talking;
      this.show();
    };
    this.keys = new AbortController();
    const options = { signal: this.keys.signal };
    talk.addEventListener("pointerdown", push(true), options);
    for (const event of ["pointerup", "pointercancel", "blur"]) {
      window.addEventListener(event, push(false), options);
    }
    document.addEventListener("keydown", push(true), options);
    document.addEventListener("keyup", push(false), options);
    talk.addEventListener("contextmenu", (event) => event.preventDefault(), options);
  }

  setMode(mode) {
    this.mode = mode;
    this.pushing = false;
    this.talking = mode === "always";
    this.show();
  }

  get open() {
    return this.mode === "push" ? this.pushing : this.talking;
  }

  send(track) {
    this.whip?.replace("audio", track);
    this.show();
  }

  update(state) {
    this.state = state;
    this.line = ownLine(state, this.whom, this.language);
    const all = this.whom === FLOOR;
    const seen = state.speakers.filter(({ name }) => all || name === this.whom);
    this.stage?.update(seen, "");
    const listeners = languagesOf(state).find(({ code }) => code === this.language)?.listeners ?? 0;
    const own = all ? listeners : (this.line?.listeners ?? 0);
    const speaking = state.floor.speaking ? `${shownName(state.floor.speaking)} is speaking` : "";
    const facts = [people(own), all ? speaking || "Nobody is speaking" : ""].filter(Boolean);
    setText(find("interpreter-facts"), facts.join(" · "));
    this.show();
  }

  show() {
    if (!this.whip) return;
    const { whip, open, line } = this;
    if (this.source.track) this.source.track.enabled = open;
    const connected = whip.phase === "connected";
    const chip = find("interpreter-on-air");
    let state = connected ? (open ? "On air" : "Muted") : "Connecting…";
    if (line?.muted && connected) state = "Muted by the host";
    if (whip.phase === "lost") state = "Reconnecting…";
    if (whip.phase === "refused") state = "Not sent";
    chip.dataset.state = state === "On air" ? "live" : connected ? "off" : "waiting";
    setText(chip, state);
    const talk = find("talk");
    talk.dataset.on = String(open);
    const words = this.mode === "push" ? ["Talking…", "Hold to talk"] : ["Mute", "Unmute"];
    label(talk, open ? "mic" : "mic-off", open ? words[0] : words[1]);
    const notice = find("interpreter-notice");
    let said = "";
    if (whip.sentence && !["connecting", "connected"].includes(whip.phase)) said = whip.sentence;
    else if (line?.muted) said = "The host has muted you: listeners do not hear you now.";
    setText(notice, said);
    notice.hidden = !said;
    find("interpreter-again").hidden = whip.phase !== "refused";
  }

  tick(now) {
    this.whip.tick(now);
    this.stage?.tick(now);
  }

  quickTick() {
    this.source.show();
  }

  cards() {
    const rows = measurements(this.whip, this.line);
    const own = { key: "/own", title: "Your voice, sent", rows };
    return [own, ...(this.stage?.cards() ?? [])];
  }

  leave() {
    this.keys.abort();
    this.whip.stop();
    this.source.leave();
    this.stage?.leave();
    this.listening?.leave();
    this.panel.hidden = true;
  }
}

// Try it alone: one's own camera, a file or second microphone as target audio, both pictures.

import { find, setText } from "./dom.js";
import { Listening } from "./listening.js";
import { measurements } from "./meters.js";
import { showToggle } from "./preview.js";
import { Stage } from "./stage.js";
import { TargetSource } from "./target.js";
import { WhipConnection } from "./whip.js";

export const ALONE = { name: "You", language: "und" };

/** A room's name that nobody guesses. */
export function privateRoom() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return `try-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

export class TryoutView {
  constructor(app, { name, language }) {
    const { api, mixer, media, preview } = app;
    Object.assign(this, { app, name, language });
    this.panel = find("tryout-panel");
    this.panel.hidden = false;
    preview.moveTo(find("tryout-media"));
    preview.offer(["video", "audio"]);
    this.muted = false;
    const { audio, video } = media.tracks;
    const told = { changed: () => this.show(), isTaken: () => false };
    this.camera = new WhipConnection(api, api.path("whip", name), { audio, video }, told);
    preview.changed = (kind) => {
      const track = media.tracks[kind];
      if (kind === "audio" && track) track.enabled = !this.muted;
      this.camera.replace(kind, track);
    };
    this.source = new TargetSource({
      mixer,
      begin: "file",
      changed: (track) => this.voice?.replace("audio", track),
    });
    find("tryout-source").replaceChildren(this.source.node);
    const path = api.path("whip", name, language);
    this.voice = new WhipConnection(api, path, { audio: this.source.track }, told);
    find("tryout-microphone").onclick = () => {
      this.muted = !this.muted;
      if (media.tracks.audio) media.tracks.audio.enabled = !this.muted;
      this.show();
    };
    find("tryout-again").onclick = () => {
      this.camera.again();
      this.voice.again();
    };
    this.stage = new Stage(api, mixer, { view: "both", empty: "Waiting for your camera…" });
    this.listening = new Listening(mixer, { language: null, mainLabel: "Volume" });
    find("meters").open = true;
    this.show();
  }

  get title() {
    return "Trying it alone";
  }

  update(state) {
    const me = state.speakers.filter(({ name }) => name === this.name);
    this.app.troubles.tell("speaker", me[0]?.trouble);
    this.stage.update(me, this.language);
    this.show();
  }

  show() {
    const lines = [this.camera, this.voice].filter(Boolean);
    const refused = lines.find(({ phase }) => phase === "refused");
    const said = lines.map(({ phase, sentence }) =>
      ["lost", "refused", "waiting"].includes(phase) ? sentence : "",
    );
    const notice = find("tryout-notice");
    const text = said.find(Boolean) ?? "";
    setText(notice, text);
    notice.hidden = !text;
    find("tryout-again").hidden = !refused;
    showToggle(
      find("tryout-microphone"),
      !this.muted,
      ["mic", "Mute my microphone"],
      ["mic-off", "Unmute my microphone"],
    );
  }

  tick(now) {
    this.camera.tick(now);
    this.voice.tick(now);
    this.stage.tick(now);
  }

  quickTick() {
    this.app.preview.quickTick();
    this.source.show();
  }

  cards() {
    return [
      ...this.stage.cards(),
      { key: "/camera", title: "Your camera, sent", rows: measurements(this.camera) },
      { key: "/voice", title: "Target audio, sent", rows: measurements(this.voice) },
    ];
  }

  leave() {
    this.camera.stop();
    this.voice.stop();
    this.source.leave();
    this.stage.leave();
    this.listening.leave();
    this.app.preview.changed = () => {};
    this.app.troubles.tell("speaker");
    this.panel.hidden = true;
  }
}

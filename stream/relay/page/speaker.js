// The speaker: sends camera and voice, sees who listens, and the others.

import { element, find, items, setText } from "./dom.js";
import { Listening } from "./listening.js";
import { measurements } from "./meters.js";
import { showToggle } from "./preview.js";
import { Stage } from "./stage.js";
import { languageName, people, shownName } from "./text.js";
import { WhipConnection } from "./whip.js";

const ON_AIR = {
  connecting: "Connecting…",
  lost: "Reconnecting…",
  refused: "Not sent",
  waiting: "Waiting…",
};

/** Who listens to a speaker, in which language: [{key, name, text}]. */
export function audience(speaker) {
  const rows = [{ key: "", name: "Original", text: people(speaker.original?.listeners ?? 0) }];
  for (const line of speaker.languages) {
    const state = line.muted ? ", interpreter muted" : line.live ? "" : ", nobody interprets now";
    const text = `${people(line.listeners ?? 0)}${state}`;
    rows.push({ key: line.code, name: languageName(line.code), text });
  }
  return rows;
}

/** Show that list. */
function showAudience(list, rows) {
  const made = items(list, rows.map(({ key }) => key), () => {
    const row = element("li");
    row.append(element("span"), element("span", "quiet"));
    return row;
  });
  made.forEach((row, n) => {
    setText(row.firstElementChild, rows[n].name);
    setText(row.lastElementChild, rows[n].text);
  });
}

export class SpeakerView {
  constructor(app, { name, language }) {
    const { api, mixer, media, preview, remember } = app;
    this.app = app;
    this.name = name;
    this.state = null;
    this.panel = find("speaker-panel");
    this.panel.hidden = false;
    setText(find("speaker-name"), `You, as ${shownName(name)}`);
    preview.moveTo(find("speaker-media"));
    preview.offer(["video", "audio"]);
    preview.changed = (kind) => this.send(kind);
    this.muted = false;
    this.cameraOff = false;
    const { audio, video } = media.tracks;
    const path = api.path("whip", name);
    this.whip = new WhipConnection(api, path, { audio, video }, {
      changed: () => this.show(),
      isTaken: () => Boolean(this.me?.live),
    });
    find("own-microphone").onclick = () => this.mute(!this.muted);
    find("own-camera").onclick = () => this.switchCamera(this.cameraOff);
    find("speaker-again").onclick = () => this.whip.again();
    if (app.may("listen")) {
      this.stage = new Stage(api, mixer, { empty: "Nobody else speaks here yet." });
      this.listening = new Listening(mixer, {
        language,
        chose: (code) => {
          remember({ language: code });
          if (this.state) this.update(this.state);
        },
      });
    }
    this.show();
  }

  get title() {
    return "Speaking";
  }

  send(kind) {
    const track = this.app.media.tracks[kind];
    if (kind === "audio" && track) track.enabled = !this.muted;
    this.whip.replace(kind, track);
    if (kind === "video" && track) this.cameraOff = false;
    this.show();
  }

  mute(muted) {
    this.muted = muted;
    const { audio } = this.app.media.tracks;
    if (audio) audio.enabled = !muted;
    this.show();
  }

  async switchCamera(on) {
    this.cameraOff = !on;
    if (on) await this.app.media.open(["video"]);
    else this.app.media.close("video");
    this.show();
  }

  update(state) {
    this.state = state;
    const me = state.speakers.find(({ name }) => name === this.name);
    this.me = me;
    showAudience(find("audience"), audience(me ?? { languages: [] }));
    this.app.troubles.tell("speaker", me?.trouble);
    this.stage?.update(
      state.speakers.filter(({ name }) => name !== this.name),
      this.listening.language,
    );
    this.listening?.update(state);
    this.show();
  }

  show() {
    const { whip, me } = this;
    const onAir = whip.phase === "connected";
    const chip = find("on-air");
    chip.dataset.state = onAir ? "live" : whip.phase === "refused" ? "off" : "waiting";
    setText(chip, onAir ? "On air" : (ON_AIR[whip.phase] ?? "Connecting…"));
    const notice = find("speaker-notice");
    let said = "";
    if (!onAir && whip.sentence && whip.phase !== "connecting") said = whip.sentence;
    else if (me?.muted) said = "The host has muted you: nobody hears you now.";
    else if (me && !me.lip_sync) {
      said = "The host has switched lip-sync off: everybody sees your real lips.";
    }
    setText(notice, said);
    notice.hidden = !said;
    find("speaker-again").hidden = whip.phase !== "refused";
    showToggle(
      find("own-microphone"),
      !this.muted,
      ["mic", "Mute"],
      ["mic-off", "Unmute"],
    );
    showToggle(
      find("own-camera"),
      !this.cameraOff,
      ["camera", "Camera off"],
      ["camera-off", "Camera on"],
    );
    this.app.preview.say(
      this.cameraOff ? "Your camera is off; a still card is shown instead." : "No picture.",
    );
  }

  tick(now) {
    this.whip.tick(now);
    this.stage?.tick(now);
  }

  quickTick() {
    this.app.preview.quickTick();
  }

  cards() {
    const own = { key: "/own", title: "You, sent", rows: measurements(this.whip) };
    return [own, ...(this.stage?.cards() ?? [])];
  }

  leave() {
    this.whip.stop();
    this.stage?.leave();
    this.listening?.leave();
    this.app.preview.changed = () => {};
    this.app.troubles.tell("speaker");
    this.panel.hidden = true;
  }
}

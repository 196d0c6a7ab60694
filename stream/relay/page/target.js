// Where target audio comes from: a microphone, or an audio file that is played into the room.

import { fromTemplate, label, setText } from "./dom.js";
import { DeviceMenu, OwnMedia } from "./devices.js";
import { LevelMeter } from "./mixer.js";
import { meterShare } from "./policy.js";
import { clockText } from "./text.js";

const LARGEST_FILE = 60 << 20; // bytes; the decoded sound is about ten times as large

/** An audio file as a track: it goes on, silently, while nothing is played. */
class FileSource {
  constructor(context) {
    this.context = context;
    this.destination = context.createMediaStreamDestination();
    [this.track] = this.destination.stream.getAudioTracks();
    this.buffer = null;
    this.node = null;
    this.startedAt = 0; // of the context's clock, for position 0
    this.heldAt = 0; // the position while nothing is played
    this.loop = true;
  }

  /** Load a file; a sentence where it can't be played, "" where it can. */
  async load(file) {
    if (file.size > LARGEST_FILE) return "The file is larger than 60 MB: choose a shorter one.";
    let buffer;
    try {
      buffer = await this.context.decodeAudioData(await file.arrayBuffer());
    } catch {
      return "The browser can’t read this file: choose a WAV, MP3, Ogg or M4A file.";
    }
    this.pause();
    this.heldAt = 0;
    this.buffer = buffer;
    return "";
  }

  get playing() {
    return this.node !== null;
  }

  get length() {
    return this.buffer?.duration ?? 0;
  }

  get position() {
    if (!this.playing) return this.heldAt;
    const at = this.context.currentTime - this.startedAt;
    return this.loop ? at % this.length : Math.min(at, this.length);
  }

  play() {
    if (!this.buffer || this.playing) return;
    const node = this.context.createBufferSource();
    node.buffer = this.buffer;
    node.loop = this.loop;
    node.connect(this.destination);
    node.onended = () => {
      if (this.node !== node) return;
      this.node = null;
      this.heldAt = 0;
    };
    this.node = node;
    this.startedAt = this.context.currentTime - this.heldAt;
    node.start(0, this.heldAt);
  }

  pause() {
    if (!this.playing) return;
    this.heldAt = this.position;
    const { node } = this;
    this.node = null;
    node.stop();
    node.disconnect();
  }

  seek(seconds) {
    const playing = this.playing;
    this.pause();
    this.heldAt = Math.min(seconds, this.length);
    if (playing) this.play();
  }

  setLoop(loop) {
    const playing = this.playing;
    this.pause();
    this.loop = loop;
    if (playing) this.play();
  }
}

/** The controls of a target audio source; `changed(track)` whenever another track is to be sent. */
export class TargetSource {
  constructor({ mixer, media, begin, changed }) {
    this.mixer = mixer;
    this.changed = changed;
    this.node = fromTemplate("target-template");
    this.file = new FileSource(mixer.context);
    this.own = media ?? new OwnMedia();
    this.own.changed = () => this.microphoneChanged();
    this.meter = new LevelMeter(mixer.context, this.part("bar"));
    this.kind = begin;
    this.sent = null;
    this.trouble = "";
    this.build();
    this.choose(begin);
  }

  part(name) {
    return this.node.querySelector(`.${name}`);
  }

  build() {
    for (const input of this.node.querySelectorAll("[name=target-kind]")) {
      input.checked = input.value === this.kind;
      input.addEventListener("change", () => this.choose(input.value));
    }
    this.menu = new DeviceMenu(this.part("target-microphone"), "audio", (id) =>
      this.own.choose("audio", id),
    );
    this.part("file").addEventListener("change", ({ target }) => this.load(target.files[0]));
    this.part("play").addEventListener("click", async () => {
      if (this.file.playing) {
        this.file.pause();
      } else {
        await this.mixer.context.resume().catch(() => {});
        this.file.play();
      }
      this.show();
    });
    this.part("loop").addEventListener("change", ({ target }) => this.file.setLoop(target.checked));
    this.part("seek").addEventListener("input", ({ target }) => {
      this.file.seek(Number(target.value));
      this.show();
    });
  }

  async choose(kind) {
    this.kind = kind;
    this.part("of-microphone").hidden = kind !== "microphone";
    this.part("of-file").hidden = kind !== "file";
    if (kind === "microphone") {
      await this.own.open(["audio"]);
      this.microphoneChanged();
    } else {
      this.own.close("audio");
      this.send();
    }
  }

  async load(file) {
    if (!file) return;
    this.trouble = "";
    setText(this.part("file-name"), `Reading ${file.name}…`);
    this.trouble = await this.file.load(file);
    setText(this.part("file-name"), this.trouble ? "" : file.name);
    this.part("seek").max = String(Math.max(0.1, this.file.length));
    this.show();
  }

  microphoneChanged() {
    this.menu.refresh(this.own.tracks.audio ?? "");
    this.send();
  }

  get track() {
    return this.kind === "file" ? this.file.track : this.own.tracks.audio;
  }

  send() {
    const { track } = this;
    if (track !== this.sent) {
      this.sent = track;
      this.meter.follow(track);
      this.changed(track);
    }
    this.show();
  }

  /** Ten times a second. */
  show() {
    const { file } = this;
    this.meter.show(meterShare(this.meter.level));
    const trouble = this.kind === "microphone" ? this.own.troubles.audio : this.trouble;
    setText(this.part("target-trouble"), trouble);
    this.part("target-trouble").hidden = !trouble;
    const play = this.part("play");
    play.disabled = !file.buffer;
    label(play, file.playing ? "pause" : "play", file.playing ? "Pause" : "Play");
    const seek = this.part("seek");
    seek.disabled = !file.buffer;
    if (document.activeElement !== seek || file.playing) seek.value = String(file.position);
    const text = `${clockText(file.position)} of ${clockText(file.length)}`;
    seek.setAttribute("aria-valuetext", text);
    setText(this.part("time"), file.buffer ? text : "");
  }

  leave() {
    this.file.pause();
    this.own.closeAll();
    this.meter.follow(null);
  }
}

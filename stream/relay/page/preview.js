// The user's own picture and level, with the menus of devices: in the lobby and while speaking.

import { find, label, setText } from "./dom.js";
import { DeviceMenu } from "./devices.js";
import { LevelMeter } from "./mixer.js";
import { meterShare } from "./policy.js";

export class Preview {
  /** `heard()` is told when tracks change. */
  constructor(mixer, media, changed = () => {}) {
    this.mixer = mixer;
    this.media = media;
    this.changed = changed;
    this.video = find("preview").querySelector("video");
    this.meter = new LevelMeter(mixer.context, find("own-level"));
    this.menus = {
      video: new DeviceMenu(find("camera"), "video", (id) => media.choose("video", id)),
      audio: new DeviceMenu(find("microphone"), "audio", (id) => media.choose("audio", id)),
    };
    this.loudspeakers = new DeviceMenu(find("loudspeaker"), "output", (id) =>
      mixer.useLoudspeaker(id),
    );
    find("loudspeaker-field").hidden = !mixer.context.setSinkId;
    const echo = find("echo");
    echo.checked = media.echoCancellation;
    echo.addEventListener("change", () => media.setEchoCancellation(echo.checked));
    media.changed = (kind) => this.take(kind);
  }

  /** Which of ["video", "audio"] there is to see and to choose. */
  offer(kinds) {
    find("camera-field").hidden = !kinds.includes("video");
    find("preview").hidden = !kinds.includes("video");
  }

  take(kind) {
    const { media } = this;
    const track = media.tracks[kind];
    this.menus[kind].refresh(track ?? media.chosen[kind]);
    this.loudspeakers.refresh();
    if (kind === "audio") {
      this.meter.follow(track);
      this.mixer.context.resume().catch(() => {}); // allowed while a microphone is in use
    } else {
      this.video.srcObject = track ? new MediaStream([track]) : null;
      find("preview").classList.toggle("playing", Boolean(track));
      if (track) this.video.play().catch(() => {});
    }
    const trouble = find("device-trouble");
    const sentences = Object.values(media.troubles).filter(Boolean);
    setText(trouble, sentences.join(" "));
    trouble.hidden = sentences.length === 0;
    this.changed(kind);
  }

  /** Say in the picture's place why there is none. */
  say(sentence) {
    setText(find("preview").querySelector(".blank"), sentence);
  }

  quickTick() {
    this.meter.show(meterShare(this.meter.level));
  }

  /** Put picture, level and menus somewhere else in the page. */
  moveTo(place) {
    place.append(find("own-media"));
    find("device-choices").open = place === find("lobby-media");
  }

  stop() {
    this.meter.follow(null);
    this.video.srcObject = null;
  }
}

/** A button that switches something on and off; its text says what a click does. */
export function showToggle(button, on, [signOn, textOn], [signOff, textOff]) {
  label(button, on ? signOn : signOff, on ? textOn : textOff);
  button.dataset.on = String(on);
}

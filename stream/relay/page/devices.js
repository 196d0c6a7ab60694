// Cameras, microphones and loudspeakers: chosen, opened, lost and chosen again.

import { element, forBrowser, memory } from "./dom.js";

const CAMERA = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 25, max: 30 } };
const KINDS = { video: "videoinput", audio: "audioinput", output: "audiooutput" };
const WORDS = { video: "camera", audio: "microphone", output: "loudspeaker" };

/** Why a device could not be opened, and what to do. */
function deviceSentence(kind, error) {
  const word = WORDS[kind];
  switch (error?.name) {
    case "NotAllowedError":
      return (
        `The browser may not use the ${word}: allow it beside the address, then choose it again.`
      );
    case "NotFoundError":
      return `No ${word} was found: plug one in, then choose it.`;
    case "NotReadableError":
    case "AbortError":
      return (
        `The ${word} can’t be opened; another program may be using it.` +
        " Close that, or choose another."
      );
    case "OverconstrainedError":
      return `That ${word} is no longer there: choose another.`;
    default:
      return `The ${word} can’t be opened: choose another.`;
  }
}

const unplugged = (kind) =>
  `The ${WORDS[kind]} is gone: it was unplugged or taken away. Choose another to go on.`;

/** What `getUserMedia` is asked for. */
function constraintsFor(kind, id, echoCancellation) {
  const device = id ? { deviceId: { exact: id } } : {};
  if (kind === "video") return { ...CAMERA, facingMode: "user", ...device };
  return { echoCancellation, noiseSuppression: true, autoGainControl: true, ...device };
}

/** The user's own camera and microphone. */
export class OwnMedia {
  /** `changed(kind)`: another track, or another sentence of trouble. */
  constructor(changed = () => {}) {
    this.changed = changed;
    this.tracks = { video: null, audio: null };
    this.troubles = { video: "", audio: "" };
    this.chosen = {
      video: memory.read(forBrowser, "camera", ""),
      audio: memory.read(forBrowser, "microphone", ""),
    };
    this.echoCancellation = memory.read(forBrowser, "echo", true);
    this.turns = { video: 0, audio: 0 };
  }

  /** Open what of ["video", "audio"] is not open yet; one question of the browser for both. */
  async open(kinds) {
    const missing = kinds.filter((kind) => !this.tracks[kind]);
    if (missing.length === 2 && (await this.request(missing))) return;
    for (const kind of missing) await this.request([kind]);
  }

  /** Use another device; "" is the browser's own choice. */
  async choose(kind, id) {
    this.chosen[kind] = id;
    memory.write(forBrowser, kind === "video" ? "camera" : "microphone", id);
    await this.request([kind]);
  }

  /** Take over another's open track, which goes on without a gap. */
  adopt(other, kind) {
    const track = other.tracks[kind];
    if (!track) return;
    other.tracks[kind] = null;
    this.chosen[kind] = other.chosen[kind];
    this.take(kind, track, "");
    other.changed(kind);
  }

  async setEchoCancellation(on) {
    this.echoCancellation = on;
    memory.write(forBrowser, "echo", on);
    if (this.tracks.audio) await this.request(["audio"]);
  }

  async request(kinds) {
    const turns = kinds.map((kind) => (this.turns[kind] += 1));
    const current = (n) => this.turns[kinds[n]] === turns[n];
    if (!navigator.mediaDevices?.getUserMedia) {
      for (const kind of kinds) {
        this.take(kind, null, "Browsers give cameras and microphones only to https addresses.");
      }
      return true;
    }
    // A device that is opened anew may not be in use by ourselves, and phones have one camera.
    for (const kind of kinds) this.release(kind);
    const asked = kinds.map((kind) => [
      kind,
      constraintsFor(kind, this.chosen[kind], this.echoCancellation),
    ]);
    try {
      const stream = await navigator.mediaDevices.getUserMedia(Object.fromEntries(asked));
      kinds.forEach((kind, n) => {
        const track = stream.getTracks().find((one) => one.kind === kind) ?? null;
        if (current(n)) this.take(kind, track, "");
        else track?.stop(); // another was chosen meanwhile
      });
      return true;
    } catch (error) {
      const [kind] = kinds;
      if (error.name === "OverconstrainedError" && this.chosen[kind] && kinds.length === 1) {
        this.chosen[kind] = ""; // remembered from another day
        return this.request(kinds);
      }
      if (kinds.length === 1 && current(0)) this.take(kind, null, deviceSentence(kind, error));
      return false;
    }
  }

  take(kind, track, trouble) {
    this.tracks[kind] = track;
    this.troubles[kind] = trouble;
    if (track) {
      if (kind === "video") track.contentHint = "motion";
      track.onended = () => {
        if (this.tracks[kind] === track) this.take(kind, null, unplugged(kind));
      };
    }
    this.changed(kind);
  }

  release(kind) {
    const track = this.tracks[kind];
    if (!track) return;
    track.onended = null;
    track.stop();
    this.tracks[kind] = null;
  }

  /** Switch a device off; its light goes out. */
  close(kind) {
    this.turns[kind] += 1;
    this.release(kind);
    this.take(kind, null, "");
  }

  closeAll() {
    this.close("video");
    this.close("audio");
  }
}

/** A menu of the devices of one kind, kept up to date. */
export class DeviceMenu {
  /** `chose(id)` when the user has chosen. */
  constructor(select, kind, chose) {
    this.select = select;
    this.kind = kind;
    this.refresh = this.refresh.bind(this);
    select.addEventListener("change", () => chose(select.value));
    navigator.mediaDevices?.addEventListener("devicechange", this.refresh);
  }

  /** Read the devices; `current`: the track in use, or an id. */
  async refresh(current = null) {
    const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    const known = all.filter((d) => d.kind === KINDS[this.kind] && d.deviceId);
    const options = known.map((device, n) => {
      const option = element("option", "", device.label || `${WORDS[this.kind]} ${n + 1}`);
      option.value = device.deviceId;
      return option;
    });
    const wanted = current?.getSettings?.().deviceId ?? (current?.type ? null : current);
    const before = wanted || this.select.value;
    if (!known.some((device) => device.deviceId === before)) {
      let text = known.length ? `Choose a ${WORDS[this.kind]}…` : "None found";
      if (this.kind === "output") text = "As the system has it";
      const none = element("option", "", text);
      none.value = "";
      options.unshift(none);
    }
    this.select.replaceChildren(...options);
    this.select.value = known.some((device) => device.deviceId === before) ? before : "";
  }
}

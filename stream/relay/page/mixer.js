// All that is heard: the interpretation, and the original underneath, each at a level of its own.

import { forBrowser, memory } from "./dom.js";
import { Pauses, gainOf } from "./policy.js";

const UNDER_DB = -18; // what listeners hear of the original at first
const RAMP_S = 0.06;
const DUCK_S = 0.35;

/** A sum of sounds with a gain; `said` measures before it and `heard` behind it. */
class Bus {
  constructor(context) {
    this.input = context.createGain();
    this.said = context.createAnalyser();
    this.gain = context.createGain();
    this.heard = context.createAnalyser();
    this.input.connect(this.said);
    this.input.connect(this.gain);
    this.gain.connect(this.heard);
    this.heard.connect(context.destination);
  }
}

/** The RMS of what an analyser has last seen, 0..1. */
export function levelOf(analyser) {
  const wave = new Float32Array(analyser.fftSize);
  analyser.getFloatTimeDomainData(wave);
  return Math.sqrt(wave.reduce((sum, value) => sum + value * value, 0) / wave.length);
}

export class Mixer {
  constructor() {
    this.context = new AudioContext({ latencyHint: "interactive" });
    this.buses = { main: new Bus(this.context), under: new Bus(this.context) };
    this.pauses = new Pauses();
    const kept = memory.read(forBrowser, "volume", {});
    this.on = true;
    this.mainDb = kept.mainDb === undefined ? 0 : kept.mainDb;
    this.underDb = kept.underDb === undefined ? UNDER_DB : kept.underDb;
    this.louderInPauses = kept.louderInPauses ?? false;
    this.changed = () => {};
    this.context.onstatechange = () => this.changed();
    this.apply(0);
  }

  /** Whether anything can be heard: browsers start sound only after a click or a key. */
  get sounding() {
    return this.on && this.context.state === "running";
  }

  /** To be called while a click or a key is handled. */
  async turn(on) {
    this.on = on;
    this.apply(RAMP_S);
    if (on) await this.context.resume().catch(() => {});
    this.changed();
  }

  set(name, value) {
    this[name] = value;
    const { mainDb, underDb, louderInPauses } = this;
    memory.write(forBrowser, "volume", { mainDb, underDb, louderInPauses });
    this.apply(RAMP_S);
  }

  /** Follow the pauses of the interpreter; ten times a second is enough. */
  tick(now) {
    const pause = this.pauses.take(now, levelOf(this.buses.main.said));
    if (pause !== this.pause) {
      this.pause = pause;
      this.apply(DUCK_S);
    }
  }

  apply(seconds) {
    const { mainDb, underDb, louderInPauses } = this;
    const under = louderInPauses && this.pause && underDb !== null ? mainDb : underDb;
    this.ramp("main", this.on ? gainOf(mainDb) : 0, seconds);
    this.ramp("under", this.on ? gainOf(under) : 0, seconds);
  }

  ramp(bus, value, seconds) {
    const { gain } = this.buses[bus].gain;
    if (seconds === 0) gain.value = value;
    else gain.setTargetAtTime(value, this.context.currentTime, seconds / 3);
  }

  /** Hear a stream on a bus, "main" or "under"; `move` and `detach` end that. */
  attach(stream, bus) {
    const source = this.context.createMediaStreamSource(stream);
    source.connect(this.buses[bus].input);
    return {
      move: (other) => {
        source.disconnect();
        source.connect(this.buses[other].input);
      },
      detach: () => source.disconnect(),
    };
  }

  /** Play through another loudspeaker, where the browser can. */
  async useLoudspeaker(id) {
    if (this.context.setSinkId) await this.context.setSinkId(id).catch(() => {});
  }
}

/** Follows a track's level and shows it on a bar with the role of a meter. */
export class LevelMeter {
  constructor(context, bar) {
    this.context = context;
    this.bar = bar;
    this.analyser = context.createAnalyser();
    this.source = null;
  }

  follow(track) {
    this.source?.disconnect();
    this.source = null;
    if (!track) return;
    this.source = this.context.createMediaStreamSource(new MediaStream([track]));
    this.source.connect(this.analyser);
  }

  /** Show the level as it is now. */
  show(share) {
    this.bar.firstElementChild.style.width = `${Math.round(100 * share)}%`;
    this.bar.setAttribute("aria-valuenow", Math.round(100 * share));
  }

  get level() {
    return this.source ? levelOf(this.analyser) : 0;
  }
}

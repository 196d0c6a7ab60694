// One WebRTC connection of WHIP or WHEP that comes back by itself.

import { sentenceOf } from "./api.js";
import { isTellable, sdpFragment } from "./ice.js";
import { Readings, readStats } from "./meters.js";
import { Backoff, Progress, afterStatus } from "./policy.js";

const CONNECT_MS = 15_000; // from the answer until media may flow
const DISCONNECTED_MS = 3000; // a gap this long can heal by itself
const HEALTHY_MS = 5000; // after this long the next failure begins with short waits again
const STATS_MS = 1000;
const TRICKLE_MS = 150;
const NEWS_MS = 1200; // within this time the state tells who sends
const LOST = "The connection was lost; connecting again…";
const TAKEN = "Somebody else, or you in another window, now sends under this name.";

/**
 * The common part of WHIP and WHEP. `tick` has to be called twice a second.
 *
 * phase: "idle", "waiting" (there is nothing to connect to yet), "connecting", "connected",
 * "lost" (another attempt follows), "refused" (only the user can help) or "stopped".
 */
export class MediaConnection {
  constructor(api, path, progressLimits, changed = () => {}) {
    this.api = api;
    this.path = path;
    this.progressLimits = progressLimits;
    this.changed = changed;
    this.phase = "idle";
    this.sentence = "";
    this.backoff = new Backoff();
    this.notBefore = 0;
    this.attempt = null;
    this.resource = null;
    this.readings = new Readings();
    this.hurry = () => {
      this.notBefore = 0;
    };
    window.addEventListener("online", this.hurry);
  }

  // For WHIP and WHEP to fill in

  /** Add what is sent or received, before the offer is made. */
  prepare(connection) {}

  /** The connection is up. */
  connected(connection) {}

  /** The connection is no more. */
  gone() {}

  /** Whether somebody else has our place, who sends. */
  isTaken() {
    return false;
  }

  /** What has to grow while all is well; null where it can't be told. */
  progressOf(stats) {
    return null;
  }

  // For everybody

  /** `live`: whether the server has something to connect to. */
  tick(now, live = true) {
    if (this.phase === "stopped" || this.phase === "refused") return;
    if (this.attempt) this.watch(now, live);
    else if (!live) this.set("waiting", "");
    else if (now >= this.notBefore) this.start();
  }

  /** Try once more what was refused. */
  again() {
    this.notBefore = 0;
    if (this.phase === "refused") this.set("idle", "");
  }

  stop() {
    if (this.phase === "stopped") return;
    this.set("stopped", "");
    window.removeEventListener("online", this.hurry);
    this.close();
    // Without waiting; the page may be closing.
    if (this.resource) {
      const request = { method: "DELETE", keepalive: true };
      this.api.ask(this.resource, request).catch(() => {});
      this.resource = null;
    }
  }

  // Inside

  set(phase, sentence) {
    const news = phase !== this.phase || sentence !== this.sentence;
    this.phase = phase;
    this.sentence = sentence;
    if (news) this.changed();
  }

  async start() {
    const attempt = { abort: new AbortController(), connection: null, progress: null };
    attempt.candidates = [];
    this.attempt = attempt;
    this.set("connecting", "Connecting…");
    try {
      if ((await this.release()) && (await this.seesOther())) {
        if (this.attempt === attempt) this.giveUp(TAKEN);
        return;
      }
      const iceServers = await this.api.iceServers();
      if (this.attempt !== attempt) return;
      const connection = new RTCPeerConnection({ iceServers, bundlePolicy: "max-bundle" });
      attempt.connection = connection;
      connection.onconnectionstatechange = () => this.stateChanged(attempt);
      connection.onicecandidate = ({ candidate }) => this.collect(attempt, candidate);
      this.prepare(connection);
      await connection.setLocalDescription();
      const offer = connection.localDescription.sdp;
      const answer = await this.api.offer(this.path, offer, attempt.abort.signal);
      if (this.attempt !== attempt) {
        this.api.ask(answer.resource, { method: "DELETE" }).catch(() => {});
        return;
      }
      this.resource = answer.resource;
      await connection.setRemoteDescription({ type: "answer", sdp: answer.sdp });
      this.listenForEnd(attempt);
      attempt.answer = { ...answer, offer };
      attempt.answeredAt = performance.now();
      this.trickle(attempt);
    } catch (error) {
      if (this.attempt === attempt) this.failed(error);
    }
  }

  /** End the session of before on the server; true where the server had ended it already. */
  async release() {
    if (!this.resource) return false;
    let status = 200;
    try {
      await this.api.ask(this.resource, { method: "DELETE" });
    } catch (error) {
      if (!error.status) throw error; // the network; any answer will do
      status = error.status;
    }
    this.resource = null;
    return status === 404;
  }

  /** Two who take turns in throwing each other out would never end: the later one stays. */
  async seesOther() {
    await new Promise((done) => setTimeout(done, NEWS_MS));
    return this.isTaken();
  }

  /** Notice at once that the server has hung up; the connection's state tells it seconds later. */
  listenForEnd(attempt) {
    const [{ sender, receiver }] = attempt.connection.getTransceivers();
    const transport = receiver.transport ?? sender.transport;
    transport?.addEventListener("statechange", () => {
      if (this.attempt === attempt && transport.state === "closed") this.lost(LOST);
    });
  }

  stateChanged(attempt) {
    if (this.attempt !== attempt) return;
    const state = attempt.connection.connectionState;
    if (state === "connected") {
      attempt.connectedAt ??= performance.now();
      attempt.disconnectedAt = null;
      attempt.progress ??= new Progress(performance.now(), this.progressLimits);
      this.set("connected", "");
      this.connected(attempt.connection);
    } else if (state === "disconnected") {
      attempt.disconnectedAt = performance.now();
    } else if (state === "failed" || state === "closed") {
      this.lost(LOST);
    }
  }

  watch(now, live) {
    const attempt = this.attempt;
    if (attempt.answeredAt && !attempt.connectedAt && now - attempt.answeredAt > CONNECT_MS) {
      this.lost("The network lets no pictures through; trying again…");
    } else if (attempt.disconnectedAt && now - attempt.disconnectedAt > DISCONNECTED_MS) {
      this.lost(LOST);
    } else if (attempt.connectedAt) {
      if (now - attempt.connectedAt > HEALTHY_MS) this.backoff.reset();
      this.measure(attempt, now, live);
    }
  }

  async measure(attempt, now, live) {
    if (attempt.measuring || now - (attempt.measuredAt ?? 0) < STATS_MS / 2) return;
    attempt.measuring = true;
    attempt.measuredAt = now;
    const report = await attempt.connection.getStats().catch(() => null); // closed meanwhile
    attempt.measuring = false;
    if (this.attempt !== attempt || !report) return;
    const stats = readStats(report);
    this.readings.take(stats);
    const count = this.progressOf(stats);
    const excused = !live || document.hidden || count === null;
    if (attempt.progress.frozen(now, count ?? 0, excused)) {
      this.lost("The picture stands still; connecting again…");
    }
  }

  /** Tell the server our addresses as they are found; it can do without. */
  collect(attempt, candidate) {
    if (!isTellable(candidate?.candidate)) return;
    attempt.candidates.push(candidate);
    this.trickle(attempt);
  }

  trickle(attempt) {
    if (!attempt.answer?.etag || !attempt.candidates.length || attempt.telling) return;
    attempt.telling = setTimeout(() => {
      attempt.telling = null;
      const { resource, etag, offer } = attempt.answer;
      const body = sdpFragment(offer, attempt.candidates.splice(0));
      if (this.attempt !== attempt || !body) return;
      const headers = {
        "Content-Type": "application/trickle-ice-sdpfrag",
        "If-Match": etag,
      };
      this.api.ask(resource, { method: "PATCH", headers, body }).catch(() => {});
    }, TRICKLE_MS);
  }

  failed(error) {
    this.close();
    const after = error.status ? afterStatus(error.status) : "retry";
    const wait = error.retryAfterMs ?? this.backoff.take();
    this.notBefore = performance.now() + wait;
    if (after === "stop") this.set("refused", sentenceOf(error));
    else this.set(after === "wait" ? "waiting" : "lost", sentenceOf(error));
  }

  giveUp(sentence) {
    this.close();
    this.set("refused", sentence);
  }

  lost(sentence) {
    this.close();
    this.notBefore = performance.now() + this.backoff.take();
    this.set("lost", sentence);
  }

  close() {
    const attempt = this.attempt;
    if (!attempt) return;
    this.attempt = null;
    attempt.abort.abort();
    attempt.connection?.close();
    this.readings.clear();
    this.gone();
  }
}

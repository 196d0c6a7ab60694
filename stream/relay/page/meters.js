// What the browser measures of a connection, and the panel that shows it beside the server's own.

import { element, items, setText } from "./dom.js";
import { GATES, REASONS, skewText, syncText, whole } from "./text.js";

const WINDOW = 5; // readings over which rates are taken

/** An RTCStatsReport, or any Map of stats, as the few numbers that are used here. */
export function readStats(report) {
  const all = [...report.values()];
  const codecs = new Map(all.filter((s) => s.type === "codec").map((s) => [s.id, s.mimeType]));
  const codec = (s) => (codecs.get(s.codecId) ?? "").replace(/^\w+\//, "").replace("opus", "Opus");
  const found = { at: 0, received: {}, sent: {}, rttMs: null, heardBytes: null };
  for (const s of all) {
    found.at = Math.max(found.at, s.timestamp ?? 0);
    if (s.type === "inbound-rtp") {
      found.received[s.kind] = {
        packets: s.packetsReceived ?? 0,
        lost: Math.max(0, s.packetsLost ?? 0),
        bytes: s.bytesReceived ?? 0,
        frames: s.framesDecoded ?? 0,
        size: s.frameWidth ? `${s.frameWidth}×${s.frameHeight}` : "",
        codec: codec(s),
      };
    } else if (s.type === "outbound-rtp" && s.active !== false) {
      found.sent[s.kind] = {
        packets: s.packetsSent ?? 0,
        bytes: s.bytesSent ?? 0,
        frames: s.framesEncoded ?? 0,
        size: s.frameWidth ? `${s.frameWidth}×${s.frameHeight}` : "",
        codec: codec(s),
        limit: s.qualityLimitationReason ?? "none",
      };
    } else if (s.type === "remote-inbound-rtp") {
      found.lostShare = Math.max(found.lostShare ?? 0, s.fractionLost ?? 0);
      if (typeof s.roundTripTime === "number") found.rttMs ??= 1000 * s.roundTripTime;
    } else if (s.type === "candidate-pair" && s.nominated && s.state === "succeeded") {
      if (typeof s.currentRoundTripTime === "number") found.rttMs = 1000 * s.currentRoundTripTime;
    } else if (s.type === "transport" && typeof s.bytesReceived === "number") {
      found.heardBytes = s.bytesReceived;
    }
  }
  return found;
}

/** The readings of the last seconds, and the rates between them. */
export class Readings {
  constructor() {
    this.clear();
  }

  clear() {
    this.all = [];
  }

  take(stats) {
    this.all = [...this.all, stats].slice(-WINDOW);
  }

  /** {fps, kbps, lossPercent, rttMs, size, codec, limit}; null where nothing is known yet. */
  rates() {
    const [first, last] = [this.all[0], this.all.at(-1)];
    const seconds = last ? (last.at - first.at) / 1000 : 0;
    if (seconds <= 0) return null;
    const direction = Object.keys(last.sent).length ? "sent" : "received";
    const [before, now] = [first[direction], last[direction]];
    const kinds = Object.keys(now);
    const grown = (name) =>
      kinds.reduce((sum, kind) => sum + now[kind][name] - (before[kind]?.[name] ?? 0), 0);
    const main = now.video ?? now.audio;
    let lossPercent = null;
    if (direction === "sent") {
      if (last.lostShare !== undefined) lossPercent = 100 * last.lostShare;
    } else {
      const lost = Math.max(0, grown("lost"));
      const all = lost + Math.max(0, grown("packets"));
      if (all > 0) lossPercent = (100 * lost) / all;
    }
    return {
      fps: now.video ? (now.video.frames - (before.video?.frames ?? 0)) / seconds : null,
      kbps: (8 * grown("bytes")) / seconds / 1000,
      lossPercent,
      rttMs: last.rttMs,
      size: main?.size ?? "",
      codec: kinds.map((kind) => now[kind].codec).filter(Boolean).join(", "),
      limit: main?.limit ?? "none",
    };
  }
}

const PHASES = {
  idle: "Not connected",
  waiting: "Waiting for the source",
  connecting: "Connecting",
  connected: "Connected",
  lost: "Reconnecting",
  refused: "Refused",
  stopped: "Ended",
};

const LIMITS = {
  cpu: "this device is too slow for the full picture",
  bandwidth: "the network is too slow for the full picture",
};

/** One connection's measurements as [name, text] pairs; `server` is the line in the state. */
export function measurements(connection, server) {
  const rates = connection.readings.rates();
  const rows = [["Connection", connection.sentence || PHASES[connection.phase]]];
  const add = (name, text) => rows.push([name, text]);
  const isPicture = typeof rates?.fps === "number";
  if (isPicture) add("Pictures a second", rates.fps.toFixed(1));
  if (server) {
    const delay = server.added_delay_ms;
    if (delay !== undefined) add("Added delay", whole(delay, " ms"));
    if (server.skew_ms !== undefined) add("Sound against picture", skewText(server.skew_ms));
    if (server.sync) add("Lips to speech", syncText(server.sync));
    if (server.gate !== undefined) add("Lips", GATES[server.gate] ?? "–");
    const reason = server.passthrough_reason;
    if (reason) add("Lips unchanged because", REASONS[reason] ?? reason);
    if (server.trouble) add("Trouble", server.trouble);
  }
  if (!rates) return rows;
  add("Round trip", whole(rates.rttMs, " ms"));
  add("Lost packets", rates.lossPercent === null ? "–" : `${rates.lossPercent.toFixed(1)} %`);
  add("Rate", whole(rates.kbps, " kbit/s"));
  if (isPicture) add("Picture size", rates.size || "–");
  add("Codec", rates.codec || "–");
  if (LIMITS[rates.limit]) add("Held back because", LIMITS[rates.limit]);
  return rows;
}

/** Show cards of measurements: [{key, title, rows}]. */
export function showMeters(list, cards) {
  const made = items(list, cards.map(({ key }) => key), () => {
    const card = element("li", "card");
    card.append(element("h3", ""), element("dl", "readings"));
    return card;
  });
  made.forEach((card, n) => {
    const { title, rows } = cards[n];
    setText(card.querySelector("h3"), title);
    const pairs = items(card.querySelector("dl"), rows.map(([name]) => name), (name) => {
      const pair = element("div", "");
      pair.append(element("dt", "", name), element("dd", ""));
      return pair;
    });
    pairs.forEach((pair, k) => setText(pair.lastElementChild, rows[k][1]));
  });
}

// Sending: a camera and a microphone, or a voice alone.

import { MediaConnection } from "./connection.js";

const LIMITS = { firstMs: 12_000, laterMs: 8000 }; // the server reports about once a second
const MOST_BITS = 1_500_000; // 640×480 needs no more

export class WhipConnection extends MediaConnection {
  /** `tracks`: {audio, video} or {audio}; null stands for a track that comes later. */
  constructor(api, path, tracks, { changed, isTaken }) {
    super(api, path, LIMITS, changed);
    this.tracks = tracks;
    this.isTaken = isTaken; // whether the state says that somebody sends here
    this.senders = {};
  }

  /** Send another track, or (null) none, without a new connection. */
  async replace(kind, track) {
    this.tracks[kind] = track;
    await this.senders[kind]?.replaceTrack(track).catch(() => {});
  }

  prepare(connection) {
    const stream = new MediaStream();
    for (const [kind, track] of Object.entries(this.tracks)) {
      const transceiver = connection.addTransceiver(kind, {
        direction: "sendonly",
        streams: [stream],
        sendEncodings: kind === "video" ? [{ maxBitrate: MOST_BITS }] : [{}],
      });
      this.senders[kind] = transceiver.sender;
      if (track) transceiver.sender.replaceTrack(track).catch(() => {});
    }
  }

  gone() {
    this.senders = {};
  }

  progressOf({ heardBytes }) {
    return heardBytes;
  }
}

// Receiving: one of the relay's pictures with its sound, or the sound alone.

import { MediaConnection } from "./connection.js";

const LIMITS = { firstMs: 8000, laterMs: 4000 };

export class WhepConnection extends MediaConnection {
  /** `took(stream)` when media begin to come, `took(null)` when they have ended. */
  constructor(api, path, { video, took, changed }) {
    super(api, path, LIMITS, changed);
    this.video = video;
    this.took = took;
  }

  prepare(connection) {
    const stream = new MediaStream();
    const kinds = this.video ? ["video", "audio"] : ["audio"];
    connection.ontrack = ({ track }) => {
      stream.addTrack(track);
      if (stream.getTracks().length === kinds.length) this.took(stream);
    };
    for (const kind of kinds) connection.addTransceiver(kind, { direction: "recvonly" });
  }

  gone() {
    this.took(null);
  }

  progressOf({ received }) {
    return (this.video ? received.video?.frames : received.audio?.packets) ?? 0;
  }
}

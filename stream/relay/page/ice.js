// Pure parts of WHIP and WHEP (RFC 9725): ICE servers in Link headers, and trickled candidates.

/** The ICE servers in a Link header, as RTCPeerConnection takes them. */
export function iceServersIn(header) {
  if (!header) return [];
  return header
    .split(/,\s*(?=<)/)
    .map((link) => {
      const url = /^\s*<((?:stun|turn)s?:[^>]+)>/i.exec(link)?.[1];
      if (!url || !/;\s*rel="?ice-server"?/i.test(link)) return null;
      const value = (name) =>
        new RegExp(`;\\s*${name}=(?:"((?:[^"\\\\]|\\\\.)*)"|([^;,\\s]+))`, "i").exec(link);
      const server = { urls: url };
      for (const name of ["username", "credential"]) {
        const found = value(name);
        if (found) server[name] = found[1]?.replace(/\\(.)/g, "$1") ?? found[2];
      }
      return server;
    })
    .filter(Boolean);
}

const NEAR = /(\.local$)|^(127\.|169\.254\.|::1$|fe80:)/i;

/** Whether a candidate is worth telling: names and addresses of this one network are not. */
export function isTellable(candidate) {
  const address = candidate?.split(" ")[4];
  return Boolean(address) && !NEAR.test(address);
}

/** Candidates as an SDP fragment, for PATCH; null where the offer has no ICE user. */
export function sdpFragment(offer, candidates) {
  const line = (start) => offer.split(/\r?\n/).find((text) => text.startsWith(start));
  const [user, password, media] = ["a=ice-ufrag:", "a=ice-pwd:", "m="].map(line);
  if (!user || !password || !media) return null;
  const mid = candidates[0]?.sdpMid ?? line("a=mid:")?.slice(6) ?? "0";
  const lines = candidates.map(({ candidate }) => `a=${candidate}`);
  return `${[user, password, media, `a=mid:${mid}`, ...lines].join("\r\n")}\r\n`;
}

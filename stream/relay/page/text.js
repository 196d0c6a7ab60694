// The words of the page, and the names it understands. Nothing here touches the document.

const ROOM = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;
const NO_ROOMS = ["api", "favicon", "healthz", "metrics", "resource", "whep", "whip"];
const LANGUAGE = /^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}$/;

/** The interpreters of the whole floor stand where a speaker's name stands. */
export const FLOOR = "floor";

/** Offered first where a language is asked for; any other code can be typed. */
export const LANGUAGES = [
  "ar", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "ga", "he",
  "hi", "hr", "hu", "id", "it", "ja", "ko", "lt", "lv", "mt", "nl", "no", "pl", "pt", "pt-BR", "ro",
  "ru", "sk", "sl", "sr", "sv", "sw", "ta", "th", "tr", "uk", "ur", "vi", "zh",
];

export const GATES = {
  real: "Nobody is speaking: the real lips are shown",
  speech: "Speech sounds: the lips follow it",
  closed: "The speaker talks before the interpreter: the lips are kept closed",
};

export const REASONS = {
  off: "lip-sync is switched off",
  quiet: "nobody is speaking",
  late: "the server was too slow",
  engine: "the generator failed",
  turned: "the head is turned away",
  occluded: "something covers the mouth",
  "no-face": "no face is seen",
  "no-identity": "the face is still being learned",
  mismatch: "the painted lips did not match the speech",
};

/** The right that a role needs. */
export const RIGHT_OF = {
  listener: "listen",
  speaker: "publish-speaker",
  interpreter: "publish-language",
};

export const NO_ANSWER = "The server does not answer; trying again…";

/** What to do about a request that is not allowed; the server's own words, where there are any. */
export function refusal(status, said) {
  if (said) return said;
  if (status === 401) {
    return "This room needs a key: open the link that you were sent once more, or ask for one.";
  }
  if (status === 403) return "Your key does not allow this; ask the host for another link.";
  if (status === 410) return "The host has ended this room.";
  return `The server refused (${status}).`;
}

export const isRoom = (text) => ROOM.test(text) && !NO_ROOMS.includes(text);

const names = new Map();

/** A language's name in a language, or its code where nobody knows a name. */
export function languageName(code, inLanguage = "en") {
  try {
    if (!names.has(inLanguage)) {
      names.set(inLanguage, new Intl.DisplayNames([inLanguage], { type: "language" }));
    }
    return names.get(inLanguage).of(code) ?? code;
  } catch {
    return code;
  }
}

/** "German · Deutsch": found by those who read English and by those who speak it. */
export function languageLabel(code) {
  const english = languageName(code);
  const own = languageName(code, code);
  return own.toLowerCase() === english.toLowerCase() || own === code
    ? english
    : `${english} · ${own}`;
}

/** The code of a language that was typed as a code or a name; null where it is neither. */
export function readLanguage(text) {
  const typed = text.trim();
  const wanted = typed.toLowerCase();
  const known = LANGUAGES.find((code) =>
    [languageName(code), languageName(code, code), languageLabel(code)].some(
      (name) => name.toLowerCase() === wanted,
    ),
  );
  if (known) return known;
  if (!LANGUAGE.test(typed)) return null;
  try {
    return Intl.getCanonicalLocales(typed)[0];
  } catch {
    return null;
  }
}

/** A person's name as addresses can carry it: "José María" becomes "Jose_Maria". */
export function addressName(text) {
  const plain = text.normalize("NFKD").replace(/\p{M}/gu, "").replace(/ß/g, "ss");
  const joined = plain.trim().replace(/\s+/g, "_").replace(/[^A-Za-z0-9_-]/g, "");
  const name = joined.replace(/^[_-]+/, "").slice(0, 64);
  return name.toLowerCase() === FLOOR ? "" : name;
}

/** A name as people read it. */
export const shownName = (name) => name.replaceAll("_", " ");

export const people = (count) => (count === 1 ? "1 listener" : `${count} listeners`);

export function decibels(db) {
  if (db === null) return "off";
  return db === 0 ? "0 dB" : `−${Math.abs(db)} dB`;
}

export const whole = (value, unit = "") =>
  typeof value === "number" ? `${Math.round(value)}${unit}` : "–";

/** What the sync monitor says, in words. */
export function syncText(sync) {
  const frames = Math.abs(sync.offset_frames ?? 0);
  const found = {
    good: "fit the speech",
    drifting: `${frames} frames ${sync.offset_frames > 0 ? "early" : "late"}`,
    poor: "match nothing",
  }[sync.state];
  const avsu = typeof sync.avsu === "number" ? ` (AVSu ${sync.avsu.toFixed(2)})` : "";
  return found ? `${found}${avsu}` : "–";
}

/** The skew of a picture and its sound, in words; positive: sound late. */
export function skewText(ms) {
  if (typeof ms !== "number") return "–";
  const size = Math.round(Math.abs(ms));
  if (size === 0) return "0 ms";
  return `${size} ms, sound ${ms > 0 ? "late" : "early"}`;
}

export function clockText(seconds) {
  const full = Math.max(0, Math.floor(seconds));
  return `${Math.floor(full / 60)}:${String(full % 60).padStart(2, "0")}`;
}

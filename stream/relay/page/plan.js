// What a tile shows and hears of one speaker. Pure.

import { languageName, shownName } from "./text.js";

/** A speaker's line in a language, where the state has one. */
export const lineOf = (speaker, language) =>
  language ? speaker.languages.find((line) => line.code === language) : undefined;

/**
 * What to receive of a speaker for a listener.
 *
 * `wish`: {language: code or "" for the original, view: "synced", "original" or "both", underOn};
 * `lineLive`: whether the line of that language was live lately. Returns
 * {screens: of "synced" and "original", synced: bus or null, original: {video, bus} or null, note}.
 */
export function planFor(speaker, wish, lineLive) {
  const name = shownName(speaker.name);
  if (!wish.language || !lineLive) {
    const note = wish.language
      ? `Not interpreted into ${languageName(wish.language)} now: you hear ${name} in the original`
      : "";
    return { screens: ["original"], synced: null, original: { video: true, bus: "main" }, note };
  }
  const video = wish.view !== "synced";
  const screens = { synced: ["synced"], original: ["original"], both: ["original", "synced"] };
  const needed = video || wish.underOn;
  let note = "";
  if (!speaker.lip_sync) note = "Lip-sync is switched off: the real lips are shown";
  else if (lineOf(speaker, wish.language)?.muted) note = "The host has muted the interpreter";
  return {
    screens: screens[wish.view],
    synced: "main",
    original: needed ? { video, bus: "under" } : null,
    note,
  };
}

/** The languages that can be heard in a room now, by code: {code, live, listeners}. */
export function languagesOf(state) {
  const found = new Map();
  const add = ({ code, live, listeners = 0 }) => {
    const known = found.get(code) ?? { code, live: false, listeners: 0 };
    known.live ||= live;
    known.listeners += listeners;
    found.set(code, known);
  };
  for (const speaker of state.speakers) speaker.languages.forEach(add);
  state.floor.languages.forEach(add);
  return [...found.values()].sort((a, b) => a.code.localeCompare(b.code));
}

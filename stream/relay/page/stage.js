// The grid: all speakers of the room in one view.

import { find, items, setText } from "./dom.js";
import { measurements } from "./meters.js";
import { lineOf } from "./plan.js";
import { Hold } from "./policy.js";
import { Tile } from "./tile.js";
import { languageName, shownName } from "./text.js";

const GONE_MS = 6000; // a speaker who comes back within this time keeps the tile
const WIDEST = 16 / 9;

export class Stage {
  /** `options`: {view, choosable, empty: what is said while nobody is there}. */
  constructor(api, mixer, options = {}) {
    this.list = find("tiles");
    this.empty = find("tiles-empty");
    this.around = { api, mixer, view: "synced", ...options };
    this.tiles = new Map();
    this.list.addEventListener("fitted", () => this.fit());
    setText(this.empty.querySelector("p"), options.empty ?? this.empty.dataset.otherwise);
  }

  /** Show these speakers of the state in a language, "" for the original. */
  update(speakers, language) {
    const now = performance.now();
    for (const speaker of speakers) {
      const known = this.tiles.get(speaker.name);
      if (!known && !speaker.live) continue; // who is not there gets no tile
      const entry = known ?? { tile: new Tile(this.around, speaker.name), hold: new Hold(GONE_MS) };
      this.tiles.set(speaker.name, entry);
      entry.hold.take(now, speaker.live);
      entry.tile.update(speaker, language);
    }
    const named = new Set(speakers.map(({ name }) => name));
    for (const [name, { tile, hold }] of this.tiles) {
      if (!named.has(name)) tile.update({ ...tile.speaker, live: false }, language);
      if (hold.take(now, false)) continue;
      tile.remove();
      this.tiles.delete(name);
    }
    this.order();
  }

  order() {
    const names = [...this.tiles.keys()];
    items(this.list, names, (name) => this.tiles.get(name).tile.node);
    this.list.dataset.count = String(names.length);
    this.list.hidden = names.length === 0;
    this.empty.hidden = names.length > 0;
    this.fit();
  }

  /** All pictures get the widest picture's shape; one alone keeps its own. */
  fit() {
    const ratios = [...this.tiles.values()]
      .flatMap(({ tile }) => Object.values(tile.screens))
      .filter(({ node }) => !node.hidden)
      .map(({ node }) => Number(node.style.getPropertyValue("--ratio")) || 0);
    const widest = Math.min(WIDEST, Math.max(0, ...ratios)) || 4 / 3;
    this.list.style.setProperty("--shape", `${widest}`);
  }

  tick(now) {
    for (const { tile } of this.tiles.values()) tile.tick(now);
  }

  /** Cards for the panel of measurements. */
  cards() {
    const cards = [];
    for (const [name, { tile }] of this.tiles) {
      const { synced, original } = tile.lines;
      const who = shownName(name);
      if (synced) {
        const language = tile.language === "und" ? [] : [languageName(tile.language)];
        const title = [who, "lip-synced", ...language].join(", ");
        const line = lineOf(tile.speaker, tile.language) ?? {};
        cards.push({ key: `${name}/synced`, title, rows: measurements(synced.whep, line) });
      }
      if (original) {
        const title = `${who}, original${original.video ? "" : " (sound)"}`;
        cards.push({ key: `${name}/original`, title, rows: measurements(original.whep) });
      }
    }
    return cards;
  }

  leave() {
    for (const { tile } of this.tiles.values()) tile.remove();
    this.tiles.clear();
    this.list.replaceChildren();
    this.list.hidden = true;
    this.empty.hidden = true;
  }
}

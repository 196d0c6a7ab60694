// What a listener sets: the language, two volumes, and whether there is sound at all.

import { element, find, items, setText } from "./dom.js";
import { languagesOf } from "./plan.js";
import { decibels, languageLabel } from "./text.js";

const OFF_DB = -42; // the left end of a volume stands for silence

export class Listening {
  /** `options`: {language or null where there is no choice, chose(language), mainLabel}. */
  constructor(mixer, { language, chose = () => {}, mainLabel = "Volume" }) {
    this.mixer = mixer;
    this.language = language ?? "";
    this.node = find("listening");
    this.select = find("language");
    this.sound = find("sound");
    this.node.hidden = false;
    find("language-field").hidden = language === null;
    this.mainLabel = mainLabel;
    this.select.onchange = () => {
      this.language = this.select.value;
      this.show();
      chose(this.language);
    };
    this.slider("main", "mainDb");
    this.slider("under", "underDb");
    const louder = find("louder");
    louder.checked = mixer.louderInPauses;
    louder.onchange = () => mixer.set("louderInPauses", louder.checked);
    this.sound.onclick = () => mixer.turn(!mixer.sounding);
    mixer.changed = () => this.showSound();
    this.update({ speakers: [], floor: { languages: [] } });
    this.showSound();
  }

  slider(name, setting) {
    const input = find(`${name}-volume`);
    const show = () => {
      const db = Number(input.value) <= OFF_DB ? null : Number(input.value);
      setText(find(`${name}-value`), decibels(db));
      input.setAttribute("aria-valuetext", decibels(db));
      return db;
    };
    input.value = String(this.mixer[setting] ?? OFF_DB);
    show();
    input.oninput = () => this.mixer.set(setting, show());
  }

  /** Offer the languages of the room, and the chosen one even while nobody interprets into it. */
  update(state) {
    const offered = languagesOf(state).filter(({ live, code }) => live || code === this.language);
    const codes = offered.map(({ code }) => code);
    if (this.language && !codes.includes(this.language)) codes.push(this.language);
    const options = items(this.select, ["", ...codes], (code) => {
      const option = element("option");
      option.value = code;
      return option;
    });
    for (const option of options) {
      const live = offered.some(({ code, live: now }) => now && code === option.value);
      const name = option.value ? languageLabel(option.value) : "Original (no interpretation)";
      setText(option, live || !option.value ? name : `${name} (not interpreted now)`);
    }
    this.select.value = this.language;
    this.show();
  }

  show() {
    setText(find("main-label"), this.language ? "Interpretation" : this.mainLabel);
    find("under-field").hidden = !this.language;
    find("louder-field").hidden = !this.language;
  }

  showSound() {
    const on = this.mixer.sounding;
    this.sound.dataset.on = String(on);
    setText(find("sound-label"), on ? "Turn sound off" : "Turn sound on");
  }

  leave() {
    this.node.hidden = true;
    this.mixer.changed = () => {};
  }
}

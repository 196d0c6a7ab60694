// Before joining: the role, a name, a language, devices, and what is going on in the room.

import { element, find, forBrowser, items, label, memory, setText } from "./dom.js";
import { languagesOf } from "./plan.js";
import {
  FLOOR,
  LANGUAGES,
  addressName,
  languageLabel,
  languageName,
  readLanguage,
  shownName,
} from "./text.js";

const DEVICES = {
  speaker: ["audio", "video"],
  interpreter: ["audio"],
  tryout: ["audio", "video"],
  listener: [],
};

const LANGUAGE_LABELS = {
  listener: "Language you want to hear",
  speaker: "Language you want to hear the others in",
  interpreter: "Language you interpret into",
};

const JOIN = {
  listener: "Join as listener",
  speaker: "Join as speaker",
  interpreter: "Join as interpreter",
  tryout: "Try it alone",
};

export class Lobby {
  /** `joined(options)` when the user joins: {role, name, language, whom}. */
  constructor(app, joined) {
    this.app = app;
    this.joined = joined;
    this.node = find("lobby");
    this.form = find("join");
    this.state = null;
    this.roles = [...this.form.querySelectorAll("[name=role]")];
    this.field = { name: find("name"), language: find("wanted-language"), whom: find("whom") };
    this.build();
  }

  build() {
    const { app, field } = this;
    const options = LANGUAGES.map((code) => {
      const option = element("option", "", languageLabel(code));
      option.value = code;
      return option;
    });
    find("languages").replaceChildren(...options);
    const query = new URLSearchParams(window.location.search);
    const kept = memory.read(forBrowser, "lobby", {});
    field.name.value = query.get("name") ?? app.bound("speaker") ?? kept.name ?? "";
    field.language.value = query.get("lang") ?? app.bound("language") ?? kept.language ?? "";
    this.wantedWhom = query.get("speaker") ?? app.bound("speaker") ?? FLOOR;
    const asked = query.get("as") ?? "listener";
    for (const input of this.roles) {
      input.checked = input.value === asked;
      input.addEventListener("change", () => this.show());
    }
    if (!this.role) this.roles[0].checked = true;
    field.name.addEventListener("input", () => this.show());
    field.language.addEventListener("input", () => this.show());
    field.whom.addEventListener("change", () => {
      this.wantedWhom = field.whom.value;
    });
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.join();
    });
    for (const button of document.querySelectorAll("[data-copy]")) {
      button.addEventListener("click", () => this.copy(button));
    }
  }

  get role() {
    return this.roles.find((input) => input.checked)?.value;
  }

  get language() {
    return readLanguage(this.field.language.value);
  }

  enter() {
    this.node.hidden = false;
    this.app.preview.moveTo(find("lobby-media"));
    this.forbid();
    this.show();
    this.update(this.state ?? { speakers: [], floor: { speaking: null, languages: [] } });
  }

  leave() {
    this.node.hidden = true;
  }

  /** What the key does not allow can't be chosen. */
  forbid() {
    for (const input of this.roles) {
      const allowed = this.app.mayJoin(input.value);
      input.disabled = !allowed;
      input.closest(".role").querySelector(".not-allowed").hidden = allowed;
    }
    if (!this.roles.find((input) => input.checked && !input.disabled)) {
      const first = this.roles.find((input) => !input.disabled);
      if (first) first.checked = true;
    }
  }

  show() {
    const { role, app } = this;
    const has = {
      name: role === "speaker",
      whom: role === "interpreter",
      language: role !== "tryout",
      consent: role === "speaker" || role === "tryout",
    };
    for (const [name, shown] of Object.entries(has)) find(`${name}-field-of`).hidden = !shown;
    find("headphones").hidden = role !== "interpreter";
    find("tryout-hint").hidden = role !== "tryout";
    setText(find("language-label"), LANGUAGE_LABELS[role] ?? "");
    const address = addressName(this.field.name.value);
    setText(find("name-hint"), address ? `Others see: ${shownName(address)}` : "");
    const typed = this.field.language.value.trim();
    const code = this.language;
    let hint = "";
    if (code) hint = `${languageName(code)} (${code})`;
    else if (typed) hint = "No language is known by that name";
    else if (role !== "interpreter") hint = "Empty: the original, without interpretation";
    setText(find("language-hint"), hint);
    setText(find("join-label"), JOIN[role]);
    find("tryout-room").hidden = !app.sharesTryout;
    this.showLinks();
    const devices = DEVICES[role];
    find("media-panel").hidden = devices.length === 0;
    app.preview.offer(devices);
    if (!this.node.hidden && app.ready) this.openDevices(devices);
    this.clearErrors();
  }

  openDevices(devices) {
    const { media } = this.app;
    for (const kind of ["video", "audio"]) {
      if (!devices.includes(kind) && media.tracks[kind]) media.close(kind);
    }
    if (devices.length) media.open(devices);
  }

  /** Show who is there; the menus offer them. */
  update(state) {
    this.state = state;
    const live = state.speakers.filter((speaker) => speaker.live);
    const rows = items(find("present"), live.map(({ name }) => name), () => {
      const row = element("li");
      row.append(element("span"), element("span", "quiet"));
      return row;
    });
    rows.forEach((row, n) => {
      const { name, languages } = live[n];
      const codes = languages.filter((line) => line.live).map(({ code }) => languageName(code));
      setText(row.firstElementChild, shownName(name));
      setText(row.lastElementChild, codes.length ? `also in ${codes.join(", ")}` : "original only");
    });
    find("nobody").hidden = live.length > 0;
    this.offerLanguages(languagesOf(state).filter((language) => language.live));
    const names = [FLOOR, ...live.map(({ name }) => name)];
    if (!names.includes(this.wantedWhom)) names.push(this.wantedWhom);
    for (const option of items(this.field.whom, names, () => element("option"))) {
      const name = option.dataset.key;
      option.value = name;
      setText(option, name === FLOOR ? "The whole floor: whoever speaks" : shownName(name));
    }
    this.field.whom.value = this.wantedWhom;
  }

  offerLanguages(languages) {
    const list = find("live-languages");
    const made = items(list, languages.map(({ code }) => code), (code) => {
      const button = element("button", "plain chip");
      button.type = "button";
      button.addEventListener("click", () => {
        this.field.language.value = code;
        this.show();
      });
      return button;
    });
    for (const button of made) label(button, "", languageLabel(button.dataset.key));
    find("live-languages-row").hidden = languages.length === 0;
  }

  showLinks() {
    const here = `${window.location.origin}/${this.app.api.room}`;
    const language = this.language;
    const as = (role) => `${here}?as=${role}${language ? `&lang=${language}` : ""}`;
    const links = {
      everybody: here,
      listeners: as("listener"),
      interpreters: as("interpreter"),
    };
    for (const [name, link] of Object.entries(links)) find(`link-${name}`).value = link;
    find("links-need-keys").hidden = !this.app.auth;
  }

  async copy(button) {
    const field = find(button.dataset.copy);
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
      label(button, "", "Copied");
    } catch {
      label(button, "", "Press Ctrl+C");
    }
    setTimeout(() => label(button, "", "Copy"), 2500);
  }

  // Joining

  clearErrors() {
    for (const [name, node] of [["name", this.field.name], ["language", this.field.language]]) {
      setText(find(`${name}-error`), "");
      node.removeAttribute("aria-invalid");
    }
    setText(find("consent-error"), "");
  }

  complain(name, node, sentence) {
    setText(find(`${name}-error`), sentence);
    node.setAttribute("aria-invalid", "true");
    node.focus();
  }

  join() {
    const { role, field, app } = this;
    this.clearErrors();
    if (!app.mayJoin(role)) return;
    const name = addressName(field.name.value);
    const typed = field.language.value.trim();
    if (role === "speaker" && !name) {
      const sentence = field.name.value.trim()
        ? "Write your name with Latin letters or digits; “floor” is taken."
        : "Write your name.";
      this.complain("name", field.name, sentence);
      return;
    }
    if (role !== "tryout" && (typed || role === "interpreter") && !this.language) {
      const sentence = typed
        ? "Choose a language of the list, or write its code, for example de or pt-BR."
        : "Choose the language that you speak in.";
      this.complain("language", field.language, sentence);
      return;
    }
    const consent = find("consent");
    if ((role === "speaker" || role === "tryout") && !consent.checked) {
      this.complain("consent", consent, "Please agree first: this is about your own face.");
      return;
    }
    memory.write(forBrowser, "lobby", { name: field.name.value, language: field.language.value });
    const language = this.language ?? "";
    this.joined({ role, name, language, whom: field.whom.value || FLOOR });
  }
}

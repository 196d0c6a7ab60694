// The host's panel: mute, remove, lip-sync, the end of the room.

import { sentenceOf } from "./api.js";
import { element, find, items, label, setText } from "./dom.js";
import { FLOOR, languageName, people, shownName } from "./text.js";

/**
 * The rows of the panel, pure: a speaker, then the interpreters of that speaker, then the floor's.
 *
 * Each is {key, speaker, language, title, text, muted, lipSync: bool or null where it has none}.
 */
export function hostRows(state) {
  const rows = [];
  const onFloor = new Set(state.floor.languages.map(({ code }) => code));
  for (const speaker of state.speakers) {
    const facts = [people(speaker.original?.listeners ?? 0)];
    if (!speaker.live) facts.push("not sending");
    if (speaker.muted) facts.push("muted");
    rows.push({
      key: speaker.name,
      speaker: speaker.name,
      language: null,
      title: shownName(speaker.name),
      text: facts.join(" · "),
      muted: speaker.muted,
      lipSync: speaker.lip_sync,
    });
    for (const line of speaker.languages) {
      if (line.from === "floor" || (!line.live && onFloor.has(line.code))) continue;
      rows.push(languageRow(speaker.name, line));
    }
  }
  for (const line of state.floor.languages) rows.push(languageRow(FLOOR, line));
  return rows;
}

function languageRow(speaker, line) {
  const whose = speaker === FLOOR ? "the floor" : shownName(speaker);
  const facts = [`interpreter of ${whose}`];
  if (line.from === "process") facts[0] = "translated by a program";
  if (line.listeners !== undefined) facts.push(people(line.listeners));
  if (!line.live) facts.push("not sending");
  if (line.muted) facts.push("muted");
  return {
    key: `${speaker}/${line.code}`,
    speaker,
    language: line.code,
    title: languageName(line.code),
    text: facts.join(" · "),
    muted: Boolean(line.muted),
    lipSync: null,
  };
}

/** Ask before what can't be taken back. */
function confirmed(question, action) {
  const dialog = find("confirm");
  setText(find("confirm-question"), question);
  setText(find("confirm-yes"), action);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true });
  });
}

export class HostPanel {
  constructor({ api, troubles }) {
    this.api = api;
    this.troubles = troubles;
    this.list = find("host-rows");
    this.node = find("host");
    this.node.hidden = false;
    find("end-room").onclick = async () => {
      const question = "End the room for everybody? All connections are cut.";
      if (await confirmed(question, "End the room")) this.ask("end");
    };
  }

  async ask(action, row = {}) {
    try {
      await this.api.admin(action, row.speaker ?? null, row.language ?? null);
      this.troubles.tell("host");
    } catch (error) {
      this.troubles.tell("host", sentenceOf(error));
    }
  }

  update(state) {
    const rows = hostRows(state);
    const made = items(this.list, rows.map(({ key }) => key), (key) => this.make(key));
    this.rows = new Map(rows.map((row) => [row.key, row]));
    made.forEach((node, n) => this.show(node, rows[n]));
    find("host-empty").hidden = rows.length > 0;
  }

  make(key) {
    const row = () => this.rows.get(key);
    const node = element("li", "host-row");
    const who = element("div", "who");
    who.append(element("span", "title"), element("span", "quiet"));
    const buttons = element("div", "buttons");
    const button = (className, act) => {
      const made = element("button", `plain ${className}`);
      made.type = "button";
      made.addEventListener("click", act);
      buttons.append(made);
    };
    button("lips", () => this.ask(row().lipSync ? "lip_sync_off" : "lip_sync_on", row()));
    button("mute", () => this.ask(row().muted ? "unmute" : "mute", row()));
    button("remove", async () => {
      const target = row();
      const name = `${target.title}${target.language ? "’s interpreter" : ""}`;
      if (await confirmed(`Remove ${name} from the room?`, "Remove")) this.ask("remove", target);
    });
    node.append(who, buttons);
    return node;
  }

  show(node, row) {
    node.classList.toggle("of-language", row.language !== null && row.speaker !== FLOOR);
    setText(node.querySelector(".title"), row.title);
    setText(node.querySelector(".quiet"), row.text);
    const set = (className, sign, text) => {
      const button = node.querySelector(`.${className}`);
      label(button, sign, text);
      button.setAttribute("aria-label", `${text}: ${row.title}, ${row.text}`);
    };
    node.querySelector(".lips").hidden = row.lipSync === null;
    set("lips", "lips", row.lipSync ? "Turn lip-sync off" : "Turn lip-sync on");
    set("mute", row.muted ? "mic" : "mic-off", row.muted ? "Unmute" : "Mute");
    set("remove", "leave", "Remove");
  }

  leave() {
    this.node.hidden = true;
    this.troubles.tell("host");
  }
}

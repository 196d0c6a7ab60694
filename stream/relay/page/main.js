// Begins: finds the room and the key, shows the lobby, keeps the chosen view up to date.

import { HostPanel } from "./admin.js";
import { Api, Feed, sentenceOf } from "./api.js";
import { OwnMedia } from "./devices.js";
import { Troubles, find, forTab, memory, setText } from "./dom.js";
import { InterpreterView } from "./interpreter.js";
import { ListenerView } from "./listener.js";
import { Lobby } from "./lobby.js";
import { showMeters } from "./meters.js";
import { Mixer } from "./mixer.js";
import { Preview } from "./preview.js";
import { SpeakerView } from "./speaker.js";
import { FLOOR, RIGHT_OF, isRoom, refusal } from "./text.js";
import { boundTo, isExpired, rightsOf, tokenIn } from "./token.js";
import { ALONE, TryoutView, privateRoom } from "./tryout.js";
import { keepAwake } from "./wake.js";

const TICK_MS = 500;
const QUICK_MS = 100; // level meters and the mixer

const VIEWS = {
  listener: ListenerView,
  speaker: SpeakerView,
  interpreter: InterpreterView,
  tryout: TryoutView,
};

class App {
  constructor(room, token) {
    this.room = room;
    this.token = token;
    this.api = new Api(room, token);
    this.auth = false;
    this.ready = false; // whether devices may be opened
    this.view = null;
    this.host = null;
    this.feed = null;
    this.troubles = new Troubles(find("trouble"));
    this.mixer = new Mixer();
    this.media = new OwnMedia();
    this.preview = new Preview(this.mixer, this.media);
    this.lobby = new Lobby(this, (options) => this.join(options));
    this.awake = keepAwake();
  }

  // Rights, as far as the key tells them; the server decides.

  may(right) {
    if (!right || !this.auth) return true;
    if (!this.token) return false;
    const rights = rightsOf(this.token);
    return rights === null || rights.has(right);
  }

  mayJoin(role) {
    if (role !== "tryout") return this.may(RIGHT_OF[role]);
    return ["publish-speaker", "publish-language", "listen"].every((right) => this.may(right));
  }

  bound(claim) {
    const value = boundTo(this.token, claim);
    return value === "" || value === FLOOR ? null : value;
  }

  /** Whether trying alone happens in this room, because the key is for no other. */
  get sharesTryout() {
    return this.auth && this.bound("room") !== null;
  }

  // The course of things

  async begin() {
    find("door").hidden = true;
    setText(find("room-name"), this.room);
    find("room-label").hidden = false;
    document.title = `${this.room} · lipstream`;
    find("leave").addEventListener("click", () => this.leave());
    setInterval(() => this.tick(), TICK_MS);
    setInterval(() => this.quickTick(), QUICK_MS);
    window.addEventListener("pagehide", () => this.view?.leave());
    window.addEventListener("pageshow", (event) => event.persisted && window.location.reload());
    await this.configure();
    const kept = memory.read(forTab, `joined.${this.room}`, null);
    const [entry] = performance.getEntriesByType("navigation");
    if (kept && (entry?.type === "reload" || document.wasDiscarded)) await this.join(kept, true);
    else this.toLobby();
  }

  async configure() {
    for (;;) {
      try {
        this.auth = Boolean((await this.api.config()).auth);
        break;
      } catch (error) {
        if (error.status === 401 || error.status === 403) {
          this.auth = true;
          break;
        }
        this.setLink("lost", "No server");
        this.troubles.tell("server", sentenceOf(error));
        await new Promise((done) => setTimeout(done, 2000));
      }
    }
    this.troubles.tell("server");
    this.setLink("waiting", "");
    this.ready = !this.auth || (this.token !== "" && !isExpired(this.token));
    find("key-panel").hidden = this.ready;
    if (this.token && isExpired(this.token)) {
      this.troubles.tell("key", "The key in your link has run out: ask the host for a new link.");
    } else if (!this.ready) {
      this.troubles.tell("key", refusal(401, ""));
    }
  }

  toLobby() {
    document.body.dataset.place = "lobby";
    this.lobby.enter();
    if (this.ready) this.follow(this.api);
  }

  async join(options, again = false) {
    const { role } = options;
    if (!again) await this.mixer.turn(true); // within the user's click
    memory.write(forTab, `joined.${this.room}`, options);
    this.lobby.leave();
    document.body.dataset.place = role;
    find("room").hidden = false;
    find("leave").hidden = false;
    let api = this.api;
    let own = options;
    if (role === "tryout") {
      if (!this.sharesTryout) {
        api = new Api(privateRoom(), this.token);
        setText(find("room-name"), "private");
      }
      own = { name: this.bound("speaker") ?? ALONE.name };
      own.language = this.bound("language") ?? ALONE.language;
    }
    if (role === "speaker" || role === "tryout") await this.media.open(["audio", "video"]);
    if (role === "interpreter") await this.media.open(["audio"]);
    const remember = (change) =>
      memory.write(forTab, `joined.${this.room}`, Object.assign(options, change));
    const around = {
      api,
      remember,
      mixer: this.mixer,
      media: this.media,
      preview: this.preview,
      troubles: this.troubles,
      may: (right) => this.may(right),
    };
    this.view = new VIEWS[role](around, own);
    if (this.may("admin") && role !== "tryout") this.host = new HostPanel(around);
    this.awake.on();
    this.follow(api);
    setText(find("room-title"), this.view.title);
    find("room-title").focus();
    this.tick();
  }

  /** Back to the lobby; `sentence`: why, where it is not the user's wish. */
  leave(sentence = "") {
    memory.write(forTab, `joined.${this.room}`, null);
    this.view?.leave();
    this.host?.leave();
    this.view = this.host = null;
    this.media.closeAll();
    this.awake.off();
    find("room").hidden = true;
    find("leave").hidden = true;
    setText(find("room-name"), this.room);
    find("meters").open = false;
    showMeters(find("meter-cards"), []);
    this.troubles.tell("room", sentence);
    this.toLobby();
    find("lobby-title").focus();
  }

  follow(api) {
    this.feed?.stop();
    this.setLink("waiting", "Connecting…");
    this.feed = new Feed(api, {
      state: (state) => this.take(state),
      link: (link, sentence) => {
        if (link === "lost") this.setLink("lost", "Reconnecting…");
        this.troubles.tell("server", sentence);
      },
      refused: (error) => {
        this.setLink("lost", "No access");
        this.troubles.tell("server", sentenceOf(error));
        if (error.status === 401) find("key-panel").hidden = false;
      },
      ended: (text) => {
        const sentence = text || "The host has ended this room.";
        if (this.view) this.leave(sentence);
        else this.troubles.tell("room", sentence);
      },
    });
  }

  take(state) {
    const live = state.speakers.some((speaker) => speaker.live);
    this.setLink(live ? "live" : "waiting", live ? "Live" : "Nobody speaks yet");
    this.lobby.update(state);
    this.view?.update(state);
    this.host?.update(state);
    this.tick();
  }

  tick() {
    this.view?.tick(performance.now());
    if (this.view && find("meters").open) showMeters(find("meter-cards"), this.view.cards());
  }

  quickTick() {
    if (document.hidden && !this.view) return;
    if (this.view) this.view.quickTick();
    else this.preview.quickTick();
    this.mixer.tick(performance.now());
  }

  setLink(state, text) {
    find("link").dataset.state = state;
    setText(find("link"), text);
    find("link").hidden = !text;
  }
}

/** The page without a room: which one? */
function atTheDoor() {
  document.body.dataset.place = "door";
  find("door").hidden = false;
  find("link").hidden = true;
  const field = find("room-field");
  find("door-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = field.value.trim().replace(/\s+/g, "-");
    if (isRoom(name)) {
      window.location.assign(`/${name}`);
      return;
    }
    setText(find("room-error"), "A room’s name has letters, digits, - and _, at most 64.");
    field.setAttribute("aria-invalid", "true");
    field.focus();
  });
  find("door-tryout").addEventListener("click", () => {
    window.location.assign(`/${privateRoom()}?as=tryout`);
  });
}

/** The token of the address, moved from there to the tab's memory; or the one kept there. */
function takeToken(room) {
  const fresh = tokenIn(window.location.hash);
  if (fresh) {
    memory.write(forTab, `token.${room}`, fresh);
    window.history.replaceState(null, "", window.location.pathname + window.location.search);
  }
  return fresh || memory.read(forTab, `token.${room}`, "");
}

/** The user has pasted a key, or a link with one. */
function useKey(room) {
  const typed = find("key").value.trim();
  const token = typed.includes("#") ? tokenIn(typed.slice(typed.indexOf("#"))) : typed;
  if (!/^[\w-]+(\.[\w-]+)*$/.test(token)) {
    setText(find("key-error"), "That is no key: copy the whole link that you were sent.");
    find("key").focus();
    return;
  }
  memory.write(forTab, `token.${room}`, token);
  window.location.reload();
}

const room = decodeURIComponent(window.location.pathname.slice(1));
export let app = null;
if (isRoom(room)) {
  app = new App(room, takeToken(room));
  find("key-panel").addEventListener("submit", (event) => {
    event.preventDefault();
    useKey(room);
  });
  window.addEventListener("hashchange", () => {
    if (tokenIn(window.location.hash)) window.location.reload();
  });
  app.begin();
} else {
  atTheDoor();
}

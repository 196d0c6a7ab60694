// The relay's HTTP side: configuration, a room's state, and what a host may ask for.

import { iceServersIn } from "./ice.js";
import { Backoff, retryAfterMs } from "./policy.js";
import { NO_ANSWER, refusal } from "./text.js";

const ANSWER_MS = 10_000;
const SILENT_MS = 6000; // without news for this long the state is asked for
const CONFIG_MS = 10 * 60_000; // TURN credentials are short-lived
const REFUSED_RETRY_MS = 15_000;

/** A request that the server refused. */
export class Refused extends Error {
  constructor(answer, text) {
    // A sentence, not a page of a proxy's.
    const said = text.length < 300 && !text.includes("<") ? text.trim() : "";
    super(refusal(answer.status, said));
    this.status = answer.status;
    this.retryAfterMs = retryAfterMs(answer.headers.get("Retry-After"));
  }
}

/** An error as a sentence for the user. */
export const sentenceOf = (error) => (error instanceof Refused ? error.message : NO_ANSWER);

/** The requests of one room. */
export class Api {
  constructor(room, token) {
    this.room = room;
    this.token = token;
    this.learned = [];
    this.known = null;
    this.knownAt = 0;
  }

  /** "/whep/ROOM/anna/de" */
  path(kind, ...parts) {
    return `/${[kind, this.room, ...parts].map(encodeURIComponent).join("/")}`;
  }

  async ask(path, { headers = {}, signal, ...options } = {}) {
    const late = AbortSignal.timeout(ANSWER_MS);
    const authorization = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    const answer = await fetch(path, {
      ...options,
      headers: { ...headers, ...authorization },
      signal: signal && AbortSignal.any ? AbortSignal.any([signal, late]) : (signal ?? late),
    });
    if (!answer.ok) throw new Refused(answer, await answer.text());
    return answer;
  }

  /** {ice_servers, auth}, asked for anew when it may have become stale. */
  async config() {
    if (!this.known || performance.now() - this.knownAt > CONFIG_MS) {
      this.known = await (await this.ask("/api/config")).json();
      this.knownAt = performance.now();
    }
    return this.known;
  }

  async iceServers() {
    const { ice_servers: servers = [] } = await this.config();
    return this.learned.length ? this.learned : servers;
  }

  /** Post an offer. */
  async offer(path, sdp, signal) {
    const headers = { "Content-Type": "application/sdp", Accept: "application/sdp" };
    const answer = await this.ask(path, { method: "POST", headers, body: sdp, signal });
    const text = await answer.text();
    const servers = iceServersIn(answer.headers.get("Link"));
    if (servers.length) this.learned = servers;
    return {
      sdp: text,
      // Location is relative to where a redirect has led.
      resource: new URL(answer.headers.get("Location"), answer.url).href,
      etag: answer.headers.get("ETag"),
    };
  }

  async state() {
    return (await this.ask(`/api${this.path("rooms", "state")}`)).json();
  }

  /** What a host may do; speaker and language where the action has them. */
  async admin(action, speaker = null, language = null) {
    await this.ask(`/api${this.path("rooms", "admin")}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ action, speaker, language }),
    });
  }

  events() {
    const query = this.token ? `?token=${encodeURIComponent(this.token)}` : "";
    return new EventSource(`/api${this.path("rooms", "events")}${query}`);
  }
}

const nothing = (room) => ({ room, speakers: [], floor: { speaking: null, languages: [] } });

/**
 * Follows a room's state until it is stopped.
 *
 * `told` has state(state), link("live"|"lost", sentence), refused(error) and ended(sentence).
 */
export class Feed {
  constructor(api, told) {
    this.api = api;
    this.told = told;
    this.backoff = new Backoff();
    this.timer = 0;
    this.events = null;
    this.stopped = false;
    this.hurry = () => this.begin();
    window.addEventListener("online", this.hurry);
    this.begin();
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
    this.events?.close();
    window.removeEventListener("online", this.hurry);
  }

  begin() {
    if (this.stopped) return;
    this.events?.close();
    this.wait(() => this.look(), SILENT_MS);
    const events = (this.events = this.api.events());
    events.onmessage = (event) => this.take(JSON.parse(event.data));
    events.addEventListener("state", (event) => this.take(JSON.parse(event.data)));
    events.addEventListener("ended", (event) => {
      if (this.events === events) this.told.ended(event.data);
    });
    events.onerror = () => {
      // The reason is only to be had by asking.
      if (this.events !== events) return;
      events.close();
      this.look(true);
    };
  }

  take(state) {
    if (this.stopped) return;
    this.backoff.reset();
    this.wait(() => this.look(), SILENT_MS);
    this.deliver(state);
  }

  deliver(state) {
    this.told.link("live", "");
    this.told.state({ ...nothing(this.api.room), ...state });
  }

  /** Ask for the state: news are overdue, or (`broken`) the stream of them has ended. */
  async look(broken = false) {
    let again = this.backoff.take();
    try {
      const state = await this.api.state();
      if (this.stopped) return;
      this.deliver(state);
      this.wait(() => (broken ? this.begin() : this.look()), broken ? again : SILENT_MS);
    } catch (error) {
      if (this.stopped) return;
      if (error.status === 410) {
        this.told.ended(error.message);
      } else if (error.status === 401 || error.status === 403) {
        this.told.refused(error);
        again = REFUSED_RETRY_MS;
      } else if (error.status === 404) {
        this.deliver({}); // nobody has been there yet
      } else {
        this.told.link("lost", sentenceOf(error));
      }
      this.wait(() => this.begin(), error.retryAfterMs ?? again);
    }
  }

  wait(then, ms) {
    clearTimeout(this.timer);
    if (!this.stopped) this.timer = setTimeout(then, ms);
  }
}

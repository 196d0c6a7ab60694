// When to try again, what counts as standing still, how loud. Pure: the time is an argument.

const LEAST_MS = 500;
const MOST_MS = 5000;
const LONGEST_WAIT_MS = 60_000; // longer demands to wait are not believed
const HELD_MS = 3000;
const QUIET_LEVEL = 0.004; // RMS, −48 dB of full scale
const PAUSE_MS = 1200; // an interpreter's breath is shorter

/** Waiting times between attempts: 0.5 s doubling to 5 s, a quarter of it by chance. */
export class Backoff {
  constructor(random = Math.random) {
    this.random = random;
    this.reset();
  }

  reset() {
    this.nextMs = LEAST_MS;
  }

  take() {
    const wait = this.nextMs * (0.75 + 0.5 * this.random());
    this.nextMs = Math.min(MOST_MS, this.nextMs * 2);
    return Math.min(MOST_MS, Math.max(LEAST_MS, wait));
  }
}

/** A Retry-After header in milliseconds, seconds or date; null where there is none to follow. */
export function retryAfterMs(header, wallClock = Date.now()) {
  if (!header) return null;
  const ms = /^\s*[\d.]+\s*$/.test(header)
    ? 1000 * Number(header)
    : Date.parse(header) - wallClock;
  return Number.isFinite(ms) ? Math.min(LONGEST_WAIT_MS, Math.max(0, ms)) : null;
}

/** What a refused request means: stop, or try again (at once when the state allows: wait). */
export function afterStatus(status) {
  if ([401, 403, 410].includes(status)) return "stop";
  return status === 409 || status === 404 ? "wait" : "retry";
}

/** Notices that a counter stands still. */
export class Progress {
  constructor(now, { firstMs, laterMs }) {
    this.limits = { firstMs, laterMs };
    this.count = null;
    this.at = now;
    this.moved = false;
  }

  /** Whether it has stood still for too long; `excused`: nothing is expected to move now. */
  frozen(now, count, excused = false) {
    if (count !== this.count || excused) {
      if (this.count !== null && count > this.count) this.moved = true;
      this.count = count;
      this.at = now;
      return false;
    }
    return now - this.at > (this.moved ? this.limits.laterMs : this.limits.firstMs);
  }
}

/** True as long as it was true within the last seconds: a page that does not flicker. */
export class Hold {
  constructor(heldMs = HELD_MS) {
    this.heldMs = heldMs;
    this.until = -Infinity;
  }

  take(now, value) {
    if (value) this.until = now + this.heldMs;
    return now < this.until;
  }
}

/** Decides when the original may be loud: the interpreter has been silent for a while. */
export class Pauses {
  constructor(now = 0) {
    this.heardAt = now;
  }

  /** Whether there is a pause; `level`: the interpretation's RMS, 0..1. */
  take(now, level) {
    if (level > QUIET_LEVEL) this.heardAt = now;
    return now - this.heardAt > PAUSE_MS;
  }
}

/** Decibels as a factor; null is silence. */
export const gainOf = (db) => (db === null ? 0 : 10 ** (db / 20));

/** A meter's share 0..1 of a level 0..1; it begins at 60 dB below full scale. */
export const meterShare = (level) =>
  level > 0 ? Math.max(0, Math.min(1, 1 + Math.log10(level) / 3)) : 0;

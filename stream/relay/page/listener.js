// The listener: all speakers in one language.

import { Listening } from "./listening.js";
import { Stage } from "./stage.js";

export class ListenerView {
  constructor({ api, mixer, remember }, { language }) {
    this.state = null;
    this.stage = new Stage(api, mixer);
    this.listening = new Listening(mixer, {
      language,
      chose: (code) => {
        remember({ language: code });
        if (this.state) this.update(this.state);
      },
    });
  }

  get title() {
    return "Listening";
  }

  update(state) {
    this.state = state;
    this.listening.update(state);
    this.stage.update(state.speakers, this.listening.language);
  }

  tick(now) {
    this.stage.tick(now);
  }

  quickTick(now) {}

  cards() {
    return this.stage.cards();
  }

  leave() {
    this.stage.leave();
    this.listening.leave();
  }
}

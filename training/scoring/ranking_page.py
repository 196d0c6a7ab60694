"""The page on which people rank videos; ``{{title}}`` and ``{{content}}`` are filled in."""

from __future__ import annotations

from typing import Final

PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; media-src data: blob:; style-src 'unsafe-inline';
 script-src 'unsafe-inline'; form-action 'none'; base-uri 'none'">
<title>{{title}}</title>
<style>
 :root { color-scheme: light dark; font: 16px/1.45 system-ui, sans-serif; }
 body { margin: 0 auto; max-width: 75rem; padding: 1rem; }
 #videos { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); }
 figure { margin: 0; }
 video { width: 100%; background: #000; }
 figcaption { font-weight: 600; }
 fieldset { border: 1px solid #8888; border-radius: .4rem; margin: 1rem 0; }
 label { display: inline-block; margin: .2rem 1rem .2rem 0; }
 select, button { font: inherit; padding: .3rem .7rem; }
 #problem { color: #b00000; min-height: 1.5em; }
 [hidden] { display: none; }
</style>
</head>
<body>
<h1>{{title}}</h1>
<section id="intro">
<p>You will see the same clip several times, made by different methods in an order of chance.
Play each one with sound, as often as you like, then rank them: 1 is the best. Nothing leaves this
computer; at the end you save a file and give it to whoever asked you.</p>
<button id="start">Start</button>
</section>
<section id="task" hidden>
<p id="progress" aria-live="polite"></p>
<div id="videos"></div>
<form id="ranks"></form>
<p id="problem" role="alert"></p>
<button id="next">Next</button>
</section>
<section id="end" hidden>
<p>Thank you. Save the file and send it back.</p>
<button id="save">Save the file</button>
</section>
<script type="application/json" id="content">{{content}}</script>
<script>
"use strict";
const content = JSON.parse(document.getElementById("content").textContent);
const at = (id) => document.getElementById(id);
const shuffled = (list) => {
  const mixed = [...list];
  for (let i = mixed.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [mixed[i], mixed[j]] = [mixed[j], mixed[i]];
  }
  return mixed;
};
const groups = shuffled(content.groups).map(shuffled);
const votes = [];
let place = 0;

function letter(index) { return String.fromCharCode(65 + index); }

function show() {
  const group = groups[place];
  at("progress").textContent = `Clip ${place + 1} of ${groups.length}`;
  at("problem").textContent = "";
  at("videos").replaceChildren(...group.map((entry, index) => {
    const figure = document.createElement("figure");
    const video = document.createElement("video");
    Object.assign(video, { src: entry.source, controls: true, playsInline: true });
    video.addEventListener("play", () => {
      for (const other of document.querySelectorAll("video")) if (other !== video) other.pause();
    });
    const caption = document.createElement("figcaption");
    caption.textContent = letter(index);
    figure.append(caption, video);
    return figure;
  }));
  at("ranks").replaceChildren(...Object.entries(content.criteria).map(([criterion, question]) => {
    const set = document.createElement("fieldset");
    const legend = document.createElement("legend");
    legend.textContent = question;
    set.append(legend, ...group.map((entry, index) => {
      const label = document.createElement("label");
      const select = document.createElement("select");
      select.dataset.criterion = criterion;
      select.dataset.token = entry.token;
      select.append(new Option("", ""));
      for (let rank = 1; rank <= group.length; rank++) select.append(new Option(rank, rank));
      label.append(letter(index) + " ", select);
      return label;
    }));
    return set;
  }));
}

function read() {
  const found = [];
  for (const criterion of Object.keys(content.criteria)) {
    const selects = [...document.querySelectorAll(`select[data-criterion="${criterion}"]`)];
    const ranks = new Map(selects.map((select) => [Number(select.value), select.dataset.token]));
    ranks.delete(0);
    if (ranks.size !== selects.length) return null;
    const order = [...ranks.keys()].sort((a, b) => a - b).map((rank) => ranks.get(rank));
    found.push({ criterion, order });
  }
  return found;
}

at("start").addEventListener("click", () => {
  at("intro").hidden = true;
  at("task").hidden = false;
  show();
});
at("next").addEventListener("click", () => {
  const found = read();
  if (found === null) {
    at("problem").textContent = "Give each letter another rank, in every row.";
    return;
  }
  votes.push(...found);
  place += 1;
  if (place < groups.length) { show(); scrollTo(0, 0); return; }
  at("videos").replaceChildren();
  at("task").hidden = true;
  at("end").hidden = false;
});
at("save").addEventListener("click", () => {
  const ballot = JSON.stringify({ page: content.page, format: content.format, votes }, null, 1);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([ballot], { type: "application/json" }));
  link.download = `ranks-${Math.random().toString(16).slice(2, 10)}.json`;
  link.click();
  URL.revokeObjectURL(link.href);
});
addEventListener("beforeunload", (event) => {
  if (votes.length && at("end").hidden) event.preventDefault();
});
</script>
</body>
</html>
"""

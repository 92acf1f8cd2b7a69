"use strict";
// SamplingNoise one page of examples at a time; texts enter the page as text nodes only. The format of the chunks is described
// in adapler_jax/report/packing.py.
(() => {
  const PAGE_SIZE = 10;
  const MAX_WORDS = 1500; // of a text, drawn at once
  const MAX_CHUNKS = 24; // kept unpacked
  const BLANKS = /[ \t\r\n]*/y;
  const RUN = /[A-Za-z0-9\u0080-\uffff]+|[\x00-\x7f]?/y;

  const element = (id) => document.getElementById(id);
  const meta = JSON.parse(element("meta").textContent);
  const packed = document.getElementsByClassName("chunk");
  const read = new Promise((resolve) => document.addEventListener("DOMContentLoaded", resolve));
  const list = element("examples");
  const tip = element("tip");
  const chunks = new Map();
  let found = [];
  let page = 0;
  let turn = 0; // a page that arrives after the next one was asked for is not drawn
  let here = null; // the word that is explained

  function readMoves(bytes, place, count) {
    const moves = new Int32Array(count);
    for (let index = 0; index < count; index++) {
      let value = 0;
      let byte;
      do {
        byte = bytes[place.at++];
        value += byte;
      } while (byte === 255);
      moves[index] = value % 2 ? -(value + 1) / 2 : value / 2;
    }
    return moves;
  }

  function endOf(expression, text, at) {
    expression.lastIndex = at;
    expression.exec(text);
    return expression.lastIndex;
  }

  // Moves become places, in the same arrays.
  function placeWords(text, first, count, starts, ends) {
    let done = 0;
    for (let word = first; word < first + count; word++) {
      starts[word] += endOf(BLANKS, text, done);
      ends[word] += endOf(RUN, text, starts[word]);
      done = ends[word];
    }
  }

  function readScores(bytes, place, site, layers, header) {
    const scores = new Float32Array(layers.length);
    let word = 0;
    header.words.forEach((counts, row) => {
      const last = word + counts.reduce((sum, count) => sum + count, 0);
      for (; word < last; word++) {
        if (layers[word] >= site) scores[word] = header.top[row] * (bytes[place.at++] / header.levels) ** 3;
      }
    });
    return scores;
  }

  function unpack(bytes) {
    const lineEnd = bytes.indexOf(10);
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(0, lineEnd)));
    const total = header.words.flat().reduce((sum, count) => sum + count, 0);
    const place = { at: lineEnd + 1 };
    const starts = readMoves(bytes, place, total);
    const ends = readMoves(bytes, place, total);
    const layers = bytes.subarray(place.at, (place.at += total));
    const scores = meta.sites.map((site) => readScores(bytes, place, site, layers, header));
    let end = 0;
    return header.texts.map((texts, row) => texts.map((text, part) => {
      const first = end;
      end += header.words[row][part];
      placeWords(text, first, end - first, starts, ends);
      return { text, first, end, unread: header.unread[row][part], starts, ends, layers, scores };
    }));
  }

  async function load(number) {
    if (number > 0) await read; // the script stands behind the first chunk, so that it is drawn before the others come
    const text = atob(packed[number].textContent);
    const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return unpack(new Uint8Array(await new Response(stream).arrayBuffer()));
  }

  function chunk(number) {
    const promise = chunks.get(number) ?? load(number);
    chunks.delete(number); // the oldest stand first
    chunks.set(number, promise);
    if (chunks.size > MAX_CHUNKS) chunks.delete(chunks.keys().next().value);
    return promise;
  }

  async function example(row) {
    return (await chunk(Math.floor(row / meta.chunkSize)))[row % meta.chunkSize];
  }

  function make(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  const isRight = (row) => meta.predicted[row] === meta.label[row];
  const layer = () => Number(element("layer").value);

  function heading(row, number) {
    const head = make("p", "head");
    const answer = make("strong", "", meta.classes[meta.predicted[row]]);
    const label = make("strong", "", meta.classes[meta.label[row]]);
    answer.dir = label.dir = "auto";
    const verdict = isRight(row) ? make("strong", "right", "✓ right") : make("strong", "wrong", "✗ wrong");
    head.append(`${number}. `, verdict, ": answered ", answer, ` (${meta.percent[row]}%), labelled `, label,
      `; ${meta.kept[row]}% kept`);
    return head;
  }

  function addWords(paragraph, part, from, at) {
    const before = paragraph.querySelector("button, .unread");
    const until = Math.min(part.end, from + MAX_WORDS);
    const pieces = document.createDocumentFragment();
    for (let word = from; word < until; word++) {
      pieces.append(part.text.slice(at, part.starts[word]));
      const span = make("span", "word", part.text.slice(part.starts[word], part.ends[word]));
      span.style.setProperty("--share", part.layers[word] / meta.layers);
      span.explained = { part, word };
      pieces.append(span);
      at = part.ends[word];
    }
    paragraph.insertBefore(pieces, before);
    if (until < part.end) {
      const more = make("button", "", `${(part.end - until).toLocaleString("en")} more words`);
      more.type = "button";
      more.addEventListener("click", () => {
        more.remove();
        addWords(paragraph, part, until, at);
        fade();
        paragraph.focus();
      });
      paragraph.append(more);
    } else {
      addUnread(paragraph, part, at);
    }
  }

  function addUnread(paragraph, part, at) {
    const rest = part.text.slice(at);
    if (!/[\p{L}\p{N}\p{P}\p{S}]/u.test(rest)) { // nothing to see
      paragraph.append(rest);
      return;
    }
    const unread = make("span", "unread");
    const more = part.unread ? ` … and ${part.unread.toLocaleString("en")} characters more` : "";
    unread.append("[not read: ", make("q", "", rest.trim()), `${more}]`);
    paragraph.append(" ", unread);
  }

  function paragraphOf(part, label) {
    const paragraph = make("p", "text");
    paragraph.dir = "auto";
    paragraph.tabIndex = 0;
    paragraph.setAttribute("role", "group");
    paragraph.setAttribute("aria-label", `${label}; arrow keys step through its words`);
    if (part.text.trim()) addWords(paragraph, part, part.first, 0);
    else paragraph.append(make("span", "empty", "(empty text)"));
    return paragraph;
  }

  function item(row, parts, number) {
    const made = make("li");
    made.append(heading(row, number));
    parts.forEach((part, index) => {
      made.append(paragraphOf(part, parts.length > 1 ? `Text ${number}, part ${index + 1}` : `Text ${number}`));
    });
    return made;
  }

  function fade() {
    for (const span of list.querySelectorAll(".word")) {
      const { part, word } = span.explained;
      span.classList.toggle("gone", part.layers[word] < layer());
    }
    const told = layer() ? `words that layer ${layer()} of ${meta.layers} ran on` : "all words";
    element("layer-told").textContent = told;
    element("layer").setAttribute("aria-valuetext", told);
  }

  async function draw() {
    const mine = ++turn;
    const last = Math.max(0, Math.ceil(found.length / PAGE_SIZE) - 1);
    page = Math.min(page, last);
    const first = page * PAGE_SIZE;
    const rows = found.slice(first, first + PAGE_SIZE);
    element("previous").disabled = page === 0;
    element("next").disabled = page === last;
    const examples = await Promise.all(rows.map(example));
    if (mine !== turn) return;
    explain(null);
    list.replaceChildren(...examples.map((parts, place) => item(rows[place], parts, first + place + 1)));
    fade();
    const total = `${found.length.toLocaleString("en")} of ${meta.label.length.toLocaleString("en")} examples`;
    element("status").textContent = rows.length
      ? `${total}: ${first + 1} to ${first + rows.length}`
      : `${total}: no example is like that`;
  }

  function filter() {
    const answer = element("by-answer").value;
    const label = element("by-label").value;
    const bound = (id, other) => (element(id).value === "" ? other : Number(element(id).value));
    const from = bound("kept-from", 0);
    const to = bound("kept-to", 100);
    found = [];
    for (let row = 0; row < meta.label.length; row++) {
      if (answer && (answer === "right") !== isRight(row)) continue;
      if (label !== "" && meta.label[row] !== Number(label)) continue;
      if (meta.kept[row] < from || meta.kept[row] > to) continue;
      found.push(row);
    }
    page = 0;
    return draw();
  }

  function describe({ part, word }) {
    const ran = part.layers[word];
    const scores = meta.sites
      .map((site, place) => [site, part.scores[place][word]])
      .filter(([site]) => site <= ran)
      .map(([site, score]) => `layer ${site + 1}: ${score.toPrecision(2)}`);
    const fate = ran === meta.layers ? `stayed through all ${ran} layers` : `left at layer ${ran + 1} of ${meta.layers}`;
    return `${fate}\nscores, ${scores.join(", ")}`;
  }

  function explain(span) {
    here?.classList.remove("here");
    here = span;
    tip.hidden = !span;
    if (!span) return;
    span.classList.add("here");
    tip.textContent = describe(span.explained);
    placeTip();
  }

  function placeTip() {
    if (!here) return;
    const word = here.getClientRects()[0];
    const box = tip.getBoundingClientRect();
    const above = word.top - box.height - 6;
    tip.style.top = `${above > 0 ? above : word.bottom + 6}px`;
    tip.style.left = `${Math.max(8, Math.min(word.left, document.documentElement.clientWidth - box.width - 8))}px`;
  }

  function step(event) {
    if (event.key === "Escape") explain(null);
    const paragraph = event.target;
    if (!paragraph.classList?.contains("text")) return;
    const back = getComputedStyle(paragraph).direction === "rtl" ? "ArrowRight" : "ArrowLeft";
    const forward = back === "ArrowLeft" ? "ArrowRight" : "ArrowLeft";
    const words = [...paragraph.querySelectorAll(".word")];
    const at = words.indexOf(here);
    const to = { [forward]: at + 1, [back]: at < 0 ? -1 : at - 1, Home: 0, End: words.length - 1 }[event.key];
    if (to === undefined || !words[to]) return;
    event.preventDefault();
    words[to].scrollIntoView({ block: "nearest" });
    explain(words[to]);
    element("spoken").textContent = `${words[to].textContent}: ${tip.textContent}`;
  }

  function listen() {
    element("controls").addEventListener("submit", (event) => event.preventDefault());
    for (const id of ["by-answer", "by-label", "kept-from", "kept-to"]) element(id).addEventListener("input", filter);
    element("layer").addEventListener("input", fade);
    element("previous").addEventListener("click", () => (page--, draw()));
    element("next").addEventListener("click", () => (page++, draw()));
    list.addEventListener("pointerover", (event) => explain(event.target.closest(".word")));
    list.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && explain(null));
    list.addEventListener("click", (event) => explain(event.target.closest(".word")));
    list.addEventListener("keydown", step);
    list.addEventListener("focusout", () => explain(null));
    window.addEventListener("scroll", placeTip, { passive: true });
  }

  function start() {
    meta.classes.forEach((name, index) => element("by-label").append(new Option(name, index)));
    listen();
    return filter();
  }

  if (typeof DecompressionStream === "undefined") {
    element("status").textContent = "This browser cannot unpack the examples; one of 2023 or later can.";
  } else {
    start();
  }
})();

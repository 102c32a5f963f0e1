// Zoom, filter and hover. Everything that this script shows is on the page without it: the log is read from its own text, the
// values of the curves from the elements beside them.
(() => {
  "use strict";
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (name, words = {}, text = "") => {
    const element = Object.assign(document.createElement(name), words);
    if (text) element.textContent = text;
    return element;
  };
  document.documentElement.classList.add("script");
  const attempts = new Map();
  const LEVELS = ["debug", "info", "warning", "error"];

  const sizes = (bytes) => {
    let unit = 0;
    while (Math.abs(bytes) >= 1024 && unit < 4) { bytes /= 1024; unit += 1; }
    return `${bytes.toFixed(unit && bytes < 100 ? 1 : 0)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
  };
  const UNITS = { percent: (value) => `${value} %`, bytes: sizes, bytes_per_second: (value) => `${sizes(value)}/s` };

  /** The last place in an ascending list whose value is not above this one; -1 before the first. */
  const placeOf = (list, value) => {
    let [low, high] = [0, list.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (list[middle] <= value) low = middle + 1; else high = middle;
    }
    return low - 1;
  };

  class Timeline {
    constructor(root, attempt) {
      this.root = root;
      this.attempt = attempt;
      this.from = Number(root.dataset.from);
      this.to = Number(root.dataset.to);
      this.zoom = 1;
      this.at = null;
      this.scroll = root.querySelector(".tl-scroll");
      this.inner = root.querySelector(".tl-inner");
      this.name = root.querySelector(".tl-name");
      this.axis = root.querySelector(".tl-axis .tl-track");
      this.cursor = root.querySelector(".cursor");
      this.selection = root.querySelector(".selection");
      this.readout = root.querySelector(".readout");
      this.looks = root.dataset.looks ? root.dataset.looks.split(",").map(Number) : [];
      this.curves = all(".tl-curve .tl-track", root).map((track) => ({
        name: track.dataset.name,
        show: UNITS[track.dataset.unit],
        lines: all("data", track).map((line) => ({ machine: line.dataset.machine, text: line.value, values: null })),
      }));
      this.swatches = new Map(all(".legend li", root).map((item) => [item.textContent.trim(), item.firstElementChild.className]));
      this.listen();
    }

    listen() {
      for (const button of all("button", this.root)) button.addEventListener("click", () => this.act(button));
      this.scroll.addEventListener("keydown", (event) => this.key(event));
      this.scroll.addEventListener("wheel", (event) => {
        if (!event.ctrlKey && !event.metaKey) return;
        event.preventDefault();
        this.scale(event.deltaY < 0 ? 1.25 : 0.8, this.timeAt(event.clientX));
      }, { passive: false });
      let begun = null;
      this.scroll.addEventListener("pointerdown", (event) => {
        if (event.button === 0 && event.pointerType === "mouse" && !event.target.closest(".tl-name")) {
          begun = { x: event.clientX, at: this.timeAt(event.clientX) };
        }
      });
      window.addEventListener("pointermove", (event) => {
        if (!begun || Math.abs(event.clientX - begun.x) < 5) return;
        const ends = [begun.at, this.timeAt(event.clientX)].sort((one, two) => one - two);
        Object.assign(this.selection.style, { left: `${this.percent(ends[0])}%`, width: `${this.percent(ends[1]) - this.percent(ends[0])}%` });
        this.selection.hidden = false;
      });
      window.addEventListener("pointerup", (event) => {
        if (begun && !this.selection.hidden) {
          const ends = [begun.at, this.timeAt(event.clientX)].sort((one, two) => one - two);
          this.showRange(ends[0], ends[1]);
          this.dragged = true;
        }
        begun = null;
        this.selection.hidden = true;
      });
      this.scroll.addEventListener("mousemove", (event) => {
        if (!event.target.closest(".tl-name")) this.tell(this.timeAt(event.clientX));
      });
      this.scroll.addEventListener("mouseleave", () => this.at !== null && this.tell(this.at));
      this.scroll.addEventListener("click", (event) => {
        if (this.dragged) { this.dragged = false; return; }
        if (event.target.closest(".tl-name")) return;
        const item = event.target.closest("[data-at]");
        this.mark(item ? Number(item.dataset.at) : this.timeAt(event.clientX));
        this.attempt.log?.show(this.at, item ? "reveal" : "stay");
      });
    }

    act(button) {
      switch (button.dataset.do) {
        case "in": this.scale(2, this.middle()); break;
        case "out": this.scale(0.5, this.middle()); break;
        case "all": this.setZoom(1); break;
        case "failed": {
          const at = Number(button.dataset.at);
          const half = Math.min(10000, (this.to - this.from) / 4);
          this.showRange(at - half, at + half / 4);
          this.mark(at);
          break;
        }
        case "log": this.attempt.log?.show(this.at ?? this.middle(), "reveal"); break;
      }
    }

    key(event) {
      const step = (this.to - this.from) / this.zoom / 100;
      const now = this.at ?? this.middle();
      const moves = { ArrowLeft: now - step, ArrowRight: now + step, Home: this.from, End: this.to };
      if (event.key in moves) { this.mark(Math.min(this.to, Math.max(this.from, moves[event.key]))); this.reveal(); }
      else if (event.key === "+" || event.key === "=") this.scale(2, now);
      else if (event.key === "-") this.scale(0.5, now);
      else if (event.key === "0") this.setZoom(1);
      else if (event.key === "Enter") this.attempt.log?.show(now, "reveal");
      else return;
      event.preventDefault();
    }

    percent(at) { return Math.min(100, Math.max(0, ((at - this.from) / (this.to - this.from)) * 100)); }
    trackWidth() { return this.inner.clientWidth - this.name.offsetWidth; }
    timeAt(clientX) {
      const x = clientX - this.inner.getBoundingClientRect().left - this.name.offsetWidth;
      return this.from + Math.min(1, Math.max(0, x / this.trackWidth())) * (this.to - this.from);
    }
    middle() {
      const seen = this.scroll.clientWidth - this.name.offsetWidth;
      return this.from + ((this.scroll.scrollLeft + seen / 2) / this.trackWidth()) * (this.to - this.from);
    }

    setZoom(zoom) {
      this.zoom = Math.min(400, Math.max(1, zoom));
      this.inner.style.setProperty("--zoom", this.zoom);
      this.root.dataset.zoom = this.zoom.toFixed(2);
      this.drawTicks();
    }
    scale(factor, at) {
      const before = this.percent(at) / 100 * this.trackWidth() - this.scroll.scrollLeft;
      this.setZoom(this.zoom * factor);
      this.scroll.scrollLeft = this.percent(at) / 100 * this.trackWidth() - before;
    }
    showRange(from, to) {
      this.setZoom((this.to - this.from) / Math.max(1, to - from));
      this.scroll.scrollLeft = this.percent(from) / 100 * this.trackWidth();
    }
    drawTicks() {
      const seen = (this.to - this.from) / this.zoom / 8;
      const decade = 10 ** Math.floor(Math.log10(seen));
      const step = Math.max(1, [1, 2, 5, 10].map((part) => part * decade).find((one) => one >= seen) ?? seen);
      const digits = step >= 1000 ? 0 : step >= 100 ? 1 : step >= 10 ? 2 : 3;
      const ticks = [];
      for (let at = Math.ceil(this.from / step) * step; at <= this.to && ticks.length < 4000; at += step) {
        const tick = make("span", { className: "tick" }, `${(at / 1000).toFixed(digits)} s`);
        tick.style.left = `${this.percent(at)}%`;
        ticks.push(tick);
      }
      this.axis.replaceChildren(...ticks);
    }

    /** Puts the cursor at a time. */
    mark(at) {
      this.at = at;
      this.cursor.hidden = false;
      this.cursor.style.left = `${this.percent(at)}%`;
      this.tell(at);
    }
    /** Moves the drawing, not the page, so that the cursor is in sight. */
    reveal() {
      const x = this.percent(this.at) / 100 * this.trackWidth();
      const seen = this.scroll.clientWidth - this.name.offsetWidth;
      if (x < this.scroll.scrollLeft || x > this.scroll.scrollLeft + seen) this.scroll.scrollLeft = x - seen / 2;
    }
    jump(at) {
      this.mark(at);
      this.reveal();
      this.root.scrollIntoView({ block: "nearest" });
    }

    tell(at) {
      const told = [make("b", {}, `${(at / 1000).toFixed(3)} s`)];
      const look = placeOf(this.looks, at);
      for (const curve of this.curves) {
        const values = [];
        for (const line of curve.lines) {
          line.values ??= line.text.split(",");
          const value = look >= 0 ? line.values[look] : "";
          if (value) values.push([line.machine, curve.show(Number(value))]);
        }
        if (values.length) told.push(make("span", { className: "dim" }, `  ${curve.name}`));
        for (const [machine, value] of values) {
          told.push(make("i", { className: this.swatches.get(machine) ?? "swatch", title: machine }), document.createTextNode(value));
        }
      }
      this.readout.replaceChildren(...told);
    }
  }

  const ROW = 20;

  class Log {
    constructor(root, attempt) {
      this.root = root;
      this.attempt = attempt;
      this.text = root.querySelector(".log-text");
      this.tools = root.querySelector(".log-tools");
      this.chosen = -1;
      root.addEventListener("toggle", () => root.open && this.read());
      if (root.hasAttribute("data-open")) {
        // Only when it comes near: a page of many failures opens as fast as one without any.
        new IntersectionObserver((seen, observer) => {
          if (seen.some((one) => one.isIntersecting)) { observer.disconnect(); root.open = true; }
        }, { rootMargin: "400px" }).observe(root);
      }
    }

    read() {
      if (this.lines) return;
      let last = -Infinity;
      this.lines = this.text.textContent.split("\n").filter(Boolean).map((line) => {
        const [at, machine, level, file, ...rest] = line.split("\t");
        if (at) last = Number(at) * 1000;
        return { at: at ? last : null, near: last, machine, level: LEVELS.indexOf(level), file, text: rest.join("\t"), low: null };
      });
      // What comes before all that has a time is as old as the first that has one.
      const first = this.lines.find((line) => line.at !== null)?.at ?? -Infinity;
      for (const line of this.lines) {
        if (line.near !== -Infinity) break;
        line.near = first;
      }
      this.shown = this.lines;
      this.list = make("div", { className: "log-list", tabIndex: 0 });
      this.list.setAttribute("role", "listbox");
      this.list.setAttribute("aria-label", "Log lines; arrow keys choose one, Enter goes to its time");
      this.space = make("div", { className: "log-space" });
      this.list.append(this.space);
      this.line = make("div", { className: "log-line", hidden: true });
      this.line.setAttribute("aria-live", "polite");
      this.text.hidden = true;
      this.text.after(this.list, this.line);
      this.list.addEventListener("scroll", () => this.draw());
      new ResizeObserver(() => this.draw()).observe(this.list);
      this.list.addEventListener("click", (event) => {
        const row = event.target.closest(".log-row");
        if (row) this.choose(Number(row.dataset.place), "jump");
      });
      this.list.addEventListener("keydown", (event) => this.key(event));
      let waiting = 0;
      this.tools.addEventListener("input", () => {
        clearTimeout(waiting);
        waiting = setTimeout(() => this.filter(), 80);
      });
      this.filter();
    }

    key(event) {
      const page = Math.floor(this.list.clientHeight / ROW) - 1;
      const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
      if (event.key in moves) {
        const place = Math.min(this.shown.length - 1, Math.max(0, this.chosen + moves[event.key]));
        this.choose(place, "stay");
      } else if (event.key === "Enter" && this.chosen >= 0) this.choose(this.chosen, "jump");
      else return;
      event.preventDefault();
    }

    filter() {
      const words = this.tools.querySelector("[name=words]");
      const least = Number(this.tools.querySelector("[name=level]").value);
      const machines = new Set(all("[name=machine]:checked", this.tools).map((box) => box.value));
      const kept = this.shown[this.chosen];
      let matches = () => true;
      words.setCustomValidity("");
      this.needle = null;
      const pattern = words.value.match(/^\/(.+)\/$/);
      if (pattern) {
        try {
          const expression = new RegExp(pattern[1], "i");
          matches = (line) => expression.test(line.text);
          this.needle = new RegExp(pattern[1], "ig");
        } catch (error) { words.setCustomValidity(String(error.message)); }
      } else if (words.value) {
        const low = words.value.toLowerCase();
        matches = (line) => (line.low ??= `${line.file} ${line.text}`.toLowerCase()).includes(low);
        this.needle = new RegExp(words.value.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "ig");
      }
      words.reportValidity();
      this.shown = this.lines.filter((line) => line.level >= least && machines.has(line.machine) && matches(line));
      this.tools.querySelector("output").textContent = `${this.shown.length.toLocaleString("en")} of ${this.lines.length.toLocaleString("en")} lines`;
      this.space.style.height = `${this.shown.length * ROW}px`;
      this.chosen = kept ? this.shown.indexOf(kept) : -1;
      if (this.chosen >= 0) this.center(this.chosen);
      this.draw();
    }

    draw() {
      const first = Math.max(0, Math.floor(this.list.scrollTop / ROW) - 10);
      const last = Math.min(this.shown.length, first + Math.ceil(this.list.clientHeight / ROW) + 20);
      const rows = [];
      for (let place = first; place < last; place += 1) rows.push(this.row(place));
      this.space.replaceChildren(...rows);
    }

    row(place) {
      const line = this.shown[place];
      const row = make("div", { className: `log-row ${LEVELS[line.level] ?? ""}`, id: `${this.root.id}-${place}` });
      row.setAttribute("role", "option");
      row.setAttribute("aria-selected", place === this.chosen);
      row.dataset.place = place;
      row.style.top = `${place * ROW}px`;
      const name = make("span", { className: "machine" }, line.machine);
      name.prepend(make("i", { className: this.attempt.timeline?.swatches.get(line.machine) ?? "swatch" }));
      const text = make("span", { className: "line" });
      this.highlight(text, line.text.length > 600 ? `${line.text.slice(0, 600)} …` : line.text);
      row.append(make("span", { className: "at" }, line.at === null ? " " : (line.at / 1000).toFixed(3)), name,
        make("span", { className: "file", title: line.file }, line.file), text);
      return row;
    }

    highlight(element, text) {
      let from = 0;
      if (this.needle) {
        for (const found of text.matchAll(this.needle)) {
          if (!found[0]) break;
          element.append(text.slice(from, found.index), make("mark", {}, found[0]));
          from = found.index + found[0].length;
        }
      }
      element.append(text.slice(from));
    }

    center(place) { this.list.scrollTop = place * ROW - this.list.clientHeight / 2; }

    choose(place, then) {
      const line = this.shown[place];
      if (!line) return;
      this.chosen = place;
      const top = place * ROW;
      if (top < this.list.scrollTop || top + ROW > this.list.scrollTop + this.list.clientHeight) this.center(place);
      this.draw();
      this.list.setAttribute("aria-activedescendant", `${this.root.id}-${place}`);
      this.line.hidden = false;
      this.line.textContent = line.text;
      const at = line.at ?? line.near;
      if (!Number.isFinite(at)) return;
      if (then === "jump") this.attempt.timeline?.jump(at);
      else this.attempt.timeline?.mark(at);
    }

    /** Chooses the line nearest to a time; `reveal` brings the log into sight as well. */
    show(at, then) {
      if (then === "reveal") this.root.open = true;
      if (!this.root.open) return;
      this.read();
      if (then === "reveal") this.root.scrollIntoView({ block: "nearest" });
      const place = placeOf(this.shown.map((line) => line.near), at + 0.5);
      if (!this.shown.length) return;
      this.chosen = Math.max(0, place);
      this.center(this.chosen);
      this.draw();
      this.line.hidden = false;
      this.line.textContent = this.shown[this.chosen].text;
    }
  }

  for (const root of all(".attempt")) {
    const attempt = {};
    const timeline = root.querySelector(".timeline");
    if (timeline) attempt.timeline = new Timeline(timeline, attempt);
    attempt.log = new Log(root.querySelector("details.log"), attempt);
    attempts.set(root.id, attempt);
  }

  // A time in a table leads to that time in the timeline.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.time");
    const attempt = link && attempts.get(link.closest(".attempt")?.id);
    if (!attempt?.timeline) return;
    event.preventDefault();
    attempt.timeline.jump(Number(link.dataset.at));
    attempt.log.show(Number(link.dataset.at), "stay");
  });

  const openTarget = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let element = target || null; element; element = element.parentElement) if (element.tagName === "DETAILS") element.open = true;
    if (target) target.scrollIntoView();
  };
  window.addEventListener("hashchange", openTarget);
  openTarget();

  const filter = document.getElementById("case-filter");
  filter?.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of all(".overview tbody tr")) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
})();

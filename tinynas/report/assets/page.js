"use strict";
(() => {
  const $ = (selector) => document.querySelector(selector);
  const $$ = (selector) => [...document.querySelectorAll(selector)];
  let data = JSON.parse($("#data").textContent);
  let selected = null;
  let axis = data.axes.length ? data.axes[0][0] : null;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 40rem)");
  const fine = matchMedia("(pointer: fine)");
  const mode = () => (dark.matches ? "dark" : "light");

  const colored = (node) => {
    if (typeof node === "string") return node[0] === "@" ? data.palettes[mode()][node.slice(1)] : node;
    if (Array.isArray(node)) return node.map(colored);
    if (node && typeof node === "object") {
      const result = {};
      for (const key of Object.keys(node)) result[key] = colored(node[key]);
      return result;
    }
    return node;
  };

  const holder = (name) => $(`[data-figure="${name}"]`);

  function draw(name, drawing, extra = []) {
    const box = holder(name);
    if (!box) return;
    if (!drawing) {
      if (box.data) Plotly.purge(box);
      return;
    }
    const layout = colored(drawing.layout);
    layout.template = { layout: data.themes[mode()] };
    layout.autosize = true;
    if (narrow.matches) layout.margin = { l: 40, r: 8, t: layout.margin?.t ?? 10, b: 36 };
    legend(box, drawing);
    layout.showlegend = false;
    if (name === "pareto" && fine.matches) {
      layout.dragmode = "zoom";
      for (const key of ["xaxis", "yaxis"]) layout[key] = { ...layout[key], fixedrange: false };
    }
    const traces = colored([...drawing.data, ...extra]);
    return Plotly.react(box, traces, layout, { displayModeBar: false, responsive: true, showTips: false });
  }

  // Legends are HTML: they wrap on a phone and leave the picture its room.
  function legend(box, drawing) {
    const old = box.previousElementSibling?.classList.contains("legend") ? box.previousElementSibling : null;
    const named = drawing.layout.showlegend === false ? [] : drawing.data.filter((t) => t.name && t.showlegend !== false);
    old?.remove();
    if (named.length < 2 && !(named.length && drawing.layout.legend)) return;
    const list = document.createElement("ul");
    list.className = "legend";
    list.setAttribute("aria-hidden", "true");
    for (const trace of named) {
      const item = document.createElement("li");
      item.append(swatch(trace), document.createTextNode(trace.name));
      list.append(item);
    }
    box.before(list);
  }

  const UP = "M5 11.5 L16 0.5 M5 6 L10.5 0.5 M10.5 11.5 L16 6", DOWN = "M5 0.5 L16 11.5 M5 6 L10.5 11.5 M10.5 0.5 L16 6";
  const LEVEL = "M5 4 H16 M5 8 H16", UPRIGHT = "M8.5 0.5 V11.5 M12.5 0.5 V11.5";
  const HATCHES = { "/": UP, "\\": DOWN, x: UP + DOWN, "-": LEVEL, "|": UPRIGHT, "+": LEVEL + UPRIGHT, ".": "M8 4 h.01 M13 4 h.01 M8 8.5 h.01 M13 8.5 h.01" };

  function swatch(trace) {
    const make = (name, attributes) => {
      const node = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
      return node;
    };
    const svg = make("svg", { width: 22, height: 12, viewBox: "0 0 22 12" });
    const marker = colored(trace.marker ?? {}), line = colored(trace.line ?? {});
    const color = typeof marker.color === "string" ? marker.color : line.color;
    if (trace.type === "bar") {
      const hatch = marker.pattern?.shape ?? "";
      const plain = { x: 5, y: 0.5, width: 11, height: 11, rx: 2 };
      svg.append(make("rect", hatch ? { ...plain, fill: "none", stroke: color } : { ...plain, fill: color }));
      if (hatch) svg.append(make("path", { d: HATCHES[hatch], stroke: color, "stroke-width": 1.3, "stroke-linecap": "round" }));
      return svg;
    }
    if (trace.mode?.includes("lines")) {
      const dash = { dot: "2.5 2.5", dash: "6 3", solid: "" }[line.dash ?? "solid"];
      svg.append(make("line", { x1: 0, x2: 22, y1: 6, y2: 6, stroke: line.color, "stroke-width": 2.4, "stroke-dasharray": dash }));
    }
    if (trace.mode?.includes("markers")) {
      const symbol = marker.symbol ?? "circle", open = symbol.endsWith("-open");
      const look = { fill: open ? "none" : color ?? line.color, stroke: open ? color : "none", "stroke-width": 1.8 };
      if (symbol.startsWith("diamond")) svg.append(make("path", { d: "M11 1 L16 6 L11 11 L6 6 Z", ...look }));
      else if (symbol.startsWith("line")) svg.append(make("path", { d: "M11 1.5 V10.5", stroke: color, "stroke-width": 1.6 }));
      else svg.append(make("circle", { cx: 11, cy: 6, r: Math.min(5, (marker.size ?? 8) / 2), ...look }));
    }
    return svg;
  }

  // Slots hold text made and escaped by tinynas; class names and the like come as text inside it, never as markup.
  function fill(attribute, texts) {
    for (const element of $$(`[data-${attribute}]`)) {
      const html = texts[element.dataset[attribute]] ?? "";
      if (element.tinynas !== html) {
        element.tinynas = html;
        element.innerHTML = html;
      }
    }
  }

  const pareto = () => data.figures.pareto[axis];

  function where(id) {
    for (const trace of pareto()?.data ?? []) {
      const index = (trace.customdata ?? []).indexOf(id);
      if (index >= 0) return [trace.x[index], trace.y[index]];
    }
    return null;
  }

  function drawPareto() {
    const point = selected && where(selected);
    const extra = point
      ? [{ type: "scatter", mode: "markers", x: [point[0]], y: [point[1]], showlegend: false, hoverinfo: "skip",
           marker: { size: 25, symbol: "circle-open", color: "@ink", line: { width: 2 } } }]
      : [];
    const box = holder("pareto");
    draw("pareto", pareto(), extra);
    if (!box.tinynas) {
      box.tinynas = true;
      box.on?.("plotly_click", (event) => {
        const id = event.points.map((p) => p.customdata).find((c) => typeof c === "string");
        if (id) select(id);
      });
    }
  }

  function drawNet() {
    const net = data.nets[selected];
    for (const name of ["strip", "memory", "layers", "training", "confusion_float", "confusion_int8", "curve", "stream", "parts"]) {
      draw(name, net?.figures[name]);
    }
  }

  function drawRun() {
    drawPareto();
    draw("progress", data.figures.progress);
    holder("progress").hidden = !data.figures.progress;
    $("#card-spaces").hidden = !data.figures.spaces;
    draw("spaces", data.figures.spaces);
    for (let i = 0; i < 4; i++) {
      const drawing = data.figures.limits[i];
      const box = holder(`limit${i}`);
      box.hidden = !drawing;
      draw(`limit${i}`, drawing);
    }
    $("#limits").className = `grid ${["", "", "two", "three", "two"][data.figures.limits.length] ?? ""}`;
  }

  function select(id, { keep = true } = {}) {
    if (!data.nets[id]) return;
    selected = id;
    const net = data.nets[id];
    fill("net", net.words);
    $("#choice").value = id;
    for (const button of $$("button.net")) {
      const on = button.dataset.id === id;
      button.closest("tr").classList.toggle("selected", on);
      button.setAttribute("aria-pressed", String(on));
    }
    const float = Boolean(net.figures.confusion_float), int8 = Boolean(net.figures.confusion_int8);
    $("#card-classes").hidden = !net.words["classes-words"];
    $("#card-float").hidden = !float;
    $("#card-int8").hidden = !int8;
    $("#confusions").hidden = !float && !int8;
    const { curve, stream, parts } = net.figures;
    $("#card-curve").hidden = !curve;
    $("#card-stream").hidden = !stream;
    $("#card-parts").hidden = !parts;
    const served = [curve, stream, parts].filter(Boolean).length;
    $("#served").hidden = !served;
    $("#served").className = served > 1 ? "grid two" : "grid";
    if (parts) holder("parts").style.height = `${parts.layout.height}px`;
    holder("training").hidden = !net.figures.training;
    drawPareto();
    drawNet();
    if (keep) history.replaceState(null, "", `#net=${id}`);
  }

  function step(by) {
    const order = data.order;
    const at = Math.max(0, order.indexOf(selected));
    select(order[(at + by + order.length) % order.length]);
  }

  function alongFront(by) {
    // To the right is dearer; from a network off the front the nearest one begins.
    const walk = data.figures.fronts[axis] ?? [];
    if (!walk.length) return;
    const at = walk.indexOf(selected);
    select(walk[at < 0 ? 0 : Math.min(walk.length - 1, Math.max(0, at + by))]);
  }

  function fillChoices() {
    const choice = $("#choice");
    choice.replaceChildren();
    for (const [title, ids] of data.groups) {
      const group = document.createElement("optgroup");
      group.label = title;
      for (const id of ids) group.append(new Option(data.nets[id].name, id));
      if (ids.length) choice.append(group);
    }
    if (selected) choice.value = selected;
  }

  function fillAxes() {
    const set = $("#axes");
    for (const old of [...set.querySelectorAll("input, label")]) old.remove();
    for (const [name, title] of data.axes) {
      const input = Object.assign(document.createElement("input"), { type: "radio", name: "axis", id: `axis-${name}`, value: name, checked: name === axis });
      const label = Object.assign(document.createElement("label"), { htmlFor: input.id, textContent: title });
      input.addEventListener("change", () => { axis = name; drawPareto(); });
      set.append(input, label);
    }
    set.hidden = data.axes.length < 2;
  }

  function show() {
    fillAxes();
    fillChoices();
    drawRun();
    if (!data.nets[selected]) selected = data.nets[wished()] ? wished() : data.order[0] ?? null;
    if (selected) select(selected, { keep: false });
    else {
      fill("net", data.blank);
      for (const id of ["#confusions", "#served"]) $(id).hidden = true;
      holder("training").hidden = true;
    }
  }

  const wished = () => new URLSearchParams(location.hash.slice(1)).get("net");

  // Events, each bound once.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.net");
    if (button) select(button.dataset.id);
  });
  $("#choice").addEventListener("change", (event) => select(event.target.value));
  $("#previous").addEventListener("click", () => step(-1));
  $("#next").addEventListener("click", () => step(1));
  $("#pareto").addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, Home: -1e6, End: 1e6 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    alongFront(by);
  });
  addEventListener("hashchange", () => { if (wished()) select(wished(), { keep: false }); });
  dark.addEventListener("change", () => { drawRun(); drawNet(); });
  narrow.addEventListener("change", () => { drawRun(); drawNet(); });

  // News while a search runs: the page loads itself in a hidden frame and takes over what changed.
  let frame = null;
  addEventListener("message", (event) => {
    if (!frame || event.source !== frame.contentWindow || typeof event.data?.tinynas !== "string") return;
    const news = JSON.parse(event.data.tinynas);
    frame.remove();
    frame = null;
    if (news.stamp === data.stamp) return;
    data = news;
    document.title = data.title;
    fill("slot", data.slots);
    show();
  });
  setInterval(() => {
    if (!data.running || document.hidden) return;
    frame?.remove();
    frame = Object.assign(document.createElement("iframe"), { hidden: true, title: "news", src: `${location.href.split("#")[0].split("?")[0]}?${Date.now()}#probe` });
    frame.setAttribute("sandbox", "allow-scripts");
    document.body.append(frame);
  }, data.every * 1000);

  selected = data.nets[wished()] ? wished() : null;
  show();
  document.documentElement.dataset.ready = "yes";
})();

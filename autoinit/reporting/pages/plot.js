// The plot of the signal, what it says of a place, and its legend.

const KINDS = ["predicted", "measured"];
const SIZE = { width: 960, height: 270, left: 52, right: 20, top: 26, bottom: 38 };
const shown = { predicted: true, measured: true, streams: true, branches: true, states: [] };
const sums = () => model.signal.states.some((state) => KINDS.some((kind) => state[kind]?.places.some((place) => place.stream)));
const panels = () => [
  { title: `forward: pre-activations${sums() ? " and sums" : ""}`, key: "q", band: true },
  { title: "backward: their gradients", key: "grad", band: false },
];
const logarithm = (value) => (value !== null && value > 0 && Number.isFinite(value) ? Math.log10(value) : null);

// The places that the legend leaves on, as {state, kind, place, depth, level} with level the log10 of the moment.
function visible(key) {
  const found = [];
  model.signal.states.forEach((state, index) => {
    if (!shown.states[index]) return;
    for (const kind of KINDS) {
      if (!shown[kind] || !state[kind]) continue;
      for (const place of state[kind].places) {
        if (!(place.stream ? shown.streams : shown.branches)) continue;
        const value = numeric(place[key]);
        if (value === null || Number.isNaN(value)) continue;
        found.push({ state: index, kind, place, depth: place.depth, value, level: logarithm(value) });
      }
    }
  });
  return found;
}

function scales(points, panel) {
  const levels = points.filter((each) => each.level !== null).map((each) => each.level);
  if (panel.band) levels.push(Math.log10(0.5), Math.log10(2));
  let low = levels.reduce((a, b) => Math.min(a, b), Infinity);
  let high = levels.reduce((a, b) => Math.max(a, b), -Infinity);
  if (low > high) [low, high] = [-1, 1];
  const margin = Math.max(0.06 * (high - low), (2 - (high - low)) / 2);
  [low, high] = [low - margin, high + margin];
  const deepest = Math.max(1, model.signal.depth);
  const side = Math.max(0.5, 0.02 * deepest);
  const across = SIZE.width - SIZE.left - SIZE.right;
  const down = SIZE.height - SIZE.top - SIZE.bottom;
  return {
    low,
    high,
    x: (depth) => SIZE.left + ((depth - model.signal.first + side) / (deepest - model.signal.first + 2 * side)) * across,
    y: (level) => SIZE.top + ((high - level) / (high - low)) * down,
    edge: (value) => (value > 0 ? SIZE.top : SIZE.height - SIZE.bottom),
  };
}

function steps(low, high, most) {
  const least = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1)));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= least);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high; at += step) found.push(at);
  return found;
}

function frame(svg, scale, panel) {
  const [left, right] = [SIZE.left, SIZE.width - SIZE.right];
  const bottom = SIZE.height - SIZE.bottom;
  if (panel.band) {
    const [top, end] = [scale.y(Math.log10(2)), scale.y(Math.log10(0.5))];
    svg.append(drawn("rect", { class: "band", x: left, y: top, width: right - left, height: end - top }));
    svg.append(drawn("line", { class: "one", x1: left, x2: right, y1: scale.y(0), y2: scale.y(0) }));
  }
  for (const level of steps(scale.low, scale.high, 7)) {
    svg.append(drawn("line", { class: "grid", x1: left, x2: right, y1: scale.y(level), y2: scale.y(level) }));
    const label = drawn("text", { x: left - 8, y: scale.y(level) + 4, "text-anchor": "end" }, "10");
    label.append(drawn("tspan", { dy: -5, "font-size": 9 }, String(level).replace("-", "−")));
    svg.append(label);
  }
  for (const depth of steps(model.signal.first, Math.max(1, model.signal.depth), Math.min(12, SIZE.width / 60))) {
    svg.append(drawn("line", { class: "axis", x1: scale.x(depth), x2: scale.x(depth), y1: bottom, y2: bottom + 4 }));
    svg.append(drawn("text", { x: scale.x(depth), y: bottom + 17, "text-anchor": "middle" }, String(depth)));
  }
  svg.append(drawn("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
  svg.append(drawn("text", { class: "title", x: left, y: 16 }, panel.title));
  svg.append(drawn("text", { x: right, y: SIZE.height - 4, "text-anchor": "end" }, "depth"));
}

// The geometric mean at each depth, as [depth, level].
function means(points) {
  const sums = new Map();
  for (const { depth, level } of points) {
    if (level === null) continue;
    const [sum, count] = sums.get(depth) ?? [0, 0];
    sums.set(depth, [sum + level, count + 1]);
  }
  return [...sums].map(([depth, [sum, count]]) => [depth, sum / count]).sort((one, other) => one[0] - other[0]);
}

function marker(point, scale, many) {
  const [x, y] = [scale.x(point.depth), point.level === null ? scale.edge(point.value) : scale.y(point.level)];
  const hue = `var(--hue${point.state % 6})`;
  if (point.level === null) {
    const size = many ? 2 : 5;
    return drawn("path", { class: "edge", d: `M${x - size} ${y}h${2 * size}L${x} ${y + (point.value > 0 ? -1.4 : 1.4) * size}z`, fill: hue });
  }
  if (point.kind === "predicted") return drawn("circle", { class: "dot", cx: x, cy: y, r: many ? 1 : 2, fill: hue });
  const size = many ? 2.2 : 4;
  if (!point.place.stream) {
    return drawn("circle", { class: "point", cx: x, cy: y, r: size, fill: hue, ...(many ? { opacity: 0.45 } : { stroke: "var(--ground)" }) });
  }
  const d = `M${x} ${y - size - 1}L${x + size + 1} ${y}L${x} ${y + size + 1}L${x - size - 1} ${y}z`;
  return drawn("path", { class: "point stream", d, fill: "var(--ground)", stroke: hue, "stroke-width": 1.5 });
}

function series(svg, scale, points, panel) {
  const ends = [];
  model.signal.states.forEach((state, index) => {
    const hue = `var(--hue${index % 6})`;
    const own = points.filter((each) => each.state === index);
    if (panel.band && shown.states[index] && state.collapse !== null) {
      const x = scale.x(state.collapse);
      svg.append(drawn("line", { class: "collapse", x1: x, x2: x, y1: SIZE.top, y2: SIZE.height - SIZE.bottom, stroke: hue }));
    }
    for (const stream of [false, true]) {
      const line = means(own.filter((each) => each.kind === "predicted" && each.place.stream === stream));
      if (line.length === 0) continue;
      const path = line.map(([depth, level], at) => `${at ? "L" : "M"}${scale.x(depth).toFixed(1)} ${scale.y(level).toFixed(1)}`);
      svg.append(drawn("path", { class: stream ? "line stream" : "line", d: path.join(""), stroke: hue }));
      if (!stream && state.label) ends.push([scale.y(line.at(-1)[1]), state.label, hue]);
    }
  });
  const many = points.length > 600;
  for (const point of points) svg.append(marker(point, scale, many));
  ends.sort((one, other) => one[0] - other[0]);
  let above = -Infinity;
  for (const [wanted, label, hue] of ends) {
    above = Math.max(wanted, above + 15);
    const end = drawn("text", { class: "end", x: SIZE.width - SIZE.right + 6, y: above + 4 }, label);
    end.style.fill = hue;
    svg.append(end);
  }
}

function panel(described) {
  const svg = drawn("svg", { class: "panel", viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, tabindex: 0, role: "img" });
  svg.setAttribute("aria-label", `${described.title}, second moment against depth`);
  const points = visible(described.key);
  const scale = scales(points, described);
  frame(svg, scale, described);
  series(svg, scale, points, described);
  const cursor = drawn("circle", { class: "cursor", r: 7, visibility: "hidden" });
  svg.append(cursor);
  const placed = points.map((point) => ({
    ...point,
    x: scale.x(point.depth),
    y: point.level === null ? scale.edge(point.value) : scale.y(point.level),
  }));
  placed.sort((one, other) => one.x - other.x || one.y - other.y);
  attend(svg, cursor, placed);
  return svg;
}

// Pointer and keys: the nearest place is told in the tip; a click finds its row.
function attend(svg, cursor, placed) {
  let at = -1;
  const point = (index) => {
    at = index;
    const here = placed[index];
    cursor.setAttribute("visibility", here ? "visible" : "hidden");
    if (!here) return hideTip();
    cursor.setAttribute("cx", here.x);
    cursor.setAttribute("cy", here.y);
    const box = svg.getBoundingClientRect();
    const zoom = box.width / SIZE.width;
    showTip(here, box.left + here.x * zoom, box.top + here.y * zoom);
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const zoom = SIZE.width / box.width;
    const [x, y] = [(event.clientX - box.left) * zoom, (event.clientY - box.top) * zoom];
    let [nearest, least] = [-1, 30 ** 2];
    placed.forEach((each, index) => {
      const distance = (each.x - x) ** 2 + (each.y - y) ** 2;
      if (distance < least) [nearest, least] = [index, distance];
    });
    if (nearest !== at) point(nearest);
  });
  svg.addEventListener("pointerleave", () => point(-1));
  svg.addEventListener("blur", () => point(-1));
  svg.addEventListener("click", () => placed[at] && findRow(placed[at].place.name));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Enter" && placed[at]) findRow(placed[at].place.name);
    if (event.key === "Escape") point(-1);
    if (!step || placed.length === 0) return;
    event.preventDefault();
    point(at < 0 ? (step > 0 ? 0 : placed.length - 1) : Math.min(placed.length - 1, Math.max(0, at + step)));
  });
}

function showTip(here, x, y) {
  const { place } = here;
  const kind = [model.signal.states[here.state].label, here.kind].filter(Boolean).join(", ");
  const tip = byId("tip");
  const within = place.stream && place.module ? ` in ${place.module}` : "";
  tip.replaceChildren(element("b", {}, place.name + within), element("div", {}, `${place.op}, depth ${place.depth}; ${kind}`));
  for (const key of ["q", "p", "s", "mean", "grad"]) {
    if (place[key] !== null) tip.append(element("div", {}, `${key} = ${formatted(place[key])}`));
  }
  if (place.note) tip.append(element("div", {}, place.note));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - box.width - 8))}px`;
  tip.style.top = `${y + 14 + box.height > innerHeight ? Math.max(8, y - box.height - 14) : y + 14}px`;
}

function hideTip() {
  byId("tip").hidden = true;
}

function plot() {
  hideTip();
  SIZE.width = Math.max(320, byId("plot").clientWidth);
  SIZE.right = model.signal.states.length > 1 ? 78 : 16;
  byId("plot").replaceChildren(...panels().map(panel));
}

function sample(kind) {
  const svg = drawn("svg", { viewBox: "0 0 26 12", "aria-hidden": "true" });
  const parts = {
    predicted: () => drawn("line", { x1: 0, x2: 26, y1: 6, y2: 6, stroke: "var(--ink)", "stroke-width": 2 }),
    measured: () => drawn("circle", { cx: 13, cy: 6, r: 4, fill: "var(--ink)" }),
    branches: () => drawn("line", { x1: 0, x2: 26, y1: 6, y2: 6, stroke: "var(--faint)", "stroke-width": 2 }),
    streams: () => drawn("line", { class: "stream", x1: 0, x2: 26, y1: 6, y2: 6, stroke: "var(--faint)" }),
  };
  svg.append(kind in parts ? parts[kind]() : drawn("rect", { y: 2, width: 26, height: 8, fill: `var(--hue${kind % 6})` }));
  return svg;
}

function toggle(words, kind, isOn, turn) {
  const button = element("button", { type: "button", "aria-pressed": "true" }, sample(kind), words);
  button.addEventListener("click", () => {
    turn();
    button.setAttribute("aria-pressed", String(isOn()));
    plot();
    showColumns();
  });
  byId("legend").append(button);
}

function legend() {
  byId("legend").replaceChildren();
  Object.assign(shown, { predicted: true, measured: true, streams: true, branches: true, states: model.signal.states.map(() => true) });
  if (model.signal.states.length > 1) {
    model.signal.states.forEach((state, index) => {
      toggle(state.label, index, () => shown.states[index], () => (shown.states[index] = !shown.states[index]));
    });
  }
  const sorts = { branches: "pre-activations", streams: "sums of the residual stream" };
  if (sums()) {
    for (const [sort, words] of Object.entries(sorts)) toggle(words, sort, () => shown[sort], () => (shown[sort] = !shown[sort]));
  }
  if (KINDS.every((kind) => model.signal.states.some((state) => state[kind]))) {
    for (const kind of KINDS) toggle(kind, kind, () => shown[kind], () => (shown[kind] = !shown[kind]));
  }
}

// Pointing at a weight, or giving it the focus, lights up its walk; what it says stands below the picture.

const ARROWS = { ArrowDown: [0, 1], ArrowUp: [0, -1], ArrowRight: [1, 0], ArrowLeft: [-1, 0] };
let pinned = null; // the operation whose walk stays lit
let asked = 0; // how often a layer was asked for: only the last is shown

const nodeOf = (target) => nodes.get(target.closest?.(".node")?.id);

// Layers whose walks differ: of repeated blocks, those of the first.
function differing(op) {
  const seen = new Map();
  for (const layer of op.uses) {
    const key = JSON.stringify([layer.kind, layer.feeds, layer.walks.map((walk) => [walk.rows, walk.steps])]);
    seen.set(key, [...(seen.get(key) ?? []), layer]);
  }
  return [...seen.values()];
}

function light(op) {
  const svg = byId("picture");
  for (const each of svg.querySelectorAll(".lit, .end")) each.classList.remove("lit", "end");
  for (const { line } of edges) line.setAttribute("marker-end", "url(#arrow)");
  const walks = op ? differing(op).flatMap(([layer]) => layer.walks) : [];
  svg.classList.toggle("walking", walks.length > 0);
  for (const walk of walks) {
    const way = [op, ...walk.steps.map((place) => ops[place])].map(shownFor);
    way.forEach((node, at) => {
      const group = byId(node.id);
      if (!group) return; // a box was opened or closed, and is not drawn so yet
      group.classList.add("lit");
      group.style.setProperty("--step", at);
      if (at === way.length - 1 && at > 0) group.classList.add("end");
    });
    const pairs = new Set(way.slice(1).map((node, at) => `${way[at].id}>${node.id}`));
    for (const edge of edges) {
      if (!pairs.has(`${edge.from}>${edge.to}`)) continue;
      edge.line.classList.add("lit");
      edge.line.setAttribute("marker-end", "url(#arrow-lit)");
    }
  }
}

function tell(node) {
  byId("walk").replaceChildren(...(node ? told(node) : [element("p", { class: "hint" }, "Point at a weight, or go to it with the arrow keys, to see its walk: operation by operation to the one that ended it. Enter opens a box, or keeps a walk lit.")]));
}

function told(node) {
  if (node.isBox) return [element("p", {}, element("b", {}, node.path || node.label || model.name), `${node.times > 1 ? ` and its like, ${node.times} in all` : ""}: ${node.face.under}, ${plural(node.weights * node.times, "weight operation")}.`)];
  if (!node.uses.length) return [element("p", {}, element("b", {}, node.name), ` ${node.op}: ${ROLES[node.role] ?? node.role}`)];
  return differing(node).map((layers) => layerTold(layers));
}

const ROLES = {
  weight: "a weight enters here; what it feeds is not shown.",
  nonlinearity: "a nonlinearity, which ends the walk of every weight before it.",
  transparent: "passes the signal on; walks go through.",
  norm: "a norm; walks go through, and the weights before it are normed.",
  add: "a sum of two signals, which ends the walk of every weight before it.",
  product: "a product of two signals, which ends the walk of every weight before it.",
  split: "parts the features; each part has a walk of its own.",
  sink: "the signal ends here.",
  source: "the signal, or a table, comes in here.",
  unknown: "unknown to autoinit: nothing is said of what follows.",
};

// Walks of a weight's parts that take one way are told together.
function alikeWalks(layer) {
  const found = new Map();
  for (const walk of layer.walks) {
    const key = JSON.stringify([walk.also, walk.feeds, walk.why, walk.path]);
    found.set(key, [...(found.get(key) ?? []), walk]);
  }
  return [...found.values()];
}

function layerTold([layer, ...others]) {
  const made = element("div", { class: "told" });
  const alike = others.length ? element("small", {}, ` and ${others.length} alike, such as ${others.at(-1).name}`) : "";
  const tags = tagsOf([layer]).map((tag) => element("span", { class: `badge ${tag.sort}` }, tag.text));
  made.append(element("p", { class: "head" }, chip(layer.kind), element("b", {}, layer.name), ` feeds ${layer.feeds || "what no plan says"} `, ...tags, alike));
  for (const [walk, ...same] of alikeWalks(layer)) {
    const way = element("ol", { class: "way" }, element("li", {}, layer.name), ...walk.path.map((name) => element("li", {}, name)));
    const parts = [walk, ...same].map((each) => each.rows).filter(Boolean);
    const shown = parts.length > 4 ? `${parts.slice(0, 3).join(", ")} and ${parts.length - 3} more parts` : parts.join(", ");
    const rows = parts.length ? element("b", {}, `rows ${shown} `) : walk.also ? element("b", {}, `also ${walk.feeds}: `) : "";
    made.append(element("p", {}, rows, layer.walks.length > 1 ? chip(walk.kind) : "", walk.why), way);
  }
  const stds = [layer.before !== null && `std now ${formatted(layer.before)}`, layer.std !== null && `planned ${formatted(layer.std)}`].filter(Boolean);
  if (stds.length) made.append(element("p", {}, stds.join(", "), layer.scheme ? `: ${layer.scheme}, gain ${formatted(layer.gain)}, fan ${layer.fan}` : ""));
  if (layer.note) made.append(element("p", {}, layer.note));
  return made;
}

function lookAt(node) {
  const op = node && !node.isBox ? node : null;
  light(op && op.uses.length ? op : null);
  tell(node);
}

function pin(op) {
  pinned = pinned === op ? null : op;
  for (const each of byId("picture").querySelectorAll(".pinned")) each.classList.remove("pinned");
  keepLit();
  lookAt(pinned);
}

// What is kept lit, in a picture that is drawn anew as well.
function keepLit() {
  if (pinned) byId(shownFor(pinned).id)?.classList.add("pinned");
  light(pinned);
}

function act(node) {
  if (node.isBox) return toggleBox(node).then(() => lookAt(pinned ?? node));
  if (node.role !== "weight") return null;
  pin(node);
  if (pinned && node.uses.length) markRow(node.uses[0]);
  return null;
}

function listen() {
  const canvas = byId("canvas"); // not the SVG itself, which browsers would give the focus for it
  canvas.addEventListener("pointerover", (event) => nodeOf(event.target) && lookAt(nodeOf(event.target)));
  canvas.addEventListener("pointerleave", () => lookAt(pinned));
  canvas.addEventListener("focusin", (event) => lookAt(nodeOf(event.target)));
  canvas.addEventListener("focusout", () => lookAt(pinned));
  canvas.addEventListener("click", (event) => {
    const node = nodeOf(event.target);
    if (!node) return;
    focusOn(node, { preventScroll: true });
    act(node);
  });
  canvas.addEventListener("keydown", (event) => {
    const node = nodeOf(event.target);
    if (!node) return;
    if (event.key === "Escape" && pinned) pin(pinned);
    if (event.key === "Enter" || event.key === " ") act(node);
    if (event.key in ARROWS) {
      const next = neighbour(node, ARROWS[event.key]);
      if (next) focusOn(next);
    }
    if (event.key in ARROWS || event.key === " ") event.preventDefault();
  });
  byId("open-all").addEventListener("click", openAll);
  byId("close-all").addEventListener("click", closeAll);
  byId("smaller").addEventListener("click", () => zoom(1 / 1.25));
  byId("larger").addEventListener("click", () => zoom(1.25));
  byId("fit").addEventListener("click", fit);
}

// Shows a layer in the picture: opens what is around it, lights its walk, keeps it lit.
async function showInPicture(layer) {
  const place = model.layers.indexOf(layer);
  const op = ops.find((each) => each.layers.includes(place));
  if (!op) return;
  asked += 1;
  const mine = asked;
  await reveal(op);
  if (mine !== asked || nodes.get(op.id) !== op) return;
  focusOn(op);
  if (pinned !== op) pin(op);
  bringIntoView(distinct([op, ...differing(op)[0][0].walks.flatMap((walk) => walk.steps.map((step) => ops[step]))].map(shownFor)));
}

function pictureLegend() {
  const used = data.kinds.filter(([kind]) => model.layers.some((layer) => layer.kind === kind));
  const item = (mark, words) => element("li", {}, mark, words);
  const shape = (sort, ...parts) => {
    const svg = drawn("svg", { viewBox: "0 0 30 16", "aria-hidden": "true" });
    svg.append(...(parts.length ? parts : [drawn("rect", { class: sort, x: 1.5, y: 1.5, width: 27, height: 13, rx: 4 })]));
    return svg;
  };
  const colours = element("ul", {}, element("li", { class: "hint" }, "A weight feeds"), ...used.map(([kind, words]) => item(chip(kind), words)));
  const states = element("ul", {},
    item(shape("outline"), "weight"),
    item(shape("outline status-kept"), "kept: the author's intent"),
    item(shape("outline status-skipped"), "skipped: not trained, or asked for"),
    item(shape("", drawn("rect", { class: "outline faulty", x: 1.5, y: 1.5, width: 27, height: 13, rx: 4 }), drawn("path", { class: "warning", d: "M15 3l5 9h-10z" })), "with a finding"),
    item(shape("", drawn("rect", { class: "pill", x: 1, y: 1, width: 28, height: 14, rx: 7 })), "nonlinearity; sum, product, split"),
    item(shape("", drawn("rect", { class: "normbox", x: 1, y: 1, width: 28, height: 14, rx: 2 }), ...[5, 25].map((x) => drawn("line", { class: "side", x1: x, x2: x, y1: 1, y2: 15 }))), "norm"),
  );
  byId("picture-legend").replaceChildren(...(used.length ? [colours] : []), states);
}

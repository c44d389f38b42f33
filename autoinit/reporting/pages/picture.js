// The graph: which boxes are open, how wide each node is, what the layout gives, and the drawing of it.

const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';
const WIDEST = 230;
const AT_FIRST = 16; // nodes that are shown before anyone opens a box;
const FEW = 10; // or somewhat more where there are fewer than these
const AT_MOST = 400; // nodes that "Open all" shows
const LAYOUT = {
  "elk.algorithm": "layered",
  "elk.direction": "DOWN",
  "elk.hierarchyHandling": "INCLUDE_CHILDREN",
  "elk.edgeRouting": "ORTHOGONAL",
  "elk.json.shapeCoords": "ROOT",
  "elk.json.edgeCoords": "ROOT",
  "elk.padding": "[top=12,left=12,bottom=12,right=12]",
  "elk.layered.mergeEdges": "true",
  "elk.layered.considerModelOrder.strategy": "NODES_AND_EDGES",
  "elk.layered.nodePlacement.strategy": "NETWORK_SIMPLEX",
  "elk.layered.spacing.nodeNodeBetweenLayers": "26",
  "elk.layered.spacing.edgeNodeBetweenLayers": "12",
  "elk.spacing.nodeNode": "22",
  "elk.spacing.edgeNode": "14",
};
const SIGNS = { add: "+", product: "×", unknown: "?" };
const elk = typeof ELK === "undefined" ? null : new ELK(); // not there where there is nothing to lay out
const pen = document.createElement("canvas").getContext("2d");

let nodes = new Map(); // by id: a box or an operation of the model that is shown
let boxes = [];
let ops = [];
let edges = []; // of what is visible: {from, to, path element}
let scale = 1;
let drawing = 0; // how many layouts were asked for: an older one that comes late is dropped
let latest = null; // the promise of the last of them

function textWidth(text, size, weight = 400) {
  pen.font = `${weight} ${size}px ${FONT}`;
  return pen.measureText(text).width;
}

function shortened(text, room, size, weight) {
  if (textWidth(text, size, weight) <= room) return text;
  let kept = text.length;
  while (kept > 1 && textWidth(`${text.slice(0, kept)}…`, size, weight) > room) kept -= 1;
  return `${text.slice(0, kept)}…`;
}

// --- what there is -----------------------------------------------------------------------------------------------

function readPicture() {
  boxes = model.boxes.map((box, index) => ({ ...box, id: `b${index}`, items: [], open: index === 0, isBox: true }));
  ops = model.ops.map((op, index) => ({ ...op, id: `o${index}`, first: index, uses: op.layers.map((at) => model.layers[at]) }));
  for (const each of [...boxes, ...ops]) {
    each.around = each.within === null ? null : boxes[each.within];
    each.around?.items.push(each);
  }
  for (const box of [...boxes].reverse()) {
    const inner = box.items.map((item) => (item.isBox ? item : { count: 1, uses: item.uses, weights: item.role === "weight" ? 1 : 0 }));
    box.count = inner.reduce((sum, item) => sum + item.count * (item.times ?? 1), 0);
    box.weights = inner.reduce((sum, item) => sum + item.weights * (item.times ?? 1), 0);
    box.uses = inner.flatMap((item) => item.uses);
    box.items.sort((one, other) => one.first - other.first);
    box.first = box.items[0]?.first;
  }
  nodes = new Map([...boxes, ...ops].map((each) => [each.id, each]));
  openSome();
}

// Opens level by level, as long as what is shown then is not too much to look at.
function openSome() {
  let level = [boxes[0]];
  let shown = boxes[0]?.items.length ?? 0;
  const most = shown < FEW ? 1.5 * AT_FIRST : AT_FIRST;
  while (level.length) {
    level = level.flatMap((box) => box.items.filter((item) => item.isBox));
    shown += level.reduce((sum, box) => sum + box.items.length - 1, 0);
    if (shown > most) return;
    for (const box of level) box.open = true;
  }
}

// What stands for a node in the picture: itself, or the outermost closed box around it.
function shownFor(node) {
  let found = node;
  for (let box = node.around; box; box = box.around) if (!box.open) found = box;
  return found;
}

// --- how each looks ----------------------------------------------------------------------------------------------

function distinct(values) {
  return [...new Set(values)];
}

// The small labels of a weight: what is told by more than colour.
function tagsOf(layers) {
  const codes = distinct(layers.flatMap((layer) => layer.codes));
  const states = distinct(layers.map((layer) => layer.status).filter((status) => status && status !== "planned"));
  const normed = layers.some((layer) => layer.normed) ? ["normed"] : [];
  return [...codes.map((text) => ({ text, sort: "fault" })), ...states.map((text) => ({ text, sort: "state" })), ...normed.map((text) => ({ text, sort: "norm" }))];
}

const tagWidth = (tag) => textWidth(tag.text, 10, 600) + (tag.sort === "fault" ? 20 : 10);
const tagsWidth = (tags) => tags.reduce((sum, tag) => sum + tagWidth(tag) + 4, 0);

// Measured when it is first shown.
function faceOf(node) {
  node.face ??= node.isBox ? boxFace(node) : opFace(node);
  return node.face;
}

function opFace(op) {
  const own = op.uses[0]?.name.split(".").at(-1);
  if (op.role === "weight") {
    const title = shortened(op.label || own || op.op, WIDEST - 30, 13, 600);
    const feeds = shortened(distinct(op.uses.map((layer) => layer.feeds).filter(Boolean)).join(" · ") || op.op, WIDEST - 30, 11);
    const tags = tagsOf(op.uses);
    const width = Math.max(textWidth(title, 13, 600), textWidth(feeds, 11), tagsWidth(tags)) + 32;
    return { title, feeds, tags, width, height: tags.length ? 58 : 42 };
  }
  const sign = SIGNS[op.role];
  const title = shortened(sign && op.role !== "unknown" ? `${sign} ${op.op}` : op.op, 150, 12);
  const name = op.label && op.label !== op.op ? shortened(op.label, WIDEST - 60, 11) : "";
  const width = textWidth(title, 12) + (name ? textWidth(name, 11) + 8 : 0) + 28;
  return { title, name, width, height: 26 };
}

function boxFace(box) {
  const times = box.times > 1 ? `×${box.times}` : "";
  const title = shortened(box.label || model.name, WIDEST, 13, 600);
  const kinds = data.kinds.map(([kind]) => kind).filter((kind) => box.uses.some((layer) => layer.kind === kind));
  const counted = kinds.map((kind) => ({ kind, count: distinct(box.uses.filter((layer) => layer.kind === kind)).length }));
  const faults = distinct(box.uses).filter((layer) => layer.codes.length).length;
  const under = plural(box.count * box.times, "operation");
  const chips = counted.reduce((sum, each) => sum + 16 + textWidth(String(each.count), 11) + 8, 0);
  const head = textWidth(title, 13, 600) + (times ? textWidth(times, 12, 600) + 14 : 0) + 22;
  const width = Math.max(head, textWidth(under, 11) + (faults ? 40 : 0), chips) + 26;
  return { title, times, under, counted, faults, head, width, height: counted.length ? 64 : 46 };
}

// --- the layout --------------------------------------------------------------------------------------------------

function arranged(item) {
  if (!item.isBox || !item.open) return { id: item.id, width: faceOf(item).width, height: faceOf(item).height };
  const padding = `[top=${item.around ? 38 : 8},left=14,bottom=14,right=14]`;
  const least = `(0,${Math.ceil(faceOf(item).head + 24)})`; // the layout turns it with the direction
  const size = { "elk.nodeSize.constraints": "MINIMUM_SIZE", "elk.nodeSize.minimum": least };
  return { id: item.id, layoutOptions: { "elk.padding": padding, ...size }, children: item.items.map(arranged) };
}

function visibleEdges() {
  const found = new Map();
  for (const op of ops) {
    const to = shownFor(op);
    for (const place of op.reads) {
      const from = shownFor(ops[place]);
      if (from !== to) found.set(`${from.id}>${to.id}`, { id: `${from.id}>${to.id}`, sources: [from.id], targets: [to.id] });
    }
  }
  return [...found.values()];
}

// Lays out what is open and draws it. `anchor`: a node that keeps its place on the screen, and the focus.
function draw(anchor = null) {
  latest = laidOut(anchor);
  return latest;
}

async function laidOut(anchor) {
  const asked = (drawing += 1);
  const before = anchor && byId(anchor.id)?.getBoundingClientRect();
  const root = { id: "picture-root", layoutOptions: LAYOUT, children: boxes[0]?.items.map(arranged) ?? [], edges: visibleEdges() };
  const made = await elk.layout(root);
  if (asked !== drawing) return latest;
  paint(made);
  keepLit();
  const after = anchor && byId(anchor.id)?.getBoundingClientRect();
  if (before && after) {
    byId("canvas").scrollBy(after.left - before.left, after.top - before.top);
    focusOn(anchor, { preventScroll: true });
  }
  byId("canvas").dataset.drawn = String(asked);
  return null;
}

function paint(made) {
  const svg = byId("picture");
  const [width, height] = [made.width ?? 0, made.height ?? 0];
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.dataset.width = width;
  svg.dataset.height = height;
  const [grounds, lines, faces] = [drawn("g"), drawn("g"), drawn("g")];
  const places = [];
  const walk = (each) => {
    for (const child of each.children ?? []) {
      places.push(child);
      walk(child);
    }
  };
  walk(made);
  for (const place of places) {
    const node = nodes.get(place.id);
    node.place = place;
    if (node.isBox && node.open) grounds.append(drawn("rect", { class: "ground", x: place.x, y: place.y, width: place.width, height: place.height, rx: 10 }));
    faces.append(nodeDrawn(node, place));
  }
  edges = made.edges.map((edge) => {
    const line = drawn("path", { class: "edge", d: edge.sections.map(rounded).join(""), "marker-end": "url(#arrow)" });
    lines.append(line);
    return { from: edge.sources[0], to: edge.targets[0], line };
  });
  svg.replaceChildren(arrows(), grounds, lines, faces);
  faces.querySelector(".node")?.setAttribute("tabindex", "0");
  resize();
}

function arrows() {
  const defs = drawn("defs");
  for (const [id, sort] of [["arrow", "tip"], ["arrow-lit", "tip-lit"]]) {
    const marker = drawn("marker", { id, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 9, markerHeight: 9, markerUnits: "userSpaceOnUse", orient: "auto" });
    marker.append(drawn("path", { class: sort, d: "M0 0.5L8 4L0 7.5z" }));
    defs.append(marker);
  }
  return defs;
}

// A section of an edge as a path whose corners are round.
function rounded(section) {
  const points = [section.startPoint, ...(section.bendPoints ?? []), section.endPoint];
  let path = `M${points[0].x} ${points[0].y}`;
  for (let at = 1; at < points.length - 1; at += 1) {
    const [before, here, after] = [points[at - 1], points[at], points[at + 1]];
    const radius = Math.min(6, distance(before, here) / 2, distance(here, after) / 2);
    const [start, end] = [towards(here, before, radius), towards(here, after, radius)];
    path += `L${start.x} ${start.y}Q${here.x} ${here.y} ${end.x} ${end.y}`;
  }
  return `${path}L${points.at(-1).x} ${points.at(-1).y}`;
}

const distance = (one, other) => Math.hypot(one.x - other.x, one.y - other.y);

function towards(from, to, far) {
  const whole = distance(from, to) || 1;
  return { x: from.x + ((to.x - from.x) * far) / whole, y: from.y + ((to.y - from.y) * far) / whole };
}

// --- the drawing of a node ---------------------------------------------------------------------------------------

function nodeDrawn(node, place) {
  const kind = node.isBox ? (node.open ? "open" : "closed") : `role-${node.role}`;
  const group = drawn("g", { class: `node ${kind}`, id: node.id, transform: `translate(${place.x} ${place.y})`, tabindex: -1, role: "button", "data-name": node.isBox ? node.label : node.name });
  if (node.isBox) group.setAttribute("aria-expanded", String(node.open));
  if (!node.isBox && node.role !== "weight") group.setAttribute("role", "img");
  group.append(drawn("title", {}, spoken(node)));
  if (!node.isBox) group.append(...(node.role === "weight" ? weightDrawn(node, place) : opDrawn(node, place)));
  else group.append(...(node.open ? headDrawn(node, place) : closedDrawn(node, place)));
  return group;
}

// What is written on a node.
function written(node) {
  const face = faceOf(node);
  if (node.isBox) return [face.title, face.times, ...(node.open ? [] : [face.under, face.faults || "", ...face.counted.map((each) => each.count)])];
  return [face.title, face.feeds ?? "", face.name ?? "", ...(face.tags ?? []).map((tag) => tag.text)];
}

// The same, and more, for a screen reader, and for a pointer that rests.
function spoken(node) {
  const said = written(node).filter(Boolean).join(" ");
  if (node.isBox) {
    const faults = faceOf(node).faults ? `, ${plural(node.face.faults, "layer")} with findings` : "";
    return `${said}: ${node.path || node.label || model.name}, ${plural(node.weights * node.times, "weight operation")}${faults}`;
  }
  const layers = node.uses.slice(0, 3).map((layer) => [layer.name, layer.feeds && `feeds ${layer.feeds}`].filter(Boolean).join(" "));
  const more = node.uses.length > 3 ? [`and ${node.uses.length - 3} more`] : [];
  return `${said}: ${[`${node.op} ${node.name}`, ...layers, ...more].join(", ")}`;
}

function weightDrawn(op, { width, height }) {
  const { title, feeds, tags } = op.face;
  const sorts = ["outline", ...distinct(op.uses.map((layer) => layer.status)).map((status) => `status-${status}`)];
  if (tags.some((tag) => tag.sort === "fault")) sorts.push("faulty");
  const kinds = distinct(op.uses.map((layer) => layer.kind || "none"));
  const bars = kinds.length ? kinds : ["none"];
  const tall = (height - 12) / bars.length;
  return [
    drawn("rect", { class: sorts.join(" "), width, height, rx: 7 }),
    ...bars.map((kind, at) => drawn("rect", { class: `bar kind-${kind}`, x: 6, y: 6 + at * tall, width: 6, height: tall - (at < bars.length - 1 ? 2 : 0), rx: 2 })),
    drawn("text", { class: "title", x: 20, y: 18 }, title),
    drawn("text", { class: "under", x: 20, y: 33 }, feeds),
    ...tagsDrawn(tags, 20, 40),
  ];
}

function tagsDrawn(tags, x, y) {
  let at = x;
  return tags.flatMap((tag) => {
    const wide = tagWidth(tag);
    const fault = tag.sort === "fault";
    const parts = [
      drawn("rect", { class: `tag ${tag.sort}`, x: at, y, width: wide, height: 14, rx: 4 }),
      drawn("text", { class: `tag ${tag.sort}`, x: at + (fault ? 15 : 5), y: y + 10.5 }, tag.text),
      ...(fault ? [drawn("path", { class: "warning", d: `M${at + 8} ${y + 2.5}l5 9h-10z` })] : []),
    ];
    at += wide + 4;
    return parts;
  });
}

function opDrawn(op, { width, height }) {
  const { title, name } = op.face;
  const round = { nonlinearity: height / 2, add: height / 2, product: height / 2, split: height / 2 }[op.role] ?? 4;
  const sides = op.role === "norm" ? [4, width - 4].map((x) => drawn("line", { class: "side", x1: x, x2: x, y1: 0, y2: height })) : [];
  const text = drawn("text", { class: "plain", x: 14, y: 17.5 }, title);
  if (name) text.append(drawn("tspan", { class: "under", dx: 8 }, name));
  return [drawn("rect", { class: "outline", width, height, rx: round }), ...sides, text];
}

function twisty(x, y, open) {
  return drawn("path", { class: "twisty", d: open ? `M${x} ${y - 3}h9l-4.5 6z` : `M${x + 1} ${y - 5}v9l6 -4.5z` });
}

function headDrawn(box, { width }) {
  const { title, times } = box.face;
  const made = [drawn("rect", { class: "header", x: 1, y: 1, width: width - 2, height: 30, rx: 9 }), twisty(11, 16, true), drawn("text", { class: "title", x: 28, y: 20.5 }, title)];
  if (times) made.push(...timesDrawn(times, 28 + textWidth(title, 13, 600) + 8, 7));
  return made;
}

function timesDrawn(times, x, y) {
  const wide = textWidth(times, 12, 600) + 12;
  return [drawn("rect", { class: "times", x, y, width: wide, height: 18, rx: 9 }), drawn("text", { class: "times", x: x + 6, y: y + 13 }, times)];
}

function closedDrawn(box, { width, height }) {
  const { title, times, under, counted, faults } = box.face;
  const made = times ? [6, 3].map((off) => drawn("rect", { class: "outline behind", x: off, y: off, width, height, rx: 9 })) : [];
  made.push(drawn("rect", { class: "outline", width, height, rx: 9 }), twisty(10, 16, false), drawn("text", { class: "title", x: 24, y: 20.5 }, title));
  if (times) made.push(...timesDrawn(times, 24 + textWidth(title, 13, 600) + 8, 7));
  made.push(drawn("text", { class: "under", x: 12, y: 37 }, under));
  if (faults) {
    made.push(drawn("path", { class: "warning", d: `M${width - 36} 28l5.5 10h-11z` }), drawn("text", { class: "fault", x: width - 26, y: 37 }, String(faults)));
  }
  let x = 12;
  for (const { kind, count } of counted) {
    made.push(drawn("rect", { class: `bar kind-${kind}`, x, y: 45, width: 11, height: 11, rx: 2.5 }), drawn("text", { class: "under", x: x + 15, y: 54.5 }, String(count)));
    x += 24 + textWidth(String(count), 11);
  }
  return made;
}

// --- size, opening, moving about ---------------------------------------------------------------------------------

function resize() {
  const { width, height } = byId("picture").dataset;
  byId("picture").setAttribute("width", width * scale);
  byId("picture").setAttribute("height", height * scale);
}

function fit() {
  const room = byId("canvas").clientWidth - 2;
  scale = Math.min(1, Math.max(0.45, room / Number(byId("picture").dataset.width || room)));
  resize();
}

function zoom(factor) {
  scale = Math.min(2.5, Math.max(0.2, scale * factor));
  resize();
}

function toggleBox(box) {
  box.open = !box.open;
  return draw(box);
}

// Opens the boxes around a node.
async function reveal(node) {
  let hidden = false;
  for (let box = node.around; box; box = box.around) {
    hidden ||= !box.open;
    box.open = true;
  }
  if (hidden) await draw();
}

// Brings several nodes into the frame: all, or as many from the first on as fit.
function bringIntoView(shown) {
  const canvas = byId("canvas");
  const [room, high] = [canvas.clientWidth / scale, canvas.clientHeight / scale];
  const places = shown.map((node) => node.place);
  const [left, top] = ["x", "y"].map((key) => Math.min(...places.map((place) => place[key])));
  const right = Math.max(...places.map((place) => place.x + place.width));
  const bottom = Math.max(...places.map((place) => place.y + place.height));
  const from = (start, end, size) => (end - start + 40 < size ? (start + end - size) / 2 : start - 20) * scale;
  canvas.scrollTo(from(left, right, room), from(top, bottom, high));
}

function focusOn(node, options = {}) {
  const target = byId(node.id);
  if (!target) return;
  for (const each of byId("picture").querySelectorAll(".node[tabindex='0']")) each.setAttribute("tabindex", "-1");
  target.setAttribute("tabindex", "0");
  target.focus({ preventScroll: true });
  if (!options.preventScroll) target.scrollIntoView({ block: "nearest", inline: "nearest" });
}

async function openAll() {
  const waiting = [boxes[0]];
  let shown = boxes[0].items.length;
  while (waiting.length) {
    const box = waiting.shift();
    box.open = true;
    for (const item of box.items.filter((each) => each.isBox)) {
      if (shown + item.items.length > AT_MOST) continue;
      shown += item.items.length;
      waiting.push(item);
    }
  }
  await draw();
}

async function closeAll() {
  for (const box of boxes.slice(1)) box.open = false;
  await draw();
}

// The nearest visible node in the direction of an arrow key; of a picture that is not drawn yet, none.
function neighbour(node, [across, down]) {
  if (!node.place) return null;
  const centre = (place) => ({ x: place.x + place.width / 2, y: place.y + (place.children ? 16 : place.height / 2) });
  const here = centre(node.place);
  let [best, least] = [null, Infinity];
  for (const each of byId("picture").querySelectorAll(".node")) {
    const place = nodes.get(each.id)?.place;
    if (!place) continue;
    const there = centre(place);
    const [along, aside] = [(there.x - here.x) * across + (there.y - here.y) * down, Math.abs((there.x - here.x) * down) + Math.abs((there.y - here.y) * across)];
    if (along < 1) continue;
    if (along + 2.5 * aside < least) [best, least] = [nodes.get(each.id), along + 2.5 * aside];
  }
  return best;
}

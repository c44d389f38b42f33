// The table of layers: sorting, searching, evidence.

const over = (part, whole) => (part === null || !numeric(whole) ? null : numeric(part) / numeric(whole));
let columns = [];
let rows = [];

function stdColumns() {
  const written = model.layers.some((layer) => layer.after !== null);
  return [
    { title: "std", under: written ? "before" : "now", number: true, of: (layer) => layer.before },
    { title: "std", under: "planned", number: true, of: (layer) => layer.std },
    ...(written ? [{ title: "std", under: "after", number: true, of: (layer) => layer.after }] : []),
  ];
}

function signalColumns() {
  const found = [{ title: "depth", under: "", number: true, of: (layer) => layer.signal?.depth ?? null }];
  const moments = {
    q: (row) => row.q,
    "p/q": (row) => over(row.p, row.q),
    "s/q": (row) => over(row.s, row.q),
    mean: (row) => row.mean,
    grad: (row) => row.grad,
  };
  for (const [title, of] of Object.entries(moments)) {
    model.signal.states.forEach((state, index) => {
      for (const kind of KINDS) {
        const only = KINDS.some((each) => each !== kind && state[each]) && kind === "measured" && !["q", "grad"].includes(title);
        if (!state[kind] || only) continue;
        const under = [state.label, kind].filter(Boolean).join(", ");
        const value = (layer) => (layer.signal?.rows[index][kind] ? of(layer.signal.rows[index][kind]) : null);
        found.push({ title, under, number: true, share: title.endsWith("/q"), state: index, kind, band: title === "q", of: value });
      }
    });
  }
  return found;
}

function columnsShown() {
  const marked = (layer) => [...layer.codes, ...(layer.status === "planned" ? [] : [layer.status]), ...(layer.normed ? ["normed"] : [])].join(" ");
  const all = [
    { title: "layer", under: "", of: (layer) => layer.name },
    { title: "feeds", under: "", of: (layer) => layer.feeds, kind: null, chip: true },
    ...(model.signal ? signalColumns() : []),
    ...stdColumns(),
    { title: "recipe", under: "", of: (layer) => layer.recipe },
    { title: "marks", under: "", of: marked },
  ];
  if (!model.layers.some((layer) => layer.feeds)) all.push({ title: "op", under: "", of: (layer) => layer.op });
  const known = (column) => (column.number ? (layer) => column.of(layer) !== null : (layer) => column.of(layer) !== "");
  return all.filter((column, index) => index === 0 || model.layers.some(known(column)));
}

function cell(column, layer) {
  const value = column.of(layer);
  const text = column.share ? correlation(value) : column.number ? formatted(value) : value;
  const made = element("td", column.number ? { class: "number" } : { title: text }, ...(column.chip ? [chip(layer.kind)] : []), text);
  if (column.band && value !== null) {
    const level = Math.abs(Math.log2(numeric(value)));
    made.classList.add(level <= 1 ? "good" : level <= 6.65 ? "off" : "bad");
  }
  return made;
}

function details(layer) {
  const list = element("dl");
  const say = (title, text) => {
    if (text !== "" && text !== null && text !== undefined) list.append(element("dt", {}, title), element("dd", {}, text));
  };
  say("op", layer.op);
  say("shape", layer.shape);
  say("status", layer.status);
  say("note", layer.note);
  say("recipe", layer.recipe);
  for (const walk of layer.walks) {
    const rows = walk.rows ? `rows ${walk.rows}` : "";
    say(walk.also ? "also feeds" : [rows, "feeds"].filter(Boolean).join(" "), walk.feeds);
    say("since", walk.why);
    say("by way of", walk.path.join(" → "));
  }
  if (layer.std !== null) say("std", `${formatted(layer.std)} = ${layer.scheme}, gain ${formatted(layer.gain)}, fan ${layer.fan}`);
  say("source", layer.source);
  layer.signal?.notes.forEach((note) => say("note", note));
  layer.signal?.rows.forEach((state, index) => {
    for (const kind of KINDS) {
      const row = state[kind];
      if (!row) continue;
      const title = [model.signal.states[index].label, kind].filter(Boolean).join(", ");
      say(title, ["q", "p", "s", "mean", "grad"].map((key) => `${key} ${formatted(row[key])}`).join(", "));
    }
  });
  return list;
}

function expand(entry, open) {
  const button = entry.row.querySelector(".expand");
  button.setAttribute("aria-expanded", String(open));
  if (open && !entry.details) {
    entry.details = element("tr", { class: "details" }, element("td", { colspan: columns.length }, details(entry.layer)));
  }
  if (open) entry.row.after(entry.details);
  else entry.details?.remove();
}

function build(entry) {
  const { layer } = entry;
  const button = element("button", { type: "button", class: "expand", "aria-expanded": "false", "aria-label": `Evidence of ${layer.name}` });
  button.addEventListener("click", () => expand(entry, button.getAttribute("aria-expanded") === "false"));
  const name = element("button", { type: "button", class: "link", title: "Show its walk in the picture" }, ...dotted(layer.name));
  name.addEventListener("click", () => showInPicture(layer));
  const head = element("th", { scope: "row" }, element("div", { class: "name" }, button, name));
  entry.row = element("tr", {}, head, ...columns.slice(1).map((column) => cell(column, layer)));
  entry.text = [layer.name, layer.op, layer.feeds, layer.status, layer.recipe, KIND_NAMES[layer.kind], ...layer.codes, layer.normed ? "normed" : ""].join(" ").toLowerCase();
}

function compare(column, falling) {
  return (one, other) => {
    const [a, b] = [one, other].map((entry) => numeric(column.of(entry.layer)));
    if (!column.number) {
      const order = String(column.of(one.layer)).localeCompare(String(column.of(other.layer)), "en", { numeric: true });
      return (falling ? -order : order) || one.index - other.index;
    }
    // What is not known stands last, whichever way.
    const [lost, gone] = [a, b].map((value) => value === null || Number.isNaN(value));
    if (lost || gone) return lost - gone || one.index - other.index;
    return (falling ? b - a : a - b) || one.index - other.index;
  };
}

function arrange() {
  const head = byId("layers").querySelector("[aria-sort=ascending], [aria-sort=descending]");
  const order = [...rows];
  if (head) order.sort(compare(columns[head.cellIndex], head.getAttribute("aria-sort") === "descending"));
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const kept = order.filter((entry) => words.every((word) => entry.text.includes(word)));
  byId("layers").tBodies[0].replaceChildren(...kept.flatMap((entry) => {
    const open = entry.row.querySelector(".expand").getAttribute("aria-expanded") === "true";
    return open ? [entry.row, entry.details] : [entry.row];
  }));
  byId("count").textContent = `${kept.length} of ${rows.length} layers`;
}

function heading(column) {
  const small = column.under ? [element("small", {}, column.under)] : [];
  const button = element("button", { type: "button" }, ...small, column.title);
  const head = element("th", { scope: "col", "aria-sort": "none", ...(column.number ? { class: "number" } : {}) }, button);
  button.addEventListener("click", () => {
    const next = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")];
    head.parentElement.querySelectorAll("th").forEach((each) => each.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", next);
    arrange();
  });
  return head;
}

function showColumns() {
  columns.forEach((column, index) => {
    if (!column.kind) return;
    const hidden = !shown.states[column.state] || !shown[column.kind];
    byId("layers").tHead.rows[0].cells[index].hidden = hidden;
    for (const entry of rows) entry.row.cells[index].hidden = hidden;
  });
}

function table() {
  columns = columnsShown();
  rows = model.layers.map((layer, index) => ({ layer, index, row: null, details: null, text: "" }));
  rows.forEach(build);
  byId("layers").replaceChildren(element("thead", {}, element("tr", {}, ...columns.map(heading))), element("tbody"));
  byId("layers-hint").textContent = model.signal
    ? "q: second moment of the pre-activation. p/q, s/q: correlation of two positions of one sample, and of two samples. mean: of all elements. grad: second moment of the gradient of sum(output * e), e ~ N(0, 1)."
    : "";
  arrange();
}

// Marks the row of a layer, and brings it into its own frame.
function markRow(layer) {
  const entry = rows.find((each) => each.layer === layer);
  if (!entry) return null;
  if (!entry.row.isConnected) {
    byId("search").value = "";
    arrange();
  }
  document.querySelectorAll(".found").forEach((each) => each.classList.remove("found"));
  entry.row.classList.add("found");
  const frame = byId("layers").parentElement;
  frame.scrollTop = entry.row.offsetTop - frame.clientHeight / 2;
  return entry;
}

function findRow(name) {
  const entry = markRow(model.layers.find((layer) => layer.name === name));
  if (!entry) return;
  expand(entry, true);
  entry.row.scrollIntoView({ block: "center" });
}

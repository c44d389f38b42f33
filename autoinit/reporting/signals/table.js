// The table of layers: sorting, searching, evidence.

const over = (part, whole) => (part === null || !numeric(whole) ? null : numeric(part) / numeric(whole));

function columns() {
  const found = [
    { title: "op", under: "", of: (layer) => layer.op },
    { title: "depth", under: "", number: true, of: (layer) => layer.depth },
  ];
  for (const [title, of] of Object.entries({
    q: (row) => row.q,
    "p/q": (row) => over(row.p, row.q),
    "s/q": (row) => over(row.s, row.q),
    mean: (row) => row.mean,
    grad: (row) => row.grad,
  })) {
    data.states.forEach((state, index) => {
      for (const kind of KINDS) {
        const only = KINDS.some((each) => each !== kind && state[each]) && kind === "measured" && !["q", "grad"].includes(title);
        if (!state[kind] || only) continue;
        const under = [state.label, kind].filter(Boolean).join(", ");
        const value = (layer) => (layer.rows[index][kind] ? of(layer.rows[index][kind]) : null);
        const share = title.endsWith("/q");
        found.push({ title, under, number: true, share, state: index, kind, band: title === "q", of: value });
      }
    });
  }
  if (data.layers.some((layer) => layer.plan)) {
    found.push(
      { title: "std", under: "planned", number: true, of: (layer) => layer.plan?.std ?? null },
      { title: "feeds", under: "nonlinearity", of: (layer) => layer.plan?.feeds ?? "" },
      { title: "evidence", under: "path", of: (layer) => (layer.plan ? layer.plan.path.join(" → ") : "") },
    );
  }
  return found.filter((column) => !column.number || data.layers.some((layer) => column.of(layer) !== null));
}

const COLUMNS = [{ title: "layer", under: "", of: (layer) => layer.name }, ...columns()];
const rows = data.layers.map((layer, index) => ({ layer, index, row: null, details: null, text: "" }));

function cell(column, layer) {
  const value = column.of(layer);
  const text = column.share ? correlation(value) : column.number ? formatted(value) : value;
  const made = element("td", column.number ? { class: "number" } : { title: text }, text);
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
  const { plan } = layer;
  if (plan) {
    say("feeds", plan.feeds);
    say("reason", plan.reason);
    say("by way of", plan.path.join(" → "));
    say("status", plan.status);
    say("note", plan.note);
    say("std", `${formatted(plan.std)} = ${plan.scheme}, gain ${formatted(plan.gain)}, fan ${plan.fan}`);
    plan.alternatives.forEach((way) => say("also feeds", way));
    plan.slices.forEach((part) => say(`rows ${part.rows}`, `${part.feeds}: std ${formatted(part.std)}; by way of ${part.path.join(" → ")}`));
    say("source", plan.source);
  }
  layer.notes.forEach((note) => say("note", note));
  layer.rows.forEach((state, index) => {
    for (const kind of KINDS) {
      const row = state[kind];
      if (!row) continue;
      const title = [data.states[index].label, kind].filter(Boolean).join(", ");
      say(title, ["q", "p", "s", "mean", "grad"].map((key) => `${key} ${formatted(row[key])}`).join(", "));
    }
  });
  return list;
}

function expand(entry, open) {
  const button = entry.row.querySelector(".expand");
  button.setAttribute("aria-expanded", String(open));
  if (open && !entry.details) {
    entry.details = element("tr", { class: "details" }, element("td", { colspan: COLUMNS.length }, details(entry.layer)));
  }
  if (open) entry.row.after(entry.details);
  else entry.details?.remove();
}

function build(entry) {
  const { layer } = entry;
  const button = element("button", { type: "button", class: "expand", "aria-expanded": "false", "aria-label": `Evidence of ${layer.name}` });
  button.addEventListener("click", () => expand(entry, button.getAttribute("aria-expanded") === "false"));
  const name = element("th", { scope: "row" }, element("div", { class: "name" }, button, element("span", {}, layer.name)));
  entry.row = element("tr", {}, name, ...COLUMNS.slice(1).map((column) => cell(column, layer)));
  entry.text = [layer.name, layer.op, layer.plan?.feeds, layer.plan?.reason, layer.plan?.status].join(" ").toLowerCase();
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
  if (head) order.sort(compare(COLUMNS[head.cellIndex], head.getAttribute("aria-sort") === "descending"));
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
  COLUMNS.forEach((column, index) => {
    if (column.kind === undefined) return;
    const hidden = !shown.states[column.state] || !shown[column.kind];
    byId("layers").tHead.rows[0].cells[index].hidden = hidden;
    for (const entry of rows) entry.row.cells[index].hidden = hidden;
  });
}

function table() {
  rows.forEach(build);
  byId("layers").append(element("thead", {}, element("tr", {}, ...COLUMNS.map(heading))), element("tbody"));
  byId("search").addEventListener("input", arrange);
  arrange();
}

function findRow(name) {
  const entry = rows.find((each) => each.layer.name === name);
  if (!entry) return;
  if (!entry.row.isConnected) {
    byId("search").value = "";
    arrange();
  }
  document.querySelectorAll(".found").forEach((each) => each.classList.remove("found"));
  entry.row.classList.add("found");
  expand(entry, true);
  entry.row.scrollIntoView({ block: "center" });
}

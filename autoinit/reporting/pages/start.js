// Last of the page's scripts: what stands around the picture, the plot and the table; draws everything.

function totals() {
  byId("totals").replaceChildren();
  const reports = model.signal.states.flatMap((state) => KINDS.filter((kind) => state[kind]).map((kind) => ({ state, kind })));
  const heads = reports.map(({ state, kind }) => element("th", { scope: "col" }, [state.label, kind].filter(Boolean).join(", ")));
  byId("totals").append(element("thead", {}, element("tr", {}, element("td"), ...heads)));
  const body = element("tbody");
  reports[0].state[reports[0].kind].totals.forEach(([title], index) => {
    const cells = reports.map(({ state, kind }) => element("td", {}, state[kind].totals[index][1]));
    body.append(element("tr", {}, element("th", { scope: "row" }, title), ...cells));
  });
  byId("totals").append(body);
}

const SEVERITIES = { error: "✕", warning: "▲", info: "i" };

function finding(found) {
  const head = element("p", { class: "head" }, element("span", { class: `severity ${found.severity}` }, `${SEVERITIES[found.severity]} ${found.code} ${found.severity}`));
  if (found.layers.length) {
    const button = element("button", { type: "button", class: "link" }, found.layer);
    button.addEventListener("click", () => showInPicture(model.layers[found.layers[0]]));
    head.append(" ", button);
  } else if (found.layer) head.append(" ", element("b", {}, found.layer));
  const made = element("article", { class: `finding ${found.severity}` }, head, element("p", {}, ...worded(found.message)));
  if (found.fix) made.append(element("pre", { tabindex: 0 }, found.fix));
  if (found.alike) made.append(element("p", {}, `The same: ${found.alike}`));
  if (found.where) made.append(element("p", { class: "hint" }, found.where));
  return made;
}

// What stands between backquotes is code.
function worded(text) {
  return text.split("`").map((part, at) => (at % 2 ? element("code", {}, part) : part));
}

// The gravest first; those of level info folded.
function findings() {
  byId("findings-section").hidden = !model.findings.length;
  const of = (level) => model.findings.filter((found) => found.severity === level).map(finding);
  const infos = of("info");
  const folded = element("details", {}, element("summary", {}, `${infos.length} of level info`), ...infos);
  byId("findings").replaceChildren(...of("error"), ...of("warning"), ...(infos.length ? [folded] : []));
}

async function show(index) {
  model = data.models[index];
  pinned = null;
  byId("model").textContent = model.name;
  byId("about").replaceChildren(...model.about.map(([title, value]) => element("div", {}, element("dt", {}, title), element("dd", {}, value))));
  byId("failure").textContent = model.failure;
  byId("failure").hidden = !model.failure;
  byId("main").hidden = Boolean(model.failure);
  byId("picture-section").hidden = !model.ops.length;
  byId("main").classList.toggle("alone", !model.ops.length);
  findings();
  table();
  byId("layers-section").hidden = !model.layers.length && Boolean(model.ops.length);
  byId("plot-section").hidden = !model.signal;
  if (model.signal) {
    totals();
    legend();
    plot();
  }
  const notes = [...data.notes, ...model.notes, ...(model.hidden ? [`The picture leaves out ${plural(model.hidden, "operation")} that ${model.hidden === 1 ? "carries" : "carry"} no signal.`] : [])];
  byId("notes").replaceChildren(...notes.map((note) => element("li", {}, note)));
  byId("notes-section").hidden = notes.length === 0;
  readPicture();
  pictureLegend();
  tell(null);
  scale = 1;
  if (!model.ops.length) return;
  await draw();
  fit();
}

data.models.forEach((each, index) => byId("choice").append(element("option", { value: index }, each.name)));
byId("choosing").hidden = data.models.length < 2;
byId("choice").addEventListener("change", () => show(Number(byId("choice").value)));
byId("search").addEventListener("input", arrange);
addEventListener("resize", () => model.signal && plot());
listen();
show(0);

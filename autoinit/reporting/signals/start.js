// Last of the page's scripts: the totals and the notes; draws everything.

function totals() {
  const reports = data.states.flatMap((state) => KINDS.filter((kind) => state[kind]).map((kind) => ({ state, kind })));
  const heads = reports.map(({ state, kind }) => element("th", { scope: "col" }, [state.label, kind].filter(Boolean).join(", ")));
  byId("totals").append(element("thead", {}, element("tr", {}, element("td"), ...heads)));
  const body = element("tbody");
  reports[0].state[reports[0].kind].totals.forEach(([title], index) => {
    const cells = reports.map(({ state, kind }) => element("td", {}, state[kind].totals[index][1]));
    body.append(element("tr", {}, element("th", { scope: "row" }, title), ...cells));
  });
  byId("totals").append(body);
}

byId("model").textContent = data.model;
byId("about").textContent = data.about;
totals();
legend();
plot();
table();
byId("notes").append(...data.notes.map((note) => element("li", {}, note)));
byId("notes-section").hidden = data.notes.length === 0;

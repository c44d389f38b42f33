"use strict";
// First of the page's scripts: what the others share. All text goes in as text, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const KINDS = ["predicted", "measured"];
const shown = { predicted: true, measured: true, streams: true, branches: true, states: data.states.map(() => true) };

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function drawn(tag, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  return made;
}

// Numbers that JSON cannot hold come as "inf", "-inf" and "nan"; what is not known, as null.
function numeric(value) {
  if (typeof value !== "string") return value;
  return { inf: Infinity, "-inf": -Infinity }[value] ?? NaN;
}

// Three decimals: what is less tells nothing.
function correlation(value) {
  if (value === null || !Number.isFinite(value)) return formatted(value);
  return value.toFixed(3).replace(/^-(0\.0+)$/, "$1");
}

function formatted(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "string") return value;
  if (!Number.isFinite(value)) return String(value).toLowerCase().replace("infinity", "inf");
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 1e5) return String(Number(value.toPrecision(3)));
  return value.toExponential(2).replace("e+", "e");
}

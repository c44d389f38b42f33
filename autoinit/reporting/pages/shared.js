"use strict";
// First of the page's scripts: what the others share. All text goes in as text, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const KIND_NAMES = Object.fromEntries(data.kinds);
let model = data.models[0];

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

// A dotted name, which may break behind its dots.
function dotted(name) {
  return name.split(/(?<=[._])/).flatMap((part, at) => (at ? [element("wbr"), part] : [part]));
}

function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
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

// A mark in the colour of what a weight feeds.
function chip(kind) {
  return element("span", { class: `chip kind-${kind || "none"}`, "aria-hidden": "true" });
}

"use strict";
// Renders /openapi.json. Every text goes in as text, never as markup.
const make = (tag, props, ...children) => {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children.filter((c) => c !== undefined && c !== null));
  return node;
};
const text = (value) => JSON.stringify(value, null, 2);
const nameOf = (ref) => ref.slice(ref.lastIndexOf("/") + 1);

// typeOf says a schema in a few words; named ones link to their place.
const typeOf = (s) => {
  if (!s || Object.keys(s).length === 0) return "any";
  if (s.$ref) return make("a", { href: "#schema-" + nameOf(s.$ref), textContent: nameOf(s.$ref) });
  if (s.oneOf) return s.oneOf.map((o) => o.type).join(" or ");
  if (s.enum) return s.enum.join(" | ");
  if (s.type === "array") return make("span", {}, "list of ", typeOf(s.items));
  if (s.type === "object" && s.additionalProperties) return make("span", {}, "map to ", typeOf(s.additionalProperties));
  return [].concat(s.type).join(" or ") + (s.format ? " (" + s.format + ")" : "");
};
const table = (rows) => make("table", {}, ...rows.map((cells) => make("tr", {}, ...cells.map((c) => make("td", {}, c)))));
const example = (value) => make("pre", {}, typeof value === "string" ? value : text(value));

const body = (doc, title, content, extra) => {
  const parts = [make("h3", { textContent: title })];
  for (const [media, m] of Object.entries(content || {})) {
    parts.push(make("p", {}, make("code", { textContent: media }), " ", typeOf(m.schema)));
    const named = m.schema && m.schema.$ref ? doc.components.schemas[nameOf(m.schema.$ref)] : m.schema;
    const value = m.example ?? (named && named.examples && named.examples[0]);
    if (value !== undefined && extra) parts.push(example(value));
  }
  return parts;
};

const operation = (doc, path, method, op) => {
  const inside = make("div", {}, make("p", { textContent: op.description || "" }));
  if (op.parameters) {
    inside.append(make("h3", { textContent: "Parameters" }), table(op.parameters.map((p) => [
      make("code", { textContent: p.name }), p.in + (p.required ? ", required" : ""), typeOf(p.schema), p.description || "",
    ])));
  }
  if (op.requestBody) inside.append(...body(doc, "Body", op.requestBody.content, true));
  for (const [status, r] of Object.entries(op.responses)) {
    if (status < 300) inside.append(...body(doc, status + " " + r.description, r.content, true));
  }
  const errors = Object.keys(op.responses).filter((s) => s >= 400);
  if (errors.length) inside.append(make("p", {}, "Errors: ", make("a", { href: "#errors", textContent: errors.join(" ") })));
  return make("details", { id: op.operationId },
    make("summary", {}, make("b", { textContent: method.toUpperCase() }), make("code", { textContent: path }), make("span", { textContent: op.summary })), inside);
};

const render = (doc) => {
  document.getElementById("about").prepend(doc.info.description + " Version " + doc.info.version + ". ");
  const main = document.getElementById("operations");
  const index = document.getElementById("index");
  main.replaceChildren();
  for (const tag of doc.tags) {
    index.append(make("a", { href: "#tag-" + tag.name, textContent: tag.name }));
    main.append(make("h2", { id: "tag-" + tag.name, textContent: tag.name }), make("p", { textContent: tag.description }));
    for (const [path, methods] of Object.entries(doc.paths)) {
      for (const [method, op] of Object.entries(methods)) {
        if ((op.tags || []).includes(tag.name)) main.append(operation(doc, path, method, op));
      }
    }
  }
  for (const anchor of ["errors", "schemas"]) index.append(make("a", { href: "#" + anchor, textContent: anchor }));
  const list = document.getElementById("schemalist");
  for (const [name, s] of Object.entries(doc.components.schemas)) {
    const required = new Set(s.required || []);
    const inside = make("div", {}, make("p", { textContent: s.description || "" }), table(Object.entries(s.properties || {}).map(([field, f]) => [
      make("code", { textContent: field }), required.has(field) ? "required" : "", typeOf(f), f.description || "",
    ])));
    if (s.examples) inside.append(make("h3", { textContent: "Example" }), example(s.examples[0]));
    list.append(make("details", { id: "schema-" + name }, make("summary", {}, make("code", { textContent: name })), inside));
  }
  const open = () => {
    const node = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (node && node.tagName === "DETAILS") node.open = true;
    if (node) node.scrollIntoView();
  };
  addEventListener("hashchange", open);
  open();
};

fetch("/openapi.json").then((r) => r.json()).then(render).catch(() => {
  document.getElementById("operations").textContent = "The OpenAPI document could not be read.";
});

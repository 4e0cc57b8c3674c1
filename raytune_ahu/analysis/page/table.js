"use strict";
// The trial table: sorted by a click on a heading, filtered by words and comparisons, in pages.
const Trials = (() => {
  const place = document.getElementById("trials-table");
  const data = JSON.parse(document.getElementById("trials-data").textContent);
  const { columns, cells, better, colors } = data;
  const count = cells.length ? cells[0].length : 0;
  const pageSize = 100;
  const mostPrinted = 500;
  const at = Object.fromEntries(columns.map((c, i) => [c.key, i]));
  const state = { filter: "", status: "", sort: "best_value", down: better < 0, page: 0, compact: false };
  let rows = [];

  const element = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    Object.entries(attributes).forEach(([key, value]) => {
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else if (value !== false) made.setAttribute(key, value);
    });
    made.append(...children);
    return made;
  };
  const cell = (key, row) => (key in at ? cells[at[key]][row] : null);
  const lastLine = (text) => text.trim().split("\n").pop();
  function write(value) {
    if (value === null || value === undefined) return "";
    if (typeof value !== "number") return value;
    if (Number.isInteger(value)) return String(value);
    const size = Math.abs(value);
    return size >= 1e5 || size < 1e-3 ? value.toExponential(3) : String(Number(value.toPrecision(5)));
  }
  function shown(key, row) {
    const value = cell(key, row);
    if (key === "error" && value) return lastLine(value);
    return /_s$/.test(key) && typeof value === "number" ? value.toFixed(1) : write(value);
  }
  function configuration(row) {
    return columns.filter((c) => c.config && cell(c.key, row) !== null)
      .map((c) => c.head + "=" + write(cell(c.key, row))).join(", ");
  }

  // Filter: every word must hold; NAME<0.01 compares a column, anything else is looked for in all.
  function predicate(word) {
    const parts = /^(.+?)(<=|>=|!=|<|>|=)(.*)$/.exec(word);
    const column = parts && columns.find((c) => c.key === parts[1] || c.head === parts[1]);
    if (!column) {
      const wanted = word.toLowerCase();
      return (row) => columns.some((c) => {
        const value = cell(c.key, row);
        return value !== null && (String(value).toLowerCase().includes(wanted)
          || write(value).toLowerCase().includes(wanted));
      });
    }
    const [, , operator, text] = parts;
    const number = text === "" ? NaN : Number(text);
    return (row) => {
      const value = cell(column.key, row);
      if (value === null) return operator === "!=";
      if (operator === "=") return String(value) === text || value === number;
      if (operator === "!=") return String(value) !== text && value !== number;
      if (typeof value !== "number" || Number.isNaN(number)) return false;
      if (operator === "<") return value < number;
      if (operator === "<=") return value <= number;
      return operator === ">" ? value > number : value >= number;
    };
  }
  // Numbers before texts; what is absent comes last, whichever way.
  function compare(a, b) {
    const x = cell(state.sort, a), y = cell(state.sort, b);
    if (x === null || y === null) return x === y ? a - b : x === null ? 1 : -1;
    const kinds = (typeof x === "string") - (typeof y === "string");
    const order = kinds || (x < y ? -1 : x > y ? 1 : 0);
    return (state.down ? -order : order) || a - b;
  }
  function select() {
    const tests = state.filter.split(/\s+/).filter(Boolean).map(predicate);
    if (state.status) tests.push((row) => cell("status", row) === state.status);
    rows = [];
    for (let row = 0; row < count; row++) if (tests.every((test) => test(row))) rows.push(row);
    rows.sort(compare);
    state.page = Math.min(state.page, Math.max(0, Math.ceil(rows.length / pageSize) - 1));
  }

  function heading(column) {
    const sorted = column.key === state.sort;
    const mark = sorted ? (state.down ? " \u25be" : " \u25b4") : "";
    return element("th", {
      title: column.meaning, tabindex: "0", "data-key": column.key,
      class: column.config ? "config" : "",
      "aria-sort": sorted ? (state.down ? "descending" : "ascending") : "none",
      onclick: () => sortBy(column.key),
      onkeydown: (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        sortBy(column.key);
      },
    }, column.head + mark);
  }
  function sortBy(key) {
    state.down = state.sort === key ? !state.down : false;
    state.sort = key;
    state.page = 0;
    update();
  }
  function line(row, visible) {
    const tds = visible.map((c) => {
      const text = c.key === "configuration" ? configuration(row) : shown(c.key, row);
      const td = element("td", { class: typeof cell(c.key, row) === "number" ? "number" : "", title: text });
      if (c.key === "status") td.append(element("span", { class: "dot", style: "background:" + (colors[text] || "gray") }));
      td.append(text);
      return td;
    });
    const tr = element("tr", { "data-trial": cell("trial", row), tabindex: "0" }, ...tds);
    tr.addEventListener("click", () => details(tr, row, visible.length));
    tr.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.target === tr) details(tr, row, visible.length);
    });
    return tr;
  }
  function details(tr, row, width) {
    const next = tr.nextElementSibling;
    if (next && next.classList.contains("details")) { next.remove(); return; }
    const list = element("dl");
    columns.filter((c) => c.key !== "error" && cell(c.key, row) !== null).forEach((c) => {
      list.append(element("div", {}, element("dt", {}, c.head), element("dd", {}, String(cell(c.key, row)))));
    });
    const td = element("td", { colspan: width }, list);
    if (cell("error", row)) td.append(element("pre", {}, cell("error", row)));
    tr.after(element("tr", { class: "details" }, td));
  }
  const configs = columns.filter((c) => c.config).length;
  const together = { key: "configuration", head: "configuration", meaning: "all active hyperparameters", config: true };
  function visibleColumns() {
    const filled = columns.filter((c) => c.key !== "error" || cells[at.error].some(Boolean));
    if (!state.compact) return filled;
    const plain = filled.filter((c) => !c.config);
    return [...plain.slice(0, 5), together, ...plain.slice(5)];
  }

  let head, body, counted, previous, following, search;
  function update() {
    select();
    const visible = visibleColumns();
    head.replaceChildren(element("tr", {}, ...visible.map(heading)));
    const from = state.page * pageSize;
    const page = rows.slice(from, from + pageSize);
    body.replaceChildren(...page.map((row) => line(row, visible)));
    const range = rows.length ? `${from + 1} to ${from + page.length} of ` : "";
    counted.textContent = `${range}${rows.length}${rows.length < count ? ` (of ${count} in all)` : ""}`;
    previous.disabled = state.page === 0;
    following.disabled = from + pageSize >= rows.length;
  }
  function turn(by) {
    state.page += by;
    update();
    body.closest(".scroll").scrollTop = 0;
  }
  function build() {
    const statuses = [...new Set(cells[at.status])];
    search = element("input", {
      type: "search", placeholder: "filter: cnn lr<0.01", "aria-label": "Filter the trials",
      oninput: () => { state.filter = search.value; state.page = 0; update(); },
    });
    const status = element("select", { "aria-label": "Status", onchange: () => { state.status = status.value; state.page = 0; update(); } },
      element("option", { value: "" }, "every status"), ...statuses.map((s) => element("option", { value: s }, s)));
    const compact = element("input", { type: "checkbox", onchange: () => { state.compact = compact.checked; update(); } });
    previous = element("button", { type: "button", onclick: () => turn(-1) }, "previous");
    following = element("button", { type: "button", onclick: () => turn(1) }, "next");
    counted = element("span", { class: "count" });
    head = element("thead");
    body = element("tbody");
    const tools = element("div", { class: "tools" }, search, status);
    if (configs) tools.append(element("label", {}, compact, "configuration in one column"));
    if (count > pageSize) tools.append(previous, following);
    tools.append(counted);
    place.replaceChildren(tools, element("div", { class: "scroll", tabindex: "0" }, element("table", {}, head, body)));
    place.after(element("table", { id: "print-table" }));
    update();
  }

  // On paper every trial takes one line of few columns, its configuration in one of them.
  function beforePrint() {
    const printed = document.getElementById("print-table");
    const keys = ["trial", "status", "origin", "best_value", "best_resource", "epochs_run", "training_s"];
    const chosen = [...keys.filter((k) => k in at).map((k) => columns[at[k]]), together];
    if (columns.some((c) => c.key === "error") && cells[at.error].some(Boolean)) chosen.push(columns[at.error]);
    const lines = rows.slice(0, mostPrinted).map((row) => element("tr", {}, ...chosen.map((c) => element("td", {},
      c.key === "configuration" ? configuration(row) : shown(c.key, row)))));
    const left = rows.length < count || rows.length > mostPrinted
      ? [element("caption", {}, `${lines.length} of ${count} trials: the first of the table as filtered and sorted.`)] : [];
    printed.replaceChildren(...left,
      element("thead", {}, element("tr", {}, ...chosen.map((c) => element("th", {}, c.head)))),
      element("tbody", {}, ...lines));
  }
  function afterPrint() { document.getElementById("print-table").replaceChildren(); }

  function find(text) {
    search.value = text;
    state.filter = text;
    state.page = 0;
    update();
    document.getElementById("trials").scrollIntoView({ behavior: "smooth" });
  }
  const nothing = () => {};
  if (!place) return { find: nothing, beforePrint: nothing, afterPrint: nothing, state, restore: nothing };
  build();
  const restore = (kept) => { Object.assign(state, kept); search.value = state.filter; update(); };
  return { find, beforePrint, afterPrint, state, restore };
})();

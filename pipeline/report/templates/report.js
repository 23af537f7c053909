"use strict";
(() => {
  const given = JSON.parse(document.getElementById("given").textContent);

  /* Strings become text, never markup. */
  const make = (tag, text, properties = {}) => {
    const element = Object.assign(document.createElement(tag), properties);
    if (text !== undefined) element.append(typeof text === "object" ? text : String(text));
    return element;
  };
  const isolated = (text) => make("bdi", text, { dir: "auto" });

  /* ── charts ─────────────────────────────────────────────────────────────────────────────────────────────────── */

  const tip = document.getElementById("tip");
  const showTip = (handler, event, item, value) => {
    if (value === null || value === undefined || value === "") { tip.hidden = true; return; }
    const lines = typeof value === "object" ? Object.entries(value) : [["", value]];
    tip.replaceChildren(...lines.map(([name, said]) => {
      const line = make("div");
      line.append(make("span", name.trim()), isolated(said));
      return line;
    }));
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const x = Math.min(event.clientX + 14, window.innerWidth - box.width - 8);
    const y = event.clientY + 16 + box.height > window.innerHeight ? event.clientY - box.height - 10 : event.clientY + 16;
    tip.style.left = `${Math.max(4, x)}px`;
    tip.style.top = `${Math.max(4, y)}px`;
  };

  const config = {
    background: "transparent",
    font: "system-ui, sans-serif",
    view: { stroke: null },
    axis: {
      labelColor: "var(--quiet)", titleColor: "var(--quiet)", titleFontWeight: 400, labelFontSize: 11, titleFontSize: 12,
      gridColor: "var(--line)", domainColor: "var(--strong)", tickColor: "var(--strong)", titlePadding: 8,
    },
    axisY: { grid: true, domain: false },
    legend: { labelColor: "var(--ink)", labelFontSize: 12, symbolStrokeWidth: 1.5 },
    text: { color: "var(--ink)", fontSize: 12 },
  };
  const options = {
    mode: "vega-lite", renderer: "svg", actions: false, ast: true, defaultStyle: false, tooltip: showTip, config,
  };

  const draw = (element, spec) => {
    if (element.drawing === spec) return;
    element.drawing = spec;
    window.vegaEmbed(element, spec, options).catch((error) => {
      element.replaceChildren(make("p", `This chart could not be drawn (${error.message}).`, { className: "note" }));
      console.error(error);
    });
  };
  const drawVisible = (root) => {
    for (const place of root.querySelectorAll("[data-chart]")) {
      if (place.getClientRects().length && given.charts[place.dataset.chart]) draw(place, given.charts[place.dataset.chart]);
    }
  };
  drawVisible(document);
  document.addEventListener("toggle", (event) => drawVisible(event.target), true);
  for (const select of document.querySelectorAll("[data-shows]")) {
    select.addEventListener("change", () => {
      for (const part of document.querySelectorAll(`[data-group="${select.dataset.shows}"] > [data-shown]`)) {
        part.hidden = part.dataset.shown !== select.value;
        if (!part.hidden) drawVisible(part);
      }
    });
  }

  /* ── confusion ──────────────────────────────────────────────────────────────────────────────────────────────── */

  const confusion = (facts) => {
    const controls = document.getElementById("confusion-controls"), table = document.getElementById("confusion");
    const [caption, head, body] = [table.caption, table.tHead, table.tBodies[0]];
    const k = facts.classes.length;
    const dense = facts.tables.map((cells) => {
      const rows = Array.from({ length: k }, () => new Float64Array(k));
      for (const [truth, said, n] of cells) rows[truth][said] = n;
      return rows;
    });
    const minus = "\u2212";
    table.classList.toggle("many", facts.shown.length > 8);
    const show = () => {
      const [a, b, share] = [controls.a.value, controls.b.value, controls.share.checked];
      const value = (rows, i, j) => {
        if (!share) return rows[i][j];
        const whole = rows[i].reduce((sum, n) => sum + n, 0);
        return whole ? rows[i][j] / whole : 0;
      };
      const cell = (i, j) => value(dense[a], i, j) - (b === "" ? 0 : value(dense[b], i, j));
      let largest = 1e-9;
      for (const i of facts.shown) for (const j of facts.shown) largest = Math.max(largest, Math.abs(cell(i, j)));
      const words = (n) => {
        if (n === 0) return "\u00b7";
        const digits = share ? (100 * Math.abs(n)).toFixed(0) : Math.abs(n).toLocaleString("en");
        const sign = Number(digits.replace(/,/g, "")) === 0 ? "" : n < 0 ? minus : b === "" ? "" : "+";
        return sign + digits;
      };
      caption.replaceChildren(
        isolated(facts.names[a]),
        b === "" ? "" : ` ${minus} `, b === "" ? "" : isolated(facts.names[b]),
        share ? (b === "" ? ", % of the true class" : ", percentage points of the true class") : ", rows",
      );
      const top = make("tr");
      top.append(make("td", "true ↓ said →", { className: "nil" }));
      for (const j of facts.shown) top.append(make("th", isolated(facts.classes[j]), { scope: "col" }));
      head.replaceChildren(top);
      body.replaceChildren(...facts.shown.map((i) => {
        const line = make("tr");
        line.append(make("th", isolated(facts.classes[i]), { scope: "row" }));
        for (const j of facts.shown) {
          const n = cell(i, j), box = make("td", words(n));
          box.classList.toggle("hit", i === j);
          box.classList.toggle("nil", n === 0);
          box.style.setProperty("--weight", (0.6 * Math.sqrt(Math.abs(n) / largest)).toFixed(3)); /* legible on all */
          if (b !== "" && (i === j) === (n < 0)) box.style.setProperty("--hue", "var(--minus)"); /* for the worse */
          box.title = `true ${facts.classes[i]}, said ${facts.classes[j]}: ${words(n)}`;
          line.append(box);
        }
        return line;
      }));
    };
    controls.addEventListener("change", show);
    controls.addEventListener("submit", (event) => event.preventDefault());
    show();
  };
  if (given.errors) confusion(given.errors);

  /* ── map ────────────────────────────────────────────────────────────────────────────────────────────────────── */

  const vectorMap = (facts) => {
    const controls = document.getElementById("map-controls"), place = document.getElementById("vector-map");
    const show = () => {
      const spots = facts.maps[controls.map ? controls.map.value : 0], chosen = facts.colourings[controls.colour.value];
      const spec = structuredClone(facts.spec);
      spec.data = {
        values: spots.map(([x, y], i) => ({ x, y, i: chosen.places[i], text: facts.texts[i], label: facts.labels[i] })),
      };
      delete spec.datasets;
      const byLabel = controls.colour.value === "0", places = chosen.names.map((_, i) => i);
      spec.params.find((p) => p.name === "names").value = chosen.names;
      spec.encoding.color.scale = { domain: places, range: byLabel ? facts.palette.slice(0, places.length) : facts.rightWrong };
      spec.encoding.color.legend.columns = spec.encoding.shape.legend.columns = Math.max(2, Math.floor(place.clientWidth / 160));
      spec.encoding.shape.scale.domain = places;
      spec.encoding.shape.scale.range = spec.encoding.shape.scale.range.slice(0, places.length);
      draw(place, spec);
    };
    controls.addEventListener("change", show);
    controls.addEventListener("submit", (event) => event.preventDefault());
    show();
  };
  if (given.map) vectorMap(given.map);

  /* ── rows that can be searched, sorted and exported ─────────────────────────────────────────────────────────── */

  const PAGE = 25;

  /* columns: {name, show(row) → Node, plain(row) → string, key(row) → what it sorts by, kind}; filters: [{name, keep(row)}] */
  const explorer = (root, { columns, rows, filters, file }) => {
    const form = root.querySelector("form"), more = root.querySelector("[name=more]");
    const head = root.querySelector("thead"), body = root.querySelector("tbody");
    const searched = rows.map((row) => columns.map((c) => c.plain(row)).join("\n").toLocaleLowerCase());
    let sort = null, shown = PAGE;
    form.filter.replaceChildren(...filters.map((f, i) => make("option", f.name, { value: i })));
    const current = () => {
      const wanted = form.search.value.trim().toLocaleLowerCase(), filter = filters[form.filter.value];
      const kept = rows.map((_, i) => i).filter((i) => filter.keep(rows[i]) && searched[i].includes(wanted));
      if (sort) {
        const key = columns[sort.column].key;
        const order = (a, b) => (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
        kept.sort((i, j) => sort.sign * order(key(rows[i]), key(rows[j])) || i - j);
      }
      return kept.map((i) => rows[i]);
    };
    const show = () => {
      const kept = current();
      form.count.value = kept.length === rows.length ? `${rows.length} rows` : `${kept.length} of ${rows.length} rows`;
      body.replaceChildren(...kept.slice(0, shown).map((row) => {
        const line = make("tr");
        for (const column of columns) {
          const box = make("td", column.show(row), { className: column.kind });
          if (column.kind !== "text") box.dataset.name = column.name;
          line.append(box);
        }
        return line;
      }));
      more.hidden = kept.length <= shown;
    };
    const top = make("tr");
    const sortBy = (next) => {
      sort = next;
      [...top.children].forEach((box, place) => {
        if (sort && sort.column === place) box.setAttribute("aria-sort", sort.sign > 0 ? "ascending" : "descending");
        else box.removeAttribute("aria-sort");
      });
      form.order.value = sort ? sort.column : "";
      show();
    };
    columns.forEach((column, place) => {
      const box = make("th", undefined, { scope: "col" }), button = make("button", isolated(column.name), { type: "button" });
      button.addEventListener("click", () => {
        sortBy({ column: place, sign: sort && sort.column === place ? -sort.sign : 1 });
      });
      box.append(button);
      top.append(box);
    });
    head.replaceChildren(top);
    form.order.replaceChildren(
      make("option", "as given", { value: "" }), ...columns.map((c, i) => make("option", c.name, { value: i })),
    );
    form.order.addEventListener("change", () => {
      sortBy(form.order.value === "" ? null : { column: Number(form.order.value), sign: 1 });
    });
    const again = () => { shown = PAGE; show(); };
    form.addEventListener("submit", (event) => event.preventDefault());
    form.search.addEventListener("input", again);
    form.filter.addEventListener("change", again);
    more.addEventListener("click", () => { shown += 4 * PAGE; show(); });
    form.export.addEventListener("click", () => {
      const lines = [columns.map((c) => c.name), ...current().map((row) => columns.map((c) => c.plain(row)))];
      const blob = new Blob(["\ufeff", csv(lines)], { type: "text/csv;charset=utf-8" });
      const link = make("a", undefined, { href: URL.createObjectURL(blob), download: file });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    });
    show();
  };

  /* RFC 4180; a cell that a spreadsheet would take for a formula gets an apostrophe in front. */
  const csv = (lines) => lines.map((cells) => cells.map((cell) => {
    const safe = /^[=+\-@\t\r]/.test(cell) ? `'${cell}` : cell;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }).join(",")).join("\r\n") + "\r\n";

  const paragraphs = (texts) => {
    const box = document.createDocumentFragment();
    for (const text of texts) box.append(make("p", text === "" ? "(empty)" : text, { dir: "auto" }));
    return box;
  };

  const disagreements = (facts) => {
    const root = document.querySelector('[data-rows="disagreements"]');
    if (!root) return;
    const { names, classes } = facts;
    const columns = [
      { name: "row", kind: "id", show: (r) => isolated(r.id), plain: (r) => r.id, key: (r) => r.id },
      { name: "text", kind: "text", show: (r) => paragraphs(r.text), plain: (r) => r.text.join("\n"), key: (r) => r.text.join("\n") },
      { name: "label", kind: "class", show: (r) => isolated(classes[r.label]), plain: (r) => classes[r.label], key: (r) => classes[r.label] },
      ...names.map((name, j) => ({
        name,
        kind: "said",
        show: (r) => {
          const box = document.createDocumentFragment(), [said, sure] = r.said[j];
          const word = isolated(classes[said]);
          if (said !== r.label) word.className = "wrong";
          box.append(word, said === r.label ? "" : make("span", " (wrong)", { className: "unseen" }), make("small", sure.toFixed(2)));
          return box;
        },
        plain: (r) => classes[r.said[j][0]],
        key: (r) => `${Number(r.said[j][0] !== r.label)} ${classes[r.said[j][0]]}`,
      })),
      { name: "spread", kind: "n", show: (r) => r.spread.toFixed(2), plain: (r) => r.spread.toFixed(3), key: (r) => -r.spread },
    ];
    const filters = [
      { name: "all", keep: () => true },
      ...names.map((name, j) => ({ name: `${name} wrong`, keep: (r) => r.said[j][0] !== r.label })),
      ...names.map((name, j) => ({ name: `only ${name} right`, keep: (r) => r.said.every(([s], i) => (s === r.label) === (i === j)) })),
      { name: "all wrong", keep: (r) => r.said.every(([s]) => s !== r.label) },
    ];
    explorer(root, { columns, rows: facts.rows, filters, file: "disagreements.csv" });
  };
  if (given.disagreements) disagreements(given.disagreements);

  /* ── audit ──────────────────────────────────────────────────────────────────────────────────────────────────── */

  const audit = (facts) => {
    /* Columns of rows that are plain arrays: a name, what kind of cell it is. */
    const column = (name, kind, at) => ({
      name,
      kind,
      show: (r) => (kind === "text" ? paragraphs(r[at]) : kind === "n" ? r[at].toFixed(3) : isolated(r[at])),
      plain: (r) => (kind === "text" ? r[at].join("\n") : String(r[at])),
      key: (r) => (kind === "text" ? r[at].join("\n") : r[at]),
    });
    const columns = (...pairs) => pairs.map(([name, kind], at) => column(name, kind, at));
    const every = { name: "all", keep: () => true };
    const values = (rows, at, word) => [...new Set(rows.map((r) => r[at]))].map((value) => (
      { name: word ? `${word} ${value}` : value, keep: (r) => r[at] === value }
    ));
    const table = (place, rows, made, filters, file) => {
      const root = document.querySelector(`[data-rows="${place}"]`);
      if (root) explorer(root, { columns: made, rows, filters, file });
    };
    table("audit", facts.rows, columns(
      ["row", "id"], ["split", "class"], ["text", "text"], ["label", "class"], ["suggested", "class"], ["score", "n"],
      ["kind", "word"], ["say so", "word"],
    ), [every, ...values(facts.rows, 6, ""), ...values(facts.rows, 1, "in"), ...values(facts.rows, 3, "labelled")], "suspicious.csv");
    table("near", facts.near, columns(
      ["cosine", "n"], ["row", "id"], ["text", "text"], ["label", "class"], ["other row", "id"], ["near-repeat", "text"],
      ["other label", "class"],
    ), [
      every,
      { name: "labels differ", keep: (r) => r[3] !== r[6] },
      { name: "different splits", keep: (r) => r[7] === 1 },
    ], "near-repeats.csv");
    table("losses", facts.losses, columns(
      ["contender", "class"], ["which", "word"], ["row", "id"], ["text", "text"], ["label", "class"], ["said", "class"],
      ["loss", "n"],
    ), [every, ...values(facts.losses, 1, "").map((f) => ({ ...f, name: `${f.name} loss` })), ...values(facts.losses, 0, "of")], "losses.csv");
  };
  if (given.audit) audit(given.audit);

  /* ── where one is ───────────────────────────────────────────────────────────────────────────────────────────── */

  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const seen = new Set();
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) entry.isIntersecting ? seen.add(entry.target.id) : seen.delete(entry.target.id);
    const here = [...links.keys()].find((id) => seen.has(id));
    for (const [id, link] of links) id === here ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
  }, { rootMargin: "-15% 0px -70% 0px" });
  for (const section of document.querySelectorAll("main > section")) watcher.observe(section);
  document.documentElement.dataset.ready = "yes";
})();

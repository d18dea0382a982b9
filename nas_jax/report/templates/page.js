"use strict";
// What the libraries leave: themes, the card of an architecture, and which columns they get.
(async () => {
  const root = document.documentElement;

  // -- theme --------------------------------------------------------------------------------------
  const system = matchMedia("(prefers-color-scheme: dark)");
  const toggle = document.getElementById("theme");
  const repaint = []; // called when colours have changed
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const paint = () => {
    root.classList.toggle("dark", isDark()); // DataTables goes by the class
    toggle.textContent = isDark() ? "Light" : "Dark";
    toggle.setAttribute("aria-label", isDark() ? "Use light colours" : "Use dark colours");
    repaint.forEach((each) => each());
  };
  toggle.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch {} // of a file it may be closed
    paint();
  });
  system.addEventListener("change", paint);
  paint();

  // -- what is packed in the page -----------------------------------------------------------------
  const unpack = async (name) => {
    const text = atob(document.getElementById(`packed-${name}`).textContent);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  };
  const isReady = () => { root.dataset.ready = "yes"; }; // all is drawn
  if (!document.getElementById("packed-data") || !window.DecompressionStream) return isReady();
  const data = JSON.parse(await unpack("data"));
  const { archs } = data, draw = drawerOf(data.drawings);

  // -- numbers ------------------------------------------------------------------------------------
  const tables = { trials: data.trials, networks: data.networks };
  const shown = ({ values, texts }, row) =>
    values[row] === null ? "–" : texts ? texts[row] : String(values[row]);

  // -- the card of one architecture ---------------------------------------------------------------
  const peek = document.getElementById("peek");
  let opener = null; // of a card that stays: what gets the focus back
  const close = () => {
    peek.hidden = true; peek.classList.remove("pinned");
    opener?.focus({ preventScroll: true }); opener = null;
  };
  const isPinned = () => peek.classList.contains("pinned");
  // `from` has opened it, and it stays; null: it goes when the mouse or the focus does.
  const show = (number, table, row, at, from = null) => {
    if (isPinned() && !from) return;
    const facts = make("dl");
    if (table) {
      for (const column of Object.values(tables[table].columns)) {
        if (column.kind !== "arch" && column.values[row] !== null) {
          facts.append(make("dt", {}, column.title), make("dd", {}, shown(column, row)));
        }
      }
    }
    const shut = make("button", { type: "button" }, "Close");
    shut.addEventListener("click", close);
    peek.replaceChildren(make("code", {}, archs[number]), draw(number), facts, shut);
    opener = from; peek.classList.toggle("pinned", Boolean(from)); peek.hidden = false;
    const { width, height } = peek.getBoundingClientRect();
    const left = at.x + 18 + width > innerWidth ? at.x - 18 - width : at.x + 18;
    peek.style.left = `${Math.max(8, Math.min(left, innerWidth - width - 8))}px`;
    peek.style.top = `${Math.max(8, Math.min(at.y + 14, innerHeight - height - 8))}px`;
    if (from) shut.focus({ preventScroll: true });
  };
  const leave = () => { if (!isPinned()) peek.hidden = true; };
  addEventListener("pointerdown", ({ target }) => { // outside of it
    if (!isPinned() || peek.contains(target)) return;
    const before = opener;
    opener = null; // the focus goes to what was pressed, if that takes it
    close();
    addEventListener("click", () => {
      if (document.activeElement === document.body) before?.focus({ preventScroll: true });
    }, { once: true });
  });
  addEventListener("keydown", (event) => { if (event.key === "Escape" && !peek.hidden) close(); });

  const button = (number, table, row) => {
    const element = make("button", { type: "button", class: "arch", title: "draw it" }, archs[number]);
    const at = () => {
      const { left, bottom } = element.getBoundingClientRect();
      return { x: left, y: bottom };
    };
    element.addEventListener("mouseenter", () => show(number, table, row, at()));
    element.addEventListener("mouseleave", leave);
    element.addEventListener("click", () => show(number, table, row, at(), element));
    return element;
  };
  const places = new Map(archs.map((arch, number) => [arch, number]));
  const trialOf = new Map(tables.trials?.columns.arch.values.map((number, row) => [number, row]));
  for (const code of all("main code")) {
    const number = places.get(code.textContent);
    if (number !== undefined) {
      code.replaceWith(button(number, trialOf.has(number) ? "trials" : "", trialOf.get(number)));
    }
  }
  const best = document.querySelector("#best .drawing");
  if (best && data.best !== null) {
    best.replaceWith(draw(data.best));
    const twin = all("figure").find((each) => each.dataset.name === "best.png"); // once is enough
    twin?.classList.add("drawn");
    twin?.querySelector("span").before(make("a", { href: "#best" }, "drawn in the summary"));
  }

  // -- tables -------------------------------------------------------------------------------------
  const address = (script) => URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const [style, script, code] = await Promise.all(["tables-style", "tables", "plotly"].map(unpack));
  document.head.prepend(make("style", {}, style)); // before ours, which has the last word
  const { default: DataTable } = await import(address(script));
  for (const place of all(".records")) {
    const name = place.dataset.name, { columns, order } = tables[name];
    const list = Object.values(columns), names = Object.keys(columns);
    if (!list.length) continue;
    const heads = list.map((column) => make("th", {}, column.title)); // filters go into a row below
    const element = make("table", { class: "compact" }, make("thead", {}, make("tr", {}, ...heads)));
    place.replaceChildren(element);
    const isText = (column) => column.kind === "text" || column.kind === "arch";
    const made = new DataTable(element, {
      data: list[0].values.map((_, row) => [row]),
      columns: list.map((column, i) => ({
        type: isText(column) ? "string" : "num",
        className: `${isText(column) ? "dt-left" : "dt-right"} of-${names[i]}`,
        orderSequence: isText(column) ? ["asc", "desc"] : ["desc", "asc"],
        data: null,
        render: ([row], type) => {
          const value = column.values[row];
          if (type === "display") {
            return column.kind === "arch" ? button(value, name, row) : make("span", {}, shown(column, row));
          }
          if (column.kind === "arch") return archs[value];
          if (type === "filter") return value === null ? "" : shown(column, row); // what is seen
          return value ?? (isText(column) ? "" : -Infinity);
        },
      })),
      order: order ? [[names.indexOf(order), "desc"]] : [],
      columnControl: { target: 1, content: ["search"] },
      ordering: { indicators: true, handler: true },
      pageLength: 10,
      autoWidth: false,
      language: { search: "Search all columns:", entries: { _: name, 1: name.slice(0, -1) } },
    });
    element.tHead.rows[1]?.querySelectorAll("th, td").forEach((cell, i) => {
      for (const each of cell.querySelectorAll("input, select")) {
        const verb = each.matches("select") ? "How to filter" : "Filter";
        each.setAttribute("aria-label", `${verb} ${list[i].title}`);
      }
      if (isText(list[i])) return;
      const [way, wanted] = [cell.querySelector("select"), cell.querySelector("input")];
      const compares = () => wanted.value !== "" && !["empty", "notEmpty"].includes(way.value);
      // DataTables takes a cell without a value for minus infinity, which is less than all
      made.column(i).search.fixed("known", (value) => value !== "" || !compares());
    });
  }

  // -- plots --------------------------------------------------------------------------------------
  await new Promise((resolve, reject) => {
    const script = make("script", { src: address(code) }); // of an address it is compiled aside
    script.addEventListener("load", resolve);
    script.addEventListener("error", reject);
    document.head.append(script);
  });
  await drawPlots(data.plots, tables, { show, leave, repaint });
  isReady();
})();

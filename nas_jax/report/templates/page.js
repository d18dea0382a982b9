"use strict";
// What the libraries leave: themes, drawings of architectures, and which columns they get.
(async () => {
  const root = document.documentElement;
  const make = (tag, attributes = {}, ...children) => {
    const is_svg = "svg g path rect text tspan circle".split(" ").includes(tag);
    const element = is_svg
      ? document.createElementNS("http://www.w3.org/2000/svg", tag)
      : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const all = (selector) => [...document.querySelectorAll(selector)];

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

  // -- drawings -----------------------------------------------------------------------------------
  const { archs, drawings } = data;
  const PALETTE = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a8f2a", "#7a5fd0"];
  const colour = (option) => `--op: ${PALETTE[option % PALETTE.length]}`;
  const named = (options) => options.map((option) => drawings.names[option]);

  const LINE = 13; // of text, in px
  const text = (x, y, lines, widest) => {
    const spans = lines.map((line, i) => {
      const fit = line.length > widest / 6 ? { textLength: widest, lengthAdjust: "spacingAndGlyphs" } : {};
      return make("tspan", { x, y: y + 4 + LINE * (i - (lines.length - 1) / 2), ...fit }, line);
    });
    return make("text", {}, ...spans);
  };
  const box = (x, y, width, height, lines, option) =>
    make("g", {},
      make("rect", { x, y: y - height / 2, width, height, rx: 5,
        ...(option === undefined ? {} : { class: "op", style: colour(option) }) }),
      text(x + width / 2, y, lines, width - 8));

  // Wires run right into the concat; a block taps those that it uses, from its dots. A row is as
  // high as the lines of its box need.
  const drawCell = (blocks, inputs) => {
    const [STEP, ROW, LEFT, WIDTH] = [128, 46, 84, 92];
    const taps = Array.from({ length: blocks.length + 1 }, (_, i) => LEFT + 18 + STEP * i);
    const end = taps.at(-1);
    const starts = [...inputs.map(() => LEFT), ...blocks.map((_, i) => taps[i] + 16 + WIDTH)];
    const last = starts.slice();
    blocks.forEach(([used], i) => used.forEach((j) => { last[j] = Math.max(last[j], taps[i]); }));
    const lines = [
      ...inputs.map((name) => name.split(" ")),
      ...blocks.map(([, ops]) => named(ops).map((name, k) => (k ? `+ ${name}` : name))),
    ];
    const tall = lines.map((each) => Math.max(ROW - 10, LINE * each.length + 10)); // the boxes
    let height = 0;
    const y = tall.map((each) => { height += each + 10; return height - each / 2 - 5; });
    const wires = starts.flatMap((start, row) => [
      make("path", { class: "wire", d: `M${start} ${y[row]}H${end}` }),
      make("path", { class: "used", d: `M${start} ${y[row]}H${last[row]}` }),
    ]);
    const boxes = inputs.map((_, row) => box(0, y[row], LEFT, tall[row], lines[row]));
    blocks.forEach(([used, ops], i) => {
      const row = inputs.length + i;
      const down = `M${taps[i]} ${y[Math.min(...used)]}V${y[row]}H${taps[i] + 16}`;
      wires.push(make("path", { class: "used", d: down }));
      wires.push(...used.map((j) => make("circle", { class: "dot", cx: taps[i], cy: y[j], r: 3.5 })));
      boxes.push(box(taps[i] + 16, y[row], WIDTH, tall[row], lines[row], ops[0]));
    });
    boxes.push(box(end, height / 2, 54, height - 8, ["concat"]));
    const width = end + 56;
    const words = blocks.map(([used, ops], i) =>
      `block ${i}: ${named(ops).join(" + ")} of ` +
      used.map((j) => inputs[j] ?? `block ${j - inputs.length}`).join(" + "));
    return make("svg", { viewBox: `-1 0 ${width} ${height}`, width, height, role: "img",
      style: `min-width: ${0.7 * width}px`, "aria-label": words.join("; ") },
      ...wires, ...boxes);
  };
  const drawChoices = (parts, choices) =>
    make("ol", { class: "chain" },
      ...parts.map((options, i) =>
        make("li", options.length ? { style: colour(options[0]) } : {},
          make("small", {}, choices[i]), named(options).join(" + ") || "nothing")));
  const draw = (number) => {
    const element = make("div", { class: "drawing" });
    if (!drawings) return element;
    const parts = drawings.parts[number];
    element.append(drawings.inputs ? drawCell(parts, drawings.inputs) : drawChoices(parts, drawings.choices));
    if (drawings.note) element.append(make("p", { class: "note" }, drawings.note));
    return element;
  };

  // -- numbers ------------------------------------------------------------------------------------
  const tables = { trials: data.trials, networks: data.networks };
  const shown = ({ values, texts }, row) =>
    values[row] === null ? "–" : texts ? texts[row] : String(values[row]);

  // -- the card of one architecture ---------------------------------------------------------------
  const peek = document.getElementById("peek");
  let pinned = false, opener = null;
  const close = () => {
    peek.hidden = true; pinned = false; peek.classList.remove("pinned");
    opener?.focus(); opener = null;
  };
  const show = (number, table, row, at, pin = false) => {
    if (pinned && !pin) return;
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
    pinned = pin; peek.classList.toggle("pinned", pin); peek.hidden = false;
    const { width, height } = peek.getBoundingClientRect();
    const left = at.x + 18 + width > innerWidth ? at.x - 18 - width : at.x + 18;
    peek.style.left = `${Math.max(8, Math.min(left, innerWidth - width - 8))}px`;
    peek.style.top = `${Math.max(8, Math.min(at.y + 14, innerHeight - height - 8))}px`;
    if (pin) shut.focus({ preventScroll: true });
  };
  const leave = () => { if (!pinned) peek.hidden = true; };
  addEventListener("pointerdown", ({ target }) => { // outside of it
    if (!pinned || peek.contains(target)) return;
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
    element.addEventListener("click", () => { opener = element; show(number, table, row, at(), true); });
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
    new DataTable(element, {
      data: list[0].values.map((_, row) => [row]),
      columns: list.map((column) => ({
        type: isText(column) ? "string" : "num",
        className: isText(column) ? "dt-left" : "dt-right",
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
    });
  }

  // -- plots --------------------------------------------------------------------------------------
  await new Promise((resolve, reject) => {
    const script = make("script", { src: address(code) }); // of an address it is compiled aside
    script.addEventListener("load", resolve);
    script.addEventListener("error", reject);
    document.head.append(script);
  });
  const isCoarse = matchMedia("(pointer: coarse)").matches; // a finger, which has to scroll
  const MANY = 2000, SYMBOLS = ["circle", "square", "diamond", "triangle-up", "star", "x", "cross"];
  const variable = (name) => {
    const probe = make("i", { style: `color: var(${name})` });
    document.body.append(probe);
    const value = getComputedStyle(probe).color;
    probe.remove();
    return value;
  };
  const traces = ({ table, y, series, fronts }, x) => {
    const { columns } = tables[table];
    const unit = (column) => (column.kind === "millions" ? 1e6 : 1);
    const at = (name, row) => columns[name].values[row] / unit(columns[name]);
    const points = (rows) => {
      const known = rows.filter((row) => columns[x].values[row] !== null && columns[y].values[row] !== null);
      return { x: known.map((row) => at(x, row)), y: known.map((row) => at(y, row)), customdata: known };
    };
    const everything = columns.arch.values.map((_, row) => row);
    const entries = Object.entries(series);
    const made = entries.map(([name, rows], i) => {
      const found = points(rows ?? everything), many = found.x.length > MANY;
      const sds = columns.sd && !many ? found.customdata.map((row) => columns.sd.values[row]) : null;
      const spread = sds ? { error_y: { type: "data", array: sds, thickness: 1 } } : {};
      const front = fronts[x];
      const own = front ? variable("--pale") : i ? PALETTE[i % PALETTE.length] : variable("--series");
      return {
        ...found, ...spread, name: `${name} (n = ${found.x.length.toLocaleString("en")})`,
        type: many ? "scattergl" : "scatter", mode: "markers", hoverinfo: "none",
        marker: {
          color: own, symbol: SYMBOLS[i % SYMBOLS.length], size: many ? 4 : 8, opacity: many ? 0.55 : 0.8,
        },
      };
    });
    if (fronts[x]) {
      made.push({
        ...points(fronts[x]), name: "best for the cost", type: "scatter", mode: "lines+markers",
        hoverinfo: "none", line: { shape: "hv", color: variable("--series") }, marker: { size: 8, color: variable("--series") },
      });
    }
    return made;
  };
  const layout = (titles, count) => {
    const axis = (title) => ({
      title: { text: title, font: { size: 14 } }, gridcolor: variable("--line"), zeroline: false,
      linecolor: variable("--soft"), automargin: true,
    });
    return {
      xaxis: axis(titles[0]), yaxis: axis(titles[1]), showlegend: count > 1,
      hovermode: "closest", hoverdistance: 12,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 50, r: 12, t: 30, b: 45 },
      font: { color: variable("--text"), family: "system-ui, sans-serif", size: 13 },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: variable("--pale"), activecolor: variable("--text") },
      dragmode: isCoarse ? false : "zoom",
    };
  };
  const plot = async (spec) => {
    const figure = all("figure").find((each) => each.dataset.name === spec.figure);
    const { columns } = tables[spec.table];
    const xs = spec.xs.filter((name) => columns[name]);
    if (!figure || !xs.length || !columns[spec.y]) return;
    const alternative = figure.querySelector("img").alt;
    const rows = spec.table === "trials" ? "trials" : "stand-alone networks";
    const label = `${alternative}: a plot; its points are in the table of all ${rows}`;
    const place = make("div", { class: "plot", role: "img", "aria-label": label });
    let chosen = xs[0];
    if (xs.length > 1) {
      const options = xs.map((name) => make("option", { value: name }, columns[name].title));
      const select = make("select", {}, ...options);
      select.addEventListener("change", () => { chosen = select.value; render(); });
      figure.prepend(make("label", { class: "axis" }, "Against ", select));
    }
    figure.querySelector("img").before(place);
    figure.classList.add("live");
    const render = () => {
      const found = traces(spec, chosen);
      const titles = [columns[chosen].title, spec.label || columns[spec.y].title];
      return Plotly.react(place, found, layout(titles, found.length), {
        responsive: true, displaylogo: false, displayModeBar: isCoarse ? false : "hover",
        modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
      });
    };
    await render();
    repaint.push(render);
    const peekAt = (event, pin) => {
      const { customdata: row } = event.points[0], { clientX: x = 0, clientY: y = 0 } = event.event;
      show(columns.arch.values[row], spec.table, row, { x, y }, pin);
    };
    place.on("plotly_hover", (event) => peekAt(event, false));
    place.on("plotly_unhover", leave);
    place.on("plotly_click", (event) => peekAt(event, true));
  };
  for (const spec of data.plots) await plot(spec);
  isReady();
})();

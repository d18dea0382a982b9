"use strict";
// Plots in place of figures, of which each point draws its architecture.

// Go from dot to dot of a plot by keys, left and right along the axis x, up and down along y. A ring
// marks the dot; `choose` gets its row, its place in the window, and whether it was chosen to stay.
const walk = (place, choose, leave) => {
  const KEYS = { ArrowRight: ["x", 1], ArrowLeft: ["x", -1], ArrowUp: ["y", 1], ArrowDown: ["y", -1] };
  const ring = make("i", { class: "ring", hidden: "" });
  place.append(ring);
  const dots = () => { // that are in sight, once each, in px from the left and from the bottom
    const { xaxis, yaxis } = place._fullLayout;
    const found = place._fullData.filter(({ visible }) => visible === true).flatMap((trace) =>
      trace.customdata.map((row, i) => [
        row, { row, x: xaxis.d2p(trace.x[i]), y: yaxis._length - yaxis.d2p(trace.y[i]) },
      ]));
    return [...new Map(found).values()].filter(({ x, y }) =>
      x >= 0 && y >= 0 && x <= xaxis._length && y <= yaxis._length);
  };
  let at; // the row of the dot that has the ring, or had it last
  const rest = () => { ring.hidden = true; leave(); };
  const go = (dot, stays) => {
    const { xaxis, yaxis } = place._fullLayout;
    const [left, top] = [xaxis._offset + dot.x, yaxis._offset + yaxis._length - dot.y];
    Object.assign(ring.style, { left: `${left}px`, top: `${top}px` });
    ring.hidden = false; at = dot.row;
    const box = place.getBoundingClientRect();
    choose(dot.row, { x: box.left + left, y: box.top + top }, stays);
  };
  place.addEventListener("keydown", (event) => {
    if (event.target !== place || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "Escape") rest();
    const [along, step] = KEYS[event.key] ?? ["x", 0];
    if (!step && event.key !== "Enter") return;
    event.preventDefault();
    const other = along === "x" ? "y" : "x";
    const ordered = dots().sort((a, b) => a[along] - b[along] || a[other] - b[other] || a.row - b.row);
    const number = ordered.findIndex(({ row }) => row === at);
    const next = number < 0 ? (step < 0 ? ordered.length - 1 : 0) : number + step;
    const dot = ordered[Math.max(0, Math.min(next, ordered.length - 1))];
    if (!dot) return;
    go(dot, !step);
  });
  place.addEventListener("blur", rest);
  place.on("plotly_afterplot", rest); // the dots may have moved
};

// Draw the plots; `show` and `leave` are of the card of an architecture, `repaint` is what a change
// of colours calls.
const drawPlots = async (plots, tables, { show, leave, repaint }) => {
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
    const image = figure.querySelector("img"); // a study's networks have none
    const alternative = image?.alt ?? `${columns[spec.y].title} of all networks`;
    const rows = spec.table === "trials" ? "trials" : "stand-alone networks";
    const label = `${alternative}: a plot; the arrow keys go from point to point, which are also in `
      + `the table of all ${rows}`;
    const place = make("div", { class: "plot", role: "application", tabindex: "0", "aria-label": label });
    let chosen = xs[0];
    if (xs.length > 1) {
      const options = xs.map((name) => make("option", { value: name }, columns[name].title));
      const select = make("select", {}, ...options);
      select.addEventListener("change", () => { chosen = select.value; render(); });
      figure.prepend(make("label", { class: "axis" }, "Against ", select));
    }
    image ? image.before(place) : figure.append(place);
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
    const choose = (row, at, stays) =>
      show(columns.arch.values[row], spec.table, row, at, stays ? place : null);
    const peekAt = (event, stays) => {
      const { clientX: x = 0, clientY: y = 0 } = event.event;
      choose(event.points[0].customdata, { x, y }, stays);
    };
    place.on("plotly_hover", (event) => peekAt(event, false));
    place.on("plotly_unhover", leave);
    place.on("plotly_click", (event) => peekAt(event, true));
    const draws = isCoarse
      ? "A tap on a dot draws its architecture."
      : "Point at a dot, or go from dot to dot by the arrow keys: its architecture is drawn. "
        + "A click or Enter keeps it open.";
    place.after(make("p", { class: "hint" }, draws));
    walk(place, choose, leave);
  };
  for (const spec of plots) await plot(spec);
};

"use strict";
// Elements, and drawings of architectures.
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
const PALETTE = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a8f2a", "#7a5fd0"];

// Return what makes the drawing of an architecture, by its number; `drawings` as page_data.py has them.
const drawerOf = (drawings) => {
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
  return draw;
};

"use strict";
(() => {
  const root = document.documentElement;
  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const config = { displayModeBar: false, responsive: true, doubleClick: "reset" };
  const charts = [];

  // A figure comes without colours; they are those of the page, light, dark or print.
  function themed(figure) {
    const data = figure.data.map((trace) => {
      if (trace.type === "heatmap") {
        return { ...trace, colorscale: [[0, colour("wash")], [1, colour("c0")]] };
      }
      const own = colour(trace.meta.colour < 0 ? "soft" : `c${trace.meta.colour % 8}`);
      if (trace.type === "bar") {
        return { ...trace, marker: { color: own, line: { width: 1, color: colour("paper") } } };
      }
      return { ...trace, line: { ...trace.line, color: own }, marker: { color: own, size: 7 } };
    });
    const axis = (given) => ({
      ...given,
      title: { ...given.title, font: { size: 12, color: colour("soft") }, standoff: 6 },
      gridcolor: colour("line"), zeroline: false, exponentformat: "power", linecolor: colour("line"),
      tickcolor: colour("line"), automargin: true, nticks: trace_is_matrix(figure) ? 0 : 6,
      tickfont: { size: 12, color: colour("soft") },
      fixedrange: !window.matchMedia("(pointer: fine)").matches, // or a finger could not scroll
    });
    const layout = {
      ...figure.layout,
      autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, color: colour("ink") },
      margin: { l: 48, r: 8, t: 8, b: 40 },
      xaxis: axis(figure.layout.xaxis), yaxis: axis(figure.layout.yaxis),
      legend: {
        font: { size: 12 },
        ...(figure.layout.legend?.orientation === "v"
          ? { ...figure.layout.legend, yanchor: "top" }
          : { orientation: "h", y: 1, yanchor: "bottom", x: 0 }),
      },
      hoverlabel: {
        bgcolor: colour("paper"), bordercolor: colour("line"), font: { color: colour("ink") },
      },
    };
    return { data, layout };
  }

  function trace_is_matrix(figure) {
    return figure.data[0].type === "heatmap";
  }

  function draw() {
    for (const { element, figure } of charts) {
      const { data, layout } = themed(figure);
      Plotly.react(element, data, layout, config);
      // To a screen reader a chart is one picture with a name; its values stand in the table below.
      element.querySelector(".plot-container")?.setAttribute("aria-hidden", "true");
    }
  }

  function setUpCharts() {
    for (const element of document.querySelectorAll(".chart")) {
      const text = element.parentElement.querySelector("script").textContent;
      charts.push({ element, figure: JSON.parse(text) });
    }
    if (!charts.length) return;
    draw();
    // What plotly measures text with is no picture for a screen reader to tell of.
    document.getElementById("js-plotly-tester")?.setAttribute("aria-hidden", "true");
    dark.addEventListener("change", draw);
    window.addEventListener("beforeprint", () => {
      root.dataset.scheme = "print";
      draw();
      for (const { element } of charts) {
        Plotly.relayout(element, { width: element.closest(".wide") ? 640 : 320, autosize: false });
      }
    });
    window.addEventListener("afterprint", () => {
      delete root.dataset.scheme;
      for (const { element } of charts) Plotly.relayout(element, { width: null, autosize: true });
      draw();
    });
  }

  function value(row, column) {
    const cell = row.cells[column];
    if (!cell) return "";
    const text = cell.dataset.value ?? cell.textContent.trim();
    const number = Number(text);
    return text !== "" && Number.isFinite(number) ? number : text;
  }

  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  }

  function sortBy(button) {
    const heading = button.closest("th");
    const body = button.closest("table").tBodies[0];
    const before = heading.getAttribute("aria-sort");
    const turned = { ascending: "descending", descending: "ascending" };
    const direction = turned[before] ?? button.dataset.first;
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const column = Number(button.dataset.sort);
    const rows = [...body.rows];
    rows.sort((a, b) => sign * compare(value(a, column), value(b, column)));
    body.append(...rows);
  }

  for (const button of document.querySelectorAll(".sortable thead button")) {
    button.addEventListener("click", () => sortBy(button));
  }
  for (const button of document.querySelectorAll("[data-play]")) {
    button.addEventListener("click", () => {
      const playing = document.getElementById(button.dataset.play).classList.toggle("playing");
      button.setAttribute("aria-pressed", String(playing));
    });
  }
  // The section that is being read is marked in the contents.
  function setUpContents() {
    const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
    const sections = [...links.keys()].map((id) => document.getElementById(id));
    const mark = () => {
      const passed = sections.filter((s) => s.getBoundingClientRect().top < window.innerHeight / 3);
      for (const link of links.values()) link.removeAttribute("aria-current");
      const current = passed.length && links.get(passed.at(-1).id);
      if (!current) return;
      current.setAttribute("aria-current", "true");
      const list = current.closest("ol");
      list.scrollLeft = current.offsetLeft - list.offsetLeft - list.clientWidth / 3;
    };
    let waiting = false;
    const later = () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; mark(); });
    };
    if (links.size) document.addEventListener("scroll", later, { passive: true });
    if (links.size) mark();
  }

  setUpCharts();
  setUpContents();
  root.dataset.ready = "true"; // for tests: everything above ran
})();

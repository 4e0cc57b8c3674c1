"use strict";
// Figures: drawn when they come into view, then the others when the browser is idle; all before
// printing. The theme is a layout template; it is put in here and nowhere in the data.
const Figures = (() => {
  const templates = JSON.parse(document.getElementById("templates").textContent);
  const places = [...document.querySelectorAll(".figure")];
  const touch = window.matchMedia("(hover: none)").matches;
  const config = {
    displayModeBar: touch ? false : "hover",
    responsive: true, displaylogo: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    toImageButtonOptions: { format: "svg", filename: document.title },
  };
  const isDrawn = (place) => place.dataset.drawn === "1";
  let theme = "light";
  let onTrial = () => {};

  function draw(place) {
    if (isDrawn(place)) return;
    place.dataset.drawn = "1";
    const data = document.getElementById("figure-" + place.dataset.figure);
    const figure = JSON.parse(data.textContent);
    figure.layout.template = templates[theme];
    figure.layout.autosize = true;
    if (touch) figure.layout.dragmode = false; // a finger scrolls the page
    choices(place, figure.layout);
    Plotly.newPlot(place, figure.data, figure.layout, config);
    place.on("plotly_click", (event) => {
      const trial = event.points[0] && event.points[0].customdata;
      if (typeof trial === "string") onTrial(trial);
    });
    const meta = figure.layout.meta || {};
    if (meta.follow !== undefined) follow(place, meta.follow);
    report();
  }
  function report() {
    document.documentElement.dataset.figures = places.every(isDrawn) ? "drawn" : "waiting";
  }

  // Plotly's own buttons cannot be read on a dark page, and lie over the legend on a phone.
  function choices(place, layout) {
    const menu = (layout.updatemenus || [])[0];
    delete layout.updatemenus;
    if (!menu) return;
    const row = document.createElement("div");
    row.className = "choices";
    menu.buttons.forEach((choice, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = choice.label;
      button.setAttribute("aria-pressed", String(i === (menu.active || 0)));
      button.addEventListener("click", () => {
        Plotly.update(place, choice.args[0], choice.args[1]);
        [...row.children].forEach((b) => b.setAttribute("aria-pressed", String(b === button)));
      });
      row.append(button);
    });
    place.before(row);
  }

  // Draws the whole curve of the trial under the mouse into a trace kept for that.
  function follow(place, index) {
    let shown = null;
    const show = (trial, points) => {
      if (trial === shown) return;
      shown = trial;
      Plotly.restyle(place, { x: [points.map((p) => p[0])], y: [points.map((p) => p[1])] }, [index]);
    };
    place.on("plotly_hover", (event) => {
      const point = event.points[0];
      if (!point || typeof point.customdata !== "string") return;
      const trace = place._fullData[point.curveNumber];
      const points = [];
      trace.customdata.forEach((trial, i) => {
        if (trial === point.customdata) points.push([trace.x[i], trace.y[i]]);
      });
      show(point.customdata, points);
    });
    place.on("plotly_unhover", () => show(null, []));
  }

  function setTheme(name) {
    theme = name;
    places.filter(isDrawn).forEach((place) => {
      Plotly.relayout(place, { template: templates[theme] });
    });
  }

  // A page has a fixed width; the browser lays figures out before it knows that it prints.
  function beforePrint(width) {
    places.forEach(draw);
    places.forEach((place) => {
      Plotly.relayout(place, { template: templates.light, width: width });
    });
  }
  function afterPrint() {
    places.forEach((place) => {
      Plotly.relayout(place, { template: templates[theme], width: null, autosize: true });
    });
  }

  function start(firstTheme, trialClicked) {
    theme = firstTheme;
    onTrial = trialClicked;
    report();
    const observer = new IntersectionObserver((entries) => {
      entries.filter((e) => e.isIntersecting).forEach((e) => draw(e.target));
    }, { rootMargin: "300px" });
    places.forEach((place) => observer.observe(place));
    const idle = window.requestIdleCallback || ((f) => setTimeout(f, 30));
    const next = () => {
      const place = places.find((p) => !isDrawn(p));
      if (!place) return;
      draw(place);
      idle(next);
    };
    idle(next);
  }
  return { start, setTheme, beforePrint, afterPrint };
})();

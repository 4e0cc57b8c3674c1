"use strict";
// Theme, printing, and what is kept when a page of a running run loads itself anew.
(() => {
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  // A file opened from disk may have no storage; then nothing is kept.
  const kept = (action) => { try { return action(); } catch { return null; } };
  let chosen = kept(() => localStorage.getItem("theme"));
  const current = () => chosen || (dark.matches ? "dark" : "light");
  function setTheme() {
    root.dataset.theme = current();
    Figures.setTheme(current());
  }
  root.dataset.theme = current();
  dark.addEventListener("change", setTheme);
  document.getElementById("theme").addEventListener("click", () => {
    chosen = current() === "dark" ? "light" : "dark";
    kept(() => localStorage.setItem("theme", chosen));
    setTheme();
  });

  const place = "raytune-ahu " + location.pathname;
  if (document.querySelector('meta[http-equiv="refresh"]')) {
    const state = kept(() => JSON.parse(sessionStorage.getItem(place)));
    if (state) {
      Trials.restore(state.table);
      window.addEventListener("load", () => window.scrollTo(0, state.scroll));
    }
    window.addEventListener("pagehide", () => kept(() => sessionStorage.setItem(
      place, JSON.stringify({ scroll: window.scrollY, table: Trials.state }))));
  }

  const paperWidth = 690; // CSS pixels between the margins of A4, and of US letter with room to spare
  let printing = false;
  function beforePrint() {
    if (printing) return;
    printing = true;
    root.dataset.theme = "light";
    Trials.beforePrint();
    Figures.beforePrint(paperWidth);
  }
  function afterPrint() {
    if (!printing) return;
    printing = false;
    root.dataset.theme = current();
    Trials.afterPrint();
    Figures.afterPrint();
  }
  window.addEventListener("beforeprint", beforePrint);
  window.addEventListener("afterprint", afterPrint);
  window.matchMedia("print").addEventListener("change", (e) => (e.matches ? beforePrint() : afterPrint()));
  Figures.start(current(), (trial) => Trials.find("trial=" + trial));
})();

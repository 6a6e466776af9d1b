"use strict";
// The page works without this; it adds marks on photos, and tables that sort.
(() => {
  const root = document.documentElement, main = document.querySelector("main"), tray = document.querySelector(".tray");
  root.classList.add("js");

  const opened = () => {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (!target) return;
    for (let outer = target.closest("details"); outer; outer = outer.parentElement.closest("details")) outer.open = true;
    if (target.matches(".group")) target.focus({ preventScroll: true });
  };
  addEventListener("hashchange", opened);
  opened();
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && document.querySelector(".group:target")) location.hash = "#matrix";
  });
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => (each.open = true)));

  const worth = (cell) => {
    const text = (cell.querySelector(".n") || cell).textContent.trim(), number = parseFloat(text.replace(/,/g, ""));
    return Number.isNaN(number) ? text.toLowerCase() : number;
  };
  const compared = (a, b) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? 1 : -1);
  document.querySelectorAll("table.sortable").forEach((table) => {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...body.rows].filter((row) => row.cells.length === heads.length);
        rows.sort((a, b) => (down ? -1 : 1) * compared(worth(a.cells[column]), worth(b.cells[column])));
        body.prepend(...rows);
      });
    });
  });

  if (!main || !tray) return;
  const classes = JSON.parse(main.dataset.classes), store = `retrain marks ${main.dataset.run} ${location.pathname}`;
  let marks = new Map();
  try {
    marks = new Map(JSON.parse(localStorage.getItem(store) || "[]"));
  } catch (error) {} // a browser that keeps nothing for files
  const kinds = [["keep", "✓", "Keep"], ["relabel", "⇄", "Relabel"], ["remove", "✕", "Remove"]];
  const places = [...document.querySelectorAll(".marks")];
  // Names are in the page as JSON, which holds even those that cannot be shown.
  const others = (place) => classes.filter((name) => name !== JSON.parse(place.dataset.class));
  // In a cell, cell-TRUE-PREDICTED, it is the class that all its photos were taken for.
  const offered = (place) => {
    if (place.dataset.guess) return JSON.parse(place.dataset.guess);
    const cell = place.closest("[id^=cell-]"), taken = cell && classes[cell.id.split("-")[2]], names = others(place);
    return names.includes(taken) ? taken : names[0];
  };
  const show = (place) => {
    const mark = marks.get(JSON.parse(place.dataset.path));
    place.querySelectorAll("button").forEach((button) => {
      button.setAttribute("aria-pressed", String(!!mark && mark.mark === button.value));
    });
    let choice = place.querySelector("select");
    if (!mark || mark.mark !== "relabel") return choice && choice.remove();
    if (!choice) {
      choice = document.createElement("select");
      choice.setAttribute("aria-label", "The right class");
      choice.append(...others(place).map((name) => new Option(name, name)));
      place.append(choice);
    }
    choice.value = mark.class;
  };
  const refresh = () => {
    try {
      localStorage.setItem(store, JSON.stringify([...marks]));
    } catch (error) {}
    places.forEach(show);
    const lines = [{ retrain_marks: 1, image_dir: main.dataset.folder }, ...marks.values()];
    const file = new Blob([lines.map((line) => JSON.stringify(line) + "\n").join("")], { type: "application/jsonl" });
    const link = tray.querySelector("a");
    URL.revokeObjectURL(link.href);
    link.href = URL.createObjectURL(file);
    tray.hidden = !marks.size;
    tray.querySelector("p").textContent = marks.size === 1 ? "1 photo marked" : `${marks.size} photos marked`;
  };
  places.forEach((place) => {
    kinds.forEach(([value, sign, word]) => {
      const button = document.createElement("button"), label = document.createElement("span");
      Object.assign(button, { type: "button", value, title: word });
      button.setAttribute("aria-label", `${word}: ${JSON.parse(place.dataset.path)}`);
      label.className = "word";
      label.textContent = ` ${word}`;
      button.append(sign, label);
      place.append(button);
    });
  });
  const put = (place, mark, name) => {
    const path = JSON.parse(place.dataset.path);
    marks.set(path, mark === "relabel" ? { path, mark, class: name } : { path, mark });
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".marks button");
    if (!button) return;
    const place = button.closest(".marks"), path = JSON.parse(place.dataset.path);
    if (button.getAttribute("aria-pressed") === "true") marks.delete(path);
    else put(place, button.value, offered(place));
    refresh();
  });
  document.querySelectorAll(".take").forEach((button) => {
    button.addEventListener("click", () => {
      const proposed = button.closest("section").querySelectorAll(".marks[data-proposed]");
      proposed.forEach((place) => put(place, place.dataset.proposed, offered(place)));
      refresh();
    });
  });
  document.addEventListener("change", (event) => {
    if (!event.target.matches(".marks select")) return;
    put(event.target.closest(".marks"), "relabel", event.target.value);
    refresh();
  });
  tray.querySelector("button").addEventListener("click", () => (marks.clear(), refresh()));
  refresh();
})();

// Interaction of the report: a click on a cell of the confusion matrix shows its
// images, a click on a header of the table of classes sorts it. Without scripts the
// page is complete; these two are static tables.
"use strict";

const data = JSON.parse(document.getElementById("cells").textContent);
const matrix = document.getElementById("matrix");
const panel = document.getElementById("cell");
const heading = document.getElementById("cell-heading");
const note = document.getElementById("cell-note");
const list = document.getElementById("cell-images");
const pixels = document.head.appendChild(document.createElement("style"));
let chosen = null;

const counted = (count) => count.toLocaleString("en") + (count === 1 ? " image" : " images");

function cellOf(button) {
  const cell = button.parentElement;
  const label = cell.parentElement.sectionRowIndex;
  const prediction = cell.cellIndex - 1; // the first is the label
  return {label, prediction, count: data.matrix[label][prediction]};
}

function titleOf({label, prediction, count}) {
  const what = label === prediction
    ? `${data.names[label]} seen as what it is`
    : `${data.names[label]} seen as ${data.names[prediction]}`;
  return `${what}: ${counted(count)}`;
}

for (const cell of matrix.querySelectorAll("tbody td")) {
  if (cell.textContent.trim() === "0") continue;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = cell.textContent.trim();
  button.setAttribute("aria-expanded", "false");
  button.setAttribute("aria-controls", "cell");
  cell.replaceChildren(button);
  const title = titleOf(cellOf(button));
  button.setAttribute("aria-label", title);
  button.title = title;
}

function show(button) {
  const cell = cellOf(button);
  const row = data.rows[cell.label];
  const found = row.cells[cell.prediction] || {first: 0, images: [], percent: []};
  const shown = found.images.length;
  close();
  chosen = button;
  button.setAttribute("aria-expanded", "true");
  heading.textContent = titleOf(cell);
  const order = "The least certain first; below each, the probability of the prediction.";
  if (shown === cell.count) note.textContent = order;
  else if (shown) note.textContent = `The ${shown.toLocaleString("en")} least certain of them: ` +
    "for more there is no room in this page. Below each, the probability of the prediction.";
  else note.textContent = "There is no room for them in this page.";
  const width = 100 * (row.columns - 1) || 1;
  const height = 100 * (row.lines - 1) || 1;
  pixels.textContent = shown ? "#cell-images span { " +
    `background-image: url(${row.sheet}); ` +
    `background-size: ${100 * row.columns}% ${100 * row.lines}%; }` : "";
  list.replaceChildren(...found.images.map((index, position) => {
    const sprite = found.first + position;
    const image = document.createElement("span");
    const percent = found.percent[position].toFixed(1) + "\u00a0%";
    image.setAttribute("role", "img");
    image.setAttribute("aria-label", `Image ${index}: ${data.names[cell.label]} ` +
      `seen as ${data.names[cell.prediction]}, ${percent}`);
    image.title = image.getAttribute("aria-label");
    const x = sprite % row.columns, y = Math.floor(sprite / row.columns);
    image.style.backgroundPosition = `${10000 * x / width}% ${10000 * y / height}%`;
    const item = document.createElement("li");
    item.append(image, percent);
    return item;
  }));
  panel.hidden = false;
  list.scrollTop = 0;
  panel.scrollIntoView({block: "nearest"});
}

function close() {
  if (!chosen) return;
  chosen.setAttribute("aria-expanded", "false");
  chosen = null;
  panel.hidden = true;
  list.replaceChildren();
}

matrix.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button && button === chosen) close();
  else if (button) show(button);
});

// The arrow keys move from cell to cell, skipping those without images.
const steps = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]};
matrix.addEventListener("keydown", (event) => {
  const step = steps[event.key];
  if (!step || event.target.tagName !== "BUTTON") return;
  event.preventDefault();
  const body = matrix.tBodies[0];
  let row = event.target.parentElement.parentElement.sectionRowIndex;
  let column = event.target.parentElement.cellIndex;
  for (;;) {
    row += step[0];
    column += step[1];
    const cell = body.rows[row] && body.rows[row].cells[column];
    if (!cell || cell.tagName !== "TD") return;
    const button = cell.querySelector("button");
    if (button) return button.focus();
  }
});

document.getElementById("cell-close").addEventListener("click", () => {
  const button = chosen;
  close();
  button.focus();
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const tile = document.activeElement.closest(".tile");
  if (tile) tile.blur(); // hides its probabilities
  else if (chosen) {
    const button = chosen;
    close();
    button.focus();
  }
});

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const original = [...body.rows];
  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const column = head.cellIndex;
      // Names as they came, in the order of the labels; numbers by size.
      const value = (row) => column === 0
        ? original.indexOf(row) : Number(row.cells[column].textContent.replace(/,/g, ""));
      const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
      body.append(...[...body.rows].sort((a, b) => direction * (value(a) - value(b))));
    });
  }
}

for (const hint of document.querySelectorAll(".hint")) hint.hidden = false;

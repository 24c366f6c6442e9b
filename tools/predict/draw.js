// The page of tools.predict.draw: stores the drawing as strokes, sends it to the server when it
// changes, one request at a time and at most twenty a second, and shows the answer.
"use strict";

const SENDS_APART = 50; // milliseconds
const QUIET = 700; // milliseconds without a change after which the answer is read out
const CELLS = 28; // steps of the keyboard's pen across the sheet
const WIDTH = 0.075; // of a stroke, as a share of the sheet: about that of the digits of MNIST

const byId = (id) => document.getElementById(id);
const sheet = byId("sheet");
const canvas = byId("canvas");
const cursor = byId("cursor");
const rows = [...byId("classes").children];
const context = canvas.getContext("2d");

let strokes = []; // lists of points, each [x, y] in [0, 1]
let picture = null; // the chosen or dropped image as the browser decodes it, if it can
let file = null; // the same image as a file
let drawing = null; // the identifier of the pointer that draws
let pen = { x: 14, y: 14, down: false }; // of the keyboard, in cells
let changes = 0; // how often the sheet changed
let answered = 0; // the last change that was sent
let emptied = 0; // the last change that cleared the sheet: earlier answers are not shown
let asking = false;
let quiet = null;

function paint() {
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (picture) {
    const scale = Math.min(canvas.width / picture.width, canvas.height / picture.height);
    const [width, height] = [picture.width * scale, picture.height * scale];
    context.drawImage(picture, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
  }
  context.strokeStyle = getComputedStyle(canvas).color;
  context.lineWidth = WIDTH * canvas.width;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    context.beginPath();
    // Starts beside the first point, because a line of length zero is not drawn.
    context.moveTo(stroke[0][0] * canvas.width + 0.1, stroke[0][1] * canvas.height);
    for (const [x, y] of stroke) context.lineTo(x * canvas.width, y * canvas.height);
    context.stroke();
  }
}

function changed() {
  changes += 1;
  paint();
  byId("hint").hidden = strokes.length > 0 || file !== null;
  if (strokes.length || file) {
    ask();
  } else {
    emptied = changes;
    show(null);
  }
}

async function ask() {
  if (asking || answered === changes || !(strokes.length || file)) return;
  asking = true;
  const asked = (answered = changes);
  const since = performance.now();
  try {
    const body = file ?? (await new Promise((done) => canvas.toBlob(done)));
    const answer = body.size > sheet.dataset.most ? { error: "is too large" } : await predict(body);
    if (asked > emptied) show(answer);
  } catch {
    show({ error: "gets no answer: is the server running?" });
  }
  setTimeout(() => {
    asking = false;
    ask();
  }, Math.max(0, SENDS_APART - (performance.now() - since)));
}

async function predict(body) {
  const response = await fetch("/predict", { method: "POST", body });
  return response.json();
}

function show(answer) {
  const predicted = answer !== null && !answer.error;
  const shares = predicted ? answer.probabilities : rows.map(() => 0);
  const order = shares.map((_, row) => row).sort((a, b) => shares[b] - shares[a]);
  rows.forEach((row, at) => {
    row.classList.toggle("first", predicted && at === order[0]);
    row.querySelector(".bar").style.scale = `${shares[at]} 1`;
    row.querySelector(".percent").textContent = percent(shares[at]);
  });
  if ("sorted" in byId("classes").dataset) order.forEach((row, rank) => (rows[row].style.order = rank));

  const label = byId("label");
  label.textContent = predicted ? answer.label : "–";
  label.classList.toggle("empty", !predicted);
  label.classList.toggle("long", label.textContent.length > 3);
  byId("share").textContent = predicted ? percent(shares[order[0]]) : answer ? `This ${answer.error}` : "\u00a0";
  byId("seen").hidden = !predicted;
  byId("none").hidden = predicted;
  if (predicted) {
    byId("seen").src = answer.seen;
    byId("seen").alt = "The image as the model sees it, preprocessed like those that it was trained on";
  }
  // Only for a file: a drawing is as light or dark as the page.
  byId("inverted").textContent = predicted && file && answer.inverted ? ", inverted" : "";

  clearTimeout(quiet);
  if (answer) {
    quiet = setTimeout(() => say(predicted ? `${answer.label}, ${byId("share").textContent}` : byId("share").textContent), QUIET);
  }
}

const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;

function say(text) {
  byId("status").textContent = text;
}

// --- the pointer: mouse, finger or pen

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

function begin(point) {
  file = picture = null; // a drawing takes the place of an image
  strokes.push([point]);
}

canvas.addEventListener("pointerdown", (event) => {
  if (drawing !== null || event.button !== 0) return;
  drawing = event.pointerId;
  canvas.setPointerCapture(drawing);
  cursor.hidden = true;
  pen.down = false;
  begin(place(event));
  changed();
});

canvas.addEventListener("pointermove", (event) => {
  if (event.pointerId !== drawing) return;
  const events = event.getCoalescedEvents?.() ?? [];
  for (const each of events.length ? events : [event]) strokes.at(-1)?.push(place(each));
  changed();
});

for (const kind of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(kind, (event) => {
    if (event.pointerId === drawing) drawing = null;
  });
}

// --- the keyboard

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const point = () => [pen.x / CELLS, pen.y / CELLS];
  const arrow = ARROWS[event.key];
  if (arrow) {
    const steps = event.shiftKey ? 4 : 1;
    pen.x = Math.min(CELLS, Math.max(0, pen.x + steps * arrow[0]));
    pen.y = Math.min(CELLS, Math.max(0, pen.y + steps * arrow[1]));
    if (pen.down) {
      strokes.at(-1).push(point());
      changed();
    }
  } else if (event.key === " ") {
    pen.down = !pen.down;
    say(pen.down ? "Pen down" : "Pen up");
    if (pen.down) {
      begin(point());
      changed();
    }
  } else if (event.key === "Backspace") {
    undo();
  } else if (event.key === "Delete") {
    clear();
  } else {
    return;
  }
  event.preventDefault();
  showCursor();
});

function showCursor() {
  cursor.hidden = false;
  cursor.classList.toggle("down", pen.down);
  cursor.style.left = `${(100 * pen.x) / CELLS}%`;
  cursor.style.top = `${(100 * pen.y) / CELLS}%`;
}

canvas.addEventListener("focus", () => {
  if (canvas.matches(":focus-visible") && drawing === null) showCursor();
});
canvas.addEventListener("blur", () => {
  cursor.hidden = true;
  pen.down = false;
});

// --- undo, clear, files

function undo() {
  if (strokes.length) strokes.pop();
  else file = picture = null;
  pen.down = false;
  cursor.classList.remove("down");
  changed();
}

function clear() {
  strokes = [];
  file = picture = null;
  pen.down = false;
  cursor.classList.remove("down");
  changed();
  say("Cleared");
}

async function take(chosen) {
  if (!chosen) return;
  strokes = [];
  file = chosen;
  picture = null;
  changed();
  const decoded = await createImageBitmap(chosen).catch(() => null); // not of every format
  if (file === chosen) picture = decoded;
  paint();
}

byId("undo").addEventListener("click", undo);
byId("clear").addEventListener("click", clear);
byId("choose").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", (event) => {
  take(event.target.files[0]);
  event.target.value = ""; // so that the same file may be chosen again
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  sheet.classList.add("over");
});
document.addEventListener("dragleave", () => sheet.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  sheet.classList.remove("over");
  take(event.dataTransfer.files[0]);
});

// Ink follows the page when it turns dark or light.
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  if (strokes.length) changed();
});

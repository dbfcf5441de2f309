// Zoom a picture by the wheel, pan it by dragging, a double click shows it whole.
for (const svg of document.querySelectorAll("svg.zoomable")) {
  const whole = svg.viewBox.baseVal;
  const home = [whole.x, whole.y, whole.width, whole.height];
  let box = [...home];
  const show = () => {
    svg.setAttribute("viewBox", box.join(" "));
    svg.classList.toggle("zoomed", box[2] < home[2]);
    const zoom = home[2] / box[2];
    for (const mark of svg.querySelectorAll(".track, .id")) {
      const name = mark.tagName === "text" ? "font-size" : "r";
      mark.dataset.size ??= mark.getAttribute(name);
      mark.setAttribute(name, mark.dataset.size / Math.sqrt(zoom));
    }
  };
  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    const frame = svg.getBoundingClientRect();
    const factor = Math.exp(event.deltaY * 0.0015);
    const width = Math.min(box[2] * factor, home[2]);
    const scale = width / box[2];
    const [x, y] = [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height];
    box = [box[0] + x * box[2] * (1 - scale), box[1] + y * box[3] * (1 - scale), width, box[3] * scale];
    if (width >= home[2]) box = [...home];
    show();
  }, { passive: false });
  svg.addEventListener("pointermove", (event) => {
    if (!event.buttons || box[2] >= home[2]) return;
    const frame = svg.getBoundingClientRect();
    box[0] -= (event.movementX / frame.width) * box[2];
    box[1] -= (event.movementY / frame.height) * box[3];
    show();
  });
  svg.addEventListener("dblclick", () => {
    box = [...home];
    show();
  });
}

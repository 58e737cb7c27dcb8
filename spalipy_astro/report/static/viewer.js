"use strict";
// Each viewer shows one image, the template, left of the divider and the other, the source, right of
// it; or both in turns; or their difference.
for (const viewer of document.querySelectorAll(".viewer")) {
  const stage = viewer.querySelector(".stage");
  const slider = viewer.querySelector("input");
  const blink = viewer.querySelector("button.blink");
  const difference = viewer.querySelector("button.difference");
  const shown = viewer.querySelector("output");
  const names = {
    template: viewer.dataset.left,
    source: viewer.dataset.right,
    difference: "Difference",
  };
  let timer = null;

  const show = (what) => {
    if (what) {
      stage.dataset.shown = what;
    } else {
      delete stage.dataset.shown;
    }
    shown.textContent = what ? names[what] : "";
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    blink.setAttribute("aria-pressed", "false");
    difference.setAttribute("aria-pressed", "false");
    show(null);
  };
  const split = () => {
    stop();
    stage.style.setProperty("--split", slider.value + "%");
    slider.setAttribute("aria-valuetext", slider.value + " % " + names.template.toLowerCase());
  };
  const point = (event) => {
    const box = stage.getBoundingClientRect();
    slider.value = (100 * (event.clientX - box.left)) / box.width;
    split();
  };

  slider.addEventListener("input", split);
  stage.addEventListener("pointerdown", (event) => {
    if (event.isPrimary && event.button === 0) {
      stage.setPointerCapture(event.pointerId);
      point(event);
    }
  });
  stage.addEventListener("pointermove", (event) => {
    if (stage.hasPointerCapture(event.pointerId)) {
      point(event);
    }
  });
  blink.addEventListener("click", () => {
    const start = timer === null;
    stop();
    if (start) {
      blink.setAttribute("aria-pressed", "true");
      show("template");
      timer = setInterval(() => show(stage.dataset.shown === "template" ? "source" : "template"), 600);
    }
  });
  difference.addEventListener("click", () => {
    const start = stage.dataset.shown !== "difference";
    stop();
    if (start) {
      difference.setAttribute("aria-pressed", "true");
      show("difference");
    }
  });
  // A reload keeps where the slider was.
  split();
}

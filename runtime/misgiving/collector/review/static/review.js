// Keys press what carries them: data-key on a link or a button. Without script, all of it works.
"use strict";

function typing(target) {
  return target.matches("input, select, textarea");
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || typing(event.target)) return;
  const pressed = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (!pressed) return;
  event.preventDefault();
  pressed.click();
});

for (const link of document.querySelectorAll("[data-swaps]")) {
  link.addEventListener("click", (event) => {
    const picture = document.getElementById(link.dataset.swaps);
    event.preventDefault();
    [picture.src, picture.dataset.other] = [picture.dataset.other, picture.getAttribute("src")];
    link.textContent = picture.src.includes("plain=") ? "With drawing" : "Without drawing";
  });
}

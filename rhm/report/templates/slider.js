// Lays the two views of a tile over each other, with a slider between them. Without scripts, and
// on paper, they stay side by side.
"use strict";
(() => {
  const choice = document.getElementById("slide");
  const pairs = [...document.querySelectorAll(".pair.two")];
  if (!pairs.length) return;
  document.getElementById("slide-choice").hidden = false;
  for (const pair of pairs) {
    const [first, second] = [...pair.querySelectorAll(".view b")].map((name) => name.textContent);
    const slider = document.createElement("input");
    slider.type = "range";
    slider.value = "50";
    slider.setAttribute("aria-label", `${first} to the left, ${second} to the right`);
    slider.addEventListener("input", () => pair.style.setProperty("--split", `${slider.value}%`));
    pair.append(slider);
  }
  const lay = () => pairs.forEach((pair) => pair.classList.toggle("sliding", choice.checked));
  choice.addEventListener("change", lay);
  lay();
})();

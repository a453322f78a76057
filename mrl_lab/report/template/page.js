// The switch that unfolds all code. Without script it stays hidden, and each cell can still be opened.
(() => {
  const label = document.querySelector(".switch");
  label.hidden = false;
  label.querySelector("input").addEventListener("change", (event) => {
    for (const cell of document.querySelectorAll("details.code")) cell.open = event.target.checked;
  });
})();

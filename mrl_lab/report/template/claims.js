// The ledger sorts by a click on a heading and filters as one types. Without script it is a plain table.
(() => {
  const form = document.querySelector(".filters");
  const body = document.querySelector("tbody");
  const rows = [...body.rows];
  form.hidden = false;

  const filter = () => {
    const words = form.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden =
        !words.every((word) => text.includes(word)) ||
        (form.notebook.value && row.dataset.notebook !== form.notebook.value) ||
        (form.verdict.value && row.dataset.verdict !== form.verdict.value) ||
        (form.headline.checked && row.dataset.headline !== "1");
    }
    form.querySelector("output").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();

  const value = (row, column) => {
    const { number } = row.cells[column].dataset;
    return number === undefined ? row.cells[column].textContent.trim() : Number.isNaN(+number) ? -Infinity : +number;
  };
  document.querySelectorAll("th").forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.ariaSort === "ascending" ? -1 : 1;
      for (const other of document.querySelectorAll("th")) other.ariaSort = "none";
      head.ariaSort = down === 1 ? "ascending" : "descending";
      const order = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
      body.append(...rows.toSorted((a, b) => down * order(value(a, column), value(b, column))));
    });
  });
})();

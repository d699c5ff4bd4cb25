// The table of trials: sorting by a click on a heading, selecting by a click on a row.
function tableSection() {
  const table = element("trial-table");
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.firstElementChild.addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") === "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.v;
      // Cells without a figure stay at the end, whichever way the others go.
      const rows = [...body.rows].sort((a, b) => {
        const [one, two] = [key(a), key(b)];
        if (one === "" || two === "") return (one === "") - (two === "");
        const numeric = heading.classList.contains("n") ? Number(one) - Number(two) : one.localeCompare(two, "en", { numeric: true });
        return descending ? -numeric : numeric;
      });
      body.append(...rows);
    });
  });
  for (const row of body.rows) {
    const choose = () => {
      select(Number(row.dataset.trial));
      element("front")?.scrollIntoView({ behavior: "smooth" });
    };
    row.tabIndex = 0;
    row.addEventListener("click", choose);
    row.addEventListener("keydown", (event) => {
      if (event.key === "Enter") choose();
    });
  }
  listeners.push((trial) => {
    for (const row of body.rows) row.classList.toggle("selected", Number(row.dataset.trial) === trial.id);
  });
}

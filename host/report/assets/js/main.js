// Draws everything once, and again when the system changes between light and dark.
frontSection();
comparisonSection();
parallelSection();
convergenceSection();
importanceSection();
tableSection();
select(data.recommended ?? data.baseline);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((draw) => draw()));

// Draws everything once (a study that has measured nothing has only its tables), and again when the system changes between light and dark.
tableSection();
if (data.metrics.length) {
  frontSection();
  comparisonSection();
  parallelSection();
  convergenceSection();
  importanceSection();
  trainingSection();
  select(data.recommended ?? data.baseline);
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((draw) => draw()));

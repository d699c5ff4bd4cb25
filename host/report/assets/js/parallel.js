// Parallel coordinates: from each configuration's settings to its figures.
function parallelSection() {
  // A technique that has no parameters is on or off; a parameter that does not exist in a trial stands at the bottom.
  const setting = (found, values) => {
    if (values) return found?.text ?? found ?? values[0];
    return found?.number ?? "-";
  };
  const measured = data.trials.filter((trial) => trial.screening);
  const outcomes = data.metrics.filter((m) => data.shown_metrics.includes(m.key) && measured.some((trial) => m.key in trial.screening));
  const dimensions = [
    ...data.parameters.map((p) => ({ label: p.label, values: p.values, of: (trial) => setting(trial.settings[p.key], p.values) })),
    ...outcomes.map((m) => ({ label: axisName(m), values: null, best: m.direction, of: (trial) => valueOf(trial, m.key, "screening") ?? "-" })),
  ];
  element("parallel-chart").style.minWidth = `${dimensions.length * 92}px`;
  const order = ["infeasible", "dominated", "front", "baseline", "recommended"];
  const lines = [...measured].sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind));

  const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
  const wrap = (label) => {
    const rows = [""];
    for (const word of label.split(/(?<=[ .-])/)) {
      if (rows.at(-1) && (rows.at(-1) + word.trimEnd()).length > 13) rows.push(word);
      else rows[rows.length - 1] += word;
    }
    return rows.map((row) => short(row.trimEnd(), 14)).join("\n");
  };

  const view = chart("parallel-chart", (t) => {
    if (!lines.length) return null;
    return {
      parallel: {
        left: 46, right: 56, top: 78, bottom: 22,
        parallelAxisDefault: {
          nameLocation: "end", nameGap: 14, nameTextStyle: { color: t.ink, fontSize: 12, lineHeight: 15 },
          axisLine: { lineStyle: { color: t.soft } }, axisTick: { show: false },
          axisLabel: { color: t.soft, fontSize: 11.5, textBorderColor: t.paper, textBorderWidth: 3 },
          areaSelectStyle: { width: 18, color: t.front, borderColor: t.front, opacity: 0.25 },
        },
      },
      parallelAxis: dimensions.map((d, dim) => ({
        dim, name: wrap(d.label),
        ...(d.values
          ? { type: "category", data: d.values, axisLabel: { formatter: (text) => short(text, 10) } }
          : { type: "value", scale: true, inverse: d.best === "minimize", nameLocation: d.best === "minimize" ? "start" : "end", axisLabel: { formatter: tick } }),
      })),
      tooltip: {
        formatter: (p) => (p.data?.trial === undefined ? "" : tip(trials.get(p.data.trial), outcomes.map((m) => m.key), "screening")),
      },
      series: [{
        type: "parallel", smooth: 0.12, inactiveOpacity: 0.04, activeOpacity: 1, progressive: 0,
        data: lines.map((trial) => ({
          trial: trial.id, value: dimensions.map((d) => d.of(trial)),
          lineStyle: {
            color: t[trial.kind], width: trial.id === selected ? 4.5 : trial.kind === "recommended" ? 3.5 : trial.kind === "baseline" || trial.kind === "front" ? 2 : 1,
            opacity: trial.kind === "infeasible" || trial.kind === "dominated" ? 0.55 : 0.95,
            type: trial.kind === "baseline" ? "dashed" : "solid",
          },
        })),
      }],
    };
  });
  view.instance.on("click", (event) => select(event.data?.trial));
  listeners.push(view.draw);
}

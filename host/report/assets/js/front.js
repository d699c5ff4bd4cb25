// The front: any two metrics against each other, and the trial that was clicked.
function frontSection() {
  const [x, y, kind] = [element("axis-x"), element("axis-y"), element("figures")];
  const entries = data.metrics.map((metric) => [metric.key, axisName(metric)]);
  options(x, entries, data.x);
  options(y, entries, data.y);
  const confirmed = data.trials.some((trial) => trial.confirmed);
  element("figures-label").hidden = !confirmed;
  if (!confirmed) element("figures-label").style.display = "none";

  /** Corners of the step line below which nothing feasible was found, for this pair of metrics alone. */
  function steps(points, mx, my) {
    const [sx, sy] = [mx, my].map((m) => (m.direction === "maximize" ? -1 : 1));
    const sorted = points.filter((p) => p.feasible).sort((a, b) => sx * (a.x - b.x) || sy * (a.y - b.y));
    const corners = [];
    let best = Infinity;
    for (const p of sorted) {
      if (sy * p.y >= best) continue;
      if (corners.length) corners.push([p.x, corners.at(-1)[1]]);
      corners.push([p.x, p.y]);
      best = sy * p.y;
    }
    return corners;
  }

  const view = chart("front-chart", (t) => {
    const [mx, my] = [byKey.get(x.value), byKey.get(y.value)];
    const points = [];
    for (const trial of data.trials) {
      const [px, py] = [valueOf(trial, mx.key, kind.value), valueOf(trial, my.key, kind.value)];
      if (px === null || py === null) continue;
      points.push({ x: px, y: py, trial, feasible: trial.feasible });
    }
    const series = Object.entries(KINDS).map(([key, look]) => ({
      name: look.name, type: "scatter", symbol: look.symbol, symbolSize: look.size, z: key === "recommended" ? 5 : 3,
      itemStyle: look.hollow
        ? { color: "transparent", opacity: 1, borderColor: t[key], borderWidth: 1.5 }
        : { color: t[key], opacity: 1, borderColor: t.paper, borderWidth: 1 },
      data: points.filter((p) => p.trial.kind === key).map((p) => ({ value: [p.x, p.y], trial: p.trial.id })),
    }));
    series.unshift({
      name: "front of this pair", type: "line", data: steps(points, mx, my), showSymbol: false, silent: true, z: 1,
      lineStyle: { color: t.front, width: 1.5, opacity: 0.55 }, itemStyle: { color: t.front },
    });
    const chosen = points.find((p) => p.trial.id === selected);
    if (chosen) {
      series.push({
        name: "selected", type: "scatter", symbol: "circle", symbolSize: 24, silent: true, z: 2,
        itemStyle: { color: "transparent", borderColor: t.ink, borderWidth: 1.5 }, data: [[chosen.x, chosen.y]],
      });
    }
    return {
      grid: { left: 64, right: 20, top: 44, bottom: 52 },
      legend: {
        top: 0, left: 0, type: "scroll", itemHeight: 10, itemWidth: 14, textStyle: { color: t.soft },
        data: series.filter((s) => s.data.length && s.name !== "selected").map((s) => s.name),
      },
      toolbox: {
        right: 0, bottom: 0, iconStyle: { borderColor: t.soft },
        feature: { saveAsImage: { name: "front", title: "Save as SVG", backgroundColor: t.paper } },
      },
      tooltip: {
        formatter: (p) => tip(trials.get(p.data.trial), [mx.key, my.key], kind.value),
      },
      xAxis: valueAxis(t, axisName(mx)),
      yAxis: valueAxis(t, axisName(my), { nameGap: 44 }),
      series,
    };
  });
  for (const control of [x, y, kind]) control.addEventListener("change", view.draw);
  view.instance.on("click", (event) => select(event.data?.trial));
  listeners.push((trial) => {
    view.draw();
    show(trial);
  });
}

/** The trial in full. */
function show(trial) {
  const box = element("trial");
  box.replaceChildren(make("h3", trial.title), make("p", trial.tags.join(" · "), "tags"));
  for (const { technique, settings } of trial.choices) {
    const chip = make("span", null, "chip");
    chip.append(make("b", technique));
    for (const [name, value] of settings) chip.append(make("span", `${name} ${value}`));
    box.append(chip);
  }
  if (!trial.choices.length) box.append(make("span", "no technique: the baseline", "chip"));
  if (trial.message) box.append(make("p", trial.message, "broken"));
  for (const broken of trial.broken) box.append(make("p", broken, "broken"));
  const confirmed = trial.confirmed_in === null ? "" : `Confirmed in trial ${trial.confirmed_in}`;
  for (const [kind, heading] of [["confirmed", confirmed], ["screening", "Screening"]]) {
    const found = figures(trial, kind);
    if (!found) continue;
    const list = make("dl");
    for (const metric of data.metrics) {
      if (!found[metric.key]) continue;
      const value = make("dd", shown(metric.key, found[metric.key]));
      const formula = trial.estimated[metric.key];
      if (formula) value.append(make("div", `estimated: ${formula}`));
      list.append(make("dt", metric.label), value);
    }
    if (kind === "screening" && trial.confirmed) {
      const folded = make("details");
      folded.append(make("summary", heading), list);
      box.append(folded);
    } else {
      box.append(make("h3", heading), list);
    }
  }
  for (const [metric, reason] of trial.unavailable) box.append(make("p", `${metric} is unavailable: ${reason}`, "why"));
  if (trial.why) box.append(make("p", `Why it was tried: ${trial.why}`, "why"));
}

// Baseline against recommended, progress of the search, and importance.
function comparisonSection() {
  const [baseline, recommended] = [trials.get(data.baseline), trials.get(data.recommended)];
  const about = element("comparison-about");
  if (!baseline || !recommended || baseline === recommended) {
    about.textContent = "Nothing was found that is better than the baseline, so there is nothing to compare.";
    element("comparison-chart").style.display = "none";
    return;
  }
  const kind = baseline.confirmed && recommended.confirmed ? "confirmed" : "screening";
  const rows = data.metrics
    .filter((m) => data.compared_metrics.includes(m.key))
    .map((m) => ({ metric: m, from: valueOf(baseline, m.key, kind), to: valueOf(recommended, m.key, kind) }))
    .filter((row) => row.from > 0 && row.to !== null)
    .reverse();
  about.textContent = `The baseline is 100 %; bars show the recommended configuration, trial ${recommended.id} (${kind} figures). Teal is better than the baseline or equal to it, brown is worse.`;
  element("comparison-chart").style.height = `${80 + rows.length * 46}px`;
  const better = ({ metric, from, to }) => (metric.direction === "maximize" ? to >= from : to <= from);
  chart("comparison-chart", (t) => {
    const { yAxis, series } = bars(t, rows.map((row) => ({
      name: row.metric.label, value: (100 * row.to) / row.from, color: better(row) ? t.accent : t.infeasible,
      figure: `${number(row.to)} instead of ${number(row.from)} ${row.metric.unit}`,
    })));
    series.markLine = {
      silent: true, symbol: "none", lineStyle: { color: t.baseline, type: "solid", width: 1.5 },
      label: { formatter: "baseline", color: t.soft, position: "end" }, data: [{ xAxis: 100 }],
    };
    return {
      grid: { left: 4, right: 28, top: 26, bottom: 48 },
      xAxis: valueAxis(t, "percent of the baseline", { scale: false, min: 0, max: (range) => Math.max(110, range.max), nameGap: 28, axisLabel: { color: t.soft, showMaxLabel: false, formatter: tick } }),
      yAxis, series,
      tooltip: {
        formatter: (p) => {
          const { metric } = rows[p.dataIndex];
          const box = make("div");
          box.append(make("b", metric.label), make("div", `${number(p.value)} % of the baseline`),
            make("div", metric.direction === "maximize" ? "more is better" : "less is better"));
          return box;
        },
      },
    };
  });
}

function convergenceSection() {
  const last = Math.max(1, ...data.hypervolume.map(([trial]) => trial));
  chart("convergence-chart", (t) =>
    data.hypervolume.length
      ? {
          grid: { left: 60, right: 16, top: 14, bottom: 48 },
          xAxis: valueAxis(t, "trial", { min: 0, max: last, minInterval: 1, scale: false, splitLine: { show: false }, nameGap: 28 }),
          yAxis: valueAxis(t, "share dominated", { scale: false, min: 0, max: 1, nameGap: 42 }),
          tooltip: {
            trigger: "axis", formatter: ([p]) => make("div", `after trial ${p.value[0]}: ${number(p.value[1])}`),
          },
          series: [{
            type: "line", step: "end", data: data.hypervolume, showSymbol: false, lineStyle: { color: t.front, width: 2 },
            itemStyle: { color: t.front }, areaStyle: { color: t.front, opacity: 0.1 },
          }],
        }
      : null,
  );
}

function trainingSection() {
  if (!data.training.length) return;
  chart("training-chart", (t) => {
    const name = (curve) => `trial ${curve.trials}`;
    const lines = data.training.map((curve) => ({
      name: name(curve), type: "line", data: curve.points, showSymbol: false, lineStyle: { width: 1.5 },
    }));
    const dots = data.training.map((curve) => ({
      name: name(curve), type: "scatter", data: curve.held_out, symbolSize: 8, itemStyle: { borderColor: t.card, borderWidth: 1 },
    }));
    return {
      grid: { left: 60, right: 16, top: 40, bottom: 48 },
      legend: { type: "scroll", top: 0, textStyle: { color: t.ink } },
      xAxis: valueAxis(t, "update", { min: 0, boundaryGap: false, minInterval: 1, splitLine: { show: false }, nameGap: 28 }),
      yAxis: valueAxis(t, "nats a token", { nameGap: 42 }),
      tooltip: {
        trigger: "item", formatter: (p) => make("div", `${p.seriesName}, update ${p.value[0]}: ${number(p.value[1])}`),
      },
      series: [...lines, ...dots],
    };
  });
}

function importanceSection() {
  const choice = element("importance-metric");
  const label = element("importance-label");
  if (!data.importance.length) {
    label.style.display = "none";
    element("importance-chart").style.display = "none";
    element("importance-quality").textContent = "Fewer than 8 trials were measured: too few to tell.";
    return;
  }
  options(choice, data.importance.map((entry, i) => [String(i), entry.label]), "0");
  if (data.importance.length < 2) label.style.display = "none";
  const view = chart("importance-chart", (t) => {
    const entry = data.importance[Number(choice.value)];
    const shares = entry.shares.filter(([, share]) => share >= 0.01).sort((a, b) => a[1] - b[1]);
    const doubt = entry.explained < 0.2 ? ", too little for this order to mean much" : "";
    element("importance-quality").textContent =
      `The forest explains ${Math.max(0, 100 * entry.explained).toFixed(0)} % of the differences between trials that it has not seen${doubt}. Shares under 1 % are left out.`;
    element("importance-chart").style.height = `${16 + shares.length * 42}px`;
    const { yAxis, series } = bars(t, shares.map(([name, share]) => (
      { name, value: share, color: t.accent, figure: `${(100 * share).toFixed(0)} %` })));
    return {
      grid: { left: 4, right: 8, top: 14, bottom: 0 },
      xAxis: { type: "value", show: false, min: 0 },
      yAxis, series,
      tooltip: { formatter: (p) => make("div", `${shares[p.dataIndex][0]}: ${number(100 * p.value)} %`) },
    };
  });
  choice.addEventListener("change", () => {
    view.draw();
    view.instance.resize();
  });
}

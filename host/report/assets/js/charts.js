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
  about.textContent = `The baseline is 100 %; bars show the recommended configuration, trial ${recommended.id} (${kind} figures).`;
  element("comparison-chart").style.height = `${70 + rows.length * 44}px`;
  const arrow = (m) => (m.direction === "maximize" ? "more is better" : "less is better");
  chart("comparison-chart", (t) => ({
    grid: { left: 8, right: 24, top: 10, bottom: 40, containLabel: true },
    xAxis: valueAxis(t, "share of the baseline (%)", { scale: false, min: 0, nameGap: 28 }),
    yAxis: {
      type: "category", data: rows.map((r) => r.metric.label), axisTick: { show: false }, axisLine: { lineStyle: { color: t.line } },
      axisLabel: { color: t.ink, fontSize: 12.5, width: Math.min(220, window.innerWidth * 0.34), overflow: "break" },
    },
    tooltip: {
      confine: true, backgroundColor: t.card, borderColor: t.line, textStyle: { color: t.ink, fontSize: 13 },
      formatter: (p) => {
        const { metric, from, to } = rows[p.dataIndex];
        const box = make("div");
        box.append(make("b", metric.label), make("div", `baseline ${number(from)} ${metric.unit}`),
          make("div", `recommended ${number(to)} ${metric.unit}`), make("div", arrow(metric)));
        return box;
      },
    },
    series: [{
      type: "bar", barWidth: 20, data: rows.map((r) => (100 * r.to) / r.from),
      itemStyle: { color: t.recommended, borderRadius: [0, 3, 3, 0] },
      label: {
        show: true, position: "insideLeft", color: t.paper, fontSize: 12, fontWeight: 600,
        formatter: (p) => `${number(rows[p.dataIndex].to)} of ${number(rows[p.dataIndex].from)} ${rows[p.dataIndex].metric.unit}`,
      },
      markLine: {
        silent: true, symbol: "none", lineStyle: { color: t.baseline, type: "solid", width: 1.5 },
        label: { show: false }, data: [{ xAxis: 100 }],
      },
    }],
  }));
}

function convergenceSection() {
  const last = Math.max(1, ...data.hypervolume.map(([trial]) => trial));
  chart("convergence-chart", (t) =>
    data.hypervolume.length
      ? {
          grid: { left: 60, right: 16, top: 14, bottom: 48 },
          xAxis: valueAxis(t, "trial", { min: 0, max: last, minInterval: 1, scale: false, splitLine: { show: false }, nameGap: 28 }),
          yAxis: valueAxis(t, "hypervolume", { scale: false, nameGap: 42 }),
          tooltip: {
            trigger: "axis", confine: true, backgroundColor: t.card, borderColor: t.line, textStyle: { color: t.ink, fontSize: 13 },
            formatter: ([p]) => make("div", `after trial ${p.value[0]}: ${number(p.value[1])}`),
          },
          series: [{
            type: "line", step: "end", data: data.hypervolume, showSymbol: false, lineStyle: { color: t.front, width: 2 },
            itemStyle: { color: t.front }, areaStyle: { color: t.front, opacity: 0.1 },
          }],
        }
      : null,
  );
}

function importanceSection() {
  const choice = element("importance-metric");
  const label = element("importance-label");
  if (!data.importance.length) {
    label.style.display = "none";
    element("importance-chart").style.display = "none";
    return;
  }
  options(choice, data.importance.map((entry, i) => [String(i), entry.label]), "0");
  if (data.importance.length < 2) label.style.display = "none";
  const view = chart("importance-chart", (t) => {
    const shares = [...data.importance[Number(choice.value)].shares].sort((a, b) => a[1] - b[1]);
    element("importance-chart").style.height = `${Math.max(140, 60 + shares.length * 30)}px`;
    return {
      grid: { left: 8, right: 48, top: 4, bottom: 8, containLabel: true },
      xAxis: { type: "value", show: false, min: 0 },
      yAxis: {
        type: "category", data: shares.map(([name]) => name), axisTick: { show: false }, axisLine: { show: false },
        axisLabel: { color: t.ink, fontSize: 12.5, width: Math.min(230, window.innerWidth * 0.5), overflow: "break" },
      },
      tooltip: {
        confine: true, backgroundColor: t.card, borderColor: t.line, textStyle: { color: t.ink, fontSize: 13 },
        formatter: (p) => make("div", `${shares[p.dataIndex][0]}: ${number(100 * p.value)} %`),
      },
      series: [{
        type: "bar", barWidth: 14, data: shares.map(([, share]) => share), itemStyle: { color: t.accent, borderRadius: [0, 3, 3, 0] },
        label: { show: true, position: "right", color: t.soft, formatter: (p) => `${(100 * p.value).toFixed(0)} %` },
      }],
    };
  });
  choice.addEventListener("change", () => {
    view.draw();
    view.instance.resize();
  });
}

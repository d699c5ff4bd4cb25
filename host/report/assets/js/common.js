// What all charts share: the data, number formats, small DOM helpers, colours of the theme, and the selected trial.
const data = JSON.parse(document.getElementById("data").textContent);
const byKey = new Map(data.metrics.map((metric) => [metric.key, metric]));
const trials = new Map(data.trials.map((trial) => [trial.id, trial]));
const element = (id) => document.getElementById(id);

/** Makes an element with text; text is never read as HTML. */
function make(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** The same digits as the tables: three or four significant ones, whole numbers from 1000. */
function number(value) {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  return Math.abs(value) < 0.001 ? value.toExponential(2) : value.toFixed(decimals(value));
}

function decimals(value) {
  const size = Math.abs(value);
  return size >= 1000 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
}

const figures = (trial, kind) => (kind === "confirmed" ? trial.confirmed : trial.screening) ?? null;
const valueOf = (trial, key, kind) => figures(trial, kind)?.[key]?.[0] ?? null;
const axisName = (metric) => metric.label + (metric.unit ? ` (${metric.unit})` : "");

/** A figure with its standard error and unit. */
function shown(key, figure) {
  const unit = byKey.get(key).unit;
  const error = figure[1] > 0 ? ` ± ${figure[1].toFixed(decimals(figure[0]))}` : "";
  return number(figure[0]) + error + (unit ? ` ${unit}` : "");
}

const STAR = "M12 2l3.1 6.3 6.9 1-5 4.9 1.2 6.8-6.2-3.2-6.2 3.2 1.2-6.8-5-4.9 6.9-1z";
const KINDS = {
  infeasible: { name: "breaks a constraint", symbol: "triangle", size: 9, hollow: true },
  dominated: { name: "beaten by another", symbol: "circle", size: 8 },
  front: { name: "on the front", symbol: "circle", size: 12 },
  baseline: { name: "baseline", symbol: "diamond", size: 16 },
  recommended: { name: "recommended", symbol: `path://${STAR}`, size: 22 },
};

function theme() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  return Object.fromEntries(
    ["paper", "card", "ink", "soft", "line", "accent", "front", "recommended", "baseline", "dominated", "infeasible"].map(
      (name) => [name, colour(name)],
    ),
  );
}

const charts = [];

/** Draws a chart now, and again when the colours, the width or the choices change. */
function chart(id, option) {
  const host = element(id);
  const instance = echarts.init(host, null, { renderer: "svg" });
  const draw = () => {
    const t = theme();
    const made = option(t);
    host.style.display = made ? "" : "none";
    if (!made) return;
    instance.setOption(
      {
        animation: false,
        aria: { enabled: true },
        // Text is measured on a canvas, which knows no inheritance.
        textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: t.ink },
        ...made,
        tooltip: {
          confine: true, backgroundColor: t.card, borderColor: t.line, padding: [8, 12],
          textStyle: { color: t.ink, fontSize: 13 }, ...made.tooltip,
        },
      },
      true,
    );
  };
  draw();
  new ResizeObserver(() => {
    instance.resize();
    draw();
  }).observe(host);
  charts.push(draw);
  return { instance, draw };
}

const tick = (value) => (Math.abs(value) >= 1e4 ? value.toLocaleString("en") : String(+value.toPrecision(6)));

/** Horizontal bars, each with its name and its figure above it, so that they fit every width. */
function bars(t, rows) {
  const plain = (text) => text.replace(/[{}|]/g, " ");
  return {
    yAxis: { type: "category", data: rows.map((row) => row.name), show: false },
    series: {
      type: "bar", barWidth: 12, itemStyle: { borderRadius: [0, 3, 3, 0] },
      data: rows.map((row) => ({ value: row.value, itemStyle: { color: row.color } })),
      label: {
        show: true, position: [0, -18], align: "left", formatter: (p) => `{name|${plain(rows[p.dataIndex].name)}}  {figure|${plain(rows[p.dataIndex].figure)}}`,
        rich: { name: { color: t.ink, fontSize: 13 }, figure: { color: t.soft, fontSize: 13 } },
      },
    },
  };
}

function valueAxis(t, name, more) {
  return {
    type: "value", name, scale: true, boundaryGap: ["4%", "4%"], nameLocation: "middle", nameGap: 32, nameTextStyle: { color: t.soft, fontSize: 12.5 },
    axisLine: { show: true, lineStyle: { color: t.line } }, axisTick: { show: false },
    axisLabel: { color: t.soft, hideOverlap: true, formatter: tick },
    splitLine: { lineStyle: { color: t.line, opacity: 0.6 } },
    ...more,
  };
}

/** What stands in a tooltip: a heading, the configuration, and figures. */
function tip(trial, keys, kind) {
  const box = make("div", null, "tip");
  box.append(make("b", trial.title), make("div", trial.configuration));
  for (const key of keys) {
    const figure = figures(trial, kind)?.[key];
    if (figure) box.append(make("div", `${byKey.get(key).label}: ${shown(key, figure)}`));
  }
  return box;
}

const listeners = [];
let selected = null;

/** Selects a trial everywhere. */
function select(id) {
  if (!trials.has(id)) return;
  selected = id;
  for (const listener of listeners) listener(trials.get(id));
}

function options(selectElement, entries, chosen) {
  for (const [value, text] of entries) {
    const option = make("option", text);
    option.value = value;
    option.selected = value === chosen;
    selectElement.append(option);
  }
}

// Tells the page which configuration a clicked mark is, and fades the marks of all methods but the one that the
// pointer is on, in all charts. A trace's `meta` says whose its marks are (see `whose` in bench/figures/parts).

const FADED = 0.15;
const heard = new WeakSet();
let tell = () => {};

const charts = () => document.querySelectorAll(".js-plotly-plot");

// A value that holds for all marks of a trace, or that of one mark; a cell of a map is its row's.
function at(value, place) {
  return Array.isArray(value) ? value[Array.isArray(place) ? place[0] : place] : value;
}

function highlight(method) {
  for (const trace of document.querySelectorAll(".js-plotly-plot .scatterlayer .trace")) {
    const meta = trace.__data__?.[0]?.trace?.meta;
    if (!meta?.method) continue;
    const whole = !Array.isArray(meta.method);
    const opacity = (own) => (method && own !== method ? FADED : "");
    if (whole) trace.style.opacity = opacity(meta.method);
    else
      for (const mark of trace.querySelectorAll(".point, .errorbar"))
        mark.style.opacity = opacity(at(meta.method, mark.__data__?.i));
  }
}

function listen(chart) {
  heard.add(chart.on);
  const whose = ({ points: [mark] }, key) => at(mark.data.meta?.[key], mark.pointNumber);
  const point = (cursor) => chart.querySelectorAll(".nsewdrag").forEach((area) => (area.style.cursor = cursor));
  chart.on("plotly_click", (event) => {
    const configuration = whose(event, "config_id");
    if (configuration) tell(configuration);
  });
  chart.on("plotly_hover", (event) => {
    point(whose(event, "config_id") ? "pointer" : "");
    highlight(whose(event, "method"));
  });
  chart.on("plotly_unhover", () => {
    point("");
    highlight();
  });
}

// Plotly gives a chart another `on` when it is drawn anew without its listeners.
function attend() {
  for (const chart of charts()) if (chart.on && !heard.has(chart.on)) listen(chart);
}

new MutationObserver(attend).observe(document.body, { childList: true, subtree: true });

export default function ({ setTriggerValue }) {
  tell = (configuration) => setTriggerValue("configuration", configuration);
  attend();
}

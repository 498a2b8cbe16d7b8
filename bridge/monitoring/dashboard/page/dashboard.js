// The dashboard. It shows what the server sends, and says so when nothing comes any more.
//
// Events of /dashboard/events: all_prices, prices, health, all_samples, sample, gaps, symbol, end.
// /dashboard/history has the prices of the last ten minutes by symbol. Times are in microseconds.
// All texts from outside are set as text, never as HTML.

const SILENCE_MS = 3000; // the server sends five times a second
const RETRY_MS = 2000;
const HISTORY = 60; // points, one every ten seconds
const SVG = "http://www.w3.org/2000/svg";
const WIDE = matchMedia("(min-width: 75rem)");

const find = (id) => document.getElementById(id);
const state = {
  rows: new Map(), // symbol -> its row of the table
  feeds: {}, // symbol -> its state, if it is not live
  samples: [],
  symbol: null, // that of the symbol's page
};
let source = null;
let lastHeard = performance.now();
let connectedAt = 0;
let isOver = false;
let retryTimer = 0;

// ---- The connection

function connect() {
  clearTimeout(retryTimer);
  if (source) source.close();
  connectedAt = performance.now();
  const query = state.symbol ? `?symbol=${encodeURIComponent(state.symbol)}` : "";
  source = new EventSource(`/dashboard/events${query}`);
  const on = (name, handle) =>
    source.addEventListener(name, (event) => {
      lastHeard = performance.now();
      handle(JSON.parse(event.data));
    });
  on("all_prices", (prices) => showPrices(prices, true));
  on("prices", (prices) => showPrices(prices, false));
  on("health", showHealth);
  on("all_samples", (samples) => showSamples(samples));
  on("sample", (sample) => {
    showSamples([...state.samples, sample].slice(-HISTORY));
    keepPrices();
  });
  on("gaps", showGaps);
  on("symbol", showSymbol);
  on("end", () => {
    isOver = true;
    retry();
  });
  source.onopen = () => {
    isOver = false;
    loadHistory();
  };
  source.onerror = retry;
}

// EventSource gives up for good after some errors, so this page connects again by itself.
function retry() {
  source.close();
  clearTimeout(retryTimer);
  retryTimer = setTimeout(connect, RETRY_MS);
  showState();
}

async function loadHistory() {
  try {
    const answer = await fetch("/dashboard/history");
    if (!answer.ok) return;
    const history = await answer.json();
    for (const [symbol, prices] of Object.entries(history)) {
      const row = rowOf(symbol);
      row.prices = prices;
      drawSpark(row);
    }
    drawChart();
  } catch {
    // The stream of events tells whether the bridge is there.
  }
}

function showState() {
  const now = performance.now();
  const isOpen = source.readyState === EventSource.OPEN;
  const isStale = now - lastHeard > SILENCE_MS || source.readyState === EventSource.CLOSED;
  document.body.classList.toggle("stale", isStale);
  // Apart from the state, which screen readers read aloud when it changes.
  const hasOldValues = isStale && state.rows.size > 0;
  setText(find("age"), hasOldValues ? `The values are ${duration((now - lastHeard) / 1000)} old.` : "");
  if (!isStale) return; // showHealth shows the state of the bridge
  if (isOver) setState("bad", "The bridge has stopped.");
  else if (isOpen) setState("bad", "No data from the bridge.");
  else setState("bad", "The bridge cannot be reached.");
  if (now - Math.max(lastHeard, connectedAt) > 3 * SILENCE_MS) retry();
}

function setState(level, text) {
  const element = find("state");
  if (element.textContent !== text) element.textContent = text;
  element.className = `state ${level}`;
}

// ---- Prices

function showPrices(prices, isWhole) {
  if (isWhole) {
    for (const symbol of [...state.rows.keys()]) {
      if (!(symbol in prices.symbols || symbol in state.feeds)) removeRow(symbol);
    }
  }
  for (const symbol of prices.removed) removeRow(symbol);
  for (const [symbol, cells] of Object.entries(prices.symbols)) showRow(rowOf(symbol), cells);
}

function rowOf(symbol) {
  let row = state.rows.get(symbol);
  if (!row) {
    row = newRow(symbol);
    state.rows.set(symbol, row);
    place(row);
  }
  return row;
}

function newRow(symbol) {
  const element = make("tr", { role: "row" });
  const name = make("th", { role: "rowheader", scope: "row" });
  const link = make("a", { href: `#/${encodeURIComponent(symbol)}` }, symbol);
  const trouble = make("span", { class: "trouble" });
  name.append(link, trouble);
  const cell = (kind) => make("td", { role: "cell", class: kind });
  const [price, change, spark] = [cell("number price"), cell("number"), cell("spark")];
  const svg = makeSvg("svg", { viewBox: `0 0 ${HISTORY} 20`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const line = makeSvg("polyline", {});
  svg.append(line);
  spark.append(svg);
  element.append(name, price, change, spark);
  return { symbol, element, trouble, price, change, line, cells: [], prices: [], percent: null, decimals: 0 };
}

function showRow(row, cells) {
  const [price, open] = (row.cells = cells);
  setText(row.price, priceText(row, price));
  showChange(row, price, open);
}

function showChange(row, price, open) {
  const from = open ?? row.prices.find((each) => each !== null);
  row.percent = price != null && from ? (price / from - 1) * 100 : null;
  setText(row.change, percent(row.percent));
  setClass(row.change, `number ${direction(row.percent)}`);
}

// Keep the present prices for the spark lines, as the server does.
function keepPrices() {
  for (const row of state.rows.values()) {
    row.prices = [...row.prices, row.cells[0] == null ? null : Number(row.cells[0])].slice(-HISTORY);
    drawSpark(row);
  }
  if (find("order").value !== "symbol") sortRows();
}

function drawSpark(row) {
  row.line.setAttribute("points", points(row.prices, HISTORY, 20));
  showChange(row, ...row.cells);
}

function removeRow(symbol) {
  state.rows.get(symbol)?.element.remove();
  state.rows.delete(symbol);
  showCount();
}

function showTrouble(row) {
  const feed = state.feeds[row.symbol] ?? "";
  setText(row.trouble, feed);
  setClass(row.trouble, `trouble ${feed === "stale" || feed === "repairing" ? "warn" : "bad"}`);
  row.element.classList.toggle("old", feed === "down" || feed === "refused" || feed === "stale");
}

const orders = {
  symbol: (a, b) => (a.symbol < b.symbol ? -1 : 1),
  rise: (a, b) => (b.percent ?? -Infinity) - (a.percent ?? -Infinity) || orders.symbol(a, b),
  fall: (a, b) => (a.percent ?? Infinity) - (b.percent ?? Infinity) || orders.symbol(a, b),
  trouble: (a, b) => (a.symbol in state.feeds ? 0 : 1) - (b.symbol in state.feeds ? 0 : 1) || orders.symbol(a, b),
};
let isSorting = false;

// Sort once for all rows that were added in this frame.
function place(row) {
  find("rows").append(row.element);
  filterRow(row);
  if (isSorting) return;
  isSorting = true;
  requestAnimationFrame(sortRows);
}

function sortRows() {
  isSorting = false;
  const sorted = [...state.rows.values()].sort(orders[find("order").value]);
  const body = find("rows");
  if (sorted.some((row, index) => body.children[index] !== row.element)) {
    const focused = document.activeElement;
    body.append(...sorted.map((row) => row.element));
    if (body.contains(focused)) focused.focus();
  }
  showCount();
}

function filterRow(row) {
  row.element.hidden = !row.symbol.includes(find("filter").value.trim().toUpperCase());
}

function showCount() {
  const shown = [...state.rows.values()].filter((row) => !row.element.hidden).length;
  const wanted = find("filter").value.trim();
  find("no-rows").hidden = shown > 0;
  setText(find("no-rows"), wanted ? `No symbol contains “${wanted}”.` : "No prices yet.");
}

// ---- Health

function showHealth(health) {
  state.feeds = health.feeds;
  for (const symbol of Object.keys(health.feeds)) rowOf(symbol);
  for (const row of state.rows.values()) showTrouble(row);
  const hasDay = [...state.rows.values()].some((row) => row.cells[1] != null);
  setText(find("change-name"), hasDay ? "24 h" : "10 min");
  const troubled = Object.keys(health.feeds).length;
  if (health.is_draining) setState("warn", "The bridge is stopping.");
  else if (health.unready.length) setState("warn", "Not ready");
  else setState("good", "Live");
  showReasons([
    ...health.unready,
    ...health.refused.map((name) => `${name}: the exchange does not list it`),
    ...health.waiting.map((name) => `${name}: waits for its symbols to trade`),
  ]);
  setText(find("version"), `Tickbridge ${health.version}, running for ${duration(health.uptime_s)}`);
  const rate = sum(Object.values(health.events_per_s));
  const of = (name) => latencies(health.latency[name]);
  showTiles(find("tiles"), [
    ["Events", `${count(rate)}/s`],
    ["Symbols live", `${count(health.symbols - troubled)} of ${count(health.symbols)}`],
    ["Exchange to arrival", ...of("exchange")],
    ["Arrival to Kafka", ...of("kafka")],
    ["Redis flush", ...of("redis")],
    ["Lost gaps", count(health.gaps.lost ?? 0), "", health.gaps.lost ? "bad" : "good"],
    ["Open gaps", count(health.open_gaps), `${count(health.held)} events held back`, health.open_gaps ? "warn" : ""],
    ["Trades repaired", count(health.repaired)],
    ["Reconnects", count(sum(Object.values(health.reconnects))), reasonsOf(health.reconnects)],
    ["Invalid frames", count(health.invalid), "", health.invalid ? "warn" : ""],
  ]);
  showTable("connections", health.connectors.map((each) => [
    each.name, [each.state, each.state === "open" ? "good" : "bad"], duration(each.age_s), count(each.streams),
    count(each.without_data), count(each.events), count(each.duplicates),
  ]));
  showStreams(health);
  showTable("sinks", health.sinks.map((each) => [
    each.name, each.ready ? ["ready", "good"] : ["not connected", "bad"], count(sum(Object.values(each.accounts).map((a) => a.pending))),
    duration(each.oldest_pending_s), count(sum(Object.values(each.accounts).map((a) => a.published))),
    [count(sum(Object.values(each.dropped))), sum(Object.values(each.dropped)) ? "warn" : ""],
    count(sum(Object.values(each.failures))),
  ]));
  showTable("types", Object.entries(health.events).map(([name, total]) => [
    name, health.events_per_s[name].toFixed(1), count(total),
  ]));
}

function showReasons(reasons) {
  const list = find("reasons");
  list.hidden = !reasons.length;
  if (list.dataset.text === reasons.join("\n")) return;
  list.dataset.text = reasons.join("\n");
  list.replaceChildren(...reasons.map((reason) => make("li", {}, reason)));
}

function showStreams(health) {
  const named = (names, total) => `${names.join(", ")}${total > names.length ? ` and ${total - names.length} more` : ""}`;
  const parts = [];
  if (health.stalled) parts.push(`Stalled: ${named(health.stalled_names, health.stalled)}.`);
  if (health.without_data) parts.push(`Never sent anything: ${named(health.without_data_names, health.without_data)}.`);
  setText(find("streams"), parts.join(" ") || "All streams send as usual.");
}

function showGaps(gaps) {
  find("no-gaps").hidden = gaps.length > 0;
  find("gaps").hidden = !gaps.length;
  const levels = { lost: "bad", open: "warn", filled: "good" };
  showTable("gaps", gaps.map((gap) => [
    clock(gap.received), gap.symbol, gap.kind, [gap.state, levels[gap.state]], gap.cause,
    gap.first_id === null ? "–" : `${gap.first_id} to ${gap.last_id}`,
  ]));
}

function showSamples(samples) {
  state.samples = samples;
  const of = (read) => samples.map(read);
  const latency = (name, percentile) => of((each) => each.latency[name]?.[percentile] ?? null);
  find("plots").replaceChildren(
    linePlot("Events per second", [["", of((each) => each.events_per_s)]], count),
    linePlot("Waiting records", [["Kafka", of((each) => each.pending.kafka)], ["Redis", of((each) => each.pending.redis)]], count),
    linePlot("Exchange to arrival", [["p50", latency("exchange", "p50_s")], ["p99", latency("exchange", "p99_s")]], milliseconds),
    linePlot("Arrival to Kafka", [["p50", latency("kafka", "p50_s")], ["p99", latency("kafka", "p99_s")]], milliseconds),
    barPlot("Gaps, repairs, reconnects", [
      ["lost", "bad", of((each) => each.gaps.lost ?? 0)],
      ["open", "warn", of((each) => each.gaps.open ?? 0)],
      ["repaired", "good", of((each) => each.repaired)],
      ["reconnects", "", of((each) => each.reconnects)],
    ]),
  );
}

// ---- The page of a symbol

function showSymbol(symbol) {
  if (symbol.symbol !== state.symbol) return;
  const { price, quote, day, book, status } = symbol;
  find("symbol-unknown").hidden = symbol.is_known;
  setText(find("symbol-unknown"), `The bridge has no symbol ${symbol.symbol}. Names are in upper case: BTCUSDT.`);
  const row = symbol.is_known ? rowOf(symbol.symbol) : newRow(symbol.symbol);
  const inPrices = (text) => priceText(row, text);
  setText(find("symbol-price"), inPrices(price?.price));
  setText(find("symbol-change"), percent(row.percent));
  setClass(find("symbol-change"), direction(row.percent));
  const feed = status?.feed ?? "";
  setText(find("symbol-feed"), feed);
  setClass(find("symbol-feed"), feed === "live" ? "good" : "bad");
  showTiles(find("symbol-day"), day ? [
    ["Open, 24 h ago", inPrices(day.open)], ["High", inPrices(day.high)], ["Low", inPrices(day.low)],
    ["Volume", trimmed(day.volume)], ["Quote volume", trimmed(day.quote_volume)],
  ] : []);
  showTable("book", bookRows(quote, book, inPrices));
  showTable("trades", symbol.trades.map((trade) => [
    clock(trade.timestamp), [trade.side, trade.side === "buy" ? "good" : "bad"], inPrices(trade.price), trimmed(trade.volume),
    trade.trade_id ?? trade.agg_trade_id,
  ]));
  showComplete(status, symbol.now);
  showTable("symbol-streams", symbol.streams.map((stream) => [
    stream.name,
    stream.silence_s === null ? ["never", "warn"] : [`${duration(stream.silence_s)} ago`, stream.is_stalled ? "bad" : ""],
  ]));
  drawChart();
}

// A quote has one level. The streams of the book have more.
function bookRows(quote, book, inPrices) {
  const level = quote?.bid_price && { bids: [[quote.bid_price, quote.bid_volume]], asks: [[quote.ask_price, quote.ask_volume]] };
  const { bids, asks } = book ?? level ?? { bids: [], asks: [] };
  return Array.from({ length: Math.max(bids.length, asks.length) }, (_, index) => {
    const [bid, bidVolume] = bids[index] ?? [null, ""];
    const [ask, askVolume] = asks[index] ?? [null, ""];
    return [trimmed(bidVolume), inPrices(bid), inPrices(ask), trimmed(askVolume)];
  });
}

function showComplete(status, now) {
  const ago = (time) => (time === null ? ["–", "not known yet"] : [clock(time), `${duration((now - time) / 1e6)} ago`]);
  showTiles(find("complete"), status ? [
    ["In Kafka up to", ...ago(status.complete_to)],
    ["Compared with the exchange", ...ago(status.checked)],
    ["Last trade id", String(status.trade_id ?? status.agg_trade_id ?? "–")],
  ] : []);
}

function drawChart() {
  const row = state.symbol && state.rows.get(state.symbol);
  if (!row) return;
  const live = row.cells[0] == null ? [] : [Number(row.cells[0])];
  const prices = [...row.prices, ...live].slice(-HISTORY);
  find("chart").replaceChildren(...linePlot("Price, last 10 minutes", [["", prices]], String, { height: 100, fromZero: false }).children);
}

// ---- Plots

function linePlot(title, lines, format, { height = 40, fromZero = true } = {}) {
  const values = lines.flatMap(([, each]) => each).filter((each) => each != null);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const base = fromZero ? 0 : low;
  const figure = plotFigure(title, lines.map(([name], index) => [name, index ? "second" : ""]));
  const svg = plotSvg(`${title}: ${values.length ? `${format(low)} to ${format(high)}` : "no values yet"}`, height);
  lines.forEach(([, each], index) => {
    svg.append(makeSvg("polyline", { points: points(each, HISTORY, height, base, high), class: index ? "second" : "" }));
  });
  const axis = values.length ? (fromZero ? `max ${format(high)}` : `${format(low)} to ${format(high)}`) : "";
  figure.append(svg, axisOf(axis));
  return figure;
}

function barPlot(title, groups) {
  const totals = state.samples.map((_, index) => sum(groups.map(([, , each]) => each[index])));
  const high = Math.max(1, ...totals);
  const figure = plotFigure(title, groups.map(([name, kind]) => [name, kind]));
  const svg = plotSvg(`${title}: ${sum(totals)} in the last 10 minutes`, 40);
  const first = HISTORY - state.samples.length;
  state.samples.forEach((_, index) => {
    let top = 40;
    for (const [, kind, each] of groups) {
      const height = (each[index] / high) * 40;
      top -= height;
      if (height) svg.append(makeSvg("rect", { x: first + index, y: top, width: 0.8, height, class: `bar ${kind}` }));
    }
  });
  figure.append(svg, axisOf(`max ${count(high)}`));
  return figure;
}

function plotFigure(title, keys) {
  const caption = make("figcaption", {}, title);
  const legend = make("span");
  for (const [name, kind] of keys) if (name) legend.append(make("span", { class: `key ${kind}` }, name));
  caption.append(legend);
  const figure = make("figure");
  figure.append(caption);
  return figure;
}

function plotSvg(label, height) {
  return makeSvg("svg", { viewBox: `0 0 ${HISTORY} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": label });
}

function axisOf(text) {
  const axis = make("div", { class: "axis" });
  axis.append(make("span", {}, "10 min ago"), make("span", {}, text), make("span", {}, "now"));
  return axis;
}

// Return the points of a line. The newest value is at the right edge; a missing one is left out.
function points(values, width, height, low = null, high = null) {
  const known = values.filter((each) => each != null);
  if (!known.length) return "";
  const least = low ?? Math.min(...known);
  const span = (high ?? Math.max(...known)) - least;
  const first = width - values.length;
  return values
    .map((each, index) => {
      if (each == null) return "";
      const flat = least === 0 ? height - 1 : height / 2;
      const y = span > 0 ? height - 1 - ((each - least) / span) * (height - 2) : flat;
      return `${first + index + 0.5},${y.toFixed(2)}`;
    })
    .filter(Boolean)
    .join(" ");
}

// ---- Elements and texts

function make(name, attributes = {}, text = null) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  return element;
}

function makeSvg(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// Writing what is already there would cost a layout.
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setClass(element, name) {
  if (element.className !== name) element.className = name;
}

// Each cell is a text, or a text with its class. The columns of the head say which are numbers.
function showTable(id, rows) {
  const table = find(id);
  const kinds = [...table.tHead.rows[0].cells].map((cell) => cell.className);
  const body = table.tBodies[0];
  while (body.rows.length > rows.length) body.deleteRow(-1);
  while (body.rows.length < rows.length) {
    const row = body.insertRow();
    kinds.forEach((kind) => row.append(make("td", { class: kind })));
  }
  rows.forEach((cells, index) => {
    cells.forEach((cell, column) => {
      const [text, kind] = Array.isArray(cell) ? cell : [cell, ""];
      const element = body.rows[index].cells[column];
      setText(element, String(text));
      setClass(element, `${kinds[column]} ${kind}`.trim());
    });
  });
}

function showTiles(list, tiles) {
  while (list.children.length > tiles.length) list.lastChild.remove();
  while (list.children.length < tiles.length) {
    const tile = make("div");
    const value = make("dd");
    value.append(make("span"), " ", make("small"));
    tile.append(make("dt"), value);
    list.append(tile);
  }
  tiles.forEach(([name, value, note = "", level = ""], index) => {
    const [term, description] = list.children[index].children;
    setText(term, name);
    setText(description.children[0], value);
    setClass(description.children[0], level);
    setText(description.children[1], note);
  });
}

// The exchange sends eight decimals. Those that no price of the symbol has used are left out.
function priceText(row, price) {
  if (price == null) return "–";
  const [whole, decimals = ""] = trimmed(price).split(".");
  row.decimals = Math.max(row.decimals, decimals.length);
  return row.decimals ? `${whole}.${decimals.padEnd(row.decimals, "0")}` : whole;
}

const trimmed = (number) => (number.includes(".") ? number.replace(/\.?0+$/, "") : number);
const sum = (values) => values.reduce((total, each) => total + each, 0);
const count = (value) => Math.round(value).toLocaleString("en-US");
const direction = (value) => (value === null || Math.abs(value) < 0.005 ? "" : value > 0 ? "good" : "bad");

function percent(value) {
  if (value === null) return "–";
  const sign = Math.abs(value) < 0.005 ? "" : value > 0 ? "▲ " : "▼ ";
  return `${sign}${Math.abs(value).toFixed(2)} %`;
}

function milliseconds(seconds) {
  if (seconds == null) return "–";
  if (seconds >= 1) return `${seconds.toFixed(1)} s`;
  return `${(1000 * seconds).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
}

function latencies(latency) {
  return latency ? [milliseconds(latency.p50_s), `p99 ${milliseconds(latency.p99_s)}`] : ["–"];
}

function reasonsOf(causes) {
  return Object.entries(causes).filter(([, each]) => each).map(([cause, each]) => `${cause} ${each}`).join(", ");
}

function duration(seconds) {
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= length) return `${Math.floor(seconds / length)} ${unit}`;
  }
  return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
}

const clock = (time) => (time === null ? "–" : new Date(time / 1000).toISOString().slice(11, 23));

// ---- Views: #/ for prices, #/health, and one for each symbol. A wide screen shows the first two at once.

function showView() {
  if (location.hash === "#content") return; // the link for keyboards
  const name = decodeURIComponent(location.hash.slice(2));
  const isSymbol = name !== "" && name !== "health";
  const symbol = isSymbol ? name : null;
  find("content").classList.toggle("both", !isSymbol);
  find("prices").hidden = isSymbol || (name === "health" && !WIDE.matches);
  find("health").hidden = isSymbol || (name !== "health" && !WIDE.matches);
  find("symbol").hidden = !isSymbol;
  for (const link of document.querySelectorAll("nav a")) {
    const isCurrent = link.hash === `#/${name}`;
    if (isCurrent) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = isSymbol ? `${symbol} – Tickbridge` : "Tickbridge";
  setText(find("symbol-title"), symbol ?? "");
  if (symbol !== state.symbol) {
    state.symbol = symbol;
    showTable("trades", []);
    connect();
    scrollTo(0, 0);
  }
}

find("order").addEventListener("change", sortRows);
find("filter").addEventListener("input", () => {
  for (const row of state.rows.values()) filterRow(row);
  showCount();
});
addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("input, select");
  if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    location.hash = "#/";
    find("filter").focus();
  }
  if (event.key === "Escape" && state.symbol) location.hash = "#/";
});
addEventListener("hashchange", showView);
WIDE.addEventListener("change", showView);
setInterval(showState, 500);
connect();
showView();

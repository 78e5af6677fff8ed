"use strict";
// A conversation with the model, streamed, and the load of the server once per second.
const $ = (id) => document.getElementById(id);
const messages = [];
let running = null; // the AbortController of the answer that comes
let about = { model: "", chat: true };
let counts = null; // of the experts, when they were looked at last

function headers() {
  const key = $("key").value;
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

function show(role, text) {
  const article = document.createElement("article");
  article.className = role;
  article.textContent = text;
  $("talk").append(article);
  article.scrollIntoView({ block: "end" });
  return article;
}

function busy(is) {
  $("send").disabled = is;
  $("stop").disabled = !is;
  document.body.dataset.state = is ? "busy" : "ready";
}

// Yields the chunks of a stream of server-sent events.
async function* chunks(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: ") && line !== "data: [DONE]") yield JSON.parse(line.slice(6));
    }
  }
}

function request() {
  const settings = {
    ...(about.model ? { model: about.model } : {}), stream: true, stream_options: { include_usage: true },
    temperature: Number($("temperature").value), max_tokens: Number($("tokens").value),
  };
  if (about.chat) return ["v1/chat/completions", { ...settings, messages }];
  // A model without a chat template goes on with the text.
  return ["v1/completions", { ...settings, prompt: messages.map((message) => message.content).join("") }];
}

async function send() {
  const text = $("text").value;
  if (running || !text.trim()) return;
  $("text").value = "";
  messages.push({ role: "user", content: text });
  show("user", text);
  const article = show("assistant", "");
  let answer = "", thought = "", tokens = 0, first = 0;
  running = new AbortController();
  busy(true);
  const began = performance.now();
  try {
    await known; // how the model is called, and whether it talks
    const [path, body] = request();
    const response = await fetch(path, {
      method: "POST", headers: headers(), body: JSON.stringify(body), signal: running.signal,
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    for await (const chunk of chunks(response)) {
      if (chunk.error) throw new Error(chunk.error.message);
      if (chunk.usage) tokens = chunk.usage.completion_tokens;
      for (const choice of chunk.choices) {
        first = first || performance.now();
        answer += choice.delta ? choice.delta.content || "" : choice.text;
        thought += (choice.delta && choice.delta.reasoning_content) || "";
      }
      const bottom = $("talk").scrollHeight - $("talk").scrollTop - $("talk").clientHeight < 80;
      article.textContent = answer;
      if (thought) {
        const small = document.createElement("small");
        small.textContent = thought;
        article.prepend(small);
      }
      if (bottom) article.scrollIntoView({ block: "end" });
    }
    const seconds = (performance.now() - began) / 1000;
    $("speed").textContent = `${tokens} tokens, ${(tokens / seconds).toFixed(0)} tok/s`;
  } catch (error) {
    if (error.name === "AbortError") $("speed").textContent = "stopped";
    else show("error", error.message);
  }
  if (answer) messages.push({ role: "assistant", content: answer });
  else messages.pop();
  running = null;
  busy(false);
  $("text").focus();
}

function stop() {
  if (running) running.abort();
}

function draw(experts) {
  $("load").hidden = !experts.length;
  if (!experts.length) return;
  const canvas = $("experts"), layers = experts.length, width = experts[0].length;
  canvas.width = width;
  canvas.height = layers;
  const paint = canvas.getContext("2d"), image = paint.createImageData(width, layers);
  let chosen = 0, most = 0;
  const since = experts.map((row, i) => row.map((n, j) => (counts ? (n - counts[i][j] + 2 ** 32) % 2 ** 32 : n)));
  for (const row of since) for (const n of row) [chosen, most] = [chosen + n, Math.max(most, n)];
  if (chosen) {
    counts = experts;
    const mean = chosen / (layers * width);
    since.forEach((row, i) => row.forEach((n, j) => {
      image.data.set([31, 95, 153, Math.min(255, (n / mean) * 90)], 4 * (i * width + j));
    }));
    paint.putImageData(image, 0, 0);
    $("experts-text").textContent =
      `${layers} layers of ${width}; the busiest had ${(most / mean).toFixed(1)} times its share`;
  }
}

async function look() {
  try {
    const response = await fetch("stats", { headers: headers() });
    $("key-label").hidden = response.status !== 401 && !$("key").value;
    if (response.ok) {
      about = await response.json();
      $("model").textContent = `${about.model}${about.chat ? "" : " (continues texts: it has no chat template)"}`;
      $("rate").textContent = Math.round(about.tokens_per_second);
      $("running").textContent = about.running;
      const { used, kept, free } = about.blocks;
      $("cache").textContent = `${Math.round((100 * used) / Math.max(1, used + kept + free))}%`;
      draw(about.experts);
    } else if (response.status === 401) {
      $("model").textContent = "this server wants an API key";
    }
  } catch {
    $("model").textContent = "the server does not answer";
  }
  setTimeout(look, 1000);
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stop();
});
$("stop").addEventListener("click", stop);
$("new").addEventListener("click", () => {
  stop();
  messages.length = 0;
  $("talk").replaceChildren();
  $("text").focus();
});
busy(false);
const known = look();

"""Traffic for `.ci/profile`: what a gateway does most, over every surface and kind of provider.

practice.py BINARY SECONDS
"""

import atexit
import http.client
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

CALLERS = 8
KEY = "wb-a-key-for-practice-alone"
ACCOUNTS = """
[ledger]
url = "sqlite:practice.db"
[keys.practice]
secret_env = "PRACTICE_KEY"
[budgets.practice]
key = "practice"
usd = 1000000
window = "month"
[limits.practice]
key = "practice"
requests = 1000000000
"""
# From easy to hard.
TEXTS = [
    "Say hello to guest {}.",
    "Translate 'good morning, number {}' into French.",
    "What is the capital of France? Please answer in {} words.",
    "Prove by induction that the sum of the first {} odd numbers is a square, then generalise.",
]
TOOL = {"name": "get_weather", "description": "The weather in a city.", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}
OTHERS = ["responder", "google", "microsoft", "amazon", "coherent"]


def chat(model, text, **more):
    history = [{"role": "system", "content": "You are brief.\nYou are \"polite\"."},
               {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    messages = [*history, {"role": "user", "content": text}]
    return "/v1/chat/completions", {"model": model, "messages": messages, **more}


def messages(model, text, **more):
    asked = [{"role": "user", "content": [{"type": "text", "text": text}]}]
    return "/v1/messages", {"model": model, "max_tokens": 200, "messages": asked, **more}


def responses(model, text, **more):
    return "/v1/responses", {"model": model, "input": text, "store": False, **more}


def kinds():
    """Makers of requests, each as often as it is to be asked."""
    chat_tool = {"tools": [{"type": "function", "function": TOOL}]}
    schema = TOOL["parameters"]
    message_tool = {"tools": [{"name": TOOL["name"], "input_schema": schema}]}
    stream, usage = {"stream": True}, {"stream_options": {"include_usage": True}}
    yield from [lambda text: chat("openai-like/m", text)] * 24
    yield from [lambda text: chat("openai-like/m", text, temperature=0.5)] * 12
    yield from [lambda text: chat("openai-like/m", text, **stream, **usage)] * 10
    yield from [lambda text: chat("auto", text)] * 12
    yield from [lambda text: messages("claude/m", text)] * 8
    yield from [lambda text: messages("claude/m", text, **stream)] * 6
    yield from [lambda text: responses("responder/m", text)] * 3
    yield lambda text: messages("claude/m", text + " Call get_weather.", **stream, **message_tool)
    yield lambda text: responses("claude/m", text, **stream)
    for model in ["claude/m", *(f"{provider}/m" for provider in OTHERS)]:
        yield lambda text, model=model: chat(model, text)
        yield lambda text, model=model: chat(model, text, **stream)
        yield lambda text, model=model: chat(model, text + " Call get_weather.", **chat_tool)
        yield lambda text, model=model: messages(model, text, **stream)


def call(address, until, seed, asked):
    requests = list(kinds())
    random.Random(seed).shuffle(requests)
    connection = http.client.HTTPConnection(address)
    head = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    for number, make in enumerate(itertools.cycle(requests)):
        if time.monotonic() > until:
            return
        path, body = make(TEXTS[number % len(TEXTS)].format(seed * 1_000_000 + number))
        connection.request("POST", path, json.dumps(body), head)
        answer = connection.getresponse()
        answer.read()
        asked[answer.status] = asked.get(answer.status, 0) + 1


def start(binary, folder, *arguments):
    environment = {**os.environ, "RUST_LOG": "error", "PRACTICE_KEY": KEY,
                   "SCRIPTED_KEY": "scripted"}
    process = subprocess.Popen([binary, *arguments], cwd=folder, env=environment,
                               stdout=subprocess.PIPE, text=True)
    atexit.register(process.kill)
    for line in process.stdout:
        if "http://" in line:
            return process, line.split("http://")[1].split("/")[0].strip()
    raise SystemExit(f"{arguments[0]} did not start")


def main():
    binary, seconds = os.path.abspath(sys.argv[1]), float(sys.argv[2])
    sdk = os.path.join(os.path.dirname(__file__), "..", "tests", "sdk", "gateway.toml")
    with tempfile.TemporaryDirectory() as folder, open(sdk) as file:
        mock, upstream = start(binary, folder, "mock", "--listen", "127.0.0.1:0")
        plain = file.read().replace("UPSTREAM", f"http://{upstream}")
        for name, text in ("plain", plain), ("accounts", plain + ACCOUNTS):
            config = os.path.join(folder, f"{name}.toml")
            with open(config, "w") as out:
                out.write(text)
            gateway, address = start(binary, folder, "serve", "--config", config)
            until, asked = time.monotonic() + seconds, {}
            callers = [threading.Thread(target=call, args=(address, until, seed, asked))
                       for seed in range(CALLERS)]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()
            gateway.send_signal(signal.SIGTERM)
            gateway.wait()
            print(f"{name}: answers by status: {asked}")
            if set(asked) != {200}:
                raise SystemExit("practice that fails teaches nothing")
        mock.send_signal(signal.SIGTERM)
        mock.wait()


main()

"""What the clients' checks share: the list of checks, the models they run over, the report.

A check is a function with a docstring. With `@check` it runs once; with `@check(over=MODELS)` once
for each model, which it takes as the argument `model`. Every check prints one line.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

# A model at every kind of provider of gateway.toml; the scripted upstream serves any name.
MODELS = [f"{provider}/m" for provider in (
    "openai-like", "responder", "claude", "google", "microsoft", "amazon", "coherent")]
# What it answers.
ANSWER = "This is m, a scripted model: no provider was called. You asked: What is rain?"
QUESTION = "What is rain?"

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
MAIL = {"type": "object", "required": ["to", "urgent", "tags"], "properties": {
    "to": {"type": "string"}, "urgent": {"type": "boolean"},
    "tags": {"type": "array", "items": {"enum": ["work", "home"]}, "minItems": 1}}}
# The upstream calls the tools that a question names, with the least its schema allows.
CALLS = "First get_weather, then send_mail."
CALLED = {"get_weather": {"city": "example"},
          "send_mail": {"to": "example", "urgent": True, "tags": ["work"]}}

CHECKS = []


def check(function=None, *, over=None):
    def add(function):
        CHECKS.append((function, over))
        return function
    return add(function) if function else add


def raises(kinds, call, status=None):
    """Calls, expects one of these exceptions and returns it."""
    try:
        call()
    except kinds as error:
        assert status is None or error.status_code == status, (error.status_code, status)
        return error
    raise AssertionError(f"expected {kinds}")


def whole(calls):
    """That these are the calls of `CALLED`: (id, name, arguments) each, every id its own."""
    calls = list(calls)
    assert [name for _, name, _ in calls] == list(CALLED), calls
    assert [arguments for *_, arguments in calls] == list(CALLED.values()), calls
    assert all(id for id, *_ in calls) and len({id for id, *_ in calls}) == len(calls), calls


def report(client_name, *arguments):
    """Runs all checks with these arguments, reports, and exits."""
    def failures(function, over):
        found = []
        for model in over or [None]:
            try:
                function(*arguments, **({"model": model} if model else {}))
            except Exception as error:  # every check is reported
                found.append(f"{model or ''}  {type(error).__name__}: {error}"[:600])
        return found

    failed = 0
    with ThreadPoolExecutor(4) as pool:
        results = [pool.submit(failures, *check) for check in CHECKS]
        for (function, over), result in zip(CHECKS, results):
            found = result.result()
            failed += bool(found)
            count = f" ({len(over)} models)" if over else ""
            print(f"{'FAILED ' if found else 'ok     '} {function.__name__}: {function.__doc__}{count}")
            for line in found:
                print(f"          {line}")
    print(f"{client_name}: {len(CHECKS) - failed} passed, {failed} failed", flush=True)
    sys.exit(failed > 0)

//! What `weighbridge init` writes.

/// A commented configuration that works once the keys are set; a test holds it to that.
pub const TEMPLATE: &str = r#"# Weighbridge configuration. `weighbridge check` tells what is wrong with it,
# `weighbridge serve --config weighbridge.toml` runs it.

[server]
listen = "127.0.0.1:8080"
# tls_certificate = "fullchain.pem"  # HTTPS, with the key in tls_key; both relative to this file
# tls_key = "privkey.pem"
# watch = true                       # reload when this file, the certificate or the key changes
# max_body_bytes = 33554432          # larger requests get 413
# max_answer_bytes = 33554432        # larger answers that are not streamed are an error
# shutdown_grace_ms = 30000          # how long a shutdown waits for answers in flight

[classifier]
# model = "models/weighbridge-minilm"  # default: the model inside the binary
# device = "auto"                      # "auto", "cpu" or "cuda:N"
# kernel = "auto"                      # or forced: avx512-vnni, avx512-bw, avx2, neon, f32, portable, candle
# max_tokens = 128                     # longer texts keep their head and tail
# static_margin = 0.07                 # this far from every threshold, words and facts decide
                                       # without the encoder; 1 asks the encoder each time
# workers = 2                          # scoring threads; default: one a core, two for a GPU
# batch_tokens = 128                   # tokens a thread takes at once; default on a GPU: 16384
# queue_capacity = 256                 # when it is full, the default tier serves
# cache_entries = 10000                # scores remembered by text; 0 turns it off
# deadline_ms = 250                    # when it passes, the default tier serves

[decisions]
# log = "decisions.jsonl"              # one line a decision, for `weighbridge replay` and `tune`
# prompts = false                      # true keeps the text that was weighed, for `eval`

# Keys, budgets, limits, and a row for every request. `weighbridge keys create --name NAME` makes the
# first key; until then everybody on this machine is served.
[ledger]
# url = "sqlite:weighbridge.db"        # relative to this file; or "postgres://user:password@host/db"
# time_zone = "UTC"                    # of budgets by the day, week and month
# retention_days = 400                 # rows are kept for ever without it
# assumed_output_tokens = 1024         # reserved for a request that states no bound

# Images that callers name by address, for providers that take bytes only (Bedrock, Gemini, Ollama).
# [images]
# fetch = false                        # true fetches them, from public addresses only
# max_bytes = 5242880                  # of one image
# timeout_ms = 10000                   # for all images of a request
# allow_hosts = ["images.example.com", "*.example.org"]  # only these; default: every public host

# [documents]                          # PDFs by address: the same settings as under [images]
# fetch = false

# [admin]                              # the admin API
# listen = "127.0.0.1:8081"
# token_env = "WEIGHBRIDGE_ADMIN_TOKEN"
# tls_certificate = "fullchain.pem"    # and tls_key, as under [server]

# What is known of models without configuration: `weighbridge models --all` lists it, and
# `weighbridge models --refresh FILE|URL` takes newer facts from LiteLLM's public price list.
[catalogue]
# path = "weighbridge-models.json"     # where newer facts are kept; relative to this file

# Providers serve models. Those of the catalogue (openai, anthropic, gemini, azure, bedrock,
# mistral, cohere, groq, together, fireworks, deepseek, xai, openrouter, perplexity, cerebras,
# nvidia, huggingface, cloudflare, databricks, vertex, ollama, vllm, lmstudio, llamacpp, tgi) need
# no base_url and read the usual environment variable; `catalogue = "groq"` gives another name to
# one of them. Any other OpenAI-compatible server needs its address.
[providers.openai]
dialect = "openai"                     # or anthropic, gemini, azure, bedrock, cohere
api_key_env = "OPENAI_API_KEY"
# api_key_envs = ["KEY_A", "KEY_B"]    # several keys that share the load; a refused one rests
# api_key_file = "openai.key"          # or in a file, relative to this one
# api_key_command = ["pass", "show", "openai"]  # or printed by a program, at start and reload
# retries = 0                          # further attempts after a failure that may pass, before
                                       # the next model is asked
# breaker_failures = 5                 # failures in a row after which it is left alone
# breaker_open_ms = 10000              # for this long, doubling
# deployments = [{ base_url = "https://a/v1", weight = 2 }, { base_url = "https://b/v1" }]
# responses = true                     # it serves /responses; otherwise they become chat
# completions = false                  # it serves /completions; otherwise they become chat
# region = "us-east-1"                 # bedrock; keys from AWS_ACCESS_KEY_ID and the like, or
                                       # access_key_env, secret_key_env, session_token_env
# api_version = "2024-10-21"           # azure
# connect_timeout_ms = 10000
# first_byte_timeout_ms = 300000
# idle_timeout_ms = 60000
# total_timeout_ms = 600000            # off unless set: it would cut long streams
# image_urls = true                    # false where it takes images as base64 only
# stream_usage = true                  # false for servers that reject `stream_options`

[providers.local]
dialect = "openai"
base_url = "http://127.0.0.1:11434/v1"

# Models, with what they cost and what they can do. What is left out is taken from the catalogue,
# by provider and upstream_name or by `catalogue = "openai/gpt-4o"`; what nobody knows rejects
# nothing. Abilities: tools, parallel_tools, images, audio, documents, json_schema, reasoning,
# streaming, embeddings; `lacks` denies some. A price may also have cache_write_usd_per_mtok,
# cache_write_1h_usd_per_mtok, reasoning_usd_per_mtok, audio_input_usd_per_mtok,
# audio_output_usd_per_mtok, image_input_usd_per_mtok, batch_input_usd_per_mtok with
# batch_output_usd_per_mtok, request_usd and long_prompt = { above_prompt_tokens = 200000, … }.
[models.small]
provider = "local"
upstream_name = "qwen3:8b"
context_window = 32768
price = { input_usd_per_mtok = 0.0, output_usd_per_mtok = 0.0 }
abilities = ["tools", "json_schema"]

[models.large]
provider = "openai"
upstream_name = "gpt-5.5"
# context_window, max_output_tokens, price and abilities are in the catalogue

# A policy is a name that callers put in `model`. Each request is scored from 0 (any model will
# do) to 1 (only the best will); the first tier whose `below` is greater than the score serves.
# Within a tier the models are tried in order, then the next tier up.
[policies.auto]
default_tier = "strong"                # serves when there is no score in time
# sessions = true                      # a conversation keeps its model while that is cheaper
# fallback_on = ["context_length"]     # and "content_policy": rejections that another model may
                                       # see otherwise

[[policies.auto.tiers]]
name = "cheap"
below = 0.42
models = ["small"]
# order = "listed"                     # or weighted, cheapest, fastest, least_busy
# weights = [1]                        # one for each model

[[policies.auto.tiers]]
name = "strong"
models = ["large"]
"#;

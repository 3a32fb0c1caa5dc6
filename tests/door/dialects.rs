//! Every surface over every kind of provider, whole and streamed, well-behaved and not.

use serde_json::{Value, json};

use crate::house::{House, header, json_of, serve};

/// One provider of each kind, at one scripted upstream, and a model `m-KIND` at each.
/// `{script}` is what the models do; `{root}` the upstream's address without a path.
pub const EVERY_KIND: &str = r#"
[server]
listen = "127.0.0.1:0"
shutdown_grace_ms = 300
[providers.openai-like]
base_url = "{base}"
[providers.responder]
base_url = "{base}"
responses = true
[providers.claude]
dialect = "anthropic"
base_url = "{root}"
api_key_env = "TEST_KEY_claude"
[providers.google]
dialect = "gemini"
base_url = "{root}"
api_key_env = "TEST_KEY_google"
[providers.microsoft]
dialect = "azure"
base_url = "{root}"
api_key_env = "TEST_KEY_microsoft"
[providers.amazon]
dialect = "bedrock"
base_url = "{root}"
region = "eu-west-1"
access_key_env = "AKIDEXAMPLE"
secret_key_env = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
[providers.coherent]
dialect = "cohere"
base_url = "{root}"
api_key_env = "TEST_KEY_coherent"
[models.m-openai]
provider = "openai-like"
upstream_name = "up{script}"
[models.m-responder]
provider = "responder"
upstream_name = "up{script}"
[models.m-claude]
provider = "claude"
upstream_name = "up{script}"
[models.m-google]
provider = "google"
upstream_name = "up{script}"
[models.m-microsoft]
provider = "microsoft"
upstream_name = "up{script}"
[models.m-amazon]
provider = "amazon"
upstream_name = "up{script}"
[models.m-coherent]
provider = "coherent"
upstream_name = "up{script}"
[policies.auto]
tiers = [{ name = "only", models = ["m-claude"] }]
"#;

pub const MODELS: [&str; 7] =
    ["m-openai", "m-responder", "m-claude", "m-google", "m-microsoft", "m-amazon", "m-coherent"];

/// Where conversations are asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Surface {
    Chat,
    Responses,
    Messages,
}

pub const SURFACES: [Surface; 3] = [Surface::Chat, Surface::Responses, Surface::Messages];

impl Surface {
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Responses => "/v1/responses",
            Self::Messages => "/v1/messages",
        }
    }

    /// "What is rain?", with fields added or replaced.
    pub fn body(self, model: &str, stream: bool, fields: Value) -> String {
        let mut body = match self {
            Self::Responses => json!({"model": model, "input": "What is rain?"}),
            Self::Chat | Self::Messages => json!({
                "model": model, "max_tokens": 300,
                "messages": [{"role": "user", "content": "What is rain?"}],
            }),
        };
        body["stream"] = stream.into();
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        body.to_string()
    }

    /// The text of a whole answer.
    fn text(self, answer: &Value) -> String {
        match self {
            Self::Chat => answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned(),
            Self::Responses => {
                let mut items = answer["output"].as_array().unwrap().iter();
                let message = items.rfind(|item| item["type"] == "message").unwrap();
                message["content"][0]["text"].as_str().unwrap().to_owned()
            }
            Self::Messages => answer["content"][0]["text"].as_str().unwrap().to_owned(),
        }
    }

    /// Input and output tokens of a whole answer.
    fn usage(self, answer: &Value) -> (u64, u64) {
        let usage = &answer["usage"];
        let input = match self {
            Self::Chat => "prompt_tokens",
            Self::Responses | Self::Messages => "input_tokens",
        };
        (usage[input].as_u64().unwrap(), usage[self.output_tokens()].as_u64().unwrap())
    }

    /// The name of the answer's tokens.
    pub fn output_tokens(self) -> &'static str {
        match self {
            Self::Chat => "completion_tokens",
            Self::Responses | Self::Messages => "output_tokens",
        }
    }

    /// Whether the provider of this model is asked in the surface's own language.
    pub fn is_spoken_by(self, model: &str) -> bool {
        let speakers: &[&str] = match self {
            Self::Chat => &["m-openai", "m-responder", "m-microsoft"],
            Self::Responses => &["m-responder"],
            Self::Messages => &["m-claude"],
        };
        speakers.contains(&model)
    }

    /// The text of a stream, and whether it ended as its protocol says.
    pub fn streamed(self, stream: &str) -> (String, bool) {
        let events = stream.split("\n\n").filter_map(|frame| {
            frame.lines().find_map(|line| line.strip_prefix("data: ")).map(str::to_owned)
        });
        let (mut text, mut ended) = (String::new(), false);
        for data in events {
            if data == "[DONE]" {
                ended = self == Self::Chat;
                continue;
            }
            let event: Value = serde_json::from_str(&data).unwrap();
            match self {
                Self::Chat => {
                    text += event["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
                }
                Self::Responses if event["type"] == "response.output_text.delta" => {
                    text += event["delta"].as_str().unwrap();
                }
                Self::Responses => ended |= event["type"] == "response.completed",
                Self::Messages if event["type"] == "content_block_delta" => {
                    text += event["delta"]["text"].as_str().unwrap_or_default();
                }
                Self::Messages => ended |= event["type"] == "message_stop",
            }
        }
        (text, ended)
    }

    /// The message of an error body in the surface's own shape.
    pub fn error(self, body: &Value) -> String {
        if self == Self::Messages {
            assert_eq!(body["type"], "error", "{body}");
            assert!(body["request_id"].is_string(), "{body}");
        } else {
            assert!(body["error"]["code"].is_string(), "{body}");
        }
        assert!(body["error"]["type"].is_string(), "{body}");
        body["error"]["message"].as_str().unwrap().to_owned()
    }
}

pub async fn house(script: &str) -> House {
    House::open(&EVERY_KIND.replace("{script}", script)).await
}

pub const ANSWER: &str =
    "This is up, a scripted model: no provider was called. You asked: What is rain?";

#[tokio::test(flavor = "multi_thread")]
async fn every_surface_gets_a_whole_answer_from_every_kind_of_provider() {
    let house = house("?tokens_in=11&tokens_out=7").await;
    for surface in SURFACES {
        for model in MODELS {
            let body = surface.body(model, false, json!({}));
            let response = house.post(surface.path(), body).send().await.unwrap();
            assert_eq!(response.status(), 200, "{surface:?} {model}");
            assert_eq!(header(&response, "x-weighbridge-model"), model);
            let answer = json_of(response).await;
            assert_eq!(surface.text(&answer), ANSWER, "{surface:?} {model}");
            assert_eq!(surface.usage(&answer), (11, 7), "{surface:?} {model}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_surface_gets_a_stream_from_every_kind_of_provider() {
    for script in ["", "?split=3", "?usage=none"] {
        let house = house(script).await;
        for surface in SURFACES {
            for model in MODELS {
                let body = surface.body(model, true, json!({}));
                let response = house.post(surface.path(), body).send().await.unwrap();
                assert_eq!(response.status(), 200, "{surface:?} {model} {script}");
                assert_eq!(header(&response, "content-type"), "text/event-stream");
                let stream = response.text().await.unwrap();
                let told = surface.streamed(&stream);
                assert_eq!(told, (ANSWER.to_owned(), true), "{surface:?} {model} {script}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_is_never_called_a_success_on_any_surface() {
    for script in ["cut=3", "close=3", "garbage=3", "error_frame=3"] {
        let house = house(&format!("?{script}")).await;
        for surface in SURFACES {
            for model in MODELS {
                let body = surface.body(model, true, json!({}));
                let response = house.post(surface.path(), body).send().await.unwrap();
                let stream = response.text().await.unwrap();
                let (text, ended) = surface.streamed(&stream);
                let which = format!("{surface:?} {model} {script}: {stream}");
                assert!(!ended && text.len() < ANSWER.len(), "{which}");
                let errors = stream.matches("provider_").count();
                assert!(errors >= 1, "{which}");
                // What had begun is not called done.
                for done in ["text.done", "\"status\":\"completed\"", "content_block_stop"] {
                    assert!(!stream.contains(done), "{which}");
                }
            }
        }
        let metrics = house.get("/metrics").send().await.unwrap().text().await.unwrap();
        assert!(!metrics.contains("outcome=\"finished\""), "{script}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_none_is_an_error_in_the_surfaces_own_shape() {
    for (script, statuses) in [
        ("status=500", [502, 502]),
        ("status=503&retry_after=7", [503, 529]),
        ("status=429&retry_in_body=7", [429, 429]),
        ("status=401", [502, 502]),
        ("html", [502, 502]),
        ("empty", [502, 502]),
        ("error_200", [502, 502]),
        ("length=9", [502, 502]),
        ("reject=context", [400, 400]),
        ("reject=policy", [400, 400]),
    ] {
        let house = house(&format!("?{script}")).await;
        for surface in SURFACES {
            for model in MODELS {
                if (model, script) == ("m-google", "reject=policy") {
                    // There a refused prompt is an answer with a finish reason.
                    continue;
                }
                let body = surface.body(model, false, json!({}));
                let response = house.post(surface.path(), body).send().await.unwrap();
                let which = format!("{surface:?} {model} {script}");
                let expected = statuses[usize::from(surface == Surface::Messages)];
                let status = response.status();
                let retry_after = header(&response, "retry-after");
                let body = json_of(response).await;
                assert_eq!(status, expected, "{which}: {body}");
                assert!(!surface.error(&body).is_empty(), "{which}");
                if script.contains("retry_after") {
                    assert_eq!(retry_after, "7", "{which}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tool_calls_arrive_whole_on_every_surface_from_every_provider() {
    let house = house("?calls=2").await;
    let schema =
        json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    for surface in SURFACES {
        for model in MODELS {
            for stream in [false, true] {
                let fields = match surface {
                    Surface::Chat => json!({
                        "tools": [{"type": "function", "function": {"name": "weather", "parameters": schema}}],
                        "tool_choice": "required",
                    }),
                    Surface::Responses => json!({
                        "tools": [{"type": "function", "name": "weather", "parameters": schema}],
                        "tool_choice": "required",
                    }),
                    Surface::Messages => json!({
                        "tools": [{"name": "weather", "input_schema": schema}],
                        "tool_choice": {"type": "any"},
                    }),
                };
                let body = surface.body(model, stream, fields);
                let response = house.post(surface.path(), body).send().await.unwrap();
                let text = response.text().await.unwrap();
                let which = format!("{surface:?} {model} {stream}: {text}");
                assert!(text.contains("weather") && text.contains("city"), "{which}");
                assert!(!text.contains("provider_"), "{which}");
                let ends = [
                    "\"tool_calls\"",
                    "\"tool_use\"",
                    "function_call_arguments.done",
                    "\"function_call\"",
                ];
                assert!(ends.iter().any(|end| text.contains(end)), "{which}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_provider_is_shown_its_own_credential_and_path() {
    let house = house("").await;
    for model in MODELS {
        let body = Surface::Chat.body(model, false, json!({}));
        house.post(Surface::Chat.path(), body).send().await.unwrap();
    }
    let seen: Vec<_> = house.upstream.requests().iter().map(|r| r.path.clone()).collect();
    assert_eq!(
        seen,
        [
            "/v1/chat/completions",
            "/v1/chat/completions",
            "/v1/messages",
            "/v1beta/models/up:generateContent",
            "/openai/deployments/up/chat/completions?api-version=2024-10-21",
            "/model/up/converse",
            "/v2/chat",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_translation_loses_is_named_and_counted() {
    let house = house("").await;
    let fields = json!({"seed": 7, "logit_bias": {"1": 2}});
    let body = Surface::Chat.body("m-claude", false, fields);
    let response = house.post(Surface::Chat.path(), body).send().await.unwrap();
    let warnings = header(&response, "x-weighbridge-warnings");
    assert!(warnings.contains("seed") && warnings.contains("logit_bias"), "{warnings}");
    let metrics = house.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("weighbridge_translation_warnings_total"), "{metrics}");

    let body = Surface::Chat.body("m-openai", false, json!({"seed": 7}));
    let response = house.post(Surface::Chat.path(), body).send().await.unwrap();
    assert_eq!(header(&response, "x-weighbridge-warnings"), "");
}

/// Claude, with a source for what it says.
async fn cited(body: String) -> axum::response::Response {
    use axum::response::IntoResponse as _;
    if !body.contains("\"stream\":true") {
        let source = json!({"type": "char_location", "cited_text": "x"});
        let content = json!([{"type": "text", "text": "Hi", "citations": [source]}]);
        let usage = json!({"input_tokens": 3, "output_tokens": 1});
        let message = json!({"id": "m", "type": "message", "role": "assistant", "model": "c",
            "content": content, "stop_reason": "end_turn", "usage": usage});
        return axum::Json(message).into_response();
    }
    let events = [
        json!({"type": "message_start", "message": {"id": "m", "model": "c", "usage": {"input_tokens": 3}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}),
        json!({"type": "content_block_delta", "index": 0,
            "delta": {"type": "citations_delta", "citation": {"cited_text": "x"}}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}),
        json!({"type": "message_stop"}),
    ];
    let stream: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    ([("content-type", "text/event-stream")], stream).into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_answer_loses_is_named_and_counted_too() {
    let root = serve(axum::Router::new().fallback(cited)).await;
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[providers.claude]\ndialect = \"anthropic\"\n\
         base_url = \"{root}\"\napi_key_env = \"TEST_KEY_claude\"\n\
         [models.m-claude]\nprovider = \"claude\"\n"
    );
    let house = House::open_without_classifier(&config).await;
    let lost = "citations_dropped:response.content[0].citations";
    let body = Surface::Chat.body("m-claude", false, json!({}));
    let response = house.post(Surface::Chat.path(), body).send().await.unwrap();
    assert_eq!(header(&response, "x-weighbridge-warnings"), lost);
    let body = Surface::Chat.body("m-claude", true, json!({}));
    let response = house.post(Surface::Chat.path(), body).send().await.unwrap();
    // The whole stream came in one piece, so the head knows of it.
    assert_eq!(header(&response, "x-weighbridge-warnings"), lost);
    assert!(response.text().await.unwrap().ends_with("data: [DONE]\n\n"));
    let metrics = house.get("/metrics").send().await.unwrap().text().await.unwrap();
    let counted = "weighbridge_translation_warnings_total{code=\"citations_dropped\"} 2";
    assert!(metrics.contains(counted), "{metrics}");

    let body = Surface::Messages.body("m-claude", false, json!({}));
    let response = house.post(Surface::Messages.path(), body).send().await.unwrap();
    assert_eq!(header(&response, "x-weighbridge-warnings"), "");
    assert!(response.text().await.unwrap().contains("cited_text"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_protocol_on_both_sides_passes_untouched() {
    let house = house("").await;
    let fields = json!({"metadata": {"user_id": "u"}, "service_tier": "auto", "top_k": 3});
    let body = Surface::Messages.body("m-claude", false, fields);
    let response =
        house.post("/anthropic/v1/messages", body.clone()).header("anthropic-beta", "new-1");
    assert_eq!(response.send().await.unwrap().status(), 200);
    let seen = house.upstream.requests();
    let sent = String::from_utf8(seen[0].body.to_vec()).unwrap();
    assert_eq!(sent, body.replace("\"m-claude\"", "\"up\""));
    assert_eq!(seen[0].header("anthropic-beta"), Some("new-1"));
    assert_eq!(seen[0].header("anthropic-version"), Some("2023-06-01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_state_is_refused_with_its_name_unless_the_provider_is_native() {
    let house = house("").await;
    let body =
        |model| Surface::Responses.body(model, false, json!({"previous_response_id": "resp_1"}));
    let response = house.post("/v1/responses", body("m-claude")).send().await.unwrap();
    assert_eq!(response.status(), 400);
    let answer = json_of(response).await;
    assert!(Surface::Responses.error(&answer).contains("previous_response_id"), "{answer}");
    let native = house.post("/v1/responses", body("m-responder")).send().await.unwrap();
    assert_ne!(native.status(), 502);
    assert_eq!(house.upstream.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_named_and_scored_on_every_surface() {
    let house = house("").await;
    for surface in SURFACES {
        for path in [surface.path().to_owned(), surface.path().replace("/v1", "")] {
            let body = surface.body("auto", false, json!({}));
            let response = house.post(&path, body).send().await.unwrap();
            assert_eq!(response.status(), 200, "{path}");
            assert_eq!(header(&response, "x-weighbridge-policy"), "auto");
            let score: f32 = header(&response, "x-weighbridge-score").parse().unwrap();
            assert!((0.0..=1.0).contains(&score));
        }
    }
    let broken = house.post("/v1/messages", r#"{"model":"auto"}"#).send().await.unwrap();
    assert_eq!(broken.status(), 400);
    let error = Surface::Messages.error(&json_of(broken).await);
    assert!(error.contains("messages"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_completion_is_answered_by_every_kind_of_provider() {
    let house = house("").await;
    for model in MODELS {
        for stream in [false, true] {
            let body = json!({"model": model, "prompt": "What is rain?", "stream": stream});
            let response = house.post("/v1/completions", body.to_string()).send().await.unwrap();
            assert_eq!(response.status(), 200, "{model}");
            let text = response.text().await.unwrap();
            assert!(text.contains("\"text_completion\""), "{model}: {text}");
            if stream {
                assert!(text.ends_with("data: [DONE]\n\n"), "{model}: {text}");
                let said: String = text
                    .split("\n\n")
                    .filter_map(|frame| frame.strip_prefix("data: {"))
                    .map(|rest| serde_json::from_str::<Value>(&format!("{{{rest}")).unwrap())
                    .map(|chunk| chunk["choices"][0]["text"].as_str().unwrap_or("").to_owned())
                    .collect();
                assert_eq!(said, ANSWER, "{model}");
            } else {
                let answer: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(answer["choices"][0]["text"], ANSWER, "{model}");
            }
        }
    }
    let wrong = house.post("/v1/completions", r#"{"model":"auto","prompt":[1,2]}"#).send();
    let wrong = wrong.await.unwrap();
    assert_eq!(wrong.status(), 400);
    assert_eq!(json_of(wrong).await["error"]["param"], "prompt");
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_come_from_every_provider_that_makes_them() {
    let house = house("").await;
    for (model, makes) in [
        ("m-openai", true),
        ("m-google", true),
        ("m-microsoft", true),
        ("m-coherent", true),
        ("m-claude", false),
        ("m-amazon", false),
    ] {
        for format in ["float", "base64"] {
            let body = json!({"model": model, "input": ["red", "blue"], "encoding_format": format});
            let response = house.post("/v1/embeddings", body.to_string()).send().await.unwrap();
            let status = response.status();
            let answer = json_of(response).await;
            if !makes {
                assert_eq!(status, 400, "{model}: {answer}");
                let message = answer["error"]["message"].as_str().unwrap();
                assert!(message.contains("embeddings"), "{message}");
                continue;
            }
            assert_eq!(status, 200, "{model}: {answer}");
            assert_eq!(answer["data"][1]["index"], 1, "{model}");
            let vector = &answer["data"][0]["embedding"];
            assert_eq!(vector.is_string(), format == "base64", "{model}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_counted_by_the_provider_or_estimated_and_said_so() {
    let house = house("?tokens_in=42").await;
    let ask = async |model: &str| {
        let body =
            json!({"model": model, "messages": [{"role": "user", "content": "What is rain?"}]});
        let response = house.post("/v1/messages/count_tokens", body.to_string()).send().await;
        let response = response.unwrap();
        assert_eq!(response.status(), 200, "{model}");
        let warnings = header(&response, "x-weighbridge-warnings");
        (json_of(response).await["input_tokens"].as_u64().unwrap(), warnings)
    };
    assert_eq!(ask("m-claude").await, (42, String::new()));
    let (estimate, said) = ask("m-google").await;
    assert!((2..20).contains(&estimate), "{estimate}");
    assert_eq!(said, "estimated:input_tokens");
}

#[tokio::test(flavor = "multi_thread")]
async fn reasoning_that_another_provider_signed_does_not_reach_a_native_one() {
    let house = house("").await;
    for signature in ["", "weighbridge:gemini:m:abc"] {
        let body = json!({
            "model": "m-claude", "max_tokens": 3000,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "hm", "signature": signature},
                    {"type": "text", "text": "a"},
                ]},
                {"role": "user", "content": "hi"},
            ],
        });
        let response = house.post("/v1/messages", body.to_string()).send().await.unwrap();
        assert_eq!(response.status(), 200, "{signature}");
        assert!(header(&response, "x-weighbridge-warnings").contains("thinking_dropped"));
    }
    let body = json!({
        "model": "m-responder", "store": false, "include": ["reasoning.encrypted_content"],
        "input": [
            {"type": "message", "role": "user", "content": "hi"},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "weighbridge:anthropic:m:abc"},
            {"type": "message", "role": "user", "content": "hi"},
        ],
    });
    let response = house.post("/v1/responses", body.to_string()).send().await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_names_the_request_as_its_headers_do() {
    for (script, stream) in
        [("?status=400", false), ("?status=500", false), ("?error_frame=2", true)]
    {
        let house = house(script).await;
        for model in ["m-claude", "m-openai"] {
            let body = Surface::Messages.body(model, stream, json!({}));
            let request = house.post("/v1/messages", body).header("x-request-id", "req_mine");
            let response = request.send().await.unwrap();
            for name in ["request-id", "x-request-id", "x-weighbridge-request-id"] {
                assert_eq!(header(&response, name), "req_mine", "{model} {script}");
            }
            let upstream = header(&response, "x-upstream-request-id");
            let said = response.text().await.unwrap();
            let error = said.split("event: error\ndata: ").last().unwrap();
            let error: Value = serde_json::from_str(error.trim()).unwrap();
            assert_eq!(error["request_id"], "req_mine", "{model} {script}");
            if (model, script) == ("m-claude", "?status=400") {
                assert!(upstream.starts_with("req_") && upstream != "req_mine", "{upstream}");
            }
        }
    }
}

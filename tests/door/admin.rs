//! The admin API over real sockets: who is let in, what each path does, and that a change is in
//! force when its answer is there.

use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::house::{House, TWO_TIERS, header, json_of};

pub const MASTER: &str = "master-0123456789";
pub const VIEWER: &str = "viewer-0123456789";

/// A house with a ledger and an admin API, its files in a directory of their own.
pub struct Office {
    pub house: House,
    pub dir: TempDir,
    pub client: Client,
}

impl Office {
    pub async fn open() -> Self {
        Self::open_with("[ledger]\n").await
    }

    pub async fn open_with(tables: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("master"), MASTER).unwrap();
        std::fs::write(dir.path().join("viewer"), VIEWER).unwrap();
        let admin = "[admin]\ntoken_file = \"master\"\nviewer_token_file = \"viewer\"\n";
        let config =
            TWO_TIERS.replace("[server]\n", "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n");
        let config = format!("{config}\n{admin}{tables}");
        let house = House::open_from(&config, Some(dir.path().join("w.toml"))).await;
        Self { house, dir, client: Client::new() }
    }

    /// Asks as somebody; an empty token is none.
    async fn ask(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> Response {
        let url = format!("{}{path}", self.house.admin.as_ref().unwrap());
        let mut request = self.client.request(method, url);
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        request.send().await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Value {
        let response = self.ask(VIEWER, Method::GET, path, None).await;
        assert_eq!(response.status(), 200, "{path}");
        json_of(response).await
    }

    /// Asks the master to do something; the answer must have this status. Nothing is null.
    pub async fn order(&self, method: Method, path: &str, body: Value, status: u16) -> Value {
        let body = Some(body).filter(|body| !body.is_null());
        let response = self.ask(MASTER, method, path, body).await;
        let found = response.status();
        let text = response.text().await.unwrap();
        assert_eq!(found, status, "{path}: {text}");
        if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
    }

    async fn make(&self, path: &str, body: Value) -> Value {
        self.order(Method::POST, path, body, 201).await
    }

    /// The status of a request on the public listener with this key.
    async fn call(&self, secret: &Value, model: &str) -> u16 {
        let request = self.house.chat(json!({"model": model, "max_tokens": 10}));
        let response = request.bearer_auth(secret.as_str().unwrap()).send().await.unwrap();
        response.status().as_u16()
    }
}

/// `(code, param)` of an error.
pub fn fault(body: &Value) -> (&str, &str) {
    let text = |name: &str| body["error"][name].as_str().unwrap_or("none");
    assert!(!text("message").is_empty());
    (text("code"), text("param"))
}

#[tokio::test]
async fn only_a_token_opens_and_a_viewers_token_only_reads() {
    let office = Office::open().await;
    for path in ["/health", "/admin/openapi.json"] {
        let response = office.ask("", Method::GET, path, None).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(header(&response, "cache-control"), "no-store");
    }
    for path in ["keys", "teams", "budgets", "usage", "spend", "requests/x", "audit", "config"] {
        let response = office.ask("", Method::GET, &format!("/admin/{path}"), None).await;
        assert_eq!(response.status(), 401, "{path}");
        assert_eq!(header(&response, "www-authenticate"), "Bearer");
        assert_eq!(fault(&json_of(response).await).0, "caller_unauthenticated");
    }
    let wrong = office.ask("viewer-012345678", Method::GET, "/admin/keys", None).await;
    assert_eq!(wrong.status(), 401);
    for (method, path) in [
        (Method::POST, "/admin/keys"),
        (Method::PATCH, "/admin/keys/x"),
        (Method::DELETE, "/admin/keys/x"),
        (Method::POST, "/admin/keys/x/rotate"),
        (Method::POST, "/admin/projects"),
        (Method::PATCH, "/admin/projects/x"),
        (Method::DELETE, "/admin/projects/x"),
        (Method::POST, "/admin/budgets"),
        (Method::PATCH, "/admin/budgets/x"),
        (Method::DELETE, "/admin/budgets/x"),
        (Method::POST, "/admin/reload"),
    ] {
        for (token, status) in [(VIEWER, 403), ("", 401)] {
            let response = office.ask(token, method.clone(), path, Some(json!({}))).await;
            assert_eq!(response.status(), status, "{method} {path}");
        }
    }
    assert_eq!(office.get("/admin/audit").await["data"], json!([]));
    office.house.close().await;
}

#[tokio::test]
async fn ten_wrong_tokens_shut_the_door_for_their_address_alone() {
    let office = Office::open().await;
    let url = format!("{}/admin/keys", office.house.admin.as_ref().unwrap());
    let from = |address: &str, token: &str| {
        office.client.get(&url).bearer_auth(token).header("x-forwarded-for", address).send()
    };
    for _ in 0..10 {
        assert_eq!(from("192.0.2.1", "wrong-0123456789a").await.unwrap().status(), 401);
    }
    let refused = from("192.0.2.1", MASTER).await.unwrap();
    assert_eq!(refused.status(), 429, "even the right token is not listened to");
    let wait: u64 = header(&refused, "retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(fault(&json_of(refused).await).0, "caller_too_many_failures");
    assert_eq!(from("192.0.2.2", MASTER).await.unwrap().status(), 200);
    office.house.close().await;
}

#[tokio::test]
async fn a_key_opens_from_its_making_to_its_end() {
    let office = Office::open().await;
    let made = office.make("/admin/keys", json!({"name": "bot"})).await;
    let (id, first) = (made["id"].as_str().unwrap(), &made["secret"]);
    assert!(first.as_str().unwrap().starts_with(made["prefix"].as_str().unwrap()), "{made}");
    assert_eq!(made["state"], "active");
    assert_eq!(office.call(first, "small").await, 200);

    let path = format!("/admin/keys/{id}");
    let shown = office.get(&path).await;
    assert_eq!((&shown["name"], shown.get("secret")), (&json!("bot"), None));
    assert_eq!(office.get("/admin/keys").await["data"], json!([shown]));

    let change = json!({"name": "robot", "restrictions": {"models": ["large"]}});
    let changed = office.order(Method::PATCH, &path, change, 200).await;
    assert_eq!(changed["name"], "robot");
    assert_eq!((office.call(first, "small").await, office.call(first, "large").await), (403, 200));
    let kept = office.order(Method::PATCH, &path, json!({"name": "bot"}), 200).await;
    assert_eq!(kept["restrictions"]["models"], json!(["large"]));
    office.order(Method::PATCH, &path, json!({"restrictions": {}}), 200).await;

    let rotate = format!("{path}/rotate");
    let graceful = office.order(Method::POST, &rotate, json!({"grace_s": 60}), 200).await;
    assert!(graceful["previous_secret_until"].is_string(), "{graceful}");
    let second = &graceful["secret"];
    assert_eq!((office.call(first, "small").await, office.call(second, "small").await), (200, 200));
    let at_once = office.order(Method::POST, &rotate, json!({"grace_s": 0}), 200).await;
    assert_eq!(office.call(second, "small").await, 401);
    assert_eq!(office.call(&at_once["secret"], "small").await, 200);

    let revoked = office.order(Method::DELETE, &path, Value::Null, 200).await;
    assert_eq!(revoked["state"], "revoked");
    assert_eq!(office.call(&at_once["secret"], "small").await, 401);
    let late = office.order(Method::PATCH, &path, json!({"name": "x"}), 409).await;
    assert_eq!(fault(&late).0, "caller_conflict");

    let log = office.get("/admin/audit?limit=2").await;
    let actions: Vec<_> = log["data"].as_array().unwrap().iter().collect();
    assert_eq!(
        (&actions[0]["action"], &actions[1]["action"]),
        (&json!("revoke"), &json!("rotate"))
    );
    assert_eq!((&actions[0]["actor"], &actions[0]["object"]), (&json!("admin"), &json!(id)));
    let older = office.get(&format!("/admin/audit?before={}", log["next_before"])).await;
    let actions: Vec<_> =
        older["data"].as_array().unwrap().iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(actions, ["rotate", "update", "update", "update", "create"]);
    assert!(!log.to_string().contains(first.as_str().unwrap()));
    office.house.close().await;
}

#[tokio::test]
async fn what_cannot_be_done_is_said_with_its_field() {
    let office = Office::open().await;
    let key = office.make("/admin/keys", json!({"name": "k"})).await;
    let id = key["id"].as_str().unwrap();
    let of_key = json!({"level": "key", "id": id});
    let money = |fields: Value| {
        let mut body = json!({"kind": "budget", "scope": of_key, "unit": "nano_usd",
                              "amount_usd": "1.00", "window": "day"});
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    };
    for (path, body, status, expected) in [
        ("keys", json!({}), 400, ("caller_invalid_request", "name")),
        ("keys", json!({"name": "x", "nmae": 1}), 400, ("caller_invalid_request", "nmae")),
        ("keys", json!({"name": 7}), 400, ("caller_invalid_request", "name")),
        ("keys", json!([]), 400, ("caller_invalid_request", "none")),
        ("keys", json!({"name": ""}), 422, ("caller_invalid_value", "name")),
        ("keys", json!({"name": "a\nb"}), 422, ("caller_invalid_value", "name")),
        ("keys", json!({"name": "a\u{0}b"}), 422, ("caller_invalid_value", "body")),
        ("keys", json!({"name": "k"}), 409, ("caller_name_taken", "name")),
        ("keys", json!({"name": "x", "group": "t"}), 422, ("caller_invalid_value", "group")),
        (
            "keys",
            json!({"name": "x", "restrictions": {"models": ["smal"]}}),
            422,
            ("caller_invalid_value", "restrictions.models"),
        ),
        (
            "keys",
            json!({"name": "x", "restrictions": {"networks": ["10.0.0.0/99"]}}),
            422,
            ("caller_invalid_value", "restrictions.networks"),
        ),
        (
            "keys",
            json!({"name": "x", "expires_at": "2020-01-01T00:00:00Z"}),
            422,
            ("caller_invalid_value", "expires_at"),
        ),
        (
            "organisations",
            json!({"name": "x", "parent": "y"}),
            422,
            ("caller_invalid_value", "parent"),
        ),
        ("budgets", money(json!({"amount": 3})), 422, ("caller_invalid_value", "amount_usd")),
        (
            "budgets",
            money(json!({"amount_usd": "-1"})),
            422,
            ("caller_invalid_value", "amount_usd"),
        ),
        ("budgets", money(json!({"unit": "tokens"})), 422, ("caller_invalid_value", "amount_usd")),
        ("budgets", money(json!({"window": "year"})), 422, ("caller_invalid_value", "window")),
        (
            "budgets",
            money(json!({"time_zone": "Mars"})),
            422,
            ("caller_invalid_value", "time_zone"),
        ),
        (
            "budgets",
            money(json!({"warn_at_percent": [0]})),
            422,
            ("caller_invalid_value", "warn_at_percent"),
        ),
        (
            "budgets",
            money(json!({"scope": {"level": "team", "id": "t"}})),
            422,
            ("caller_invalid_value", "scope.id"),
        ),
        ("budgets", money(json!({"unit": "euro"})), 400, ("caller_invalid_request", "unit")),
    ] {
        let at = format!("/admin/{path}");
        let found = office.order(Method::POST, &at, body.clone(), status).await;
        assert_eq!(fault(&found), expected, "{path} {body}");
    }
    for (path, status, expected) in [
        ("keys/none", 404, ("caller_unknown_record", "none")),
        ("teams/none", 404, ("caller_unknown_record", "none")),
        ("budgets/none", 404, ("caller_unknown_record", "none")),
        ("requests/none", 404, ("caller_unknown_record", "none")),
        ("nowhere", 404, ("caller_unknown_path", "none")),
        ("usage?by=colour", 422, ("caller_invalid_value", "by")),
        ("usage?by=,,,,&by=,,,,", 422, ("caller_invalid_value", "by")),
        ("usage?step=year", 422, ("caller_invalid_value", "step")),
        ("usage?from=soon", 422, ("caller_invalid_value", "from")),
        ("usage?from=2026-02-01&to=2026-01-01", 422, ("caller_invalid_value", "to")),
        ("usage?filter=model", 422, ("caller_invalid_value", "filter")),
        ("usage?colour=red", 400, ("caller_invalid_request", "colour")),
        ("audit?limit=0", 400, ("caller_invalid_request", "limit")),
    ] {
        let found = office.order(Method::GET, &format!("/admin/{path}"), Value::Null, status).await;
        assert_eq!(fault(&found), expected, "{path}");
    }
    let response = office.ask(MASTER, Method::PUT, "/admin/keys", None).await;
    assert_eq!(response.status(), 405);
    assert!(header(&response, "allow").contains("POST"), "{:?}", response.headers());
    office.house.close().await;
}

#[tokio::test]
async fn groups_hold_keys_and_each_other() {
    let office = Office::open().await;
    let org = office.make("/admin/organisations", json!({"name": "acme"})).await;
    let team = json!({"name": "search", "parent": org["id"]});
    let team = office.make("/admin/teams", team).await;
    let project = json!({"name": "web", "parent": team["id"]});
    let project = office.make("/admin/projects", project).await;
    assert_eq!(office.get("/admin/teams").await["data"], json!([team]));
    let path = format!("/admin/projects/{}", project["id"].as_str().unwrap());
    let changed = office.order(Method::PATCH, &path, json!({"parent": org["id"]}), 200).await;
    assert_eq!((&changed["name"], &changed["parent"]), (&json!("web"), &org["id"]));
    let alone = office.order(Method::PATCH, &path, json!({"parent": null}), 200).await;
    assert_eq!(alone["parent"], Value::Null);

    let key = json!({"name": "k", "group": project["id"]});
    office.make("/admin/keys", key).await;
    let used = office.order(Method::DELETE, &path, Value::Null, 409).await;
    assert_eq!(fault(&used).0, "caller_in_use");
    let wrong_level = path.replace("projects", "teams");
    office.order(Method::DELETE, &wrong_level, Value::Null, 404).await;
    let path = format!("/admin/teams/{}", team["id"].as_str().unwrap());
    office.order(Method::DELETE, &path, Value::Null, 204).await;
    assert_eq!(office.get("/admin/teams").await["data"], json!([]));
    office.house.close().await;
}

#[tokio::test]
async fn a_key_is_made_with_its_budgets_or_not_at_all() {
    let office = Office::open().await;
    let day = json!({"kind": "budget", "unit": "nano_usd", "amount": 10, "window": "day"});
    let places = json!({"kind": "limit", "unit": "concurrent", "amount": 4});
    let asked = json!({"name": "k", "budgets": [day, places]});
    let made = office.make("/admin/keys", asked).await;
    assert_eq!(office.call(&made["secret"], "large").await, 402);
    let budgets = office.get("/admin/budgets").await["data"].clone();
    let ids: Vec<_> = budgets.as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
    assert_eq!((json!(ids), ids.len()), (made["budgets"].clone(), 2));
    assert_eq!(budgets[0]["scope"], json!({"level": "key", "id": made["id"]}));

    let endless = json!({"kind": "budget", "unit": "tokens", "amount": 1});
    let asked = json!({"name": "l", "budgets": [day, endless]});
    let said = office.order(Method::POST, "/admin/keys", asked, 422).await;
    assert_eq!(fault(&said), ("caller_invalid_value", "budgets"));
    let text = said["error"]["message"].as_str().unwrap();
    assert!(text.starts_with("`budgets`: `window` is missing"), "{text}");
    let many = json!({"name": "l", "budgets": vec![day; 21]});
    office.order(Method::POST, "/admin/keys", many, 422).await;
    let elsewhere = json!({"kind": "budget", "unit": "tokens", "amount": 1, "window": "day",
        "scope": {"level": "key", "id": made["id"]}});
    let asked = json!({"name": "l", "budgets": [elsewhere]});
    office.order(Method::POST, "/admin/keys", asked, 400).await;
    assert_eq!(office.get("/admin/keys").await["data"].as_array().unwrap().len(), 1);
    assert_eq!(office.get("/admin/budgets").await["data"].as_array().unwrap().len(), 2);
    office.house.close().await;
}

#[tokio::test]
async fn a_raised_budget_serves_at_once_and_says_what_is_left() {
    let office = Office::open().await;
    let key = office.make("/admin/keys", json!({"name": "k"})).await;
    let budget = json!({"kind": "budget", "scope": {"level": "key", "id": key["id"]},
        "unit": "nano_usd", "amount_usd": "0.00000001", "window": "day", "warn_at_percent": [90, 50]});
    let made = office.make("/admin/budgets", budget).await;
    assert_eq!((&made["amount"], &made["amount_usd"]), (&json!(10), &json!("0.00000001")));
    assert_eq!((&made["left"], &made["warn_at_percent"]), (&json!(10), &json!([50, 90])));
    assert_eq!(office.call(&key["secret"], "large").await, 402);

    let path = format!("/admin/budgets/{}", made["id"].as_str().unwrap());
    let raised = office.order(Method::PATCH, &path, json!({"amount_usd": "1"}), 200).await;
    assert_eq!(raised["window"], "day");
    assert_eq!(office.call(&key["secret"], "large").await, 200);
    let shown = office.get(&path).await;
    let number = |name: &str| shown[name].as_i64().unwrap();
    assert!(number("used") > 0 && number("reserved") == 0, "{shown}");
    assert_eq!(number("left"), 1_000_000_000 - number("used"));
    let spend = office.get("/admin/spend?by=key").await;
    assert_eq!(spend["data"][0]["cost_usd"], shown["used_usd"]);

    office.order(Method::PATCH, &path, json!({"amount": 0}), 200).await;
    assert_eq!(office.call(&key["secret"], "large").await, 402);
    office.order(Method::DELETE, &path, Value::Null, 204).await;
    assert_eq!(office.call(&key["secret"], "large").await, 200);
    let places = json!({"kind": "limit", "scope": {"level": "model", "id": "small"},
        "unit": "concurrent", "amount": 4});
    let places = office.make("/admin/budgets", places).await;
    assert_eq!((&places["window"], &places["amount_usd"]), (&Value::Null, &Value::Null));
    assert_eq!(office.get("/admin/budgets").await["data"], json!([places]));
    office.house.close().await;
}

#[tokio::test]
async fn what_was_used_and_spent_is_told_by_dimension_as_json_and_csv() {
    let office = Office::open().await;
    let team = office.make("/admin/teams", json!({"name": "search"})).await;
    let key = office.make("/admin/keys", json!({"name": "k", "group": team["id"]})).await;
    for model in ["small", "small", "large"] {
        assert_eq!(office.call(&key["secret"], model).await, 200);
    }
    let request = office.house.chat(json!({})).bearer_auth(key["secret"].as_str().unwrap());
    let answer = request.send().await.unwrap();
    let decision = header(&answer, "x-weighbridge-decision-id");
    let cost = header(&answer, "x-weighbridge-cost-usd");
    let served = header(&answer, "x-weighbridge-model");

    let by_model = office.get("/admin/usage?by=model&step=day&filter=key=k").await;
    let rows = by_model["data"].as_array().unwrap();
    let requests: u64 = rows.iter().map(|row| row["requests"].as_u64().unwrap()).sum();
    assert_eq!((rows.len(), requests), (2, 4), "{by_model}");
    assert!(rows[0]["start"].as_str().unwrap().ends_with("T00:00:00Z"));
    let team_row = &office.get("/admin/spend?by=team,user").await["data"][0];
    assert_eq!(team_row["by"]["team"], json!({"name": "search", "id": team["id"]}));
    assert_eq!(team_row["by"]["user"], json!({"name": null, "id": null}));

    let url = format!("{}/admin/spend?by=key&by=model", office.house.admin.as_ref().unwrap());
    let csv = office.client.get(url).bearer_auth(VIEWER).header("accept", "text/csv").send();
    let csv = csv.await.unwrap();
    assert_eq!(header(&csv, "content-type"), "text/csv; charset=utf-8");
    let csv = csv.text().await.unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("key,key_id,model,requests,unpriced,"), "{csv}");
    assert!(lines[1].starts_with(&format!("k,{},large,", key["id"].as_str().unwrap())), "{csv}");
    assert_eq!(lines.len(), 3);

    let row = office.get(&format!("/admin/requests/{decision}")).await;
    assert_eq!((&row["id"], &row["cost"]["usd"]), (&json!(decision), &json!(cost)));
    assert_eq!(
        (&row["decision"]["policy"], &row["served"]["model"]),
        (&json!("auto"), &json!(served))
    );
    assert_eq!(row["decision"]["reason"], header(&answer, "x-weighbridge-reason").as_str());
    assert_eq!((&row["caller"]["key_id"], &row["caller"]["team_id"]), (&key["id"], &team["id"]));
    assert_eq!(
        (&row["attempts"][0]["outcome"], &row["outcome"]),
        (&json!("ok"), &json!("finished"))
    );
    office.house.close().await;
}

#[tokio::test]
async fn a_good_file_is_reloaded_and_a_bad_one_changes_nothing() {
    let office = Office::open().await;
    let file = office.dir.path().join("w.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    let config = office.get("/admin/config").await;
    assert_eq!(config["file"], file.display().to_string());
    assert_eq!((&config["problem"], &config["restart_needed"]), (&Value::Null, &json!([])));
    assert_eq!(config["policies"][0]["tiers"][0]["models"], json!(["small"]));
    assert_eq!(config["models"][0]["price_from"], "configuration");
    let base = config["providers"][0]["base_urls"][0].as_str().unwrap();
    assert!(base.starts_with("http://127.0.0.1:") && base.ends_with("/v1/"), "{base}");

    let with_secret = before
        .replace("http://127", "http://user:hidden@127")
        .replace("[models.small]", "[models.tiny]\nprovider = \"local\"\n\n[models.small]");
    std::fs::write(&file, with_secret.replace("[ledger]", "[ledger]\nmax_waiting_rows = 500"))
        .unwrap();
    let done = office.order(Method::POST, "/admin/reload", Value::Null, 200).await;
    assert_eq!((&done["restart_needed"], &done["warnings"]), (&json!(["[ledger]"]), &json!([])));
    let config = office.get("/admin/config").await;
    assert_eq!(config["models"][0]["name"], "tiny");
    assert_eq!(config["restart_needed"], json!(["[ledger]"]));
    assert!(!config.to_string().contains("hidden"), "{config}");
    let models = json_of(office.house.get("/v1/models").send().await.unwrap()).await;
    assert!(models.to_string().contains("tiny"), "{models}");

    let elsewhere = before.replace("\"127.0.0.1:0\"", "\"127.0.0.1:1\"");
    std::fs::write(&file, &elsewhere).unwrap();
    let done = office.order(Method::POST, "/admin/reload", Value::Null, 200).await;
    assert_eq!(done["restart_needed"], json!(["[server] listen"]));

    std::fs::write(&file, before.replace("base_url", "base_ulr")).unwrap();
    let failed = office.order(Method::POST, "/admin/reload", Value::Null, 422).await;
    assert_eq!(fault(&failed).0, "gateway_invalid_configuration");
    let problem = &failed["error"]["problems"][1];
    assert_eq!((&problem["line"], &problem["column"]), (&json!(10), &json!(1)), "{failed}");
    assert_eq!(problem["setting"], "providers.local.base_ulr");
    assert_eq!(problem["help"], "did you mean `base_url`?");
    assert_eq!(office.get("/admin/config").await["models"][0]["name"], "small");
    assert!(office.get("/admin/config").await["problem"].as_str().unwrap().contains("base_ulr"));
    let ready = office.house.get("/ready").send().await.unwrap();
    assert_eq!(ready.status(), 503, "there is no classifier in this house");
    office.house.gateway.scoring_ready(crate::house::queue());
    let ready = json_of(office.house.get("/ready").send().await.unwrap()).await;
    assert!(ready["configuration_error"].as_str().unwrap().contains("base_ulr"), "{ready}");

    std::fs::write(&file, before).unwrap();
    let done = office.order(Method::POST, "/admin/reload", Value::Null, 200).await;
    assert_eq!(done["restart_needed"], json!([]), "as it was at the start");
    office.house.close().await;
}

#[tokio::test]
async fn tokens_change_with_the_configuration() {
    let office = Office::open().await;
    std::fs::write(office.dir.path().join("master"), "another-0123456789").unwrap();
    office.order(Method::POST, "/admin/reload", Value::Null, 200).await;
    assert_eq!(office.ask(MASTER, Method::GET, "/admin/keys", None).await.status(), 401);
    let new = office.ask("another-0123456789", Method::GET, "/admin/keys", None).await;
    assert_eq!(new.status(), 200);
    office.house.close().await;
}

#[tokio::test]
async fn what_the_configuration_owns_is_changed_there() {
    use weighbridge::ledger::{
        store::Actor,
        tenant::{Group, Level, Origin},
    };
    let office = Office::open().await;
    let ledger = office.house.gateway.ledger().unwrap();
    let group = Group {
        id: "team_x".to_owned(),
        level: Level::Team,
        name: "x".to_owned(),
        parent: None,
        created_ms: 0,
        origin: Origin::Configuration,
    };
    let by = Actor { name: "configuration".to_owned(), now_ms: 1 };
    ledger.store().create_group(&by, &group).await.unwrap();
    let key = office.make("/admin/keys", json!({"name": "k"})).await;
    let id = key["id"].as_str().unwrap();
    let own = |key: &mut weighbridge::ledger::tenant::Key| key.origin = Origin::Configuration;
    ledger.store().update_key(&by, id, own).await.unwrap();
    let key = format!("/admin/keys/{id}");
    for (method, path) in [
        (Method::PATCH, "/admin/teams/team_x".to_owned()),
        (Method::DELETE, "/admin/teams/team_x".to_owned()),
        (Method::PATCH, key.clone()),
        (Method::DELETE, key.clone()),
        (Method::POST, format!("{key}/rotate")),
    ] {
        let refused = office.order(method, &path, json!({}), 409).await;
        assert_eq!(fault(&refused).0, "gateway_owned_by_configuration", "{path}");
    }
    assert_eq!(office.get(&key).await["state"], "active");
    office.house.close().await;
}

#[tokio::test]
async fn without_a_ledger_there_is_still_a_configuration() {
    let office = Office::open_with("").await;
    let refused = office.order(Method::GET, "/admin/keys", Value::Null, 404).await;
    assert_eq!(fault(&refused).0, "gateway_no_ledger");
    assert_eq!(office.get("/admin/config").await["providers"][0]["name"], "local");
    office.house.close().await;
}

#[tokio::test]
async fn the_document_has_every_path_with_its_own_operations() {
    let office = Office::open().await;
    let document = office.get("/admin/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    let mut operations: Vec<&str> = paths
        .values()
        .flat_map(|item| item.as_object().unwrap().values())
        .map(|operation| operation["operationId"].as_str().unwrap())
        .collect();
    let count = operations.len();
    operations.sort_unstable();
    operations.dedup();
    assert_eq!((paths.len(), operations.len()), (20, count), "{operations:?}");
    for path in ["/admin/keys/{id}/rotate", "/admin/teams/{id}", "/admin/organisations"] {
        assert!(paths.contains_key(path), "{path}");
    }
    assert_eq!(document["components"]["schemas"]["NewKey"]["additionalProperties"], false);
    office.house.close().await;
}

//! What requests leave behind, and what it adds up to.

use std::collections::HashMap;

use super::super::{
    Dimension, SpentSums, Step, Store, UsageQuery, UsageRow, UsageSums, UsageValue,
};
use super::{actor, full_row, group, key, on_both};
use crate::ledger::{
    row::{Row, Tokens},
    tenant::{Level, Scope},
};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

#[tokio::test]
async fn rows_are_read_back_as_they_were_written_whatever_is_missing() {
    on_both(async |store| {
        // More than a statement takes, with and without each optional value in turn.
        let rows: Vec<Row> = (0..150)
            .map(|at| {
                let mut row = Row { id: format!("r{at}"), ..Row::default() };
                if at % 3 != 0 {
                    row = full_row(&row.id);
                }
                if at % 3 == 1 {
                    (row.score, row.first_content_us, row.user) = (None, None, None);
                }
                row
            })
            .collect();
        store.insert_rows(&rows).await.unwrap();
        for row in &rows {
            assert_eq!(store.row(&row.id).await.unwrap().as_ref(), Some(row));
        }
        assert_eq!(store.row("unknown").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_row_is_written_once_however_often_it_is_sent() {
    on_both(async |store| {
        let row = full_row("r");
        let changed = Row { cost_nano_usd: Some(1), ..row.clone() };
        store.insert_rows(&[]).await.unwrap();
        store.insert_rows(&[row.clone(), changed.clone()]).await.unwrap();
        store.insert_rows(&[changed, full_row("s")]).await.unwrap();
        assert_eq!(store.row("r").await.unwrap(), Some(row));
        let all = store.usage(&UsageQuery::default()).await.unwrap();
        assert_eq!((all[0].sums.requests, all[0].sums.cost_nano_usd), (2, 180_000));
    })
    .await;
}

#[tokio::test]
async fn no_row_is_refused_for_what_it_says() {
    on_both(async |store| {
        let most = u64::MAX;
        let odd = Row {
            user: Some("nul\0".to_owned()),
            tags: vec![
                ("a\0".to_owned(), "\0".to_owned()),
                ("b".to_owned(), "first".to_owned()),
                ("b".to_owned(), "second".to_owned()),
            ],
            score: Some(f32::NAN),
            threshold: Some(f32::INFINITY),
            tokens: Tokens { prompt: most, completion: most, ..Tokens::default() },
            cost_nano_usd: Some(i64::MAX),
            strong_cost_nano_usd: Some(i64::MIN),
            duration_us: most,
            ..full_row("odd")
        };
        let twice = [odd.clone(), Row { id: "odd too".to_owned(), ..odd }];
        store.insert_rows(&twice).await.unwrap();
        let found = store.row("odd").await.unwrap().unwrap();
        assert_eq!(found.user.as_deref(), Some("nul\u{fffd}"));
        assert_eq!(found.tags[0], ("a\u{fffd}".to_owned(), "\u{fffd}".to_owned()));
        assert_eq!(found.tags[1..], [("b".to_owned(), "first".to_owned())]);
        assert_eq!((found.score, found.threshold), (None, None));
        assert_eq!(found.tokens.prompt, (1 << 53) - 1);
        let all = store.usage(&UsageQuery::default()).await.unwrap();
        assert_eq!(all[0].sums.prompt_tokens, 2 * ((1 << 53) - 1));
        let scope = Scope { level: Level::Key, id: "key_1".to_owned() };
        assert_eq!(store.spent(&scope, 0, DAY_MS).await.unwrap()[0].1.requests, 2);
    })
    .await;
}

fn spending(id: usize, time_ms: i64) -> Row {
    Row {
        time_ms,
        tokens: Tokens { prompt: 10, completion: 1, ..Tokens::default() },
        cost_nano_usd: (!id.is_multiple_of(4)).then_some(100),
        key_id: id.is_multiple_of(2).then(|| "key_1".to_owned()),
        ..full_row(&format!("r{id}"))
    }
}

#[tokio::test]
async fn what_a_scope_spent_is_known_by_slot_and_after_its_requests_are_gone() {
    on_both(async |store| {
        // One request every six hours, for 300 days: three batches of deletion.
        let rows: Vec<Row> =
            (0..1_200).map(|at| spending(at, 20_000 * DAY_MS + at as i64 * 6 * HOUR_MS)).collect();
        store.insert_rows(&rows).await.unwrap();
        let key = Scope { level: Level::Key, id: "key_1".to_owned() };
        let since_ms = 20_100 * DAY_MS;
        let hours = store.spent(&key, since_ms + 1, HOUR_MS).await.unwrap();
        let one = SpentSums { requests: 1, tokens: 11, nano_usd: 0 };
        assert_eq!(hours[0], (since_ms + 12 * HOUR_MS, SpentSums { nano_usd: 100, ..one }));
        assert_eq!(hours.len(), 399, "half of the requests are the key's");

        let scopes = [
            (Level::Organisation, "org_1"),
            (Level::Team, "team_1"),
            (Level::Project, "project_1"),
            (Level::Key, "key_1"),
            (Level::Model, "large"),
            (Level::Key, "another"),
        ];
        let scopes = scopes.map(|(level, id)| Scope { level, id: id.to_owned() });
        let mut before = Vec::new();
        for scope in &scopes {
            before.push(store.spent(scope, since_ms, DAY_MS).await.unwrap());
        }
        assert_eq!(before.iter().map(Vec::len).collect::<Vec<_>>(), [200, 200, 200, 200, 200, 0]);
        let cutoff_ms = 20_290 * DAY_MS + 5;
        assert_eq!(store.delete_before(cutoff_ms).await.unwrap(), 290 * 4 + 1);
        assert_eq!(store.delete_before(cutoff_ms).await.unwrap(), 0);
        assert_eq!(store.row("r1160").await.unwrap(), None);
        assert_eq!(store.row("r1161").await.unwrap().unwrap().attempts.len(), 2);
        for (scope, before) in scopes.iter().zip(before) {
            assert_eq!(store.spent(scope, since_ms, DAY_MS).await.unwrap(), before, "{scope}");
        }
        let left = store.usage(&UsageQuery::default()).await.unwrap();
        assert_eq!(left[0].sums.requests, 39);
    })
    .await;
}

#[tokio::test]
async fn usage_shows_names_and_is_filtered_by_them() {
    on_both(async |store| {
        let by = actor();
        store.create_group(&by, &group(Level::Project, "p", None)).await.unwrap();
        store.create_key(&by, &key("key_1", "ci", Some("project_p"))).await.unwrap();
        store.update_key(&by, "key_1", |key| key.revoked_ms = Some(1)).await.unwrap();
        store.create_key(&by, &key("key_2", "ci", Some("project_p"))).await.unwrap();
        let row = |id: &str, key: Option<&str>, cost| Row {
            key_id: key.map(str::to_owned),
            project_id: key.map(|_| "project_p".to_owned()),
            cost_nano_usd: Some(cost),
            ..full_row(id)
        };
        let rows = [
            row("a", Some("key_1"), 1),
            row("b", Some("key_2"), 5),
            row("c", None, 3),
            row("d", Some("key_gone"), 2),
        ];
        store.insert_rows(&rows).await.unwrap();
        let named = |id: &str, name: &str| {
            Some(UsageValue { name: name.to_owned(), id: Some(id.to_owned()) })
        };
        let by_key = UsageQuery { by: vec![Dimension::Key], ..UsageQuery::default() };
        let found = store.usage(&by_key).await.unwrap();
        let shown: Vec<_> =
            found.iter().map(|row| (row.values[0].clone(), row.sums.cost_nano_usd)).collect();
        assert_eq!(
            shown,
            [
                (named("key_2", "ci"), 5),
                (None, 3),
                (named("key_gone", "key_gone"), 2),
                (named("key_1", "ci"), 1)
            ]
        );
        store.update_key(&by, "key_2", |key| key.group = None).await.unwrap();
        store.delete_group(&by, "project_p").await.unwrap();
        for (filters, cost) in [
            (vec![(Dimension::Key, "ci")], 6),
            (vec![(Dimension::Key, "key_1")], 1),
            (vec![(Dimension::Key, "")], 3),
            (vec![(Dimension::Project, "p")], 8),
            (vec![(Dimension::Project, "p"), (Dimension::Key, "key_2")], 5),
            (vec![(Dimension::Tag("a\"b".to_owned()), "1")], 11),
            (vec![(Dimension::Tag("a\"b".to_owned()), "2")], 0),
            (vec![(Dimension::Tag("absent".to_owned()), "")], 11),
            (vec![(Dimension::Model, "' OR 1=1 --")], 0),
        ] {
            let filters = filters.into_iter().map(|(by, value)| (by, value.to_owned())).collect();
            let query = UsageQuery { filters, ..UsageQuery::default() };
            let found = store.usage(&query).await.unwrap();
            let sum: i64 = found.iter().map(|row| row.sums.cost_nano_usd).sum();
            assert_eq!(sum, cost, "{query:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn steps_begin_where_the_calendar_says() {
    on_both(async |store| {
        let times = [
            "2026-03-01T00:00:00Z", // a Sunday
            "2026-02-28T23:59:59.999Z",
            "2026-03-02T05:30:00Z", // a Monday
            "1969-12-31T23:00:00Z",
        ];
        let rows: Vec<Row> = times
            .iter()
            .map(|time| {
                let time: jiff::Timestamp = time.parse().unwrap();
                Row { time_ms: time.as_millisecond(), ..full_row(&time.to_string()) }
            })
            .collect();
        store.insert_rows(&rows[..3]).await.unwrap();
        for (step, starts) in [
            (
                Step::Hour,
                &["2026-02-28T23:00:00Z", "2026-03-01T00:00:00Z", "2026-03-02T05:00:00Z"][..],
            ),
            (Step::Day, &["2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"]),
            (Step::Week, &["2026-02-23T00:00:00Z", "2026-03-02T00:00:00Z"]),
            (Step::Month, &["2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"]),
        ] {
            let query = UsageQuery { step: Some(step), ..UsageQuery::default() };
            let found = store.usage(&query).await.unwrap();
            let found: Vec<_> = found
                .iter()
                .map(|row| jiff::Timestamp::from_millisecond(row.start_ms.unwrap()).unwrap())
                .collect();
            let starts: Vec<jiff::Timestamp> = starts.iter().map(|s| s.parse().unwrap()).collect();
            assert_eq!(found, starts, "{step:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_an_attempt_elsewhere_used_counts_at_its_model() {
    on_both(async |store| {
        // Each has lost 5 and 6 tokens at `small`, for 7 nano-dollars.
        let mut served = full_row("served");
        let last = &mut served.attempts[1];
        (last.provider, last.completion_tokens) = ("openai".to_owned(), 14);
        let other_provider = Row { model: Some("small".to_owned()), ..full_row("other provider") };
        let same = Row { provider: Some("local".to_owned()), ..other_provider.clone() };
        let same = Row { id: "same".to_owned(), ..same };
        let no_estimate = Row { strong_cost_nano_usd: None, ..full_row("no estimate") };
        store.insert_rows(&[served, other_provider, same, no_estimate]).await.unwrap();

        let by = |by: &[Dimension]| UsageQuery { by: by.to_vec(), ..UsageQuery::default() };
        let shown = async |query: &UsageQuery| {
            let rows = store.usage(query).await.unwrap();
            let rows = rows.into_iter().map(|row| {
                let values: Vec<_> =
                    row.values.iter().flatten().map(|value| value.name.clone()).collect();
                let UsageSums { requests, prompt_tokens, cost_nano_usd, saved_nano_usd, .. } =
                    row.sums;
                (values.join(" "), requests, prompt_tokens, cost_nano_usd, saved_nano_usd)
            });
            rows.collect::<Vec<_>>()
        };
        let row = |name: &str, requests, prompt, cost, saved| {
            (name.to_owned(), requests, prompt, cost, saved)
        };
        assert_eq!(
            shown(&by(&[Dimension::Model])).await,
            [row("small", 2, 30, 180_014, 819_993), row("large", 2, 10, 179_986, 410_007),]
        );
        assert_eq!(
            shown(&by(&[Dimension::Provider, Dimension::Model])).await,
            [
                row("openai large", 2, 10, 179_986, 410_007),
                row("local small", 1, 25, 90_021, 409_986),
                row("openai small", 1, 5, 89_993, 410_007),
            ]
        );
        assert_eq!(shown(&by(&[Dimension::Tier])).await, [row("cheap", 4, 40, 360_000, 1_230_000)]);
        let of_small = vec![(Dimension::Model, "small".to_owned())];
        let of_small = UsageQuery { filters: of_small, ..UsageQuery::default() };
        assert_eq!(shown(&of_small).await, [row("", 2, 30, 180_014, 819_993)]);
    })
    .await;
}

/// Random numbers that are the same in every run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        // Knuth's MMIX generator; its upper bits are good enough for a choice.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn word(&mut self, words: &[&str]) -> Option<String> {
        let at = self.below(words.len() as u64 + 1) as usize;
        words.get(at).map(|word| (*word).to_owned())
    }

    fn row(&mut self, id: usize) -> Row {
        let word = |draw: &mut Self| draw.word(&["a", "b", "c"]);
        let sure = |draw: &mut Self| word(draw).unwrap_or_default();
        let amount =
            |draw: &mut Self| (draw.below(4) > 0).then(|| draw.below(1 << 40) as i64 - (1 << 20));
        Row {
            id: format!("r{id}"),
            time_ms: 1_760_000_000_000 + self.below(90 * DAY_MS as u64) as i64,
            key_id: word(self),
            project_id: word(self),
            team_id: word(self),
            organisation_id: word(self),
            user: word(self),
            tags: word(self).map(|value| ("t".to_owned(), value)).into_iter().collect(),
            surface: sure(self),
            policy: word(self),
            tier: word(self),
            decided_model: word(self),
            model: word(self),
            provider: word(self),
            reason: sure(self),
            tokens: Tokens {
                prompt: self.below(1 << 33),
                completion: self.below(100),
                cached: self.below(100),
                cache_write: self.below(100),
                reasoning: self.below(100),
                ..Tokens::default()
            },
            usage_estimated: self.below(2) == 0,
            cost_nano_usd: amount(self),
            provider_cost_nano_usd: amount(self),
            strong_cost_nano_usd: amount(self),
            outcome: self.word(&["finished"]).unwrap_or_default(),
            ..Row::default()
        }
    }
}

/// What the rows add up to, without the database.
fn sums<'r>(rows: impl IntoIterator<Item = &'r Row>) -> UsageSums {
    let mut sums = UsageSums::default();
    for row in rows {
        let saved = row.strong_cost_nano_usd.zip(row.cost_nano_usd);
        sums.add(&UsageSums {
            requests: 1,
            failed: u64::from(row.outcome != "finished"),
            estimated: u64::from(row.usage_estimated),
            unpriced: u64::from(row.cost_nano_usd.is_none()),
            prompt_tokens: row.tokens.prompt,
            completion_tokens: row.tokens.completion,
            cached_tokens: row.tokens.cached,
            cache_write_tokens: row.tokens.cache_write,
            reasoning_tokens: row.tokens.reasoning,
            cost_nano_usd: row.cost_nano_usd.unwrap_or(0),
            provider_cost_nano_usd: row.provider_cost_nano_usd.unwrap_or(0),
            strong_cost_nano_usd: row.strong_cost_nano_usd.unwrap_or(0),
            saved_nano_usd: saved.map_or(0, |(strong, cost)| strong - cost),
        });
    }
    sums
}

fn total(rows: &[UsageRow]) -> UsageSums {
    let mut total = UsageSums::default();
    for row in rows {
        total.add(&row.sums);
    }
    total
}

#[tokio::test]
async fn sums_by_any_dimension_and_step_are_the_sums_over_all_rows() {
    on_both(async |store| {
        let mut draw = Draw(7);
        let rows: Vec<Row> = (0..700).map(|at| draw.row(at)).collect();
        store.insert_rows(&rows).await.unwrap();
        let all = sums(&rows);
        let dimension = |name: &str| Dimension::from_name(&name.replace("NAME", "t")).unwrap();
        for (at, name) in Dimension::NAMES.iter().enumerate() {
            let second = Dimension::NAMES[(at + 5) % Dimension::NAMES.len()];
            for step in
                [None, Some(Step::Hour), Some(Step::Day), Some(Step::Week), Some(Step::Month)]
            {
                let by = vec![dimension(name), dimension(second)];
                let query = UsageQuery { by, step, ..UsageQuery::default() };
                let found = store.usage(&query).await.unwrap();
                assert_eq!(total(&found), all, "{query:?}");
            }
            check_parts(&store, &rows, dimension(name)).await;
        }
    })
    .await;
}

/// The rows of each value, and of each half of the time, add up to what a filter finds.
async fn check_parts(store: &Store, rows: &[Row], dimension: Dimension) {
    let value = |row: &Row| match &dimension {
        Dimension::Key => row.key_id.clone(),
        Dimension::Project => row.project_id.clone(),
        Dimension::Team => row.team_id.clone(),
        Dimension::Organisation => row.organisation_id.clone(),
        Dimension::User => row.user.clone(),
        Dimension::Tag(_) => row.tags.first().map(|(_, value)| value.clone()),
        Dimension::Model => row.model.clone(),
        Dimension::DecidedModel => row.decided_model.clone(),
        Dimension::Provider => row.provider.clone(),
        Dimension::Tier => row.tier.clone(),
        Dimension::Policy => row.policy.clone(),
        Dimension::Surface => Some(row.surface.clone()),
        Dimension::Outcome => Some(row.outcome.clone()),
        Dimension::Reason => Some(row.reason.clone()),
    };
    let mut parts: HashMap<Option<String>, Vec<&Row>> = HashMap::new();
    for row in rows {
        parts.entry(value(row)).or_default().push(row);
    }
    let half_ms = 1_760_000_000_000 + 45 * DAY_MS;
    for (value, rows) in parts {
        // An empty text is kept as it is, but as a filter it means a missing value.
        if value.as_deref() == Some("") {
            continue;
        }
        let mut query = UsageQuery {
            by: vec![dimension.clone()],
            filters: vec![(dimension.clone(), value.clone().unwrap_or_default())],
            ..UsageQuery::default()
        };
        let found = store.usage(&query).await.unwrap();
        assert_eq!(found.len(), 1, "{query:?}");
        assert_eq!(found[0].values[0].as_ref().map(|value| value.name.clone()), value);
        assert_eq!(found[0].sums, sums(rows.iter().copied()), "{query:?}");
        query.from_ms = Some(half_ms);
        let late = total(&store.usage(&query).await.unwrap());
        (query.from_ms, query.to_ms) = (None, Some(half_ms));
        let early = total(&store.usage(&query).await.unwrap());
        assert_eq!(late.requests + early.requests, rows.len() as u64);
        assert_eq!(early, sums(rows.into_iter().filter(|row| row.time_ms < half_ms)));
    }
}

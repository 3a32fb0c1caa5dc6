//! Property: no interleaving overspends; and the rules one by one.

use proptest::prelude::*;

use super::*;
use crate::ledger::budget::Period;

fn scope(level: Level, id: &str) -> Scope {
    Scope { level, id: id.to_owned() }
}

fn budget(id: &str, scope: Scope, unit: Unit, amount: i64) -> Budget {
    let day = Window::Civil(Period::Day);
    Budget { id: id.to_owned(), ..Budget::new(Kind::Budget, scope, (unit, amount), day, 0) }
}

fn meters(budgets: &[Budget]) -> Meters {
    let mut meters = Meters::default();
    meters.replace(budgets, &|_| TimeZone::UTC, 0);
    meters
}

fn exactly(nano_usd: i64) -> Demand {
    let amounts = Amounts { nano_usd, tokens: 0 };
    Demand { wanted: amounts, least: amounts }
}

#[test]
fn all_levels_are_reserved_or_none() {
    let (team, key) = (scope(Level::Team, "t"), scope(Level::Key, "k"));
    let scopes = [team.clone(), key.clone()];
    let mut meters =
        meters(&[budget("team", team, Unit::NanoUsd, 100), budget("key", key, Unit::NanoUsd, 10)]);
    let (mut first, mut second) = (Grant::default(), Grant::default());
    meters.reserve(&mut first, &scopes, &[], &exactly(8), 0).unwrap();
    let refusal = meters.reserve(&mut second, &scopes, &[], &exactly(8), 0).unwrap_err();
    assert_eq!((refusal.budget.id.as_str(), refusal.left), ("key", 2));
    assert_eq!(meters.state("team", 0), Some((0, 8)), "nothing of the second is held");
    let used = Amounts { nano_usd: 3, tokens: 0 };
    meters.settle(&mut first, &scopes, &[], used, 0, 0);
    assert_eq!((meters.state("team", 0), meters.state("key", 0)), (Some((3, 0)), Some((3, 0))));
    meters.reserve(&mut second, &scopes, &[], &exactly(7), 0).unwrap();
}

#[test]
fn a_request_without_a_bound_takes_what_is_left_and_nobody_else_gets_any() {
    let key = [scope(Level::Key, "k")];
    let mut meters = meters(&[budget("b", key[0].clone(), Unit::NanoUsd, 10)]);
    let open = Demand {
        wanted: Amounts { nano_usd: 1_000, tokens: 0 },
        least: Amounts { nano_usd: 2, tokens: 0 },
    };
    let (mut first, mut second) = (Grant::default(), Grant::default());
    meters.reserve(&mut first, &key, &[], &open, 0).unwrap();
    assert_eq!(meters.state("b", 0), Some((0, 10)));
    let refusal = meters.reserve(&mut second, &key, &[], &open, 0).unwrap_err();
    assert_eq!(refusal.retry_after_ms, Some(1_000), "the reservation may come back unused");
    meters.settle(&mut first, &key, &[], Amounts { nano_usd: 9, tokens: 0 }, 0, 0);
    let refusal = meters.reserve(&mut second, &key, &[], &open, 0).unwrap_err();
    assert_eq!(refusal.left, 1, "and 2 are needed");
    assert_eq!(refusal.retry_after_ms, Some(24 * 60 * 60 * 1_000), "nothing comes back today");
}

#[test]
fn a_fallback_takes_the_place_of_what_it_falls_back_from() {
    let key = [scope(Level::Key, "k")];
    let mut meters = meters(&[
        budget("b", key[0].clone(), Unit::NanoUsd, 10),
        budget("r", key[0].clone(), Unit::Requests, 1),
    ]);
    let mut grant = Grant::default();
    meters.reserve(&mut grant, &key, &[], &exactly(9), 0).unwrap();
    meters.reserve(&mut grant, &key, &[], &exactly(6), 0).unwrap();
    assert_eq!((meters.state("b", 0), meters.state("r", 0)), (Some((0, 6)), Some((0, 1))));
}

#[test]
fn places_at_the_same_time_come_back_and_a_soft_budget_only_warns() {
    let key = [scope(Level::Key, "k")];
    let soft = Budget {
        hard: false,
        warn_at_percent: vec![50, 100],
        ..budget("s", key[0].clone(), Unit::NanoUsd, 10)
    };
    let mut meters = meters(&[budget("c", key[0].clone(), Unit::Concurrent, 1), soft]);
    let (mut first, mut second) = (Grant::default(), Grant::default());
    meters.reserve(&mut first, &key, &[], &exactly(50), 0).unwrap();
    assert!(meters.reserve(&mut second, &key, &[], &exactly(1), 0).is_err());
    let percent = |warnings: Vec<Warning>| warnings.iter().map(|w| w.percent).collect::<Vec<_>>();
    let used = |nano_usd| Amounts { nano_usd, tokens: 0 };
    assert_eq!(percent(meters.settle(&mut first, &key, &[], used(6), 0, 0)), [50]);
    meters.reserve(&mut second, &key, &[], &exactly(1), 0).unwrap();
    assert_eq!(percent(meters.settle(&mut second, &key, &[], used(1), 0, 0)), [0_u8; 0]);
    assert_eq!(percent(meters.settle(&mut first, &key, &[], used(20), 0, 0)), [100]);
    let tomorrow = 24 * 60 * 60 * 1_000;
    assert_eq!(percent(meters.settle(&mut first, &key, &[], used(5), tomorrow, tomorrow)), [50]);
}

#[test]
fn a_changed_amount_keeps_what_was_counted_and_a_changed_window_counts_anew() {
    let key = [scope(Level::Key, "k")];
    let old = budget("b", key[0].clone(), Unit::NanoUsd, 10);
    let mut meters = meters(std::slice::from_ref(&old));
    let mut grant = Grant::default();
    meters.reserve(&mut grant, &key, &[], &exactly(4), 0).unwrap();
    meters.settle(&mut grant, &key, &[], Amounts { nano_usd: 4, tokens: 0 }, 0, 0);
    let raised = Budget { amount: 20, ..old.clone() };
    assert!(meters.replace(&[raised], &|_| TimeZone::UTC, 0).is_empty());
    assert_eq!(meters.state("b", 0), Some((4, 0)));
    let monthly = Budget { window: Window::Civil(Period::Month), ..old };
    assert_eq!(meters.replace(&[monthly], &|_| TimeZone::UTC, 0), ["b"]);
    assert_eq!(meters.state("b", 0), Some((0, 0)));
    assert!(meters.replace(&[], &|_| TimeZone::UTC, 0).is_empty());
    assert_eq!(meters.state("b", 0), None);
}

#[test]
fn a_greedy_key_leaves_a_refused_one_its_part_of_the_teams_limit() {
    let team = scope(Level::Team, "t");
    let limit = Budget { kind: Kind::Limit, ..budget("l", team.clone(), Unit::Requests, 10) };
    let mut meters = meters(&[limit]);
    let of = |key: &str| [team.clone(), scope(Level::Key, key)];
    let day = 24 * 60 * 60 * 1_000;
    let mut ask = |key: &str, now_ms: i64| {
        let mut grant = Grant::default();
        meters.reserve(&mut grant, &of(key), &[], &exactly(0), now_ms)?;
        meters.settle(&mut grant, &of(key), &[], Amounts::default(), now_ms, now_ms);
        Ok::<_, Box<Refusal>>(())
    };
    for _ in 0..10 {
        ask("greedy", 0).unwrap();
    }
    let refusal = ask("late", 0).unwrap_err();
    assert_eq!((refusal.kept, refusal.retry_after_ms), (0, Some(day)));
    // The next day five are late's, whoever comes first.
    let served = (0..10).filter(|_| ask("greedy", day).is_ok()).count();
    assert_eq!(served, 5);
    let refusal = ask("greedy", day).unwrap_err();
    assert_eq!((refusal.left, refusal.kept), (0, 5));
    assert!(refusal.to_string().contains("5 requests kept for others"), "{refusal}");
    let back_in = refusal.retry_after_ms.unwrap();
    assert!((1..day).contains(&back_in), "not the whole day: {back_in}");
    for _ in 0..3 {
        ask("late", day).unwrap();
    }
    // It asks no more: what was kept is open to all.
    let served = (0..10).filter(|_| ask("greedy", day + back_in).is_ok()).count();
    assert_eq!(served, 2);
}

#[test]
fn what_is_reserved_elsewhere_counts_here_and_keeps_a_refused_keys_part() {
    let team = scope(Level::Team, "t");
    let limit = Budget { kind: Kind::Limit, ..budget("l", team.clone(), Unit::Requests, 12) };
    let mut meters = meters(&[limit]);
    let (greedy, late) =
        ([team.clone(), scope(Level::Key, "greedy")], [team.clone(), scope(Level::Key, "late")]);
    let mut grant = Grant::default();
    meters.reserved_elsewhere(&mut grant, &greedy, &[], [1]);
    assert_eq!(meters.state("l", 0), Some((0, 1)));
    meters.refused_elsewhere("l", &late, 3, Some(1_000), 0);
    // Half of the twelve; each of three gateways has seen a third of what each key has.
    assert_eq!(meters.views(&greedy, &[], 3, 0)[0].kept, 6);
    assert_eq!(meters.views(&late, &[], 3, 0)[0].kept, 0);
    meters.release(&mut grant);
    assert_eq!(meters.state("l", 0), Some((0, 0)));
    assert!(meters.recount(&|_| TimeZone::UTC, 0) == ["l"]);
}

proptest! {
    /// Requests come, fall back and end in any order; each uses at most what it reserved.
    #[test]
    fn no_interleaving_overspends_a_hard_budget(
        caps in prop::collection::vec(1_i64..200, 3),
        steps in prop::collection::vec((0_usize..8, 0_u8..3, 0_i64..60, 0_i64..100), 1..200),
    ) {
        let scopes = [scope(Level::Team, "t"), scope(Level::Project, "p"), scope(Level::Key, "k")];
        let budgets: Vec<_> = scopes
            .iter()
            .zip(&caps)
            .map(|(scope, cap)| budget(&scope.id, scope.clone(), Unit::NanoUsd, *cap))
            .collect();
        let mut meters = meters(&budgets);
        let mut open: Vec<Option<(Grant, i64)>> = (0..8).map(|_| None).collect();
        let mut spent = 0;
        for (slot, action, amount, share) in steps {
            match (open[slot].take(), action) {
                (None, _) => {
                    let mut grant = Grant::default();
                    if meters.reserve(&mut grant, &scopes, &[], &exactly(amount), 0).is_ok() {
                        open[slot] = Some((grant, amount));
                    }
                }
                (Some((mut grant, _)), 0) => {
                    if meters.reserve(&mut grant, &scopes, &[], &exactly(amount), 0).is_ok() {
                        open[slot] = Some((grant, amount));
                    }
                }
                (Some((mut grant, held)), 1) => {
                    let used = held * share / 100;
                    spent += used;
                    let used = Amounts { nano_usd: used, tokens: 0 };
                    meters.settle(&mut grant, &scopes, &[], used, 0, 0);
                }
                (Some((mut grant, _)), _) => meters.release(&mut grant),
            }
            let held: i64 = open.iter().flatten().map(|(_, held)| held).sum();
            for (scope, cap) in scopes.iter().zip(&caps) {
                prop_assert_eq!(meters.state(&scope.id, 0), Some((spent, held)));
                prop_assert!(spent + held <= *cap);
            }
        }
    }
}

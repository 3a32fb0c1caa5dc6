//! Fairness under a limit that several keys share.
//!
//! Who comes first is served first, until a key is refused that has had less than its part: the
//! limit divided by the keys that use it. From then until it has had time to come back, the rest of
//! its part is kept for it (max-min fairness: Bertsekas and Gallager, "Data Networks", 6.5.2). Where
//! nobody is refused nothing is kept, so one key alone may use the whole limit.

use std::{collections::HashMap, sync::Arc};

/// How long beyond the answer's own advice a refused key may take to come back before its part is
/// open to all again (chosen: the SDKs' first two pauses).
pub(super) const COME_BACK_MS: i64 = 3_000;
/// Keys that are told apart under one limit (chosen: under 200 KB); the others are served as they
/// come.
const MAX_KEYS: usize = 1_024;

/// Who has had how much of one limit's current window.
#[derive(Debug, Clone, Default)]
pub(super) struct Fair {
    window_ms: i64,
    parts: HashMap<Arc<str>, Part>,
    /// Until when at least one key may be waiting.
    waiting_until_ms: i64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Part {
    used: i64,
    reserved: i64,
    /// Until when the rest of its part is kept.
    waits_until_ms: i64,
}

impl Part {
    fn has(&self) -> i64 {
        self.used.saturating_add(self.reserved)
    }

    fn waits(&self, now_ms: i64) -> bool {
        self.waits_until_ms > now_ms
    }
}

impl Fair {
    /// Forgets what was used in a window that has passed, and where there is no more room the keys
    /// that use nothing. A window before this one, of a request that has ended late, changes nothing.
    pub fn advance(&mut self, window_ms: i64, now_ms: i64) {
        if window_ms <= self.window_ms {
            if self.parts.len() >= MAX_KEYS {
                self.parts.retain(|_, part| part.has() > 0 || part.waits(now_ms));
            }
            return;
        }
        self.window_ms = window_ms;
        self.parts.retain(|_, part| part.reserved > 0 || part.waits(now_ms));
        for part in self.parts.values_mut() {
            part.used = 0;
        }
    }

    /// What of `amount` the caller has to leave to others, and until when at most. Each of
    /// `gateways` that count together sees about the same share of every key's use.
    pub fn kept(&self, caller: &str, amount: i64, gateways: i64, now_ms: i64) -> (i64, i64) {
        if self.waiting_until_ms <= now_ms {
            return (0, now_ms);
        }
        let fair = self.fair_part(caller, amount, now_ms);
        let others = self.parts.iter().filter(|(key, _)| key.as_ref() != caller);
        let waiting = others.map(|(_, part)| part).filter(|part| part.waits(now_ms));
        waiting.fold((0, now_ms), |(kept, until), part| {
            let rest = fair.saturating_sub(part.has().saturating_mul(gateways)).max(0);
            (kept + rest, if rest > 0 { until.max(part.waits_until_ms) } else { until })
        })
    }

    fn fair_part(&self, caller: &str, amount: i64, now_ms: i64) -> i64 {
        let others = self
            .parts
            .iter()
            .filter(|(key, part)| key.as_ref() != caller && (part.has() > 0 || part.waits(now_ms)));
        amount / i64::try_from(others.count() + 1).unwrap_or(i64::MAX)
    }

    /// A caller was refused, and told to come back in so many milliseconds.
    pub fn refused(
        &mut self,
        caller: &str,
        amount: i64,
        gateways: i64,
        back_in_ms: i64,
        now_ms: i64,
    ) {
        let fair = self.fair_part(caller, amount, now_ms);
        let until = now_ms.saturating_add(back_in_ms).saturating_add(COME_BACK_MS);
        let Some(part) = self.part(caller) else { return };
        if part.has().saturating_mul(gateways) < fair {
            part.waits_until_ms = until;
            self.waiting_until_ms = self.waiting_until_ms.max(until);
        }
    }

    /// Counts what is reserved for a caller; less than nothing is given back.
    pub fn reserve(&mut self, caller: &str, amount: i64) {
        if let Some(part) = self.part(caller) {
            part.reserved = part.reserved.saturating_add(amount).max(0);
        }
    }

    /// Counts what a caller has used.
    pub fn used(&mut self, caller: &str, amount: i64) {
        if let Some(part) = self.part(caller) {
            part.used = part.used.saturating_add(amount);
        }
    }

    fn part(&mut self, caller: &str) -> Option<&mut Part> {
        if !self.parts.contains_key(caller) {
            if self.parts.len() >= MAX_KEYS {
                return None;
            }
            self.parts.insert(caller.into(), Part::default());
        }
        self.parts.get_mut(caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_until_a_key_is_refused_that_had_less_than_its_part() {
        let mut fair = Fair::default();
        fair.used("greedy", 10);
        assert_eq!(fair.kept("greedy", 10, 1, 0), (0, 0));
        fair.refused("greedy", 10, 1, 1_000, 0);
        assert_eq!(fair.kept("late", 10, 1, 0).0, 0, "it has had the whole of it");
        fair.refused("late", 10, 1, 1_000, 0);
        let until = 1_000 + COME_BACK_MS;
        assert_eq!(fair.kept("greedy", 10, 1, 500), (5, until));
        assert_eq!(fair.kept("late", 10, 1, 500).0, 0, "it is its own part");
        // The next window: half of it is kept until it is used, or nobody comes.
        fair.advance(1_000, 1_000);
        assert_eq!(fair.kept("greedy", 10, 1, 1_000), (5, until));
        fair.reserve("late", 2);
        assert_eq!(fair.kept("greedy", 10, 1, 1_000), (3, until));
        fair.used("late", 4);
        assert_eq!(fair.kept("greedy", 10, 1, 1_000).0, 0);
        assert_eq!(fair.kept("third", 9, 1, until).0, 0, "it has not come back");
        fair.advance(0, 1_000);
        assert_eq!(
            fair.kept("greedy", 12, 1, 1_000).0,
            0,
            "late's six of twelve are not forgotten"
        );
    }

    #[test]
    fn gateways_that_count_together_see_a_part_of_each_keys_use() {
        let mut fair = Fair::default();
        fair.used("greedy", 3);
        fair.refused("late", 12, 3, 0, 0);
        fair.used("late", 1);
        // Six are late's; of the others' gateways it has had as many as here.
        assert_eq!(fair.kept("greedy", 12, 3, 0).0, 3);
    }

    #[test]
    fn the_keys_that_are_told_apart_stay_bounded() {
        let mut fair = Fair::default();
        for number in 0..3 * MAX_KEYS {
            fair.used(&number.to_string(), 1);
        }
        assert_eq!(fair.parts.len(), MAX_KEYS);
        fair.advance(0, 0);
        assert_eq!(fair.parts.len(), MAX_KEYS, "all of them use it");
        fair.advance(1, 1);
        assert!(fair.parts.is_empty());
        // Places at the same time have no window that passes.
        for number in 0..3 * MAX_KEYS {
            fair.advance(1, 1);
            fair.reserve(&number.to_string(), 1);
            fair.reserve(&number.to_string(), -1);
        }
        fair.advance(1, 1);
        fair.reserve("late", 1);
        assert!(fair.parts.contains_key("late"));
    }
}

//! What was used in a window of time: civil, rolling or for ever.
//!
//! No clock: the moment is passed in, in milliseconds since 1970.

use std::collections::VecDeque;

use jiff::{
    Timestamp, ToSpan as _,
    civil::{Date, Weekday},
    tz::TimeZone,
};

use super::budget::{Period, Window};

/// Slots that a rolling window is counted in: it forgets what is older than its length and at
/// most one slot more.
pub const SLOTS: i64 = 60;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
/// Longer than every civil window.
const LONGEST_MS: i64 = 32 * DAY_MS;
/// Shortest slot.
const MIN_SLOT_MS: i64 = 1_000;

/// Reads a time with its offset (RFC 3339), or a date: its first moment in the zone.
pub fn time_or_date(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    // `Date` would take a time without an offset as well, and drop it.
    let date: Date = (text.len() == "2026-01-31".len()).then(|| text.parse().ok()).flatten()?;
    Some(date.to_zoned(zone.clone()).ok()?.timestamp())
}

/// What was used in the current window.
#[derive(Debug, Clone)]
pub struct Used {
    window: Window,
    zone: TimeZone,
    /// `(start, amount)` of each slot, oldest first; one slot unless the window rolls.
    slots: VecDeque<(i64, i64)>,
    sum: i64,
    /// When the current civil window ends.
    end_ms: i64,
}

impl Used {
    /// Nothing used yet.
    pub fn new(window: Window, zone: TimeZone, now_ms: i64) -> Self {
        let mut used = Self { window, zone, slots: VecDeque::new(), sum: 0, end_ms: i64::MAX };
        used.advance(now_ms);
        used
    }

    /// Forgets what the window has left behind.
    pub fn advance(&mut self, now_ms: i64) {
        match self.window {
            Window::Total => {
                if self.slots.is_empty() {
                    self.slots.push_back((i64::MIN, 0));
                }
            }
            Window::Civil(period) => {
                if self.slots.is_empty() || now_ms >= self.end_ms {
                    let (start, end) = bounds(period, &self.zone, now_ms);
                    self.slots.clear();
                    self.slots.push_back((start, 0));
                    (self.sum, self.end_ms) = (0, end);
                }
            }
            Window::Rolling(_) => {
                let since = now_ms - self.length_ms();
                let slot = slot_ms(self.window);
                while let Some((start, amount)) = self.slots.front().copied() {
                    if start + slot > since {
                        break;
                    }
                    self.slots.pop_front();
                    self.sum -= amount;
                }
            }
        }
    }

    /// Adds what was used at a moment. What belongs to a window that has passed is not counted.
    pub fn add(&mut self, at_ms: i64, amount: i64, now_ms: i64) {
        self.advance(now_ms);
        if at_ms < self.start_ms(now_ms) {
            return;
        }
        self.sum = self.sum.saturating_add(amount);
        let start = match self.window {
            Window::Rolling(_) => {
                let slot = slot_ms(self.window);
                at_ms.div_euclid(slot) * slot
            }
            Window::Civil(_) | Window::Total => {
                if let Some((_, total)) = self.slots.back_mut() {
                    *total = total.saturating_add(amount);
                }
                return;
            }
        };
        let place = self.slots.partition_point(|(known, _)| *known < start);
        match self.slots.get_mut(place) {
            Some((known, total)) if *known == start => *total = total.saturating_add(amount),
            _ => self.slots.insert(place, (start, amount)),
        }
    }

    /// What was used, after [`Self::advance`].
    pub fn sum(&self) -> i64 {
        self.sum
    }

    /// From when on use counts at this moment.
    pub fn start_ms(&self, now_ms: i64) -> i64 {
        match self.window {
            Window::Total => i64::MIN,
            Window::Civil(_) => self.slots.front().map_or(now_ms, |(start, _)| *start),
            Window::Rolling(_) => now_ms - self.length_ms(),
        }
    }

    /// Milliseconds until at least `amount` of what was used is forgotten; `None` when that never
    /// happens, or when nothing that could be forgotten is left.
    pub fn frees_in_ms(&self, amount: i64, now_ms: i64) -> Option<i64> {
        match self.window {
            Window::Total => None,
            Window::Civil(_) => Some((self.end_ms - now_ms).max(0)),
            Window::Rolling(_) => {
                let mut freed = 0;
                let passes =
                    |start: i64| (start + slot_ms(self.window) + self.length_ms() - now_ms).max(0);
                for (start, used) in &self.slots {
                    freed += used;
                    if freed >= amount {
                        return Some(passes(*start));
                    }
                }
                self.slots.back().map(|(start, _)| passes(*start))
            }
        }
    }

    /// The first slot that counts at a moment, the moment's own slot, and after how many
    /// milliseconds none of them counts any more (0: never).
    pub fn slots_at(&self, window: Window, at_ms: i64) -> (i64, i64, i64) {
        match window {
            Window::Total => (0, 0, 0),
            Window::Civil(_) => {
                let start = self.start_ms(at_ms);
                (start, start, (self.end_ms.saturating_sub(at_ms)).clamp(0, LONGEST_MS) + DAY_MS)
            }
            Window::Rolling(_) => {
                let slot = slot_ms(window);
                let since = (at_ms - self.length_ms() - slot).div_euclid(slot) * slot + slot;
                (since, at_ms.div_euclid(slot) * slot, self.length_ms() + slot + DAY_MS)
            }
        }
    }

    fn length_ms(&self) -> i64 {
        match self.window {
            Window::Rolling(seconds) => i64::from(seconds) * 1_000,
            Window::Civil(_) | Window::Total => 0,
        }
    }
}

/// The length of a slot in milliseconds; of a window that does not roll, as if it were one slot.
pub fn slot_ms(window: Window) -> i64 {
    match window {
        Window::Rolling(seconds) => (i64::from(seconds) * 1_000 / SLOTS).max(MIN_SLOT_MS),
        Window::Civil(_) | Window::Total => i64::MAX,
    }
}

/// Start and end of the civil window that holds a moment. Where the clocks change, a day has 23
/// or 25 hours.
fn bounds(period: Period, zone: &TimeZone, now_ms: i64) -> (i64, i64) {
    civil_bounds(period, zone, now_ms).unwrap_or((now_ms, i64::MAX))
}

fn civil_bounds(period: Period, zone: &TimeZone, now_ms: i64) -> Option<(i64, i64)> {
    let moment = Timestamp::from_millisecond(now_ms).ok()?;
    let now = moment.to_zoned(zone.clone());
    let minute = now.with().second(0).subsec_nanosecond(0);
    let (start, end) = match period {
        Period::Minute => {
            let start = minute.build().ok()?;
            (start.clone(), start.checked_add(1.minute()).ok()?)
        }
        Period::Hour => {
            let start = minute.minute(0).build().ok()?;
            (start.clone(), start.checked_add(1.hour()).ok()?)
        }
        Period::Day => {
            let start = now.start_of_day().ok()?;
            (start.clone(), start.checked_add(1.day()).ok()?.start_of_day().ok()?)
        }
        Period::Week => {
            let back = i64::from(now.weekday().since(Weekday::Monday));
            let start = now.checked_sub(back.days()).ok()?.start_of_day().ok()?;
            (start.clone(), start.checked_add(1.week()).ok()?.start_of_day().ok()?)
        }
        Period::Month => {
            let start = now.first_of_month().ok()?.start_of_day().ok()?;
            (start.clone(), start.checked_add(1.month()).ok()?.start_of_day().ok()?)
        }
    };
    Some((start.timestamp().as_millisecond(), end.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn civil_windows_follow_the_time_zone_and_its_changes() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        for (period, now, start, end) in [
            (
                Period::Minute,
                "2026-11-23T10:20:30Z",
                "2026-11-23T10:20:00Z",
                "2026-11-23T10:21:00Z",
            ),
            (Period::Hour, "2026-11-23T10:20:30Z", "2026-11-23T10:00:00Z", "2026-11-23T11:00:00Z"),
            (Period::Day, "2026-11-23T23:30:00Z", "2026-11-23T23:00:00Z", "2026-11-24T23:00:00Z"),
            // The clocks go back: this day has 25 hours.
            (Period::Day, "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            // 2026-11-23 is a Monday.
            (Period::Week, "2026-11-22T22:59:59Z", "2026-11-15T23:00:00Z", "2026-11-22T23:00:00Z"),
            (Period::Week, "2026-11-22T23:00:00Z", "2026-11-22T23:00:00Z", "2026-11-29T23:00:00Z"),
            (Period::Month, "2026-03-31T21:30:00Z", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z"),
        ] {
            assert_eq!(bounds(period, &berlin, ms(now)), (ms(start), ms(end)), "{period:?} {now}");
        }
    }

    #[test]
    fn a_civil_window_starts_anew_and_late_use_of_the_one_before_is_not_counted() {
        let now = ms("2026-11-23T10:59:59Z");
        let mut used = Used::new(Window::Civil(Period::Hour), TimeZone::UTC, now);
        used.add(now, 5, now);
        assert_eq!((used.sum(), used.frees_in_ms(1, now)), (5, Some(1_000)));
        let next = now + 1_000;
        used.add(now, 7, next);
        assert_eq!(used.sum(), 0);
        used.add(next, 2, next);
        assert_eq!(used.sum(), 2);
    }

    #[test]
    fn a_rolling_window_forgets_slot_by_slot_and_never_too_early() {
        let mut used = Used::new(Window::Rolling(60), TimeZone::UTC, 0);
        used.add(500, 1, 500);
        used.add(30_200, 2, 30_200);
        used.advance(60_400);
        assert_eq!(used.sum(), 3, "the first use is 59.9 seconds old");
        assert_eq!(used.frees_in_ms(1, 60_400), Some(600));
        assert_eq!(used.frees_in_ms(3, 60_400), Some(30_600));
        used.advance(61_000);
        assert_eq!(used.sum(), 2);
        used.advance(91_000);
        assert_eq!((used.sum(), used.frees_in_ms(1, 91_000)), (0, None));
    }

    #[test]
    fn what_is_used_in_all_is_never_forgotten() {
        let mut used = Used::new(Window::Total, TimeZone::UTC, 0);
        used.add(1, 4, 1);
        used.advance(i64::MAX / 2);
        assert_eq!((used.sum(), used.frees_in_ms(1, 2)), (4, None));
    }
}

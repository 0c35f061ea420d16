//! Who works when: working days, absences, and time at work as a line without gaps.
//!
//! Nobody works on a weekend, on a holiday or on a day of absence. A working day holds [`MINUTES`] minutes of work on
//! tickets at most, in two halves around a lunch break, at the hours of the person's zone. Everything is a function of the
//! seed. Knows nothing of what is worked on.

use flowsync_schemas::{Day, Micros};

use super::time::{MINUTE, civil, mix};

/// Minutes of a working day that are left for tickets: eight hours less meetings, mail and breaks. Chosen.
pub(super) const MINUTES: u16 = 390;
/// Minutes of a working day.
pub(super) const DAY_MINUTES: u32 = 480;
/// Half past nine, in minutes of the day.
const START: i64 = 9 * 60 + 30;
const MORNING: i64 = 165;
const LUNCH: i64 = 60;

/// Weeks of leave, in basis points of all weeks: between four and five of the 52. Four is the least that the European
/// Union's Working Time Directive (2003/88/EC, article 7) allows.
const LEAVE_BPS: u64 = 900;
/// Single days of absence (illness, training), in basis points of working days. Chosen.
const ABSENT_BPS: u64 = 250;
/// Days that are free for everybody: month and day.
const HOLIDAYS: [(u32, u32); 5] = [(1, 1), (5, 1), (12, 24), (12, 25), (12, 26)];

/// A point of somebody's working time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub day: i32,
    /// Below [`MINUTES`].
    pub minute: u16,
}

/// Minutes of work of one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub day: i32,
    pub from: u16,
    pub to: u16,
}

/// The calendar of everybody.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calendar {
    pub seed: u64,
}

/// Whether the organisation works on a day.
pub(super) fn workday(day: i32) -> bool {
    // 1970-01-01 was a Thursday.
    (i64::from(day) + 3).rem_euclid(7) < 5 && {
        let (_, month, of_month) = civil(day);
        !HOLIDAYS.contains(&(month, of_month))
    }
}

/// When a moment is, by the clock of UTC. Zones are within five hours of it, so that a working day is in one UTC day.
pub(super) fn clock(zone: i8, at: Moment) -> Micros {
    let minute = i64::from(at.minute);
    let lunch = if minute >= MORNING { LUNCH } else { 0 };
    Micros(Day(at.day).start().0 + (START - i64::from(zone) * 60 + minute + lunch) * MINUTE)
}

impl Calendar {
    /// Whether a person works on a day.
    pub fn works(&self, person: u32, day: i32) -> bool {
        let drawn = |what: i64| mix(mix(self.seed, 7 + u64::from(person)), what as u64) % 10_000;
        // Leave begins on Mondays. Weeks are numbered below zero, so that no week is a day's number.
        let week = -1 - (i64::from(day) + 3).div_euclid(7).rem_euclid(1 << 32);
        workday(day) && drawn(week) >= LEAVE_BPS && drawn(i64::from(day)) >= ABSENT_BPS
    }

    /// The person's first moment of work at or after a time.
    pub fn moment(&self, person: u32, zone: i8, at: Micros) -> Moment {
        let day = at.day().0;
        // Rounded up: work does not begin before what it waits for.
        let minute = (at.0 - Day(day).start().0 + MINUTE - 1) / MINUTE - START + i64::from(zone) * 60;
        let minute = match minute {
            before if before < 0 => 0,
            morning if morning < MORNING => morning,
            lunch if lunch < MORNING + LUNCH => MORNING,
            afternoon => afternoon - LUNCH,
        };
        let today = minute < i64::from(MINUTES) && self.works(person, day);
        if today { Moment { day, minute: minute as u16 } } else { self.next_day(person, day) }
    }

    fn next_day(&self, person: u32, day: i32) -> Moment {
        // Nobody is away for a hundred days.
        let next = (day.saturating_add(1)..day.saturating_add(100)).find(|d| self.works(person, *d));
        Moment { day: next.unwrap_or(day.saturating_add(1)), minute: 0 }
    }

    /// The time after so many minutes of the person's work, counted from `at`.
    pub fn after(&self, person: u32, zone: i8, at: Micros, minutes: u32) -> Micros {
        let slots = self.slots(person, self.moment(person, zone, at), minutes.max(1));
        let end = slots.last().map_or(Moment::default(), |s| Moment { day: s.day, minute: s.to - 1 });
        Micros(clock(zone, end).0 + MINUTE)
    }

    /// The next so many minutes of the person's work.
    pub fn slots(&self, person: u32, from: Moment, minutes: u32) -> Vec<Slot> {
        let (mut from, mut left) = (from, minutes);
        let mut slots = Vec::with_capacity(2 + minutes as usize / usize::from(MINUTES));
        while left > 0 {
            let length = left.min(u32::from(MINUTES - from.minute));
            slots.push(Slot { day: from.day, from: from.minute, to: from.minute + length as u16 });
            left -= length;
            from = self.next_day(person, from.day);
        }
        slots
    }
}

/// The clock after so many minutes of work in these slots.
pub(super) fn within(zone: i8, slots: &[Slot], minutes: u32) -> Micros {
    let mut left = minutes;
    for slot in slots {
        let length = u32::from(slot.to - slot.from);
        if left < length {
            return clock(zone, Moment { day: slot.day, minute: slot.from + left as u16 });
        }
        left -= length;
    }
    let end = slots.last().map_or(Moment::default(), |s| Moment { day: s.day, minute: s.to - 1 });
    Micros(clock(zone, end).0 + MINUTE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_in_working_hours_and_advances() {
        let calendar = Calendar { seed: 3 };
        let mut at = Micros(1_790_000_000_000_000);
        for step in 0..2_000u32 {
            let (person, zone) = (step % 5, (step % 11) as i8 - 5);
            let next = calendar.after(person, zone, at, step % 700);
            assert!(next > at, "{at} {next}");
            assert!(calendar.works(person, next.day().0), "{next}");
            at = if step % 5 == 4 { next } else { at };
        }
    }

    #[test]
    fn slots_hold_what_was_asked_for() {
        let calendar = Calendar { seed: 9 };
        for minutes in [1, 100, 390, 391, 2_000] {
            let from = calendar.moment(1, 0, Micros(1_790_000_000_000_000));
            let slots = calendar.slots(1, from, minutes);
            assert_eq!(slots.iter().map(|s| u32::from(s.to - s.from)).sum::<u32>(), minutes);
            assert!(slots.iter().all(|s| calendar.works(1, s.day) && s.to <= MINUTES));
        }
    }

    #[test]
    fn people_are_away_about_as_often_as_cited() {
        let calendar = Calendar { seed: 1 };
        let days: Vec<i32> = (20_000..20_000 + 730).filter(|d| workday(*d)).collect();
        let worked = (0..50).map(|p| days.iter().filter(|d| calendar.works(p, **d)).count()).sum::<usize>();
        let share = worked * 100 / (50 * days.len());
        assert!((86..=91).contains(&share), "{share} %");
    }
}

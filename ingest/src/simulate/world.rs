//! The simulated organisation in motion: what happens next, and what of it is on its way to the receiver.
//!
//! Two heaps. *Occurrences* hold what will happen, by its time: a step of a story, a deployment, a ticket to be thought of.
//! *Arrivals* hold written deliveries that have not arrived. What happens is played in order, so that counters, heads of
//! branches and deployments are those of their moment, and a delivery is written when it happens. So memory holds the work
//! in progress and the deliveries that are late, and not the history.
//!
//! Invariant: nothing arrives before it happens, so a delivery may go out as soon as nothing earlier is left to happen.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use fastrand::Rng;
use flowsync_schemas::{Day, Micros};

use super::{
    Simulated,
    calendar::{Calendar, DAY_MINUTES, MINUTES, Moment, Slot, clock, workday},
    jira,
    organisation::Organisation,
    scale::Scale,
    send::Named,
    story::{Place, Step, Story},
    time::{HOUR, MINUTE, SECOND, mix},
    truth::Truth,
};

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Project(u32),
    /// Of a project, its number, and whether it is created, started or closed.
    Sprint(u32, u32, u8),
    /// The next ticket is thought of.
    Ticket,
    Story(u32, Step),
    /// A repository, and whether to production.
    Deploy(u32, bool),
    DeployRuns(u32, bool),
    DeployEnds(u32, bool),
    Rename(u32),
    DayOver(i32),
}

/// A delivery on its way; the earlier it arrives, the greater it is, as a heap wants it.
pub(super) struct Arrival {
    pub order: u64,
    pub delivery: Simulated,
}

impl Arrival {
    fn key(&self) -> Reverse<(Micros, u64)> {
        Reverse((self.delivery.at, self.order))
    }
}

impl PartialEq for Arrival {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Arrival {}

impl PartialOrd for Arrival {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Arrival {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// Minutes that somebody worked on a ticket on some day.
#[derive(Clone, Copy, Debug)]
struct Worked {
    person: u32,
    place: Place,
    minutes: u32,
}

/// Everything.
pub(super) struct World {
    pub seed: u64,
    /// Of seed, end and scale; stands in ids of deliveries.
    pub tag: u32,
    pub until: Micros,
    pub scale: Scale,
    pub org: Organisation,
    pub calendar: Calendar,
    /// Decides what becomes of deliveries, and of deployments.
    pub rng: Rng,
    /// Number of deliveries so far.
    pub serial: u64,
    /// Tickets so far.
    pub told: u64,
    /// Minutes of work that a ticket takes, about.
    pub minutes: u32,
    /// None where nobody wants to know.
    pub truth: Option<Vec<Truth>>,
    /// Something unreadable was sent already.
    pub misread: bool,
    /// Shares of unreadable and forged deliveries that are owed, in basis points.
    pub owed: [u32; 2],
    pub arrivals: BinaryHeap<Arrival>,
    occurrences: BinaryHeap<Reverse<(Micros, u64, What)>>,
    pub order: u64,
    stories: Vec<Option<Box<Story>>>,
    free: Vec<u32>,
    /// When each project is due for its next ticket, in proportion to its developers.
    dues: BinaryHeap<Reverse<(u64, u32)>>,
    workdays: Vec<i32>,
    worked: BTreeMap<i32, Vec<Worked>>,
}

impl World {
    pub fn new(seed: u64, until: Micros, scale: Scale) -> Self {
        let last = until.day().0;
        let first = last.saturating_sub(i32::try_from(scale.days.max(1)).unwrap_or(i32::MAX));
        let mut workdays: Vec<i32> = (first..last).filter(|d| workday(*d)).collect();
        if workdays.is_empty() {
            workdays.push(first);
        }
        let org = Organisation::new(seed, &scale);
        let developers: u64 = org.projects.iter().map(|p| p.developers.len() as u64).sum();
        let capacity = developers * workdays.len() as u64 * u64::from(MINUTES);
        // Half of what there is: the rest is reviews, repairs, absence and waiting.
        let minutes = (capacity / 2 / scale.tickets.max(1)).clamp(20, 3 * u64::from(MINUTES)) as u32;
        let dues = (0..org.projects.len() as u32).map(|p| Reverse((due(&org, p, 0), p))).collect();
        let parts = [until.0 as u64, scale.tickets, u64::from(scale.people), u64::from(scale.days)];
        let mut world = Self {
            seed,
            tag: parts.into_iter().fold(seed, mix) as u32,
            until,
            calendar: Calendar { seed: mix(seed, 2) },
            rng: Rng::with_seed(mix(seed, 3)),
            serial: 0,
            told: 0,
            minutes,
            truth: Some(Vec::new()),
            misread: false,
            owed: [5_000; 2],
            arrivals: BinaryHeap::new(),
            occurrences: BinaryHeap::new(),
            order: 0,
            stories: Vec::new(),
            free: Vec::new(),
            dues,
            workdays,
            worked: BTreeMap::new(),
            org,
            scale,
        };
        world.open(first);
        world.settle();
        world
    }

    /// Everything that needs no story.
    fn open(&mut self, first: i32) {
        let opened = Micros(Day(self.workdays[0]).start().0 + 8 * HOUR);
        for project in 0..self.org.projects.len() as u32 {
            let at = Micros(opened.0 + i64::from(project % 3_000) * SECOND);
            self.schedule(at, What::Project(project));
            // Every two weeks from then on, ten minutes after the last one.
            self.schedule(Micros(at.0 + HOUR / 2), What::Sprint(project, 1, 0));
            if self.rng.u32(0..10_000) < self.scale.disorder.renamed_projects {
                let day = self.workdays[self.workdays.len() * self.rng.usize(40..80) / 100];
                self.schedule(Micros(Day(day).start().0 + 12 * HOUR), What::Rename(project));
            }
        }
        if self.scale.tickets > 0 {
            let at = self.creation(0);
            self.schedule(at, What::Ticket);
        }
        self.schedule(Day(first.saturating_add(1)).start(), What::DayOver(first));
    }

    /// When the ticket of this number is thought of: spread evenly over working hours.
    fn creation(&self, number: u64) -> Micros {
        const DAY_SECS: u128 = 8 * 3_600;
        let all = self.workdays.len() as u128 * DAY_SECS;
        let second = (2 * u128::from(number) + 1) * all / (2 * u128::from(self.scale.tickets));
        let day = self.workdays[((second / DAY_SECS) as usize).min(self.workdays.len() - 1)];
        Micros(Day(day).start().0 + 9 * HOUR + (second % DAY_SECS) as i64 * SECOND)
    }

    pub fn schedule(&mut self, at: Micros, what: What) {
        if at <= self.until {
            self.order += 1;
            self.occurrences.push(Reverse((at, self.order, what)));
        }
    }

    /// The next delivery. Then everything has happened that nothing else waits for, so that no truth is missing.
    pub fn next(&mut self) -> Option<Simulated> {
        let next = self.arrivals.pop()?;
        self.settle();
        Some(next.delivery)
    }

    /// Lets everything happen that could arrive before what is on its way.
    fn settle(&mut self) {
        while let Some(Reverse((at, _, _))) = self.occurrences.peek() {
            if self.arrivals.peek().is_some_and(|a| a.delivery.at < *at) {
                break;
            }
            if let Some(Reverse((at, _, what))) = self.occurrences.pop() {
                self.play(what, at);
            }
        }
    }

    fn play(&mut self, what: What, at: Micros) {
        match what {
            What::Project(number) => {
                let project = &self.org.projects[number as usize];
                let (lead, names) = (project.manager, (project.key.as_str(), project.name.as_str()));
                let body = jira::project("project_created", names, &self.org.people[lead as usize], at);
                self.send("jira", "", body, &[Named::Jira(lead)], at);
            }
            What::Sprint(project, number, phase) => self.sprint(project, number, phase, at),
            What::Ticket => {
                self.think_of_ticket(at);
                if self.told < self.scale.tickets {
                    let next = self.creation(self.told);
                    self.schedule(next, What::Ticket);
                }
            }
            What::Story(slot, step) => self.step(slot, step, at),
            What::Deploy(repo, live) => self.deploy(repo, live, at),
            What::DeployRuns(repo, live) => self.deploy_runs(repo, live, at),
            What::DeployEnds(repo, live) => self.deploy_ends(repo, live, at),
            What::Rename(project) => self.rename(project, at),
            What::DayOver(day) => self.day_over(day),
        }
    }

    /// The next ticket goes to the project that is due; three in ten bring a chore with them.
    fn think_of_ticket(&mut self, at: Micros) {
        let number = self.told;
        self.told += 1;
        let Some(Reverse((_, project))) = self.dues.pop() else { return };
        // The ticket may move a number to another project, so what is due is counted here.
        let next = self.org.projects[project as usize].dues + 1;
        self.org.projects[project as usize].dues = next;
        self.dues.push(Reverse((due(&self.org, project, next), project)));
        self.tell_ticket(number, project, at);
        if matches!(number % 10, 3 | 6 | 9) {
            self.tell_chore(number, project, at);
        }
    }

    /// Puts a story and its steps into the world. What lies after the end is not done any more.
    pub fn begin(&mut self, mut story: Story, steps: Vec<(Micros, Step)>) {
        let steps: Vec<_> = steps.into_iter().filter(|(at, _)| *at <= self.until).collect();
        if steps.is_empty() {
            return;
        }
        story.left = steps.len() as u32;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.stories.push(None);
            self.stories.len() as u32 - 1
        });
        self.stories[slot as usize] = Some(Box::new(story));
        steps.into_iter().for_each(|(at, step)| self.schedule(at, What::Story(slot, step)));
    }

    fn step(&mut self, slot: u32, step: Step, at: Micros) {
        let Some(mut story) = self.stories[slot as usize].take() else { return };
        match step {
            Step::Pull(number, step) => self.code(&mut story, usize::from(number), step, at),
            step => self.track(&mut story, step, at),
        }
        story.left -= 1;
        if story.left == 0 {
            self.free.push(slot);
            self.conclude(&story);
        } else {
            self.stories[slot as usize] = Some(story);
        }
    }

    fn sprint(&mut self, project: u32, number: u32, phase: u8, at: Micros) {
        let key = &self.org.projects[project as usize].key;
        let name = format!("{key} sprint {number} (simulated)");
        let what = [("sprint_created", "future"), ("sprint_started", "active"), ("sprint_closed", "closed")];
        // Created half an hour before it starts, and closed after eleven days.
        let begins = at.0 - [-HOUR / 2, 0, 11 * 24 * HOUR][usize::from(phase)];
        let span = (Micros(begins), Micros(begins + 11 * 24 * HOUR));
        let id = u64::from(project) * 1_000 + u64::from(number);
        let body = jira::sprint((id, &name), what[usize::from(phase)], span, at);
        self.send("jira", "", body, &[], at);
        match phase {
            0 => self.schedule(span.0, What::Sprint(project, number, 1)),
            1 => self.schedule(span.1, What::Sprint(project, number, 2)),
            _ => self.schedule(Micros(begins + 14 * 24 * HOUR - HOUR / 2), What::Sprint(project, number + 1, 0)),
        }
    }

    /// The project gets another key. Jira tells of the project alone; its issues have new keys from then on.
    fn rename(&mut self, number: u32, at: Micros) {
        let project = &mut self.org.projects[number as usize];
        let from = std::mem::take(&mut project.key);
        let to = format!("{}2", &from[..from.len().min(9)]);
        project.key.clone_from(&to);
        let lead = project.manager;
        let body = jira::project("project_updated", (&to, &project.name), &self.org.people[lead as usize], at);
        self.send("jira", "", body, &[Named::Jira(lead)], at);
        self.tell(|| Truth::Renamed { from, to, at });
    }

    pub fn tell(&mut self, truth: impl FnOnce() -> Truth) {
        if let Some(told) = &mut self.truth {
            told.push(truth());
        }
    }

    pub fn key(&self, (project, number): Place) -> String {
        format!("{}-{number}", self.org.projects[project as usize].key)
    }

    pub fn zone(&self, person: u32) -> i8 {
        self.org.people[person as usize].zone
    }

    /// The time after so many minutes of somebody's work.
    pub fn after(&self, person: u32, at: Micros, minutes: u32) -> Micros {
        self.calendar.after(person, self.zone(person), at, minutes)
    }

    /// Somebody of a project who works on the day of `at`: the preferred one, else the next best.
    pub fn present(&self, project: u32, preferred: u32, at: Micros) -> u32 {
        let day = at.day().0;
        let project = &self.org.projects[project as usize];
        let people = self.org.people.len() as u32;
        let others = (0..people.min(50)).map(|n| (preferred + n) % people);
        std::iter::once(preferred)
            .chain(project.developers.iter().copied())
            .chain([project.manager, project.operator])
            .chain(others)
            .find(|p| self.calendar.works(*p, day))
            .unwrap_or(preferred)
    }

    /// Plans work of somebody, after everything that is planned already.
    pub fn book(&mut self, person: u32, not_before: Micros, minutes: u32) -> Vec<Slot> {
        let zone = self.zone(person);
        let from = self.free_from(person, not_before);
        let slots = self.calendar.slots(person, from, minutes.max(1));
        let end = slots.last().map_or(from, |s| Moment { day: s.day, minute: s.to - 1 });
        debug_assert!(clock(zone, end) >= not_before);
        self.org.people[person as usize].busy_until = Moment { minute: end.minute + 1, ..end };
        slots
    }

    /// When somebody could begin something new.
    pub fn free_from(&self, person: u32, not_before: Micros) -> Moment {
        let who = &self.org.people[person as usize];
        let now = self.calendar.moment(person, who.zone, not_before);
        if who.busy_until <= now {
            now
        } else if who.busy_until.minute < MINUTES {
            who.busy_until
        } else {
            let end = clock(who.zone, Moment { minute: MINUTES - 1, ..who.busy_until });
            self.calendar.moment(person, who.zone, Micros(end.0 + MINUTE))
        }
    }

    /// Notes what somebody worked on. Days that are not over at the end have no effort.
    pub fn worked(&mut self, person: u32, place: Option<Place>, slots: &[Slot]) {
        let (Some(place), Some(_)) = (place, &self.truth) else { return };
        let whole = self.until.day().0;
        for slot in slots.iter().filter(|s| s.day < whole) {
            let minutes = u32::from(slot.to - slot.from);
            self.worked.entry(slot.day).or_default().push(Worked { person, place, minutes });
        }
    }

    /// Everybody's effort of a day.
    fn day_over(&mut self, day: i32) {
        let next = day.saturating_add(1);
        self.schedule(Day(next.saturating_add(1)).start(), What::DayOver(next));
        let mut worked = self.worked.remove(&day).unwrap_or_default();
        if self.truth.is_none() {
            return;
        }
        worked.sort_by_key(|w| (w.person, w.place));
        let mut rest = worked.as_slice();
        for person in 0..self.org.people.len() as u32 {
            let mine = rest.partition_point(|w| w.person <= person);
            let (mine, others) = rest.split_at(mine);
            rest = others;
            if self.calendar.works(person, day) {
                self.effort(person, Day(day), mine);
            }
        }
    }

    fn effort(&mut self, person: u32, day: Day, mine: &[Worked]) {
        let all = mine.iter().map(|w| w.minutes).sum::<u32>().max(DAY_MINUTES);
        let mut left = 10_000;
        let mut shares = Vec::with_capacity(4);
        for of_ticket in mine.chunk_by(|a, b| a.place == b.place) {
            let share = of_ticket.iter().map(|w| w.minutes).sum::<u32>() * 10_000 / all;
            left -= share;
            shares.push((Some(self.key(of_ticket[0].place)), share));
        }
        shares.push((None, left));
        let who = self.org.people[person as usize].email.clone();
        for (ticket, share_bps) in shares.into_iter().filter(|(_, share)| *share > 0) {
            self.tell(|| Truth::Effort { person: who.clone(), day, ticket, share_bps });
        }
    }

    /// What memory is taken by: steps to come, stories, deliveries on their way, days to be told.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        let stories = self.stories.len() - self.free.len();
        let worked: usize = self.worked.values().map(Vec::len).sum();
        self.occurrences.len() + self.arrivals.len() + stories + worked
    }
}

/// When a project is due for its ticket of this number: a project of twice the developers twice as often.
fn due(org: &Organisation, project: u32, number: u64) -> u64 {
    let developers = org.projects[project as usize].developers.len() as u64;
    (2 * number + 1) * (1 << 20) / developers.max(1)
}

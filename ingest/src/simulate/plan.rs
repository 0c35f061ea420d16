//! The story of a ticket, from its creation to its end, told in one go when it is thought of.
//!
//! A story is a function of seed and number, and of who has time when. What is told may lie after the end of the simulation:
//! that part never happens, which leaves the newest work unfinished, as in life.

use fastrand::Rng;
use flowsync_schemas::Micros;

use super::{
    calendar::{Slot, clock, within},
    catalogue::{self, Course, SAID},
    organisation::Change,
    pull::{Naming, Work},
    story::{Log, Note, Place, PullStep, Status, Step, Story, Ticket, Word},
    time::{HOUR, MINUTE, SECOND, happens, mix, pick},
    words::{self, Titled},
    world::World,
};

/// Kinds of ticket, in basis points. Chosen; incidents are such that one in some fifteen deployments to production leads to one,
/// a change failure rate between the 5 % of elite and the 10 % of high performers (DORA, Accelerate State of DevOps 2023).
const KINDS: [(&str, u32); 5] =
    [("Story", 4_000), ("Bug", 2_700), ("Task", 2_200), ("New Feature", 700), ("Incident", 400)];
/// Every so many tickets of a project begin with an epic.
const EPIC_EVERY: u32 = 25;
/// Tickets whose work comes in one, two and three pull requests: those beyond, in basis points. Chosen.
const MORE_PULLS_BPS: u32 = 3_300;
/// Tickets on whose work time is logged. Chosen.
const LOGGED_BPS: u32 = 3_500;
/// Tickets with a design, and with a page. Chosen.
const DESIGN_BPS: u32 = 1_200;
const PAGE_BPS: u32 = 800;
/// Tickets that are linked to another one. Chosen.
const LINK_BPS: u32 = 600;
/// Tickets on which somebody says something in the chat. Chosen.
const SAID_BPS: u32 = 600;
/// Tickets moved to done at once, not when somebody remembers. Chosen.
const PROMPT_BPS: u32 = 7_000;
/// Incidents that are ended by taking the cause back. Chosen.
const REVERT_BPS: u32 = 5_500;

const REMARKS: [&str; 8] = [
    "Agreed, with the small change we talked about.",
    "Can we have this before the end of the sprint?",
    "Reproduced with the data of last week.",
    "Please look at the edge cases as well.",
    "The numbers in the description are of the old system.",
    "Split off what is not urgent.",
    "Checked with support: three customers ask for it.",
    "Let us talk about it tomorrow.",
];

/// A story while it is told.
pub(super) struct Plan {
    pub rng: Rng,
    /// Where the ticket is in the end.
    pub place: Option<Place>,
    /// Its title and course are written by hand.
    pub written: bool,
    pub story: Story,
    pub steps: Vec<(Micros, Step)>,
    /// Its steps happen at this second of their minutes.
    second: i64,
    ids: u64,
}

impl Plan {
    pub fn new(seed: u64, place: Option<Place>) -> Self {
        let mut rng = Rng::with_seed(seed);
        let second = rng.i64(0..60) * SECOND;
        Self { rng, place, written: false, story: Story::default(), steps: Vec::with_capacity(40), second, ids: 0 }
    }

    /// A moment of this story.
    pub fn time(&self, at: Micros) -> Micros {
        Micros(at.0 + self.second)
    }

    pub fn at(&mut self, at: Micros, step: Step) {
        self.steps.push((self.time(at), step));
    }

    pub fn pull(&mut self, at: Micros, number: usize, step: PullStep) {
        self.at(at, Step::Pull(number as u8, step));
    }

    /// A native id that no other story has.
    pub fn id(&mut self, world: &World) -> u64 {
        self.ids += 1;
        900_000 + world.told * 200 + self.ids
    }
}

/// When a ticket's pull request was opened first, and when the last was merged.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub opened: Micros,
    pub merged: Micros,
}

impl World {
    /// Tells the ticket of this number.
    pub fn tell_ticket(&mut self, number: u64, project: u32, at: Micros) {
        let of = &mut self.org.projects[project as usize];
        of.tickets += 1;
        let place = (project, of.tickets);
        let written = of.written.and_then(|w| w.tickets.get(of.tickets as usize - 1));
        let theme = of.theme;
        let mut plan = Plan::new(mix(mix(self.seed, 4), number), Some(place));
        plan.written = written.is_some();
        let (kind, titled, course) = match written {
            Some((kind, title)) => {
                let course = Course::written(project as usize, place.1);
                (*kind, Titled { title: (*title).to_owned(), topic: words::topic(title) }, course)
            }
            None => {
                let kind = self.kind(&mut plan.rng, place);
                let course =
                    if matches!(kind, "Epic" | "Incident") { Course::Usual } else { self.course(&mut plan.rng) };
                (kind, words::title(&mut plan.rng, theme, kind), course)
            }
        };
        let ticket = self.ticket(&mut plan, place, (kind, titled.title), at);
        plan.story.ticket = Some(ticket);
        plan.steps.push((at, Step::Created));
        if written.is_none() {
            self.extras(&mut plan, kind, course, at);
        } else if (place.1 - 1) % 5 == 2 {
            self.remark(&mut plan, at);
        }
        match kind {
            "Epic" => {
                self.org.projects[project as usize].epic = Some(place.1);
                plan.at(Micros(at.0 + 40 * MINUTE), Step::Status(Status::InProgress));
            }
            "Incident" => self.tell_incident(&mut plan, at),
            _ => self.tell_work(&mut plan, course, &titled.topic, at),
        }
        let Plan { story, steps, .. } = plan;
        self.begin(story, steps);
    }

    fn kind(&self, rng: &mut Rng, (project, number): Place) -> &'static str {
        if number % EPIC_EVERY == 1 {
            return "Epic";
        }
        let kind = share(rng, &KINDS).unwrap_or("Task");
        // An incident needs something that went live.
        let repos = &self.org.projects[project as usize].repos;
        let live = repos.iter().any(|r| !self.org.repos[*r as usize].live.is_empty());
        if kind == "Incident" && !live { "Bug" } else { kind }
    }

    fn course(&self, rng: &mut Rng) -> Course {
        if happens(rng, self.scale.disorder.deleted_bps) {
            return Course::Deleted;
        }
        share(rng, &Course::SHARES).unwrap_or(Course::Usual)
    }

    fn ticket(&mut self, plan: &mut Plan, place: Place, (kind, title): (&'static str, String), at: Micros) -> Ticket {
        let project = &self.org.projects[place.0 as usize];
        let epic = project.epic.map(|number| (place.0, number));
        let part = matches!(kind, "Story" | "New Feature");
        let by = if kind == "Incident" { project.operator } else { project.manager };
        let reporter = self.present(place.0, by, at);
        Ticket {
            place,
            moves_to: None,
            id: 10_000 + self.told,
            kind,
            title,
            retitle: None,
            status: Status::ToDo,
            reporter,
            assignee: None,
            developer: reporter,
            epic: epic.filter(|_| part),
            estimate_secs: part.then(|| plan.rng.u32(2..9) * 3_600),
            created_at: at,
            resolved_at: None,
            design: None,
            page: None,
            other: None,
            done_at: None,
            deleted_at: None,
        }
    }

    /// What tickets have that are not written by hand: remarks, designs, pages, links, moves.
    fn extras(&mut self, plan: &mut Plan, kind: &'static str, course: Course, at: Micros) {
        if happens(&mut plan.rng, 2_000) {
            self.remark(plan, at);
        }
        if matches!(kind, "Epic" | "Incident") || course == Course::Deleted {
            return;
        }
        let projects = self.org.projects.len() as u32;
        if happens(&mut plan.rng, self.scale.disorder.moved_bps)
            && let Some((project, _)) = plan.place
            && projects > 1
        {
            let to = (project + 1 + plan.rng.u32(0..projects - 1)) % projects;
            let of = &mut self.org.projects[to as usize];
            of.tickets += 1;
            let place = (to, of.tickets);
            plan.place = Some(place);
            let when = Micros(at.0 + plan.rng.i64(4..20) * MINUTE);
            plan.at(when, Step::Moved);
            if let Some(ticket) = &mut plan.story.ticket {
                ticket.moves_to = Some(place);
            }
        }
        if happens(&mut plan.rng, LINK_BPS) && self.told > 1 {
            let other = 10_000 + self.told - plan.rng.u64(1..self.told.min(50));
            let when = Micros(at.0 + 25 * MINUTE);
            plan.at(when, Step::Linked);
            if happens(&mut plan.rng, 1_000) {
                plan.at(Micros(when.0 + 5 * MINUTE), Step::Unlinked);
            }
            if let Some(ticket) = &mut plan.story.ticket {
                ticket.other = Some(other);
            }
        }
        if kind != "Bug" {
            self.documents(plan, at);
        }
    }

    /// A design with its address, and a page that describes the ticket.
    fn documents(&mut self, plan: &mut Plan, at: Micros) {
        let Some(place) = plan.place else { return };
        let (manager, key) = (self.org.projects[place.0 as usize].manager, self.key(place));
        let ready = self.after(manager, at, 45);
        let (design, page) = (happens(&mut plan.rng, DESIGN_BPS), happens(&mut plan.rng, PAGE_BPS));
        let id = plan.id(self);
        let Some(ticket) = &mut plan.story.ticket else { return };
        if design {
            let address = format!("https://www.figma.example.org/file/{id}/{key}-{}", words::slug(&ticket.title, 3));
            let text = format!("The design is ready: {address}\n#flowsync {key}");
            ticket.design = Some(address);
            let number = plan.story.notes.len() as u8;
            plan.story.notes.push(Note { id, by: manager, at: ready, text });
            plan.at(ready, Step::Noted(number));
        }
        if page {
            if let Some(ticket) = &mut plan.story.ticket {
                ticket.page = Some(id);
            }
            plan.at(Micros(ready.0 + 5 * MINUTE), Step::Documented);
        }
    }

    /// A comment; some are edited, some deleted.
    fn remark(&mut self, plan: &mut Plan, at: Micros) {
        let Some((project, _)) = plan.place else { return };
        let by = self.org.projects[project as usize].manager;
        let at = self.after(by, at, 70);
        let text = (*pick(&mut plan.rng, &REMARKS)).to_owned();
        let (id, number) = (plan.id(self), plan.story.notes.len() as u8);
        plan.story.notes.push(Note { id, by, at, text });
        plan.at(at, Step::Noted(number));
        if happens(&mut plan.rng, self.scale.disorder.edited_bps) {
            plan.at(Micros(at.0 + 4 * MINUTE), Step::NoteEdited(number));
        }
        if happens(&mut plan.rng, self.scale.disorder.deleted_bps) {
            plan.at(Micros(at.0 + 9 * MINUTE), Step::NoteDeleted(number));
        }
    }

    /// Who takes a ticket: of up to four of the team, whoever has time first.
    fn developer(&self, rng: &mut Rng, project: u32, at: Micros) -> u32 {
        let team = &self.org.projects[project as usize].developers;
        let first = rng.usize(0..team.len());
        let asked = (0..team.len().min(4)).map(|n| team[(first + n) % team.len()]);
        asked.min_by_key(|p| self.free_from(*p, at)).unwrap_or(team[0])
    }

    /// The work on a ticket, by its course.
    fn tell_work(&mut self, plan: &mut Plan, course: Course, topic: &str, at: Micros) {
        let Some(place) = plan.place else { return };
        let manager = self.org.projects[place.0 as usize].manager;
        match course {
            Course::Idle => return,
            Course::Deleted => {
                let when = self.after(manager, at, 200);
                return plan.at(when, Step::Deleted);
            }
            Course::Renamed => {
                if let Some(ticket) = &mut plan.story.ticket {
                    ticket.retitle = Some(format!("{}, oldest first", ticket.title));
                }
                plan.at(Micros(at.0 + 22 * MINUTE), Step::Retitled);
            }
            _ => {}
        }
        let triaged = self.after(manager, at, 30 + plan.rng.u32(0..400));
        let developer = self.developer(&mut plan.rng, place.0, triaged);
        if let Some(ticket) = &mut plan.story.ticket {
            ticket.developer = developer;
        }
        // From a quarter of the usual effort to three times of it: most work is small.
        let minutes = self.minutes * pick(&mut plan.rng, &[25, 35, 50, 60, 75, 100, 140, 200, 300]) / 100;
        let slots = self.book(developer, triaged, minutes);
        let zone = self.zone(developer);
        let begun = within(zone, &slots, 0);
        plan.at(begun, Step::Status(Status::InProgress));
        self.said(plan, Word::Start, begun);
        match course {
            Course::Blocked => {
                let when = self.after(developer, begun, 300);
                plan.at(when, Step::Status(Status::Blocked));
                self.said(plan, Word::Block, when);
                // The rest of the time went to something else.
                return self.worked(developer, plan.place, &slots[..1]);
            }
            Course::OnlySaid => {
                self.worked(developer, plan.place, &slots);
                let when = within(zone, &slots, u32::MAX);
                return self.done(plan, when);
            }
            _ => self.worked(developer, plan.place, &slots),
        }
        self.logs(plan, developer, &slots);
        self.tell_pulls(plan, course, topic, &slots);
    }

    fn done(&mut self, plan: &mut Plan, at: Micros) {
        plan.at(at, Step::Status(Status::Done));
        let done_at = plan.time(at);
        if let Some(ticket) = &mut plan.story.ticket {
            ticket.done_at = Some(done_at);
        }
        self.said(plan, Word::Done, at);
    }

    /// The pull requests of a ticket one after another, and what they do to it.
    fn tell_pulls(&mut self, plan: &mut Plan, course: Course, topic: &str, slots: &[Slot]) {
        let (Some(place), Some(ticket)) = (plan.place, plan.story.ticket.clone()) else { return };
        let (key, title) = (self.key(place), ticket.title);
        let written = plan.written;
        let repo = self.org.repository(&mut plan.rng, place.0);
        let more = if written { place.1 % 3 == 2 } else { happens(&mut plan.rng, MORE_PULLS_BPS) };
        let twice = more || matches!(course, Course::Confirmed | Course::Reopened);
        let mentioned = if written { catalogue::MENTIONED } else { 1 + place.1.saturating_sub(9) };
        let aside = (course == Course::Rejected && mentioned < place.1).then_some((place.0, mentioned));
        let all: u32 = slots.iter().map(|s| u32::from(s.to - s.from)).sum();
        let half = if twice { all * 2 / 3 } else { all };
        let mut work = Work {
            repo,
            author: ticket.developer,
            title: title.clone(),
            topic,
            key: Some(&key),
            naming: if written {
                Naming::written(place.1)
            } else {
                Naming::draw(&mut plan.rng, &self.org.repos[repo as usize])
            },
            aside: aside.map(|other| self.key(other)),
            design: ticket.design,
            slots,
            minutes: (0, half),
            urgent: false,
            bot: false,
            written,
            reverts: None,
        };
        let mut span = self.tell_pull(plan, &work);
        self.judge(plan, aside, Word::Reject, span.merged);
        plan.at(Micros(span.opened.0 + MINUTE), Step::Status(Status::InReview));
        if course == Course::Reopened {
            plan.at(Micros(span.merged.0 + 5 * MINUTE), Step::Status(Status::Done));
            let again = self.after(ticket.developer, span.merged, 300);
            plan.at(again, Step::Status(Status::InProgress));
        }
        if twice {
            let unnamed = course == Course::Confirmed;
            (work.aside, work.design) = (None, None);
            work.minutes = (half, all);
            work.naming = match () {
                () if unnamed => Naming::default(),
                () if written => Naming::EVERYWHERE,
                () => Naming::draw(&mut plan.rng, &self.org.repos[repo as usize]),
            };
            work.title = match () {
                () if unnamed && written => catalogue::UNNAMED.to_owned(),
                () if unnamed => words::message(&mut plan.rng, topic),
                () => format!("{title}: the rest"),
            };
            // The rest of a reopened ticket is found later; it does not take long.
            let slots;
            if course == Course::Reopened {
                slots = self.book(ticket.developer, Micros(span.merged.0 + 6 * HOUR), (all - half).max(20));
                (work.slots, work.minutes) = (&slots, (0, (all - half).max(20)));
                self.worked(ticket.developer, plan.place, &slots);
            }
            let second = self.tell_pull(plan, &work);
            span = Span { opened: span.opened, merged: second.merged.max(span.merged) };
            if unnamed {
                self.judge(plan, Some(place), Word::Confirm, second.merged);
            }
        }
        self.finish(plan, course, span.merged);
    }

    /// Somebody confirms or rejects that the newest pull request belongs to a ticket.
    fn judge(&mut self, plan: &mut Plan, ticket: Option<Place>, word: Word, merged: Micros) {
        let (Some(ticket), Some((project, _))) = (ticket, plan.place) else { return };
        plan.story.judged = Some((plan.story.pulls.len() as u8 - 1, ticket));
        let when = self.after(self.org.projects[project as usize].manager, merged, 60);
        plan.at(when, Step::Said(word));
    }

    /// What happens to the ticket once its work is merged.
    fn finish(&mut self, plan: &mut Plan, course: Course, merged: Micros) {
        let done_at = plan.time(merged);
        let Some((place, ticket)) = plan.place.zip(plan.story.ticket.as_mut()) else { return };
        ticket.done_at = Some(done_at);
        let developer = ticket.developer;
        if course == Course::Forgotten {
            self.said(plan, Word::Deploy, Micros(merged.0 + 26 * HOUR));
            return self.said(plan, Word::Done, Micros(merged.0 + 27 * HOUR));
        }
        let prompt = plan.written || happens(&mut plan.rng, PROMPT_BPS);
        let later = Micros(merged.0 + 12 * MINUTE);
        let when = if prompt { later } else { self.after(developer, merged, 200 + plan.rng.u32(0..1_200)) };
        plan.at(when, Step::Status(Status::Done));
        if (place.1 - 1) % 6 == 1 {
            let begun = plan.steps.iter().find(|(_, s)| *s == Step::Status(Status::InProgress)).map(|(at, _)| *at);
            plan.steps.extend(begun.map(|at| (Micros(at.0 + 2 * SECOND), Step::Reported(Word::Start))));
            plan.at(Micros(merged.0 + 5 * MINUTE), Step::Reported(Word::Done));
        }
        self.said(plan, Word::Done, when);
    }

    /// What is said in the chat of a ticket at such a moment, if anything is.
    fn said(&mut self, plan: &mut Plan, word: Word, at: Micros) {
        let Some(place) = plan.place else { return };
        let said = if plan.written {
            SAID.contains(&(place.0 as usize, place.1, word.verb()))
        } else {
            // What is unusual is talked about more.
            let share = if matches!(word, Word::Block | Word::Deploy) { SAID_BPS * 3 } else { SAID_BPS / 2 };
            happens(&mut plan.rng, share)
        };
        if said {
            let who = plan.story.ticket.as_ref().map_or(0, |t| t.developer);
            let when = self.after(who, at, 9);
            plan.at(when, Step::Said(word));
            // Of what needs a second person, half finds one.
            if word == Word::Deploy && place.1 % 2 == 1 {
                let when = self.after(self.org.projects[place.0 as usize].manager, when, 40);
                plan.at(when, Step::Said(Word::Second));
            }
        }
    }

    /// Time that is logged at the end of each day of work.
    fn logs(&mut self, plan: &mut Plan, person: u32, slots: &[Slot]) {
        if !happens(&mut plan.rng, LOGGED_BPS) {
            return;
        }
        let zone = self.zone(person);
        for slot in slots.iter().take(10) {
            let minutes = u32::from(slot.to - slot.from);
            let began = clock(zone, super::calendar::Moment { day: slot.day, minute: slot.from });
            let written = within(zone, std::slice::from_ref(slot), minutes);
            // People round to half hours.
            let secs = (minutes * plan.rng.u32(80..121) / 3_000).max(1) * 1_800;
            let (id, number) = (plan.id(self), plan.story.logs.len() as u8);
            plan.story.logs.push(Log { id, by: person, began, written, secs });
            plan.at(written, Step::Logged(number));
            if happens(&mut plan.rng, self.scale.disorder.deleted_bps) {
                plan.at(Micros(written.0 + 3 * MINUTE), Step::LogDeleted(number));
            }
        }
    }

    /// Something that was deployed broke: it is taken back, or mended at once.
    fn tell_incident(&mut self, plan: &mut Plan, at: Micros) {
        let Some(place) = plan.place else { return };
        let operator = self.present(place.0, self.org.projects[place.0 as usize].operator, at);
        let Some(ticket) = &mut plan.story.ticket else { return };
        ticket.developer = operator;
        let title = ticket.title.clone();
        let key = self.key(place);
        let cause = self.cause(&key, place.0);
        let zone = self.zone(operator);
        let from = self.calendar.moment(operator, zone, Micros(at.0 + 4 * MINUTE));
        let minutes = 40 + plan.rng.u32(0..90);
        let slots = self.calendar.slots(operator, from, minutes);
        self.worked(operator, plan.place, &slots);
        plan.at(clock(zone, from), Step::Status(Status::InProgress));
        let revert = cause.filter(|_| happens(&mut plan.rng, REVERT_BPS));
        let repo = revert.as_ref().map_or_else(|| self.org.repository(&mut plan.rng, place.0), |(repo, _)| *repo);
        let naming = match () {
            () if plan.written => Naming::written(place.1),
            () => Naming::draw(&mut plan.rng, &self.org.repos[repo as usize]),
        };
        let topic = words::topic(&title);
        let span = self.tell_pull(
            plan,
            &Work {
                repo,
                author: operator,
                title,
                topic: &topic,
                key: Some(&key),
                naming,
                aside: None,
                design: None,
                slots: &slots,
                minutes: (0, minutes),
                urgent: true,
                bot: false,
                written: plan.written,
                reverts: revert.map(|(_, change)| change),
            },
        );
        self.finish(plan, Course::Usual, span.merged);
    }

    /// The change that an incident comes from: the newest in production, or one of the two before.
    fn cause(&mut self, incident: &str, project: u32) -> Option<(u32, Change)> {
        let repos = self.org.projects[project as usize].repos.clone();
        let live: Vec<u32> = repos.into_iter().filter(|r| !self.org.repos[*r as usize].live.is_empty()).collect();
        let repo = *live.get(self.rng.usize(0..live.len().max(1)))?;
        let of = &mut self.org.repos[repo as usize];
        let newest = of.live.len() - 1;
        let change = of.live.remove(newest - self.rng.usize(0..newest.min(2) + 1))?;
        let artifact = format!("{}#{}", of.name, change.pull);
        let incident = incident.to_owned();
        self.tell(|| super::Truth::Cause {
            incident,
            artifact_kind: flowsync_schemas::EntityKind::PullRequest,
            artifact,
        });
        Some((repo, change))
    }
}

/// One of a list of shares in basis points, if any is met.
fn share<T: Copy>(rng: &mut Rng, shares: &[(T, u32)]) -> Option<T> {
    let mut drawn = rng.u32(0..10_000);
    shares.iter().find_map(|(what, share)| {
        let met = drawn < *share;
        drawn = drawn.wrapping_sub(*share);
        met.then_some(*what)
    })
}

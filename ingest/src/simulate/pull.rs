//! The story of a pull request: its branch, its commits, its reviews, its way to the main branch.
//!
//! Where it names its ticket is drawn for each place by itself, at the rates of its repository; in many it is nowhere.

use fastrand::Rng;
use flowsync_schemas::Micros;

use super::{
    calendar::{Slot, within},
    organisation::{BRANCH_KEY_BPS, Change, Landing, Repository},
    plan::{Plan, Span},
    story::{Build, Commit, Note, Pull, PullStep, Review},
    time::{MINUTE, SECOND, Sha, happens, mix, pick},
    words,
    world::World,
};

/// Titles that name the ticket where titles do not become commits, and bodies that do. Chosen.
const TITLE_KEY_BPS: u32 = 3_000;
const BODY_KEY_BPS: u32 = 2_500;
/// Of the commits that name a ticket, those that spell it in a way that a strict pattern misses ("KAFKA 218", "KAFKA:212",
/// "kafka-128"): in the links of ApacheJIT for Kafka 245 of 2,311 (see `SOURCES.md` of our test data).
const SLOPPY_BPS: u32 = 1_060;
/// Builds that pass, and reviews of passed ones that approve at once. Chosen.
const PASSED_BPS: u32 = 8_500;
const CONTENT_BPS: u32 = 7_500;
/// Reviews that are talked about. Chosen.
const TALKED_BPS: u32 = 3_000;
/// Chores that are closed without being merged. Chosen.
const CLOSED_BPS: u32 = 700;
/// Chores that a program proposes, and that somebody pushes to the main branch as they are. Chosen.
const BOT_BPS: u32 = 2_500;
const DIRECT_BPS: u32 = 1_500;

/// Where a pull request names its ticket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Naming {
    pub branch: bool,
    pub commits: bool,
    pub title: bool,
    pub body: bool,
    /// The commits do, but not strictly.
    pub sloppy: bool,
}

impl Naming {
    pub const EVERYWHERE: Naming = Naming { branch: true, commits: true, title: true, body: true, sloppy: false };
    const NOWHERE: Naming = Naming { branch: false, commits: false, title: false, body: false, sloppy: false };

    /// Of a ticket that is written by hand: each way in turn.
    pub fn written(number: u32) -> Self {
        match number % 5 {
            0 => Self::EVERYWHERE,
            1 => Naming { body: true, ..Self::NOWHERE },
            2 => Naming { title: true, ..Self::NOWHERE },
            3 => Naming { commits: true, ..Self::NOWHERE },
            _ => Naming { branch: true, ..Self::NOWHERE },
        }
    }

    pub fn draw(rng: &mut Rng, repo: &Repository) -> Self {
        let commits = happens(rng, repo.commit_keys);
        // Where changes are squashed, the title is what becomes the message.
        let title = if repo.landing == Landing::Squash { commits } else { happens(rng, TITLE_KEY_BPS) };
        Naming {
            branch: happens(rng, BRANCH_KEY_BPS),
            commits,
            title,
            body: happens(rng, BODY_KEY_BPS),
            sloppy: commits && happens(rng, SLOPPY_BPS),
        }
    }
}

/// A pull request to be told.
pub(super) struct Work<'a> {
    pub repo: u32,
    pub author: u32,
    pub title: String,
    pub topic: &'a str,
    pub key: Option<&'a str>,
    pub naming: Naming,
    /// A ticket that is mentioned in passing.
    pub aside: Option<String>,
    /// Address of a design.
    pub design: Option<String>,
    /// The work, and which of its minutes are this pull request's.
    pub slots: &'a [Slot],
    pub minutes: (u32, u32),
    /// Reviewed, merged and deployed within the hour.
    pub urgent: bool,
    pub bot: bool,
    pub written: bool,
    /// What it takes back.
    pub reverts: Option<Change>,
}

/// Where a story's pull request is in its life.
struct Draft {
    place: usize,
    reviewer: u32,
    /// Steps of it happen no earlier.
    now: Micros,
}

impl World {
    /// Work that no ticket asks for.
    pub fn tell_chore(&mut self, number: u64, project: u32, at: Micros) {
        let mut plan = Plan::new(mix(mix(self.seed, 5), number), None);
        let of = &mut self.org.projects[project as usize];
        of.chores += 1;
        let written = of.written.and_then(|w| w.chores.get(of.chores as usize - 1));
        let (team, theme) = (of.developers.clone(), of.theme);
        let titled = match written {
            Some(title) => words::Titled { title: (*title).to_owned(), topic: words::topic(title) },
            None => words::chore(&mut plan.rng, theme),
        };
        let author = *pick(&mut plan.rng, &team);
        let minutes = plan.rng.u32(30..150);
        let slots = self.book(author, Micros(at.0 + 20 * MINUTE), minutes);
        let repo = self.org.repository(&mut plan.rng, project);
        let work = Work {
            repo,
            author,
            title: titled.title,
            topic: &titled.topic,
            key: None,
            naming: Naming::default(),
            aside: None,
            design: None,
            slots: &slots,
            minutes: (0, minutes),
            urgent: false,
            bot: written.is_none() && happens(&mut plan.rng, BOT_BPS),
            written: written.is_some(),
            reverts: None,
        };
        if written.is_none() && !work.bot && happens(&mut plan.rng, DIRECT_BPS) {
            let place = self.draft(&mut plan, &work);
            let pushed = within(self.zone(author), &slots, minutes);
            plan.story.pulls[place].commits.truncate(1);
            plan.pull(pushed, place, PullStep::PushedToMain);
        } else {
            self.tell_pull(&mut plan, &work);
        }
        let Plan { story, steps, .. } = plan;
        self.begin(story, steps);
    }

    /// A pull request from its branch to its merge.
    pub fn tell_pull(&mut self, plan: &mut Plan, work: &Work<'_>) -> Span {
        let place = self.draft(plan, work);
        let zone = self.zone(work.author);
        let (from, to) = work.minutes;
        let (begun, ready) = (within(zone, work.slots, from), within(zone, work.slots, to));
        plan.pull(Micros(begun.0 + SECOND), place, PullStep::Branched);
        let count = plan.story.pulls[place].commits.len();
        let first = if count > 2 && ready.0 - begun.0 > 6 * 60 * MINUTE { count / 2 } else { 0 };
        if first > 0 {
            let pushed = Micros(plan.story.pulls[place].commits[first - 1].at.0 + MINUTE);
            plan.pull(pushed, place, PullStep::Pushed(0, first as u8));
        }
        plan.pull(Micros(ready.0 + MINUTE), place, PullStep::Pushed(first as u8, count as u8));
        let opened = Micros(ready.0 + 3 * MINUTE);
        plan.pull(opened, place, PullStep::Opened);
        self.edit(plan, work, place, opened);
        let reviewer = self.reviewer(&mut plan.rng, work, opened);
        let mut draft = Draft { place, reviewer, now: opened };
        let passed = work.bot || happens(&mut plan.rng, PASSED_BPS);
        self.build(plan, &draft, passed);
        draft.now = match work.urgent {
            true => self.after(reviewer, opened, 15),
            false => self.after(reviewer, opened, 30 + plan.rng.u32(0..330)),
        };
        if happens(&mut plan.rng, self.scale.disorder.force_pushed_bps) && !work.urgent && !work.bot {
            self.rebase(plan, work, &mut draft);
        }
        if work.key.is_none() && !work.written && happens(&mut plan.rng, CLOSED_BPS) {
            plan.pull(draft.now, place, PullStep::Closed);
            plan.pull(Micros(draft.now.0 + MINUTE), place, PullStep::BranchDeleted);
            return Span { opened, merged: draft.now };
        }
        let content = passed && happens(&mut plan.rng, CONTENT_BPS);
        if !content && !work.bot {
            self.rework(plan, work, &mut draft);
        }
        self.review(plan, work, &draft, "approved");
        self.merge(plan, work, &draft, opened)
    }

    /// The pull request before anything of it happens.
    fn draft(&mut self, plan: &mut Plan, work: &Work<'_>) -> usize {
        let zone = self.zone(work.author);
        let (from, to) = work.minutes;
        let count = match work.reverts {
            Some(_) => 1,
            None if work.bot => 1,
            None => 1 + plan.rng.u32(0..3) + u32::from(to - from > 600),
        };
        let commits: Vec<Commit> = (0..count)
            .map(|n| {
                let minute = from + (to - from) * (n + 1) / (count + 1);
                let at = within(zone, work.slots, minute);
                self.commit(&mut plan.rng, work, at)
            })
            .collect();
        let repo = &self.org.repos[work.repo as usize];
        let (title, body) = texts(&mut plan.rng, work, repo);
        let branch = branch(work, repo, &mut plan.rng);
        let merger = if work.bot { self.org.projects[repo.project as usize].developers[0] } else { work.author };
        let pull = Pull {
            repo: work.repo,
            number: 0,
            title,
            body,
            edit: None,
            author: work.author,
            bot: work.bot,
            merger,
            branch,
            files: commits.iter().map(|c| u32::from(c.files)).sum(),
            head: Sha::NONE,
            commits,
            replaced: Vec::new(),
            landed: Vec::new(),
            before: Sha::NONE,
            created_at: Micros(0),
            closed_at: None,
            merge: None,
            merge_sha: Sha::draw(&mut plan.rng),
            lines: (plan.rng.u32(8..340), plan.rng.u32(0..120)),
            topic: words::slug(work.topic, 2),
            builds: Vec::new(),
            reviews: Vec::new(),
            comments: Vec::new(),
            reverts: work.reverts.as_ref().map(|c| c.sha),
            urgent: work.urgent,
            arrived: false,
            in_force: None,
        };
        plan.story.pulls.push(pull);
        plan.story.pulls.len() - 1
    }

    fn commit(&self, rng: &mut Rng, work: &Work<'_>, at: Micros) -> Commit {
        let message = match (&work.reverts, work.bot) {
            (Some(change), _) => format!("Revert \"{}\"\n\nThis reverts commit {}.", change.title, change.sha),
            (None, true) => work.title.clone(),
            (None, false) => {
                let message = words::message(rng, work.topic);
                match work.key.filter(|_| work.naming.commits) {
                    Some(key) => with_key(rng, key, &message, work),
                    None => message,
                }
            }
        };
        let second_email = self.org.people[work.author as usize].second_email.is_some() && rng.u32(0..4) == 0;
        Commit {
            sha: Sha::draw(rng),
            at,
            author: work.author,
            message,
            files: rng.u8(1..6),
            second_email,
            arrived: false,
            on_branch: false,
        }
    }

    /// Somebody else of the team: of up to three, whoever can look first.
    fn reviewer(&self, rng: &mut Rng, work: &Work<'_>, at: Micros) -> u32 {
        let project = &self.org.projects[self.org.repos[work.repo as usize].project as usize];
        let team = &project.developers;
        let first = rng.usize(0..team.len());
        let asked = (0..team.len().min(4)).map(|n| team[(first + n) % team.len()]).filter(|p| *p != work.author);
        let can = |p: &u32| self.calendar.moment(*p, self.zone(*p), at);
        asked.min_by_key(can).unwrap_or(project.manager)
    }

    /// A change of title or body a few minutes later.
    fn edit(&mut self, plan: &mut Plan, work: &Work<'_>, place: usize, opened: Micros) {
        if !happens(&mut plan.rng, self.scale.disorder.edited_bps) || work.reverts.is_some() {
            return;
        }
        let pull = &mut plan.story.pulls[place];
        let (title, body) = (pull.title.clone(), format!("{}\n\nTested by hand as well.", pull.body));
        // A few add the key to the title afterwards, or take it away.
        let title = match work.key.filter(|_| !work.written && plan.rng.u32(0..4) == 0) {
            Some(key) if !work.naming.title => format!("{key} {title}"),
            Some(_) => work.title.clone(),
            None => title,
        };
        pull.edit = Some((title, body));
        plan.pull(Micros(opened.0 + 6 * MINUTE), place, PullStep::Edited);
    }

    fn build(&mut self, plan: &mut Plan, draft: &Draft, passed: bool) {
        let id = plan.id(self);
        let minutes = plan.rng.i64(3..14);
        let builds = &mut plan.story.pulls[draft.place].builds;
        builds.push(Build { id, began: draft.now, sha: Sha::NONE, passed });
        let number = builds.len() as u8 - 1;
        let began = Micros(draft.now.0 + MINUTE);
        plan.pull(began, draft.place, PullStep::BuildStarted(number));
        plan.pull(Micros(began.0 + minutes * MINUTE), draft.place, PullStep::BuildEnded(number));
    }

    fn review(&mut self, plan: &mut Plan, work: &Work<'_>, draft: &Draft, state: &'static str) {
        let id = plan.id(self);
        let reviews = &mut plan.story.pulls[draft.place].reviews;
        reviews.push(Review { id, by: draft.reviewer, state });
        let number = reviews.len() as u8 - 1;
        plan.pull(draft.now, draft.place, PullStep::Reviewed(number));
        let minutes = plan.rng.u16(15..46);
        let day = draft.now.day().0;
        self.worked(draft.reviewer, plan.place, &[Slot { day, from: 0, to: minutes }]);
        if happens(&mut plan.rng, TALKED_BPS) && !work.bot {
            let id = plan.id(self);
            let at = self.after(work.author, draft.now, 5);
            let note = Note { id, by: work.author, at, text: "Thanks, good point.".to_owned() };
            let comments = &mut plan.story.pulls[draft.place].comments;
            comments.push(note);
            let number = comments.len() as u8 - 1;
            plan.pull(at, draft.place, PullStep::Commented(number));
            if happens(&mut plan.rng, self.scale.disorder.deleted_bps) {
                plan.pull(Micros(at.0 + MINUTE), draft.place, PullStep::CommentDeleted(number));
            }
        }
    }

    /// The branch is put on top of the main branch, and pushed by force.
    fn rebase(&mut self, plan: &mut Plan, work: &Work<'_>, draft: &mut Draft) {
        let at = self.after(work.author, draft.now, 10);
        plan.pull(at, draft.place, PullStep::Rebased);
        plan.pull(Micros(at.0 + SECOND), draft.place, PullStep::Synchronized);
        draft.now = at;
        self.build(plan, draft, true);
        draft.now = self.after(draft.reviewer, at, 10 + plan.rng.u32(0..60));
    }

    /// Changes are asked for, made, and built.
    fn rework(&mut self, plan: &mut Plan, work: &Work<'_>, draft: &mut Draft) {
        self.review(plan, work, draft, "changes_requested");
        let minutes = if work.urgent { 10 } else { 30 + plan.rng.u32(0..120) };
        let again = self.after(work.author, draft.now, minutes);
        let commit = self.commit(&mut plan.rng, work, Micros(again.0 - 2 * MINUTE));
        let commits = &mut plan.story.pulls[draft.place].commits;
        commits.push(commit);
        let count = commits.len() as u8;
        plan.pull(again, draft.place, PullStep::Pushed(count - 1, count));
        plan.pull(Micros(again.0 + SECOND), draft.place, PullStep::Synchronized);
        let day = again.day().0;
        self.worked(work.author, plan.place, &[Slot { day, from: 0, to: minutes as u16 }]);
        draft.now = again;
        self.build(plan, draft, true);
        draft.now = self.after(draft.reviewer, again, if work.urgent { 5 } else { 15 + plan.rng.u32(0..100) });
    }

    fn merge(&mut self, plan: &mut Plan, work: &Work<'_>, draft: &Draft, opened: Micros) -> Span {
        let merger = plan.story.pulls[draft.place].merger;
        let wait = if work.urgent { 6 } else { 6 + plan.rng.u32(0..90) };
        let merged = self.after(merger, draft.now, wait);
        plan.pull(merged, draft.place, PullStep::Merged);
        plan.pull(Micros(merged.0 + SECOND), draft.place, PullStep::Landed);
        plan.pull(Micros(merged.0 + MINUTE), draft.place, PullStep::BranchDeleted);
        Span { opened, merged }
    }
}

/// A message that names its ticket.
fn with_key(rng: &mut Rng, key: &str, message: &str, work: &Work<'_>) -> String {
    let (project, number) = key.rsplit_once('-').unwrap_or((key, ""));
    if work.written {
        return format!("{key}: {message}");
    }
    if work.naming.sloppy {
        return match rng.u32(0..3) {
            0 => format!("{project} {number}: {message}"),
            1 => format!("{project}:{number} {message}"),
            _ => format!("{}: {message}", key.to_lowercase()),
        };
    }
    match rng.u32(0..4) {
        0 | 1 => format!("{key}: {message}"),
        2 => format!("[{key}] {message}"),
        _ => format!("{message}\n\nRefs: {key}"),
    }
}

/// Title and body.
fn texts(rng: &mut Rng, work: &Work<'_>, repo: &Repository) -> (String, String) {
    if let Some(change) = &work.reverts {
        let also = work.key.filter(|_| work.naming.body).map(|key| format!("\n\nFor {key}.")).unwrap_or_default();
        let body = format!("Reverts {}#{}{also}", repo.name, change.pull);
        return (format!("Revert \"{}\"", change.title), body);
    }
    let title = match work.key.filter(|_| work.naming.title) {
        Some(key) if work.written => format!("{key} {}", work.title),
        Some(key) => match rng.u32(0..3) {
            0 => format!("{key} {}", work.title),
            1 => format!("{key}: {}", work.title),
            _ => format!("[{key}] {}", work.title),
        },
        None => work.title.clone(),
    };
    let mut body = match work.key.filter(|_| work.naming.body) {
        Some(key) if work.written => format!("Closes {key}."),
        Some(key) => match rng.u32(0..5) {
            0 | 1 => format!("Closes {key}."),
            2 => format!("Part of {key}, see there for the reasons."),
            3 => format!("What changes: {}.\n\n#flowsync {key}", work.topic),
            _ => format!("https://simulated-org.example.org/browse/{key}"),
        },
        None if work.bot => "An update of dependencies. Compare the changelogs.".to_owned(),
        None => "See the commits.".to_owned(),
    };
    if let Some(address) = work.design.as_ref().filter(|_| rng.bool()) {
        body.push_str("\n\nDesign: ");
        body.push_str(address);
    }
    if let Some(aside) = &work.aside {
        body.push_str(&format!("\n\nThe interface is the one of {aside}, which this does not change."));
    }
    (title, body)
}

/// `feature/shop-12-keep-the-basket`, or without the key.
fn branch(work: &Work<'_>, repo: &Repository, rng: &mut Rng) -> String {
    if let Some(change) = &work.reverts {
        return format!("revert-{}-{}", change.pull, change.branch);
    }
    let slug = words::slug(&work.title, 4);
    // Two changes of one title are told apart by people as well.
    let twin = if work.written { String::new() } else { format!("-{}", rng.u32(2..1_000)) };
    match work.key.filter(|_| work.naming.branch) {
        Some(key) if repo.upper_case && !work.written => format!("feature/{key}-{slug}"),
        Some(key) => format!("feature/{}-{slug}", key.to_lowercase()),
        None if work.bot => format!("updates/{slug}{twin}"),
        None => format!("change/{slug}{twin}"),
    }
}

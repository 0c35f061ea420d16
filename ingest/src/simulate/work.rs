//! What happens in the organisation, told in the deliveries of its tools.
//!
//! Every ticket and every pull request is told to its end in one go, with dates that may lie after the end of the
//! simulation: those deliveries are dropped by the caller, which leaves the newest work unfinished, as in life.

use flowsync_schemas::{Day, Micros};
use serde_json::{Value, json};

use super::{
    DAYS, NOT_UNDERSTOOD, Simulated,
    catalogue::{MANAGER, OPERATOR, PEOPLE, PROJECTS, Person, Project, course},
    delivery, github,
    jira::{self, Ticket},
};

const MESSAGES: [&str; 10] = [
    "Extract the calculation into its own module",
    "Add a test for the empty case",
    "Handle timeouts of the upstream service",
    "Use the new field everywhere",
    "Make names say what they mean",
    "Keep the old behaviour behind a flag",
    "Move validation to the boundary",
    "Cover the error path",
    "Update snapshots",
    "First working version",
];

/// Where a pull request names its ticket.
#[derive(Clone, Copy, PartialEq)]
enum Naming {
    Everywhere,
    Branch,
    Body,
    Commits,
    Title,
    Nowhere,
}

/// A pull request to be told.
struct Plan<'a> {
    project: usize,
    author: usize,
    title: &'a str,
    key: Option<&'a str>,
    naming: Naming,
    /// Said in passing, at the end of the body.
    aside: Option<String>,
    /// Working day and minute of the day.
    start: (usize, i64),
    /// Reviewed and merged within two hours.
    urgent: bool,
}

/// What became of it.
struct Merged {
    id: String,
    opened: (usize, i64),
    at: (usize, i64),
}

/// The organisation under way.
pub(super) struct Organisation {
    rng: fastrand::Rng,
    seed: u64,
    /// Working days from the first on, some of them after the end.
    days: Vec<Day>,
    /// Working days before the end.
    length: usize,
    until: Micros,
    out: Vec<Simulated>,
    serial: u64,
    pulls: [u32; 3],
    /// Commits of the main branches, with their time.
    main: [Vec<(Micros, String)>; 3],
    /// Pull request to confirm, and to reject.
    confirmed: Option<String>,
    rejected: Option<String>,
}

impl Organisation {
    pub fn new(seed: u64, until: Micros) -> Self {
        let first = until.day().0.saturating_sub(DAYS);
        // 1970-01-01 was a Thursday.
        let works = |day: &i32| (day + 3).rem_euclid(7) < 5;
        let days: Vec<Day> = (first..first.saturating_add(DAYS + 60)).filter(works).map(Day).collect();
        let length = days.iter().filter(|day| **day < until.day()).count();
        Self {
            rng: fastrand::Rng::with_seed(seed),
            seed,
            days,
            length,
            until,
            out: Vec::new(),
            serial: 0,
            pulls: [0; 3],
            main: Default::default(),
            confirmed: None,
            rejected: None,
        }
    }

    pub fn run(mut self) -> Vec<Simulated> {
        for (number, project) in PROJECTS.iter().enumerate() {
            let at = self.at((0, 8 * 60 + number as i64));
            self.jira(&jira::project(project, at, &PEOPLE[MANAGER]), at);
        }
        self.sprints();
        let mut starts: Vec<(usize, usize, usize)> = Vec::new();
        for (project, of) in PROJECTS.iter().enumerate() {
            for index in 0..of.tickets.len() {
                let spread = 1 + index * self.length.saturating_sub(3) / 19;
                starts.push((spread + self.rng.usize(0..2), project, index));
            }
        }
        starts.sort_unstable();
        starts.into_iter().for_each(|(start, project, index)| self.ticket(project, index, start));
        self.chores();
        self.deployments();
        self.commands();
        self.disorder();
        self.out
    }

    fn at(&self, (day, minute): (usize, i64)) -> Micros {
        let day = self.days.get(day).or(self.days.last()).copied().unwrap_or_default();
        Micros(day.start().0 + minute * 60_000_000)
    }

    fn send(&mut self, connector: &'static str, event: &str, body: &Value, at: Micros) {
        self.serial += 1;
        let number = format!("{}-{:06}", self.seed, self.serial);
        self.out.push(delivery(connector, event, &number, body, at));
    }

    fn jira(&mut self, body: &Value, at: Micros) {
        self.send("jira", "", body, at);
    }

    fn github(&mut self, event: &str, body: &Value, at: Micros) {
        self.send("github", event, body, at);
    }

    fn next_id(&mut self) -> u64 {
        self.serial += 1;
        900_000 + self.serial
    }

    fn sha(&mut self) -> String {
        format!("{:016x}{:016x}{:08x}", self.rng.u64(..), self.rng.u64(..), self.rng.u32(..))
    }

    fn sprints(&mut self) {
        for number in 1..=3 {
            let first = (number - 1) * 11;
            let span = (self.at((first, 9 * 60)), self.at((first + 9, 17 * 60)));
            let planned = self.at((first, 8 * 60 + 30));
            self.jira(&jira::sprint(number, "sprint_created", "future", span, planned), planned);
            self.jira(&jira::sprint(number, "sprint_started", "active", span, span.0), span.0);
            self.jira(&jira::sprint(number, "sprint_closed", "closed", span, span.1), span.1);
        }
    }

    /// One ticket from its creation to its end.
    fn ticket(&mut self, project: usize, index: usize, start: usize) {
        let place = (project, index + 1);
        let created = (start.saturating_sub(1 + self.rng.usize(0..4)), 9 * 60 + self.rng.i64(0..90));
        let mut ticket = self.created(project, index, created);
        if ticket.kind == "Epic" {
            return self.moves(&mut ticket, "In Progress", (2, 10 * 60), &PEOPLE[MANAGER]);
        }
        if place == course::DELETED {
            let at = self.at((created.0 + 1, 11 * 60));
            return self.jira(&ticket.event("jira:issue_deleted", at, &PEOPLE[MANAGER], &[]), at);
        }
        let incident = ticket.kind == "Incident";
        let developer = if incident { OPERATOR } else { PROJECTS[project].team[index % 2] };
        let person = &PEOPLE[developer];
        let begin = (start, 9 * 60 + 30 + self.rng.i64(0..40));
        ticket.assignee = Some(person);
        self.moves(&mut ticket, "In Progress", begin, person);
        if place == course::BLOCKED {
            return self.moves(&mut ticket, "Blocked", (start + 1, 15 * 60), person);
        }
        if course::ONLY_SAID.contains(&place) {
            return self.moves(&mut ticket, "Done", (start + 3, 16 * 60), person);
        }
        self.worklogs(&ticket, start, person);
        let merged = self.pulls_of(&ticket, place, developer, (begin.0, begin.1 + 30));
        if !incident {
            self.moves(&mut ticket, "In Review", merged.opened, person);
        }
        if !course::FORGOTTEN.contains(&place) {
            self.moves(&mut ticket, "Done", (merged.at.0, merged.at.1 + 12), person);
        }
        if index % 6 == 1 {
            let (key, done) = (ticket.key(), (merged.at.0, merged.at.1 + 5));
            self.report(json!({ "verb": "start", "ticket": key, "reporter": person.email() }), begin);
            self.report(json!({ "verb": "done", "ticket": key, "reporter": person.email() }), done);
        }
    }

    /// The ticket as the manager writes it; one of them gets a better title a day later.
    fn created(&mut self, project: usize, index: usize, day: (usize, i64)) -> Ticket<'static> {
        let of: &'static Project = &PROJECTS[project];
        let (kind, title) = of.tickets[index];
        let created_at = self.at(day);
        let part = matches!(kind, "Story" | "New Feature");
        let mut ticket = Ticket {
            project: of,
            number: index + 1,
            id: 10_000 + project * 1_000 + index,
            kind,
            title: title.to_owned(),
            status: "To Do",
            reporter: &PEOPLE[if kind == "Incident" { OPERATOR } else { MANAGER }],
            assignee: None,
            parent: part.then(|| format!("{}-1", of.key)),
            estimate_secs: part.then(|| self.rng.u32(2..9) * 3_600),
            created_at,
            resolved_at: None,
        };
        self.jira(&ticket.event("jira:issue_created", created_at, ticket.reporter, &[]), created_at);
        if (project, index + 1) == course::RENAMED {
            let old = std::mem::replace(&mut ticket.title, format!("{title}, oldest first"));
            let at = self.at((day.0, day.1 + 55));
            let change = [("summary", old.as_str(), ticket.title.as_str())];
            self.jira(&ticket.event("jira:issue_updated", at, &PEOPLE[MANAGER], &change), at);
        }
        if index % 5 == 2 {
            let at = self.at((day.0, day.1 + 70));
            let id = self.next_id();
            self.jira(&ticket.comment(id, at, &PEOPLE[MANAGER]), at);
        }
        ticket
    }

    fn moves(&mut self, ticket: &mut Ticket<'static>, to: &'static str, when: (usize, i64), by: &Person) {
        let at = self.at(when);
        let from = std::mem::replace(&mut ticket.status, to);
        ticket.resolved_at = (to == "Done").then_some(at);
        let body = ticket.event("jira:issue_updated", at, by, &[("status", from, to)]);
        self.jira(&body, at);
    }

    fn worklogs(&mut self, ticket: &Ticket<'static>, start: usize, person: &Person) {
        if self.rng.bool() {
            for day in start..start + 2 {
                let began = self.at((day, 10 * 60));
                let secs = self.rng.u32(2..6) * 3_600;
                let id = self.next_id();
                let body = ticket.worklog(id, began, secs, person);
                self.jira(&body, Micros(began.0 + i64::from(secs) * 1_000_000));
            }
        }
    }

    /// The pull requests of a ticket: one, or two in a row.
    fn pulls_of(
        &mut self,
        ticket: &Ticket<'static>,
        place: (usize, usize),
        author: usize,
        start: (usize, i64),
    ) -> Merged {
        let key = ticket.key();
        let naming = [Naming::Everywhere, Naming::Body, Naming::Title, Naming::Commits, Naming::Branch];
        let (rejected, other) = course::REJECTED;
        let aside = (place == rejected).then(|| {
            format!("The interface is the one of {}-{other}, which this does not change.", ticket.project.key)
        });
        let plan = Plan {
            project: place.0,
            author,
            title: &ticket.title,
            key: Some(&key),
            naming: naming[place.1 % naming.len()],
            aside,
            start,
            urgent: ticket.kind == "Incident",
        };
        let first = self.pull_request(plan);
        if place == rejected {
            self.rejected = Some(first.id.clone());
        }
        if place.1 % 3 != 2 || ticket.kind == "Incident" {
            return first;
        }
        let unnamed = place == course::CONFIRMED;
        let title =
            if unnamed { "Say less in the address form".to_owned() } else { format!("{}: the rest", ticket.title) };
        let second = self.pull_request(Plan {
            project: place.0,
            author,
            title: &title,
            key: Some(&key),
            naming: if unnamed { Naming::Nowhere } else { Naming::Everywhere },
            aside: None,
            start: (first.at.0, first.at.1 + 15),
            urgent: false,
        });
        if unnamed {
            self.confirmed = Some(second.id.clone());
        }
        Merged { opened: first.opened, ..second }
    }

    fn chores(&mut self) {
        for (project, of) in PROJECTS.iter().enumerate() {
            for (index, title) in of.chores.iter().enumerate() {
                let start = (1 + index * self.length / 6, 13 * 60 + self.rng.i64(0..60));
                let author = of.team[self.rng.usize(0..2)];
                let naming = Naming::Nowhere;
                let plan = Plan { project, author, title, key: None, naming, aside: None, start, urgent: false };
                self.pull_request(plan);
            }
        }
    }

    fn commits(&mut self, plan: &Plan<'_>, count: usize, at: Micros) -> Vec<github::Commit<'static>> {
        (0..count)
            .map(|n| {
                let message = MESSAGES[self.rng.usize(0..MESSAGES.len())];
                let keyed = matches!(plan.naming, Naming::Everywhere | Naming::Commits);
                let message = match plan.key.filter(|_| keyed) {
                    Some(key) => format!("{key}: {message}"),
                    None => message.to_owned(),
                };
                let earlier = (count - n) as i64 * 17 * 60_000_000;
                let author = &PEOPLE[plan.author];
                let files = self.rng.u32(1..6);
                github::Commit { sha: self.sha(), at: Micros(at.0 - earlier), author, message, files, distinct: true }
            })
            .collect()
    }

    /// One pull request from its branch to its merge.
    fn pull_request(&mut self, plan: Plan<'_>) -> Merged {
        let repo = PROJECTS[plan.project].repo;
        let author = &PEOPLE[plan.author];
        let (day, minute) = plan.start;
        let branch = branch_name(&plan);
        let at = self.at((day, minute));
        self.github("create", &github::branch(repo, &branch, at, author, true), at);
        let count = self.rng.usize(1..4);
        let pushed = self.at((day, minute + 75));
        let mut commits = self.commits(&plan, count, pushed);
        let name = format!("refs/heads/{branch}");
        self.github("push", &github::push(repo, &name, pushed, &"0".repeat(40), &commits, author), pushed);

        let opened = (day, minute + 90);
        let mut pr = self.opened(&plan, branch, &commits, self.at(opened));
        let passed = self.rng.u32(0..100) < 85;
        self.build(&pr, (opened.0, opened.1 + 1), passed);
        let (review_day, review_minute) =
            if plan.urgent { (day, opened.1 + 20) } else { (day + 1, 10 * 60 + self.rng.i64(0..90)) };
        let content = passed && self.rng.u32(0..100) < 75;
        if !content {
            self.review(&pr, &plan, "changes_requested", (review_day, review_minute));
            let again = (review_day, review_minute + 60);
            let at = self.at(again);
            let mut more = self.commits(&plan, 1, at);
            self.github("push", &github::push(repo, &name, at, &pr.head, &more, author), at);
            pr.head.clone_from(&more[0].sha);
            commits.append(&mut more);
            let at = self.at((again.0, again.1 + 1));
            self.github("pull_request", &pr.event("synchronize", at, author), at);
            self.build(&pr, (again.0, again.1 + 2), true);
        }
        self.review(&pr, &plan, "approved", (review_day, review_minute + 85));
        let merged = (review_day, (review_minute + 100 + self.rng.i64(0..120)).min(18 * 60));
        self.merge(pr, &plan, commits, merged)
    }

    fn opened(
        &mut self,
        plan: &Plan<'_>,
        branch: String,
        commits: &[github::Commit<'_>],
        at: Micros,
    ) -> github::PullRequest<'static> {
        self.pulls[plan.project] += 1;
        let author = &PEOPLE[plan.author];
        let key = plan.key.unwrap_or_default();
        let title = match plan.naming {
            Naming::Everywhere | Naming::Title => format!("{key} {}", plan.title),
            _ => plan.title.to_owned(),
        };
        let mut body = match plan.naming {
            Naming::Everywhere | Naming::Body => format!("Closes {key}."),
            _ => "See the commits.".to_owned(),
        };
        if let Some(aside) = &plan.aside {
            body = format!("{body}\n\n{aside}");
        }
        let mut pr = github::PullRequest {
            repo: PROJECTS[plan.project].repo,
            number: self.pulls[plan.project],
            title,
            body,
            author,
            branch,
            head: commits.last().map(|c| c.sha.clone()).unwrap_or_default(),
            created_at: at,
            merged: None,
            lines: (self.rng.u32(8..340), self.rng.u32(0..120)),
            files: commits.iter().map(|c| c.files).sum(),
        };
        self.github("pull_request", &pr.event("opened", at, author), at);
        if self.rng.u32(0..100) < 15 {
            pr.body.push_str("\n\nTested by hand as well.");
            let at = Micros(at.0 + 6 * 60_000_000);
            self.github("pull_request", &pr.event("edited", at, author), at);
        }
        pr
    }

    fn build(&mut self, pr: &github::PullRequest<'_>, (day, minute): (usize, i64), passed: bool) {
        let id = self.next_id();
        let (began, ended) = (self.at((day, minute)), self.at((day, minute + 8)));
        self.github("workflow_run", &pr.build(id, began, began, None), began);
        let conclusion = if passed { "success" } else { "failure" };
        self.github("workflow_run", &pr.build(id, began, ended, Some(conclusion)), ended);
    }

    fn review(&mut self, pr: &github::PullRequest<'_>, plan: &Plan<'_>, state: &str, when: (usize, i64)) {
        let team = PROJECTS[plan.project].team;
        let reviewer = &PEOPLE[if plan.author == team[0] { team[1] } else { team[0] }];
        let (id, at) = (self.next_id(), self.at(when));
        self.github("pull_request_review", &pr.review(id, state, at, reviewer), at);
        if self.rng.u32(0..100) < 30 {
            let (id, at) = (self.next_id(), self.at((when.0, when.1 + 5)));
            self.github("issue_comment", &pr.comment(id, at, pr.author), at);
        }
    }

    fn merge(
        &mut self,
        mut pr: github::PullRequest<'static>,
        plan: &Plan<'_>,
        commits: Vec<github::Commit<'static>>,
        when: (usize, i64),
    ) -> Merged {
        let (at, sha, author) = (self.at(when), self.sha(), pr.author);
        pr.merged = Some((at, sha.clone()));
        self.github("pull_request", &pr.event("closed", at, author), at);
        let squashed = plan.project == 1;
        let message = if squashed {
            format!("{} (#{})", pr.title, pr.number)
        } else {
            format!("Merge pull request #{} from simulated-org/{}\n\n{}", pr.number, pr.branch, pr.title)
        };
        let mut pushed: Vec<github::Commit<'static>> = if squashed { Vec::new() } else { commits };
        pushed.iter_mut().for_each(|commit| commit.distinct = false);
        pushed.push(github::Commit { sha: sha.clone(), at, author, message, files: pr.files, distinct: true });
        let before = self.main[plan.project].last().map_or_else(|| "0".repeat(40), |(_, sha)| sha.clone());
        self.github("push", &github::push(pr.repo, "refs/heads/main", at, &before, &pushed, author), at);
        self.main[plan.project].push((at, sha));
        let gone = self.at((when.0, when.1 + 1));
        self.github("delete", &github::branch(pr.repo, &pr.branch, gone, author, false), gone);
        Merged { id: pr.id(), opened: (plan.start.0, plan.start.1 + 90), at: when }
    }

    /// Staging in the afternoon where there is something new; production every other morning.
    fn deployments(&mut self) {
        for (project, of) in PROJECTS.iter().enumerate() {
            let (mut staged, mut live) = (String::new(), String::new());
            for day in 0..=self.length {
                if day % 2 == 0 && staged != live {
                    live.clone_from(&staged);
                    self.deploy(project, "production", &live, (day, 10 * 60 + 15), true);
                    if project == 2 {
                        let at = self.at((day, 11 * 60));
                        let tag = format!("v1.{day}.0");
                        self.github("release", &github::release(of.repo, &tag, at, &PEOPLE[OPERATOR]), at);
                    }
                }
                let now = self.at((day, 16 * 60 + 45));
                let newest = self.main[project].iter().filter(|(at, _)| *at <= now).max().map(|(_, sha)| sha.clone());
                let Some(newest) = newest.filter(|sha| *sha != staged) else { continue };
                let works = self.rng.u32(0..100) < 92;
                self.deploy(project, "staging", &newest, (day, 16 * 60 + 45), works);
                if works {
                    staged = newest;
                }
            }
        }
    }

    fn deploy(&mut self, project: usize, environment: &str, sha: &str, (day, minute): (usize, i64), works: bool) {
        let (repo, operator) = (PROJECTS[project].repo, &PEOPLE[OPERATOR]);
        let what = (self.next_id(), sha, environment);
        let began = self.at((day, minute));
        self.github("deployment", &github::deployment(repo, what, began, None, operator), began);
        let outcome = if works { "success" } else { "failure" };
        for (state, later) in [("in_progress", 1), (outcome, 9)] {
            let at = self.at((day, minute + later));
            let body = github::deployment(repo, what, began, Some((state, at)), operator);
            self.github("deployment_status", &body, at);
        }
    }

    /// A report by a script, dated.
    fn report(&mut self, mut body: Value, when: (usize, i64)) {
        let at = self.at(when);
        body["at"] = json!(github::time(at));
        body["id"] = json!(format!("simulated-{}-{:06}", self.seed, self.serial));
        self.send("manual", "", &body, at);
    }

    /// What people typed into the chat in the last hour: Slack's signature tells when it was sent.
    fn commands(&mut self) {
        let confirm = self.confirmed.clone().map(|id| format!("confirm {id} SHOP-8"));
        let reject = self.rejected.clone().and_then(|id| {
            let (repo, number) = id.split_once('#')?;
            Some(format!("reject PAY-2 <https://github.com/{repo}/pull/{number}>"))
        });
        let texts = [
            (1, Some("start SHOP-18".to_owned())),
            (3, Some("block PAY-10 waiting for the bank".to_owned())),
            (7, Some("deploy SHOP-5 to production".to_owned())),
            (7, Some("deploy PAY-4 to production".to_owned())),
            (2, confirm),
            (3, reject),
            (2, Some(NOT_UNDERSTOOD.to_owned())),
            (5, Some("done APP-7".to_owned())),
        ];
        for (number, (person, text)) in texts.into_iter().enumerate() {
            let Some(text) = text else { continue };
            let person = &PEOPLE[person];
            let at = Micros(self.until.0 - (60 - 6 * number as i64) * 60_000_000);
            let trigger = format!("simulated.{}.{number}", self.seed);
            let form = form_urlencoded::Serializer::new(String::new())
                .extend_pairs([
                    ("team_id", "SIMULATED"),
                    ("team_domain", "simulated-org"),
                    ("channel_name", "engineering"),
                ])
                .extend_pairs([("user_id", format!("U-{}", person.login).as_str()), ("user_name", person.login)])
                .extend_pairs([("command", "/flowsync"), ("text", &text), ("trigger_id", &trigger)])
                .finish();
            let headers = vec![("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())];
            self.out.push(Simulated { connector: "slack", headers, body: form.into_bytes(), at });
        }
    }

    /// Some deliveries arrive hours late, and two arrive twice.
    fn disorder(&mut self) {
        let late = self.out.len() / 60;
        for _ in 0..late {
            let index = self.rng.usize(0..self.out.len());
            if self.out[index].connector != "slack" {
                let hours = self.rng.i64(3..30);
                self.out[index].at.0 += hours * 3_600_000_000;
            }
        }
        let quarter = self.out.len() / 4;
        for index in [quarter, 2 * quarter] {
            let mut again = self.out[index].clone();
            again.at.0 += 600_000_000;
            self.out.push(again);
        }
    }
}

/// `feature/shop-12-keep-the-basket`, or without the key.
fn branch_name(plan: &Plan<'_>) -> String {
    let words: Vec<String> = plan
        .title
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|w| !w.is_empty())
        .take(4)
        .map(str::to_lowercase)
        .collect();
    let slug = words.join("-");
    let named = matches!(plan.naming, Naming::Everywhere | Naming::Branch);
    match plan.key.filter(|_| named) {
        Some(key) => format!("feature/{}-{slug}", key.to_lowercase()),
        None => format!("change/{slug}"),
    }
}

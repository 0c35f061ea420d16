//! Who is in the organisation: people with their accounts, teams with their projects, repositories with their habits.
//!
//! A function of seed and size, made once. The first eight people and three projects are those of `catalogue`. What
//! changes as work goes on (counters, heads of branches, until when somebody is busy) stands beside what does not.
//!
//! Popularity is skewed as in life: a few teams are large, and most of a team's work goes to one repository, so that a
//! few repositories are busy and most are quiet. The habits of repositories are drawn from those of public projects, counted
//! in the histories that `SOURCES.md` of our test data lists:
//!
//! - Commits that name a ticket ([`COMMIT_KEYS`]): Calcite 4,552 of 6,825, Kafka 8,651 of 14,054, Maven 4,980 of 16,271,
//!   Commons Math 2,154 of 7,442, Jenkins 8,224 of 38,581, Commons Lang 1,673 of 9,738.
//! - Branches: of 2,975 merged ones in Jenkins 769 carry the key ([`BRANCH_KEY_BPS`]).
//! - How changes get to the main branch: Kafka squashes (9,006 of 14,054 subjects end in `(#N)`, 42 merge commits), Jenkins
//!   merges (5,529 merge commits), Calcite rebases (30 merge commits of 6,825, no subject ends in `(#N)`). How many
//!   organisations do which is chosen ([`Landing::SHARES`]).

use std::collections::{BTreeSet, VecDeque};

use fastrand::Rng;

use super::{
    calendar::Moment,
    catalogue::{self, PEOPLE, PROJECTS},
    scale::Scale,
    time::{Sha, mix, pick},
    words::{self, THEMES, Theme},
};

/// Shares of commits that name a ticket, in basis points; a repository has one of these habits.
const COMMIT_KEYS: [u32; 6] = [6_670, 6_156, 3_061, 2_894, 2_132, 1_718];
/// Developers above which a team grows no more.
const TEAM_MAX: usize = 24;
/// Share of branches that carry the key.
pub(super) const BRANCH_KEY_BPS: u32 = 2_585;

/// Who somebody is, and by which accounts.
#[derive(Debug)]
pub(super) struct Person {
    pub name: String,
    /// Before the `@`, and Jira's account.
    pub login: String,
    pub github: String,
    pub email: String,
    /// An address that stands in some of the person's commits, because a machine was set up with it.
    pub second_email: Option<String>,
    /// Jira does not show the e-mail address.
    pub hides_email: bool,
    pub zone: i8,
    /// Kinds of account that were named already, a bit each.
    pub told: u8,
    /// Until when work is planned.
    pub busy_until: Moment,
}

impl Person {
    pub fn account_id(&self) -> String {
        format!("simulated:{}", self.login)
    }

    pub fn user_id(&self) -> String {
        format!("U-{}", self.login)
    }
}

/// How a pull request gets to the main branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landing {
    Merge,
    Squash,
    Rebase,
}

impl Landing {
    /// Of ten repositories; see the top of the file.
    const SHARES: [Landing; 10] = {
        use Landing::{Merge, Rebase, Squash};
        [Squash, Squash, Squash, Squash, Squash, Merge, Merge, Merge, Rebase, Rebase]
    };
}

/// A change on a main branch, as long as it can be the cause of something.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub pull: u32,
    pub sha: Sha,
    pub title: String,
    pub branch: String,
}

/// A deployment under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub id: u64,
    pub sha: Sha,
    pub creator: u32,
    pub began: flowsync_schemas::Micros,
    /// Changes that it brings, of those that waited.
    pub changes: usize,
    pub works: bool,
    /// It brings what is merged, not what is in staging.
    pub urgent: bool,
}

/// A repository.
#[derive(Debug)]
pub(super) struct Repository {
    pub name: String,
    pub url: String,
    pub project: u32,
    pub landing: Landing,
    /// Share of commits that name a ticket, in basis points.
    pub commit_keys: u32,
    /// Branches are named `feature/SHOP-12-…`, not `feature/shop-12-…`.
    pub upper_case: bool,
    /// Publishes a release with each deployment to production.
    pub releases: bool,
    /// Days between deployments to production.
    pub cadence: i32,
    pub pulls: u32,
    pub head: Sha,
    pub releases_done: u32,
    /// Merged, and in no staging deployment yet.
    pub merged: Vec<Change>,
    /// In staging, and not in production.
    pub staged: Vec<Change>,
    /// Brought to production lately.
    pub live: VecDeque<Change>,
    /// Staging and production.
    pub runs: [Option<Run>; 2],
    pub planned: [bool; 2],
    pub live_day: i32,
}

/// A project of the tracker with its team.
#[derive(Debug)]
pub(super) struct Project {
    pub key: String,
    pub name: String,
    pub cost_centre: String,
    pub theme: &'static Theme,
    /// Its tickets and chores that are written by hand.
    pub written: Option<&'static catalogue::Project>,
    pub repos: Vec<u32>,
    pub developers: Vec<u32>,
    pub manager: u32,
    pub operator: u32,
    pub zone: i8,
    pub tickets: u32,
    /// Tickets that were thought of here; some are moved here from elsewhere.
    pub dues: u64,
    pub chores: u32,
    /// Number of the newest epic.
    pub epic: Option<u32>,
}

/// Everybody and everything.
#[derive(Debug, Default)]
pub(super) struct Organisation {
    pub people: Vec<Person>,
    pub projects: Vec<Project>,
    pub repos: Vec<Repository>,
}

impl Organisation {
    pub fn new(seed: u64, scale: &Scale) -> Self {
        let people = scale.people.max(1);
        let mut rng = Rng::with_seed(mix(seed, 1));
        let mut made = Self { people: (0..people).map(|number| person(&mut rng, number)).collect(), ..Self::default() };
        // A team has eight people, its manager among them; small organisations share the manager.
        let projects = if people < 20 { (people.saturating_sub(2) / 2).clamp(1, 3) } else { (people / 8).max(3) };
        let mut keys = BTreeSet::new();
        for number in 0..projects {
            let project = project(&mut rng, number, &mut keys);
            made.projects.push(project);
        }
        made.assign(&mut rng);
        for number in 0..made.projects.len() {
            made.repositories(&mut rng, number);
        }
        made
    }

    /// Gives everybody a place: the first manages the first three projects, the eighth operates them; every other project has
    /// a manager, every third an operator; everybody else develops.
    fn assign(&mut self, rng: &mut Rng) {
        let people = self.people.len() as u32;
        let (manager, operator) = (0, (PEOPLE.len() as u32 - 1).min(people - 1));
        let mut pool: VecDeque<u32> = (0..people).filter(|p| *p != manager && *p != operator).collect();
        for number in 0..self.projects.len() {
            let beyond = number >= PROJECTS.len();
            let newest = if number % 3 == 0 { None } else { number.checked_sub(1).map(|n| self.projects[n].operator) };
            let mut own = |other: u32| if beyond { pool.pop_back().unwrap_or(other) } else { other };
            let operator = newest.unwrap_or_else(|| own(operator));
            let manager = own(manager);
            let project = &mut self.projects[number];
            (project.manager, project.operator) = (manager, operator);
        }
        for project in &mut self.projects {
            project.developers.extend(pool.drain(..pool.len().min(2)));
            // Below four people everybody does everything.
            if project.developers.is_empty() {
                project.developers.extend(0..people);
            }
        }
        // The square of a uniform number: a tenth of the teams gets a third of the people.
        let teams = self.projects.len();
        for person in pool {
            let place = rng.f64();
            // Which teams are the popular ones has nothing to do with their number.
            let popular = (((place * place) * teams as f64) as usize * 7 + 3) % teams;
            let room = self.projects[popular].developers.len() < TEAM_MAX;
            let team = if room { popular } else { rng.usize(0..teams) };
            self.projects[team].developers.push(person);
        }
        for project in &self.projects {
            let staff = project.developers.iter().chain([&project.manager]);
            staff.for_each(|p| self.people[*p as usize].zone = project.zone);
        }
    }

    fn repositories(&mut self, rng: &mut Rng, number: usize) {
        let project = &mut self.projects[number];
        let written = project.written.map(|w| w.repo);
        let count = if written.is_some() { 1 } else { 1 + rng.usize(0..4) };
        for place in 0..count {
            let kind = ["service", "web", "jobs", "library"][place];
            let name = match written {
                Some(repo) => repo.to_owned(),
                None => format!("simulated-org/{}-{kind}", project.key.to_lowercase()),
            };
            project.repos.push(self.repos.len() as u32);
            self.repos.push(Repository {
                url: format!("https://github.example.org/{name}"),
                name,
                project: number as u32,
                landing: match number {
                    0 => Landing::Merge,
                    1 => Landing::Squash,
                    2 => Landing::Rebase,
                    _ => *pick(rng, &Landing::SHARES),
                },
                commit_keys: *pick(rng, &COMMIT_KEYS),
                upper_case: rng.bool(),
                releases: number == 2 || (number > 2 && rng.u32(0..5) == 0),
                cadence: if number < 3 { 2 } else { *pick(rng, &[1, 1, 2, 3, 7]) },
                pulls: 0,
                head: Sha::NONE,
                releases_done: 0,
                merged: Vec::new(),
                staged: Vec::new(),
                live: VecDeque::new(),
                runs: [None; 2],
                planned: [false; 2],
                live_day: i32::MIN,
            });
        }
    }

    /// The repository that a piece of a project's work is in: the first of them twice as often as the second, and so on.
    pub fn repository(&self, rng: &mut Rng, project: u32) -> u32 {
        let repos = &self.projects[project as usize].repos;
        let place = (rng.u32(1..).leading_zeros() as usize).min(repos.len() - 1);
        repos[place]
    }
}

fn person(rng: &mut Rng, number: u32) -> Person {
    let written = PEOPLE.get(number as usize);
    let (name, login) = match written {
        Some(first) => ((*first).to_owned(), first.to_lowercase()),
        None => {
            let (first, last) = words::name(number as usize);
            (format!("{first} {last}"), format!("{}.{}{number}", first.to_lowercase(), last.to_lowercase()))
        }
    };
    // Shares of people with unlike accounts are chosen.
    let unlike = written.is_none();
    let github = match rng.u32(0..10) {
        0..=2 if unlike => format!("sim-{}{number}", mix(7, u64::from(number)) % 97),
        _ => login.replace('.', "-"),
    };
    Person {
        name: format!("{name} (simulated)"),
        email: format!("{login}@example.org"),
        second_email: (rng.u32(0..10) == 0 && unlike).then(|| format!("{login}@laptop.example.org")),
        hides_email: rng.u32(0..10) < 3 && unlike,
        login,
        github,
        zone: 0,
        told: 0,
        busy_until: Moment::default(),
    }
}

fn project(rng: &mut Rng, number: u32, keys: &mut BTreeSet<String>) -> Project {
    let written = PROJECTS.get(number as usize);
    let theme = &THEMES[number as usize % THEMES.len()];
    let key = match written {
        Some(project) => project.key.to_owned(),
        None => unique_key(theme.code, keys),
    };
    keys.insert(key.clone());
    let name = match written {
        Some(project) => project.name.to_owned(),
        None => format!("{} {key} (simulated)", theme.name),
    };
    Project {
        name,
        cost_centre: written.map_or_else(|| format!("CC-{}", 100 + number), |w| w.cost_centre.to_owned()),
        key,
        theme,
        written,
        repos: Vec::new(),
        developers: Vec::new(),
        manager: 0,
        operator: 0,
        zone: if written.is_some() { 0 } else { rng.i8(-5..=5) },
        tickets: 0,
        dues: 0,
        chores: 0,
        epic: None,
    }
}

/// `SRCH`, `SRCHA`, …, `SRCHZ`, `SRCHAA`, …: letters alone, so that a key with a digit is a renamed one.
fn unique_key(code: &str, keys: &BTreeSet<String>) -> String {
    let suffix = |mut number: usize| {
        let mut letters = Vec::new();
        while number > 0 {
            letters.push(b'A' + ((number - 1) % 26) as u8);
            number = (number - 1) / 26;
        }
        letters.reverse();
        String::from_utf8(letters).unwrap_or_default()
    };
    (0..).map(|n| format!("{code}{}", suffix(n))).find(|key| !keys.contains(key)).unwrap_or_default()
}

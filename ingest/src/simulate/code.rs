//! The steps of a pull request, as GitHub tells them.

use flowsync_schemas::Micros;

use super::{
    github::{self, PullView, Pushing, User},
    organisation::{Change, Landing},
    send::Named,
    story::{Commit, Pull, PullStep, Story},
    time::{HOUR, MINUTE, Sha},
    truth::Truth,
    world::World,
};

impl World {
    /// Plays a step of a pull request.
    pub fn code(&mut self, story: &mut Story, number: usize, step: PullStep, at: Micros) {
        let pull = &mut story.pulls[number];
        match step {
            PullStep::Branched => self.reference(pull, true, at),
            PullStep::Pushed(from, to) => {
                let before = from.checked_sub(1).map_or(Sha::NONE, |n| pull.commits[usize::from(n)].sha);
                self.push_branch(pull, usize::from(from)..usize::from(to), (before, false), at);
            }
            PullStep::Rebased => self.rebased(pull, at),
            PullStep::Opened => {
                let repo = &mut self.org.repos[pull.repo as usize];
                repo.pulls += 1;
                (pull.number, pull.created_at, pull.before) = (repo.pulls, at, repo.head);
                self.pull_event(pull, "opened", pull.author, at);
            }
            PullStep::Edited => {
                let Some((title, body)) = pull.edit.take() else { return };
                let old = (std::mem::replace(&mut pull.title, title), std::mem::replace(&mut pull.body, body));
                if !self.pull_event(pull, "edited", pull.author, at) {
                    pull.in_force = Some(old);
                }
            }
            PullStep::Synchronized => {
                self.pull_event(pull, "synchronize", pull.author, at);
            }
            PullStep::BuildStarted(n) | PullStep::BuildEnded(n) => {
                let head = pull.head;
                let build = &mut pull.builds[usize::from(n)];
                let ended = step == PullStep::BuildEnded(n);
                if !ended {
                    (build.began, build.sha) = (at, head);
                }
                let build = *build;
                let body = self.pull_view(pull, |view, _| view.build(&build, ended, at));
                self.send("github", "workflow_run", body, &author(pull), at);
            }
            PullStep::Reviewed(n) => {
                let review = pull.reviews[usize::from(n)];
                let body = self.pull_view(pull, |view, w| view.review(&review, w.user(review.by), at));
                self.send("github", "pull_request_review", body, &[Named::Github(review.by)], at);
            }
            PullStep::Commented(n) | PullStep::CommentDeleted(n) => {
                let created = step == PullStep::Commented(n);
                let note = &mut pull.comments[usize::from(n)];
                if created {
                    note.at = at;
                }
                let (note, action) = (note.clone(), if created { "created" } else { "deleted" });
                let body = self.pull_view(pull, |view, w| view.comment(action, &note, w.user(note.by), at));
                self.send("github", "issue_comment", body, &[Named::Github(note.by)], at);
            }
            PullStep::Merged => self.merged(pull, at),
            PullStep::Landed => self.landed(pull, at),
            PullStep::Closed => {
                pull.closed_at = Some(at);
                let by = self.present(self.org.repos[pull.repo as usize].project, pull.merger, at);
                self.pull_event(pull, "closed", by, at);
            }
            PullStep::BranchDeleted => self.reference(pull, false, at),
            PullStep::PushedToMain => {
                let repo = &mut self.org.repos[pull.repo as usize];
                pull.before = std::mem::replace(&mut repo.head, pull.commits[0].sha);
                pull.landed = std::mem::take(&mut pull.commits);
                self.landed(pull, at);
            }
        }
    }

    pub fn user(&self, person: u32) -> User<'_> {
        User::of(&self.org.people[person as usize])
    }

    fn author_of(&self, pull: &Pull) -> User<'_> {
        if pull.bot { User::BOT } else { self.user(pull.author) }
    }

    fn pull_view<R>(&self, pull: &Pull, make: impl FnOnce(&PullView<'_>, &Self) -> R) -> R {
        let repo = &self.org.repos[pull.repo as usize];
        make(&PullView { pull, repo, author: self.author_of(pull) }, self)
    }

    /// A version of the pull request. The newest that arrives is in force.
    fn pull_event(&mut self, pull: &mut Pull, action: &'static str, by: u32, at: Micros) -> bool {
        let body = self.pull_view(pull, |view, w| {
            let sender = if by == pull.author { w.author_of(pull) } else { w.user(by) };
            view.event(action, sender, at)
        });
        let mut named = author(pull).to_vec();
        if by != pull.author {
            named.push(Named::Github(by));
        }
        let arrives = self.send("github", "pull_request", body, &named, at);
        if arrives {
            (pull.arrived, pull.in_force) = (true, None);
        }
        arrives
    }

    fn reference(&mut self, pull: &Pull, created: bool, at: Micros) {
        let repo = &self.org.repos[pull.repo as usize];
        let sender = self.author_of(pull);
        let body = github::reference(repo, ("branch", &pull.branch), sender, created, at);
        self.send("github", if created { "create" } else { "delete" }, body, &author(pull), at);
    }

    /// Some of the commits, to the branch.
    fn push_branch(
        &mut self,
        pull: &mut Pull,
        range: std::ops::Range<usize>,
        (before, forced): (Sha, bool),
        at: Micros,
    ) {
        let name = format!("refs/heads/{}", pull.branch);
        let commits = pull.commits[range.clone()].iter().map(|c| (c, true)).collect();
        let arrived = self.push_commits(
            pull,
            Pushing { name: &name, before, forced, commits, bot: pull.bot, topic: &pull.topic },
            at,
        );
        pull.head = pull.commits[range.end - 1].sha;
        for commit in &mut pull.commits[range] {
            commit.arrived |= arrived;
            commit.on_branch |= arrived;
        }
    }

    fn push_commits(&mut self, pull: &Pull, pushing: Pushing<'_>, at: Micros) -> bool {
        let repo = &self.org.repos[pull.repo as usize];
        let pusher = if pull.merge.is_some() { pull.merger } else { pull.author };
        let people = &self.org.people;
        let body = github::push(repo, people, &pushing, &people[pusher as usize], at);
        let mut named = Vec::with_capacity(4);
        if !pull.bot {
            named.push(Named::Github(pusher));
            let signed = |(c, _): &(&Commit, bool)| match c.second_email {
                true => Named::SecondEmail(c.author),
                false => Named::Email(c.author),
            };
            named.extend(pushing.commits.iter().map(signed));
        }
        self.send("github", "push", body, &named, at)
    }

    /// All commits get new names, the old ones are on no branch any more.
    fn rebased(&mut self, pull: &mut Pull, at: Micros) {
        let before = pull.head;
        // What is pushed later keeps its name.
        let pushed = pull.commits.iter().position(|c| c.sha == before).map_or(pull.commits.len(), |n| n + 1);
        for commit in &mut pull.commits[..pushed] {
            let rewritten = Commit { sha: commit.sha.rewritten(), arrived: false, on_branch: false, ..commit.clone() };
            pull.replaced.push(std::mem::replace(commit, rewritten));
        }
        self.push_branch(pull, 0..pushed, (before, true), at);
    }

    /// The button is pressed: the repository's way of landing decides what comes to the main branch.
    fn merged(&mut self, pull: &mut Pull, at: Micros) {
        let repo = &mut self.org.repos[pull.repo as usize];
        let made = |message: String| Commit {
            sha: pull.merge_sha,
            at,
            author: pull.merger,
            message,
            files: pull.files.min(200) as u8,
            second_email: false,
            arrived: false,
            on_branch: false,
        };
        match repo.landing {
            Landing::Squash => {
                let mut message = format!("{} (#{})", pull.title, pull.number);
                if pull.commits.len() > 1 {
                    message.push('\n');
                    pull.commits.iter().for_each(|c| {
                        message.push_str("\n* ");
                        message.push_str(&c.message);
                    });
                }
                pull.landed = vec![Commit { author: pull.author, ..made(message) }];
            }
            Landing::Merge => {
                let message =
                    format!("Merge pull request #{} from simulated-org/{}\n\n{}", pull.number, pull.branch, pull.title);
                pull.landed = pull.commits.clone();
                pull.landed.push(made(message));
            }
            Landing::Rebase => {
                let again =
                    |c: &Commit| Commit { sha: c.sha.rewritten(), arrived: false, on_branch: false, ..c.clone() };
                pull.landed = pull.commits.iter().map(again).collect();
            }
        }
        let sha = pull.landed.last().map_or(pull.merge_sha, |c| c.sha);
        pull.before = std::mem::replace(&mut repo.head, sha);
        (pull.merge, pull.closed_at) = (Some(sha), Some(at));
        let change = Change { pull: pull.number, sha, title: pull.title.clone(), branch: pull.branch.clone() };
        repo.merged.push(change);
        if let Some(reverted) = pull.reverts {
            self.tell(|| Truth::Reverted { sha: reverted.to_string(), by: sha.to_string() });
        }
        self.pull_event(pull, "closed", pull.merger, at);
        self.plan_deployment(pull.repo, false, at);
        if pull.urgent {
            self.schedule(Micros(at.0 + 20 * MINUTE), super::world::What::Deploy(pull.repo, true));
        }
    }

    /// What was merged comes to the main branch.
    fn landed(&mut self, pull: &mut Pull, at: Micros) {
        let landing = self.org.repos[pull.repo as usize].landing;
        let own = pull.commits.len();
        let commits: Vec<(&Commit, bool)> = pull
            .landed
            .iter()
            .enumerate()
            // Commits of the branch were pushed with it; the merge is new.
            .map(|(n, c)| (c, landing != Landing::Merge || n >= own))
            .collect();
        let bot = pull.bot && landing != Landing::Squash;
        let pushing =
            Pushing { name: "refs/heads/main", before: pull.before, forced: false, commits, bot, topic: &pull.topic };
        let arrived = self.push_commits(pull, pushing, at);
        for commit in pull.landed.iter_mut().filter(|_| arrived) {
            commit.arrived = true;
        }
        // What is merged by its commits is on both branches; either push states it.
        for own in pull.commits.iter_mut().filter(|_| arrived) {
            own.arrived |= pull.landed.iter().any(|c| c.sha == own.sha);
        }
    }

    /// Staging follows in the afternoon of the same day, or of the next.
    pub fn plan_deployment(&mut self, repo: u32, live: bool, at: Micros) {
        let of = &mut self.org.repos[repo as usize];
        if std::mem::replace(&mut of.planned[usize::from(live)], true) {
            return;
        }
        let zone = i64::from(self.org.projects[of.project as usize].zone);
        let minute = if live { 10 * 60 + 15 } else { 16 * 60 + 45 } - zone * 60;
        let mut day = if live { (at.day().0 + 1).max(of.live_day.saturating_add(of.cadence)) } else { at.day().0 };
        let time = |day: i32| Micros(flowsync_schemas::Day(day).start().0 + minute * MINUTE);
        while time(day).0 < at.0 + HOUR / 12 || !super::calendar::workday(day) {
            day += 1;
        }
        self.schedule(time(day), super::world::What::Deploy(repo, live));
    }
}

fn author(pull: &Pull) -> [Named; 1] {
    [Named::Github(pull.author)]
}

//! Deployments and releases: staging in the afternoon where something was merged, production in the mornings after.

use flowsync_schemas::Micros;

use super::{
    github,
    organisation::Run,
    send::Named,
    time::{MINUTE, happens},
    world::{What, World},
};

/// Deployments that fail before they change anything. Chosen.
const FAILED_BPS: u32 = 800;
/// Changes in production that can still be the cause of an incident.
const LIVE_MAX: usize = 12;

impl World {
    /// Begins a deployment, if there is anything to deploy.
    pub fn deploy(&mut self, repo: u32, live: bool, at: Micros) {
        let stage = usize::from(live);
        let failed = happens(&mut self.rng, FAILED_BPS);
        let project = self.org.repos[repo as usize].project;
        let operator = self.org.projects[project as usize].operator;
        let creator = self.present(project, operator, at);
        let id = 500_000 + self.serial;
        let of = &mut self.org.repos[repo as usize];
        of.planned[stage] = false;
        if of.runs[stage].is_some() {
            of.planned[stage] = true;
            return self.schedule(Micros(at.0 + 15 * MINUTE), What::Deploy(repo, live));
        }
        // An urgent change goes to production without having been in staging, and takes with it what is merged.
        let urgent = live && of.staged.is_empty();
        let waiting = if live && !urgent { &of.staged } else { &of.merged };
        let Some(sha) = waiting.last().map(|c| c.sha) else { return };
        let run = Run { id, sha, creator, began: at, changes: waiting.len(), works: live || !failed, urgent };
        of.runs[stage] = Some(run);
        let body = github::deployment(of, (id, sha, environment(live)), at, None, user(&self.org.people, creator));
        self.send("github", "deployment", body, &[Named::Github(creator)], at);
        self.schedule(Micros(at.0 + MINUTE), What::DeployRuns(repo, live));
        self.schedule(Micros(at.0 + 9 * MINUTE), What::DeployEnds(repo, live));
    }

    pub fn deploy_runs(&mut self, repo: u32, live: bool, at: Micros) {
        if let Some(run) = self.org.repos[repo as usize].runs[usize::from(live)] {
            self.deploy_status(repo, live, &run, "in_progress", at);
        }
    }

    pub fn deploy_ends(&mut self, repo: u32, live: bool, at: Micros) {
        let Some(run) = self.org.repos[repo as usize].runs[usize::from(live)].take() else { return };
        self.deploy_status(repo, live, &run, if run.works { "success" } else { "failure" }, at);
        let of = &mut self.org.repos[repo as usize];
        if !run.works {
            return self.plan_deployment(repo, live, at);
        }
        let waiting = if live && !run.urgent { &mut of.staged } else { &mut of.merged };
        let shipped: Vec<_> = waiting.drain(..run.changes.min(waiting.len())).collect();
        let more = !of.merged.is_empty();
        if live {
            of.live_day = at.day().0;
            of.live.extend(shipped);
            while of.live.len() > LIVE_MAX {
                of.live.pop_front();
            }
            if of.releases {
                self.release(repo, &run, at);
            }
        } else {
            of.staged.extend(shipped);
            self.plan_deployment(repo, true, at);
        }
        if more {
            self.plan_deployment(repo, false, at);
        }
    }

    fn deploy_status(&mut self, repo: u32, live: bool, run: &Run, state: &'static str, at: Micros) {
        let of = &self.org.repos[repo as usize];
        let what = (run.id, run.sha, environment(live));
        let creator = user(&self.org.people, run.creator);
        let body = github::deployment(of, what, run.began, Some((state, at)), creator);
        self.send("github", "deployment_status", body, &[Named::Github(run.creator)], at);
    }

    /// A tag, and the release that it names.
    fn release(&mut self, repo: u32, run: &Run, at: Micros) {
        let of = &mut self.org.repos[repo as usize];
        of.releases_done += 1;
        let tag = format!("v1.{}.0", of.releases_done);
        let author = user(&self.org.people, run.creator);
        let created = github::reference(of, ("tag", &tag), author, true, at);
        let published = github::release(of, &tag, author, at);
        self.send("github", "create", created, &[Named::Github(run.creator)], at);
        self.send("github", "release", published, &[Named::Github(run.creator)], at);
    }
}

fn environment(live: bool) -> &'static str {
    if live { "production" } else { "staging" }
}

fn user(people: &[super::organisation::Person], person: u32) -> github::User<'_> {
    github::User::of(&people[person as usize])
}

//! The steps of a ticket, as Jira tells them, and what people report of it. And the truth of a story that is over.

use flowsync_schemas::{EntityKind, Micros};

use super::{
    jira::{self, Change, SITE, TicketView},
    send::Named,
    story::{Pull, Status, Step, Story, Ticket, Word, branch_names, names},
    truth::Truth,
    words,
    world::World,
};

impl World {
    /// Plays a step that is not one of a pull request.
    pub fn track(&mut self, story: &mut Story, step: Step, at: Micros) {
        let Some(ticket) = &mut story.ticket else { return };
        match step {
            Step::Created => {
                let by = ticket.reporter;
                self.issue(ticket, "jira:issue_created", by, &[], at);
            }
            Step::Retitled => {
                let Some(title) = ticket.retitle.take() else { return };
                let old = std::mem::replace(&mut ticket.title, title.clone());
                self.changed(ticket, ticket.reporter, ("summary", Some(&old), Some(&title)), at);
            }
            Step::Moved => self.moved(ticket, at),
            Step::Status(to) => self.transition(ticket, to, at),
            Step::Deleted => {
                ticket.deleted_at = Some(at);
                let by = self.present(ticket.place.0, ticket.reporter, at);
                self.issue(ticket, "jira:issue_deleted", by, &[], at);
            }
            Step::Documented => {
                let title = words::slug(&ticket.title, 3);
                let Some(page) = ticket.page else { return };
                let text = format!("This issue links to \"{} {title} (Confluence)\"", self.page(ticket, page));
                self.changed(ticket, ticket.reporter, ("RemoteIssueLink", None, Some(&text)), at);
            }
            Step::Linked | Step::Unlinked => {
                let Some(other) = ticket.other else { return };
                let event = if step == Step::Linked { "issuelink_created" } else { "issuelink_deleted" };
                let body = jira::link(event, (20_000 + ticket.id, ticket.id, other), at);
                self.send("jira", "", body, &[], at);
            }
            Step::Noted(number) => {
                let note = &mut story.notes[usize::from(number)];
                note.at = at;
                let body = self.view(ticket, |v, w| v.comment("comment_created", note, w.who(note.by), at));
                self.send("jira", "", body, &[Named::Jira(note.by)], at);
            }
            Step::NoteEdited(number) => {
                let note = &mut story.notes[usize::from(number)];
                note.text.push_str(" (Edited.)");
                let body = self.view(ticket, |v, w| v.comment("comment_updated", note, w.who(note.by), at));
                self.send("jira", "", body, &[Named::Jira(note.by)], at);
            }
            Step::NoteDeleted(number) => {
                let note = &story.notes[usize::from(number)];
                let body = self.view(ticket, |v, w| v.comment("comment_deleted", note, w.who(note.by), at));
                self.send("jira", "", body, &[Named::Jira(note.by)], at);
            }
            Step::Logged(number) | Step::LogDeleted(number) => {
                let log = &mut story.logs[usize::from(number)];
                let event = if let Step::Logged(_) = step {
                    log.written = at;
                    "worklog_created"
                } else {
                    "worklog_deleted"
                };
                let body = self.view(ticket, |v, w| v.worklog(event, log, w.who(log.by), at));
                self.send("jira", "", body, &[Named::Jira(log.by)], at);
            }
            Step::Reported(word) => {
                let key = self.key(ticket.place);
                self.report(word, &key, ticket.developer, at);
            }
            Step::Said(word) => self.said_of(story, word, at),
            Step::Pull(..) => {}
        }
    }

    fn who(&self, person: u32) -> &super::organisation::Person {
        &self.org.people[person as usize]
    }

    fn page(&self, ticket: &Ticket, page: u64) -> String {
        let project = &self.org.projects[ticket.place.0 as usize].key;
        format!("{SITE}/wiki/spaces/{project}/pages/{page}")
    }

    /// What is made of a ticket with the names of everything that it refers to.
    fn view<R>(&self, ticket: &Ticket, make: impl FnOnce(&TicketView<'_>, &Self) -> R) -> R {
        let project = &self.org.projects[ticket.place.0 as usize];
        let parent = ticket.epic.map(|epic| self.key(epic));
        let view = TicketView {
            ticket,
            key: &self.key(ticket.place),
            project: (&project.key, &project.name),
            parent: parent.as_deref(),
            reporter: self.who(ticket.reporter),
            assignee: ticket.assignee.map(|p| self.who(p)),
        };
        make(&view, self)
    }

    fn issue(&mut self, ticket: &Ticket, event: &'static str, by: u32, changes: &[Change<'_>], at: Micros) -> bool {
        let body = self.view(ticket, |v, w| v.event(event, w.who(by), changes, at));
        let assignee = ticket.assignee.unwrap_or(by);
        self.send("jira", "", body, &[Named::Jira(by), Named::Jira(ticket.reporter), Named::Jira(assignee)], at)
    }

    fn changed(
        &mut self,
        ticket: &Ticket,
        by: u32,
        (field, from_string, to_string): (&str, Option<&str>, Option<&str>),
        at: Micros,
    ) {
        let by = self.present(ticket.place.0, by, at);
        self.issue(ticket, "jira:issue_updated", by, &[Change { field, from_string, to_string }], at);
    }

    fn transition(&mut self, ticket: &mut Ticket, to: Status, at: Micros) {
        let from = std::mem::replace(&mut ticket.status, to);
        ticket.resolved_at = (to == Status::Done).then_some(at);
        let epic = ticket.kind == "Epic";
        if to == Status::InProgress && !epic {
            ticket.assignee = Some(ticket.developer);
        }
        let by = if epic { self.present(ticket.place.0, ticket.reporter, at) } else { ticket.developer };
        self.changed(ticket, by, ("status", Some(from.name()), Some(to.name())), at);
    }

    /// Jira sends the issue with its new key, and both keys in the changelog.
    fn moved(&mut self, ticket: &mut Ticket, at: Micros) {
        let Some(to) = ticket.moves_to.take() else { return };
        let old = std::mem::replace(&mut ticket.place, to);
        // An epic is of one project.
        ticket.epic = None;
        let (from, to) = (self.key(old), self.key(to));
        let names = [old, ticket.place].map(|(p, _)| self.org.projects[p as usize].name.clone());
        let changes = [
            Change { field: "project", from_string: Some(&names[0]), to_string: Some(&names[1]) },
            Change { field: "Key", from_string: Some(&from), to_string: Some(&to) },
        ];
        let by = self.present(old.0, ticket.reporter, at);
        self.issue(ticket, "jira:issue_updated", by, &changes, at);
        self.tell(|| Truth::Moved { from, to, at });
    }

    fn said_of(&mut self, story: &Story, word: Word, at: Micros) {
        let Some(ticket) = &story.ticket else { return };
        let key = self.key(ticket.place);
        let manager = self.org.projects[ticket.place.0 as usize].manager;
        let judging = matches!(word, Word::Second | Word::Confirm | Word::Reject);
        let by = self.present(ticket.place.0, if judging { manager } else { ticket.developer }, at);
        let text = match (word, story.judged) {
            (Word::Deploy | Word::Second, _) => format!("deploy {key} to production"),
            (Word::Block, _) => format!("block {key} waiting for somebody else"),
            (Word::Start | Word::Done, _) => format!("{} {key}", word.verb()),
            (Word::Confirm | Word::Reject, None) => return,
            (_, Some((pull, other))) => {
                let pull = &story.pulls[usize::from(pull)];
                let (repo, other) = (&self.org.repos[pull.repo as usize], self.key(other));
                match word {
                    Word::Confirm => format!("confirm {}#{} {other}", repo.name, pull.number),
                    _ => format!("reject {other} <{}/pull/{}>", repo.url, pull.number),
                }
            }
        };
        self.command(&text, by, at);
    }

    /// What is so of a story of which nothing more will happen.
    pub fn conclude(&mut self, story: &Story) {
        let Some(ticket) = story.ticket.as_ref().filter(|_| self.truth.is_some()) else { return };
        let key = self.key(ticket.place);
        if let Some(at) = ticket.deleted_at {
            return self.tell(|| Truth::Deleted { ticket: key, at });
        }
        if let Some(at) = ticket.done_at.filter(|at| *at <= self.until) {
            let ticket = key.clone();
            self.tell(|| Truth::Done { ticket, at });
        }
        let design = ticket.design.clone().map(|address| (EntityKind::DesignFile, address));
        let page = ticket.page.map(|page| (EntityKind::ContentDoc, self.page(ticket, page)));
        for (artifact_kind, artifact) in design.into_iter().chain(page) {
            let ticket = key.clone();
            self.tell(|| Truth::Link { artifact_kind, artifact, ticket, stated: false });
        }
        story.pulls.iter().for_each(|pull| self.links(pull, &key));
    }

    fn links(&mut self, pull: &Pull, key: &str) {
        let of_branch = branch_names(&pull.branch, key);
        if pull.arrived {
            let artifact = format!("{}#{}", self.org.repos[pull.repo as usize].name, pull.number);
            let (artifact_kind, ticket) = (EntityKind::PullRequest, key.to_owned());
            let (title, body) = pull.in_force.as_ref().map_or((&pull.title, &pull.body), |(title, body)| (title, body));
            let stated = of_branch || names(title, key) || names(body, key);
            self.tell(|| Truth::Link { artifact_kind, artifact, ticket, stated });
        }
        let on_main = pull.landed.iter().filter(|c| !pull.commits.iter().any(|own| own.sha == c.sha));
        for commit in pull.replaced.iter().chain(&pull.commits).chain(on_main).filter(|c| c.arrived) {
            let (artifact_kind, artifact) = (EntityKind::Commit, commit.sha.to_string());
            // A merge names the branch that it merged.
            let on_branch = commit.on_branch || commit.message.starts_with("Merge pull request #");
            let stated = names(&commit.message, key) || (of_branch && on_branch);
            let ticket = key.to_owned();
            self.tell(|| Truth::Link { artifact_kind, artifact, ticket, stated });
        }
    }
}

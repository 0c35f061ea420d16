//! Stories under way: a ticket with its pull requests, or a pull request without a ticket, and the steps they take.
//!
//! A story is planned as a whole, in steps with their times; what a step changes is changed when its time has come. These
//! are the nouns; `plan` and `pull` write stories, `tracker` and `code` play them.

use flowsync_schemas::Micros;

use super::time::Sha;

/// A step of a story. Numbers are places in the story's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Created,
    Retitled,
    Moved,
    Status(Status),
    Noted(u8),
    NoteEdited(u8),
    NoteDeleted(u8),
    Documented,
    Linked,
    Unlinked,
    Logged(u8),
    LogDeleted(u8),
    Deleted,
    /// Reported by a script.
    Reported(Word),
    /// Said in the chat.
    Said(Word),
    Pull(u8, PullStep),
}

/// A step of a pull request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PullStep {
    Branched,
    /// Commits from, to.
    Pushed(u8, u8),
    Rebased,
    Opened,
    Edited,
    Synchronized,
    BuildStarted(u8),
    BuildEnded(u8),
    Reviewed(u8),
    Commented(u8),
    CommentDeleted(u8),
    Merged,
    Landed,
    /// Closed without being merged.
    Closed,
    BranchDeleted,
    /// Without a pull request.
    PushedToMain,
}

/// What a report says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Word {
    Start,
    Done,
    Block,
    Deploy,
    /// Somebody else says that it was deployed.
    Second,
    Confirm,
    Reject,
}

/// Status of a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Status {
    ToDo,
    InProgress,
    InReview,
    Blocked,
    Done,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::ToDo => "To Do",
            Status::InProgress => "In Progress",
            Status::InReview => "In Review",
            Status::Blocked => "Blocked",
            Status::Done => "Done",
        }
    }

    /// Jira's category.
    pub fn category(self) -> &'static str {
        match self {
            Status::ToDo => "new",
            Status::Done => "done",
            Status::InProgress | Status::InReview | Status::Blocked => "indeterminate",
        }
    }
}

/// Project and number of a ticket.
pub(super) type Place = (u32, u32);

/// A ticket as it stands.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub place: Place,
    /// Where it will be moved.
    pub moves_to: Option<Place>,
    pub id: u64,
    pub kind: &'static str,
    pub title: String,
    /// Its title later.
    pub retitle: Option<String>,
    pub status: Status,
    pub reporter: u32,
    pub assignee: Option<u32>,
    /// Who takes it.
    pub developer: u32,
    /// Number of the epic, in the project of its creation.
    pub epic: Option<Place>,
    pub estimate_secs: Option<u32>,
    pub created_at: Micros,
    pub resolved_at: Option<Micros>,
    /// Address of the design that was made for it, and whether it was announced.
    pub design: Option<String>,
    /// Title and number of the page that describes it.
    pub page: Option<u64>,
    /// Jira's number of another ticket that it is linked to.
    pub other: Option<u64>,
    /// The ticket's work was really done then.
    pub done_at: Option<Micros>,
    pub deleted_at: Option<Micros>,
}

/// A comment on a ticket or on a pull request.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub id: u64,
    pub by: u32,
    pub at: Micros,
    pub text: String,
}

/// Time that somebody logged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log {
    pub id: u64,
    pub by: u32,
    pub began: Micros,
    pub written: Micros,
    pub secs: u32,
}

/// A commit.
#[derive(Clone, Debug)]
pub(super) struct Commit {
    pub sha: Sha,
    pub at: Micros,
    pub author: u32,
    pub message: String,
    pub files: u8,
    /// Signed with the author's other address.
    pub second_email: bool,
    /// A delivery that has it arrives.
    pub arrived: bool,
    /// And one of those brings it on its branch.
    pub on_branch: bool,
}

/// A run of the build.
#[derive(Clone, Copy, Debug)]
pub(super) struct Build {
    pub id: u64,
    pub began: Micros,
    pub sha: Sha,
    pub passed: bool,
}

/// A review.
#[derive(Clone, Copy, Debug)]
pub(super) struct Review {
    pub id: u64,
    pub by: u32,
    pub state: &'static str,
}

/// A pull request as it stands.
#[derive(Clone, Debug)]
pub(super) struct Pull {
    pub repo: u32,
    /// From its opening on.
    pub number: u32,
    pub title: String,
    pub body: String,
    /// Title and body after it is edited.
    pub edit: Option<(String, String)>,
    pub author: u32,
    /// Its author is a program.
    pub bot: bool,
    /// Who merges it.
    pub merger: u32,
    pub branch: String,
    pub commits: Vec<Commit>,
    /// Commits of before the branch was rebased.
    pub replaced: Vec<Commit>,
    /// What came to the main branch.
    pub landed: Vec<Commit>,
    /// The main branch before.
    pub before: Sha,
    pub head: Sha,
    pub created_at: Micros,
    pub closed_at: Option<Micros>,
    pub merge: Option<Sha>,
    /// The commit that the merge makes, if it makes one.
    pub merge_sha: Sha,
    pub lines: (u32, u32),
    pub files: u32,
    /// What the paths of its files are named after.
    pub topic: String,
    pub builds: Vec<Build>,
    pub reviews: Vec<Review>,
    pub comments: Vec<Note>,
    /// The commit on the main branch that it takes back.
    pub reverts: Option<Sha>,
    /// Goes to production as soon as it is merged.
    pub urgent: bool,
    /// A version of it arrives.
    pub arrived: bool,
    /// Title and body of the newest version that arrives, where they are older ones.
    pub in_force: Option<(String, String)>,
}

/// A story.
#[derive(Clone, Debug, Default)]
pub(super) struct Story {
    pub ticket: Option<Ticket>,
    pub pulls: Vec<Pull>,
    pub notes: Vec<Note>,
    pub logs: Vec<Log>,
    /// The pull request that is confirmed or rejected, and the ticket that is said.
    pub judged: Option<(u8, Place)>,
    /// Steps that are still to come.
    pub left: u32,
}

/// Whether a text names a key so that it counts: the whole key, in capital letters, as a word of its own.
pub(super) fn names(text: &str, key: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(key)
        .any(|(start, _)| !text[..start].ends_with(in_word) && !text[start + key.len()..].starts_with(in_word))
}

/// The same for the name of a branch, where any case counts.
pub(super) fn branch_names(branch: &str, key: &str) -> bool {
    names(&branch.to_ascii_uppercase(), key)
}

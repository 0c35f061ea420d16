//! The fixed words of facts: states, kinds of evidence and of edges, verbs. Stored as text; a word once written stays readable.

use crate::words;

words! {
    /// Where work stands, in the three steps that every tracker shares, and `blocked`.
    pub enum Progress {
        /// Not begun.
        Todo = "todo",
        /// Begun.
        InProgress = "in_progress",
        /// Cannot go on.
        Blocked = "blocked",
        /// Finished.
        Done = "done",
    }
}

words! {
    /// State of a pull request.
    pub enum PullRequestState {
        /// Open for review.
        Open = "open",
        /// Closed without being merged.
        Closed = "closed",
        /// Merged.
        Merged = "merged",
    }
}

words! {
    /// Outcome of a build or a deployment.
    pub enum RunState {
        /// Queued or waiting.
        Pending = "pending",
        /// Running.
        Running = "running",
        /// Ended well.
        Succeeded = "succeeded",
        /// Ended badly.
        Failed = "failed",
        /// Cancelled, skipped or superseded.
        Cancelled = "cancelled",
    }
}

words! {
    /// One kind of reason to believe that an artifact belongs to a ticket. Weights are in the model file.
    pub enum EvidenceKind {
        /// The branch name has the key.
        BranchKey = "branch_key",
        /// The commit message has the key.
        CommitKey = "commit_key",
        /// The title has the key.
        TitleKey = "title_key",
        /// The body has the key.
        BodyKey = "body_key",
        /// A text has the key in a spelling that people use and no tool does: `shop-12`, `SHOP 128`.
        TolerantKey = "tolerant_key",
        /// A text names the ticket by number: `#12`, `owner/repo#12`.
        NumberKey = "number_key",
        /// A text names the ticket by number, and says that the change closes it: `Fixes #12`.
        ClosingKey = "closing_key",
        /// The pull request that the commit is part of names it.
        ViaPullRequest = "via_pull_request",
        /// A commit that is part of the pull request names it.
        ViaCommit = "via_commit",
        /// The commit that this one was picked from names it.
        CherryPick = "cherry_pick",
        /// The commit that this one takes back names it.
        Revert = "revert",
        /// The tracker itself links the two.
        TrackerLink = "tracker_link",
        /// A person said so.
        ManualReport = "manual_report",
        /// A person confirmed the link.
        Confirmed = "confirmed",
        /// A person rejected the link.
        Rejected = "rejected",
        /// Nothing states a link: the words of the change and of the ticket's title.
        TextSimilarity = "text_similarity",
        /// Nothing states a link: the title names a file that the change touches.
        FileOverlap = "file_overlap",
        /// Nothing states a link: whether the ticket is the author's.
        AuthorIsAssignee = "author_is_assignee",
        /// Nothing states a link: how soon after the ticket was written, or done, the work was.
        TimeProximity = "time_proximity",
        /// Nothing states a link: that most such changes have no ticket, and how well others would do.
        Competition = "competition",
    }
}

impl EvidenceKind {
    /// Whether it is a reason where nothing states a link. Its weight is then that of what was found, not of the kind.
    pub fn is_inferred(self) -> bool {
        use EvidenceKind::*;
        matches!(self, TextSimilarity | FileOverlap | AuthorIsAssignee | TimeProximity | Competition)
    }
}

words! {
    /// What a change that names no ticket and a ticket are compared by. Each falls in a bin, which has a weight in the model
    /// file.
    pub enum Feature {
        /// Share of the title's information that the words of the change cover. Thousandths.
        Cover = "cover",
        /// Information of the words that both have. Thousandths of a nat.
        Shared = "shared",
        /// Information of the rarest word of the title that is the name of a touched file. Thousandths of a nat.
        File = "file",
        /// How many of the touched files, of eight at most, stated commits of the ticket had touched before the work began, or
        /// of tickets that its tracker connects with it.
        Touched = "touched",
        /// From the ticket's creation to the work. Hours.
        Age = "age",
        /// From the ticket's resolution to the work, at least one; none where it was open then. Hours.
        Done = "done",
        /// Where the ticket stood at the time of the work, by its tracker: 3 in progress, 2 no more, 1 not begun; 0 is not known.
        Progress = "progress",
        /// Whose ticket it is: 5 the author is assignee and reporter, 4 assignee, 3 reporter and nobody is assigned, 2 reporter
        /// and another is assigned, 1 nobody is assigned, 0 another is.
        Owner = "owner",
        /// Whether the change opens with a word by which people say that it has no ticket.
        Tag = "tag",
        /// Words of the change.
        Length = "length",
        /// Whether the change is a pull request, and not a commit that is part of none.
        Pull = "pull",
    }
}

words! {
    /// One kind of reason to believe that two accounts are one person's, or not. Weights are in the model file.
    pub enum IdentityKind {
        /// A record of a tool gives both accounts to one person.
        SameRecord = "same_record",
        /// Both go by the same name.
        SameName = "same_name",
        /// Both have the same login, or address before the `@`.
        SameHandle = "same_handle",
        /// Both worked on the same ticket.
        SameWork = "same_work",
        /// Both are logins of one tool, where people mostly have one.
        SameSource = "same_source",
        /// A person said that they are one person's.
        StatedSame = "stated_same",
        /// A person said that they are not.
        StatedDifferent = "stated_different",
    }
}

words! {
    /// Kind of an edge of the graph.
    pub enum EdgeKind {
        /// Artifact → person.
        AuthoredBy = "AUTHORED_BY",
        /// Artifact → ticket.
        LinkedTo = "LINKED_TO",
        /// Design → ticket.
        DesignedFor = "DESIGNED_FOR",
        /// Document → ticket.
        Documents = "DOCUMENTS",
        /// Deployment → commit.
        Deploys = "DEPLOYS",
        /// Pull request → person.
        ReviewedBy = "REVIEWED_BY",
        /// Artifact → incident or ticket.
        Resolves = "RESOLVES",
        /// Part → whole: commit → pull request, ticket → parent.
        PartOf = "PART_OF",
        /// Commit → the commit that it was picked from.
        PickedFrom = "PICKED_FROM",
        /// Commit → the commit that it takes back.
        Reverts = "REVERTS",
    }
}

words! {
    /// What a commit's message says of something else, besides that it names a ticket.
    pub enum TraceKind {
        /// The pull request that the commit stands for.
        PullRequest = "pull_request",
        /// A commit that it brought along, where it is the merge of a pull request.
        Brought = "brought",
        /// The commit that it was picked from.
        CherryPick = "cherry_pick",
        /// The commit that it takes back.
        Revert = "revert",
        /// Who wrote it as well.
        CoAuthor = "co_author",
        /// Time worked on a ticket (a smart commit's `#time`).
        Worklog = "worklog",
        /// A comment on a ticket (a smart commit's `#comment`).
        Comment = "comment",
        /// A ticket is begun (a smart commit's transition).
        Start = "start",
        /// A ticket is done (a smart commit's transition).
        Done = "done",
    }
}

words! {
    /// What a person says in a manual report.
    pub enum Verb {
        /// Work on the ticket has begun.
        Start = "start",
        /// The ticket is done.
        Done = "done",
        /// The ticket is blocked.
        Block = "block",
        /// The ticket was deployed to an environment.
        Deploy = "deploy",
        /// The artifact belongs to the ticket.
        Confirm = "confirm",
        /// The artifact does not belong to the ticket.
        Reject = "reject",
    }
}

words! {
    /// Kind of a dated action by a person.
    pub enum ActivityKind {
        /// Wrote a commit.
        Commit = "commit",
        /// Opened a pull request.
        PullRequest = "pull_request",
        /// Reviewed a pull request.
        Review = "review",
        /// Wrote a comment.
        Comment = "comment",
        /// Moved a ticket.
        Transition = "transition",
        /// Logged time.
        Worklog = "worklog",
        /// Reported by hand.
        Report = "report",
    }
}

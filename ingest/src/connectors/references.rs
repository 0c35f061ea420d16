//! What a text says of other things.
//!
//! Pure readers of messages, titles and bodies: commands to Jira, numbers of GitHub and GitLab, and what git and the merge
//! buttons write by themselves. (Keys of tickets are read in `keys.rs`.) They say what is written, not what is true: whether
//! a project, a number, a transition or a commit exists is decided in the dataflow, which alone knows all facts.
//!
//! Every reader takes one pass, gives parts of the text that it was given, in order, and at most [`LIMIT`] of them.

use std::collections::HashMap;

use super::keys::{LIMIT, Spelling, digit_runs, in_word, lead, runs, spellings};

/// The longest path of a repository, in characters: a path is read backwards, and this bounds how far.
const PATH_CHARS_MAX: usize = 256;

/// A command to Jira, for the tickets named before it on its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmartCommit<'a> {
    /// The keys, each once, in order.
    pub keys: Vec<&'a str>,
    /// What to do.
    pub command: Command<'a>,
}

/// What a smart commit asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// `#time 1w 2d 4h 30m comment`: work to log.
    Time {
        /// The sum, with Jira's defaults: a week has five days, a day eight hours.
        secs: u64,
        /// What was done, or nothing.
        comment: &'a str,
    },
    /// `#comment text`.
    Comment(&'a str),
    /// `#in-progress comment`: any other name, which is a transition only if the workflow of the ticket knows it.
    Transition {
        /// As written, with hyphens for spaces.
        name: &'a str,
        /// What to say with it, or nothing.
        comment: &'a str,
    },
}

/// The smart commits of a text: `SHOP-1 #time 2h #done`. Keys come before the first command of a line, text between is
/// ignored, and a command ends at the next one or with its line. One without its argument is none.
///
/// Atlassian, "Process work items with smart commits":
/// <https://support.atlassian.com/jira-software-cloud/docs/process-issues-with-smart-commits/>
pub fn smart_commits(text: &str) -> impl Iterator<Item = SmartCommit<'_>> {
    text.lines().filter(|line| line.contains('#')).flat_map(line_commands).take(LIMIT)
}

fn line_commands(line: &str) -> impl Iterator<Item = SmartCommit<'_>> {
    let names: Vec<_> = command_names(line).collect();
    let mut keys = Vec::new();
    for spelling in spellings(&line[..names.first().map_or(0, |(at, _)| *at)]).filter(Spelling::is_strict) {
        if keys.len() < LIMIT && !keys.contains(&spelling.key) {
            keys.push(spelling.key);
        }
    }
    let ends: Vec<_> = names.iter().skip(1).map(|(at, _)| *at).chain([line.len()]).collect();
    names.into_iter().zip(ends).filter_map(move |((at, name), end)| {
        let argument = line[at + 1 + name.len()..end].trim();
        let command = if name.eq_ignore_ascii_case("time") {
            time(argument)?
        } else if name.eq_ignore_ascii_case("comment") {
            (!argument.is_empty()).then_some(Command::Comment(argument))?
        } else {
            Command::Transition { name, comment: argument }
        };
        (!keys.is_empty()).then(|| SmartCommit { keys: keys.clone(), command })
    })
}

/// `#name` as a word of its own, a letter first: not `#123`, `C#` or `Map#get`.
fn command_names(line: &str) -> impl Iterator<Item = (usize, &str)> {
    line.match_indices('#').filter_map(|(at, _)| {
        let (name, rest) = lead(&line[at + 1..], |c| in_word(c) || c == '-');
        let alone = line[..at].chars().next_back().is_none_or(char::is_whitespace)
            && rest.chars().next().is_none_or(char::is_whitespace);
        (alone && name.starts_with(char::is_alphabetic)).then_some((at, name))
    })
}

fn time(argument: &str) -> Option<Command<'_>> {
    let (mut secs, mut comment) = duration(argument)?;
    while let Some((more, rest)) = duration(comment) {
        secs = secs.saturating_add(more);
        comment = rest;
    }
    Some(Command::Time { secs, comment })
}

/// `1.5h` and what follows, in seconds.
fn duration(text: &str) -> Option<(u64, &str)> {
    let (value, rest) = lead(text, |c| c.is_ascii_digit() || c == '.');
    let (word, rest) = lead(rest, in_word);
    let unit = match word {
        "w" => 5.0 * 8.0 * 3600.0,
        "d" => 8.0 * 3600.0,
        "h" => 3600.0,
        "m" => 60.0,
        _ => return None,
    };
    let secs = value.parse::<f64>().ok().filter(|_| value.len() <= 9)? * unit;
    Some((secs.round() as u64, rest.trim_start()))
}

/// Whose references and closing keywords are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `#1`, `GH-1`, `owner/repo#1`, `https://github.com/owner/repo/issues/1` or `…/pull/1`; a keyword for each.
    GitHub,
    /// `#1`, `group/subgroup/project#1`, `https://host/group/project/-/issues/1`; a keyword for a list.
    GitLab,
}

/// A reference to an issue, or to a pull request where the two share their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberRef<'a> {
    /// The path of the repository, or none where it is the one that the text belongs to.
    pub repo: Option<&'a str>,
    /// The number.
    pub number: u64,
    /// Whether a closing keyword precedes.
    pub closes: bool,
}

/// The numbered references of a Markdown text outside its code, with those that it closes.
///
/// - GitHub, "Autolinked references and URLs":
///   <https://docs.github.com/en/get-started/writing-on-github/working-with-advanced-formatting/autolinked-references-and-urls>;
///   "Linking a pull request to an issue":
///   <https://docs.github.com/en/issues/tracking-your-work-with-issues/using-issues/linking-a-pull-request-to-an-issue>
/// - GitLab, "Default closing pattern":
///   <https://docs.gitlab.com/user/project/issues/managing_issues/#default-closing-pattern>
pub fn numbers(text: &str, dialect: Dialect) -> impl Iterator<Item = NumberRef<'_>> {
    // Most texts have none, and telling code from prose costs time.
    let some = ["#", "GH-", "/issues/", "/pull/"].iter().any(|mark| text.contains(mark));
    prose(if some { text } else { "" }).flat_map(move |part| part_numbers(part, dialect)).take(LIMIT)
}

/// The numbers that a branch name gives after `#`, as in `fix#12` or `feature/#12-basket`.
pub fn branch_numbers(name: &str) -> impl Iterator<Item = u64> {
    let runs = digit_runs(name).filter(|(start, _)| name[..*start].ends_with('#'));
    let numbers = runs.filter_map(|(start, end)| {
        let (number, _) = number(&name[start..end])?;
        Some(number)
    });
    numbers.take(LIMIT)
}

fn part_numbers(part: &str, dialect: Dialect) -> impl Iterator<Item = NumberRef<'_>> {
    let (mut told, mut closes) = (0, false);
    digit_runs(part).filter_map(move |(start, end)| {
        let (number, _) = number(&part[start..end])?;
        let (at, repo) = reference(&part[..start], dialect)?;
        let gap = part.get(told..at)?;
        closes = has_keyword(gap, dialect) || (dialect == Dialect::GitLab && closes && is_list_gap(gap));
        told = end;
        Some(NumberRef { repo, number, closes })
    })
}

/// Where the reference starts whose number follows `before`, and its repository.
fn reference(before: &str, dialect: Dialect) -> Option<(usize, Option<&str>)> {
    if let Some(before) = before.strip_suffix('#') {
        let path = trailing_path(before);
        let at = before.len() - path.len();
        if is_repo(path, dialect) && !before[..at].ends_with(in_word) {
            return Some((at, Some(path)));
        }
        return (!before.ends_with(|c| in_word(c) || matches!(c, '&' | '/' | '#'))).then_some((before.len(), None));
    }
    let (prefixes, url) = match dialect {
        Dialect::GitHub => (["/issues/", "/pull/"], "https://github.com/"),
        Dialect::GitLab => (["/-/issues/", "/issues/"], "https://"),
    };
    if let Some(before) = prefixes.iter().find_map(|prefix| before.strip_suffix(prefix)) {
        let path = trailing_path(before);
        let at = path.rfind("https://")?;
        let path = path[at..].strip_prefix(url)?;
        let at = before.len() - url.len() - path.len();
        let path = if dialect == Dialect::GitLab { path.split_once('/')?.1 } else { path };
        return is_repo(path, dialect).then_some((at, Some(path)));
    }
    let before = before.strip_suffix("GH-").filter(|b| dialect == Dialect::GitHub && !b.ends_with(in_word))?;
    Some((before.len(), None))
}

/// What of a path or an address a text ends with.
fn trailing_path(text: &str) -> &str {
    let path = text.char_indices().rev().take(PATH_CHARS_MAX).take_while(|(_, c)| in_path(*c) || *c == ':').last();
    path.map_or("", |(at, _)| &text[at..])
}

fn in_path(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/')
}

/// `owner/repo`, and for GitLab a path of any depth.
fn is_repo(path: &str, dialect: Dialect) -> bool {
    let depth = path.split('/').count();
    (depth == 2 || (depth > 2 && dialect == Dialect::GitLab))
        && path.starts_with(in_word)
        && path.chars().all(in_path)
        && path.split('/').all(|name| name.contains(in_word))
}

/// Whether a text ends with a keyword that closes what follows, as in `Fixes: `.
fn has_keyword(gap: &str, dialect: Dialect) -> bool {
    const BOTH: &[&str] = &["close", "closes", "closed", "fix", "fixes", "fixed", "resolve", "resolves", "resolved"];
    const GITLAB: &[&str] =
        &["closing", "fixing", "resolving", "implement", "implements", "implemented", "implementing"];
    let gap = if dialect == Dialect::GitLab { without_issue(gap) } else { gap };
    let head = gap.trim_end_matches([' ', '\t']);
    if head.len() == gap.len() {
        return false;
    }
    let word = head.strip_suffix(':').unwrap_or(head).rsplit(|c| !in_word(c)).next().unwrap_or_default();
    let is = |keywords: &[&str]| keywords.iter().any(|k| word.eq_ignore_ascii_case(k));
    match dialect {
        Dialect::GitHub => is(BOTH),
        // GitLab leaves the case of the first letter alone.
        Dialect::GitLab => !word.bytes().skip(1).any(|b| b.is_ascii_uppercase()) && (is(BOTH) || is(GITLAB)),
    }
}

/// Whether nothing but `,`, `and` or blanks is between two references of a GitLab list.
fn is_list_gap(gap: &str) -> bool {
    let gap = without_issue(gap).trim_matches(' ');
    matches!(gap.strip_prefix(',').unwrap_or(gap).trim_start_matches(' '), "" | "and")
}

/// GitLab allows `issue` or `issues` before a number.
fn without_issue(gap: &str) -> &str {
    let head = gap.trim_end_matches(' ');
    let word = head.strip_suffix("issues").or_else(|| head.strip_suffix("issue"));
    word.filter(|w| head.len() < gap.len() && w.ends_with(' ')).unwrap_or(gap)
}

/// The parts of a Markdown text outside fenced code and outside code spans that end on their line.
///
/// CommonMark, "Fenced code blocks" and "Code spans": <https://spec.commonmark.org/current/>
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fence: Option<&str> = None;
    text.lines().flat_map(move |line| {
        let trimmed = line.trim();
        let run = trimmed.len() - trimmed.trim_start_matches(['`', '~']).len();
        let (mark, info) = trimmed.split_at(run);
        let one = mark.trim_matches('`').is_empty() || mark.trim_matches('~').is_empty();
        match fence {
            Some(open) if mark.starts_with(open) && one && info.is_empty() => fence = None,
            None if run >= 3 && one && !info.contains('`') => fence = Some(mark),
            None => return outside_spans(line),
            Some(_) => {}
        }
        Vec::new()
    })
}

/// A span opens with a run of backticks if a run of the same length is still to come.
fn outside_spans(line: &str) -> Vec<&str> {
    let last: HashMap<_, _> = backticks(line).map(|(at, len)| (len, at)).collect();
    let (mut parts, mut from, mut open) = (Vec::new(), 0, None);
    for (at, len) in backticks(line) {
        if open == Some(len) {
            (from, open) = (at + len, None);
        } else if open.is_none() && last.get(&len).is_some_and(|last| *last > at) {
            parts.push(&line[from..at]);
            open = Some(len);
        }
    }
    parts.push(&line[from..]);
    parts
}

/// The runs of backticks: where and how many.
fn backticks(line: &str) -> impl Iterator<Item = (usize, usize)> {
    runs(line, |c| c == '`').map(|(start, end)| (start, end - start))
}

/// The commits that a text says it was picked from, as `git cherry-pick -x` writes them:
/// `(cherry picked from commit c0ffee1)`.
///
/// <https://git-scm.com/docs/git-cherry-pick>
pub fn cherry_picked_from(text: &str) -> impl Iterator<Item = &str> {
    let phrase = "(cherry picked from commit ";
    text.match_indices(phrase).filter_map(move |(at, _)| sha(&text[at + phrase.len()..])).take(LIMIT)
}

/// What a commit takes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reverted<'a> {
    /// The commit of this hash, perhaps shortened.
    Sha(&'a str),
    /// A commit of this subject.
    Subject(&'a str),
}

/// What a message says it reverts, as `git revert` writes it: its first line `Revert "…"`, which people put a ticket
/// before, then each `This reverts commit c0ffee1`. For a merge, `reversing changes made to` names no other one.
///
/// <https://git-scm.com/docs/git-revert>
pub fn reverts(text: &str) -> impl Iterator<Item = Reverted<'_>> {
    let subject = text.lines().next().and_then(|line| {
        let (before, quoted) = line.split_once("Revert \"")?;
        let (quoted, _) = quoted.rsplit_once('"')?;
        (!quoted.is_empty() && (before.is_empty() || before.ends_with(' '))).then_some(Reverted::Subject(quoted))
    });
    let phrase = "This reverts commit ";
    let shas = text.match_indices(phrase).filter_map(move |(at, _)| sha(&text[at + phrase.len()..]));
    subject.into_iter().chain(shas.map(Reverted::Sha)).take(LIMIT)
}

/// The name and the address of each `Co-authored-by: Name <mail>` line, in any case.
///
/// GitHub, "Creating a commit with multiple authors":
/// <https://docs.github.com/en/pull-requests/committing-changes-to-your-project/creating-and-editing-commits/creating-a-commit-with-multiple-authors>
pub fn co_authors(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let author = |line| {
        let (name, rest) = after_word(line, "co-authored-by:")?.split_once('<')?;
        let (mail, _) = rest.split_once('>')?;
        let (name, mail) = (name.trim(), mail.trim());
        (!name.is_empty() && mail.contains('@') && !mail.contains(char::is_whitespace)).then_some((name, mail))
    };
    text.lines().filter_map(author).take(LIMIT)
}

/// The pull request that a commit on the main line stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullRef<'a> {
    /// Its number.
    pub number: u64,
    /// How it came there.
    pub how: MergeStyle,
    /// The path of its repository, where it is told.
    pub repo: Option<&'a str>,
    /// Its branch without the owner, where it is told.
    pub branch: Option<&'a str>,
}

/// How a pull request became a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeStyle {
    /// GitHub's merge commit: `Merge pull request #12 from owner/branch`.
    Merge,
    /// GitHub's squash: a subject that ends with `(#12)`. A rebase leaves no trace.
    Squash,
    /// GitLab's merge or squash: a line `See merge request group/project!12`.
    GitLabMerge,
    /// The merge scripts of Apache projects: a line `Closes #12 from owner/branch` or `This closes #12.`. The weakest
    /// of them: elsewhere such a line names an issue.
    Closes,
}

/// Which pull request a commit on the main line stands for. The surest style that is found wins.
///
/// - GitHub, "About pull request merges":
///   <https://docs.github.com/en/pull-requests/collaborating-with-pull-requests/incorporating-changes-from-a-pull-request/about-pull-request-merges>
/// - GitLab, "Commit message templates": <https://docs.gitlab.com/user/project/merge_requests/commit_templates/>
/// - Apache Kafka, `kafka-merge-pr.py`: <https://github.com/apache/kafka/blob/3.0/kafka-merge-pr.py>
pub fn pull_request(message: &str) -> Option<PullRef<'_>> {
    let subject = message.lines().next()?.trim();
    merged(subject)
        .or_else(|| squashed(subject))
        .or_else(|| message.lines().find_map(|line| gitlab_merged(subject, line)))
        .or_else(|| message.lines().find_map(closed))
}

fn merged(subject: &str) -> Option<PullRef<'_>> {
    let (number, rest) = number(subject.strip_prefix("Merge pull request #")?)?;
    Some(PullRef { number, how: MergeStyle::Merge, repo: None, branch: from_branch(rest) })
}

fn squashed(subject: &str) -> Option<PullRef<'_>> {
    let (_, last) = subject.strip_suffix(')')?.rsplit_once("(#")?;
    let (number, _) = number(last).filter(|(_, rest)| rest.is_empty())?;
    Some(PullRef { number, how: MergeStyle::Squash, repo: None, branch: None })
}

fn gitlab_merged<'a>(subject: &'a str, line: &'a str) -> Option<PullRef<'a>> {
    let (path, number_part) = line.trim().strip_prefix("See merge request ")?.split_once('!')?;
    let (number, _) = number(number_part)?;
    let repo = is_repo(path, Dialect::GitLab).then_some(path);
    let branch = subject.strip_prefix("Merge branch '").and_then(|b| b.split_once('\'')).map(|(branch, _)| branch);
    Some(PullRef { number, how: MergeStyle::GitLabMerge, repo, branch })
}

fn closed(line: &str) -> Option<PullRef<'_>> {
    let line = after_word(line, "this ").unwrap_or(line);
    let rest = after_word(line, "closes ").or_else(|| after_word(line, "close "))?;
    let (path, rest) = rest.split_once('#')?;
    let repo = is_repo(path, Dialect::GitHub).then_some(path);
    let (number, rest) = number(rest)?;
    let whole = matches!(rest.trim_end(), "" | ".") || rest.starts_with(" from ");
    let branch = from_branch(rest);
    (whole && repo.is_some() != path.is_empty()).then_some(PullRef { number, how: MergeStyle::Closes, repo, branch })
}

/// The branch in ` from owner/branch …` or ` from owner:branch …`.
fn from_branch(rest: &str) -> Option<&str> {
    let head = rest.strip_prefix(" from ")?.split_whitespace().next()?;
    head.split_once(['/', ':']).map(|(_, branch)| branch).filter(|branch| !branch.is_empty())
}

/// What follows a word that a line opens with, in any case.
fn after_word<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    let (head, rest) = line.trim_start().split_at_checked(word.len())?;
    head.eq_ignore_ascii_case(word).then(|| rest.trim_start())
}

/// A number that a text opens with, and the rest. None starts with zero or runs into a word.
fn number(text: &str) -> Option<(u64, &str)> {
    let (digits, rest) = lead(text, |c| c.is_ascii_digit());
    let number = digits.parse().ok().filter(|_| !digits.starts_with('0') && !rest.starts_with(in_word))?;
    Some((number, rest))
}

/// A hash that a text opens with: shortened to no less than seven digits, or whole, SHA-1 or SHA-256.
fn sha(text: &str) -> Option<&str> {
    let (hex, rest) = lead(text, |c| c.is_ascii_hexdigit());
    ((7..=64).contains(&hex.len()) && !rest.starts_with(in_word)).then_some(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_to_jira() {
        let read = |text| smart_commits(text).map(|s| (s.keys.join(" "), s.command)).collect::<Vec<_>>();
        let to = |key: &str, command| (key.to_owned(), command);
        let said = |name, comment| Command::Transition { name, comment };
        let time = Command::Time { secs: (((5 + 2) * 8 + 4) * 60 + 30) * 60, comment: "log it" };
        assert_eq!(read("A1-1 #time 1w 2d 4h 30m log it"), [to("A1-1", time)]);
        let (text, both) = ("AB-1, AB-2 by hand #TIME 1.5h #comment See #12 in C# – déjà #in-progress", "AB-1 AB-2");
        let comment = Command::Comment("See #12 in C# – déjà");
        let time = Command::Time { secs: 5400, comment: "" };
        assert_eq!(read(text), [to(both, time), to(both, comment), to(both, said("in-progress", ""))]);
        let closed = to("AB-1", said("close", "as of AB-2"));
        assert_eq!(read("AB-1 #close as of AB-2\r\nAB-3 #done"), [closed, to("AB-3", said("done", ""))]);
        for text in ["AB-1\n#done", "#done AB-1, ab-1 #done", "AB-1 #123 Map#get #a/b #", "AB-1 #time #comment", ""] {
            assert_eq!(read(text), [], "{text}");
        }
        assert_eq!(read("AB-1 #time 30min #time .h #time 1..2h"), []);
    }

    fn told(text: &str, dialect: Dialect) -> String {
        let mark =
            |n: NumberRef<'_>| format!("{}{}{}", if n.closes { "!" } else { "" }, n.repo.unwrap_or(""), n.number);
        numbers(text, dialect).map(mark).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn numbers_of_github() {
        let told = |text| told(text, Dialect::GitHub);
        assert_eq!(told("#1, (#2) GH-3 a-b/c.d#4: é #5"), "1 2 3 a-b/c.d4 5");
        assert_eq!(told("https://github.com/a/b/issues/6#x, <https://github.com/a/b/pull/7/files>"), "a/b6 a/b7");
        assert_eq!(told("Fixes #1, closes: a/b#2 RESOLVED  GH-3, #4"), "!1 !a/b2 !3 4");
        assert_eq!(told("(close https://github.com/a/b/issues/4)"), "!a/b4");
        assert_eq!(told("prefix #1 fixes#2 fixing #3 fix\n#4 fix issue #5"), "1 3 4 5");
        assert_eq!(told("&#1; x#2 #3x #0 #04 ##5 a/b/c#6 XGH-7 page/#8 #99999999999999999999 #é"), "");
        assert_eq!(told("https://gitlab.com/a/b/issues/1 https://github.com/a/issues/2 https://github.com/a#3"), "");
        assert_eq!(told(""), "");
    }

    #[test]
    fn numbers_of_branches() {
        let read = |name| branch_numbers(name).collect::<Vec<_>>();
        assert_eq!(read("fix#12"), [12]);
        assert_eq!(read("feature/#12-basket"), [12]);
        assert_eq!(read("fix-12/and_13"), [0; 0]);
        assert_eq!(read("colour#12ab"), [0; 0]);
    }

    #[test]
    fn numbers_of_gitlab() {
        let told = |text| told(text, Dialect::GitLab);
        assert_eq!(told("Closes #4, #6, and group/sub/proj#7; #8"), "!4 !6 !group/sub/proj7 8");
        assert_eq!(told("Implementing: issues #1 and issue #2 #3, see #4"), "!1 !2 !3 4");
        assert_eq!(told("fix https://git.example.org:81/g/p/-/issues/5"), "!g/p5");
        assert_eq!(told("FIXES #1 closes#2 GH-3 !4"), "1");
    }

    #[test]
    fn code_is_not_read() {
        let told = |text| told(text, Dialect::GitHub);
        assert_eq!(told("`#1` #2 ``a ` #3`` #4 ` #5\n` #6"), "2 4 5 6");
        assert_eq!(told("```rust\n#1\n~~~\n```x\n````\n#2\n~~~\n```\n#3"), "2");
        assert_eq!(told("```#1``` #2\n #3"), "2 3");
    }

    #[test]
    fn what_git_writes() {
        let picked = |text| cherry_picked_from(text).collect::<Vec<_>>();
        let whole = "x\n\n(cherry picked from commit 0123456789abcdef0123456789abcdef01234567)";
        assert_eq!(picked(whole), ["0123456789abcdef0123456789abcdef01234567"]);
        assert_eq!(picked("(cherry picked from commit c0ffee1) (cherry picked from commit C0FFEE2)").len(), 2);
        assert_eq!(picked("(cherry picked from commit c0ffee) (cherry picked from commit c0ffee1z)"), [""; 0]);
        let back = |text| reverts(text).collect::<Vec<_>>();
        let (subject, sha) = (Reverted::Subject("Revert \"x\""), Reverted::Sha("c0ffee1"));
        assert_eq!(back("Revert \"Revert \"x\"\" (#12)\n\nThis reverts commit c0ffee1."), [subject, sha]);
        assert_eq!(back("x\n\nThis reverts commit c0ffee1, reversing\nchanges made to c0ffee2."), [sha]);
        assert_eq!(back("SHOP-1: Revert \"é\""), [Reverted::Subject("é")]);
        for text in
            ["Revert to 3.1\n\nRevert \"x\"", "Revert \"cut…", "unRevert \"x\"", "Revert \"\"", "This reverts commit é"]
        {
            assert_eq!(back(text), [], "{text}");
        }
    }

    #[test]
    fn authors_beside_the_author() {
        let authors = |text| co_authors(text).collect::<Vec<_>>();
        let two = "x\n\nCo-authored-by: Jo Ångström <jo@a.org>\r\n  CO-AUTHORED-BY:x <y@z> and";
        assert_eq!(authors(two), [("Jo Ångström", "jo@a.org"), ("x", "y@z")]);
        for line in
            ["Co-authored-by: a@b.org", "Co-authored-by: <a@b>", "Co-authored-by: a <>", "Signed-off-by: a <b@c>"]
        {
            assert_eq!(authors(line), [], "{line}");
        }
    }

    #[test]
    fn pull_requests_of_commits() {
        let read = |text| pull_request(text).map(|p| (p.number, p.how, p.repo.unwrap_or(""), p.branch.unwrap_or("")));
        use MergeStyle::*;
        assert_eq!(read("Merge pull request #12 from jo/fix/é\n\nCloses #3"), Some((12, Merge, "", "fix/é")));
        assert_eq!(read("Merge pull request #12"), Some((12, Merge, "", "")));
        assert_eq!(read("Revert \"x (#12)\" (#13)\r\n\nCloses #3"), Some((13, Squash, "", "")));
        let merge = "Merge branch 'fix/a' into 'main'\n\nA\n\nSee merge request g/s/p!12";
        assert_eq!(read(merge), Some((12, GitLabMerge, "g/s/p", "fix/a")));
        assert_eq!(read("A\n\nCloses #12 from jo/b and squashes:"), Some((12, Closes, "", "b")));
        assert_eq!(read("A\n\nthis closes acme/shop#12."), Some((12, Closes, "acme/shop", "")));
        assert_eq!(read("A\n\nThis closes #12 from jo:b"), Some((12, Closes, "", "b")));
        for none in
            ["", "(#12) A", "A (#12", "A (#12a)", "A (#é)", "A\n\nB (#12)", "Closes #12, a bug", "Closes a/b c#12"]
        {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[test]
    fn any_text_gives_parts_of_itself_and_not_many() {
        let pieces: Vec<&str> = "SHOP|shop|-|12| |#|`|\n|é|/|.|https://github.com/|/issues/|GH-|:|Fixes |Revert \"|\"|(#|)|!|\
            This reverts commit |c0ffee1|(cherry picked from commit |Co-authored-by: |<a@b>|Merge pull request #| from |\
            See merge request |Closes |time|1.5h"
            .split('|')
            .collect();
        let mut state = 7_u64;
        let mut below = |end: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % end
        };
        for _ in 0..2000 {
            let mut bytes = Vec::new();
            for _ in 0..below(400) {
                match pieces.get(below(pieces.len() + 1)) {
                    Some(piece) => bytes.extend_from_slice(piece.as_bytes()),
                    None => bytes.push(below(256) as u8),
                }
            }
            let text = String::from_utf8_lossy(&bytes);
            let mut parts: Vec<&str> = cherry_picked_from(&text).collect();
            parts.extend(co_authors(&text).flat_map(|(name, mail)| [name, mail]));
            parts.extend(reverts(&text).map(|(Reverted::Sha(part) | Reverted::Subject(part))| part));
            parts.extend(numbers(&text, Dialect::GitHub).chain(numbers(&text, Dialect::GitLab)).filter_map(|n| n.repo));
            parts.extend(pull_request(&text).into_iter().flat_map(|p| [p.repo, p.branch]).flatten());
            for SmartCommit { keys, command } in smart_commits(&text) {
                assert!((1..=LIMIT).contains(&keys.len()));
                parts.extend(keys);
                match command {
                    Command::Time { comment, .. } | Command::Comment(comment) => parts.push(comment),
                    Command::Transition { name, comment } => parts.extend([name, comment]),
                }
            }
            let whole = text.as_bytes().as_ptr_range();
            assert!(
                parts.iter().map(|p| p.as_bytes().as_ptr_range()).all(|p| whole.start <= p.start && p.end <= whole.end)
            );
        }
        let many: String = (1..500).map(|n| format!("#{n}")).collect::<Vec<_>>().join(",");
        assert_eq!(numbers(&many, Dialect::GitHub).count(), LIMIT);
    }
}

//! Where in a text a word is an account: addresses, mentions, links.

/// Characters that are looked back at or ahead for an address or a link.
const NEAR: usize = 256;

/// Parts of paths after which a user is named.
const USERS: &[&str] = &["users", "user", "u", "repos", "profile", "profiles", "people", "members", "in"];
/// Parts of queries whose value is a user.
const QUERIES: &[&str] =
    &["account", "accountid", "assignee", "author", "login", "owner", "user", "userid", "username"];
/// Parts of paths that only code hosts have, two after the owner.
const OF_CODE: &[&str] = &[
    "-",
    "actions",
    "blob",
    "commit",
    "commits",
    "compare",
    "issues",
    "merge_requests",
    "pull",
    "pulls",
    "releases",
    "tree",
];
/// Tools that a report may name before a login.
const TOOLS: &[&str] = &["git", "github", "jira", "manual", "slack"];

fn before(chars: &[char], at: usize) -> Option<char> {
    at.checked_sub(1).map(|at| chars[at])
}

/// A character of an address before the `@`, other than letters and digits.
fn is_joint(c: char) -> bool {
    matches!(c, '.' | '_' | '+' | '-')
}

fn is_local(c: char) -> bool {
    c.is_alphanumeric() || is_joint(c)
}

fn is_domain(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '-')
}

/// Whether an address is not the middle of a longer one. What emphasises it does not belong to it.
pub fn is_whole_address(chars: &[char], from: usize, to: usize) -> bool {
    let before = |at: usize| before(chars, at);
    let longer_before = match before(from) {
        Some(c) if is_joint(c) => before(from - 1).is_some_and(char::is_alphanumeric),
        Some(c) => c.is_alphanumeric(),
        None => false,
    };
    let longer_after = match chars.get(to) {
        Some('.' | '-') => chars.get(to + 1).is_some_and(|c| c.is_alphanumeric()),
        Some(c) => c.is_alphanumeric(),
        None => false,
    };
    !longer_before && !longer_after
}

/// Whether a word stands in an e-mail address, and if so, whether it is all that is before the `@`, all of a tag after a
/// plus, or a whole part of the domain. Else the address is likely another's.
pub fn in_address(chars: &[char], from: usize, to: usize) -> Option<bool> {
    let local = chars[to..].iter().take(NEAR).take_while(|c| is_local(**c)).count();
    let at_sign = chars.get(to + local) == Some(&'@');
    if at_sign && chars.get(to + local + 1).is_some_and(|c| c.is_alphanumeric()) {
        let opens = before(chars, from).is_none_or(|c| !is_local(c) || c == '+');
        return Some(opens && matches!(chars.get(to), Some('@' | '+')));
    }
    let domain = chars[..from].iter().rev().take(NEAR).take_while(|c| is_domain(**c)).count();
    let at_sign = from.checked_sub(domain + 2).filter(|at| chars[at + 1] == '@');
    if at_sign.is_some_and(|at| is_local(chars[at])) {
        let opens = matches!(before(chars, from), Some('.' | '@'));
        return Some(opens && chars.get(to).is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '-' | '_')));
    }
    None
}

/// Whether what begins here is an account: `@ada`, `[~ada]`, `github:ada`, and `ada` in `<@U024|ada>`.
pub fn is_account(chars: &[char], from: usize) -> bool {
    match before(chars, from) {
        Some('@') => true,
        Some('~') => before(chars, from - 1).is_some_and(|c| matches!(c, '[' | '/')),
        Some('|') => {
            let id = chars[..from - 1].iter().rev().take(NEAR).take_while(|c| !matches!(c, '<' | '>' | '@')).count();
            from.checked_sub(id + 3).is_some_and(|at| chars[at..at + 2] == ['<', '@'])
        }
        Some(':') => {
            let word: String = chars[..from - 1].iter().rev().take(8).take_while(|c| c.is_alphanumeric()).collect();
            TOOLS.iter().any(|tool| word.chars().rev().eq(tool.chars()))
        }
        _ => false,
    }
}

/// Whether an account ends here: logins of others go on with a hyphen.
pub fn ends_account(chars: &[char], to: usize) -> bool {
    match chars.get(to) {
        Some('-' | '_') => false,
        Some('.') => chars.get(to + 1).is_none_or(|c| !c.is_alphanumeric()),
        _ => true,
    }
}

/// Whether a word that could mean anything is a user by where it stands: in a link to one or to their repository, in
/// `ada/shop#12`, or as the owner of a branch in `Merge pull request #12 from ada/fix`.
pub fn is_user(chars: &[char], from: usize, to: usize) -> bool {
    if !ends_account(chars, to) {
        return false;
    }
    in_link(chars, from, to) || owns_number(chars, from, to) || owns_branch(chars, from, to)
}

/// The characters before, back to where a link would begin.
fn head(chars: &[char], from: usize) -> String {
    let ends = |c: &&char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '(' | ')' | '[' | ']' | '|' | '`');
    let length = chars[..from].iter().rev().take(NEAR).take_while(|c| !ends(c)).count();
    chars[from - length..from].iter().collect()
}

fn in_link(chars: &[char], from: usize, to: usize) -> bool {
    let head = head(chars, from);
    // git@github.com:ada/shop.git
    if head.strip_suffix(':').is_some_and(|host| host.contains('@')) {
        return chars.get(to) == Some(&'/');
    }
    let Some((_, path)) = head.split_once("://") else { return false };
    if let Some(query) = path.strip_suffix('=') {
        let name = query.rsplit(['?', '&']).next().unwrap_or_default();
        return query.contains('?') && QUERIES.iter().any(|known| name.eq_ignore_ascii_case(known));
    }
    let Some(path) = path.strip_suffix('/') else { return false };
    match path.rsplit_once('/') {
        Some((_, part)) => USERS.contains(&part),
        None => path.contains("git") || path.contains("bitbucket") || leads_to_code(&chars[to..]),
    }
}

/// Whether `/shop/pull/12` follows.
fn leads_to_code(rest: &[char]) -> bool {
    let path: String = rest.iter().take(NEAR).take_while(|c| !c.is_whitespace()).collect();
    let mut parts = path.split('/');
    (parts.next(), parts.next().is_some()) == (Some(""), true)
        && parts.next().is_some_and(|part| OF_CODE.contains(&part))
}

fn owns_number(chars: &[char], from: usize, to: usize) -> bool {
    if chars.get(to) != Some(&'/') || before(chars, from).is_some_and(|c| is_local(c) || matches!(c, '/' | '@')) {
        return false;
    }
    let name = chars[to + 1..].iter().take(NEAR).take_while(|c| is_local(**c)).count();
    let number = &chars[to + 1 + name..];
    name > 0 && matches!(number.first(), Some('#' | '!')) && number.get(1).is_some_and(|c| c.is_ascii_digit())
}

fn owns_branch(chars: &[char], from: usize, to: usize) -> bool {
    let Some(head) = chars[..from].strip_suffix(&[' ', 'f', 'r', 'o', 'm', ' ']) else { return false };
    let digits = head.iter().rev().take(20).take_while(|c| c.is_ascii_digit()).count();
    digits > 0 && before(head, head.len() - digits) == Some('#') && matches!(chars.get(to), Some('/' | ':'))
}

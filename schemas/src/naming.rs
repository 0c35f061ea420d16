//! What of a name or a login may be compared across tools: the texts behind the tokens of an account.
//!
//! Invariants: pure; a text that many people share by habit (`root`, `info`, "Build Bot") gives nothing, because it would
//! tie strangers together; nothing is guessed, so no order of first and last name and no nicknames. What comes out still
//! names a person: it goes into [`crate::Pseudonymizer::token`] and nowhere else (I8).
//!
//! Digits of a login are kept: on the accounts of Lucene (outside data), taking them away made one more right pair and 7
//! more wrong ones (`brettporter`, `brettporter123`); dots and dashes come and go between tools, and are taken away.

/// Shorter logins are shared by too many: `dan`, `alex` without its last letter.
const HANDLE_CHARS_MIN: usize = 4;

/// Longer texts are no names that somebody typed, and cost time (I9).
const TEXT_BYTES_MAX: usize = 256;

/// Logins and local parts that stand for a role or a machine.
const GENERIC_HANDLES: &[&str] = &[
    "account",
    "accounts",
    "admin",
    "administrator",
    "anonymous",
    "build",
    "builder",
    "buildbot",
    "commit",
    "commits",
    "contact",
    "default",
    "deploy",
    "deployer",
    "developer",
    "developers",
    "devnull",
    "devops",
    "donotreply",
    "email",
    "example",
    "github",
    "gitlab",
    "guest",
    "hello",
    "help",
    "hostmaster",
    "info",
    "jenkins",
    "jira",
    "local",
    "localhost",
    "mail",
    "mailbox",
    "master",
    "name",
    "nobody",
    "none",
    "noreply",
    "null",
    "office",
    "personal",
    "postmaster",
    "private",
    "public",
    "root",
    "sales",
    "server",
    "service",
    "slack",
    "support",
    "system",
    "team",
    "test",
    "tester",
    "ubuntu",
    "undefined",
    "unknown",
    "user",
    "username",
    "vagrant",
    "webflow",
    "webmaster",
    "work",
];

/// A name with one of these words is no person's.
const GENERIC_WORDS: &[&str] = &[
    "actions",
    "admin",
    "administrator",
    "anonymous",
    "automation",
    "bot",
    "build",
    "ci",
    "deleted",
    "deploy",
    "developer",
    "former",
    "github",
    "gitlab",
    "jenkins",
    "jira",
    "noreply",
    "null",
    "robot",
    "root",
    "server",
    "service",
    "services",
    "system",
    "team",
    "test",
    "unknown",
    "user",
];

/// A display name as it is compared: lower case, without diacritics, its words separated by one space. `None` where it has
/// fewer than two words that are set apart by a space, or is no person's name.
pub fn name(text: &str) -> Option<String> {
    if text.len() > TEXT_BYTES_MAX || text.contains('@') {
        return None;
    }
    // `ada.lovelace` is a login, whatever field it stands in.
    if text.split_whitespace().filter(|word| word.chars().any(char::is_alphabetic)).count() < 2 {
        return None;
    }
    let folded = folded(text, |c| if matches!(c, '\'' | '’' | '`') { Kept::Nothing } else { Kept::Space });
    let words: Vec<&str> = folded.split_whitespace().collect();
    let generic = words.len() < 2 || words.iter().any(|word| GENERIC_WORDS.contains(word));
    (!generic).then(|| words.join(" "))
}

/// A login, or the local part of an e-mail address, as it is compared: lower case, without diacritics, dots, dashes and
/// what follows a plus. `None` where too little is left, or it is nobody's own.
pub fn handle(text: &str) -> Option<String> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let own = match noreply_login(text) {
        Some(login) => login,
        None => {
            let local = text.trim().split('@').next().unwrap_or_default();
            local.split('+').next().unwrap_or_default()
        }
    };
    let handle = folded(own, |_| Kept::Nothing);
    let long = handle.chars().count() >= HANDLE_CHARS_MIN;
    let letters = handle.chars().any(char::is_alphabetic);
    (long && letters && !GENERIC_HANDLES.contains(&handle.as_str())).then_some(handle)
}

/// The login in an address that GitHub made up: `12345+ada@users.noreply.github.com`, or the older form without a number.
pub fn noreply_login(email: &str) -> Option<&str> {
    let (local, domain) = email.trim().split_once('@')?;
    let login = local.split_once('+').map_or(local, |(_, login)| login);
    (domain.eq_ignore_ascii_case("users.noreply.github.com") && !login.is_empty()).then_some(login)
}

/// Whether a login is a number that the tool made up and shows to nobody: always in Slack (`U024BE7LH`), and in Jira Cloud
/// (`557058:f581…`, `5b10a2844c20165700ede21g`), but not on a server of one's own.
pub fn is_opaque(source: &str, login: &str) -> bool {
    let digits = login.bytes().any(|b| b.is_ascii_digit());
    let long = login.len() >= 20 && !login.contains(['@', '.', '-', '_']);
    source == "slack" || login.contains(':') || (digits && long)
}

enum Kept {
    Space,
    Nothing,
}

/// Letters and digits in lower case without diacritics; `other` says what becomes of the rest.
fn folded(text: &str, other: impl Fn(char) -> Kept) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().flat_map(char::to_lowercase) {
        match plain(c) {
            Some(plain) => out.push_str(plain),
            None if ('\u{300}'..='\u{36f}').contains(&c) => {}
            None if c.is_alphanumeric() => out.push(c),
            None => {
                if let Kept::Space = other(c) {
                    out.push(' ');
                }
            }
        }
    }
    out
}

/// Latin letters with diacritics, as people write them who have no such keys.
fn plain(c: char) -> Option<&'static str> {
    Some(match c {
        'à' | 'á' | 'â' | 'ã' | 'ä' | 'å' | 'ā' | 'ă' | 'ą' => "a",
        'æ' => "ae",
        'ç' | 'ć' | 'ĉ' | 'ċ' | 'č' => "c",
        'ď' | 'đ' | 'ð' => "d",
        'è' | 'é' | 'ê' | 'ë' | 'ē' | 'ĕ' | 'ė' | 'ę' | 'ě' => "e",
        'ĝ' | 'ğ' | 'ġ' | 'ģ' => "g",
        'ì' | 'í' | 'î' | 'ï' | 'ĩ' | 'ī' | 'į' | 'ı' => "i",
        'ķ' => "k",
        'ĺ' | 'ļ' | 'ľ' | 'ł' => "l",
        'ñ' | 'ń' | 'ņ' | 'ň' => "n",
        'ò' | 'ó' | 'ô' | 'õ' | 'ö' | 'ø' | 'ō' | 'ŏ' | 'ő' => "o",
        'œ' => "oe",
        'ŕ' | 'ř' => "r",
        'ś' | 'ŝ' | 'ş' | 'š' | 'ș' => "s",
        'ß' => "ss",
        'ţ' | 'ť' | 'ț' => "t",
        'þ' => "th",
        'ù' | 'ú' | 'û' | 'ü' | 'ũ' | 'ū' | 'ŭ' | 'ů' | 'ű' | 'ų' => "u",
        'ý' | 'ÿ' => "y",
        'ź' | 'ż' | 'ž' => "z",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_case_spaces_and_diacritics() {
        for same in ["Zoë O'Connor-Łuk", "  zoe  OConnor Luk ", "ZOE\tO’Connor.Łuk", "Zoe\u{308} O'Connor Luk"] {
            assert_eq!(name(same).as_deref(), Some("zoe oconnor luk"), "{same:?}");
        }
        assert_eq!(name("李 小龙").as_deref(), Some("李 小龙"));
        assert_eq!(name("J.R. Smith").as_deref(), Some("j r smith"));
    }

    #[test]
    fn what_is_no_persons_name_gives_nothing() {
        let odd = [
            "",
            "Ada",
            "ada.lovelace",
            "ada@example.org is me",
            "Build Bot",
            "GitHub Actions",
            "Former user (Deleted)",
            "root user",
            "Jenkins CI",
            "1 2",
            "- -",
            "Ada 2",
        ];
        for odd in odd {
            assert_eq!(name(odd), None, "{odd:?}");
        }
        assert_eq!(name(&"a b ".repeat(100)), None);
    }

    #[test]
    fn handles_are_compared_without_case_dots_dashes_and_plus() {
        for same in
            ["Ada.Lovelace", "ada-lovelace", "ada_lovelace+git@example.org", "7+Ada-Lovelace@users.noreply.github.com"]
        {
            assert_eq!(handle(same).as_deref(), Some("adalovelace"), "{same:?}");
        }
        assert_eq!(handle("ada1815").as_deref(), Some("ada1815"), "another person may be ada1816");
        for odd in ["", "ada", "root", "info@example.org", "No-Reply@example.org", "12345", "@example.org", "Jenkins"] {
            assert_eq!(handle(odd), None, "{odd:?}");
        }
        assert_eq!(handle(&"x".repeat(300)), None);
    }

    #[test]
    fn an_address_of_github_has_its_login() {
        assert_eq!(noreply_login("12+ada@users.noreply.github.com"), Some("ada"));
        assert_eq!(noreply_login("ada@Users.NoReply.GitHub.com "), Some("ada"));
        assert_eq!(noreply_login("12+@users.noreply.github.com"), None);
        assert_eq!(noreply_login("ada@example.org"), None);
    }

    #[test]
    fn numbers_of_tools_are_no_handles() {
        for (source, opaque) in
            [("jira", "557058:f58131cb-b67d-43c7"), ("slack", "U024BE7LH"), ("jira", "5b10a2844c20165700ede21g")]
        {
            assert!(is_opaque(source, opaque), "{opaque}");
        }
        for own in ["ada", "ADALOVELACE", "ada1815", "ada.lovelace.of.the.engine.1815", "A1"] {
            assert!(!is_opaque("jira", own), "{own}");
        }
    }
}

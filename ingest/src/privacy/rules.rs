//! What of a person is looked for, where, and what replaces it.

use std::collections::HashMap;

use flowsync_schemas::naming;

use super::{
    fold::{self, Fold, is_unspaced},
    subject::{Accounts, noreply},
    token::Token,
};

/// A word with a digit, `-`, `_` or `.` is nobody's but theirs from this length on: `v2`, `s3` and `k8s` are not.
const ODD_CHARS_MIN: usize = 4;
/// A word of letters.
const WORD_CHARS_MIN: usize = 8;
/// A number.
const DIGITS_MIN: usize = 6;
/// A name in a script without spaces.
const UNSPACED_CHARS_MIN: usize = 3;

/// The kind of an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Email,
    Login,
    Name,
}

/// One identifier, as it is looked for in text.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub kind: Kind,
    /// Folded; a space stands for a gap between words.
    pub chars: Vec<char>,
    pub fold: Fold,
    /// Replaced wherever it stands as a word. What could be any word is only where the text says that it is a person.
    pub free: bool,
    /// As it was given.
    pub text: String,
    pub new: String,
}

/// A login that a field may hold.
#[derive(Clone, Debug)]
struct Login {
    sources: Vec<String>,
    /// Its tool does not matter: nobody else can be meant.
    anywhere: bool,
    free: bool,
    new: String,
}

/// All of it, ready to be looked for.
#[derive(Clone, Debug)]
pub struct Rules {
    pub token: Token,
    patterns: Vec<Pattern>,
    by_first: HashMap<char, Vec<usize>>,
    /// Whether a pattern begins with this ASCII character.
    ascii: [bool; 128],
    /// Fewest characters that can hold one.
    chars_min: usize,
    needles: Needles,
    exact: HashMap<String, Login>,
    logins: HashMap<String, Login>,
    emails: HashMap<String, String>,
    names: HashMap<String, bool>,
}

impl Rules {
    pub fn new(accounts: &Accounts, token: &Token) -> Self {
        let mut rules = Self {
            token: token.clone(),
            patterns: Vec::new(),
            by_first: HashMap::new(),
            ascii: [false; 128],
            chars_min: usize::MAX,
            needles: Needles::default(),
            exact: HashMap::new(),
            logins: HashMap::new(),
            emails: HashMap::new(),
            names: HashMap::new(),
        };
        for (login, of) in &accounts.logins {
            let free = is_distinctive(login) || (login.contains(char::is_whitespace) && naming::name(login).is_some());
            let sources = of.sources.iter().cloned().collect();
            let known = Login { sources, anywhere: of.anywhere || free, free, new: of.new.clone() };
            let fold = if login.contains(char::is_whitespace) { Fold::Marks } else { Fold::Case };
            rules.pattern(Kind::Login, login, fold, free, &of.new);
            rules.logins.entry(fold::text(login, Fold::Case)).or_insert_with(|| known.clone());
            rules.exact.insert(login.clone(), known);
            // In old histories, names are accounts.
            if login.contains(char::is_whitespace) {
                rules.names.insert(fold::text(login, Fold::Marks), free);
            }
        }
        for (email, new) in &accounts.emails {
            if email.contains('@') {
                rules.pattern(Kind::Email, email, Fold::Case, true, new);
            } else if is_distinctive(email) && !rules.logins.contains_key(email.as_str()) {
                rules.pattern(Kind::Login, email, Fold::Case, true, token.as_str());
            }
            let folded = fold::text(email, Fold::Case);
            rules.sought(&folded.chars().collect::<Vec<_>>());
            rules.emails.insert(folded, new.clone());
        }
        for (name, by_hand) in &accounts.names {
            let words = name.split_whitespace().count();
            let free = if words > 1 { *by_hand || naming::name(name).is_some() } else { is_distinctive(name) };
            let new = token.name(name);
            for spelling in spellings(name) {
                rules.pattern(Kind::Name, &spelling, Fold::Marks, free, &new);
            }
            rules.names.insert(fold::text(name, Fold::Marks), free);
        }
        for (n, pattern) in rules.patterns.iter().enumerate() {
            rules.by_first.entry(pattern.chars[0]).or_default().push(n);
        }
        for found in rules.by_first.values_mut() {
            // The longest first: an address before the login that it begins with.
            found.sort_by_key(|n| std::cmp::Reverse(rules.patterns[*n].chars.len()));
        }
        for c in rules.by_first.keys().filter(|c| c.is_ascii()) {
            rules.ascii[*c as usize] = true;
        }
        rules
    }

    fn pattern(&mut self, kind: Kind, text: &str, fold: Fold, free: bool, new: &str) {
        let chars: Vec<char> = fold::text(text, fold).chars().collect();
        if chars.is_empty() {
            return;
        }
        self.sought(&chars);
        self.patterns.push(Pattern { kind, chars, fold, free, text: text.to_owned(), new: new.to_owned() });
    }

    fn sought(&mut self, chars: &[char]) {
        self.chars_min = self.chars_min.min(chars.len());
        self.needles.add(chars);
    }

    /// Whether a text cannot hold a pattern. Most cannot, and it is much faster to see that than to read them.
    pub fn is_clean(&self, raw: &[u8]) -> bool {
        raw.len() < self.chars_min || !self.needles.are_in(raw)
    }

    /// Whether a pattern may begin with this character of a text. Most begin none.
    pub fn may_begin(&self, c: char) -> bool {
        self.ascii.get(c.to_ascii_lowercase() as usize).is_none_or(|begins| *begins)
    }

    /// The patterns that can begin with this character of a text.
    pub fn beginning_with(&self, c: char) -> impl Iterator<Item = &Pattern> {
        let of = |c: Option<char>| c.and_then(|c| self.by_first.get(&c));
        let (case, marks) = (fold::folded(c, Fold::Case).next(), fold::folded(c, Fold::Marks).next());
        let others = if marks == case { None } else { of(marks) };
        of(case).into_iter().chain(others).flatten().map(|n| &self.patterns[*n])
    }

    /// What replaces an e-mail address, where it is theirs.
    pub fn email(&self, text: &str) -> Option<String> {
        let text = text.trim();
        let known = self.emails.get(&fold::text(text, Fold::Case)).cloned();
        known.or_else(|| {
            let login = self.logins.get(&fold::text(naming::noreply_login(text)?, Fold::Case))?;
            Some(noreply(0, &login.new))
        })
    }

    /// What replaces a login of a source, where it is theirs. The same short word can be another's in another tool.
    pub fn login(&self, text: &str, source: Option<&str>) -> Option<&str> {
        let text = text.trim();
        let known = self.exact.get(text).or_else(|| self.logins.get(&fold::text(text, Fold::Case)))?;
        let own = |source| known.sources.iter().any(|s| s == source);
        (known.anywhere || source.is_none_or(own)).then_some(known.new.as_str())
    }

    /// Whether a login that is theirs can be nobody else's.
    pub fn is_free_login(&self, text: &str) -> bool {
        self.logins.get(&fold::text(text, Fold::Case)).is_some_and(|login| login.free)
    }

    /// Whether a text is one of their names.
    pub fn is_name(&self, text: &str) -> bool {
        self.names.contains_key(&fold::text(text, Fold::Marks))
    }

    /// Whether a text is a name of theirs that is not any word.
    pub fn is_free_name(&self, text: &str) -> bool {
        self.names.get(&fold::text(text, Fold::Marks)).is_some_and(|free| *free)
    }

    /// Whether a text is a name of theirs that stands for nobody and nothing else.
    pub fn is_full_name(&self, text: &str) -> bool {
        let text = fold::text(text, Fold::Marks);
        self.names.get(&text).is_some_and(|free| *free && (text.contains(' ') || text.chars().all(is_unspaced)))
    }

    /// What replaces an object's key: only what can mean nothing else.
    pub fn key(&self, text: &str) -> Option<String> {
        if text.contains('@') {
            return self.email(text);
        }
        let odd = self.is_free_login(text) && !text.chars().all(char::is_alphabetic);
        match self.login(text, None) {
            Some(new) if odd => Some(new.to_owned()),
            _ => self.is_full_name(text).then(|| self.token.name(text)),
        }
    }
}

/// Three characters of each pattern, by a hash: a text without any of them holds no pattern.
#[derive(Clone, Debug, Default)]
struct Needles {
    /// A bit for each hash.
    known: Vec<u64>,
    /// There is a pattern that is too short.
    short: bool,
}

impl Needles {
    const BITS: usize = 1 << 12;

    fn place(needle: &[u8]) -> usize {
        needle.iter().fold(0, |hash, byte| (hash << 4) ^ usize::from(byte.to_ascii_lowercase())) % Self::BITS
    }

    fn add(&mut self, chars: &[char]) {
        self.known.resize(Self::BITS / 64, 0);
        // What is no ASCII is in no text that is asked for. What else than letters there is can be written in several ways.
        let bytes: Option<Vec<u8>> = chars.iter().map(|c| u8::try_from(*c).ok().filter(u8::is_ascii)).collect();
        let Some(bytes) = bytes else { return };
        match bytes.windows(3).find(|window| window.iter().all(u8::is_ascii_alphanumeric)) {
            Some(needle) => {
                let place = Self::place(needle);
                self.known[place / 64] |= 1 << (place % 64);
            }
            None => self.short = true,
        }
    }

    /// Whether one may be in a text: it is only told of ASCII that none is, where no letter is escaped.
    fn are_in(&self, raw: &[u8]) -> bool {
        let plain = raw.is_ascii() && !raw.contains(&b'%') && !raw.windows(2).any(|window| window == b"\\u");
        let known = |window: &[u8]| {
            let place = Self::place(window);
            self.known.get(place / 64).is_some_and(|bits| bits & (1 << (place % 64)) != 0)
        };
        !plain || self.short || raw.windows(3).any(known)
    }
}

/// Whether a word is so peculiar that it means this person wherever it stands.
fn is_distinctive(word: &str) -> bool {
    let count = word.chars().count();
    if word.chars().all(|c| c.is_ascii_digit()) {
        return count >= DIGITS_MIN;
    }
    if word.chars().all(is_unspaced) {
        return count >= UNSPACED_CHARS_MIN;
    }
    let inner = word.trim_matches(|c: char| !c.is_alphanumeric());
    let odd = inner.contains(|c: char| c.is_numeric() || matches!(c, '-' | '_' | '.' | ':' | '@'));
    if odd {
        return inner.chars().count() >= ODD_CHARS_MIN;
    }
    // Words such as `developer` are many people's.
    !word.contains(char::is_whitespace) && count >= WORD_CHARS_MIN && naming::handle(word).is_some()
}

/// A name, and the other way in which trackers write it: `Lovelace, Ada`.
fn spellings(name: &str) -> Vec<String> {
    let mut all = vec![name.to_owned()];
    if let Some((last, first)) = name.split_once(',') {
        all.push(format!("{} {}", first.trim(), last.trim()));
    } else if let Some((first, last)) = name.trim().rsplit_once(char::is_whitespace) {
        all.push(format!("{last}, {first}"));
        all.push(format!("{last} {first}"));
    }
    all.retain(|spelling| spelling.chars().any(char::is_alphanumeric));
    all
}

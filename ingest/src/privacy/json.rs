//! Taking a person out of JSON: first which objects describe them, then every value by where it stands. What is not
//! replaced keeps its bytes.

use super::{
    class::{Class, is_of_people},
    fold::is_unspaced,
    link,
    rules::Rules,
    text::{Ground, Written},
    walk::{Part, What, decoded, walk},
};

/// What is known of an object, a bit each.
mod known {
    /// It has an account of theirs.
    pub const ACCOUNT: u16 = 1;
    /// It has an account that is not theirs, as far as is known.
    pub const OTHER: u16 = 2;
    /// It has a name of theirs.
    pub const NAME: u16 = 4;
    /// Its `name` or `key` is a login of theirs.
    pub const NAMED: u16 = 8;
    /// Its `name` or `key` is not.
    pub const NAMED_OTHER: u16 = 16;
    /// It has a name to be shown, as people have beside a login.
    pub const DISPLAY: u16 = 32;
    /// It has something that people have.
    pub const MARKER: u16 = 64;
    /// It is a change of who does something.
    pub const CHANGE: u16 = 128;
    /// It refers to them by the id of their account.
    pub const REFERS: u16 = 256;
    /// The id of its account is not theirs: then no name within the tool is.
    pub const OTHER_ID: u16 = 512;
}

/// What is known of each object of a body, by its number.
struct Known(Vec<u16>);

impl Known {
    fn add(&mut self, object: usize, what: u16) {
        if self.0.len() <= object {
            self.0.resize(object + 1, 0);
        }
        self.0[object] |= what;
    }

    fn has(&self, object: usize, what: u16) -> bool {
        self.0.get(object).is_some_and(|known| known & what != 0)
    }

    /// Whether an object describes the person. A name alone does only where no account says that it is a namesake.
    fn is_person(&self, object: usize) -> bool {
        let has = |what| object > 0 && self.has(object, what);
        let other = has(known::OTHER) || (has(known::DISPLAY) && has(known::NAMED_OTHER));
        let by_name = has(known::NAME | known::NAMED) && has(known::MARKER | known::DISPLAY) && !other;
        let by_login = has(known::NAMED) && has(known::DISPLAY) && !has(known::OTHER_ID);
        has(known::ACCOUNT) || by_login || by_name
    }
}

/// Takes the person out of a body of a source.
pub struct Redaction<'r> {
    rules: &'r Rules,
    source: &'r str,
    known: Known,
}

impl<'r> Redaction<'r> {
    /// The body without the person, or `None` where they are not in it; `Err` where it is no JSON.
    pub fn of(rules: &'r Rules, source: &'r str, body: &str) -> Result<Option<String>, NoJson> {
        let mut this = Self { rules, source, known: Known(Vec::new()) };
        walk(body, &mut |part| this.look(&part)).ok_or(NoJson)?;
        let (mut out, mut at) = (String::new(), 0);
        walk(body, &mut |part| {
            if let Some(new) = this.replaced(&part).filter(|new| new != part.raw) {
                out.push_str(&body[at..part.at]);
                out.push_str(&new);
                at = part.at + part.raw.len();
            }
        });
        out.push_str(&body[at..]);
        Ok((at > 0).then_some(out))
    }

    /// Learns what a part says of the object that it stands in.
    fn look(&mut self, part: &Part<'_>) {
        let what = match (part.what, part.class) {
            (What::Object, _) if self.rules.key(&decoded(part.raw)).is_some() => known::ACCOUNT,
            (What::Key, Class::Email | Class::Login | Class::Account | Class::Marker | Class::Zone) => known::MARKER,
            (What::Key, Class::Display) => known::DISPLAY,
            (What::Text, class) => self.told_by(class, part),
            _ => 0,
        };
        if what != 0 {
            self.known.add(part.object, what);
        }
    }

    fn told_by(&self, class: Class, part: &Part<'_>) -> u16 {
        let text = decoded(part.raw);
        let text = text.trim();
        let theirs = |yes: bool| if yes { known::ACCOUNT } else { known::OTHER };
        match class {
            Class::Field if is_of_people(text) => known::CHANGE,
            _ if text.is_empty() => 0,
            Class::Account if self.account(text).is_none() => known::OTHER | known::OTHER_ID,
            Class::Email | Class::Login | Class::Account => theirs(self.account(text).is_some()),
            Class::Name | Class::Key if self.rules.login(text, Some(self.source)).is_some() => known::NAMED,
            Class::Name | Class::Display if self.rules.is_name(text) => known::NAME,
            Class::Name | Class::Key => known::NAMED_OTHER,
            Class::Id if self.rules.is_free_login(text) => {
                if text.bytes().all(|b| b.is_ascii_digit()) {
                    known::NAMED
                } else {
                    known::ACCOUNT
                }
            }
            Class::Id => known::NAMED_OTHER,
            Class::Reference if self.rules.login(text, Some(self.source)).is_some() => known::REFERS,
            _ => 0,
        }
    }

    fn account(&self, text: &str) -> Option<String> {
        let login = || self.rules.login(text, Some(self.source)).map(str::to_owned);
        self.rules.email(text).or_else(login)
    }

    /// What replaces a part, where something does.
    fn replaced(&self, part: &Part<'_>) -> Option<String> {
        match part.what {
            What::Key if part.class == Class::Text => self.rules.key(&decoded(part.raw)),
            What::Key | What::Object => None,
            What::Number => {
                let personal =
                    matches!(part.class, Class::Id | Class::Personal | Class::Login | Class::Account | Class::Key);
                let here = personal && self.known.is_person(part.object);
                (here || self.known.is_person(part.owner)).then(|| "0".to_owned())
            }
            What::Text if part.raw.is_empty() || matches!(part.class, Class::Vocabulary | Class::Field) => None,
            What::Text if self.known.is_person(part.owner) => Some(self.personal(part)),
            What::Text => self.of_person(part).or_else(|| self.of_others(part)),
        }
    }

    /// What replaces a value of an object that describes the person.
    fn of_person(&self, part: &Part<'_>) -> Option<String> {
        let personal = matches!(
            part.class,
            Class::Email
                | Class::Login
                | Class::Account
                | Class::Display
                | Class::Name
                | Class::Key
                | Class::Id
                | Class::Personal
                | Class::Wrapper
                | Class::Zone
        );
        (personal && self.known.is_person(part.object)).then(|| self.personal(part))
    }

    /// What replaces a value that says nothing but who they are.
    fn personal(&self, part: &Part<'_>) -> String {
        let text = decoded(part.raw);
        let token = &self.rules.token;
        let named = || self.rules.login(&text, Some(self.source)).map(str::to_owned);
        if token.opens(&text) {
            return part.raw.to_owned();
        }
        match part.class {
            Class::Email => self
                .rules
                .email(&text)
                .unwrap_or_else(|| if text.contains('@') { token.email(1) } else { token.as_str().to_owned() }),
            Class::Personal | Class::Wrapper | Class::Text if text.contains("://") => token.url(),
            _ => named().or_else(|| self.rules.email(&text)).unwrap_or_else(|| token.name(&text)),
        }
    }

    /// What replaces a value of any other object.
    fn of_others(&self, part: &Part<'_>) -> Option<String> {
        let ground = match part.class {
            Class::Email | Class::Login | Class::Account | Class::Reference | Class::Change => {
                let text = decoded(part.raw);
                if let Some(new) = self.exactly(part, text.trim()) {
                    return Some(new);
                }
                let several = text.trim().contains(char::is_whitespace);
                if several || part.class == Class::Change { Ground::Free } else { Ground::Account }
            }
            Class::Made => Ground::Account,
            _ => Ground::Free,
        };
        if matches!(part.class, Class::Name | Class::Display | Class::Id | Class::Key) {
            let text = decoded(part.raw);
            let number = text.bytes().all(|b| b.is_ascii_digit());
            let sure = part.within == Class::Pusher || (self.rules.is_free_login(&text) && !number);
            match self.rules.login(&text, Some(self.source)) {
                Some(new) if sure => return Some(new.to_owned()),
                // The number of an issue is nobody's.
                _ if number => return None,
                _ => {}
            }
        }
        let owned = self.owned(part);
        let text = owned.as_deref().unwrap_or(part.raw);
        let rewritten = self.rules.rewrite(text.as_bytes(), Written::Json, ground);
        rewritten.map(|new| String::from_utf8_lossy(&new).into_owned()).or(owned)
    }

    /// What replaces a value that is one account or name, where that is theirs.
    fn exactly(&self, part: &Part<'_>, text: &str) -> Option<String> {
        let anybody = part.class != Class::Change || self.known.has(part.object, known::CHANGE);
        let name = || {
            let sure = self.rules.is_full_name(text) || text.chars().all(is_unspaced);
            let told = part.class == Class::Change || self.known.has(part.object, known::REFERS);
            (self.rules.is_name(text) && (sure || told)).then(|| self.rules.token.name(text))
        };
        let tool = || {
            let (tool, login) = text.split_once(':').filter(|_| part.class == Class::Reference)?;
            Some(format!("{tool}:{}", self.rules.login(login, Some(tool))?))
        };
        let text = self.account(text).or_else(tool).or_else(name);
        text.filter(|_| anybody)
    }

    /// A repository or branch of theirs, named by a login that could be any word.
    fn owned(&self, part: &Part<'_>) -> Option<String> {
        let mark = match part.class {
            Class::Repository => '/',
            Class::Label => ':',
            _ => return None,
        };
        let (owner, rest) = part.raw.split_once(mark)?;
        let new = self.rules.login(owner, Some(self.source)).filter(|_| !rest.starts_with(char::is_whitespace))?;
        let owner: Vec<char> = owner.chars().collect();
        link::ends_account(&owner, owner.len()).then(|| format!("{new}{mark}{rest}"))
    }
}

/// The body is no JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoJson;

//! Looking for a person in text.

use super::{
    fold::{Fold, folded, is_mark, is_unspaced},
    link,
    rules::{Kind, Pattern, Rules},
    subject::noreply,
    view::View,
};

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// Words that people or tools wrote.
    Free,
    /// One account or name: a part of it is another's.
    Account,
    /// Bytes that nobody can read, and of which nothing is stated: too much may go.
    Rough,
}

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// As it is.
    Plain,
    /// Within the quotes of a JSON string.
    Json,
    /// In any way, or in several.
    Anyhow,
}

/// Characters that a gap between words may have.
const GAP_CHARS_MAX: usize = 8;
const NOREPLY: &str = "@users.noreply.github.com";

/// A part of a text, by characters, and what replaces it.
struct Edit {
    from: usize,
    to: usize,
    new: String,
}

impl Rules {
    /// The text without the person; `None` where they are not in it.
    pub fn rewrite(&self, raw: &[u8], written: Written, ground: Ground) -> Option<Vec<u8>> {
        if self.is_clean(raw) {
            return None;
        }
        type Decoded = fn(&View) -> View;
        const UNESCAPED: Decoded = View::unescaped;
        const DECODED: Decoded = View::percent_decoded;
        let mut changed: Option<Vec<u8>> = None;
        let mut look = |through: &[Decoded]| {
            let raw = changed.as_deref().unwrap_or(raw);
            let view = through.iter().fold(View::plain(raw), |view, undo| undo(&view));
            let escapes = [view.chars.contains(&'\\'), view.chars.contains(&'%')];
            if let Some(new) = self.edited(raw, &view, ground) {
                changed = Some(new);
            }
            escapes
        };
        // What stands escaped within escapes, and in addresses.
        let [escaped, encoded] = match written {
            Written::Json => look(&[UNESCAPED]),
            Written::Plain | Written::Anyhow => look(&[]),
        };
        let first: &[Decoded] = if written == Written::Json { &[UNESCAPED] } else { &[] };
        if escaped && written != Written::Plain {
            look(&[first, &[UNESCAPED]].concat());
        }
        if encoded {
            let [escaped, _] = look(&[first, &[DECODED]].concat());
            if escaped && written == Written::Anyhow {
                look(&[DECODED, UNESCAPED]);
            }
        }
        changed
    }

    /// The text of a cell, or of anything else that stands alone.
    pub fn rewrite_text(&self, text: &str) -> Option<String> {
        let new = self.rewrite(text.as_bytes(), Written::Plain, Ground::Free)?;
        Some(String::from_utf8_lossy(&new).into_owned())
    }

    fn edited(&self, raw: &[u8], view: &View, ground: Ground) -> Option<Vec<u8>> {
        let edits = self.edits(view, ground);
        let (mut out, mut at) = (Vec::with_capacity(raw.len()), 0);
        for edit in &edits {
            let bytes = view.bytes(edit.from, edit.to);
            out.extend_from_slice(&raw[at..bytes.start]);
            // In an address, a plus means a space.
            if raw[bytes.clone()].contains(&b'%') {
                for part in edit.new.split_inclusive(['+', '@', '[', ']']) {
                    match part.as_bytes() {
                        [head @ .., mark @ (b'+' | b'@' | b'[' | b']')] => {
                            out.extend_from_slice(head);
                            out.extend_from_slice(format!("%{mark:02X}").as_bytes());
                        }
                        plain => out.extend_from_slice(plain),
                    }
                }
            } else {
                out.extend_from_slice(edit.new.as_bytes());
            }
            at = bytes.end;
        }
        out.extend_from_slice(&raw[at..]);
        (!edits.is_empty() && out != raw).then_some(out)
    }

    fn edits(&self, view: &View, ground: Ground) -> Vec<Edit> {
        let chars = &view.chars;
        let token: Vec<char> = self.token.as_str().chars().collect();
        let is_token = |chars: &[char]| {
            let same = |(c, wanted): (&char, &char)| c == wanted || (*wanted == '-' && *c == ' ');
            chars.len() >= token.len() && chars.iter().zip(&token).all(same)
        };
        let (mut edits, mut at): (Vec<Edit>, usize) = (Vec::new(), 0);
        while at < chars.len() {
            if chars[at] != token[0] && !self.may_begin(chars[at]) {
                at += 1;
                continue;
            }
            // What stands in their place already is not looked into.
            if chars[at] == token[0] && is_token(&chars[at..]) {
                at += token.len();
                continue;
            }
            let done = edits.last().map_or(0, |edit| edit.to);
            let found = self.beginning_with(chars[at]).find_map(|pattern| {
                let end = end_of(chars, at, pattern)?;
                self.stands(chars, at..end, pattern, ground).filter(|edit| edit.from >= done)
            });
            match found {
                Some(edit) => {
                    at = edit.to;
                    edits.push(edit);
                }
                None => at += 1,
            }
        }
        edits
    }

    /// Whether characters that read like an identifier are one, by what stands around them.
    fn stands(&self, chars: &[char], at: std::ops::Range<usize>, pattern: &Pattern, ground: Ground) -> Option<Edit> {
        let (from, to) = (at.start, at.end);
        let (before, after) = (before(chars, from), chars.get(to).copied());
        let joined = |inner: char, outer: Option<char>| {
            inner.is_alphanumeric() && !is_unspaced(inner) && outer.is_some_and(|c| c.is_alphanumeric() || is_mark(c))
        };
        if joined(chars[from], before) || joined(chars[to - 1], after) {
            return None;
        }
        let edit = |from, to, new: &str| Some(Edit { from, to, new: new.to_owned() });
        match pattern.kind {
            Kind::Email => link::is_whole_address(chars, from, to).then(|| edit(from, to, &pattern.new))?,
            Kind::Name if ground == Ground::Rough => edit(from, to, &pattern.new),
            Kind::Name => {
                let several = pattern.chars.contains(&' ') || pattern.chars.iter().all(|c| is_unspaced(*c));
                let in_address = link::in_address(chars, from, to).is_some();
                let here = pattern.free && !in_address && (several || ground == Ground::Free);
                here.then(|| edit(from, to, &pattern.new))?
            }
            Kind::Login => {
                if let Some((from, to)) = noreply_around(chars, from, to) {
                    return edit(from, to, &noreply(0, &pattern.new));
                }
                let here = match ground {
                    Ground::Rough => pattern.free || to - from > 1,
                    Ground::Account => pattern.free && pattern.chars.contains(&' '),
                    Ground::Free => match link::in_address(chars, from, to) {
                        Some(whole) => whole && pattern.free,
                        None if link::is_account(chars, from) => link::ends_account(chars, to),
                        None => {
                            let free = pattern.free && !is_key(chars, from, to, &pattern.text);
                            free || link::is_user(chars, from, to)
                        }
                    },
                };
                here.then(|| edit(from, to, &pattern.new))?
            }
        }
    }
}

fn before(chars: &[char], at: usize) -> Option<char> {
    at.checked_sub(1).map(|at| chars[at])
}

/// Where a pattern ends that begins here.
fn end_of(chars: &[char], mut at: usize, pattern: &Pattern) -> Option<usize> {
    let mut wanted = pattern.chars.iter().copied().peekable();
    while let Some(next) = wanted.peek() {
        if *next == ' ' {
            let gap = |c: &&char| c.is_whitespace() || matches!(c, '+' | '_');
            if pattern.fold == Fold::Marks {
                at += chars[at..].iter().take_while(|c| is_mark(**c)).count();
            }
            let width = chars[at..].iter().take(GAP_CHARS_MAX).take_while(gap).count();
            if width == 0 {
                return None;
            }
            at += width;
            wanted.next();
            continue;
        }
        for c in folded(*chars.get(at)?, pattern.fold) {
            if wanted.next() != Some(c) {
                return None;
            }
        }
        at += 1;
    }
    let marks = if pattern.fold == Fold::Marks { chars[at..].iter().take_while(|c| is_mark(**c)).count() } else { 0 };
    Some(at + marks)
}

/// The address of GitHub's that a login stands in: `12345+ada@users.noreply.github.com`.
fn noreply_around(chars: &[char], from: usize, to: usize) -> Option<(usize, usize)> {
    let end = to + NOREPLY.len();
    let rest = chars.get(to..end)?;
    if !rest.iter().zip(NOREPLY.chars()).all(|(c, wanted)| c.eq_ignore_ascii_case(&wanted)) {
        return None;
    }
    let digits = match chars[..from].split_last() {
        Some(('+', head)) => head.iter().rev().take(20).take_while(|c| c.is_ascii_digit()).count() + 1,
        _ => 0,
    };
    let from = from - digits;
    link::is_whole_address(chars, from, end).then_some((from, end))
}

/// Whether this is the project of a ticket's key, in capitals as such keys are, and written otherwise as a login.
fn is_key(chars: &[char], from: usize, to: usize, login: &str) -> bool {
    let word = &chars[from..to];
    let number = chars[to..].strip_prefix(&['-']).unwrap_or_default();
    let digits = number.iter().take_while(|c| c.is_ascii_digit()).count();
    let capitals = word.iter().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_');
    let ends = number.get(digits).is_none_or(|c| !c.is_alphanumeric());
    capitals && digits > 0 && ends && !login.chars().eq(word.iter().copied())
}

//! A text as people read it, and where each of its characters stands in the bytes.
//!
//! Escapes are undone to look for a name, and left as they are where none is found: only what is replaced changes.

/// Characters, each with the place where its bytes begin.
#[derive(Debug, Default)]
pub struct View {
    pub chars: Vec<char>,
    /// One more than there are characters: the last is where the bytes end.
    starts: Vec<usize>,
}

impl View {
    /// The bytes as they stand. What is no UTF-8 is a character that no name has.
    pub fn plain(bytes: &[u8]) -> Self {
        let mut view = Self { chars: Vec::with_capacity(bytes.len()), starts: Vec::with_capacity(bytes.len() + 1) };
        let mut at = 0;
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                view.push(c, at);
                at += c.len_utf8();
            }
            if !chunk.invalid().is_empty() {
                view.push(char::REPLACEMENT_CHARACTER, at);
                at += chunk.invalid().len();
            }
        }
        view.starts.push(at);
        view
    }

    fn push(&mut self, c: char, start: usize) {
        self.chars.push(c);
        self.starts.push(start);
    }

    /// The bytes of some of the characters.
    pub fn bytes(&self, from: usize, to: usize) -> std::ops::Range<usize> {
        self.starts[from]..self.starts[to]
    }

    /// With the escapes of JSON undone. One that stands for nothing stays as it is.
    #[must_use]
    pub fn unescaped(&self) -> Self {
        self.undone('\\', |rest| match rest.get(1)? {
            'n' => Some(('\n', 2)),
            'r' => Some(('\r', 2)),
            't' => Some(('\t', 2)),
            'b' => Some(('\u{8}', 2)),
            'f' => Some(('\u{c}', 2)),
            c @ ('"' | '\\' | '/') => Some((*c, 2)),
            'u' => {
                let high = unit(rest)?;
                if let Some(c) = char::from_u32(high) {
                    return Some((c, 6));
                }
                let low = unit(&rest[6..]).filter(|low| high < 0xdc00 && (0xdc00..0xe000).contains(low));
                match low {
                    Some(low) => char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)).map(|c| (c, 12)),
                    None => Some((char::REPLACEMENT_CHARACTER, 6)),
                }
            }
            _ => None,
        })
    }

    /// With the percent encoding of addresses undone. What is no UTF-8 stays as it is.
    #[must_use]
    pub fn percent_decoded(&self) -> Self {
        self.undone('%', |rest| {
            let first = octet(rest)?;
            let length = match first {
                0..0x80 => 1,
                0xc0..0xe0 => 2,
                0xe0..0xf0 => 3,
                0xf0..=0xff => 4,
                _ => return None,
            };
            let mut bytes = [first, 0, 0, 0];
            for (n, byte) in bytes.iter_mut().enumerate().take(length).skip(1) {
                *byte = octet(rest.get(3 * n..)?)?;
            }
            let c = std::str::from_utf8(&bytes[..length]).ok()?.chars().next()?;
            Some((c, 3 * length))
        })
    }

    /// With every escape undone that opens with `mark`: `undo` gives what it stands for, and how many characters it is.
    fn undone(&self, mark: char, undo: impl Fn(&[char]) -> Option<(char, usize)>) -> Self {
        let mut view = Self::default();
        let mut at = 0;
        while let Some(&c) = self.chars.get(at) {
            let found = if c == mark { undo(&self.chars[at..]) } else { None };
            let (c, length) = found.unwrap_or((c, 1));
            view.push(c, self.starts[at]);
            at += length;
        }
        view.starts.push(self.starts[self.chars.len()]);
        view
    }
}

/// The number in `\u00e9`.
fn unit(rest: &[char]) -> Option<u32> {
    let ['\\', 'u', digits @ ..] = rest else { return None };
    digits.get(..4)?.iter().try_fold(0, |sum, c| Some(sum * 16 + c.to_digit(16)?))
}

/// The number in `%e9`.
fn octet(rest: &[char]) -> Option<u8> {
    let ['%', high, low, ..] = rest else { return None };
    u8::try_from(high.to_digit(16)? * 16 + low.to_digit(16)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(view: &View) -> String {
        view.chars.iter().collect()
    }

    #[test]
    fn escapes_are_undone_and_their_places_known() {
        let raw = r#"a\u00e9\/\ud83d\ude00\n\q\ud800x\u12"#.as_bytes();
        let view = View::plain(raw).unescaped();
        assert_eq!(text(&view), "aé/😀\n\\q\u{fffd}x\\u12");
        assert_eq!(&raw[view.bytes(1, 2)], br"\u00e9");
        assert_eq!(&raw[view.bytes(3, 4)], br"\ud83d\ude00");
        assert_eq!(view.bytes(0, view.chars.len()), 0..raw.len());
    }

    #[test]
    fn percents_are_undone_where_they_are_text() {
        let raw = b"%41%c3%A9 100% %ad%zz%c3 %f0%9f%98%80";
        let view = View::plain(raw).percent_decoded();
        assert_eq!(text(&view), "Aé 100% %ad%zz%c3 😀");
        assert_eq!(&raw[view.bytes(1, 2)], b"%c3%A9");
    }

    #[test]
    fn any_bytes_have_a_view() {
        let raw = b"a\xff\xfe\xc3b\\";
        let view = View::plain(raw).unescaped().percent_decoded();
        assert_eq!(view.bytes(0, view.chars.len()), 0..raw.len());
        assert!(text(&view).starts_with('a') && text(&view).ends_with("b\\"));
        assert_eq!(View::plain(b"").chars.len(), 0);
    }
}

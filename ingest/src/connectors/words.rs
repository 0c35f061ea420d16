//! Words of titles, messages and file names, by which a change that names no ticket is compared with tickets.
//!
//! A text becomes the set of its words, sorted, separated by spaces: lower case, plurals without their `s`, ticket keys left
//! out (what they say is evidence of its own), and what tells nothing (`the`, numbers, words of one or two letters). A
//! compound gives itself and its parts: `RocksDBStore` is `rocksdbstore`, `rock`, `db` being too short, and `store`. Pure, and
//! the same for every tool, so that a title and a message are read alike.

use std::collections::BTreeSet;

use flowsync_schemas::Text;

use super::keys;

/// The most words that one text gives, where people, not tools, wrote it; the first ones are kept.
pub const WORDS_MAX: usize = 96;

/// Paths of one change that are looked at.
pub const FILES_MAX: usize = 64;

/// Paths of one change that are kept.
const PATHS_KEPT: usize = 8;

const WORD_CHARS_MIN: usize = 3;
const WORD_BYTES_MAX: usize = 40;
/// No file system has longer names.
const FILE_BYTES_MAX: usize = 255;
/// Shorter names of files are words like any other: `main`, `util`.
const FILE_CHARS_MIN: usize = 5;

/// Sorted.
const STOP: &[&str] = &[
    "after", "all", "also", "and", "any", "are", "before", "but", "can", "does", "for", "from", "has", "have", "into",
    "its", "not", "only", "should", "than", "that", "the", "then", "there", "this", "use", "using", "via", "was",
    "when", "which", "while", "will", "with",
];

/// Lines that tools write, and not of the change.
const TRAILERS: &[&str] = &[
    "merge remote",
    "merge branch",
    "merge pull",
    "merge commit",
    "merge trunk",
    "signed-off-by",
    "co-authored-by",
    "reviewer:",
    "reviewers:",
    "git-svn-id",
];

/// The words of a ticket's title.
pub fn of_title(title: &str) -> Text {
    let mut words = Words::default();
    words.read(title);
    words.into_text()
}

/// The words of a change, from its title and the text below it. A tag that its title opens with, as in `MINOR: …`, is a
/// word of its own, `minor:`.
pub fn of_change(title: &str, text: &str) -> Text {
    let mut words = Words::default();
    let opens_with_key = || keys::places(title).next().is_some_and(|(start, _)| tag(&title[start..]) == tag(title));
    if let Some(tag) = tag(title).filter(|_| !opens_with_key()) {
        words.put(&format!("{tag}:"), |tag| tag);
    }
    for line in title.lines().chain(text.lines()).filter(|line| !is_trailer(line)) {
        words.read(line);
    }
    words.into_text()
}

/// The words of a commit's message.
pub fn of_message(message: &str) -> Text {
    let (title, text) = message.trim_start().split_once('\n').unwrap_or((message, ""));
    of_change(title, text)
}

/// The names of touched files, whole, without folder and extension; of `BasketTest.java` also `basket`.
pub fn of_files<'a>(paths: impl IntoIterator<Item = &'a str>) -> Text {
    let mut words = Words::default();
    for path in paths.into_iter().take(FILES_MAX) {
        let file = path.rsplit('/').next().unwrap_or(path);
        let name = file.rsplit_once('.').map_or(file, |(name, _)| name);
        for name in [Some(name), name.strip_suffix("Test")].into_iter().flatten() {
            if name.len() <= FILE_BYTES_MAX
                && name.chars().count() >= FILE_CHARS_MIN
                && name.chars().all(char::is_alphanumeric)
            {
                words.add(name);
            }
        }
    }
    words.into_text()
}

/// Whole paths of touched files, by their hashes: the lowest ones, which are the same ones wherever the same files are touched.
pub fn of_paths<'a>(paths: impl IntoIterator<Item = &'a str>) -> Text {
    // FNV-1a: many paths, of which a few that collide do no harm.
    let hashed = |path: &str| path.bytes().fold(0x811c_9dc5, |h: u32, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    let all: BTreeSet<u32> = paths.into_iter().take(FILES_MAX).map(hashed).collect();
    let kept: Vec<_> = all.into_iter().take(PATHS_KEPT).map(|path| format!("{path:08x}")).collect();
    kept.join(" ").into()
}

/// `MINOR` of `MINOR: typo`, `[HOTFIX] …` or `fix; …`.
fn tag(title: &str) -> Option<&str> {
    let from = title.trim_start_matches(|c: char| !c.is_alphabetic());
    let end = from.find(|c: char| !c.is_alphabetic())?;
    let rest = from[end..].strip_prefix(']').unwrap_or(&from[end..]);
    let tagged = rest.trim_start().starts_with([':', ';', '-']) || from[end..].starts_with(']');
    (tagged && end <= WORD_BYTES_MAX).then(|| &from[..end])
}

fn is_trailer(line: &str) -> bool {
    let line = line.trim_start();
    TRAILERS.iter().any(|t| line.get(..t.len()).is_some_and(|start| start.eq_ignore_ascii_case(t)))
}

/// Words, each once, one behind the other in one text.
#[derive(Default)]
struct Words {
    text: String,
    ends: Vec<usize>,
}

impl Words {
    fn read(&mut self, line: &str) {
        let mut from = 0;
        // Between keys; a key's project is no word of the text.
        for (start, end) in keys::places(line) {
            self.words(&line[from.min(start)..start]);
            from = end;
        }
        self.words(&line[from..]);
    }

    fn words(&mut self, text: &str) {
        for word in text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty() && w.len() <= WORD_BYTES_MAX) {
            self.add(word);
            parts(word, |part| self.add(part));
        }
    }

    fn add(&mut self, word: &str) {
        let digits = word.bytes().all(|b| b.is_ascii_digit());
        if digits || word.chars().count() < WORD_CHARS_MIN {
            return;
        }
        self.put(word, |word| {
            if STOP.binary_search(&word).is_ok() {
                ""
            } else if word.len() > WORD_CHARS_MIN && !word.ends_with("ss") {
                word.strip_suffix('s').unwrap_or(word)
            } else {
                word
            }
        });
    }

    /// Puts what `of` makes of a word in lower case behind the others, where that is something and not among them. No word of its
    /// own is made of it on the way: there are dozens in a message.
    fn put(&mut self, word: &str, of: impl FnOnce(&str) -> &str) {
        if self.ends.len() >= WORDS_MAX {
            return;
        }
        let from = self.text.len();
        if word.is_ascii() {
            self.text.extend(word.bytes().map(|b| char::from(b.to_ascii_lowercase())));
        } else {
            self.text.push_str(&word.to_lowercase());
        }
        let new = of(&self.text[from..]);
        let len = new.len();
        let is_new = !new.is_empty() && self.all().all(|word| word != new);
        self.text.truncate(if is_new { from + len } else { from });
        self.ends.extend(is_new.then_some(from + len));
    }

    /// The words, as they came.
    fn all(&self) -> impl Iterator<Item = &str> {
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.text[start..*end])
    }

    fn into_text(self) -> Text {
        let mut words: Vec<&str> = self.all().collect();
        words.sort_unstable();
        words.join(" ").into()
    }
}

/// The parts of a compound: `SSLTransport2` gives `SSL`, `Transport`, `2`; a simple word gives none.
fn parts<'a>(word: &'a str, mut each: impl FnMut(&'a str)) {
    let class = |c: char| (c.is_uppercase(), c.is_numeric());
    let mut from = 0;
    let mut chars = word.char_indices().peekable();
    let mut before: Option<char> = None;
    while let Some((at, c)) = chars.next() {
        let Some(last) = before.replace(c) else { continue };
        let next_is_small = chars.peek().is_some_and(|(_, n)| !n.is_uppercase() && !n.is_numeric());
        let starts = match (class(last), class(c)) {
            ((_, was), (_, is)) if was != is => true,
            // The last capital before a small letter opens the next part.
            ((true, _), (true, _)) => next_is_small,
            ((false, _), (true, _)) => true,
            _ => false,
        };
        if starts {
            each(&word[from..at]);
            from = at;
        }
    }
    if from > 0 {
        each(&word[from..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &Text) -> Vec<&str> {
        text.split(' ').collect()
    }

    #[test]
    fn words_of_titles() {
        assert_eq!(words(&of_title("The basket loses 2 articles")), ["article", "basket", "lose"]);
        assert_eq!(words(&of_title("testClose of RocksDB")), ["close", "rock", "rocksdb", "test", "testclose"]);
        assert_eq!(words(&of_title("SSLTransport2 class")), ["class", "ssl", "ssltransport2", "transport"]);
        assert_eq!(&*of_title(""), "");
        assert_eq!(&*of_title("Größe der Übersicht"), "der größe übersicht");
    }

    #[test]
    fn keys_are_no_words() {
        assert_eq!(words(&of_title("SHOP-12: basket, see shop-13 and KAFKA 218")), ["basket", "see"]);
    }

    #[test]
    fn changes_have_tags_and_no_trailers() {
        let text = of_message("MINOR: Basket\n\nCloses the gap\nReviewers: Somebody <a@example.org>\nSigned-off-by: B");
        assert_eq!(words(&text), ["basket", "close", "gap", "minor", "minor:"]);
        assert_eq!(words(&of_change("[HOTFIX] basket", "")), ["basket", "hotfix", "hotfix:"]);
        assert_eq!(words(&of_change("SHOP-12: basket", "")), ["basket"]);
        assert_eq!(words(&of_change("Basket of today", "")), ["basket", "today"]);
    }

    #[test]
    fn files_by_their_names() {
        let paths = ["core/src/BasketTest.java", "docs/a.md", "OrderBooks.scala", "README", "my-file.txt"];
        assert_eq!(words(&of_files(paths)), ["basket", "baskettest", "orderbook", "readme"]);
    }

    #[test]
    fn paths_by_their_lowest_hashes() {
        let paths: Vec<String> = (0..20).map(|n| format!("src/part_{n}.rs")).collect();
        let of = |paths: &[String]| of_paths(paths.iter().map(String::as_str));
        let all = of(&paths);
        assert!(words(&all).is_sorted() && words(&all).len() == PATHS_KEPT);
        assert!(words(&all).iter().all(|path| path.len() == 8));
        // What is kept of all files is kept of some of them as well.
        let some = of(&paths[..12]);
        let one = |n: usize| of(&paths[n..=n]);
        let both: Vec<_> = (0..12).map(one).filter(|path| all.contains(&**path)).collect();
        assert!(!both.is_empty() && both.iter().all(|path| some.contains(&**path)));
        assert_eq!(&*of(&[]), "");
    }

    #[test]
    fn stop_words_are_sorted_and_texts_bounded() {
        assert!(STOP.is_sorted());
        let long: String = (0..1_000).map(|n| format!("word{n} ")).collect();
        assert_eq!(words(&of_title(&long)).len(), WORDS_MAX);
    }
}

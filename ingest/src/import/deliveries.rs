//! Recorded deliveries: a file with one `{"headers": {…}, "body": <object or string>}` a line, plain or gzip; `-` is
//! standard input.
//!
//! A body that is an object is kept in the very bytes of the file; a string is the body itself. Whoever may write the
//! data directory vouches for the sender, so signatures are not checked, and channel and check are those of an import.
//!
//! Invariants: a line is bounded, and so is a batch (I9); a line of another shape is listed with its number and the
//! import goes on (I10); a delivery has the identity that it had as a webhook, so importing twice states nothing twice
//! (I2).

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use flate2::bufread::MultiGzDecoder;
use flowsync_schemas::Micros;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{ImportError, Progress, Sink, Summary};
use crate::connectors::{Connector, Delivery, Verified};

/// Longest line; tools send at most 25 MB.
const LINE_BYTES_MAX: u64 = 32 << 20;
/// Deliveries of one batch.
const BATCH: usize = 512;
/// Bytes after which a batch is handed over early.
const BATCH_BYTES: usize = 8 << 20;
/// What is shown of a parser's words.
const PROBLEM_CHARS_MAX: usize = 200;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// One line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded<'a> {
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(borrow)]
    body: &'a RawValue,
}

/// Imports the deliveries recorded in the file at `path` for `connector`, as received `now`.
///
/// # Errors
/// Where the file cannot be read to its end or the sink fails. Lines of another shape are problems in the summary.
pub fn deliveries(
    connector: &dyn Connector,
    path: &Path,
    now: Micros,
    progress: &mut dyn FnMut(Progress),
    sink: &mut Sink<'_>,
) -> Result<Summary, ImportError> {
    let mut summary = Summary::default();
    let mut number = 0;
    let failed = |line, source| ImportError::Read { path: path.to_owned(), line, source };
    let mut input = open(path).map_err(|e| failed(0, e))?;
    let mut line = Vec::new();
    let (mut batch, mut batch_bytes) = (Vec::new(), 0);
    while next_line(&mut input, &mut line).map_err(|e| failed(number, e))? {
        number += 1;
        match read(connector, &line, now) {
            Ok(None) => {}
            Ok(Some(signal)) => {
                summary.read += 1;
                batch_bytes += line.len();
                batch.push(signal);
            }
            Err(reason) => summary.problem(path, Some(number), reason),
        }
        if batch.len() >= BATCH || batch_bytes >= BATCH_BYTES {
            hand_over(&mut batch, &mut summary, progress, sink)?;
            batch_bytes = 0;
        }
    }
    hand_over(&mut batch, &mut summary, progress, sink)?;
    Ok(summary)
}

fn hand_over(
    batch: &mut Vec<Verified>,
    summary: &mut Summary,
    progress: &mut dyn FnMut(Progress),
    sink: &mut Sink<'_>,
) -> Result<(), ImportError> {
    if !batch.is_empty() {
        summary.signals += batch.len() as u64;
        sink(std::mem::take(batch)).map_err(ImportError::Sink)?;
        progress(Progress { done: summary.signals, total: None, unit: "deliveries" });
    }
    Ok(())
}

/// Plain or gzip, by the first two bytes.
fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let input: Box<dyn Read> = if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
    let mut input = BufReader::with_capacity(1 << 16, input);
    Ok(if input.fill_buf()?.starts_with(&GZIP_MAGIC) {
        Box::new(BufReader::new(MultiGzDecoder::new(input)))
    } else {
        Box::new(input)
    })
}

/// Reads the next line without its end; of a line that is too long, one byte more than is allowed.
fn next_line(input: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    if input.take(LINE_BYTES_MAX + 1).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() as u64 > LINE_BYTES_MAX {
        input.skip_until(b'\n')?;
    }
    Ok(true)
}

/// The signal of one line; nothing for an empty line.
fn read(connector: &dyn Connector, line: &[u8], received_at: Micros) -> Result<Option<Verified>, String> {
    if line.len() as u64 > LINE_BYTES_MAX {
        return Err(format!("the line is longer than {LINE_BYTES_MAX} bytes"));
    }
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let recorded: Recorded<'_> = serde_json::from_slice(line)
        .map_err(|e| format!("the line is not {{\"headers\": {{…}}, \"body\": <object or string>}}: {}", brief(&e)))?;
    let raw = recorded.body.get();
    let body = match raw.as_bytes().first() {
        Some(b'{') => raw.as_bytes().to_vec(),
        Some(b'"') => serde_json::from_str::<String>(raw).map_err(|e| format!("body: {}", brief(&e)))?.into_bytes(),
        _ => return Err("body must be an object or a string".to_owned()),
    };
    let headers: Vec<_> = recorded.headers.into_iter().map(|(n, v)| (n.to_ascii_lowercase(), v)).collect();
    let delivery = Delivery { headers: &headers, body: &body, received_at };
    Ok(Some(Verified::imported(connector.spec(), delivery, connector.delivery_id(delivery).as_deref())))
}

/// What a parser says, which can repeat the whole line.
fn brief(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.char_indices().nth(PROBLEM_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;
    use crate::connectors::by_name;

    fn import(bytes: &[u8]) -> (Result<Summary, ImportError>, Vec<Verified>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut got = Vec::new();
        let outcome = deliveries(by_name("github").unwrap(), file.path(), Micros(7), &mut |_| {}, &mut |batch| {
            got.extend(batch);
            Ok(())
        });
        (outcome, got)
    }

    const LINES: &str = concat!(
        r#"{"headers": {"X-GitHub-Delivery": "d-1", "X-GitHub-Event": "ping"}, "body": {"zen":  "kept as it is"}}"#,
        "\n\n",
        r#"{"headers": {"X-GitHub-Event": "ping"}, "body": "{\"zen\":\"a string\"}"}"#,
        "\r\n",
        "{\"headers\": {}}\n{\"body\": 3}\nnonsense\n",
        r#"{"body": {"zen": "no newline at the end"}}"#,
    );

    #[test]
    fn bytes_and_identity_are_kept_and_bad_lines_are_named() {
        let (summary, got) = import(LINES.as_bytes());
        let summary = summary.unwrap();
        assert_eq!((summary.read, summary.signals, summary.problem_count), (3, 3, 3));
        assert_eq!(summary.problems.iter().map(|p| p.line).collect::<Vec<_>>(), [Some(4), Some(5), Some(6)]);
        assert!(summary.problems[1].to_string().contains(":5: body must be"), "{}", summary.problems[1]);
        let first = got[0].signal();
        assert_eq!((first.delivery.as_str(), first.verified_by.as_str()), ("d-1", "local-import"));
        assert_eq!(first.body, br#"{"zen":  "kept as it is"}"#);
        assert_eq!(first.header("x-github-event"), Some("ping"));
        assert_eq!(got[1].signal().body, br#"{"zen":"a string"}"#);
    }

    #[test]
    fn gzip_gives_the_same_signals_and_a_cut_file_is_an_error() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(LINES.as_bytes()).unwrap();
        let packed = packed.finish().unwrap();
        assert_eq!(import(&packed).1, import(LINES.as_bytes()).1);
        let (cut, _) = import(&packed[..packed.len() - 12]);
        assert!(matches!(cut, Err(ImportError::Read { .. })), "{cut:?}");
    }

    #[test]
    fn a_file_that_unpacks_to_more_than_memory_holds_is_read_in_pieces() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        // Each line unpacks to more than a line may have; the last one is a delivery.
        for _ in 0..3 {
            for _ in 0..33 {
                packed.write_all(&vec![b'x'; 1 << 20]).unwrap();
            }
            packed.write_all(b"\n").unwrap();
        }
        packed.write_all(br#"{"body": {"zen": "small"}}"#).unwrap();
        let packed = packed.finish().unwrap();
        assert!(packed.len() < 1 << 20, "{} bytes: no bomb", packed.len());
        let (summary, got) = import(&packed);
        let summary = summary.unwrap();
        assert_eq!((summary.problem_count, summary.signals, got.len()), (3, 1, 1));
        // Packed twice, it is unpacked once.
        let mut twice = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        twice.write_all(&packed).unwrap();
        let (summary, got) = import(&twice.finish().unwrap());
        assert!(summary.unwrap().problem_count > 0 && got.is_empty());
    }

    #[test]
    fn a_problem_does_not_repeat_the_line() {
        let long = "a".repeat(1 << 20);
        for line in [format!(r#"{{"{long}": 1}}"#), format!(r#"{{"headers": "{long}"}}"#), format!("\"{long}\"")] {
            let problems = import(line.as_bytes()).0.unwrap().problems;
            assert!(problems.len() == 1 && problems[0].reason.len() < 1_000, "{} bytes", problems[0].reason.len());
        }
    }

    #[test]
    fn a_line_of_any_depth_is_read() {
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        let (summary, got) =
            import(format!("{{\"body\": {{\"a\": {deep}}}}}\n{{\"headers\": {deep}, \"body\": {{}}}}").as_bytes());
        assert_eq!((summary.unwrap().problem_count, got.len()), (1, 1));
    }

    #[test]
    fn a_line_beyond_the_limit_is_named_and_skipped() {
        let mut input = BufReader::new(Vec::from(&b"{}\n"[..]).leak() as &[u8])
            .chain(io::repeat(b'x').take(LINE_BYTES_MAX + 5).chain(&b"\nlast"[..]));
        let mut lines = Vec::new();
        let mut line = Vec::new();
        let mut input: Box<dyn BufRead + '_> = Box::new(BufReader::new(&mut input));
        while next_line(&mut input, &mut line).unwrap() {
            lines.push(line.len() as u64);
        }
        assert_eq!(lines, [2, LINE_BYTES_MAX + 1, 4]);
    }
}

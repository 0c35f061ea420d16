//! A simulation into files: deliveries as `flowsync import` reads them, and the truth, one JSON object a line.
//!
//! Forged deliveries are left out: an import does not ask for signatures, since whoever may write the data directory vouches
//! for its files.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use flate2::{Compression, write::GzEncoder};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{CONNECTORS, Simulated, Truth};

/// A file of lines, packed where its name ends in `.gz`.
pub struct Lines {
    out: Box<dyn Write + Send>,
    /// Lines so far.
    pub written: u64,
}

impl Lines {
    /// Makes a new file, or an existing one empty.
    ///
    /// # Errors
    /// Where the file cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = BufWriter::with_capacity(1 << 16, File::create(path)?);
        let packed = path.extension().is_some_and(|e| e == "gz");
        let out: Box<dyn Write + Send> =
            if packed { Box::new(Packed(GzEncoder::new(file, Compression::fast()))) } else { Box::new(file) };
        Ok(Self { out, written: 0 })
    }

    /// Writes one line.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&mut self, line: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.written += 1;
        self.out.write_all(b"\n")
    }

    /// Writes the truth told so far.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn truth(&mut self, told: Vec<Truth>) -> io::Result<()> {
        told.iter().try_for_each(|one| self.write(one))
    }

    /// Ends the file; without it the end may be missing.
    ///
    /// # Errors
    /// Where the end cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Packs; `flush` ends the packing, since it is called once, in the end.
struct Packed(GzEncoder<BufWriter<File>>);

impl Write for Packed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.try_finish()?;
        self.0.get_mut().flush()
    }
}

/// One line of a file of recorded deliveries.
#[derive(Serialize)]
struct Recorded<'a> {
    headers: BTreeMap<&'a str, &'a str>,
    body: Body<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Json(&'a RawValue),
    Text(&'a str),
}

/// A file `CONNECTOR.ndjson.gz` for each connector, in one folder.
pub struct Recording {
    files: BTreeMap<&'static str, Lines>,
}

impl Recording {
    /// Makes the files, and the folder where it does not exist.
    ///
    /// # Errors
    /// Where a file cannot be made.
    pub fn create(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let file = |name: &&'static str| Ok((*name, Lines::create(&folder.join(format!("{name}.ndjson.gz")))?));
        Ok(Self { files: CONNECTORS.iter().map(file).collect::<io::Result<_>>()? })
    }

    /// Records one delivery; a forged one is left out.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&mut self, delivery: &Simulated) -> io::Result<()> {
        let Some(file) = self.files.get_mut(delivery.connector).filter(|_| !delivery.forged) else { return Ok(()) };
        let sent = (delivery.at.0 / 1_000_000).to_string();
        let mut headers: BTreeMap<&str, &str> =
            delivery.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        if delivery.connector == "slack" {
            // A command is of the moment at which Slack sent it.
            headers.insert("x-slack-request-timestamp", &sent);
        }
        let text = std::str::from_utf8(&delivery.body).map_err(io::Error::other)?;
        let json = if text.starts_with('{') { serde_json::from_str(text).ok() } else { None };
        file.write(&Recorded { headers, body: json.map_or(Body::Text(text), Body::Json) })
    }

    /// Ends the files; how many deliveries each has.
    ///
    /// # Errors
    /// Where an end cannot be written.
    pub fn finish(self) -> io::Result<Vec<(&'static str, u64)>> {
        self.files
            .into_iter()
            .map(|(name, lines)| {
                let written = lines.written;
                lines.finish().map(|()| (name, written))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use flowsync_schemas::Micros;

    use super::*;
    use crate::{
        connectors::{Delivery, by_name},
        import,
        simulate::{Disorder, Scale, Simulation},
    };

    #[test]
    fn an_import_gives_the_signals_that_the_gateway_would_have_had() {
        let folder = tempfile::tempdir().unwrap();
        let until = Micros::parse("2026-10-01T15:00:00Z").unwrap();
        let disorder = Disorder { unreadable_bps: 100, forged_bps: 50, ..Disorder::LIFE };
        let scale = Scale { disorder, ..Scale::DEMO };
        let mut recording = Recording::create(folder.path()).unwrap();
        let all: Vec<_> = Simulation::new(1, until, scale).collect();
        all.iter().for_each(|d| recording.write(d).unwrap());
        let counts = recording.finish().unwrap();
        assert_eq!(counts.iter().map(|c| c.1).sum::<u64>() as usize, all.iter().filter(|d| !d.forged).count());
        for name in CONNECTORS {
            let connector = by_name(name).unwrap();
            let mut got = Vec::new();
            let path = folder.path().join(format!("{name}.ndjson.gz"));
            let summary = import::deliveries(connector, &path, until, &mut |_| {}, &mut |batch| {
                got.extend(batch.into_iter().map(|v| (v.signal().delivery.clone(), v.signal().body.clone())));
                Ok(())
            });
            assert_eq!(summary.unwrap().problem_count, 0, "{name}");
            let sent = all.iter().filter(|d| d.connector == name && !d.forged).map(|d| {
                let delivery = Delivery { headers: &d.headers, body: &d.body, received_at: d.at };
                (connector.delivery_id(delivery).unwrap_or_default().into_owned(), d.body.clone())
            });
            assert_eq!(got, sent.collect::<Vec<_>>(), "{name}");
        }
    }
}

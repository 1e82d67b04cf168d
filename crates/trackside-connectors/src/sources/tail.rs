//! One file being read: who it is, where we stand in it, and its next whole records.
//!
//! A file is known by the hash of its beginning, with its path (read once) or its inode (followed: a renamed file is
//! the same, a truncated and rewritten one is not; see `streams.rs`). The stream's name says how many bytes were
//! hashed, so a file that has grown since is still recognised. Positions are bytes of the unpacked text.

use super::streams::{LOOK_BACK, Label, Streams, check, deleted, fingerprint, unchanged};
use crate::formats::body::Encoding;
use crate::formats::{Decoder, Envelope, MAX_RECORD};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use trackside_core::builder::EventBuilder;
use trackside_core::dead_letter::DeadLetter;
use trackside_core::error::Failure;
use trackside_core::position::Resume;

/// Bytes that are read, and with them decoded, at once.
pub(super) const CHUNK: usize = 512 * 1024;
/// Bytes of a file's beginning that tell it from others.
const FINGERPRINT: u64 = 4096;
/// Lines before the place of a restart are counted up to here; beyond it dead letters name no line.
const COUNT_LINES_UP_TO: u64 = 1 << 30;

/// A file at some place.
pub(super) struct Tail {
    pub(super) path: PathBuf,
    pub(super) stream: String,
    /// Position of the next record.
    pub(super) position: u64,
    /// Where the next delivery begins: records that say nothing (empty lines) are covered by the one behind them.
    pub(super) delivered: u64,
    /// Number of the next record's line; 0 when it is not known.
    line: u64,
    decoder: Box<dyn Decoder>,
    /// Device and inode.
    pub(super) inode: (u64, u64),
    input: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are done with; the last [`LOOK_BACK`] of them stay.
    used: usize,
    /// Where partitions stand: no delivery may straddle one.
    stands: Vec<u64>,
    fingerprint: (u64, u64),
    /// The file itself where it may be rewritten while it is read.
    growing: Option<File>,
    /// The beginning and the number of a line that is too long, while its end is looked for.
    overlong: Option<(Vec<u8>, u64)>,
}

/// The next whole records.
pub(super) enum Next {
    /// So many bytes.
    Records(usize),
    /// A line that is longer than [`MAX_RECORD`]: its beginning, and its number (0 when that is not known). The position
    /// is behind its end.
    Overlong(Vec<u8>, u64),
    /// Nothing whole is there.
    Nothing,
}

/// What a path leads to, seen from a file that was found there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The file, perhaps longer.
    Same,
    /// The file, truncated and begun anew.
    Rewritten,
    /// Another file, or none.
    Other,
}

impl Tail {
    /// Opens a file where the log stands: by its label, or without one to be followed as it grows. None: it has no whole
    /// header yet.
    pub(super) fn open(
        path: &Path,
        label: Option<&str>,
        streams: &mut Streams,
        resume: &Resume,
        decoder: Box<dyn Decoder>,
    ) -> Result<Option<Self>, Failure> {
        let failed = |error: std::io::Error| unreadable(path, &error);
        let mut file = File::open(path).map_err(failed)?;
        let inode = inode(&file.metadata().map_err(failed)?);
        let more = label.is_none();
        let label = label.map_or(Label::Inode(inode.1), |path| Label::Path(path.to_owned()));
        let mut head = Vec::new();
        file.by_ref().take(FINGERPRINT).read_to_end(&mut head).map_err(failed)?;
        if more && head.is_empty() {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let growing = more.then(|| file.try_clone()).transpose().map_err(failed)?;
        let input = encoding(path).reader(file).map_err(failed)?;
        let mut tail = Self {
            path: path.to_owned(),
            position: 0,
            delivered: 0,
            line: 1,
            inode,
            input,
            buffer: Vec::new(),
            used: 0,
            stands: Vec::new(),
            fingerprint: fingerprint(&head),
            growing,
            overlong: None,
            decoder,
            stream: String::new(),
        };
        if tail.decoder.wants_header() {
            let Some(header) = tail.header(more)? else { return Ok(None) };
            let wrong =
                |what| Failure::stop(format!("{}: {what}; correct the header row or `[schema]`", path.display()));
            tail.decoder.header(&header).map_err(wrong)?;
            if more && header.len() >= head.len() {
                // A header alone does not tell two files apart.
                return Ok(None);
            }
        } else {
            tail.fill(CHUNK)?;
            let mark = usize::from(tail.bytes().starts_with(b"\xef\xbb\xbf")) * 3;
            tail.advance(mark);
        }
        // Only now: a name that is given to a file without an event would be used up.
        let name = streams.name(resume, &label, &head, tail.growing.as_ref());
        (tail.stream, tail.fingerprint) = (name.to_string(), name.fingerprint);
        tail.stands = resume.stands.get(&tail.stream).cloned().unwrap_or_default();
        let start = resume.start(&tail.stream);
        tail.skip_to(start)?;
        tail.delivered = start;
        let checks = resume.checks.get(&tail.stream).into_iter().flatten();
        if checks.into_iter().any(|(at, hash)| *at == start && *hash != tail.check()) {
            return Err(tail.is_another());
        }
        Ok(Some(tail))
    }

    /// The hash of what lies before the position.
    pub(super) fn check(&self) -> u32 {
        check(&self.buffer[..self.used])
    }

    /// The next position at which a partition stands, if any: no delivery may cross it.
    pub(super) fn limit(&self) -> Option<u64> {
        self.stands.iter().copied().find(|stand| *stand > self.position)
    }

    /// Whether it has no name any more, so that it will not come back.
    pub(super) fn is_deleted(&self) -> bool {
        self.growing.as_ref().is_some_and(deleted)
    }

    /// Bytes that were read and not used yet.
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    /// Is done with the next bytes.
    fn advance(&mut self, bytes: usize) {
        if self.line > 0 {
            self.line += memchr::memchr_iter(b'\n', &self.bytes()[..bytes]).count() as u64;
        }
        self.used += bytes;
        self.position += bytes as u64;
    }

    /// Decodes the next bytes, which [`Tail::next`] or [`Tail::first_record`] measured, and is done with them.
    pub(super) fn decode(&mut self, length: usize, arrival: i64, out: &mut EventBuilder, dead: &mut Vec<DeadLetter>) {
        let envelope = Envelope { first_line: self.line, ..Envelope::at(arrival) };
        self.decoder.decode(&self.buffer[self.used..self.used + length], &envelope, out, dead);
        self.advance(length);
    }

    /// Length of the first of the records in the next bytes.
    pub(super) fn first_record(&self, length: usize) -> usize {
        self.decoder.record_end(&self.bytes()[..length], true).unwrap_or(length)
    }

    /// The next records: at most `most`, none beyond `limit`. `last`: the file grows no more, so its end ends a record.
    pub(super) fn next(&mut self, most: usize, limit: Option<u64>, last: bool) -> Result<Next, Failure> {
        let mut ended = self.fill(CHUNK)?;
        if self.overlong.is_some() {
            return self.find_end(last);
        }
        let mut length = 0;
        let mut count = 0;
        loop {
            let bytes = &self.bytes()[length..];
            match self.decoder.record_end(bytes, last && ended) {
                Some(end) => {
                    (length, count) = (length + end, count + 1);
                    let full = limit.is_some_and(|limit| self.position + length as u64 >= limit);
                    if full || count == most {
                        return Ok(Next::Records(length));
                    }
                }
                None if count > 0 => return Ok(Next::Records(length)),
                None if ended => return Ok(Next::Nothing),
                None if bytes.len() >= MAX_RECORD => {
                    self.overlong = Some((bytes[..MAX_RECORD].to_vec(), self.line));
                    return self.find_end(last);
                }
                None => ended = self.fill(MAX_RECORD)?,
            }
        }
    }

    /// What the path leads to now.
    pub(super) fn look(&self, path: &Path) -> Found {
        let Ok(file) = File::open(path) else { return Found::Other };
        let metadata = file.metadata().ok().filter(|metadata| inode(metadata) == self.inode);
        let Some(metadata) = metadata else { return Found::Other };
        let read = self.position + self.bytes().len() as u64;
        let same = metadata.len() >= read && unchanged(&file, self.fingerprint, read, &self.buffer);
        if same { Found::Same } else { Found::Rewritten }
    }

    /// Reads no further: what comes now belongs to a new beginning.
    pub(super) fn cut_off(&mut self) {
        self.input = Box::new(std::io::empty());
    }

    /// The header row; none when it is not whole yet.
    fn header(&mut self, more: bool) -> Result<Option<Vec<u8>>, Failure> {
        let ended = self.fill(MAX_RECORD)?;
        let Some(end) = self.decoder.record_end(self.bytes(), ended && !more) else {
            return if ended { Ok(None) } else { Err(Failure::stop(self.names("has a header row without an end"))) };
        };
        let header = self.bytes()[..end].to_vec();
        self.advance(end);
        Ok(Some(header))
    }

    fn names(&self, what: &str) -> String {
        format!("{} {what}; give `format` and `columns`, or another file", self.path.display())
    }

    /// Reads on to a place where a run before stood, counting lines.
    fn skip_to(&mut self, position: u64) -> Result<(), Failure> {
        if position > COUNT_LINES_UP_TO {
            self.line = 0;
        }
        while self.position < position {
            let left = usize::try_from(position - self.position).unwrap_or(usize::MAX);
            let step = left.min(self.bytes().len());
            self.advance(step);
            if self.position < position && self.fill(CHUNK)? && self.bytes().is_empty() {
                // A file that is followed was cut between two looks: the next one finds a new beginning.
                let failure = if self.growing.is_some() { Failure::retry } else { Failure::stop };
                return Err(failure(format!(
                    "{} is shorter than at the last run ({} bytes of {position}); put it back, or give it another name",
                    self.path.display(),
                    self.position,
                )));
            }
        }
        Ok(())
    }

    fn is_another(&self) -> Failure {
        let failure = if self.growing.is_some() { Failure::retry } else { Failure::stop };
        failure(format!(
            "{} was changed before byte {} since the last run; put it back, or give it another name",
            self.path.display(),
            self.position,
        ))
    }

    /// Looks for the end of a line that is too long; its bytes are not kept.
    fn find_end(&mut self, last: bool) -> Result<Next, Failure> {
        loop {
            let newline = memchr::memchr(b'\n', self.bytes());
            self.advance(newline.map_or(self.bytes().len(), |at| at + 1));
            let ended = newline.is_none() && self.fill(CHUNK)? && self.bytes().is_empty();
            if newline.is_some() || (ended && last) {
                let (beginning, line) = self.overlong.take().unwrap_or_default();
                return Ok(Next::Overlong(beginning, line));
            }
            if ended {
                return Ok(Next::Nothing);
            }
        }
    }

    /// Reads until so many bytes wait; true when behind them there are no more.
    fn fill(&mut self, bytes: usize) -> Result<bool, Failure> {
        if self.bytes().len() >= bytes {
            return Ok(false);
        }
        let done = self.used.saturating_sub(LOOK_BACK);
        self.buffer.drain(..done);
        self.used -= done;
        let missing = (bytes - self.bytes().len()) as u64;
        let (had, at) = (self.buffer.len(), self.position + self.bytes().len() as u64);
        let read = self.input.by_ref().take(missing).read_to_end(&mut self.buffer);
        let read = read.map_err(|error| unreadable(&self.path, &error))?;
        // Looked at after reading: if all is the old one now, it was when these bytes were read.
        let unchanged = |file: &File| read == 0 || unchanged(file, self.fingerprint, at, &self.buffer[..had]);
        if !self.growing.as_ref().is_none_or(unchanged) {
            self.buffer.truncate(had);
            self.cut_off();
            return Ok(true);
        }
        Ok((read as u64) < missing)
    }
}

/// What packs the file, by its name.
pub(super) fn encoding(path: &Path) -> Encoding {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => Encoding::Gzip,
        Some("zst" | "zstd") => Encoding::Zstd,
        _ => Encoding::Identity,
    }
}

/// Says what to do about a file that cannot be read.
pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind::{InvalidData, InvalidInput, IsADirectory, NotFound, PermissionDenied, UnexpectedEof};
    let path = path.display();
    match error.kind() {
        NotFound => Failure::stop(format!("there is no file `{path}`; correct `path`, or put it back")),
        PermissionDenied => Failure::stop(format!("may not read `{path}`; give this user permission to read it")),
        IsADirectory => Failure::stop(format!("`{path}` is a folder; give a pattern such as `{path}/*.csv`")),
        InvalidData | InvalidInput | UnexpectedEof => {
            Failure::stop(format!("`{path}` is damaged: {error}; what came before is stored"))
        }
        _ => Failure::retry(format!("cannot read `{path}`: {error}")),
    }
}

#[cfg(unix)]
pub(super) fn inode(metadata: &std::fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

/// Where files have no inode, their time of creation stands for it.
#[cfg(not(unix))]
pub(super) fn inode(metadata: &std::fs::Metadata) -> (u64, u64) {
    let created = metadata.created().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    (0, created.map_or(0, |at| at.as_nanos() as u64))
}

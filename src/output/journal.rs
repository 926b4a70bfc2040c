//! Entries of the host's journal, by journald's native protocol (systemd's "Native Journal Protocol"): one datagram for
//! an entry, a line or a counted block for a field.

use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

/// A value is cut there, so that an entry always fits into a datagram; a piece of a line of an app is at most as long.
const VALUE_BYTES_MAX: usize = super::prefix::LINE_BYTES_MAX;

/// syslog's levels, as the journal counts them.
pub mod priority {
    /// Something failed.
    pub const ERROR: u8 = 3;
    /// Something is not as it should be.
    pub const WARNING: u8 = 4;
    /// Normal, and worth to be known.
    pub const NOTICE: u8 = 5;
    /// Normal.
    pub const INFO: u8 = 6;
}

/// One entry, as the datagram that it becomes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry(Vec<u8>);

impl Entry {
    /// An entry of this importance and text, by this program.
    #[must_use]
    pub fn new(priority: u8, identifier: &str, message: &[u8]) -> Self {
        Self(Vec::with_capacity(512))
            .with("MESSAGE", message)
            .with("PRIORITY", priority.to_string().as_bytes())
            .with("SYSLOG_IDENTIFIER", identifier.as_bytes())
    }

    /// The same with one more field. Names are upper-case letters, digits and `_`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let value = cut(value.as_ref());
        self.0.extend_from_slice(name.as_bytes());
        if value.contains(&b'\n') {
            self.0.push(b'\n');
            self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
        self
    }

    /// The datagram.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Not in the middle of a character, where it is text.
fn cut(value: &[u8]) -> &[u8] {
    let Some(head) = value.get(..VALUE_BYTES_MAX).filter(|_| value.len() > VALUE_BYTES_MAX) else {
        return value;
    };
    match std::str::from_utf8(head) {
        Err(error) if error.error_len().is_none() => &head[..error.valid_up_to()],
        _ => head,
    }
}

/// A socket to the journal of this directory, which never blocks; `None`: nobody listens.
#[must_use]
pub fn connect(directory: &str) -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.connect(format!("{directory}/socket")).ok()?;
    Some(socket)
}

/// Whether this descriptor is the stream to the journal that `JOURNAL_STREAM` names by device and inode: systemd.exec(5)
/// wants them compared, as the variable outlives a redirection.
#[must_use]
pub fn is_stream(variable: &str, fd: impl AsFd) -> bool {
    let Some((device, inode)) = variable.split_once(':') else { return false };
    let Ok(facts) = nix::sys::stat::fstat(fd) else { return false };
    device.parse() == Ok(facts.st_dev) && inode.parse() == Ok(facts.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_lines_unless_they_hold_some() {
        let entry = Entry::default().with("A", "b=c").with("D", "e\nf");
        assert_eq!(entry.bytes(), b"A=b=c\nD\n\x03\0\0\0\0\0\0\0e\nf\n");
        let long = Entry::default().with("A", "ä".repeat(VALUE_BYTES_MAX));
        assert_eq!(long.bytes().len(), "A=\n".len() + VALUE_BYTES_MAX);
        let odd = Entry::default().with("A", format!("x{}", "ä".repeat(VALUE_BYTES_MAX)));
        assert_eq!(odd.bytes().len(), "A=\n".len() + VALUE_BYTES_MAX - 1);
    }

    #[test]
    fn stream_is_known_by_device_and_inode() {
        let file = tempfile::tempfile().unwrap();
        let facts = nix::sys::stat::fstat(&file).unwrap();
        let right = format!("{}:{}", facts.st_dev, facts.st_ino);
        assert!(is_stream(&right, &file));
        for wrong in ["", "1", "x:y", &format!("{}:{}", facts.st_dev, facts.st_ino + 1)] {
            assert!(!is_stream(wrong, &file), "{wrong}");
        }
    }
}

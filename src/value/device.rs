//! Devices as a manifest names them: `/dev/fuse`, `/dev/ttyUSB0:rw`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Refusal, place, quoted};

/// What is in every app's `/dev`, with its number. Its nodes are made inside.
pub const EVERYBODYS: [(&str, u32, u32); 7] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
    ("/dev/ptmx", 5, 2),
];

/// What may be done with a device, in the kernel's bits (`BPF_DEVCG_ACC_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access(pub u8);

impl Access {
    /// Making a node of it.
    pub const MAKE: Self = Self(1);
    /// Opening it to read.
    pub const READ: Self = Self(2);
    /// Opening it to write.
    pub const WRITE: Self = Self(4);
    /// All of these.
    pub const ALL: Self = Self(7);

    /// Either's.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What both have.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether the other one has all of it.
    #[must_use]
    pub fn is_within(self, other: Self) -> bool {
        self.and(other) == self
    }
}

impl fmt::Display for Access {
    /// As it is written: `rw`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = [(Self::READ, "r"), (Self::WRITE, "w"), (Self::MAKE, "m")];
        letters.iter().filter(|(one, _)| self.0 & one.0 != 0).try_for_each(|(_, letter)| f.write_str(letter))
    }
}

/// `path[:access]`, a path below `/dev` and some of the letters r, w and m; without them r and w.
///
/// # Errors
/// When it is none.
pub fn parse(text: &str) -> Result<(&str, Access), Refusal> {
    let (path, letters) = text.split_once(':').unwrap_or((text, "rw"));
    place::absolute(path)?;
    let below = path.strip_prefix("/dev/").unwrap_or_default();
    if below.is_empty() || below.split('/').any(|part| part.is_empty() || part == ".") {
        return Err(Refusal::form(format!("{} is not a path below /dev", quoted(path)))
            .help("the app sees its devices in /dev, where the host has them: \"/dev/fuse:rw\""));
    }
    let one = |letter: u8| match letter {
        b'r' => Some(Access::READ),
        b'w' => Some(Access::WRITE),
        b'm' => Some(Access::MAKE),
        _ => None,
    };
    let mut access = Access(0);
    for letter in letters.bytes() {
        match one(letter).filter(|one| access.0 & one.0 == 0) {
            Some(one) => access = access.with(one),
            None => {
                access = Access(0);
                break;
            }
        }
    }
    if access.0 == 0 {
        return Err(Refusal::form(format!("{} is not an access to a device", quoted(letters)))
            .help(format!("write some of r, w and m: \"{path}:rw\"")));
    }
    Ok((path, access))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_tells_path_and_access() {
        for (text, path, access) in [
            ("/dev/fuse", "/dev/fuse", "rw"),
            ("/dev/fuse:wr", "/dev/fuse", "rw"),
            ("/dev/dri/card0:m", "/dev/dri/card0", "m"),
            ("/dev/x:mrw", "/dev/x", "rwm"),
        ] {
            let (found, bits) = parse(text).unwrap();
            assert_eq!((found, bits.to_string().as_str()), (path, access));
        }
        for text in [
            "/dev/x:",
            "/dev/x:rr",
            "/dev/x:rx",
            "/dev/x:r:w",
            "/dev",
            "/dev/",
            "/srv/x",
            "/dev//x",
            "/dev/./x",
            "kvm",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}

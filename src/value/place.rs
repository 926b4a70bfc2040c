//! Paths as a manifest may name them, and names of commands and variables. Nothing here looks at a file.

use std::path::{Component, Path};

use super::{Refusal, quoted};

/// An absolute path without `..`.
///
/// # Errors
/// When the path is relative, holds `..` or a NUL.
pub fn absolute(text: &str) -> Result<&str, Refusal> {
    no_nul(text)?;
    if !text.starts_with('/') {
        return Err(Refusal::form(format!("\"{text}\" is not an absolute path")).help("begin with `/`"));
    }
    if Path::new(text).components().any(|part| part == Component::ParentDir) {
        return Err(Refusal::form(format!("\"{text}\" holds `..`")).help("write the path that it leads to"));
    }
    Ok(text)
}

/// A working directory: an absolute path that is not below `/proc`. The links below `/proc/PID` lead out of
/// any root (CVE-2024-21626), and no app works in there.
///
/// # Errors
/// When it is no such path.
pub fn workdir(text: &str) -> Result<&str, Refusal> {
    absolute(text)?;
    let first = Path::new(text).components().find(|part| *part != Component::RootDir);
    if first == Some(Component::Normal("proc".as_ref())) {
        return Err(Refusal::range(format!("workdir \"{text}\" is below /proc"))
            .help("links in there lead out of the app's root; choose another directory"));
    }
    Ok(text)
}

/// The first word of a command: an absolute path, or a name to be found in the app's PATH.
///
/// # Errors
/// When it is empty, a relative path, or holds a NUL.
pub fn command(text: &str) -> Result<&str, Refusal> {
    if text.is_empty() {
        return Err(Refusal::form("the command is an empty string".to_owned()));
    }
    if text.contains('/') && !text.starts_with('/') {
        return Err(Refusal::form(format!("the command \"{text}\" is a relative path"))
            .help("write an absolute path, or a name without `/` that is found in the app's PATH"));
    }
    no_nul(text)
}

/// A name of a variable: `[A-Za-z_][A-Za-z0-9_]*`.
#[must_use]
pub fn is_variable(text: &str) -> bool {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts_well && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A name of a systemd credential: that of a file, of printable ASCII without `:` (systemd.exec(5),
/// `LoadCredential=`).
#[must_use]
pub fn is_credential(text: &str) -> bool {
    let well = |b: u8| (b.is_ascii_graphic() || b == b' ') && b != b'/' && b != b':';
    (1..=255).contains(&text.len()) && text.bytes().all(well) && text != "." && text != ".."
}

/// Any text that execve(2) can pass on.
///
/// # Errors
/// When it holds a NUL, which would end it there.
pub fn no_nul(text: &str) -> Result<&str, Refusal> {
    if text.contains('\0') {
        return Err(Refusal::form(format!("{} holds a NUL character", quoted(text)))
            .help("the kernel ends every argument, variable and path at the first NUL"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_takes_absolute_paths_without_dots() {
        for text in ["/", "/srv/images/api", "//x", "/./x", "/a..b", "/..a", "/x/"] {
            assert_eq!(absolute(text), Ok(text));
        }
        for text in ["", "x", "./x", "../x", "/..", "/x/../y", "/x/..", "~", "/x\0", "\0"] {
            assert!(absolute(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn workdir_is_never_below_proc() {
        for text in ["/", "/srv", "/process", "/srv/proc", "/home/proc/self"] {
            assert_eq!(workdir(text), Ok(text));
        }
        for text in ["/proc", "/proc/", "//proc/self/fd/7", "/./proc/1/cwd", "/proc/self/fd/0", "/x/../proc"]
        {
            assert!(workdir(text).is_err(), "{text}");
        }
    }

    #[test]
    fn command_is_a_path_or_a_name() {
        for text in ["/bin/sh", "sh", "a b", "-x"] {
            assert_eq!(command(text), Ok(text));
        }
        for text in ["", "./sh", "bin/sh", "../sh", "sh\0"] {
            assert!(command(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn variables_are_identifiers() {
        for text in ["A", "_", "PATH", "lower_1"] {
            assert!(is_variable(text), "{text}");
        }
        for text in ["", "1A", "A-B", "A B", "A=B", "Ä", "A.B"] {
            assert!(!is_variable(text), "{text}");
        }
    }
}

//! A record that nobody can change any more.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;

use anyhow::Context;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// A memfd that holds `bytes`, positioned at its start, sealed against every change (memfd_create(2)).
///
/// # Errors
/// Out of memory or descriptors.
pub fn sealed(name: &std::ffi::CStr, bytes: &[u8]) -> anyhow::Result<OwnedFd> {
    let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
        .context("cannot create a memfd")?;
    let mut file = File::from(fd);
    file.write_all(bytes).context("cannot fill a memfd")?;
    file.rewind().context("cannot rewind a memfd")?;
    let seals =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).context("cannot seal a memfd")?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    #[test]
    fn sealed_memfd_is_readable_and_not_writable() {
        let mut file = std::fs::File::from(super::sealed(c"test", b"boot").unwrap());
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "boot");
        assert_eq!(file.write(b"x").unwrap_err().raw_os_error(), Some(libc::EPERM));
    }
}

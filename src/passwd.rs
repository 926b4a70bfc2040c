//! The users and groups of an app's root, from the texts of its own `/etc/passwd` and `/etc/group`.
//!
//! Pure, and never the host's name service: what counts is what the app's own files say (passwd(5), group(5)).
//! Numbers are strict; a line that is not well-formed names nobody, as in every C library. The first line that
//! matches wins.

/// No user and no group has this number: it means "no change" to the kernel (setresuid(2)).
const NO_ID: u32 = u32::MAX;

/// The accounts of one root directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accounts {
    users: Vec<User>,
    groups: Vec<Group>,
}

/// One line of passwd(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// The id of the user's own group.
    pub gid: u32,
    /// Home directory; may be empty.
    pub home: String,
    /// Login shell; may be empty.
    pub shell: String,
}

/// One line of group(5); its members are of no interest, the manifest says the groups of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Name.
    pub name: String,
    /// Group id.
    pub gid: u32,
}

impl Accounts {
    /// Parses both texts; a file that is not there is an empty text.
    #[must_use]
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        Self {
            users: lines(passwd).filter_map(user).collect(),
            groups: lines(group).filter_map(self::group).collect(),
        }
    }

    /// The first user of this name.
    #[must_use]
    pub fn user_by_name(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    /// The first user with this id.
    #[must_use]
    pub fn user_by_id(&self, uid: u32) -> Option<&User> {
        self.users.iter().find(|user| user.uid == uid)
    }

    /// The first group of this name.
    #[must_use]
    pub fn group_by_name(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// The first group with this id.
    #[must_use]
    pub fn group_by_id(&self, gid: u32) -> Option<&Group> {
        self.groups.iter().find(|group| group.gid == gid)
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &str> {
    text.split(|b| *b == b'\n').filter_map(|line| std::str::from_utf8(line).ok())
}

fn user(line: &str) -> Option<User> {
    let [name, _password, uid, gid, _gecos, home, shell] = fields(line)?;
    let (uid, gid) = (id(uid)?, id(gid)?);
    Some(User { name: own_name(name)?, uid, gid, home: home.to_owned(), shell: shell.to_owned() })
}

fn group(line: &str) -> Option<Group> {
    let [name, _password, gid, _members] = fields(line)?;
    Some(Group { name: own_name(name)?, gid: id(gid)? })
}

fn fields<const N: usize>(line: &str) -> Option<[&str; N]> {
    let mut parts = line.split(':');
    let mut fields = [""; N];
    for field in &mut fields {
        *field = parts.next()?;
    }
    parts.next().is_none().then_some(fields)
}

/// `+` and `-` begin the lines that pull in a network service (nsswitch.conf(5), compat), `#` a comment.
fn own_name(name: &str) -> Option<String> {
    (!name.is_empty() && !name.starts_with(['+', '-', '#'])).then(|| name.to_owned())
}

fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|id| *id != NO_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"\
root:x:0:0:root:/root:/bin/bash
# a comment:x:1:1:::
daemon:*:1:1:daemon:/usr/sbin:/usr/sbin/nologin
toor:x:0:0::/:
+nis::::::
short:x:5
long:x:5:5:a:/b:/c:/d
minus:x:-1:5::/:/bin/sh
space:x: 7:5::/:/bin/sh
plus:x:+7:5::/:/bin/sh
huge:x:4294967295:5::/:/bin/sh
last:x:4294967294:5::/:/bin/sh
bad\xff:x:9:9::/:/bin/sh
daemon:x:77:77::/:";
    const GROUP: &[u8] = b"root:x:0:\nwheel:x:10:root,alice\n:x:11:\nnone:x::\nwheel:x:12:\n";

    #[test]
    fn users_are_found_by_name_and_id() {
        let accounts = Accounts::parse(PASSWD, GROUP);
        let daemon = accounts.user_by_name("daemon").unwrap();
        assert_eq!((daemon.uid, daemon.gid, daemon.home.as_str()), (1, 1, "/usr/sbin"));
        assert_eq!(daemon.shell, "/usr/sbin/nologin");
        assert_eq!(accounts.user_by_id(0).unwrap().name, "root");
        assert_eq!(accounts.user_by_name("toor").unwrap().shell, "");
        assert_eq!(accounts.user_by_id(4_294_967_294).unwrap().name, "last");
    }

    #[test]
    fn malformed_lines_name_nobody() {
        let accounts = Accounts::parse(PASSWD, GROUP);
        let names =
            ["nis", "+nis", "short", "long", "minus", "space", "plus", "huge", "bad", "", "# a comment"];
        for name in names {
            assert_eq!(accounts.user_by_name(name), None, "{name}");
        }
        assert_eq!(accounts.user_by_id(u32::MAX), None);
        assert_eq!(accounts.group_by_name("none"), None);
        assert_eq!(accounts.group_by_name(""), None);
    }

    #[test]
    fn groups_are_found_by_name_and_id() {
        let accounts = Accounts::parse(PASSWD, GROUP);
        assert_eq!(accounts.group_by_name("wheel").unwrap().gid, 10);
        assert_eq!(accounts.group_by_id(0).unwrap().name, "root");
        assert_eq!(accounts.group_by_id(11), None);
    }

    #[test]
    fn missing_files_have_no_accounts() {
        assert_eq!(Accounts::parse(b"", b""), Accounts::default());
        assert_eq!(Accounts::default().user_by_id(0), None);
    }
}

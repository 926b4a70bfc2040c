//! D-Bus messages as bytes: the header of the specification around bodies that zbus's wire format writes.
//!
//! Pure. Only what a client of systemd needs: calls go out; returns, errors and signals come in, little-endian and
//! without descriptors. A message is bounded, and a body is read only as the signature that it names.

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::wire::serialized::{Context, Data};
use zbus::wire::{LE, to_bytes};
use zbus::{DynamicType, ObjectPath, OwnedVariant, Type, Variant};

/// Nothing that systemd answers is longer; the specification allows 128 MiB.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// What comes before the header's fields, with their length.
pub(super) const FIXED_BYTES: usize = 16;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Return,
    Error,
    Signal,
    /// A call to us, or what a later version of the protocol has.
    Other,
}

/// A message that has arrived.
#[derive(Debug, Clone)]
pub(super) struct Incoming {
    pub(super) kind: Kind,
    pub(super) path: String,
    pub(super) interface: String,
    pub(super) member: String,
    pub(super) error: String,
    /// The serial of the call that it answers.
    pub(super) answers: u32,
    signature: String,
    body: Vec<u8>,
}

/// Where a call goes and what it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) method: &'a str,
}

/// Byte order, kind, flags, version, body's length, serial, fields.
type Header<'a> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Variant<'a>)>);
type ReadHeader = (u8, u8, u8, u8, u32, u32, Vec<(u8, OwnedVariant)>);

/// The bytes of a call.
pub(super) fn call<B: Serialize + DynamicType>(
    serial: u32,
    target: Target<'_>,
    body: &B,
) -> anyhow::Result<Vec<u8>> {
    const METHOD_CALL: u8 = 1;
    const VERSION: u8 = 1;
    let encoded = to_bytes(Context::new(LE, 0), body).context("cannot encode a D-Bus body")?;
    let body_bytes: &[u8] = encoded.bytes();
    let fields: Vec<(u8, Variant<'_>)> = vec![
        (1, ObjectPath::try_from(target.path).context("cannot encode an object's path")?.into()),
        (2, target.interface.into()),
        (3, target.method.into()),
        (6, target.destination.into()),
    ];
    let length = u32::try_from(body_bytes.len()).context("cannot send a body of this length")?;
    let header: Header<'_> = (b'l', METHOD_CALL, 0, VERSION, length, serial, fields);
    let mut bytes =
        to_bytes(Context::new(LE, 0), &header).context("cannot encode a D-Bus header")?.bytes().to_vec();
    add_signature(&mut bytes, &body.signature().to_string_no_parens())?;
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend_from_slice(body_bytes);
    ensure!(bytes.len() <= MESSAGE_BYTES_MAX, "cannot send a message of {} bytes", bytes.len());
    Ok(bytes)
}

/// The last field of a header. By hand: the arguments of a call are no structure, and as a value a signature of several
/// types is always written as one, in parentheses.
fn add_signature(header: &mut Vec<u8>, signature: &str) -> anyhow::Result<()> {
    if signature.is_empty() {
        return Ok(());
    }
    let length = u8::try_from(signature.len()).context("cannot send a signature of this length")?;
    header.resize(header.len().next_multiple_of(8), 0);
    header.extend_from_slice(&[8, 1, b'g', 0, length]);
    header.extend_from_slice(signature.as_bytes());
    header.push(0);
    let fields =
        u32::try_from(header.len().saturating_sub(FIXED_BYTES)).context("cannot send such a header")?;
    if let Some(word) = header.get_mut(FIXED_BYTES - 4..FIXED_BYTES) {
        word.copy_from_slice(&fields.to_le_bytes());
    }
    Ok(())
}

/// How long the message is that begins with these [`FIXED_BYTES`] bytes.
pub(super) fn length(fixed: &[u8]) -> anyhow::Result<usize> {
    let word = |at: usize| -> Option<usize> {
        let bytes = fixed.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    ensure!(fixed.first() == Some(&b'l'), "cannot read a message that is not little-endian");
    let (Some(body), Some(fields)) = (word(4), word(12)) else {
        bail!("cannot read a message that is cut off")
    };
    let length = FIXED_BYTES.saturating_add(fields).next_multiple_of(8).saturating_add(body);
    ensure!(length <= MESSAGE_BYTES_MAX, "cannot read a message of {length} bytes");
    Ok(length)
}

/// A whole message, as long as [`length`] says.
pub(super) fn parse(bytes: &[u8]) -> anyhow::Result<Incoming> {
    let data = Data::new(bytes, Context::new(LE, 0));
    let (header, header_length): (ReadHeader, usize) =
        data.deserialize().context("cannot read the header of a D-Bus message")?;
    let (_, kind, _, _, _, _, fields) = header;
    let kind = match kind {
        2 => Kind::Return,
        3 => Kind::Error,
        4 => Kind::Signal,
        _ => Kind::Other,
    };
    let body = bytes.get(header_length.next_multiple_of(8)..).unwrap_or_default().to_vec();
    let mut message = Incoming {
        kind,
        path: String::new(),
        interface: String::new(),
        member: String::new(),
        error: String::new(),
        answers: 0,
        signature: String::new(),
        body,
    };
    for (code, value) in fields {
        match (code, &*value) {
            (1, Variant::ObjectPath(path)) => message.path = path.to_string(),
            (2, Variant::Str(text)) => message.interface = text.to_string(),
            (3, Variant::Str(text)) => message.member = text.to_string(),
            (4, Variant::Str(text)) => message.error = text.to_string(),
            (5, Variant::U32(serial)) => message.answers = *serial,
            (8, Variant::Signature(signature)) => message.signature = signature.to_string_no_parens(),
            _ => {}
        }
    }
    Ok(message)
}

impl Incoming {
    /// The body, if it has this type.
    pub(super) fn body<T: DeserializeOwned + Type>(&self) -> anyhow::Result<T> {
        let expected = T::SIGNATURE.to_string_no_parens();
        ensure!(
            self.signature == expected,
            "cannot read a D-Bus body of signature `{}`, expected `{expected}`",
            self.signature
        );
        let data = Data::new(self.body.as_slice(), Context::new(LE, 0));
        let (value, _) = data.deserialize().context("cannot read a D-Bus body")?;
        Ok(value)
    }

    /// The text of an error, which is its first argument.
    pub(super) fn text(&self) -> String {
        self.body::<String>().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `GetUnit("init.scope")`, by the specification: each field is aligned to eight bytes, and so is the body.
    const GET_UNIT: &[u8] = b"l\x01\x00\x01\x0f\x00\x00\x00\x05\x00\x00\x00\x97\x00\x00\x00\
\x01\x01o\x00\x19\x00\x00\x00/org/freedesktop/systemd1\x00\x00\x00\x00\x00\x00\x00\
\x02\x01s\x00\x20\x00\x00\x00org.freedesktop.systemd1.Manager\x00\x00\x00\x00\x00\x00\x00\x00\
\x03\x01s\x00\x07\x00\x00\x00GetUnit\x00\
\x06\x01s\x00\x18\x00\x00\x00org.freedesktop.systemd1\x00\x00\x00\x00\x00\x00\x00\x00\
\x08\x01g\x00\x01s\x00\x00\
\x0a\x00\x00\x00init.scope\x00";

    fn target(method: &'static str) -> Target<'static> {
        let destination = "org.freedesktop.systemd1";
        let path = "/org/freedesktop/systemd1";
        Target { destination, path, interface: "org.freedesktop.systemd1.Manager", method }
    }

    #[test]
    fn call_is_written_as_the_specification_says() {
        assert_eq!(call(5, target("GetUnit"), &"init.scope").unwrap(), GET_UNIT);
        assert_eq!(length(GET_UNIT).unwrap(), GET_UNIT.len());
        // systemd takes no parentheses around the arguments, zbus and dbus-daemon do.
        let two = call(6, target("Get"), &("a", "b")).unwrap();
        assert!(two.windows(8).any(|bytes| bytes == b"\x08\x01g\0\x02ss\0"), "{two:?}");
        assert_eq!(length(&two).unwrap(), two.len());
    }

    #[test]
    fn what_was_written_is_read_again() {
        let properties: Vec<(&str, Variant<'_>)> = vec![
            ("MemoryMax", 64_u64.into()),
            ("PIDs", vec![7_u32].into()),
            ("Delegate", true.into()),
            ("Slice", "a.slice".into()),
            ("AllowedCPUs", vec![3_u8].into()),
        ];
        let none: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
        let bytes = call(1, target("StartTransientUnit"), &("a.scope", "fail", properties, none)).unwrap();
        let message = parse(&bytes).unwrap();
        assert_eq!((message.kind, message.member.as_str()), (Kind::Other, "StartTransientUnit"));
        assert_eq!(message.signature, "ssa(sv)a(sa(sv))");
        type Body = (String, String, Vec<(String, OwnedVariant)>, Vec<(String, Vec<(String, OwnedVariant)>)>);
        let (unit, mode, given, _): Body = message.body().unwrap();
        assert_eq!((unit.as_str(), mode.as_str(), given.len()), ("a.scope", "fail", 5));
        assert_eq!(*given[0].1, Variant::U64(64));
        assert!(message.body::<String>().unwrap_err().to_string().contains("expected `s`"));
    }

    #[test]
    fn no_arguments_are_no_body() {
        let bytes = call(1, target("Subscribe"), &()).unwrap();
        let message = parse(&bytes).unwrap();
        assert_eq!((message.signature.as_str(), message.body.len()), ("", 0));
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        let with = |at: usize, value: u8| {
            let mut bytes = GET_UNIT.to_vec();
            bytes[at] = value;
            length(&bytes).unwrap_err().to_string()
        };
        assert!(with(0, b'B').contains("not little-endian"));
        assert!(with(7, 0xff).contains("of 42"), "{}", with(7, 0xff));
        assert!(with(15, 0x7f).contains("cannot read a message of"));
        assert!(length(&GET_UNIT[..8]).unwrap_err().to_string().contains("cut off"));
    }

    #[test]
    fn bytes_that_are_no_message_are_an_error_and_no_panic() {
        assert!(parse(&GET_UNIT[..FIXED_BYTES]).is_err());
        for cut in 0..GET_UNIT.len() {
            let _ = parse(&GET_UNIT[..cut]).map(|message| message.body::<String>());
        }
        for at in 0..GET_UNIT.len() {
            let mut bytes = GET_UNIT.to_vec();
            bytes[at] ^= 0x55;
            let _ = parse(&bytes).map(|message| message.body::<String>());
        }
    }
}

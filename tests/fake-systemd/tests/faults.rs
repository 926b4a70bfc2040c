//! That the fake does what it is told: each failure is seen by a client that is zbus's and not ours.
//!
//! After the call that is looked at comes a second one, and the fake answers one after the other: what has not come
//! by the second one's reply never comes, and no test has to wait for nothing.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::pin::Pin;

use podrun_fake_systemd::{Fake, Fault, NAME, PATH, PROPERTIES, Rule, Silent, object_path};
use zbus::export::futures_core::Stream as _;
use zbus::message::Type;
use zbus::{Connection, Message, MessageStream, Variant};

const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const SCOPE: &str = "podrun-1.scope";

/// A client and everything that has reached it.
struct Client {
    connection: Connection,
    stream: MessageStream,
}

impl Client {
    async fn new(fake: &Fake) -> Self {
        let address = fake.address();
        let connection = zbus::connection::Builder::address(address.as_str()).build().await.unwrap();
        let stream = MessageStream::from(&connection);
        let (bus, rule) = ("org.freedesktop.DBus", "type='signal',sender='org.freedesktop.systemd1'");
        connection
            .call_method(Some(bus), "/org/freedesktop/DBus", Some(bus), "AddMatch", &rule)
            .await
            .unwrap();
        Self { connection, stream }
    }

    async fn next(&mut self) -> Option<Message> {
        std::future::poll_fn(|cx| Pin::new(&mut self.stream).poll_next(cx)).await.and_then(Result::ok)
    }

    /// What comes for this call until the next one is answered, in order, in words.
    async fn exchange(&mut self, call: &Message) -> Vec<String> {
        self.connection.send(call).await.unwrap();
        let barrier = manager_call("Subscribe", &());
        self.connection.send(&barrier).await.unwrap();
        let mut seen = Vec::new();
        while let Some(message) = self.next().await {
            match message.header().reply_serial() {
                Some(serial) if serial == barrier.primary_header().serial_num() => return seen,
                Some(serial) if serial != call.primary_header().serial_num() => {}
                _ => seen.extend(words(&message)),
            }
        }
        seen.push("the end".to_owned());
        seen
    }
}

fn manager_call<B: serde::Serialize + zbus::DynamicType>(method: &str, body: &B) -> Message {
    Message::method_call(PATH, method).destination(NAME).interface(MANAGER).build(body).unwrap()
}

fn start(unit: &str, properties: &[(&str, Variant<'_>)]) -> Message {
    let none: [(&str, Vec<(&str, Variant<'_>)>); 0] = [];
    manager_call("StartTransientUnit", &(unit, "fail", properties, &none[..]))
}

/// One message for people; `None` for what is the bus's own.
fn words(message: &Message) -> Option<String> {
    let (header, body) = (message.header(), message.body());
    let member = header.member().map(|name| name.as_str());
    Some(match (message.message_type(), member) {
        (Type::Error, _) => format!("error {}", header.error_name().unwrap()),
        (Type::MethodReturn, _) => match body.deserialize::<zbus::ObjectPath<'_>>() {
            Ok(path) => format!("reply {path}"),
            Err(_) => "reply".to_owned(),
        },
        (_, Some("JobRemoved")) => {
            let (_, job, unit, result): (u32, zbus::ObjectPath<'_>, &str, &str) = body.deserialize().unwrap();
            format!("{job} {unit} {result}")
        }
        (_, Some(name @ ("UnitNew" | "UnitRemoved"))) => {
            let (unit, _): (&str, zbus::ObjectPath<'_>) = body.deserialize().unwrap();
            format!("{name} {unit}")
        }
        (_, Some("RequestStop")) => format!("RequestStop {}", header.path().unwrap()),
        _ => return None,
    })
}

const NEW: &str = "UnitNew podrun-1.scope";
const REPLY: &str = "reply /org/freedesktop/systemd1/job/2";

fn job(number: u32, rest: &str) -> String {
    format!("/org/freedesktop/systemd1/job/{number} {rest}")
}

fn with_fake<T>(rules: &[Rule], body: impl AsyncFnOnce(&Fake, &mut Client) -> T) -> T {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path(), rules);
    zbus::block_on(async {
        let mut client = Client::new(&fake).await;
        body(&fake, &mut client).await
    })
}

#[test]
fn start_answers_with_a_job_that_ends() {
    with_fake(&[], async |fake, client| {
        let seen = client.exchange(&start(SCOPE, &[("Delegate", true.into())])).await;
        assert_eq!(seen, [NEW.to_owned(), REPLY.to_owned(), job(2, "podrun-1.scope done")]);
        let calls = fake.calls();
        let call = calls.iter().find(|call| call.method == "StartTransientUnit").unwrap();
        assert_eq!((call.unit.as_str(), call.properties.len()), (SCOPE, 1));
        assert_eq!(fake.units()[0].active_state, "active");
    });
}

#[test]
fn each_fault_of_a_job_is_what_it_says() {
    let done = |number| job(number, "podrun-1.scope done");
    let ends = |result| vec![NEW.to_owned(), REPLY.into(), job(2, &format!("podrun-1.scope {result}"))];
    let table = [
        (Fault::NeverEnds, vec![NEW.to_owned(), REPLY.into()]),
        (Fault::SignalLost, vec![NEW.into(), REPLY.into()]),
        (Fault::OtherJobFirst, vec![NEW.into(), REPLY.into(), job(1, "machine.slice failed"), done(2)]),
        (Fault::ReplyAfterSignal, vec![NEW.into(), done(2), REPLY.into()]),
        (Fault::Ends("failed"), ends("failed")),
        (Fault::Ends("timeout"), ends("timeout")),
        (Fault::Ends("canceled"), ends("canceled")),
        (Fault::Ends("dependency"), ends("dependency")),
        (Fault::NoReply, vec![]),
        (Fault::BusDies, vec!["the end".to_owned()]),
        (
            Fault::Refuses("org.freedesktop.DBus.Error.AccessDenied", "no"),
            vec!["error org.freedesktop.DBus.Error.AccessDenied".to_owned()],
        ),
    ];
    for (fault, expected) in table {
        let seen = with_fake(&[Rule::start(".scope", fault.clone())], async |_, client| {
            client.exchange(&start(SCOPE, &[])).await
        });
        assert_eq!(seen, expected, "{fault:?}");
    }
}

#[test]
fn state_after_a_job_tells_a_lost_signal_from_a_job_that_hangs() {
    let table =
        [(Fault::NeverEnds, "activating"), (Fault::SignalLost, "active"), (Fault::Ends("x"), "failed")];
    for (fault, expected) in table {
        with_fake(&[Rule::start("", fault)], async |fake, client| {
            client.exchange(&start(SCOPE, &[])).await;
            assert_eq!(fake.units()[0].active_state, expected);
        });
    }
}

#[test]
fn property_is_refused_only_where_it_is_given() {
    for name in ["org.freedesktop.DBus.Error.PropertyReadOnly", "org.freedesktop.DBus.Error.InvalidArgs"] {
        let rule = Rule::start(".scope", Fault::RefusesProperty("OOMPolicy", name));
        with_fake(&[rule], async |fake, client| {
            let refused = client.exchange(&start(SCOPE, &[("OOMPolicy", "continue".into())])).await;
            assert_eq!(refused, [format!("error {name}")]);
            assert!(fake.units().is_empty(), "a refused unit is not there");
            assert_eq!(client.exchange(&start(SCOPE, &[])).await.len(), 3);
        });
    }
}

#[test]
fn unit_that_exists_is_refused_until_it_is_reset_or_stopped() {
    with_fake(&[], async |fake, client| {
        fake.add_unit(SCOPE, "failed");
        let exists = ["error org.freedesktop.systemd1.UnitExists"];
        assert_eq!(client.exchange(&start(SCOPE, &[])).await, exists);
        assert_eq!(client.exchange(&manager_call("ResetFailedUnit", &SCOPE)).await, ["reply"]);
        assert_eq!(client.exchange(&start(SCOPE, &[])).await.len(), 3);
        // A reset does not take a living unit away; a stop does.
        client.exchange(&manager_call("ResetFailedUnit", &SCOPE)).await;
        assert_eq!(client.exchange(&start(SCOPE, &[])).await, exists);
        let stopped = client.exchange(&manager_call("StopUnit", &(SCOPE, "replace"))).await;
        assert_eq!(stopped[1..], [job(4, "podrun-1.scope done"), format!("UnitRemoved {SCOPE}")]);
        assert!(fake.units().is_empty());
        let gone = client.exchange(&manager_call("StopUnit", &(SCOPE, "replace"))).await;
        assert_eq!(gone, ["error org.freedesktop.systemd1.NoSuchUnit"]);
    });
}

#[test]
fn properties_of_manager_and_units_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::with_properties(dir.path(), &[], &PROPERTIES[..3]);
    zbus::block_on(async {
        let client = Client::new(&fake).await;
        let ask = async |path: &str, method: &str, interface: &str, name: Option<&str>| {
            let properties = Some("org.freedesktop.DBus.Properties");
            let reply = match name {
                Some(name) => {
                    client
                        .connection
                        .call_method(Some(NAME), path, properties, method, &(interface, name))
                        .await
                }
                None => client.connection.call_method(Some(NAME), path, properties, method, &interface).await,
            };
            reply.unwrap().body()
        };
        let version = ask(PATH, "Get", MANAGER, Some("Version")).await;
        assert_eq!(version.deserialize::<Variant<'_>>().unwrap(), Variant::from("252.39-fake"));
        let scope = "org.freedesktop.systemd1.Scope";
        let all = ask(&object_path("init.scope"), "GetAll", scope, None).await;
        let all: std::collections::HashMap<String, Variant<'_>> = all.deserialize().unwrap();
        assert!(all.contains_key("AllowedCPUs") && !all.contains_key("OOMPolicy"), "{all:?}");
        assert_eq!(all["ActiveState"], Variant::from("active"));
    });
}

#[test]
fn request_to_stop_reaches_the_controller_alone() {
    with_fake(&[], async |fake, client| {
        let own = client.connection.unique_name().unwrap().to_string();
        client.exchange(&start(SCOPE, &[("Controller", own.into())])).await;
        std::thread::scope(|threads| threads.spawn(|| fake.request_stop(SCOPE)).join().unwrap());
        let seen = client.exchange(&manager_call("GetUnit", &SCOPE)).await;
        assert_eq!(seen[0], format!("RequestStop {}", object_path(SCOPE)));
    });
}

#[test]
fn silent_socket_takes_connections_and_says_nothing() {
    use std::io::{ErrorKind, Read as _, Write as _};
    let dir = tempfile::tempdir().unwrap();
    let silent = Silent::start(dir.path());
    let path = silent.address().trim_start_matches("unix:path=").to_owned();
    let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
    stream.write_all(b"\0AUTH EXTERNAL 30\r\n").unwrap();
    stream.set_nonblocking(true).unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(silent.finish(), 1);
}

#[test]
fn nothing_is_left_of_a_fake() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path(), &[]);
    let shown = dir.path().display().to_string();
    let daemons = || {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = all.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
        lines.filter(|line| line.contains("dbus-daemon") && line.contains(&shown)).count()
    };
    assert_eq!(daemons(), 1);
    drop(fake);
    assert_eq!(daemons(), 0);
}

//! [`Manager`]: what is answered to a call, as messages. [`serve`] is the loop around it and decides nothing.
//!
//! Messages are read and written one by one, without an object server: which of them comes first, and which not at
//! all, is what the fake is for.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use zbus::message::{Header, Type};
use zbus::{Connection, Message, MessageStream, OwnedVariant, Variant};

use crate::units::{Call, Unit, object_path};
use crate::{Fault, NAME, PATH, Rule};

const INTERFACE: &str = "org.freedesktop.systemd1.Manager";

type Properties = Vec<(String, OwnedVariant)>;

pub(crate) struct Manager {
    rules: Vec<Rule>,
    properties: Vec<&'static str>,
    bus_pid: u32,
    units: BTreeMap<String, Unit>,
    /// The unique name of who started a unit with `Controller=`.
    controllers: BTreeMap<String, String>,
    jobs: u32,
    pub(crate) calls: Vec<Call>,
}

/// Answers until the bus is gone.
pub(crate) async fn serve(address: &str, manager: &Arc<Mutex<Manager>>, ready: impl FnOnce(Connection)) {
    let builder = zbus::connection::Builder::address(address).name(NAME);
    let connection = builder.build().await.expect("a connection to the own bus");
    let mut stream = MessageStream::from(&connection);
    ready(connection.clone());
    while let Some(Ok(message)) = next(&mut stream).await {
        if message.message_type() != Type::MethodCall {
            continue;
        }
        let answers = manager.lock().expect("the fake did not panic").answer(&message);
        for answer in answers.expect("a message that podrun sends can be read, and its answer written") {
            // The bus may be gone by now, which the stream says.
            let _ = connection.send(&answer).await;
        }
    }
}

async fn next(stream: &mut MessageStream) -> Option<zbus::Result<Message>> {
    use zbus::export::futures_core::Stream as _;
    std::future::poll_fn(|context| std::pin::Pin::new(&mut *stream).poll_next(context)).await
}

impl Manager {
    pub(crate) fn new(rules: &[Rule], properties: &[&'static str], bus_pid: u32) -> Self {
        let mut manager = Self {
            rules: rules.to_vec(),
            properties: properties.to_vec(),
            bus_pid,
            units: BTreeMap::new(),
            controllers: BTreeMap::new(),
            jobs: 0,
            calls: Vec::new(),
        };
        manager.add("init.scope", "active");
        manager
    }

    pub(crate) fn add(&mut self, name: &str, active_state: &str) {
        self.units.insert(name.to_owned(), Unit::new(name, active_state));
    }

    pub(crate) fn units(&self) -> Vec<Unit> {
        self.units.values().filter(|unit| unit.name != "init.scope").cloned().collect()
    }

    pub(crate) fn controller(&self, scope: &str) -> Option<String> {
        self.controllers.get(scope).cloned()
    }

    fn answer(&mut self, message: &Message) -> zbus::Result<Vec<Message>> {
        let (header, body) = (message.header(), message.body());
        let method = header.member().map(ToString::to_string).unwrap_or_default();
        let unit = body.deserialize::<zbus::Structure<'_>>().ok().and_then(|body| first_text(&body));
        let unit = unit.or_else(|| body.deserialize::<String>().ok()).unwrap_or_default();
        let given = given(&method, message)?;
        let call = Call { method, unit, properties: given.iter().cloned().collect() };
        self.calls.push(call.clone());
        match self.fault(&call) {
            Some(Fault::Refuses(name, text)) => error(&header, name, text),
            Some(Fault::RefusesProperty(property, name)) => {
                error(&header, name, &format!("Cannot set property {property}, or unknown property."))
            }
            Some(Fault::NoReply) => Ok(Vec::new()),
            Some(Fault::BusDies) => {
                let kill =
                    std::process::Command::new("kill").args(["-KILL", &self.bus_pid.to_string()]).status();
                assert!(kill.is_ok_and(|status| status.success()), "the own bus can be killed");
                Ok(Vec::new())
            }
            fault => self.perform(&header, &call, message, fault),
        }
    }

    /// The first rule that fits.
    fn fault(&self, call: &Call) -> Option<Fault> {
        let fits = |rule: &&Rule| {
            let given = match rule.fault {
                Fault::RefusesProperty(property, _) => call.properties.contains_key(property),
                _ => true,
            };
            rule.method == call.method && call.unit.ends_with(rule.unit) && given
        };
        self.rules.iter().find(fits).map(|rule| rule.fault.clone())
    }

    fn perform(
        &mut self,
        header: &Header<'_>,
        call: &Call,
        message: &Message,
        fault: Option<Fault>,
    ) -> zbus::Result<Vec<Message>> {
        let known = self.units.contains_key(&call.unit);
        match call.method.as_str() {
            "Subscribe" | "Unsubscribe" => reply(header, &()),
            "GetUnit" | "StopUnit" | "ResetFailedUnit" | "SetUnitProperties" | "AttachProcessesToUnit"
                if !known =>
            {
                let text = format!("Unit {} not loaded.", call.unit);
                error(header, "org.freedesktop.systemd1.NoSuchUnit", &text)
            }
            "GetUnit" | "LoadUnit" => reply(header, &path(&object_path(&call.unit))?),
            "StartTransientUnit" => self.start(header, call, message, fault),
            "StopUnit" => self.stop(header, &call.unit, fault),
            "ResetFailedUnit" => {
                if self.units.get(&call.unit).is_some_and(|unit| unit.active_state != "active") {
                    self.units.remove(&call.unit);
                }
                reply(header, &())
            }
            "SetUnitProperties" => {
                if let Some(unit) = self.units.get_mut(&call.unit) {
                    unit.properties.extend(call.properties.clone());
                }
                reply(header, &())
            }
            "AttachProcessesToUnit" => reply(header, &()),
            "Get" | "GetAll" => self.read(header, call.method == "Get", message),
            other => {
                error(header, "org.freedesktop.DBus.Error.UnknownMethod", &format!("Unknown method {other}."))
            }
        }
    }

    fn start(
        &mut self,
        header: &Header<'_>,
        call: &Call,
        message: &Message,
        fault: Option<Fault>,
    ) -> zbus::Result<Vec<Message>> {
        let (_, _, _, others): Start = message.body().deserialize()?;
        let names: Vec<&String> = others.iter().map(|(name, _)| name).chain([&call.unit]).collect();
        if let Some(name) = names.iter().find(|name| self.units.contains_key(**name)) {
            return error(
                header,
                "org.freedesktop.systemd1.UnitExists",
                &format!("Unit {name} already exists."),
            );
        }
        let (state, result) = match fault {
            Some(Fault::Ends(result)) => ("failed", result),
            Some(Fault::NeverEnds) => ("activating", "success"),
            _ => ("active", "success"),
        };
        for (name, properties) in &others {
            let properties = properties.iter().cloned().collect();
            self.units.insert(name.clone(), Unit { properties, ..Unit::new(name, "active") });
        }
        let unit = Unit {
            properties: call.properties.clone(),
            result: result.into(),
            ..Unit::new(&call.unit, state)
        };
        self.controllers.extend(unit.text("Controller").map(|name| (call.unit.clone(), name)));
        self.units.insert(call.unit.clone(), unit);
        let mut messages = vec![signal("UnitNew", &(call.unit.as_str(), path(&object_path(&call.unit))?))?];
        messages.extend(self.job(header, &call.unit, fault)?);
        Ok(messages)
    }

    fn stop(&mut self, header: &Header<'_>, unit: &str, fault: Option<Fault>) -> zbus::Result<Vec<Message>> {
        if !matches!(fault, Some(Fault::NeverEnds | Fault::Ends(_))) {
            self.units.remove(unit);
        }
        let mut messages = self.job(header, unit, fault)?;
        messages.push(signal("UnitRemoved", &(unit, path(&object_path(unit))?))?);
        Ok(messages)
    }

    /// The reply that names the job, and the signals of its end, as the fault wants them.
    fn job(&mut self, header: &Header<'_>, unit: &str, fault: Option<Fault>) -> zbus::Result<Vec<Message>> {
        self.jobs += 2;
        let (other, own) = (self.jobs - 1, self.jobs);
        let removed = |id: u32, unit: &str, result: &str| {
            signal("JobRemoved", &(id, path(&format!("{PATH}/job/{id}"))?, unit, result))
        };
        let mut messages = reply(header, &path(&format!("{PATH}/job/{own}"))?)?;
        match fault {
            Some(Fault::NeverEnds | Fault::SignalLost) => {}
            Some(Fault::Ends(result)) => messages.push(removed(own, unit, result)?),
            Some(Fault::ReplyAfterSignal) => messages.insert(0, removed(own, unit, "done")?),
            Some(Fault::OtherJobFirst) => {
                messages.extend([removed(other, "machine.slice", "failed")?, removed(own, unit, "done")?]);
            }
            _ => messages.push(removed(own, unit, "done")?),
        }
        Ok(messages)
    }

    /// `Properties.Get` and `GetAll`, of the manager and of units.
    fn read(&self, header: &Header<'_>, one: bool, message: &Message) -> zbus::Result<Vec<Message>> {
        let asked = header.path().map(|path| path.as_str().to_owned()).unwrap_or_default();
        let found = self.units.values().find(|unit| object_path(&unit.name) == asked);
        let all = match found {
            Some(unit) => self.unit_properties(unit)?,
            None if asked == PATH => {
                let pairs = [("Version", "252.39-fake"), ("ControlGroup", "")];
                pairs.into_iter().map(|(name, text)| (name.to_owned(), Variant::from(text))).collect()
            }
            None => {
                return error(
                    header,
                    "org.freedesktop.DBus.Error.UnknownObject",
                    &format!("Unknown object '{asked}'."),
                );
            }
        };
        if !one {
            return reply(header, &all);
        }
        let (_, name): (String, String) = message.body().deserialize()?;
        match all.get(&name) {
            Some(value) => reply(header, value),
            None => error(
                header,
                "org.freedesktop.DBus.Error.UnknownProperty",
                &format!("Unknown property {name}"),
            ),
        }
    }

    fn unit_properties(&self, unit: &Unit) -> zbus::Result<HashMap<String, Variant<'static>>> {
        // What is not set has some value; nobody looks at which.
        let mut all: HashMap<_, _> =
            self.properties.iter().map(|name| ((*name).to_owned(), Variant::from(u64::MAX))).collect();
        let own = [
            ("Id", unit.name.clone()),
            ("Description", unit.name.clone()),
            ("ActiveState", unit.active_state.clone()),
            ("Result", unit.result.clone()),
            ("ControlGroup", unit.control_group()),
        ];
        all.extend(own.into_iter().map(|(name, text)| (name.to_owned(), Variant::from(text))));
        for (name, value) in &unit.properties {
            all.insert(name.clone(), (**value).try_clone()?);
        }
        Ok(all)
    }
}

/// Name, mode, properties, further units.
type Start = (String, String, Properties, Vec<(String, Properties)>);

/// The properties that come with a call.
fn given(method: &str, message: &Message) -> zbus::Result<Properties> {
    match method {
        "StartTransientUnit" => message.body().deserialize::<Start>().map(|(_, _, properties, _)| properties),
        "SetUnitProperties" => {
            message.body().deserialize::<(String, bool, Properties)>().map(|(_, _, properties)| properties)
        }
        _ => Ok(Vec::new()),
    }
}

fn first_text(body: &zbus::Structure<'_>) -> Option<String> {
    match body.fields().first()? {
        Variant::Str(text) => Some(text.to_string()),
        _ => None,
    }
}

fn path(text: &str) -> zbus::Result<zbus::OwnedObjectPath> {
    zbus::OwnedObjectPath::try_from(text.to_owned())
}

fn reply<B: serde::Serialize + zbus::DynamicType>(
    header: &Header<'_>,
    body: &B,
) -> zbus::Result<Vec<Message>> {
    Ok(vec![Message::method_return(header).build(body)?])
}

fn error(header: &Header<'_>, name: &str, text: &str) -> zbus::Result<Vec<Message>> {
    Ok(vec![Message::error(header, name).build(&(text,))?])
}

fn signal<B: serde::Serialize + zbus::DynamicType>(member: &str, body: &B) -> zbus::Result<Message> {
    Message::signal(PATH, INTERFACE, member).build(body)
}

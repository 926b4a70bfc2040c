//! What the fake remembers: units and calls. Only data; who changes it is the manager.

use std::collections::BTreeMap;

use zbus::OwnedVariant;

/// A loaded unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// Such as `podrun-1a2b3c4d.scope`.
    pub name: String,
    /// `active`, `activating`, `inactive`, `failed`.
    pub active_state: String,
    /// `success`, or why it failed.
    pub result: String,
    /// As it was given, by name.
    pub properties: BTreeMap<String, OwnedVariant>,
}

impl Unit {
    pub(crate) fn new(name: &str, active_state: &str) -> Self {
        let result = if active_state == "failed" { "timeout" } else { "success" };
        let (name, active_state, result) = (name.to_owned(), active_state.to_owned(), result.to_owned());
        Self { name, active_state, result, properties: BTreeMap::new() }
    }

    /// A property that was given as text.
    pub(crate) fn text(&self, property: &str) -> Option<String> {
        match &**self.properties.get(property)? {
            zbus::Variant::Str(text) => Some(text.to_string()),
            _ => None,
        }
    }

    /// Where systemd would put it, so deep as the tests need: each `-` of a slice's name is a level.
    pub(crate) fn control_group(&self) -> String {
        let slice = self.text("Slice").unwrap_or_else(|| "system.slice".to_owned());
        let stem = slice.trim_end_matches(".slice");
        let levels = stem.match_indices('-').map(|(at, _)| &stem[..at]).chain([stem]);
        let above: String = levels.map(|level| format!("/{level}.slice")).collect();
        if self.name.ends_with(".slice") { above } else { format!("{above}/{}", self.name) }
    }
}

/// One call that has arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The method.
    pub method: String,
    /// The unit, where the call names one first.
    pub unit: String,
    /// The properties that came with it.
    pub properties: BTreeMap<String, OwnedVariant>,
}

/// The object of a unit: everything but letters and digits is escaped, and a digit at the start.
#[must_use]
pub fn object_path(unit: &str) -> String {
    let mut path = format!("{}/unit/", crate::PATH);
    for (at, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()) {
            path.push(byte.into());
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_paths_are_systemds() {
        for (unit, path) in [("init.scope", "init_2escope"), ("1-a.slice", "_31_2da_2eslice")] {
            assert_eq!(object_path(unit), format!("/org/freedesktop/systemd1/unit/{path}"));
        }
    }

    #[test]
    fn dashes_of_a_slice_are_levels() {
        let mut unit = Unit::new("podrun-1.scope", "active");
        let slice = zbus::Variant::from("machine-shop.slice").try_to_owned().unwrap();
        unit.properties.insert("Slice".into(), slice);
        assert_eq!(unit.control_group(), "/machine.slice/machine-shop.slice/podrun-1.scope");
    }
}

//! The descriptors that came with one packet, by their places in it.

use podrun_abi::failure::StartFailure;
use podrun_abi::handover::Place;

use crate::failure::refused;
use crate::sys::descriptors::Inherited;

/// The descriptors of one packet. What the packet says of a descriptor is looked up in here, so no word of the
/// launcher reaches another one.
pub struct Attached(Vec<Inherited>);

impl Attached {
    /// In the order in which they came.
    pub fn new(descriptors: Vec<Inherited>) -> Self {
        Self(descriptors)
    }

    /// The one that a packet names.
    pub fn at(&self, place: Place) -> Result<Inherited, StartFailure> {
        self.0.get(place).copied().ok_or_else(|| refused(&format!("a packet without descriptor {place}")))
    }
}

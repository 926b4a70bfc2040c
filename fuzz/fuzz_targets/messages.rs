//! What crosses between launcher, stage1 and the outside: any bytes are a message or an error, and a message
//! that was understood is written and read back as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use podrun::pod::status::Status;
use podrun_abi::boot::Boot;
use podrun_abi::control::{Reply, Request};
use podrun_abi::event::Record;
use podrun_abi::handover::Handover;
use podrun_abi::notice::{Notice, STATUS_BYTES_MAX};
use serde_json::{from_slice, to_vec};

macro_rules! round_trip {
    ($type:ty, $bytes:expr) => {
        if let Ok(message) = from_slice::<$type>($bytes) {
            let text = to_vec(&message).expect("what was read can be written");
            assert_eq!(from_slice::<$type>(&text).expect("what was written can be read"), message);
        }
    };
}

fuzz_target!(|bytes: &[u8]| {
    round_trip!(Boot, bytes);
    round_trip!(Handover, bytes);
    round_trip!(Request, bytes);
    round_trip!(Reply, bytes);
    round_trip!(Record, bytes);
    let notice = Notice::parse(bytes);
    assert!(notice.status.is_none_or(|status| status.len() <= STATUS_BYTES_MAX));
    let mut status = Status::new(vec!["app".to_owned()]);
    for record in bytes.split(|&b| b == b'\n').filter_map(|line| from_slice::<Record>(line).ok()) {
        status.apply(&record);
    }
});

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| parlour_bridge::fuzzing::bridge_control(data));

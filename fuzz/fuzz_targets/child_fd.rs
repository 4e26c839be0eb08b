#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| parlour::fuzzing::child_fd(data));

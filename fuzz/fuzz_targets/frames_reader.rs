#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| parlour::fuzzing::frames_reader(data));

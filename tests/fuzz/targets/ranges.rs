#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| reprise_fuzz::ranges::check(data));

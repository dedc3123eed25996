//! Opens arbitrary bytes as a trace, walks all there is and explains it. Nothing may panic, and the memory
//! that libFuzzer allows (2 GB) must do.
#![no_main]

#[path = "../examine.rs"]
mod examine;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    examine::examine(bytes);
    examine::explain(bytes);
});

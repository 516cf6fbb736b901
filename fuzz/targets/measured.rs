//! What an input may cost.

use peak_alloc::PeakAlloc;
use queue_worker_fuzz::Property;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// How many bytes of memory a byte of input may take, on the way through a property and back: a list of empty
/// strings takes three bytes each in JSON and 24 in memory, several times over. A compressed payload grows by
/// a factor of a thousand.
const FACTOR: usize = 4_096;
/// What any input may take.
const BASE: usize = 1 << 20;

/// Checks a property of an input, and that it takes no more memory than such an input may.
pub fn check(property: Property, data: &[u8]) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    property(data);
    let taken = MEMORY.peak_usage().saturating_sub(before);
    assert!(taken <= BASE + FACTOR * data.len(), "{} bytes of input took {taken} of memory", data.len());
}

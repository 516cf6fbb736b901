//! The memory that the container has, of which messages get a share.

use std::fs;

/// Where the kernel tells the limit: control groups of version 2 and of version 1, as a container sees its
/// own (`Documentation/admin-guide/cgroup-v2.rst` of Linux).
const LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
/// A limit beyond this one is none: version 1 writes the largest number of pages.
const NONE: usize = 1 << 60;
/// The share of messages. They are in memory twice, as they came and as they are sent; the rest is for
/// answers (`callback_memory`), for what waits for the broker and for what the broker is asked for.
const SHARE: usize = 6;
/// The bytes of messages where there is no limit.
const UNLIMITED: usize = 256 << 20;

/// The bytes that the messages of all calls may have together.
pub(crate) fn room_for_messages() -> usize {
    room(LIMITS.iter().filter_map(|file| fs::read_to_string(file).ok()))
}

fn room(told: impl Iterator<Item = String>) -> usize {
    let limits = told.filter_map(|text| text.trim().parse().ok()).filter(|limit| *limit < NONE);
    limits.min().map_or(UNLIMITED, |limit: usize| limit / SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_get_a_share_of_what_the_container_has() {
        let mib = |mib: usize| mib << 20;
        for (told, expected) in [
            (&[][..], UNLIMITED),
            (&["max\n"], UNLIMITED),
            (&["9223372036854771712\n"], UNLIMITED),
            (&["629145600\n"], mib(100)),
            (&["max\n", "629145600\n"], mib(100)),
            (&["no number\n"], UNLIMITED),
        ] {
            assert_eq!(room(told.iter().map(ToString::to_string)), expected, "{told:?}");
        }
    }
}

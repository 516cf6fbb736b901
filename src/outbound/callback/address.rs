//! Tells public addresses from others. Pure.
//!
//! Not public are the addresses that IANA's registries of special-purpose addresses (RFC 6890) list as not
//! globally reachable, and every form of IPv6 address in which such an IPv4 address is wrapped up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Blocks of IPv4 that are not public: the first address and the length of the prefix.
const V4: [([u8; 4], u32); 15] = [
    // "This network"; 0.0.0.0 reaches the machine itself.
    ([0, 0, 0, 0], 8),
    // Private (RFC 1918).
    ([10, 0, 0, 0], 8),
    ([172, 16, 0, 0], 12),
    ([192, 168, 0, 0], 16),
    // Shared by carriers (RFC 6598).
    ([100, 64, 0, 0], 10),
    // The machine itself.
    ([127, 0, 0, 0], 8),
    // Link-local, where clouds tell their machines who they are.
    ([169, 254, 0, 0], 16),
    // Protocol assignments, and the relays of 6to4, which is no more.
    ([192, 0, 0, 0], 24),
    ([192, 88, 99, 0], 24),
    // Documentation.
    ([192, 0, 2, 0], 24),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    // Benchmarks.
    ([198, 18, 0, 0], 15),
    // Multicast.
    ([224, 0, 0, 0], 4),
    // Reserved, and broadcast.
    ([240, 0, 0, 0], 4),
];

/// Whether an address is one of the public internet's.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !V4.iter()
        .any(|&(first, length)| (address.to_bits() ^ Ipv4Addr::from(first).to_bits()) >> (32 - length) == 0)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // The last 32 bits, or those that end at another place.
    let v4 = |end: u32| {
        Ipv4Addr::from_bits(
            u32::try_from(address.to_bits() >> end & u128::from(u32::MAX)).unwrap_or_default(),
        )
    };
    match address.segments() {
        // Mapped and translated (RFC 6052): as good as the IPv4 address inside.
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => is_public_v4(v4(0)),
        // Teredo: the server's address, and the client's with each bit turned round.
        [0x2001, 0, ..] => is_public_v4(v4(64)) && is_public_v4(Ipv4Addr::from_bits(!v4(0).to_bits())),
        // Protocol assignments, benchmarks among them; documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // 6to4: the site's address.
        [0x2002, ..] => is_public_v4(v4(80)),
        // All that was ever given out. The rest is loopback, unspecified, IPv4-compatible, link- and
        // site-local, unique local, multicast, discarded or reserved.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(public: bool, addresses: &[&str]) {
        for address in addresses {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }

    #[test]
    fn the_internet_is_public() {
        check(true, &["1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "93.184.215.14", "223.255.255.255"]);
        check(
            true,
            &[
                "2606:4700:4700::1111",
                "2a00:1450:4001::200e",
                "2001:4860:4860::8888",
                "2001:200::1",
                "3ffe::1",
            ],
        );
    }

    #[test]
    fn the_machine_and_its_neighbours_are_not() {
        check(false, &["127.0.0.1", "127.255.255.255", "0.0.0.0", "0.1.2.3", "::1", "::"]);
        check(
            false,
            &["169.254.169.254", "169.254.0.1", "fe80::1", "febf::1", "fec0::1", "ff02::1", "ff0e::1"],
        );
        check(
            false,
            &[
                "10.0.0.1",
                "172.16.0.1",
                "172.31.255.255",
                "192.168.1.1",
                "100.64.0.1",
                "100.127.255.255",
                "100.100.100.200",
            ],
        );
        check(false, &["fc00::1", "fd00:ec2::254", "fdff::1"]);
    }

    #[test]
    fn neither_is_what_belongs_to_nobody() {
        check(false, &["224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"]);
        check(
            false,
            &[
                "192.0.0.1",
                "192.0.0.170",
                "192.0.2.1",
                "198.51.100.1",
                "203.0.113.1",
                "198.18.0.1",
                "198.19.255.255",
                "192.88.99.1",
            ],
        );
        check(
            false,
            &[
                "2001:db8::1",
                "3fff::1",
                "3fff:fff::1",
                "100::1",
                "2001:2::1",
                "2001:10::1",
                "2001:20::1",
                "5f00::1",
                "4000::1",
                "64:ff9b:1::1",
            ],
        );
    }

    #[test]
    fn the_blocks_end_where_they_end() {
        check(
            true,
            &[
                "172.15.255.255",
                "172.32.0.0",
                "100.63.255.255",
                "100.128.0.0",
                "169.253.255.255",
                "169.255.0.0",
            ],
        );
        check(
            true,
            &[
                "192.167.255.255",
                "192.169.0.0",
                "198.17.255.255",
                "198.20.0.0",
                "126.255.255.255",
                "128.0.0.0",
                "192.0.1.0",
                "192.0.3.0",
            ],
        );
        check(true, &["2001:db7::1", "2001:db9::1", "3fff:1000::1"]);
    }

    #[test]
    fn a_private_address_in_a_wrapping_is_private() {
        check(false, &["::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::ffff:0.0.0.0"]);
        check(false, &["::127.0.0.1", "::10.0.0.1", "::8.8.8.8", "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe"]);
        check(
            false,
            &[
                "2002:a00:1::1",
                "2002:a9fe:a9fe::1",
                "2002:7f00:1::",
                "2001:0:a00:1::f7f7:f7f7",
                "2001:0:808:808::f5ff:fffe",
            ],
        );
        check(true, &["::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1", "2001:0:808:808::f7f7:f7f7"]);
    }
}

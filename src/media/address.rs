//! Which addresses the gateway may fetch from: the public internet, and nothing else.
//!
//! The lists follow IANA's registries of special-purpose addresses (RFC 6890, as of 2025). What is
//! refused is what a caller could otherwise reach through the gateway: its own machine, its
//! network, its cloud's metadata. A translation prefix that a network has chosen for itself
//! (RFC 6052, section 2.2) looks like any public address and cannot be told apart.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Not public, or not meant for one host.
const REFUSED_V4: [Ipv4Net; 16] = [
    v4([0, 0, 0, 0], 8),        // this network, and the unspecified address
    v4([10, 0, 0, 0], 8),       // private
    v4([100, 64, 0, 0], 10),    // behind a carrier's NAT; Alibaba's metadata
    v4([127, 0, 0, 0], 8),      // loopback
    v4([168, 63, 129, 16], 32), // Azure's host agent, which has a public number
    v4([169, 254, 0, 0], 16),   // link-local; the metadata of most clouds
    v4([172, 16, 0, 0], 12),    // private
    v4([192, 0, 0, 0], 24),     // protocol assignments; Oracle's metadata
    v4([192, 0, 2, 0], 24),     // documentation
    v4([192, 88, 99, 0], 24),   // relays of 6to4
    v4([192, 168, 0, 0], 16),   // private
    v4([198, 18, 0, 0], 15),    // benchmarks
    v4([198, 51, 100, 0], 24),  // documentation
    v4([203, 0, 113, 0], 24),   // documentation
    v4([224, 0, 0, 0], 4),      // multicast
    v4([240, 0, 0, 0], 4),      // reserved, and broadcast
];

/// The only part of IPv6 that is given out to hosts everywhere (RFC 4291, section 2.5.4).
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0], 3);

/// What is not public inside that part.
const REFUSED_V6: [Ipv6Net; 4] = [
    v6([0x2001, 0], 23),     // protocol assignments: Teredo, benchmarks, ORCHID
    v6([0x2001, 0xdb8], 32), // documentation
    v6([0x2002, 0], 16),     // 6to4, which carries any IPv4 address inside
    v6([0x3fff, 0], 20),     // documentation
];

/// The well-known prefix of translators, which carries an IPv4 address inside (RFC 6052).
const NAT64: Ipv6Net = v6([0x64, 0xff9b], 96);

const fn v4(address: [u8; 4], prefix: u8) -> Ipv4Net {
    let [a, b, c, d] = address;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(start: [u16; 2], prefix: u8) -> Ipv6Net {
    let [a, b] = start;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix)
}

/// Whether an address is one of the public internet's. An IPv4 address inside an IPv6 one is
/// judged as itself.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !REFUSED_V4.iter().any(|range| range.contains(&address)),
        IpAddr::V6(address) => match inner(address) {
            Some(inner) => is_public(inner.into()),
            None => {
                GLOBAL_V6.contains(&address)
                    && !REFUSED_V6.iter().any(|range| range.contains(&address))
            }
        },
    }
}

/// The IPv4 address to which a mapped or a translated address leads.
fn inner(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., a, b, c, d] = address.octets();
    let translated = NAT64.contains(&address).then_some(Ipv4Addr::new(a, b, c, d));
    address.to_ipv4_mapped().or(translated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_public_internet_are_public() {
        for (public, addresses) in [
            (true, "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0"),
            (true, "126.255.255.255 128.0.0.0 169.253.255.255 172.15.255.255 172.32.0.0"),
            (true, "192.0.1.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0"),
            (true, "168.63.129.15 168.63.129.17 223.255.255.255"),
            (true, "2001:200::1 2606:4700::1111 2a00:1450:4001::1 2001:db7:ffff::1"),
            (true, "::ffff:1.1.1.1 64:ff9b::8.8.8.8"),
            // This machine.
            (false, "127.0.0.1 127.255.255.254 0.0.0.0 0.1.2.3 ::1 ::"),
            // Private, link-local, carrier's.
            (false, "10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1"),
            (false, "169.254.0.1 100.64.0.1 100.127.255.255 fe80::1 febf::1 fec0::1 fc00::1"),
            (false, "fdff:ffff::1"),
            // Clouds' metadata.
            (false, "169.254.169.254 169.254.170.2 100.100.100.200 168.63.129.16 192.0.0.192"),
            (false, "fd00:ec2::254 fd20:ce::254"),
            // Many hosts, none, or examples.
            (false, "224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 ff02::1 ff0e::1"),
            (false, "192.0.2.1 198.51.100.1 203.0.113.1 198.18.0.1 198.19.255.255"),
            (false, "2001:db8::1 3fff::1 3fff:fff::1 2001:2::1 2001:10::1 2001:20::1 100::1"),
            (false, "192.88.99.1 5f00::1"),
            // An IPv4 address inside: mapped, compatible, translated, 6to4, Teredo.
            (false, "::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0.0.0.0"),
            (false, "::127.0.0.1 ::10.0.0.1 ::8.8.8.8 ::ffff:0:127.0.0.1"),
            (false, "64:ff9b::127.0.0.1 64:ff9b::169.254.169.254 64:ff9b:1::10.0.0.1"),
            (false, "2002:7f00:1:: 2002:a9fe:a9fe::1 2002:808:808::1 2001:0:7f00:1::"),
        ] {
            for address in addresses.split(' ') {
                let parsed: IpAddr = address.parse().unwrap();
                assert_eq!(is_public(parsed), public, "{address}");
            }
        }
    }
}

//! The few requests of rtnetlink(7) that moving an interface takes.
//!
//! libcontainer has a client of its own, but that reads answers into a fixed
//! buffer and turns the kernel's error into text without its name.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::RawFd;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The interface's own.
    pub ip: IpAddr,
    /// Bits of the network's part.
    pub prefix: u8,
    broadcast: Option<Ipv4Addr>,
    permanent: bool,
    universe: bool,
}

impl Address {
    /// Whether it stays right when the interface moves: configured by the user,
    /// and not bound to a link or host.
    pub fn is_kept(&self) -> bool {
        self.permanent && self.universe
    }

    fn read(message: &AddressMessage) -> Option<Self> {
        let mut local = None;
        let mut peer = None;
        let mut broadcast = None;
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Address(ip) => peer = Some(*ip),
                AddressAttribute::Broadcast(ip) => broadcast = Some(*ip),
                _ => {}
            }
        }
        Some(Self {
            // Only point-to-point and IPv4 interfaces have both.
            ip: local.or(peer)?,
            prefix: message.header.prefix_len,
            broadcast,
            permanent: message.header.flags.contains(AddressHeaderFlags::Permanent),
            universe: message.header.scope == AddressScope::Universe,
        })
    }
}

/// A socket of the network namespace it was opened in.
pub struct Client {
    socket: Socket,
    sequence: u32,
}

impl Client {
    /// Opens the socket.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// The index of the interface of this name.
    ///
    /// # Errors
    /// `ENODEV`.
    pub fn index_of(&mut self, name: &str) -> io::Result<u32> {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let answers = self.request(RouteNetlinkMessage::GetLink(link), NLM_F_ACK)?;
        answers
            .into_iter()
            .find_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(link) => Some(link.header.index),
                _ => None,
            })
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }

    /// Sets an interface up or down.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_up(&mut self, index: u32, up: bool) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.change_mask = LinkFlags::Up;
        link.header.flags.set(LinkFlags::Up, up);
        self.request(RouteNetlinkMessage::SetLink(link), NLM_F_ACK)
            .map(drop)
    }

    /// The addresses of an interface.
    ///
    /// # Errors
    /// The kernel's.
    pub fn addresses(&mut self, index: u32) -> io::Result<Vec<Address>> {
        let all = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.request(all, NLM_F_DUMP)?;
        let own = answers.iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewAddress(address) if address.header.index == index => {
                Address::read(address)
            }
            _ => None,
        });
        Ok(own.collect())
    }

    /// Renames an interface and moves it to another network namespace, both or
    /// neither.
    ///
    /// # Errors
    /// `EEXIST` where the name is taken there; `EINVAL` for an interface that
    /// stays where it is.
    pub fn send_away(&mut self, index: u32, name: &str, namespace: RawFd) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        link.attributes.push(LinkAttribute::NetNsFd(namespace));
        self.request(RouteNetlinkMessage::SetLink(link), NLM_F_ACK)
            .map(drop)
    }

    /// Adds an address.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_address(&mut self, index: u32, address: &Address) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = match address.ip {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        message.header.index = index;
        message.header.prefix_len = address.prefix;
        let attributes = &mut message.attributes;
        attributes.push(AddressAttribute::Local(address.ip));
        attributes.push(AddressAttribute::Address(address.ip));
        attributes.extend(address.broadcast.map(AddressAttribute::Broadcast));
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        self.request(RouteNetlinkMessage::NewAddress(message), flags)
            .map(drop)
    }

    /// Sends one request and reads everything up to its end: an error or
    /// acknowledgement, or the end of a dump.
    fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answers = Vec::new();
        loop {
            // As long as it is: an interface with many functions has a long one.
            let (packet, _) = self.socket.recv_from_full()?;
            let mut rest = &packet[..];
            while !rest.is_empty() {
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(|e| io::Error::other(e.to_string()))?;
                let length = usize::try_from(answer.header.length)
                    .unwrap_or_default()
                    .next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => answers.push(message),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(io::Error::from_raw_os_error(error.raw_code().abs()));
                    }
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                    _ => {}
                }
            }
        }
    }
}

//! Against locking oneself out: what speaks against a policy before it is in force. It would cut the connection that it
//! came in by, or let nobody in who is not in already, or leave out who always got in.

mod pusher;
mod ways;

use std::fmt;
use std::net::SocketAddr;

use filter_common::flow::tcp::{ACK, SYN};
use filter_common::reason::Reason;

use crate::dataplane::JudgeError;
use crate::explain::frame::{Mac, Packet, SOMEBODY};

pub use pusher::{Connection, Pusher, own_ssh_connection};
pub use ways::{closes_every_way, takes_from_failsafe};

/// Something that speaks against a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objection {
    /// A connection of whoever pushes it would be cut, or could not be made again.
    Cuts {
        /// Which.
        connection: Connection,
        /// Interface that it comes in by.
        interface: String,
        /// Whether it is only a new connection that would be refused.
        only_new: bool,
        /// Why.
        reason: Reason,
        /// The rule that would refuse it.
        rule: Option<String>,
    },
    /// What the connections would meet could not be found out.
    Untested {
        /// Which; `None`: it is not even known which there are.
        connection: Option<Connection>,
        /// Why.
        why: String,
    },
    /// No TCP service would be open to anybody new.
    ClosesEveryWay,
    /// Who always got in would not any more.
    TakesFailsafe {
        /// Sources.
        what: String,
    },
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cuts {
                connection,
                interface,
                only_new,
                reason,
                rule,
            } => {
                let (remote, port) = (connection.remote.ip(), connection.local.port());
                if *only_new {
                    write!(
                        f,
                        "your connection {connection} by {interface} would live on, but a new one from {remote} would be \
                         refused"
                    )?;
                } else {
                    write!(f, "it cuts your connection {connection} by {interface}")?;
                }
                write!(f, " ({}", reason.name())?;
                if let Some(rule) = rule {
                    write!(f, ", {rule}")?;
                }
                write!(f, "): ")?;
                match (reason, rule) {
                    (Reason::DropDenied, Some(rule)) => {
                        write!(f, "take {remote} out of the deny rule {rule}")?;
                    }
                    _ if connection.incoming => {
                        write!(f, "add an allow rule for tcp/{port} from {remote}")?;
                    }
                    _ => write!(f, "let in what answers it")?,
                }
                f.write_str(", or push with --force --confirm 60s")
            }
            Self::Untested { connection, why } => {
                f.write_str("what becomes of your connection ")?;
                if let Some(connection) = connection {
                    write!(f, "{connection} ")?;
                }
                write!(
                    f,
                    "cannot be found out: {why}; push with --force --confirm 60s"
                )
            }
            Self::ClosesEveryWay => f.write_str(
                "it lets nobody in: no TCP service would be open on any interface, and there is no failsafe list; add an \
                 allow rule or a failsafe list, write `failsafe = []` to say that nobody shall get in, or push with \
                 --force --confirm 60s",
            ),
            Self::TakesFailsafe { what } => write!(
                f,
                "it takes {what} out of the failsafe list: keep them there, or push with --force --confirm 60s"
            ),
        }
    }
}

/// Which policy to judge by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Under {
    /// The one in force.
    InForce,
    /// The one that is staged.
    Staged,
}

/// An interface that packets of a connection come in by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Interface.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its own address.
    pub mac: Option<Mac>,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it goes on.
    pub passes: bool,
    /// Why.
    pub reason: Reason,
    /// Id of the rule that decided.
    pub rule: Option<String>,
}

/// The tables that packets are judged by, and the interfaces they come in by.
pub trait Ground {
    /// Interfaces that the connection's packets may come in by.
    fn arrivals(&self, connection: &Connection) -> Vec<Arrival>;

    /// What becomes of a frame.
    fn judge(
        &mut self,
        under: Under,
        arrival: &Arrival,
        frame: &[u8],
    ) -> Result<Verdict, JudgeError>;
}

/// What becomes of the connections, each as a packet of it, and as one that opens it anew. One objection for each at most.
pub fn cuts(connections: &[Connection], ground: &mut impl Ground) -> Vec<Objection> {
    let mut objections = Vec::new();
    for connection in connections {
        for arrival in ground.arrivals(connection) {
            match cut(connection, &arrival, ground) {
                Ok(None) => {}
                Ok(Some(objection)) => {
                    objections.push(objection);
                    break;
                }
                Err(error) => {
                    objections.push(Objection::Untested {
                        connection: Some(*connection),
                        why: format!("{:#}", anyhow::Error::new(error)),
                    });
                    break;
                }
            }
        }
    }
    objections
}

fn cut(
    connection: &Connection,
    arrival: &Arrival,
    ground: &mut impl Ground,
) -> Result<Option<Objection>, JudgeError> {
    let macs = [SOMEBODY, arrival.mac.unwrap_or(SOMEBODY)];
    let Connection {
        local,
        remote,
        incoming,
    } = *connection;
    // from a port that no connection of the other side is likely to have: nothing is known of it
    let anew = SocketAddr::new(remote.ip(), remote.port() ^ 1);
    let packets = [(remote, ACK, false), (anew, SYN, true)];
    let asked = if incoming { 2 } else { 1 };
    for (from, flags, only_new) in packets.into_iter().take(asked) {
        let Ok(frame) = Packet::tcp(macs, from, local, flags).frame() else {
            continue;
        };
        let then = ground.judge(Under::Staged, arrival, &frame)?;
        // what is refused now is no connection that this policy would cut
        if then.passes || !ground.judge(Under::InForce, arrival, &frame)?.passes {
            continue;
        }
        return Ok(Some(Objection::Cuts {
            connection: *connection,
            interface: arrival.name.clone(),
            only_new,
            reason: then.reason,
            rule: then.rule,
        }));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Answers by the flags byte of a frame.
    struct Play {
        now: HashMap<u8, bool>,
        then: HashMap<u8, bool>,
    }

    impl Ground for Play {
        fn arrivals(&self, _: &Connection) -> Vec<Arrival> {
            vec![Arrival {
                ifindex: 2,
                name: "eth0".to_owned(),
                mac: None,
            }]
        }

        fn judge(
            &mut self,
            under: Under,
            _: &Arrival,
            frame: &[u8],
        ) -> Result<Verdict, JudgeError> {
            let answers = match under {
                Under::InForce => &self.now,
                Under::Staged => &self.then,
            };
            let passes = answers[&frame[14 + 20 + 13]];
            Ok(Verdict {
                passes,
                reason: if passes {
                    Reason::PassRule
                } else {
                    Reason::DropPort
                },
                rule: None,
            })
        }
    }

    fn play(now: [bool; 2], then: [bool; 2]) -> Play {
        let answers = |[ack, syn]: [bool; 2]| HashMap::from([(ACK, ack), (SYN, syn)]);
        Play {
            now: answers(now),
            then: answers(then),
        }
    }

    const SSH: Connection = Connection {
        local: SocketAddr::new(
            std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
            22,
        ),
        remote: SocketAddr::new(
            std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7)),
            50000,
        ),
        incoming: true,
    };

    #[test]
    fn a_connection_must_live_on_and_be_possible_again() {
        let found = |now, then| cuts(&[SSH], &mut play(now, then));
        assert_eq!(found([true, true], [true, true]), []);
        let cut = &found([true, true], [false, false])[0];
        assert!(matches!(
            cut,
            Objection::Cuts {
                only_new: false,
                ..
            }
        ));
        let text = cut.to_string();
        assert_eq!(
            text,
            "it cuts your connection from 198.51.100.7:50000 to 192.0.2.1:22 by eth0 (drop_port): add an allow rule for \
             tcp/22 from 198.51.100.7, or push with --force --confirm 60s"
        );
        let again = &found([true, true], [true, false])[0];
        assert!(matches!(again, Objection::Cuts { only_new: true, .. }));
        assert_eq!(
            found([false, false], [false, false]),
            [],
            "refused already: nothing is cut"
        );
    }

    #[test]
    fn what_we_opened_needs_no_way_in() {
        let outgoing = Connection {
            incoming: false,
            ..SSH
        };
        assert_eq!(
            cuts(&[outgoing], &mut play([true, true], [true, false])),
            []
        );
        assert_eq!(
            cuts(&[outgoing], &mut play([true, true], [false, false])).len(),
            1
        );
    }
}

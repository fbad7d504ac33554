//! How many may be connected at one time: whoever has less of a role must not keep out who has more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections of root and the daemon's own user.
pub(super) const OWN: usize = 32;
/// Connections of all others with a role, and of them those of one user.
pub(super) const MEMBERS: usize = 32;
pub(super) const MEMBER: usize = 8;
/// Connections of all who have none: they get to know that, and that is all.
pub(super) const STRANGERS: usize = 8;

/// Who wants to sit down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Guest {
    /// Root or the daemon's own user.
    Own,
    /// Somebody with a role: a user's number, or the name of a certificate.
    Member(String),
    /// Nobody with a role.
    Stranger,
}

/// Seats taken by each member.
type Taken = Arc<Mutex<HashMap<String, usize>>>;

/// All seats.
#[derive(Clone, Debug)]
pub(super) struct Seats {
    own: Arc<Semaphore>,
    members: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    taken: Taken,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    _permit: OwnedSemaphorePermit,
    member: Option<(String, Taken)>,
}

impl Default for Seats {
    fn default() -> Self {
        Self {
            own: Arc::new(Semaphore::new(OWN)),
            members: Arc::new(Semaphore::new(MEMBERS)),
            strangers: Arc::new(Semaphore::new(STRANGERS)),
            taken: Arc::default(),
        }
    }
}

impl Seats {
    /// A seat, if there is one for them.
    pub(super) fn take(&self, guest: Guest) -> Option<Seat> {
        let room = match &guest {
            Guest::Own => &self.own,
            Guest::Member(_) => &self.members,
            Guest::Stranger => &self.strangers,
        };
        let permit = Arc::clone(room).try_acquire_owned().ok()?;
        let Guest::Member(name) = guest else {
            return Some(Seat {
                _permit: permit,
                member: None,
            });
        };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(name.clone()).or_insert(0);
        if *count == MEMBER {
            return None;
        }
        *count += 1;
        drop(taken);
        Some(Seat {
            _permit: permit,
            member: Some((name, Arc::clone(&self.taken))),
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some((name, taken)) = self.member.take() else {
            return;
        };
        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&name) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(seats: &Seats, guest: &Guest) -> Vec<Seat> {
        std::iter::from_fn(|| seats.take(guest.clone())).collect()
    }

    #[test]
    fn nobody_takes_the_seats_of_others() {
        let seats = Seats::default();
        let member = |name: &str| Guest::Member(name.to_owned());
        let strangers = fill(&seats, &Guest::Stranger);
        assert_eq!(strangers.len(), STRANGERS);
        let first = fill(&seats, &member("1001"));
        assert_eq!(first.len(), MEMBER);
        assert!(seats.take(member("1002")).is_some());
        let many: Vec<Vec<Seat>> = (2000..2010)
            .map(|uid| fill(&seats, &member(&uid.to_string())))
            .collect();
        assert_eq!(many.iter().flatten().count(), MEMBERS - MEMBER);
        assert_eq!(fill(&seats, &Guest::Own).len(), OWN);

        drop((strangers, first, many));
        assert_eq!(fill(&seats, &Guest::Stranger).len(), STRANGERS);
        assert_eq!(fill(&seats, &member("1001")).len(), MEMBER);
        assert!(seats.taken.lock().unwrap().is_empty(), "all are forgotten");
    }
}

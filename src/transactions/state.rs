//! The states of a producer's id, and the table of legal moves between them.

/// Where the producer is with its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody was asked, or asking has failed.
    Uninitialized,
    /// InitProducerId is on its way.
    Initializing,
    /// There is an id.
    Ready,
}

impl State {
    /// Whether this move is in the table.
    fn may_become(self, to: State) -> bool {
        match to {
            State::Uninitialized | State::Ready => self == State::Initializing,
            // A second id, when the epochs of the first are used up.
            State::Initializing => self != State::Initializing,
        }
    }

    /// The state after a move. An illegal one is a defect of the sender's; it is made all the same,
    /// since the newest word counts.
    #[must_use]
    pub fn transition(self, to: State) -> State {
        debug_assert!(self.may_become(to), "{self:?} -> {to:?}");
        to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_moves() {
        use State::{Initializing, Ready, Uninitialized};
        let all = [Uninitialized, Initializing, Ready];
        let legal: Vec<_> = all
            .into_iter()
            .flat_map(|from| all.map(|to| (from, to)))
            .filter(|(from, to)| from.may_become(*to))
            .collect();
        assert_eq!(
            legal,
            [
                (Uninitialized, Initializing),
                (Initializing, Uninitialized),
                (Initializing, Ready),
                (Ready, Initializing),
            ]
        );
    }
}

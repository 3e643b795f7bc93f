//! Whom the partitions wait for: nodes that could take something, and leaders that take nothing.

use super::Backs;

impl Backs {
    /// Nodes that have ready partitions; [`NO_LEADER`] among them where a leader is missing.
    pub fn ready_nodes(&self, nodes: &mut Vec<i32>) {
        let ready = self.ready.iter().filter(|(_, slots)| !slots.is_empty());
        nodes.extend(ready.map(|(node, _)| *node));
    }

    /// Whether anything is ready, and not taken.
    pub fn any_ready(&self) -> bool {
        self.ready.values().any(|slots| !slots.is_empty())
    }

    /// Leaders of partitions that have something to send, and to which nothing more can go now; a
    /// leader may be named more than once. Looks at every partition.
    pub fn awaited_leaders(&self, leaders: &mut Vec<i32>) {
        let waiting = self.backs.iter().flatten().filter(|back| back.waits());
        leaders.extend(waiting.map(|back| back.partition.leader()));
    }
}

//! Posts and what two neighbours say about them; `proto/cpc.proto` tells how they look as bytes.

use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;

use crate::message::{GroupName, Priority};

/// Whom a post is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Topic {
    All,
    Group(GroupName),
}

/// The identity of a post's bytes: the beginning of the BLAKE3 hash of all that is not the hop count. Copies that differ
/// in one bit have different ids, so what is decided on one holds for every other with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PostId(pub(crate) [u8; PostId::LEN]);

impl PostId {
    /// Bytes of an id. A second post for a given id costs 2^128 tries; two that share one, which only their author can
    /// make, 2^64.
    pub(crate) const LEN: usize = 16;
}

/// How nodes pass a post on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Passing {
    /// Along the author's tree.
    Gossip,
    /// To every neighbour.
    Flood,
}

/// A post on its way: what can be read of it without believing any of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Post {
    pub(crate) id: PostId,
    pub(crate) author: PeerId,
    pub(crate) topic: Topic,
    pub(crate) passing: Passing,
    pub(crate) priority: Priority,
    /// How many nodes have forwarded this copy.
    pub(crate) hops: u32,
    /// When it expires, milliseconds since the Unix epoch; `None` without a time to live.
    pub(crate) expires_at: Option<u64>,
    /// The author's frame, without the hop count.
    pub(crate) frame: Bytes,
}

/// What two neighbours tell each other about posts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SpreadNote {
    /// `joined` is everything; else it is what is new.
    pub(crate) hello: bool,
    /// Topics the sender takes part in, and for how long.
    pub(crate) joined: Vec<(Topic, Duration)>,
    pub(crate) left: Vec<GroupName>,
    /// The sender has them.
    pub(crate) have: Vec<PostId>,
    /// The sender misses them.
    pub(crate) want: Vec<PostId>,
    /// The sender had them already when they came.
    pub(crate) enough: Vec<PostId>,
    /// Members of groups that the sender is none of and reaches.
    pub(crate) beyond: Vec<Beyond>,
}

/// What a node that is no member of a group reaches of it by its other neighbours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Beyond {
    pub(crate) group: GroupName,
    /// For how long the member that has been one for longest takes part.
    pub(crate) since: Duration,
    /// The nearest first, each with how many nodes lie between that are no members. Empty: nobody any more.
    pub(crate) members: Vec<(PeerId, u32)>,
}

impl Beyond {
    /// Members that are named at most. A full list says that there may be more.
    pub(crate) const MAX_MEMBERS: usize = 8;
}

impl SpreadNote {
    /// Memberships that are read of one note: as many groups as a node can join, and everybody.
    pub(crate) const MAX_TOPICS: usize = 1025;

    /// Ids that are read of each list of one note.
    pub(crate) const MAX_IDS: usize = 1000;

    /// The lane it takes: news of what is there can wait, the rest can't.
    pub(crate) fn priority(&self) -> Priority {
        let only_news = !self.hello
            && [self.joined.len(), self.left.len(), self.want.len(), self.enough.len(), self.beyond.len()] == [0; 5];
        if only_news { Priority::Medium } else { Priority::High }
    }
}

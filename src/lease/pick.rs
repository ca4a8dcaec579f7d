//! Which devices a count takes. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Mode;

/// A device that could be taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidate {
    /// What to call it.
    pub device: String,
    /// By what it is recognised.
    pub keys: BTreeSet<String>,
    /// The NUMA node that it is close to.
    pub numa: Option<u32>,
    /// How well it is connected to others, by their names; more is better, none
    /// is 0.
    pub links: BTreeMap<String, u32>,
}

/// Not so many devices are free.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Shortage {
    /// How many were wanted.
    pub wanted: usize,
    /// How many are free.
    pub free: usize,
    /// Those that are not, and by whom they are held.
    pub held: Vec<(String, String)>,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wanted, free) = (self.wanted, self.free);
        write!(f, "{wanted} GPUs asked for, {free} free")?;
        for (device, holder) in &self.held {
            write!(f, "; {device} is held by {holder}")?;
        }
        Ok(())
    }
}

/// Up to so many sets are compared one by one.
const MAX_SETS: u64 = 50_000;

/// Takes `count` of the candidates; `holders` says by how many containers each
/// is held already, `None` for those that cannot be taken.
///
/// Alone, a container gets the set with the best links within it, on the fewest
/// NUMA nodes, that leaves the best links among the rest. Shared, those with the
/// fewest holders come first. What is still equal is decided by the order of the
/// candidates. Returns places in `candidates`, in order; `None` where there are
/// not enough.
#[must_use]
pub fn pick(
    candidates: &[Candidate],
    holders: &[Option<usize>],
    count: usize,
    mode: Mode,
) -> Option<Vec<usize>> {
    let free: Vec<usize> = (0..candidates.len())
        .filter(|&place| holders.get(place).copied().flatten().is_some())
        .collect();
    if free.len() < count {
        return None;
    }
    let scale = Scale::new(candidates, holders, &free, mode);
    if sets(free.len(), count) > MAX_SETS {
        return Some(scale.greedy(count));
    }
    let mut best: Option<(Score, Vec<usize>)> = None;
    let mut set: Vec<usize> = (0..count).collect();
    loop {
        let places: Vec<usize> = set.iter().map(|&i| free[i]).collect();
        let score = scale.score(&places);
        // Sets come in lexical order: the first of equals stays.
        if best.as_ref().is_none_or(|(other, _)| score < *other) {
            best = Some((score, places));
        }
        if !advance(&mut set, free.len()) {
            break;
        }
    }
    best.map(|(_, places)| places)
}

/// Less is better.
type Score = [i64; 4];

/// What is added up over a set.
#[derive(Debug, Clone, Default)]
struct Sums {
    /// Links between two of the set, each counted from both ends.
    within: i64,
    /// Links from the set to other free devices, counted likewise.
    cut: i64,
    held: i64,
    /// Free devices on the same NUMA nodes, once for each of the set.
    company: i64,
    nodes: BTreeSet<Option<u32>>,
}

struct Scale<'c> {
    holders: &'c [Option<usize>],
    free: &'c [usize],
    mode: Mode,
    /// By place and place.
    links: Vec<Vec<i64>>,
    /// NUMA nodes by place; none where not all free devices tell theirs.
    nodes: Vec<Option<u32>>,
    /// Free devices on each NUMA node.
    crowd: BTreeMap<Option<u32>, i64>,
}

impl<'c> Scale<'c> {
    fn new(
        candidates: &'c [Candidate],
        holders: &'c [Option<usize>],
        free: &'c [usize],
        mode: Mode,
    ) -> Self {
        let told = |a: usize, b: usize| {
            let (a, b) = (&candidates[a], &candidates[b]);
            a.links.get(&b.device).copied().unwrap_or(0)
        };
        let link = |a: usize, b: usize| match a == b {
            true => 0,
            false => i64::from(told(a, b).max(told(b, a))),
        };
        let places = 0..candidates.len();
        let links = places
            .clone()
            .map(|a| places.clone().map(|b| link(a, b)).collect());
        let told = free.iter().all(|&place| candidates[place].numa.is_some());
        let nodes: Vec<Option<u32>> = candidates
            .iter()
            .map(|candidate| candidate.numa.filter(|_| told))
            .collect();
        let mut crowd = BTreeMap::new();
        for &place in free {
            *crowd.entry(nodes[place]).or_insert(0) += 1;
        }
        Self {
            holders,
            free,
            mode,
            links: links.collect(),
            nodes,
            crowd,
        }
    }

    fn score(&self, set: &[usize]) -> Score {
        let mut sums = Sums::default();
        for (i, &place) in set.iter().enumerate() {
            self.add(&mut sums, &set[..i], place);
        }
        self.judge(&sums)
    }

    /// Adds a device to a set that has been added up.
    fn add(&self, sums: &mut Sums, set: &[usize], place: usize) {
        let to_set: i64 = set.iter().map(|&other| self.links[place][other]).sum();
        let to_free: i64 = self
            .free
            .iter()
            .map(|&other| self.links[place][other])
            .sum();
        sums.within += 2 * to_set;
        sums.cut += 2 * (to_free - 2 * to_set);
        let held = self.holders[place].unwrap_or(0);
        sums.held += i64::try_from(held).unwrap_or(i64::MAX);
        let node = self.nodes[place];
        sums.company += self.crowd.get(&node).copied().unwrap_or(0);
        sums.nodes.insert(node);
    }

    fn judge(&self, sums: &Sums) -> Score {
        let spread = i64::try_from(sums.nodes.len()).unwrap_or(i64::MAX);
        // Where nothing is known of links: from the nodes with the fewest others,
        // so that whole nodes stay for those who want many.
        let rest = sums.cut + sums.company;
        match self.mode {
            Mode::Exclusive => [-sums.within, spread, rest, sums.held],
            Mode::Shared => [sums.held, -sums.within, spread, rest],
        }
    }

    /// Adds the best next device, again and again: for hosts with more sets than
    /// can be compared.
    fn greedy(&self, count: usize) -> Vec<usize> {
        let mut set: Vec<usize> = Vec::with_capacity(count);
        let mut sums = Sums::default();
        while set.len() < count {
            let next = self
                .free
                .iter()
                .filter(|place| !set.contains(place))
                .map(|&place| {
                    let mut larger = sums.clone();
                    self.add(&mut larger, &set, place);
                    (self.judge(&larger), place, larger)
                })
                .min_by_key(|(score, place, _)| (*score, *place));
            let Some((_, place, larger)) = next else {
                break;
            };
            sums = larger;
            set.push(place);
        }
        set.sort_unstable();
        set
    }
}

/// How many sets of `count` there are among `all`, or more than anybody counts.
fn sets(all: usize, count: usize) -> u64 {
    let mut sets = 1_u64;
    for i in 0..count.min(all - count) {
        let (Ok(left), Ok(next)) = (u64::try_from(all - i), u64::try_from(i + 1)) else {
            return u64::MAX;
        };
        sets = match sets.checked_mul(left) {
            Some(product) => product / next,
            None => return u64::MAX,
        };
    }
    sets
}

/// The next set in lexical order.
fn advance(set: &mut [usize], all: usize) -> bool {
    let count = set.len();
    for i in (0..count).rev() {
        if set[i] + (count - i) < all {
            set[i] += 1;
            for j in i + 1..count {
                set[j] = set[j - 1] + 1;
            }
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn plain(count: usize) -> Vec<Candidate> {
        (0..count)
            .map(|i| Candidate {
                device: format!("gpu{i}"),
                ..Candidate::default()
            })
            .collect()
    }

    fn link(candidates: &mut [Candidate], one: usize, other: usize, weight: u32) {
        let name = candidates[other].device.clone();
        candidates[one].links.insert(name, weight);
    }

    #[test]
    fn free_ones_are_taken_and_not_always_the_first() {
        let gpus = plain(4);
        let holders = [None, Some(0), None, Some(0)];
        assert_eq!(pick(&gpus, &holders, 2, Mode::Exclusive), Some(vec![1, 3]));
        assert_eq!(pick(&gpus, &holders, 3, Mode::Exclusive), None);
        assert_eq!(pick(&gpus, &holders, 0, Mode::Exclusive), Some(vec![]));
        assert_eq!(pick(&[], &[], 0, Mode::Exclusive), Some(vec![]));
    }

    #[test]
    fn linked_pairs_go_together_and_are_not_broken_for_one() {
        let mut gpus = plain(4);
        link(&mut gpus, 1, 3, 12);
        let free = [Some(0); 4];
        assert_eq!(pick(&gpus, &free, 2, Mode::Exclusive), Some(vec![1, 3]));
        assert_eq!(pick(&gpus, &free, 1, Mode::Exclusive), Some(vec![0]));
        let free = [None, Some(0), Some(0), Some(0)];
        assert_eq!(pick(&gpus, &free, 1, Mode::Exclusive), Some(vec![2]));
    }

    #[test]
    fn one_numa_node_is_better_than_two_and_whole_nodes_are_kept() {
        let mut gpus = plain(6);
        for (gpu, node) in gpus.iter_mut().zip([0, 1, 1, 0, 1, 1]) {
            gpu.numa = Some(node);
        }
        let free = [Some(0); 6];
        assert_eq!(pick(&gpus, &free, 3, Mode::Exclusive), Some(vec![1, 2, 4]));
        assert_eq!(pick(&gpus, &free, 2, Mode::Exclusive), Some(vec![0, 3]));
        assert_eq!(pick(&gpus, &free, 1, Mode::Exclusive), Some(vec![0]));
    }

    #[test]
    fn numa_counts_only_where_every_device_tells_its_node() {
        let mut gpus = plain(3);
        gpus[1].numa = Some(0);
        let free = [Some(0); 3];
        assert_eq!(pick(&gpus, &free, 1, Mode::Exclusive), Some(vec![0]));
        assert_eq!(pick(&gpus, &free, 2, Mode::Exclusive), Some(vec![0, 1]));
    }

    #[test]
    fn sharers_spread() {
        let gpus = plain(3);
        let holders = [Some(2), Some(1), Some(1)];
        assert_eq!(pick(&gpus, &holders, 1, Mode::Shared), Some(vec![1]));
        assert_eq!(pick(&gpus, &holders, 2, Mode::Shared), Some(vec![1, 2]));
    }

    #[test]
    fn many_devices_are_picked_in_time() {
        let mut gpus = plain(256);
        for i in 0..255 {
            link(&mut gpus, i, i + 1, 1);
        }
        let picked = pick(&gpus, &[Some(0); 256], 64, Mode::Exclusive).unwrap();
        assert_eq!(picked.len(), 64);
        // The greedy way stays among neighbours.
        assert!(
            picked.windows(2).all(|pair| pair[1] == pair[0] + 1),
            "{picked:?}"
        );
    }

    type Host = (Vec<Candidate>, Vec<Option<usize>>);

    fn host() -> impl Strategy<Value = Host> {
        let device = (
            option::of(0_u32..3),
            vec(0_u32..4, 7),
            option::of(0_usize..3),
        );
        vec(device, 0..7).prop_map(|devices| {
            let mut candidates = plain(devices.len());
            let mut holders = Vec::new();
            for (i, (numa, links, held)) in devices.iter().enumerate() {
                candidates[i].numa = *numa;
                for (j, weight) in links.iter().enumerate().take(devices.len()) {
                    if i != j && *weight > 0 {
                        link(&mut candidates, i, j, *weight);
                    }
                }
                holders.push(*held);
            }
            (candidates, holders)
        })
    }

    proptest! {
        #[test]
        fn what_is_picked_is_free_different_and_enough((gpus, holders) in host(), count in 0_usize..8) {
            for mode in [Mode::Exclusive, Mode::Shared] {
                let free = holders.iter().flatten().count();
                match pick(&gpus, &holders, count, mode) {
                    None => prop_assert!(free < count),
                    Some(set) => {
                        prop_assert_eq!(set.len(), count);
                        prop_assert!(set.windows(2).all(|pair| pair[0] < pair[1]));
                        prop_assert!(set.iter().all(|&place| holders[place].is_some()));
                    }
                }
            }
        }

        #[test]
        fn no_other_set_has_better_links((gpus, holders) in host(), count in 0_usize..5) {
            let sum = |set: &[usize]| -> u32 {
                let mut sum = 0;
                for &a in set {
                    for &b in set {
                        let told = |a: usize, b: usize| gpus[a].links.get(&gpus[b].device).copied().unwrap_or(0);
                        sum += told(a, b).max(told(b, a));
                    }
                }
                sum
            };
            if let Some(set) = pick(&gpus, &holders, count, Mode::Exclusive) {
                for mask in 0_u32..(1 << gpus.len()) {
                    let other: Vec<usize> = (0..gpus.len()).filter(|i| mask & (1 << i) != 0).collect();
                    if other.len() == count && other.iter().all(|&i| holders[i].is_some()) {
                        prop_assert!(sum(&other) <= sum(&set), "{other:?} is better than {set:?}");
                    }
                }
            }
        }

        #[test]
        fn sharing_takes_the_fewest_holders((gpus, holders) in host(), count in 0_usize..5) {
            if let Some(set) = pick(&gpus, &holders, count, Mode::Shared) {
                let taken: usize = set.iter().filter_map(|&i| holders[i]).sum();
                let mut all: Vec<usize> = holders.iter().flatten().copied().collect();
                all.sort_unstable();
                prop_assert_eq!(taken, all.iter().take(count).sum::<usize>());
            }
        }
    }
}

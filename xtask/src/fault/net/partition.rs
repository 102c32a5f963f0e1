//! Fault that partitions the lab's network: some containers cannot reach some others. The bridge itself reaches all.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, bail};
use e2e_contract::Partition as Shape;

use super::filter::{Filter, Rules, TRAVELS, chain};
use super::link::LinkDamage;
use super::means::Means;
use super::peer::{Seen, is_down, knock, ms, network_of, side_by_side, usual};
use crate::fault::effect::{FaultTarget, usage};
use crate::host::patience::Deadline;
use crate::host::syntax::{DeviceName, Nft, Text, compose};
use crate::lab::Container;

/// Minimum silence that counts as no answer.
const SILENCE: Deadline = Deadline::from_millis(100);

const PATIENCE: Deadline = Deadline::from_secs(2);

/// Partition of the lab's network into groups of machines that cannot reach each other (`net.partition`).
pub struct Partition {
    shape: Shape,
    /// Pairs of ports that are cut; a placeholder until the lab is known.
    ports: Vec<(DeviceName, DeviceName)>,
    /// Pairs of containers that the fault cuts, with the times of their answers before.
    cut: Vec<Pair>,
    open: Vec<Pair>,
}

/// Two containers, of which one knocks at the other, and the time of an answer before the fault.
struct Pair {
    from: Container,
    to: Container,
    usual: Duration,
}

impl Pair {
    fn knock(&self, patience: Duration) -> anyhow::Result<Option<Duration>> {
        if self.is_gone() {
            return Ok(None);
        }
        knock(&network_of(&self.from)?, &self.to, patience).with_context(|| format!("sending {}", self.name()))
    }

    fn is_gone(&self) -> bool {
        is_down(&self.from) || is_down(&self.to)
    }

    fn name(&self) -> String {
        format!("from {} to {}", self.from.machine().name, self.to.machine().name)
    }

    fn silence(&self) -> Duration {
        SILENCE.scaled().max(self.usual * 3)
    }
}

impl Partition {
    pub fn new(shape: &Shape) -> Self {
        let ports = vec![(DeviceName::port(1), DeviceName::port(2))];
        Self { shape: shape.clone(), ports, cut: Vec::new(), open: Vec::new() }
    }

    fn cuts(&self, target: &FaultTarget<'_>) -> anyhow::Result<BTreeSet<(usize, usize)>> {
        let names: Vec<&str> = target.lab.containers().iter().map(|it| it.machine().name.as_str()).collect();
        let own = names
            .iter()
            .position(|name| *name == target.name())
            .context("the target is not among the lab's containers")?;
        cuts(&self.shape, &names, own).map_err(|problem| usage(format!("net.partition: {problem}")))
    }
}

/// Returns the pairs of containers that cannot reach each other, as indexes in `names`, the smaller first; `own` is the index of the
/// fault's container.
fn cuts(shape: &Shape, names: &[&str], own: usize) -> Result<BTreeSet<(usize, usize)>, String> {
    let count = names.len();
    let at_least = |least: usize, what: &str| {
        if count < least {
            Err(format!("{what} needs at least {least} containers, and the lab has {count}"))
        } else {
            Ok(())
        }
    };
    // The others in the lab's order, from the one after this on.
    let others: Vec<usize> = (1..count).map(|step| (own + step) % count).collect();
    let pairs = match shape {
        Shape::Groups(groups) => between(&places(groups, names)?),
        Shape::Majority => {
            at_least(3, "a majority")?;
            let (smaller, larger) = others.split_at((count - 1) / 2 - 1);
            let smaller: Vec<usize> = [own].iter().chain(smaller).copied().collect();
            between(&[smaller, larger.to_vec()])
        }
        Shape::Bridge => {
            at_least(3, "a bridge")?;
            let (first, second) = others.split_at(others.len() / 2);
            between(&[first.to_vec(), second.to_vec()])
        }
        Shape::Ring => {
            at_least(4, "a ring")?;
            let singles: Vec<Vec<usize>> = (0..count).map(|place| vec![place]).collect();
            let are_neighbors = |(a, b): &(usize, usize)| b - a == 1 || b - a == count - 1;
            between(&singles).into_iter().filter(|pair| !are_neighbors(pair)).collect()
        }
    };
    if pairs.is_empty() {
        return Err("this shape cuts nothing: name at least two groups that have containers in them".into());
    }
    Ok(pairs)
}

/// Returns the groups, with the index in `names` of each container instead of its name.
fn places(groups: &[Vec<String>], names: &[&str]) -> Result<Vec<Vec<usize>>, String> {
    let mut seen = BTreeSet::new();
    let mut place = |name: &String| {
        let Some(place) = names.iter().position(|known| known == name) else {
            return Err(format!("there is no container {name:?} in the lab: {}", names.join(", ")));
        };
        if !seen.insert(place) {
            return Err(format!("{name} is named twice"));
        }
        Ok(place)
    };
    groups.iter().map(|group| group.iter().map(&mut place).collect()).collect()
}

/// Returns every pair of containers in different groups.
fn between(groups: &[Vec<usize>]) -> BTreeSet<(usize, usize)> {
    let mut pairs = BTreeSet::new();
    for (index, group) in groups.iter().enumerate() {
        for one in group {
            pairs.extend(groups[index + 1..].iter().flatten().map(|other| (*one.min(other), *one.max(other))));
        }
    }
    pairs
}

fn rules(pairs: &[(DeviceName, DeviceName)]) -> Text<Nft> {
    let both = |(one, other): &(DeviceName, DeviceName)| {
        let way = |from: &DeviceName, to: &DeviceName| {
            compose!(
                Nft,
                "iifname {from} oifname {to} {travels} counter drop\n",
                from = *from,
                to = *to,
                travels = TRAVELS,
            )
        };
        way(one, other) + way(other, one)
    };
    chain("forward", &pairs.iter().map(both).collect::<Text<Nft>>())
}

fn counted(pairs: &[Pair], what: &str) -> String {
    let names: Vec<String> = pairs.iter().map(Pair::name).collect();
    format!("{what} {}", names.join(", "))
}

impl LinkDamage for Partition {
    const GONE: &'static str = "nothing cuts the container off any more";

    fn name(&self) -> &'static str {
        "net.partition"
    }

    fn means(&self) -> Vec<Means> {
        vec![Means::Filter(Filter::on_bridge(self.name()))]
    }

    fn rules(&self, _port: &DeviceName) -> Rules {
        rules(&self.ports).into()
    }

    fn before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<String> {
        let cuts = self.cuts(target)?;
        let containers = target.lab.containers();
        let port = |place: usize| containers.get(place).map(|it| it.machine().port());
        self.ports = cuts.iter().filter_map(|(a, b)| Some((port(*a)?, port(*b)?))).collect();
        let mut pairs = Vec::new();
        for (to, container) in containers.iter().enumerate() {
            for (from, other) in containers[..to].iter().enumerate() {
                let pair = Pair { from: other.clone(), to: container.clone(), usual: Duration::ZERO };
                pairs.push((pair, cuts.contains(&(from, to))));
            }
        }
        let took = side_by_side(&pairs, |(pair, _)| usual(PATIENCE.scaled(), |patience| pair.knock(patience)))?;
        for ((mut pair, is_cut), took) in pairs.into_iter().zip(took) {
            let Some(took) = took else { continue }; // down, or cut off by another fault
            pair.usual = took;
            if is_cut { self.cut.push(pair) } else { self.open.push(pair) }
        }
        if self.cut.is_empty() {
            return Err(usage(
                "net.partition: even without the fault, no packet is answered within any pair of containers that it would cut off",
            ));
        }
        let longest = self.cut.iter().chain(&self.open).map(|pair| pair.usual).max().unwrap_or_default();
        Ok(format!("{} pairs of containers hear each other, within {}", self.cut.len() + self.open.len(), ms(longest)))
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<String> {
        let silent = || {
            let silent = side_by_side(&self.cut, |pair| pair.knock(pair.silence()))?;
            match self.cut.iter().zip(silent).find_map(|(pair, took)| Some((pair, took?))) {
                Some((pair, took)) => bail!("a packet {} was still answered after {}", pair.name(), ms(took)),
                None => Ok(counted(&self.cut, "no answer to packets")),
            }
        };
        let silent = means.drops(target, silent)?;
        let heard = side_by_side(&self.open, |pair| pair.knock(PATIENCE.scaled().max(pair.usual * 3)))?;
        let lost = self.open.iter().zip(heard).find(|(pair, took)| took.is_none() && !pair.is_gone());
        if let Some((pair, _)) = lost {
            bail!("no packet {} is answered either, and the fault does not cut that pair", pair.name());
        }
        Ok(if self.open.is_empty() {
            silent
        } else {
            format!("{silent}; {}", counted(&self.open, "answers to packets"))
        })
    }

    fn is_as_before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<Seen> {
        let hears_bridge =
            |container: &Container| anyhow::Ok(knock(target.lab.network(), container, PATIENCE.scaled())?.is_some());
        let heard = side_by_side(&self.cut, |pair| pair.knock(pair.silence()))?;
        let mut said = Vec::new();
        for (pair, took) in self.cut.iter().zip(heard) {
            match took {
                Some(_) => said.push(pair.name()),
                // Whoever is down, or cut off from all, is so by another fault.
                None if pair.is_gone() || !hears_bridge(&pair.from)? || !hears_bridge(&pair.to)? => {}
                None => return Ok(Err(format!("still no packet {} is answered", pair.name()))),
            }
        }
        Ok(Ok(format!("answers to packets {}", said.join(", "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(shape: &Shape, count: usize, own: usize, expected: &str) {
        let names = ["a", "b", "c", "d", "e"];
        let shown = match cuts(shape, &names[..count], own) {
            Ok(pairs) => pairs.iter().map(|(a, b)| format!("{}{}", names[*a], names[*b])).collect::<Vec<_>>().join(" "),
            Err(problem) => problem,
        };
        assert!(shown.starts_with(expected), "{shape:?} of {count} seen from {own}: {shown}");
        assert!(shown == expected || expected.contains(' ') && expected.len() > 15, "{shown}");
    }

    #[test]
    fn each_shape_cuts_what_it_says() {
        check(&Shape::Majority, 3, 0, "ab ac");
        check(&Shape::Majority, 4, 0, "ab ac ad");
        check(&Shape::Majority, 5, 4, "ab ac ad be ce de");
        check(&Shape::Bridge, 3, 0, "bc");
        check(&Shape::Bridge, 5, 1, "ac ad ce de");
        check(&Shape::Ring, 4, 0, "ac bd");
        check(&Shape::Ring, 5, 2, "ac ad bd be ce");
    }

    #[test]
    fn groups_cut_those_who_are_in_different_ones() {
        let groups = |groups: &[&[&str]]| {
            Shape::Groups(groups.iter().map(|names| names.iter().map(|name| (*name).to_owned()).collect()).collect())
        };
        check(&groups(&[&["a"], &["b", "c"]]), 4, 0, "ab ac");
        check(&groups(&[&["d", "a"], &["b"], &["c"]]), 4, 3, "ab ac bc bd cd");
        check(&groups(&[&["a", "b", "c"]]), 3, 0, "this shape cuts nothing");
        check(&groups(&[&["a"], &[]]), 3, 0, "this shape cuts nothing");
        check(&groups(&[]), 3, 0, "this shape cuts nothing");
        check(&groups(&[&["a"], &["x"]]), 3, 0, "there is no container \"x\" in the lab: a, b, c");
        check(&groups(&[&["a"], &["a", "b"]]), 3, 0, "a is named twice");
    }

    #[test]
    fn a_lab_too_small_is_refused() {
        check(&Shape::Majority, 2, 0, "a majority needs at least 3 containers");
        check(&Shape::Bridge, 2, 0, "a bridge needs at least 3 containers");
        check(&Shape::Ring, 3, 0, "a ring needs at least 4 containers");
    }

    #[test]
    fn a_pair_is_cut_both_ways() {
        let rules = rules(&[(DeviceName::port(11), DeviceName::port(12))]);
        for way in ["iifname \"port11\" oifname \"port12\"", "iifname \"port12\" oifname \"port11\""] {
            assert_eq!(rules.matches(way).count(), 1, "{rules}");
        }
    }
}

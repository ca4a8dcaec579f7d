//! What `update` makes of the limits a container has.
//!
//! The rules are runc's, peculiarities included, because callers depend on them:
//! most values stay unless named, but `cpus`, `mems`, `burst`, `idle`, the pids
//! limit and `unified` are written only by the update that names them, and
//! `checkBeforeUpdate` counts for that update alone. Where runc reads a field and
//! then drops it (huge pages, RDMA, network, swappiness), it is honoured.

use serde_json::Value;

use super::{ResourceError, Resources, ThrottleDevice, WeightDevice, set};

impl Resources {
    /// The limits after `update`, a `linux.resources` object of which anything
    /// may be absent.
    ///
    /// # Errors
    /// As [`Resources::parse`].
    pub fn updated(&self, update: &Value) -> Result<Self, ResourceError> {
        let mut new = Self::parse(update)?;
        if new.memory.limit == Some(-1) && new.memory.swap.is_none() {
            // Unlimited memory takes the swap limit with it; an old one would
            // be meaningless.
            new.memory.swap = Some(0);
        }
        if new.cpu.idle.is_some() && new.cpu.shares.is_none() {
            // The kernel refuses a weight for an idle cgroup.
            new.cpu.shares = Some(0);
        }
        let mut all = self.clone();
        all.ignored = new.ignored;
        self.merge_cpu(&mut all, &new.cpu);

        let memory = &mut all.memory;
        replace(&mut memory.limit, new.memory.limit);
        replace(&mut memory.reservation, new.memory.reservation);
        replace(&mut memory.swap, new.memory.swap);
        replace(&mut memory.swappiness, new.memory.swappiness);
        replace(
            &mut memory.disable_oom_killer,
            new.memory.disable_oom_killer,
        );
        memory.check_before_update = Some(new.memory.check_before_update.unwrap_or(false));
        all.pids = new.pids;

        let io = &mut all.block_io;
        replace(&mut io.weight, new.block_io.weight);
        replace(&mut io.leaf_weight, new.block_io.leaf_weight);
        for device in new.block_io.weight_device {
            upsert_weight(&mut io.weight_device, device);
        }
        for (list, additions) in [
            (&mut io.read_bps, new.block_io.read_bps),
            (&mut io.write_bps, new.block_io.write_bps),
            (&mut io.read_iops, new.block_io.read_iops),
            (&mut io.write_iops, new.block_io.write_iops),
        ] {
            for device in additions {
                upsert_throttle(list, device);
            }
        }
        for page in new.hugepages {
            all.hugepages.retain(|old| old.page_size != page.page_size);
            all.hugepages.push(page);
        }
        for device in new.rdma {
            all.rdma.retain(|old| old.device != device.device);
            all.rdma.push(device);
        }
        replace(&mut all.class_id, new.class_id);
        for interface in new.priorities {
            all.priorities.retain(|old| old.name != interface.name);
            all.priorities.push(interface);
        }
        all.unified = new.unified;
        Ok(all)
    }

    fn merge_cpu(&self, all: &mut Self, new: &super::Cpu) {
        let cpu = &mut all.cpu;
        // On version 2 the two share a file: one without the other needs the
        // other's old value. Neither named means neither is written again.
        match (set(&new.period), set(&new.quota)) {
            (Some(period), None) => cpu.period = Some(period),
            (None, Some(quota)) => cpu.quota = Some(quota),
            (period, quota) => {
                cpu.period = period;
                cpu.quota = quota;
            }
        }
        replace(&mut cpu.shares, new.shares);
        replace(&mut cpu.realtime_period, new.realtime_period);
        replace(&mut cpu.realtime_runtime, new.realtime_runtime);
        cpu.burst = new.burst;
        cpu.idle = new.idle;
        cpu.cpus.clone_from(&new.cpus);
        cpu.mems.clone_from(&new.mems);
    }
}

fn replace<T>(old: &mut Option<T>, new: Option<T>) {
    if new.is_some() {
        *old = new;
    }
}

/// Of several entries for a device the last is the one that counts, so that is
/// the one that changes.
fn upsert_weight(list: &mut Vec<WeightDevice>, new: WeightDevice) {
    let same = |old: &&mut WeightDevice| (old.major, old.minor) == (new.major, new.minor);
    match list.iter_mut().rev().find(same) {
        Some(old) => {
            for (old, new) in [
                (&mut old.weight, new.weight),
                (&mut old.leaf_weight, new.leaf_weight),
            ] {
                if new != 0 {
                    *old = new;
                }
            }
        }
        None => list.push(new),
    }
}

fn upsert_throttle(list: &mut Vec<ThrottleDevice>, new: ThrottleDevice) {
    let same = |old: &&mut ThrottleDevice| (old.major, old.minor) == (new.major, new.minor);
    match list.iter_mut().rev().find(same) {
        Some(old) => old.rate = new.rate,
        None => list.push(new),
    }
}

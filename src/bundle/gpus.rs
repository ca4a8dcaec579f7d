//! `resources.gpu` of a service, as requests.

use crate::edit::Source;
use crate::error::{Error, Result};
use crate::gpu;
use crate::request::{Flags, Request, Requests, Trust, What};
use crate::service::{Count, Distributed, Gpu, PinnedMemory, Sharing};

/// Adds what a service asks for, where the command line does not ask for the
/// same: which GPUs, how they are shared, what place among several.
///
/// # Errors
/// Values that do not fit together.
pub(super) fn ask(service: &str, wish: &Gpu, flags: &Flags, requests: &mut Requests) -> Result<()> {
    let source = |field: &str| Source::Service {
        field: format!("services.{service}.resources.gpu.{field}"),
    };
    if flags.gpus.is_empty() {
        requests.ledger.ask(&source("count"));
        requests.devices.push(Request {
            what: What::Gpus {
                vendor: wish.vendor.as_deref().map(gpu::Vendor::from_word),
                which: match wish.count {
                    Count::Some(count) => gpu::Selection::Count(count),
                    Count::All => gpu::Selection::All,
                },
            },
            source: source("count"),
            trust: Trust::Operator,
        });
        requests.devices.sort();
    }
    if requests.sharing.is_none()
        && let Some(sharing) = &wish.sharing
    {
        requests.ledger.ask(&source("sharing"));
        requests.sharing = Some((shared(sharing), source("sharing")));
    }
    if requests.distributed.is_none()
        && let Some(place) = &wish.distributed
    {
        let source = source("distributed");
        let wish = distributed(service, place)
            .map_err(|reason| Error::Usage(format!("{source}: {reason}")))?;
        requests.ledger.ask(&source);
        requests.distributed = Some((wish, source));
    }
    Ok(())
}

fn shared(sharing: &Sharing) -> gpu::Sharing {
    match sharing {
        Sharing::Mps {
            pipe_dir,
            log_dir,
            shm_dir,
            active_thread_percentage,
            pinned_memory_limit,
        } => {
            let usual = gpu::Mps::default();
            gpu::Sharing::Mps(gpu::Mps {
                pipe_dir: pipe_dir.clone().unwrap_or(usual.pipe_dir),
                log_dir: log_dir.clone().unwrap_or(usual.log_dir),
                shm_dir: shm_dir.clone().unwrap_or(usual.shm_dir),
                threads: active_thread_percentage.map(|share| share.to_string()),
                memory: pinned_memory_limit.as_ref().map(|limit| match limit {
                    PinnedMemory::Each(size) => gpu::PinnedMemory::Each(*size),
                    PinnedMemory::PerDevice(sizes) => gpu::PinnedMemory::PerDevice(sizes.clone()),
                }),
            })
        }
        Sharing::TimeSlice { index, config } => gpu::Sharing::TimeSlice(gpu::TimeSlice {
            index: *index,
            config: config.clone(),
        }),
    }
}

/// The first of the group is found under the service's name.
fn distributed(service: &str, wish: &Distributed) -> Result<gpu::Distributed, String> {
    let usual = gpu::Distributed::default();
    let wish = gpu::Distributed {
        backend: match &wish.backend {
            Some(word) => word.parse()?,
            None => usual.backend,
        },
        master_addr: Some(
            wish.master_addr
                .clone()
                .unwrap_or_else(|| service.to_owned()),
        ),
        master_port: wish.master_port.unwrap_or(usual.master_port),
        world_size: wish.world_size.unwrap_or(usual.world_size),
        rank: wish.rank.unwrap_or(usual.rank),
        local_rank: wish.local_rank.unwrap_or(usual.local_rank),
        interface: wish.interface.clone().unwrap_or(usual.interface),
    };
    wish.check()?;
    Ok(wish)
}

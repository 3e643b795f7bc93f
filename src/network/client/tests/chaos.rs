//! Each request has one outcome, whatever happens.

use crate::network::client::tests::net::{Behaviour, Fixture, MS, Net, SECOND, config};
use crate::network::client::tests::token;
use crate::network::{ClientEvent, NetworkConfig};
use crate::protocol::ApiKey;
use crate::rng::Rng;
use std::time::Duration;

/// Does something to a random client, its nodes and brokers.
fn disturb(f: &mut Fixture, random: &Rng, next_token: &mut u64) {
    let node = 1 + random.below(3) as i32;
    match random.below(14) {
        0..=4 => {
            if f.ready(node) || random.below(20) == 0 {
                f.send(node, *next_token, random.below(3) > 0, random.below(3000) as u32 * MS);
                *next_token += 1;
            }
        }
        5 => f.advance(random.below(700) as u32 * MS),
        6 => {
            let behaviours = [Behaviour::Broker, Behaviour::Mute, Behaviour::BlackHole];
            f.net().behaviour = behaviours[(random.below(5) as usize).saturating_sub(2)];
        }
        7 => {
            let ids: Vec<i32> = (1..=3).filter(|_| random.below(4) > 0).collect();
            f.set_nodes(&ids);
        }
        8 if random.below(10) == 0 => f.client.disconnect(node, "chaos"),
        9 => {
            let (now, ms) = (f.now(), random.below(300) as i32);
            f.client.throttle(node, ApiKey::Produce, 7, ms, now);
        }
        10 => f.net().room = 1 + random.below(200) as usize,
        _ => disturb_wires(&mut f.net(), random),
    }
}

fn disturb_wires(net: &mut Net, random: &Rng) {
    for wire in net.wires.values_mut().filter(|w| w.behaviour == Behaviour::Broker) {
        match random.below(60) {
            0 => wire.to_client.extend(random.below(u64::MAX).to_be_bytes()),
            1 | 2 => {
                // In the middle of a response, or between two.
                wire.answer();
                let cut = random.below(wire.to_client.len() as u64 + 1) as usize;
                wire.to_client.truncate(cut);
                wire.peer_closed = true;
            }
            3 => drop(wire.unanswered.pop_front()),
            4..=30 => drop(wire.answer()),
            _ => wire.room = wire.room.saturating_add(random.below(100) as usize),
        }
        wire.reported = false;
    }
}

#[test]
fn each_request_has_one_outcome_whatever_happens() {
    let mut outcomes = [0_u64; 3];
    for seed in 0..300 {
        let quick = NetworkConfig {
            connections_max_idle: Some(2 * SECOND),
            connection_setup_timeout: SECOND,
            connection_setup_timeout_max: 2 * SECOND,
            ..config()
        };
        let mut f = Fixture::with(Behaviour::Broker, quick, seed);
        let random = Rng::seeded(seed);
        let mut next_token = 0;
        for _ in 0..400 {
            disturb(&mut f, &random, &mut next_token);
            let timeout = random.below(100) as u32 * MS;
            f.poll(Some(timeout));
            assert!(f.net().polls.last().unwrap().is_some_and(|t| t <= timeout));
        }
        f.client.close(&mut f.events);
        assert!(!f.client.has_in_flight() && f.net().wires.is_empty());
        assert!(f.client.timers.is_empty() && f.client.tickets.is_empty());
        f.poll(Some(Duration::ZERO));
        let mut tokens: Vec<u64> = f.events.iter().filter_map(token).collect();
        tokens.sort_unstable();
        assert_eq!(tokens, (0..next_token).collect::<Vec<_>>(), "seed {seed}");
        for event in &f.events {
            match event {
                ClientEvent::Response { .. } => outcomes[0] += 1,
                ClientEvent::Sent { .. } => outcomes[1] += 1,
                ClientEvent::Failed { .. } => outcomes[2] += 1,
                ClientEvent::Disconnected { .. } | ClientEvent::Ready { .. } => {}
            }
        }
    }
    // Each kind of outcome is seen often, or this test is worth little.
    assert!(outcomes.iter().all(|count| *count > 1000), "{outcomes:?}");
}

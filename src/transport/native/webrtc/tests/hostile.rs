//! What comes to nothing, and who wishes a node ill.

use super::*;

#[tokio::test]
async fn a_dial_that_can_t_succeed_says_why() {
    let (_, mut listener) = transport();
    let (_, mut dialler) = transport();
    let address = listen(&mut listener, LOCALHOST).await;
    let mut peers = accept(listener);

    let other = Certificate::generate().expect("made").fingerprint();
    let wrong = address.iter().map(|part| match part {
        Protocol::Certhash(_) => Protocol::Certhash(other.to_multihash()),
        part => part,
    });
    let error = dial(&mut dialler, wrong.collect()).await.err().expect("another certificate");
    assert!(error.to_string().contains("fingerprint"), "{error}");
    let error = peers.next().await.expect("came").err().expect("refused");
    println!("the listener says: {error}");

    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("bound").port();
    let nobody = address.replace(1, |_| Some(Protocol::Udp(port))).expect("a port");
    let begun = Instant::now();
    let error = dial(&mut dialler, nobody).await.err().expect("nobody");
    assert!(error.to_string().contains("nobody answered"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(7));

    for unusable in
        ["/ip4/0.0.0.0/udp/1/webrtc-direct", "/ip4/127.0.0.1/udp/1/webrtc-direct", "/ip4/127.0.0.1/udp/1/quic-v1"]
    {
        assert!(dial(&mut dialler, unusable.parse().expect("a multiaddr")).await.is_err(), "{unusable}");
    }
}

/// The first datagram of a dialler that nobody knows.
async fn knock() -> Vec<u8> {
    let trap = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let certificate = Certificate::generate().expect("made");
    let name = crate::transport::webrtc::direct::new_ufrag().expect("random");
    let address = trap.local_addr().expect("bound");
    let dial = super::super::endpoint::Endpoint::dial(address, certificate.fingerprint(), name, &certificate);
    let mut datagram = vec![0; 2_000];
    let length = soon("it knocks", trap.recv(&mut datagram)).await.expect("received");
    drop(dial.expect("begun"));
    datagram.truncate(length);
    datagram
}

#[tokio::test]
async fn garbage_leaves_nothing_and_half_open_connections_are_bounded() {
    let (_, mut listener) = transport();
    let (_, mut dialler) = transport();
    let address = listen(&mut listener, LOCALHOST).await;
    let target = DirectAddress::parse(&address).expect("ours").socket;
    let doorbell = listener.doorbell();
    let connections = || doorbell.connections.load(Ordering::Relaxed);
    let mut peers = accept(listener);
    let attacker = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");

    let good = knock().await;
    for number in 0..20_000_usize {
        let mut datagram = good.clone();
        match number % 4 {
            // A STUN request that was tampered with, a DTLS record, a long one, anything.
            0 => datagram[30 + number % 60] ^= 1,
            1 => datagram = [&[22, 254, 253, 0, (number % 8 == 1).into()], pattern(number % 1_200).as_slice()].concat(),
            2 => datagram = pattern(9_000),
            _ => datagram.truncate(number % good.len()),
        }
        attacker.send_to(&datagram, target).await.expect("sent");
        if number % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let honest = dial(&mut dialler, address.clone()).await.expect("dialled");
    let accepted = soon("it comes", peers.next()).await.expect("came").expect("accepted");
    assert_eq!(connections(), 1, "none of it has begun a connection");

    // Now well-formed ones, without anybody behind them.
    for _ in 0..200 {
        attacker.send_to(&knock().await, target).await.expect("sent");
    }
    soon("they have come", async {
        while connections() < super::super::endpoint::MAX_HALF_OPEN + 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(connections(), super::super::endpoint::MAX_HALF_OPEN + 1, "refused above the bound");
    let stream = honest.open().await.expect("what stands goes on");
    soon("they are given up", async {
        while connections() > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    dial(&mut dialler, address).await.expect("the door is open again");
    drop((accepted, stream));
}

/// As Chromium does it: the next connection comes from the port of the last, which the listener still believes in.
#[tokio::test]
async fn a_port_that_is_used_again_is_a_new_connection() {
    let (_, mut listener) = transport();
    let address = listen(&mut listener, LOCALHOST).await;
    let doorbell = listener.doorbell();
    let _peers = accept(listener);
    let target = DirectAddress::parse(&address).expect("ours").socket;
    let browser = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    for count in 1..=3 {
        let knock = knock().await;
        browser.send_to(&knock, target).await.expect("sent");
        // Again, as STUN does: that is none.
        browser.send_to(&knock, target).await.expect("sent");
        soon("it has begun", async {
            while doorbell.connections.load(Ordering::Relaxed) < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        assert_eq!(doorbell.connections.load(Ordering::Relaxed), count);
    }
}
